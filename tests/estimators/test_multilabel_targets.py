"""Several labels per row are 0 and 1; whatever else stands there is refused, in whatever form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from skorch import NeuralNet
from skorch.helper import predefined_split
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from sk_mixup import MixupClassifier, MixupEnsembleClassifier, MixupNetMixin

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
LABELS = (X > 0.2).astype(np.int64)
QUICK: dict[str, Any] = {"max_epochs": 2, "early_stopping": False, "random_state": 0}


class Pairs(Dataset):
    """Yields pairs that nothing but reading them tells."""

    def __init__(self, y: np.ndarray) -> None:
        self.rows = y

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        return X[row], self.rows[row].astype(np.float32)


FORMS: dict[str, Callable[[np.ndarray], tuple[Any, ...]]] = {
    "array": lambda y: (X, y),
    "list": lambda y: (X, y.tolist()),
    "float": lambda y: (X, y.astype(np.float32)),
    "frame": lambda y: (X, pd.DataFrame(y)),
    "tensor": lambda y: (X, torch.as_tensor(y)),
    "sparse": lambda y: (X, sparse.csr_matrix(y)),
    "tensors": lambda y: (TensorDataset(torch.as_tensor(X), torch.as_tensor(y).float()), None),
    "pairs": lambda y: (Pairs(y), None),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 2), (0, 255), (1, 2)])
def test_other_values_than_zero_and_one_are_refused(form: str, low: int, high: int) -> None:
    y = np.where(LABELS, high, low)
    with pytest.raises(ValueError, match=r"y must hold 0 and 1 for several labels per row; got -?\d+"):
        MixupClassifier(**QUICK).fit(*FORMS[form](y))


@pytest.mark.parametrize("form", FORMS)
def test_zeros_and_ones_in_any_form_give_the_same_net(form: str) -> None:
    expected = MixupClassifier(**QUICK).fit(X, LABELS).predict_proba(X)
    found = MixupClassifier(**QUICK).fit(*FORMS[form](LABELS)).predict_proba(X)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("y", [LABELS.astype(bool), np.ones_like(LABELS), np.zeros_like(LABELS)])
def test_indicators_may_be_boolean_or_all_alike(y: np.ndarray) -> None:
    net = MixupClassifier(**QUICK).fit(X, y)
    assert 0 < net.history[-1, "train_loss"] < 1


def test_later_chunks_and_held_out_rows_are_checked_too() -> None:
    net = MixupClassifier(**QUICK).fit(X, LABELS)
    with pytest.raises(ValueError, match="y must hold 0 and 1"):
        net.partial_fit(X, 2 * LABELS)


# -- names of the columns ----------------------------------------------------------------

NAMED: dict[str, Callable[..., Any]] = {
    "option": lambda names, y: MixupClassifier(**QUICK, classes=names).fit(X, y),
    "partial_fit": lambda names, y: MixupClassifier(**QUICK).partial_fit(X, y, classes=names),
    "dataset": lambda names, y: MixupClassifier(**QUICK, classes=names).fit(*FORMS["pairs"](y)),
    "ensemble": lambda names, y: MixupEnsembleClassifier(
        n_members=2, random_state=0, estimator__max_epochs=2, estimator__classes=names
    ).fit(X, y),
}


@pytest.mark.parametrize("names", [["z", "y", "x"], [30, 10, 20], np.array([2.5, 0.5, 1.5])], ids=str)
@pytest.mark.parametrize("way", NAMED)
def test_names_stand_in_the_order_of_the_columns(way: str, names: Any) -> None:
    net, sorted_ones = NAMED[way](names, LABELS), NAMED[way](sorted(names), LABELS)
    assert net.classes_.tolist() == list(names)
    proba = net.predict_proba(X)
    np.testing.assert_array_equal(proba, sorted_ones.predict_proba(X))  # a name changes no column
    np.testing.assert_array_equal(net.predict(X), proba > 0.5)


def test_a_set_of_names_is_sorted() -> None:
    for names in ({"z", "y", "x"}, frozenset({"x", "z", "y"})):
        assert NAMED["option"](names, LABELS).classes_.tolist() == ["x", "y", "z"]


@pytest.mark.parametrize("y", [LABELS, 0.8 * np.eye(3)[LABELS.argmax(axis=1)] + 0.2 / 3], ids=["0-1", "soft"])
@pytest.mark.parametrize("way", [way for way in NAMED if way != "dataset"])
def test_a_name_for_two_columns_is_refused(way: str, y: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"classes must name each label once.*; got 'b' 2 times"):
        NAMED[way](["b", "a", "b"], y)


# -- what no check of targets has seen ---------------------------------------------------


class Net(MixupNetMixin, NeuralNet):
    """A bare net, which knows nothing of its targets."""


@pytest.mark.parametrize("form", ["array", "list", "float", "frame", "tensor", "sparse"])
@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 2)])
def test_other_values_are_refused_in_score(form: str, low: int, high: int) -> None:
    net = MixupClassifier(**QUICK).fit(X, LABELS)
    expected = np.mean((net.predict_proba(X) > 0.5).astype(int) == LABELS, axis=1) == 1
    assert net.score(X, FORMS[form](LABELS)[1]) == pytest.approx(expected.mean())
    with pytest.raises(ValueError, match=r"y must hold 0 and 1 for several labels per row; got -?\d+"):
        net.score(X, FORMS[form](np.where(LABELS, high, low))[1])


@pytest.mark.parametrize("form", ["tensors", "pairs"])
@pytest.mark.parametrize("part", ["validation", "unread training", "later chunk"])
def test_other_values_are_refused_where_a_dataset_is_not_read_before(form: str, part: str) -> None:
    options: dict[str, Any] = {"classes": ["a", "b", "c"]} if part == "unread training" else {}
    right, wrong = (FORMS[form](y)[0] for y in (LABELS, 2 * LABELS - 1))
    if part == "validation":
        options["train_split"] = predefined_split(wrong)
    net = MixupClassifier(**QUICK, **options)
    if part == "later chunk":
        net.partial_fit(right)
    with pytest.raises(ValueError, match=r"y must hold 0 and 1 for several labels per row; got -1"):
        (net.partial_fit if part == "later chunk" else net.fit)(right if part == "validation" else wrong)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_cross_entropy_below_zero_is_an_error_of_its_own(alpha: float) -> None:
    net = Net(
        nn.Linear(3, 3),
        nn.BCEWithLogitsLoss,
        alpha=alpha,
        lr=1.0,
        verbose=0,
        random_state=0,
        train_split=None,
    )
    with pytest.raises(ValueError, match=r"train_loss must be at least 0 for BCEWithLogitsLoss; got -\d"):
        net.fit(X, 255 * LABELS.astype(np.float32))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_probabilities_of_nearly_one_may_round_below_zero(reduction: str) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Softmax(dim=1))
    with torch.no_grad():
        module[0].weight.mul_(0).add_(torch.tensor([[500.0, 0, 0], [-500.0, 0, 0]]))
    net = MixupClassifier(
        module, criterion=nn.NLLLoss, criterion__reduction=reduction, alpha=0, lr=1e-9, **QUICK
    )
    rows = np.abs(X[:, 0]) > 0.1
    net.fit(X[rows], (X[rows, 0] < 0).astype(int))
    assert net.history[-1, "train_loss"] <= 0.01


def test_entropy_bonus_may_bring_a_loss_below_zero() -> None:
    net = MixupClassifier(confidence_penalty=5.0, **QUICK).fit(X, LABELS)
    assert net.history[-1, "train_loss"] < 0
