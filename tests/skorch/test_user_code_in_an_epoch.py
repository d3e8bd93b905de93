"""Code of the user's that runs inside an epoch finds what it would find in a net of skorch's own."""

from collections.abc import Callable
import re
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupNetMixin

N_ROWS, BATCH = 24, 8


class Plain(NeuralNetClassifier):
    """skorch's own net, the reference."""


class Mixed(MixupNetMixin, NeuralNetClassifier):
    """The same with mixing."""


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.normal(size=(N_ROWS, 5)).astype(np.float32), np.arange(N_ROWS) % 3


def fit(owner: type, table: tuple[Any, Any], **options: Any) -> Any:
    """Fit the same little net, whatever its class."""
    if issubclass(owner, MixupNetMixin):
        options = {"alpha": 0, "iterator_train__shuffle": False, **options}
    if issubclass(owner, MixupClassifier):
        options = {"early_stopping": False, "optimizer": torch.optim.SGD, **options}
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    defaults = {"criterion": nn.CrossEntropyLoss, "train_split": None, "max_epochs": 2, "verbose": 0}
    return owner(module, **{**defaults, "batch_size": BATCH, "lr": 0.1, **options}).fit(*table)


def list_rows(net: Any, *names: str) -> list[list[dict[str, Any]]]:
    """Return the rows of the history, without what a clock says."""
    return [[{name: row.get(name) for name in names} for row in epoch["batches"]] for epoch in net.history]


@pytest.mark.parametrize("owner", [Mixed, MixupClassifier])
@pytest.mark.parametrize("alpha", [0, 0.4])
def test_a_loss_of_the_users_writes_into_the_row_of_its_batch(owner: type, alpha: float, table: Any) -> None:
    class Recording(owner):  # type: ignore[misc]
        def get_loss(self, y_pred: Any, y_true: Any, *args: Any, **kwargs: Any) -> Any:
            self.history.record_batch("rows", len(y_true))
            return super().get_loss(y_pred, y_true, *args, **kwargs)

    net = fit(Recording, table, alpha=alpha, batch_size=10)
    assert [row["rows"] for row in net.history[-1]["batches"]] == [10, 10, 4]


@pytest.mark.parametrize("owner", [Mixed, MixupClassifier])
@pytest.mark.parametrize("n_accumulated", [1, 2, 3, 5])
def test_gradients_are_accumulated_by_counting_batches(owner: type, n_accumulated: int, table: Any) -> None:
    """The recipe of skorch's documentation: step and forget every so many batches."""

    def build(base: type) -> tuple[type, list[int]]:
        steps: list[int] = []

        class Accumulating(base):  # type: ignore[misc]
            def train_step(self, batch: Any, **fit_params: Any) -> Any:
                n_batches = len(self.history[-1]["batches"])
                step = self.train_step_single(batch, **fit_params)
                if n_batches % n_accumulated == 0:
                    steps.append(n_batches)
                    self.optimizer_.step()
                    self.optimizer_.zero_grad()
                return step

        return Accumulating, steps

    (ours, found), (theirs, expected) = build(owner), build(Plain)
    net, reference = fit(ours, table, batch_size=4), fit(theirs, table, batch_size=4)
    assert found == expected
    torch.testing.assert_close(list(net.module_.parameters()), list(reference.module_.parameters()))


@pytest.mark.parametrize("owner", [Mixed, MixupClassifier])
@pytest.mark.parametrize(
    "hook", ["on_batch_begin", "on_batch_end", "on_grad_computed", "on_epoch_begin", "on_epoch_end"]
)
def test_a_hook_sees_the_history_that_skorch_shows_it(owner: type, hook: str, table: Any) -> None:
    def build() -> tuple[Callback, list[Any]]:
        seen: list[Any] = []

        def look(self: Callback, net: Any, *args: Any, **kwargs: Any) -> None:
            rows = net.history[-1]["batches"]
            seen.append([len(rows), *(sorted(row.items()) for row in rows[:-1])])

        return type("Looking", (Callback,), {hook: look})(), seen

    (watch, seen), (watch_skorch, expected) = build(), build()
    fit(owner, table, callbacks=[watch])
    fit(Plain, table, callbacks=[watch_skorch])
    names = [[dict(row).keys() for row in rows] for _, *rows in seen]
    assert [count for count, *_ in seen] == [count for count, *_ in expected]
    assert names == [[dict(row).keys() for row in rows] for _, *rows in expected]


