"""early_stopping='auto': rows are held out, and stopped by, where they are enough to tell epochs apart."""

from typing import Any

import numpy as np
import pytest
from skorch.callbacks import EpochScoring
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from sk_mixup import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
)
from tests.helpers.stacking import fit_stacked

# Nets that do not move are warned of.
pytestmark = pytest.mark.filterwarnings("ignore:early_stopping must find a best epoch")
FEWEST, MOST_EPOCHS = 10, 50
# With lr so small the held-out loss does not fall, so that a net that stops early does so after two epochs.
STILL = {"max_epochs": 4, "n_iter_no_change": 1, "lr": 1e-30, "random_state": 0}
OWNERS = {
    MixupClassifier: {},
    MixupRegressor: {},
    SemiSupervisedMixupClassifier: {"early_stopping": "auto", "classes": [0, 1], "ema_decay": 0.0},
}


def _make_rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    return X, np.arange(n) % 2


def _make(owner: type = MixupClassifier, **options: Any) -> Any:
    return owner(**{**STILL, **OWNERS[owner], **options})


def _stops(net: Any) -> bool:
    """Whether it stopped early; else it was trained for all epochs."""
    assert net.n_iter_ in (2, 4)
    return bool(net.n_iter_ == 2)


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize(
    ("n", "fraction", "stops"), [(90, 0.1, False), (91, 0.1, True), (20, 0.45, False), (20, 0.5, True)]
)
def test_rows_are_held_out_where_they_are_enough(owner: type, n: int, fraction: float, stops: bool) -> None:
    X, y = _make_rows(n)
    net = _make(owner, validation_fraction=fraction).fit(X, y)
    assert _stops(net) == stops
    assert ("valid_loss" in net.history_[-1]) == stops


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_nothing_held_out_gives_the_net_of_no_early_stopping(owner: type) -> None:
    X, y = _make_rows(60)
    options = {"lr": 1e-2, "n_iter_no_change": 20}
    auto, never = (_make(owner, early_stopping=s, **options).fit(X, y) for s in ("auto", False))
    assert all(map(torch.equal, auto.module_.parameters(), never.module_.parameters()))


@pytest.mark.parametrize("n", [90, 91])
def test_a_dataset_is_counted_as_its_arrays_are(n: int) -> None:
    X, y = _make_rows(n)
    dataset = TensorDataset(torch.as_tensor(X), torch.as_tensor(y))
    assert _stops(_make().fit(dataset)) == (n == 91)


def test_rows_of_weight_zero_are_not_counted() -> None:
    X, y = _make_rows(100)
    weight = np.repeat([0.0, 1.0], [10, 90])
    assert _stops(_make().fit(X, y))
    assert not _stops(_make().fit(X, y, sample_weight=weight))


def test_unlabelled_rows_are_not_counted() -> None:
    X, y = _make_rows(100)
    y = np.where(np.arange(100) < 10, -1, y)
    assert not _stops(_make(SemiSupervisedMixupClassifier).fit(X, y))


@pytest.mark.parametrize("n_valid", [FEWEST - 1, FEWEST])
@pytest.mark.parametrize("as_dataset", [False, True])
def test_a_split_of_the_users_own_is_counted_too(n_valid: int, as_dataset: bool) -> None:
    X, y = _make_rows(40)
    valid = TensorDataset(torch.as_tensor(X[:n_valid]), torch.as_tensor(y[:n_valid]))
    split = predefined_split(valid) if as_dataset else ValidSplit(n_valid / 40)
    net = _make(train_split=split).fit(X, y)
    assert _stops(net) == (n_valid == FEWEST)
    assert "valid_loss" in net.history_[-1]  # what the user holds out is scored


class Stream(IterableDataset):
    """Rows without a number."""

    def __iter__(self) -> Any:
        return iter([(torch.full((3,), float(i % 2)), torch.tensor(i % 2)) for i in range(8)])


