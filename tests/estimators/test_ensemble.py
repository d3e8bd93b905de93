"""Ensembles trained as one: members, held-out parts, averages, uncertainty."""

from collections.abc import Callable
import pickle
from typing import Any
import warnings

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import entropy
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.ensemble import BaggingClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from sk_mixup import MixupClassifier, MixupEnsembleClassifier, MixupEnsembleRegressor, MixupRegressor
from sk_mixup._skorch.default_callbacks import _compute_accuracy
from sk_mixup.estimators._holdout import divide_rows, draw_held_out
from sk_mixup.estimators._stacked_nets import _stack
from sk_mixup.modules import MLP
from tests.helpers.datasets import Stream
from tests.helpers.stacking import stacked

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
    for net in singles:  # a member's temperature is that of all
        net._targets = net._targets.at(model.estimators_[0]._targets.temperature)
    X = table.X.astype(np.float64)  # by rows of float32 a regressor predicts in float32
    expected = np.mean([predict(net, X) for net in singles], axis=0)
    np.testing.assert_allclose(predict(model, X), expected, rtol=0, atol=1e-9)
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
def test_draw_held_out_shares_out_classes(labels: list[int], n_valid: int, seed: int) -> None:
    y, n_valid = np.array(labels), min(n_valid, len(labels))
    is_held_out = draw_held_out([y], n_valid, np.random.default_rng(seed))
    assert is_held_out.sum() == n_valid
    counts = np.bincount(y)
    assert np.all(np.abs(np.bincount(y[is_held_out], minlength=len(counts)) - counts * n_valid / len(y)) < 2)


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


