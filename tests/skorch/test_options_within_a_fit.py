"""Options of mixing that a callback changes between the epochs of a fit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from skorch.callbacks import Callback
import torch

from sk_mixup import MixupClassifier
from tests.helpers.nets import get_weights

X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
Y = np.arange(60) % 3


class Watching(Callback):
    """Looks at each batch, so that nothing is done but step by step."""

    def on_batch_end(self, net: Any, **kwargs: object) -> None:
        """Do nothing."""


def make(**options: Any) -> MixupClassifier:
    quick: dict[str, Any] = {"early_stopping": False, "max_epochs": 3, "batch_size": 16, "lr": 0.02}
    return MixupClassifier(**{**quick, **options}, random_state=0)


SCHEDULES: dict[str, tuple[dict[str, Any], Callable[[int], dict[str, Any]]]] = {
    "alpha": ({"alpha": 1.0}, lambda epoch: {"alpha": 1.0 / epoch if epoch < 3 else 0}),
    "n_mixed": ({"n_mixed": 2}, lambda epoch: {"n_mixed": 1 + epoch}),
    "lam_per": ({}, lambda epoch: {"lam_per": "batch" if epoch % 2 else "example"}),
    "partners": ({}, lambda epoch: {"partners": ["batch", "dataset", "same_class"][epoch - 1]}),
}


class Schedule(Callback):
    """Sets an option of mixing before each epoch."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_epoch_begin(self, net: Any, **kwargs: object) -> None:
        net.set_params(**SCHEDULES[self.name][1](len(net.history)))


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_option_of_mixing_may_change_from_epoch_to_epoch(name: str, watched: bool) -> None:
    first, find = SCHEDULES[name]
    by_hand = make(**first, max_epochs=1)
    for epoch in (1, 2, 3):
        by_hand.set_params(**find(epoch)).partial_fit(X, Y)
    own = [Schedule(name), *([Watching()] if watched else [])]
    net = make(**first).set_params(callbacks=own).fit(X, Y)
    constant = make(**first).fit(X, Y)
    for ours, theirs in zip(get_weights(net).values(), get_weights(by_hand).values(), strict=True):
        assert torch.equal(ours, theirs)
    assert not all(map(torch.equal, get_weights(net).values(), get_weights(constant).values()))


def test_option_that_is_changed_is_checked() -> None:
    class Wrong(Callback):
        def on_epoch_begin(self, net: Any, **kwargs: object) -> None:
            net.alpha = -1

    with pytest.raises(ValueError, match="alpha must be"):
        make().set_params(callbacks=[Wrong()]).fit(X, Y)