def test_rows_without_a_number_are_stopped_by_where_they_were_held_out() -> None:
    options = {"classes": [0, 1], "iterator_train": DataLoader}
    assert not _stops(_make(**options).fit(Stream()))
    assert _stops(_make(train_split=predefined_split(Stream()), **options).fit(Stream()))


@pytest.mark.parametrize("n", [60, 91])
def test_a_callback_that_watches_is_given_scores_of_few_rows_too(n: int) -> None:
    X, y = _make_rows(n)
    watch = EpochScoring("accuracy", name="own")
    net = _make(callbacks=[("own", watch)]).fit(X, y)
    assert "own" in net.history_[0]
    assert _stops(net) == (n == 91)


@pytest.mark.parametrize(
    ("options", "n_epochs"),
    [
        ({}, MOST_EPOCHS),
        ({"train_split": ValidSplit(4)}, MOST_EPOCHS),
        ({"warmup_epochs": 2, "cooldown_epochs": 1}, MOST_EPOCHS + 3),
        ({"max_epochs": 3}, 3),
        ({"early_stopping": False}, 60),
        ({"train_split": None}, 60),
    ],
)
def test_few_rows_are_trained_on_for_fifty_mixed_epochs(options: dict[str, Any], n_epochs: int) -> None:
    net = _make(**{"max_epochs": 60, **options}).fit(*_make_rows(8))
    assert net.n_iter_ == n_epochs


def test_partial_fit_holds_out_nothing() -> None:
    X, y = _make_rows(200)
    net = _make().partial_fit(X, y)
    assert "valid_loss" not in net.history_[-1]
    assert _stops(net.fit(X, y))
    assert not _stops(net.fit(X[:60], y[:60]))


def test_stacked_nets_each_decide_by_their_own_rows() -> None:
    tables = [_make_rows(n) for n in (60, 90, 91, 200)]
    nets = fit_stacked([(_make(), *table) for table in tables])
    assert [_stops(net) for net in nets] == [False, False, True, True]


def test_members_of_an_ensemble_stop_by_few_rows_too() -> None:
    options = {f"estimator__{name}": value for name, value in STILL.items() if name != "random_state"}
    ensemble = MixupEnsembleClassifier(n_members=4, random_state=0, **options).fit(*_make_rows(12))
    assert all(map(_stops, ensemble.estimators_))


@pytest.mark.parametrize("value", ["Auto", "yes", None, 1])
def test_another_value_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"early_stopping must be True or False; got .*Use 'auto', or True"):
        _make(early_stopping=value).fit(*_make_rows(60))


OFF: list[dict[str, Any]] = [{"callbacks": "disable"}, {"callbacks__early_stopping": None}]


@pytest.mark.parametrize("options", OFF, ids=str)
@pytest.mark.parametrize("owner", OWNERS)
def test_without_the_callback_that_stops_all_rows_are_trained_on(owner: type, options: Any) -> None:
    net = _make(owner, **options).fit(*_make_rows(120))
    plain = _make(owner, early_stopping=False).fit(*_make_rows(120))
    assert net.n_iter_ == plain.n_iter_ == 4
    for each in (net, plain):
        assert sum(batch["train_batch_size"] for batch in each.history[-1]["batches"]) >= 120
        assert "valid_loss" not in each.history[-1]
    assert getattr(net, "temperature_", 1.0) == 1


@pytest.mark.parametrize("options", OFF, ids=str)
def test_stopping_without_its_callback_is_refused(options: Any) -> None:
    net = _make(early_stopping=True, **options)
    with pytest.raises(ValueError, match=r"early_stopping must be 'auto' or False where .* got True"):
        net.fit(*_make_rows(120))


def test_members_without_the_callback_that_stops_hold_out_no_rows() -> None:
    options = {f"estimator__{name}": value for name, value in STILL.items() if name != "random_state"}
    model = MixupEnsembleClassifier(n_members=2, estimator__callbacks="disable", random_state=0, **options)
    model.fit(*_make_rows(120))
    assert not hasattr(model, "oof_predict_proba_")
    assert [net.n_iter_ for net in model.estimators_] == [4, 4]
