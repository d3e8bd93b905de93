"""Training and prediction leave the global generators alone, in threads too."""

from concurrent.futures import ThreadPoolExecutor
import random
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sk_mixup import MixupClassifier
from sk_mixup.modules import MLP
from tests.helpers.datasets import Pairs, make_tensor_dataset


def _get_global_states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  (the state that must not move)
    return random.getstate(), (name, keys.tolist(), *rest), torch.get_rng_state().tolist()


TRAININGS = {
    "arrays": lambda net, X, y: net.fit(X, y),
    "dataset": lambda net, X, y: net.fit(make_tensor_dataset(X, y)),
    "pairs": lambda net, X, y: net.fit(Pairs(X, y)),
    "partial_fit": lambda net, X, y: net.partial_fit(X, y),
    "weights": lambda net, X, y: net.fit(X, y, sample_weight=np.arange(60.0)),
}


@pytest.mark.parametrize("train", TRAININGS.values(), ids=TRAININGS)
@pytest.mark.parametrize("random_state", [None, 0])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_training_leaves_global_generators_alone(
    blobs: Any, train: Any, random_state: Any, early_stopping: bool
) -> None:
    net = MixupClassifier(
        max_epochs=2, module__dropout=0.2, random_state=random_state, early_stopping=early_stopping
    )
    before = _get_global_states()
    train(net, blobs.X, blobs.y)
    assert _get_global_states() == before


@pytest.mark.parametrize("method", ["predict", "predict_proba", "forward", "score"])
@pytest.mark.parametrize(
    "wrap", [lambda X, _: X, Pairs, make_tensor_dataset], ids=["array", "pairs", "tensors"]
)
def test_prediction_leaves_global_generators_alone(blobs: Any, method: str, wrap: Any) -> None:
    net = MixupClassifier(max_epochs=1, random_state=0).fit(blobs.X, blobs.y)
    before = _get_global_states()
    getattr(net, method)(wrap(blobs.X, blobs.y), *([blobs.y] if method == "score" else []))
    assert _get_global_states() == before


def test_global_generators_do_not_reach_the_net(blobs: Any) -> None:
    net = MixupClassifier(max_epochs=2, module__dropout=0.2, random_state=0)
    torch.manual_seed(1)
    first = net.fit(blobs.X, blobs.y).loss_curve_
    torch.manual_seed(2)
    assert net.fit(blobs.X, blobs.y).loss_curve_ == first


class Slow(MLP):
    """The default net, interrupted where it draws its weights."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        time.sleep(0.02)
        nn.init.normal_(self.layers[-1].weight)


def _fit_in_threads(table: Any, **options: Any) -> list[list[float]]:
    nets = [MixupClassifier(**options) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        return [net.loss_curve_ for net in pool.map(lambda net: net.fit(table.X, table.y), nets)]


def test_training_in_threads_leaves_global_generators_alone(blobs: Any) -> None:
    before = _get_global_states()
    _fit_in_threads(blobs, module=Slow, max_epochs=3)
    assert _get_global_states() == before


def test_training_in_threads_gives_the_net_of_a_lone_fit(blobs: Any) -> None:
    options = {"module": Slow, "early_stopping": False, "max_epochs": 20, "random_state": 0}
    alone = MixupClassifier(**options).fit(blobs.X, blobs.y).loss_curve_
    assert _fit_in_threads(blobs, **options) == [alone] * 4
