"""Samplers of the user's own, which name rows by their numbers, and held-out rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from skorch.callbacks import Callback, EpochScoring
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
import torch
from torch.utils.data import (
    BatchSampler,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from sk_mixup import MixupClassifier, MixupRegressor
from tests.helpers.nets import QUICK
from tests.helpers.sampling import each_pair

N = 24
NUMBERS = np.arange(N, dtype=np.float32)
X = np.stack([NUMBERS, -NUMBERS], axis=1)  # each row tells its number
TARGETS = {MixupClassifier: np.arange(N) % 3, MixupRegressor: np.sqrt(NUMBERS)}
WANTED = [3, 20, 21, 22]  # some of the last, whose numbers no part of the rows would have

SAMPLERS: dict[str, Callable[[], dict[str, Any]]] = {
    "random": lambda: {"sampler": RandomSampler(range(N))},
    "weighted": lambda: {"sampler": WeightedRandomSampler(np.isin(np.arange(N), WANTED) * 1.0, 40)},
    "subset": lambda: {"sampler": SubsetRandomSampler(WANTED)},
    "list": lambda: {"sampler": WANTED},
    "batches": lambda: {"batch_sampler": BatchSampler(WANTED, 2, drop_last=False)},
}


class Seen(Callback):
    """Notes the numbers of the rows that are trained on."""

    def __init__(self) -> None:
        self.rows: set[int] = set()

    def on_batch_begin(self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        if training:
            self.rows |= {int(number) for number in batch[0][:, 0]}


def make_net(owner: type, name: str, **options: Any) -> Any:
    own = {f"iterator_train__{key}": value for key, value in SAMPLERS[name]().items()}
    return owner(**QUICK | {"max_epochs": 1, "lr": 1e-4} | own | options)


def fit(net: Any, y: np.ndarray, form: str) -> Any:
    if form == "arrays":
        return net.fit(X, y)
    return net.fit(TensorDataset(torch.as_tensor(X), torch.as_tensor(y)))


@each_pair(
    {
        "owner": TARGETS,
        "name": SAMPLERS,
        "form": ["arrays", "dataset"],
    }
)
def test_a_sampler_is_refused_where_rows_are_held_out(owner: type, name: str, form: str) -> None:
    message = (
        r"iterator_train__(batch_)?sampler must not be given where rows of X are held out.*early_stopping"
    )
    with pytest.raises(ValueError, match=message):
        fit(make_net(owner, name, early_stopping=True), TARGETS[owner], form)


@pytest.mark.parametrize(
    "options",
    [{"train_split": ValidSplit(3)}, {"callbacks": [("r2", EpochScoring("r2", name="valid_r2"))]}],
    ids=["split", "score"],
)
def test_so_it_is_for_whoever_holds_rows_out(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="where rows of X are held out"):
        make_net(MixupRegressor, "list", **options).fit(X, TARGETS[MixupRegressor])


@each_pair(
    {
        "way": ["no early stopping", "no split", "held out beforehand"],
        "owner": TARGETS,
        "name": SAMPLERS,
        "form": ["arrays", "dataset"],
    }
)
def test_a_sampler_draws_the_rows_that_it_names(owner: type, name: str, form: str, way: str) -> None:
    y = TARGETS[owner]
    options: dict[str, Any] = {"early_stopping": way != "no early stopping"}
    if way == "no split":
        options["train_split"] = None
    if way == "held out beforehand":
        options["train_split"] = predefined_split(TensorDataset(torch.as_tensor(X), torch.as_tensor(y)))
    seen = Seen()
    net = fit(make_net(owner, name, callbacks=[("seen", seen)], **options), y, form)
    assert seen.rows == set(range(N) if name == "random" else WANTED)
    assert ("valid_loss" in net.history_[-1]) == (way == "held out beforehand")
    net.partial_fit(X, y)  # holds out none