def test_rows_of_a_group_are_held_out_together(blobs: Any) -> None:
    groups = np.arange(60) // 6
    model = MixupEnsembleClassifier(**QUICK).fit(blobs.X, blobs.y, groups=groups)
    assert all(len(set(model.held_out_by_[groups == group])) == 1 for group in range(10))
    with pytest.raises(ValueError, match="n_members must be at most the number of groups"):
        MixupEnsembleClassifier(**QUICK).fit(blobs.X, blobs.y, groups=groups // 5)


def test_fewer_rows_than_members_are_refused_and_rare_classes_kept(blobs: Any) -> None:
    with pytest.raises(ValueError, match="n_members must be at most the number of rows"):
        MixupEnsembleClassifier(**QUICK).set_params(n_members=61).fit(blobs.X, blobs.y)
    y = np.array(["rare", *["a", "b"] * 29, "a"])
    model = MixupEnsembleClassifier(**QUICK).fit(blobs.X, y)
    assert model.classes_.tolist() == ["a", "b", "rare"]
    assert all(member.classes_.tolist() == ["a", "b", "rare"] for member in model.estimators_)


def test_rows_of_weight_0_are_predicted_by_who_would_have_held_them_out(blobs: Any) -> None:
    weight = np.repeat([1.0, 0.0], 30)
    model = MixupEnsembleClassifier(**QUICK).fit(blobs.X, blobs.y, sample_weight=weight)
    assert np.bincount(model.held_out_by_[weight > 0]).tolist() == [10, 10, 10]
    assert np.isfinite(model.oof_predict_proba_).all()


# -- held-out predictions ----------------------------------------------------------------


@pytest.mark.parametrize(("owner", "data"), CASES)
def test_oof_is_what_the_member_predicts_that_held_the_row_out(
    owner: Any, data: str, request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    model = owner(**QUICK).fit(table.X, table.y)
    expected = np.stack(
        [
            predict(model.estimators_[number], table.X[row : row + 1])[0]
            for row, number in enumerate(model.held_out_by_)
        ]
    )
    found = model.oof_predict_proba_ if is_classifier(model) else model.oof_prediction_
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_single_member_predicts_what_it_held_out(line: Any) -> None:
    model = MixupEnsembleRegressor(**QUICK).set_params(n_members=1).fit(line.X, line.y)
    is_known = model.held_out_by_ == 0
    assert is_known.sum() == 6
    np.testing.assert_array_equal(np.isnan(model.oof_prediction_), ~is_known)
    error = np.square(model.oof_prediction_ - line.y)[is_known].mean()
    np.testing.assert_allclose(model.residual_variance_, error)


@pytest.mark.parametrize("fraction", [0.03, 0.1, 0.4, 0.7, 0.9])
@pytest.mark.parametrize("is_weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("owner", "data"), CASES)
def test_a_single_member_holds_out_as_many_rows_as_a_lone_net(
    owner: Any, data: str, is_weighted: bool, fraction: float, request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    weight = np.arange(len(table.X)) % 3 if is_weighted else None
    counts = np.ones(len(table.X), dtype=bool) if weight is None else weight > 0
    options = {"max_epochs": 1, "random_state": 0, "validation_fraction": fraction, "early_stopping": True}
    with warnings.catch_warnings(action="ignore"):  # of few rows
        alone = MEMBERS[owner](**options).fit(table.X, table.y, sample_weight=weight)
    named = {f"estimator__{name}": value for name, value in options.items()}
    model = owner(n_members=1, random_state=0, **named).fit(table.X, table.y, sample_weight=weight)
    held_out = (model.held_out_by_ == 0) & counts
    assert held_out.sum() == np.ceil(fraction * counts.sum())
    sizes = [sum(net.history[-1, "batches", :, "valid_batch_size"]) for net in (alone, model.estimators_[0])]
    assert sizes == [held_out.sum()] * 2
    np.testing.assert_array_equal(
        np.isfinite(get_oof(model)).reshape(len(counts), -1).all(axis=1), held_out | ~counts
    )


@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.7])
def test_a_single_member_holds_out_each_class_by_its_share(blobs: Any, fraction: float) -> None:
    model = MixupEnsembleClassifier(**QUICK, estimator__validation_fraction=fraction).set_params(n_members=1)
    held_out = model.fit(blobs.X, blobs.y).held_out_by_ == 0
    counts = np.bincount(blobs.y[held_out], minlength=3)
    np.testing.assert_allclose(counts, fraction * np.bincount(blobs.y), atol=1)


@pytest.mark.parametrize(("owner", "data"), BOTH)
@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.7])
def test_a_single_member_holds_out_its_share_of_the_groups(
    owner: Any, data: str, fraction: float, request: pytest.FixtureRequest
) -> None:
    table, groups = request.getfixturevalue(data), np.array(list("abcde"))[np.arange(60) // 12]
    model = owner(**QUICK, estimator__validation_fraction=fraction).set_params(n_members=1)
    model.fit(table.X, table.y, groups=groups)
    held_out = groups[model.held_out_by_ == 0]
    assert len(set(held_out)) == np.ceil(fraction * 5)
    assert len(held_out) == 12 * len(set(held_out))
    with pytest.raises(ValueError, match=r"validation_fraction must leave groups .* for 1 groups"):
        model.fit(table.X, table.y, groups=np.zeros(60))


@pytest.mark.parametrize("n_rows", [2, 9])
def test_a_single_member_is_trained_on_few_rows(line: Any, n_rows: int) -> None:
    model = MixupEnsembleRegressor(**QUICK).set_params(n_members=1).fit(line.X[:n_rows], line.y[:n_rows])
    assert sorted(model.held_out_by_) == [-1] * (n_rows - 1) + [0]
    with pytest.raises(ValueError, match=r"validation_fraction must leave rows to train on; got 0\.9 for 9"):
        model.set_params(estimator__validation_fraction=0.9).fit(line.X[:9], line.y[:9])


@pytest.mark.parametrize("options", [{"early_stopping": False}, {"train_split": None}], ids=str)
@pytest.mark.parametrize(("owner", "data"), BOTH)
def test_groups_change_nothing_where_no_rows_are_held_out(
    owner: Any, data: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    model = owner(**QUICK, **{f"estimator__{name}": value for name, value in options.items()})
    grouped = clone(model).fit(table.X, table.y, groups=np.arange(60) // 6)
    np.testing.assert_array_equal(predict(grouped, table.X), predict(model.fit(table.X, table.y), table.X))


def test_a_split_of_the_users_own_is_given_the_groups(blobs: Any) -> None:
    seen = []

    def split(dataset: Any, y: Any = None, *, groups: Any) -> Any:
        seen.append(groups)
        return split_by(groups == 0)(dataset)

    groups = np.arange(60) // 6
    MixupEnsembleClassifier(**QUICK, estimator__train_split=split).fit(blobs.X, blobs.y, groups=groups)
    assert len(seen) == 3
    assert all(np.array_equal(given, groups) for given in seen)


@pytest.mark.parametrize("options", [{"early_stopping": False}, {"train_split": None}], ids=str)
def test_members_that_hold_nothing_out_leave_no_oof(blobs: Any, options: dict[str, Any]) -> None:
    named = {f"estimator__{name}": value for name, value in options.items()}
    model = MixupEnsembleClassifier(**QUICK, **named).fit(blobs.X, blobs.y)
    with pytest.raises(AttributeError, match="early_stopping=True and train_split='auto'"):
        model.oof_predict_proba_  # noqa: B018
    expected = np.mean([net.predict_proba(blobs.X) for net in model.estimators_], axis=0)
    np.testing.assert_allclose(model.predict_proba(blobs.X), expected, rtol=0, atol=1e-6)


# -- prediction --------------------------------------------------------------------------

TANH = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
MODULES = {
    "default": {},
    "dropout": {"estimator__module__dropout": 0.5},
    "tanh": {"estimator__module": nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))},
}


@pytest.mark.parametrize("module", MODULES)
def test_prediction_is_the_mean_of_the_members_row_by_row(blobs: Any, module: str) -> None:
    model = MixupEnsembleClassifier(**QUICK, **MODULES[module]).fit(blobs.X, blobs.y)
    members = np.stack([net.predict_proba(blobs.X) for net in model.estimators_])
    proba = model.predict_proba(blobs.X)
    np.testing.assert_allclose(model.predict_members(blobs.X), members, rtol=0, atol=1e-6)
    np.testing.assert_allclose(proba, members.mean(axis=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(blobs.X)), proba, rtol=0, atol=1e-6)
    alone = np.concatenate([model.predict_proba(blobs.X[row : row + 1]) for row in range(60)])
    np.testing.assert_allclose(alone, proba, rtol=0, atol=0 if module != "tanh" else 1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("module", ["default", "dropout", "tanh"])
@pytest.mark.parametrize(("owner", "data"), CASES)
def test_members_predict_as_one_what_each_predicts_in_double_precision(
    owner: Any, data: str, module: str, dtype: Any, request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    n_outputs = {"binary": 2, "line": 1, "plane": 2}.get(data, 3)
    tanh = {"estimator__module": nn.Sequential(*TANH[:2], nn.Linear(8, n_outputs))}
    options = tanh if module == "tanh" else MODULES[module]
    model, X = owner(**QUICK, **options).fit(table.X, table.y), table.X.astype(dtype)
    assert (_stack(model.estimators_) is None) == (module == "tanh")
    members = np.stack([predict(net, X) for net in model.estimators_])
    assert model.predict_members(X).dtype == predict(model, X).dtype == np.float64
    np.testing.assert_allclose(model.predict_members(X), members, rtol=0, atol=1e-6)
    np.testing.assert_allclose(predict(model, X), members.mean(axis=0, dtype=np.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("module", [MLP, TANH], ids=["as one", "one by one"])
def test_variances_of_large_targets_are_those_of_small_ones(line: Any, dtype: Any, module: Any) -> None:
    """Squares of 1e30 are beyond float32."""
    small, large = (
        MixupEnsembleRegressor(**QUICK, estimator__module=module)
        .fit(line.X, line.y * unit)
        .predict_uncertainty(line.X.astype(dtype))
        for unit in (1.0, 2.0**100)
    )
    for expected, found in zip(small, large, strict=True):
        np.testing.assert_allclose(found / 2.0**200, expected, rtol=1e-4, atol=1e-9)


class Shifted(MixupRegressor):
    """Predicts in a way of its own."""

    def predict(self, X: Any) -> np.ndarray:
        return super().predict(X) + 1


class Ranked(MixupRegressor):
    """Has a property in the place of a method of this library's."""

    @property
    def predict_proba(self) -> Any:
        return self.predict


@pytest.mark.parametrize("member", [Shifted, Ranked])
def test_what_a_subclass_predicts_is_asked_of_each_member(line: Any, member: Any) -> None:
    model = MixupEnsembleRegressor(member(max_epochs=2), n_members=2, random_state=0).fit(line.X, line.y)
    assert _stack(model.estimators_) is None
    expected = np.mean([net.predict(line.X) for net in model.estimators_], axis=0)
    np.testing.assert_allclose(model.predict(line.X), expected, rtol=0, atol=1e-6)


def test_uncertainty_is_that_of_scipy(blobs: Any, line: Any, multilabel: Any) -> None:
    model = MixupEnsembleClassifier(**QUICK).fit(blobs.X, blobs.y)
    members = model.predict_members(blobs.X)
    total, aleatoric, epistemic = model.predict_uncertainty(blobs.X)
    np.testing.assert_allclose(total, entropy(members.mean(axis=0), axis=1))
    np.testing.assert_allclose(aleatoric, entropy(members, axis=2).mean(axis=0))
    divergence = entropy(members, members.mean(axis=0)[None], axis=2).mean(axis=0)
    np.testing.assert_allclose(epistemic, divergence, atol=1e-12)
    several = MixupEnsembleClassifier(**QUICK).fit(multilabel.X, multilabel.y)
    p = several.predict_proba(multilabel.X)
    expected = entropy(np.stack([p, 1 - p]), axis=0)
    np.testing.assert_allclose(several.predict_uncertainty(multilabel.X).total, expected)
    values = MixupEnsembleRegressor(**QUICK).fit(line.X, line.y)
    found = values.predict_uncertainty(line.X)
    np.testing.assert_allclose(found.epistemic, values.predict_members(line.X).var(axis=0))
    np.testing.assert_allclose(found.aleatoric, np.square(values.oof_prediction_ - line.y).mean())


# -- as an estimator ---------------------------------------------------------------------


def test_options_of_members_are_given_in_any_way(blobs: Any) -> None:
    given = MixupEnsembleClassifier(MixupClassifier(max_epochs=3, lr=0.01), n_members=3, random_state=0)
    put = MixupEnsembleClassifier(n_members=3, random_state=0).set_params(
        estimator__max_epochs=3, estimator__lr=0.01
    )
    expected = MixupEnsembleClassifier(**QUICK).fit(blobs.X, blobs.y).predict_proba(blobs.X)
    for model in (given, put, clone(put)):
        np.testing.assert_array_equal(model.fit(blobs.X, blobs.y).predict_proba(blobs.X), expected)
    with pytest.raises(ValueError, match="Did you mean 'n_members'"):
        MixupEnsembleClassifier().set_params(n_member=3)
    with pytest.raises(ValueError, match="Did you mean 'alpha'"):
        MixupEnsembleClassifier(estimator__alhpa=3).fit(blobs.X, blobs.y)
    with pytest.raises(TypeError, match="estimator must be a MixupClassifier"):
        MixupEnsembleClassifier(MixupRegressor()).fit(blobs.X, blobs.y)


@pytest.mark.parametrize(("owner", "data"), BOTH)
@pytest.mark.parametrize("in_constructor", [False, True], ids=["set", "constructed"])
def test_a_new_estimator_brings_its_own_options(
    owner: Any, data: str, in_constructor: bool, request: pytest.FixtureRequest
) -> None:
    """As scikit-learn's meta-estimators do; of what was set before nothing is left."""
    table, member = request.getfixturevalue(data), MEMBERS[owner]
    options = {"n_members": 2, "random_state": 0}
    old = {"estimator__alpha": 1.0, "estimator__max_epochs": 5}
    peer = BaggingClassifier(MLPClassifier()).set_params(estimator__alpha=1.0)
    assert peer.set_params(estimator=MLPClassifier(alpha=0.3)).get_params()["estimator__alpha"] == 0.3
    model = (
        owner(member(alpha=0.7), **options, **old)
        if in_constructor
        else owner(member(), **options).set_params(**old)
    )
    for found in (model, clone(model)):
        assert found.get_params()["estimator__alpha"] == 1.0
        assert (
            found.set_params(estimator=member(alpha=0.3, max_epochs=2)).get_params()["estimator__alpha"]
            == 0.3
        )
        assert clone(found).get_params()["estimator__max_epochs"] == 2
        found.fit(table.X, table.y)
        assert {(net.alpha, len(net.history)) for net in found.estimators_} == {(0.3, 2)}
    both = model.set_params(estimator__alpha=0.9, estimator=member(max_epochs=2)).fit(table.X, table.y)
    assert {net.alpha for net in both.estimators_} == {0.9}
    assert {net.alpha for net in model.set_params(estimator=None).fit(table.X, table.y).estimators_} == {0.2}


@pytest.mark.parametrize("owner", MEMBERS)
@pytest.mark.parametrize("given", [False, True])
def test_options_that_a_member_has_not_are_refused_at_once(owner: Any, given: bool) -> None:
    model = owner(MEMBERS[owner](alpha=0.7) if given else None)
    for name, match in {
        "estimator__alhpa": "Did you mean 'alpha'",
        "estimator__foo": "Invalid parameter 'foo'",
    }.items():
        with pytest.raises(ValueError, match=match):
            model.set_params(n_members=3, **{name: 1})
    assert model.n_members == 8
    assert model.get_params(deep=False) == clone(model).get_params(deep=False) | {
        "estimator": model.estimator
    }
    model.set_params(estimator__module__hidden_layer_sizes=(4,))
    assert model.get_params()["estimator__module__hidden_layer_sizes"] == (4,)


@pytest.mark.parametrize("owner", MEMBERS)
def test_parameters_that_are_set_again_change_nothing(owner: Any) -> None:
    model = owner(MEMBERS[owner](alpha=0.7), estimator__lr=0.5)
    before = model.get_params(deep=False)
    again = owner().set_params(**before)
    assert again.get_params(deep=False) == before
    assert model.set_params(**before).get_params(deep=False) == before


def test_a_search_over_estimators_and_their_options(blobs: Any) -> None:
    grid = {"estimator": [MixupClassifier(max_epochs=1, alpha=alpha) for alpha in (0.3, 0.6)]}
    model = MixupEnsembleClassifier(n_members=2, random_state=0, estimator__alpha=9.0)
    search = GridSearchCV(model, [grid, {"estimator__alpha": [0.5], "estimator__max_epochs": [1]}], cv=2)
    best = search.fit(blobs.X, blobs.y).best_estimator_
    assert {net.alpha for net in best.estimators_} <= {0.3, 0.5, 0.6}


def test_a_search_under_stacked_trains_all_members_of_all_ensembles_as_one(
    blobs: Any, stacks: list[int]
) -> None:
    model = make_pipeline(StandardScaler(), MixupEnsembleClassifier(**QUICK))
    grid = {"mixupensembleclassifier__estimator__alpha": [0, 0.4]}
    names = np.array(["a", "b", "c"])[blobs.y]
    with stacked():
        search = GridSearchCV(model, grid, cv=2).fit(blobs.X, names)
    assert max(stacks) > 3
    assert search.best_score_ > 0.5
    alone = pickle.loads(pickle.dumps(search)).predict_proba(blobs.X)
    np.testing.assert_array_equal(alone, search.predict_proba(blobs.X))


# -- other forms of the same rows --------------------------------------------------------

FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "frame": lambda X: pd.DataFrame(X, columns=list("abcde")),
    "lists": lambda X: X.tolist(),
    "float64": lambda X: X.astype(np.float64),
    "tensor": torch.from_numpy,
    "sparse": sparse.csr_array,
    "columns first": np.asfortranarray,
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_same_rows_give_the_same_ensemble(blobs: Any, form: str) -> None:
    X = FORMS[form](blobs.X)
    model = MixupEnsembleClassifier(**QUICK).fit(X, blobs.y)
    expected = MixupEnsembleClassifier(**QUICK).fit(blobs.X, blobs.y)
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(blobs.X), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(model.held_out_by_, expected.held_out_by_)
    np.testing.assert_allclose(model.oof_predict_proba_, expected.oof_predict_proba_, rtol=0, atol=1e-6)
    assert model.n_features_in_ == 5
    assert hasattr(model, "feature_names_in_") == (form == "frame")


@pytest.mark.filterwarnings("ignore:stacked. nets are trained one by one")
def test_a_dataset_is_divided_too_and_gives_predictions_of_every_row(blobs: Any) -> None:
    dataset = TensorDataset(torch.from_numpy(blobs.X), torch.from_numpy(blobs.y))
    model = MixupEnsembleClassifier(**QUICK).fit(dataset)
    assert sorted(np.bincount(model.held_out_by_)) == [20, 20, 20]
    for row in (0, 17, 59):
        own = model.estimators_[model.held_out_by_[row]].predict_proba(blobs.X[row : row + 1])[0]
        np.testing.assert_allclose(model.oof_predict_proba_[row], own, rtol=0, atol=1e-6)


def test_soft_labels_and_class_weights_reach_the_members(blobs: Any) -> None:
    soft = 0.8 * np.eye(3)[blobs.y] + 0.2 / 3
    model = MixupEnsembleClassifier(**QUICK).fit(blobs.X, soft)
    np.testing.assert_allclose(model.predict_proba(blobs.X).sum(axis=1), 1)
    heavy, light = (
        MixupEnsembleClassifier(**QUICK, estimator__class_weight={0: weight, 1: 1, 2: 1}).fit(
            blobs.X, blobs.y
        )
        for weight in (50, 0.02)
    )
    share = [model.predict_proba(blobs.X)[:, 0].mean() for model in (heavy, light)]
    assert share[0] > share[1] + 0.2


def test_weights_are_routed_to_the_ensemble_alone(blobs: Any) -> None:
    weight = np.arange(60) % 3 + 1.0
    plain = MixupEnsembleClassifier(**QUICK).fit(blobs.X, blobs.y, sample_weight=weight)
    with config_context(enable_metadata_routing=True):
        member = MixupEnsembleClassifier(**QUICK).set_fit_request(sample_weight=True)
        routed = make_pipeline("passthrough", member)
        routed.fit(blobs.X, blobs.y, sample_weight=weight)
        found = routed.predict_proba(blobs.X)
    np.testing.assert_allclose(found, plain.predict_proba(blobs.X), rtol=0, atol=1e-6)


@given(
    dtypes=st.sampled_from(
        [("i8", "i8"), ("u1", "u1"), ("?", "?"), ("U3", "U3"), ("f8", "f8"), ("i8", "i4")]
    ),
    n_rows=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_accuracy_is_scikit_learns(dtypes: tuple[str, str], n_rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    true, found = (generator.integers(0, 2, n_rows).astype(dtype) for dtype in dtypes)
    assert _compute_accuracy(true, found) == accuracy_score(true, found)


def test_who_held_out_a_row_is_forgotten_where_none_does(blobs: Any) -> None:
    model = MixupEnsembleClassifier(**QUICK).fit(blobs.X, blobs.y)
    assert len(model.held_out_by_) == len(blobs.X)
    model.set_params(estimator__early_stopping=False).fit(blobs.X[:20], blobs.y[:20])
    assert not hasattr(model, "held_out_by_")
    assert not hasattr(model, "oof_predict_proba_")


@pytest.mark.filterwarnings("ignore:stacked. nets are trained one by one")
@pytest.mark.parametrize("form", ["TensorDataset", "Subset", "ConcatDataset", "y beside"])
@pytest.mark.parametrize("seed", range(5))
def test_classes_of_a_dataset_are_shared_out_too(form: str, seed: int) -> None:
    X, y = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32), np.zeros(60, dtype=int)
    y[5:9] = 1
    x, targets = torch.tensor(X), torch.tensor(y)
    dataset: Any = TensorDataset(x, targets)
    if form == "Subset":
        dataset = Subset(TensorDataset(x.flip(0), targets.flip(0)), range(59, -1, -1))
    if form == "ConcatDataset":
        dataset = ConcatDataset([TensorDataset(x[:7], targets[:7]), TensorDataset(x[7:], targets[7:])])
    model = MixupEnsembleClassifier(n_members=2, estimator__max_epochs=1, random_state=seed)
    model.fit(dataset, y if form == "y beside" else None)
    assert np.bincount(model.held_out_by_[y == 1]).tolist() == [2, 2]
    assert np.bincount(model.held_out_by_).tolist() == [30, 30]


@pytest.mark.filterwarnings("ignore:stacked. nets are trained one by one")
def test_a_stream_is_taken_as_a_single_net_takes_it(blobs: Any) -> None:
    stream = Stream([(torch.as_tensor(x), int(label)) for x, label in zip(blobs.X, blobs.y, strict=True)])
    options = {"estimator__classes": [0, 1, 2], "estimator__batch_size": 10}
    ensemble = MixupEnsembleClassifier(**QUICK, **options).fit(stream)
    assert not hasattr(ensemble, "held_out_by_")
    for member in ensemble.estimators_:
        alone = clone(member).fit(stream)
        np.testing.assert_array_equal(alone.predict_proba(blobs.X), member.predict_proba(blobs.X))
