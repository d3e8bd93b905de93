"""Ensembles trained as one: members, held-out parts, averages, uncertainty."""

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from sklearn.base import clone, is_classifier
import torch
from torch.utils.data import Subset

from sk_mixup import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    MixupRegressor,
)
from sk_mixup.estimators._holdout import divide_rows

QUICK = {"n_members": 3, "random_state": 0, "estimator__max_epochs": 3, "estimator__lr": 0.01}
MEMBERS = {MixupEnsembleClassifier: MixupClassifier, MixupEnsembleRegressor: MixupRegressor}
BOTH = [pytest.param(MixupEnsembleClassifier, "blobs"), pytest.param(MixupEnsembleRegressor, "line")]
CASES = [
    *BOTH,
    pytest.param(MixupEnsembleClassifier, "binary"),
    pytest.param(MixupEnsembleClassifier, "multilabel"),
    pytest.param(MixupEnsembleRegressor, "plane"),
]


def predict(model: Any, X: Any) -> np.ndarray:
    """Return probabilities of classifiers, and predictions of regressors."""
    return model.predict_proba(X) if is_classifier(model) else model.predict(X)


def get_oof(model: Any) -> np.ndarray:
    return model.oof_predict_proba_ if is_classifier(model) else model.oof_prediction_


def split_by(held_out: np.ndarray) -> Callable[..., Any]:
    """Return a split of the user's own that holds out these rows."""
    return lambda dataset, y=None: (
        Subset(dataset, np.flatnonzero(~held_out)),
        Subset(dataset, np.flatnonzero(held_out)),
    )


# -- members -----------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("is_weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("owner", "data"), CASES)
def test_members_equal_single_nets_with_their_seeds_and_parts(
    owner: Any, data: str, is_weighted: bool, request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    weight = np.arange(len(table.X)) % 3 + 1.0 if is_weighted else None
    model = owner(**QUICK).fit(table.X, table.y, sample_weight=weight)
    singles = [
        MEMBERS[owner](
            max_epochs=3,
            lr=0.01,
            random_state=member.random_state,
            train_split=split_by(model.held_out_by_ == number),
        ).fit(table.X, table.y, sample_weight=weight)
        for number, member in enumerate(model.estimators_)
    ]
    expected = np.mean([predict(net, table.X) for net in singles], axis=0)
    np.testing.assert_allclose(predict(model, table.X), expected, rtol=0, atol=1e-9)
    for member, net in zip(model.estimators_, singles, strict=True):
        np.testing.assert_allclose(member.history[:, "valid_loss"], net.history[:, "valid_loss"], atol=1e-9)


def test_members_differ_in_their_seeds(blobs: Any) -> None:
    model = MixupEnsembleClassifier(**QUICK).fit(blobs.X, blobs.y)
    assert len({member.random_state for member in model.estimators_}) == 3
    first, second = (member.module_.layers[1].weight for member in model.estimators_[:2])
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("owner", "data"), BOTH)
def test_fit_trains_all_members_as_one(
    owner: Any, data: str, stacks: list[int], request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    owner(**QUICK).fit(table.X, table.y)
    assert sum(stacks) == 3 * 3
    assert max(stacks) > 1


@pytest.mark.parametrize(("owner", "data"), BOTH)
def test_a_seed_gives_one_ensemble_and_leaves_the_global_generators(
    owner: Any, data: str, request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    before = torch.get_rng_state()
    model = owner(**QUICK).fit(table.X, table.y)
    again = clone(model).fit(table.X, table.y)
    other = clone(model).set_params(random_state=1).fit(table.X, table.y)
    np.testing.assert_array_equal(predict(again, table.X), predict(model, table.X))
    np.testing.assert_array_equal(again.held_out_by_, model.held_out_by_)
    assert not np.array_equal(predict(other, table.X), predict(model, table.X))
    assert torch.equal(torch.get_rng_state(), before)


# -- parts -------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5))
def test_divide_rows_shares_out_rows_and_classes(labels: list[int], n_parts: int, seed: int) -> None:
    y = np.array(labels)
    part = divide_rows([y], n_parts, np.random.default_rng(seed))
    for rows in (np.ones(len(y), dtype=bool), *(y == label for label in set(labels))):
        sizes = np.bincount(part[rows], minlength=n_parts)
        assert len(sizes) == n_parts
        assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("n_members", [2, 3, 8])
@pytest.mark.parametrize(("owner", "data"), CASES)
def test_each_row_is_held_out_once(
    owner: Any, data: str, n_members: int, request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    model = owner(**QUICK).set_params(n_members=n_members, estimator__max_epochs=1).fit(table.X, table.y)
    sizes = np.bincount(model.held_out_by_, minlength=n_members)
    assert len(sizes) == n_members
    assert sizes.sum() == len(table.X)
    assert sizes.max() - sizes.min() <= 1
