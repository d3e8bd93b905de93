"""``torch.manual_seed`` decides what a skorch net without `random_state` draws, as it does in skorch."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from skorch import NeuralNetClassifier
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupNetMixin
from tests.helpers.nets import Net, get_weights

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
Y = np.arange(40) % 3


class Mixed(MixupNetMixin, NeuralNetClassifier):
    """A classifier of skorch's that mixes."""


def make(**options: Any) -> Any:
    quick: dict[str, Any] = {"max_epochs": 2, "batch_size": 8, "verbose": 0, "module__dropout": 0.5}
    return Mixed(Net, criterion=nn.CrossEntropyLoss, **{**quick, **options})


def fit(seed: int | None = None, **options: Any) -> dict[str, torch.Tensor]:
    if seed is not None:
        torch.manual_seed(seed)
    return get_weights(make(**options).fit(X, Y))


def are_equal(*weights: dict[str, torch.Tensor]) -> bool:
    first, second = weights
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "options",
    [{}, {"alpha": 0}, {"partners": "dataset"}, {"warmup_epochs": 1}, {"iterator_train__shuffle": False}],
    ids=str,
)
def test_global_seed_decides(options: dict[str, Any]) -> None:
    assert are_equal(fit(0, **options), fit(0, **options))
    assert not are_equal(fit(0, **options), fit(1, **options))


def test_second_net_after_a_seed_is_another() -> None:
    assert not are_equal(fit(0), fit())


def test_seed_of_the_net_itself_goes_before() -> None:
    before = torch.manual_seed(3).get_state()
    assert are_equal(fit(0, random_state=5), fit(1, random_state=5))
    torch.set_rng_state(before)
    fit(random_state=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_default_device_is_of_no_account() -> None:
    expected = fit(0)
    with torch.device("meta"):
        torch.manual_seed(0)
        drawn = make()._make_generator().integers(2**31)
    torch.manual_seed(0)
    assert make()._make_generator().integers(2**31) == drawn
    assert are_equal(fit(0), expected)


class Inner(Mixed):
    """Fits another net in the middle of its fit."""

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        super().on_epoch_begin(*args, **kwargs)
        make(max_epochs=1).fit(X, Y)


def test_net_within_a_fit_disturbs_nothing_of_it() -> None:
    options: dict[str, Any] = {"max_epochs": 3, "verbose": 0, "module__dropout": 0.5, "random_state": 0}
    nets = [owner(Net, criterion=nn.CrossEntropyLoss, **options).fit(X, Y) for owner in (Mixed, Inner)]
    assert are_equal(*map(get_weights, nets))


def test_nets_in_threads_draw_each_a_seed_of_its_own() -> None:
    torch.manual_seed(0)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fit(), range(8)))
    assert not any(are_equal(found[0], other) for other in found[1:])


def test_estimator_draws_anew_and_leaves_the_generator_alone() -> None:
    before = torch.manual_seed(0).get_state()
    nets = [MixupClassifier(max_epochs=1).fit(X, Y) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert not are_equal(*map(get_weights, nets))
