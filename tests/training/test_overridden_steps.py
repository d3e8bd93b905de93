"""A step of training that is overridden, in whatever way, is gone through."""

from __future__ import annotations

from functools import wraps
from typing import Any
from unittest import mock

import numpy as np
import pytest
from skorch.callbacks import Callback

from sk_mixup import MixupClassifier, MixupRegressor
from tests.helpers.architectures import PROBLEMS, make_rows
from tests.helpers.sampling import each_pair

X, Y = make_rows("mlp"), PROBLEMS["classes"].y
# Three batches, of 16, 16 and 13 rows.
ONCE: dict[str, Any] = {"early_stopping": False, "max_epochs": 1, "batch_size": 16, "random_state": 0}

OVERRIDABLE = [
    "train_step",
    "train_step_single",
    "mix_inputs",
    "infer",
    "get_batch_loss",
    "get_mixed_loss",
    "get_loss",
]


def count_calls(method: Any, calls: list[str]) -> Any:
    """Return a method that notes its calls, as a user writes one."""

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(method.__name__)
        return method(self, *args, **kwargs)

    return counted


def count_calls_in_disguise(method: Any, calls: list[str]) -> Any:
    """Return a method that notes its calls under the name of the other."""
    return wraps(method)(count_calls(method, calls))


@each_pair(
    {
        "name": OVERRIDABLE,
        "owner": [MixupClassifier, MixupRegressor],
        "disguise": [count_calls, count_calls_in_disguise],
    }
)
def test_step_of_a_subclass_is_called_for_each_batch(owner: Any, name: str, disguise: Any) -> None:
    calls: list[str] = []
    changed = type("Changed", (owner,), {name: disguise(getattr(owner, name), calls)})
    changed(**ONCE).fit(X, Y)
    assert calls.count(name) >= 3


@pytest.mark.parametrize("name", OVERRIDABLE)
def test_step_that_a_callback_puts_on_the_net_is_called_for_each_batch(name: str) -> None:
    calls: list[str] = []

    class Patch(Callback):
        def on_train_begin(self, net: Any, **_: Any) -> None:
            setattr(net, name, count_calls(getattr(type(net), name), calls).__get__(net))

    MixupClassifier(**ONCE, callbacks=[Patch()]).fit(X, Y)
    assert calls.count(name) >= 3


@pytest.mark.parametrize("name", ["train_step", "get_mixed_loss"])
def test_step_that_is_mocked_is_called_for_each_batch(name: str) -> None:
    method = getattr(MixupClassifier, name)
    with mock.patch.object(MixupClassifier, name, autospec=True, side_effect=method) as mocked:
        MixupClassifier(**ONCE).fit(X, Y)
    assert mocked.call_count == 3


def test_gradients_are_shown_to_a_subclass() -> None:
    norms: list[float] = []

    class Shown(MixupClassifier):
        def on_grad_computed(self, net: Any, named_parameters: Any, **_: Any) -> None:
            norms.append(float(sum(p.grad.norm() for _, p in named_parameters)))

    Shown(**ONCE).fit(X, Y)
    assert len(norms) == 3
    assert np.isfinite(norms).all()