class Duck:
    """A callback of no class of skorch's."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def initialize(self) -> "Duck":
        return self

    def set_params(self, **params: Any) -> "Duck":
        return self

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append(name)


@pytest.mark.parametrize("owner", [Mixed, MixupClassifier])
def test_any_object_with_hooks_is_a_callback(owner: type, table: Any) -> None:
    ours, theirs = Duck(), Duck()
    fit(owner, table, callbacks=[("duck", ours)])
    fit(Plain, table, callbacks=[("duck", theirs)])
    assert ours.calls == theirs.calls
    assert ours.calls.count("on_batch_end") == 2 * N_ROWS // BATCH


@pytest.mark.parametrize("owner", [Mixed, MixupClassifier])
def test_a_mock_is_a_callback(owner: type, table: Any) -> None:
    mock = Mock()
    fit(owner, table, callbacks=[("mock", mock)])
    assert mock.on_batch_begin.call_count == 2 * N_ROWS // BATCH


def test_a_batch_that_no_code_of_the_users_sees_is_recorded_all_the_same(table: Any) -> None:
    """Step by step (two modules' worth of reasons apart), the rows are those of a fast epoch."""
    fast = fit(MixupClassifier, table)
    slow = fit(MixupClassifier, table, augment=lambda x: x)
    names = "train_loss", "train_batch_size"
    assert list_rows(fast, *names) == list_rows(slow, *names)


class Diverging(nn.Module):
    """Logits that are no numbers from some batch on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * torch.nan


@pytest.mark.parametrize("callbacks", [None, "disable"])
def test_a_loss_that_is_no_number_is_warned_of_once_by_a_skorch_net(table: Any, callbacks: Any) -> None:
    options: dict[str, Any] = {"train_split": None, "max_epochs": 3, "verbose": 0, "alpha": 0}
    with pytest.warns(UserWarning, match=r"train_loss must stay finite; got nan in epoch 1") as caught:
        net = Mixed(Diverging, criterion=nn.CrossEntropyLoss, callbacks=callbacks, **options).fit(*table)
    assert len(net.history) == 3
    assert sum("train_loss" in str(item.message) for item in caught) == 1


def test_a_loss_that_is_no_number_is_refused_by_an_estimator(table: Any) -> None:
    with pytest.raises(ValueError, match=r"train_loss must stay finite; got nan in epoch 1"):
        MixupClassifier(Diverging(), early_stopping=False, max_epochs=3).fit(*table)


class Three(torch.utils.data.Dataset[Any]):
    """Items of three parts, for steps of the user's own."""

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        self.X, self.y = X, y

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        return self.X[row], self.y[row], row


def test_a_step_of_the_users_is_given_what_the_dataset_yields(table: Any) -> None:
    rows: list[int] = []

    class Own(Mixed):
        def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
            x, y, index = batch
            rows.extend(index.tolist())
            return super().train_step_single((x, y), **fit_params)

    fit(Own, (Three(*table), None), max_epochs=1)
    assert rows == list(range(N_ROWS))


@pytest.mark.parametrize("items", [1, 3])
def test_other_items_are_refused_as_skorch_does(items: int, table: Any) -> None:
    class Items(Three):
        def __getitem__(self, row: int) -> Any:
            return super().__getitem__(row)[:items] if items > 1 else self.X[row]

    with pytest.raises(ValueError, match="values") as expected:
        fit(Plain, (Items(*table), None))
    with pytest.raises(ValueError, match=f"^{re.escape(str(expected.value))}$"):
        fit(Mixed, (Items(*table), None))
