"""Training and prediction leave the global generators alone, in threads too."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
import random
import sys
from typing import Any

import numpy as np
import pytest
import torch

from sk_mixup import MixupClassifier
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


# One draw a layer: enough chances for another thread's.
MANY_WEIGHTS = {"module__hidden_layer_sizes": (8,) * 40}


@pytest.fixture
def _switching() -> Iterator[None]:
    """Let threads take turns at every chance, so also between two draws of a net's weights."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _fit_in_threads(table: Any, **options: Any) -> list[list[float]]:
    nets = [MixupClassifier(**options) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        return [net.loss_curve_ for net in pool.map(lambda net: net.fit(table.X, table.y), nets)]


@pytest.mark.usefixtures("_switching")
def test_training_in_threads_leaves_global_generators_alone(blobs: Any) -> None:
    before = _get_global_states()
    _fit_in_threads(blobs, max_epochs=3, **MANY_WEIGHTS)
    assert _get_global_states() == before


@pytest.mark.usefixtures("_switching")
def test_training_in_threads_gives_the_net_of_a_lone_fit(blobs: Any) -> None:
    options = {**MANY_WEIGHTS, "early_stopping": False, "max_epochs": 3, "random_state": 0}
    alone = MixupClassifier(**options).fit(blobs.X, blobs.y).loss_curve_
    assert _fit_in_threads(blobs, **options) == [alone] * 4
