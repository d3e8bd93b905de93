"""alpha = 0 against others: scores against scikit-learn's own, intervals against SciPy's, choices by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from joblib import parallel_config
from matplotlib.figure import Figure
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    PredefinedSplit,
    RepeatedKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
import torch

from sk_mixup import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
)
from sk_mixup.inspection import AlphaDisplay, compare_alphas
from sk_mixup.mixing import CutMix
from tests.conftest import Table

# Slow: cross-validates each alpha, 8 s of CPU.
pytestmark = pytest.mark.slow

TINY = {"module__hidden_layer_sizes": (4,), "max_epochs": 1, "early_stopping": False, "random_state": 0}
ALPHAS = [0.0, 1.0, 100.0]


@pytest.fixture(scope="module")
def rows() -> Table:
    """40 rows of 12 features, most of them noise: ridge regression learns more with a penalty."""
    generator = np.random.default_rng(0)
    X = generator.normal(size=(40, 12)).astype(np.float32)
    return Table(X, X[:, 0] + generator.normal(scale=2.0, size=40))


def compare_ridge(rows: Table, **options: Any) -> Any:
    """Compare penalties: what is measured does not depend on what the option is."""
    options = {"alphas": ALPHAS, "param": "alpha", "scoring": "neg_mean_absolute_error"} | options
    return compare_alphas(Ridge(solver="svd"), rows.X, rows.y, **options)


# -- scores ------------------------------------------------------------------------------


def find_calibration_error(y: np.ndarray, proba: np.ndarray) -> float:
    """Add up the bins' shares times their distances of confidence and accuracy."""
    confidence, hits = proba.max(axis=1), proba.argmax(axis=1) == y
    bins = np.ceil(confidence * 15)
    return sum(abs(np.sum(confidence[bins == k] - hits[bins == k])) for k in np.unique(bins)) / len(y)


def test_scores_of_a_classifier_are_those_of_cross_validation(blobs: Table) -> None:
    model = make_pipeline(StandardScaler(), MixupClassifier(**TINY | {"max_epochs": 3}))
    cv = StratifiedKFold(3, shuffle=True, random_state=5)
    found = compare_alphas(model, blobs.X, blobs.y, alphas=[1, 0], cv=cv)
    assert found.alphas.tolist() == [0, 1]
    for k, alpha in enumerate(found.alphas):
        model.set_params(mixupclassifier__alpha=alpha)
        done = cross_validate(model, blobs.X, blobs.y, cv=cv, return_estimator=True, return_indices=True)
        for split, (net, test) in enumerate(zip(done["estimator"], done["indices"]["test"], strict=True)):
            proba, y = net.predict_proba(blobs.X[test]), blobs.y[test]
            expected = [log_loss(y, proba), np.mean(proba.argmax(1) != y), find_calibration_error(y, proba)]
            actual = [found.scores[name][split, k] for name in ("nll", "error", "ece")]
            np.testing.assert_allclose(actual, expected, rtol=1e-4)


@pytest.mark.parametrize("unit", [1.0, 1e30])
def test_scores_of_a_regressor_are_those_of_cross_validation(line: Table, unit: float) -> None:
    model = MixupRegressor(**TINY)
    cv, y = KFold(2), unit * line.y.astype(np.float64)
    found = compare_alphas(model, line.X, y, alphas=0.5, cv=cv)
    names = {"rmse": "neg_root_mean_squared_error", "mae": "neg_mean_absolute_error"}
    for k, alpha in enumerate([0.0, 0.5]):
        done = cross_validate(model.set_params(alpha=alpha), line.X, y, cv=cv, scoring=names)
        for name in names:
            np.testing.assert_allclose(found.scores[name][:, k], -done[f"test_{name}"], rtol=1e-4)


@pytest.mark.parametrize("make", [pd.DataFrame, list, torch.as_tensor], ids=["frame", "list", "tensor"])
def test_rows_of_any_form_have_the_same_scores(blobs: Table, make: Callable[[Any], Any]) -> None:
    names = np.array(["a", "b", "c"])[blobs.y]
    options = {"alphas": 1, "cv": 2, "inner_cv": 2}
    model = MixupClassifier(**TINY)
    expected = compare_alphas(model, blobs.X, blobs.y, **options)
    found = compare_alphas(model, make(blobs.X), names.tolist(), **options)
    np.testing.assert_allclose(found.scores["nll"], expected.scores["nll"], rtol=1e-4)


# -- intervals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cv", "n", "ratio"),
    [(KFold(5), 5, 8 / 32), (RepeatedKFold(n_splits=4, n_repeats=3, random_state=1), 12, 1 / 3)],
)
def test_intervals_are_corrected_for_overlapping_folds(rows: Table, cv: object, n: int, ratio: float) -> None:
    found = compare_ridge(rows, cv=cv)
    scores = found.scores["neg_mean_absolute_error"]
    columns = [*scores.T, found.chosen_scores["neg_mean_absolute_error"]]
    several, chosen = (
        part["neg_mean_absolute_error"] for part in (found.differences, found.chosen_differences)
    )
    assert len(scores) == n
    for k, column in enumerate(columns):
        d = column - scores[:, 0]
        scale = np.sqrt((1 / n + ratio) * d.var(ddof=1))
        ends = stats.t.interval(0.95, n - 1, loc=d.mean(), scale=scale) if k else (0, 0)
        interval = {key: several[key][k] if k < len(ALPHAS) else chosen[key] for key in several}
        np.testing.assert_allclose([interval["mean"], interval["low"], interval["high"]], [d.mean(), *ends])


# -- the choice --------------------------------------------------------------------------


GROUPS = np.arange(40) // 4


@pytest.mark.parametrize(
    ("cv", "inner_cv", "expected_inner", "groups"),
    [
        pytest.param(KFold(4), KFold(3), KFold(3), None, id="both"),
        pytest.param(KFold(4), None, KFold(4), None, id="inner-as-outer"),
        pytest.param(4, 2, KFold(2, shuffle=True, random_state=0), None, id="numbers"),
        pytest.param(GroupKFold(5), None, GroupKFold(5), GROUPS, id="groups"),
        pytest.param(TimeSeriesSplit(3), None, TimeSeriesSplit(3), None, id="time"),
        pytest.param(
            PredefinedSplit(np.arange(40) % 4),
            None,
            KFold(3, shuffle=True, random_state=0),
            None,
            id="predefined",
        ),
    ],
)
def test_choice_is_that_of_a_search_within_the_training_rows(
    rows: Table, cv: Any, inner_cv: Any, expected_inner: Any, groups: Any
) -> None:
    found = compare_ridge(rows, cv=cv, inner_cv=inner_cv, groups=groups)
    outer = KFold(4, shuffle=True, random_state=0) if isinstance(cv, int) else cv
    scores = found.chosen_scores["neg_mean_absolute_error"]
    for k, (train, test) in enumerate(outer.split(rows.X, rows.y, groups)):
        options = {"cv": expected_inner, "scoring": "neg_mean_absolute_error"}
        search = GridSearchCV(Ridge(solver="svd"), {"alpha": ALPHAS}, **options)
        search.fit(rows.X[train], rows.y[train], groups=None if groups is None else groups[train])
        assert found.chosen[k] == search.best_params_["alpha"]
        assert scores[k] == pytest.approx(search.score(rows.X[test], rows.y[test]), rel=1e-5)


def score_by_alpha(model: Ridge, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    wobble = float(np.sin(X.sum() * 100))
    strength = min(model.alpha, 2.0)
    return {
        "rising": strength + wobble / 100,
        "falling": wobble / 100 - strength,
        "noise": model.alpha * wobble,
    }


def test_verdict_says_where_mixup_is_better_loses_and_is_unclear(rows: Table) -> None:
    found = compare_ridge(rows, scoring=score_by_alpha)
    assert np.all(found.chosen > 0)
    for part in ("is better in rising (+", "loses in falling (-", "is unclear in noise ("):
        assert part in found.verdict
    assert "alpha=1 loses in falling" in found.verdict


@pytest.mark.parametrize("names", [("error", "ece", "nll"), ("rmse", "mae", "error")], ids=str)
def test_scores_of_the_users_own_are_shown_as_they_are_whatever_their_names(
    rows: Table, names: tuple[str, ...]
) -> None:
    def score(model: Ridge, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
        return dict(zip(names, score_by_alpha(model, X, y).values(), strict=True))

    found, renamed = (compare_ridge(rows, scoring=each, cv=4) for each in (score_by_alpha, score))
    expected = found.verdict
    for old, new in zip(found.scores, names, strict=True):
        expected = expected.replace(old, new)
    assert renamed.verdict == expected
    displays = [AlphaDisplay(comparison=each).plot(Figure().subplots(1, 3)) for each in (found, renamed)]
    for axes, others, name in zip(*(display.axes_ for display in displays), names, strict=True):
        assert others.get_ylim() == axes.get_ylim()
        assert others.get_title().startswith(f"{name}, ")


def test_verdict_says_where_plain_training_is_always_chosen(rows: Table) -> None:
    found = compare_ridge(rows, scoring=lambda model, X, y: -model.alpha)
    assert "alpha=0 was the choice in all 10 splits" in found.verdict
    assert not np.any(found.chosen)


# -- which option ------------------------------------------------------------------------


class TwoNets(BaseEstimator):
    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second


MODELS = {
    "net": MixupClassifier(),
    "pipeline": make_pipeline(StandardScaler(), MixupClassifier()),
    "bagging": BaggingClassifier(MixupClassifier(), 2),
    "ensemble": MixupEnsembleClassifier(MixupClassifier(), n_members=2, random_state=0),
    "search": GridSearchCV(MixupClassifier(), {"lr": [0.1, 0.01]}, cv=2),
}


@pytest.mark.parametrize("kind", MODELS)
def test_alpha_is_found_in(binary: Table, kind: str) -> None:
    model = clone(MODELS[kind])
    net = next(part for part in (model, *model.get_params().values()) if isinstance(part, MixupClassifier))
    net.set_params(**TINY | {"max_epochs": 3})
    found = compare_alphas(model, binary.X, binary.y, alphas=[1], cv=2, inner_cv=2)
    nll = found.scores["nll"]
    assert np.all(nll[:, 0] != nll[:, 1])


def test_alpha_is_found_of_members_that_an_ensemble_makes(binary: Table) -> None:
    options = {f"estimator__{name}": value for name, value in TINY.items() if name != "random_state"}
    model = MixupEnsembleClassifier(n_members=2, random_state=0, **options | {"estimator__max_epochs": 3})
    found = compare_alphas(model, binary.X, binary.y, alphas=[1], cv=2, inner_cv=2)
    assert np.all(found.scores["nll"][:, 0] != found.scores["nll"][:, 1])


def test_alpha_is_found_behind_transformed_targets(line: Table) -> None:
    model = TransformedTargetRegressor(make_pipeline(StandardScaler(), MixupRegressor(**TINY)))
    found = compare_alphas(model, line.X, line.y, alphas=[1], cv=2, inner_cv=2)
    assert np.all(found.scores["rmse"][:, 0] != found.scores["rmse"][:, 1])


@pytest.mark.parametrize(
    ("model", "match"),
    [
        pytest.param(Ridge(), r"alpha of mixing, beside lam_per; got none in Ridge", id="another-alpha"),
        pytest.param(TransformedTargetRegressor(), r"got none in TransformedTarget", id="nothing-inside"),
        pytest.param(
            TwoNets(MixupClassifier(), MixupClassifier()),
            r"got 'first__alpha' and 'second__alpha' in TwoNets",
            id="several",
        ),
        pytest.param(MixupClassifier(vicinity=CutMix()), r"vicinity must be None.*got CutMix", id="vicinity"),
        pytest.param(
            GridSearchCV(MixupClassifier(), {"alpha": [0, 1]}),
            r"param_grid must not hold .*'estimator__alpha'",
            id="searched",
        ),
        pytest.param(
            make_pipeline(
                StandardScaler(),
                GridSearchCV(make_pipeline(MixupClassifier()), [{"mixupclassifier__alpha": [1]}]),
            ),
            r"param_grid must not hold .*'gridsearchcv__estimator__mixupclassifier__alpha'",
            id="searched-inside",
        ),
    ],
)
def test_model_whose_alpha_cannot_be_compared_is_refused(binary: Table, model: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        compare_alphas(model, binary.X, binary.y)


def drop_all_but_one(y: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(y)) == 0, 7, y)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite:UserWarning")
@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"alphas": []}, ValueError, r"alphas must hold a value above 0 to compare with 0; got \[\]"),
        ({"alphas": [0]}, ValueError, r"alphas must hold a value above 0"),
        ({"alphas": [0, -1]}, ValueError, r"alphas\[1\] must be at least 0; got -1"),
        ({"alphas": [np.nan]}, ValueError, r"alphas\[0\] must be at least 0; got nan"),
        ({"alphas": ["1"]}, TypeError, r"alphas\[0\] must be a real number; got '1'"),
        ({"cv": [(np.arange(20), np.arange(20, 40))]}, ValueError, r"cv must make at least 2 splits; got 1"),
        (
            {"inner_cv": [(np.arange(10), np.arange(10, 20))]},
            TypeError,
            r"inner_cv must be an integer, .*; got list",
        ),
        (
            {"inner_cv": iter([])},
            TypeError,
            r"inner_cv must be an integer, a splitter or None; got list_iterator",
        ),
        ({"inner_cv": "groups"}, TypeError, r"inner_cv must be an integer, a splitter or None; got str"),
        ({"inner_cv": 2.0}, TypeError, r"inner_cv must be an integer, a splitter or None; got float"),
        ({"param": "strength"}, ValueError, r"param must be an option of model; got 'strength'"),
        ({"scoring": "accurasy"}, ValueError, r"accurasy"),
        ({"scoring": lambda *_: np.nan}, ValueError, r"scoring must give finite values; got nan"),
        ({"groups": np.arange(3)}, ValueError, r"inconsistent numbers of samples"),
    ],
)
def test_bad_options_are_refused(binary: Table, options: Any, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        compare_alphas(MixupClassifier(**TINY), binary.X, binary.y, **{"cv": 2, "inner_cv": 2} | options)


@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
@pytest.mark.parametrize(
    ("dtype", "shown"),
    [(int, "7"), (float, r"7\.0"), (str, "'7'")],
    ids=str,
)
def test_class_that_a_training_part_lacks_is_refused(binary: Table, dtype: type, shown: str) -> None:
    y, message = drop_all_but_one(binary.y).astype(dtype), "y must hold every class in all training parts"
    with pytest.raises(ValueError, match=rf"{message}; got 1 rows of {shown}, and a part without"):
        compare_alphas(MixupClassifier(**TINY), binary.X, y, cv=2)


def test_targets_of_several_labels_need_scoring(multilabel: Table) -> None:
    net = MixupClassifier(**TINY)
    with pytest.raises(ValueError, match=r"scoring must be given .* multilabel-indicator targets"):
        compare_alphas(net, multilabel.X, multilabel.y)
    found = compare_alphas(net, multilabel.X, multilabel.y, scoring="f1_macro", alphas=1, cv=2, inner_cv=2)
    assert found.greater_is_better
    assert found.scores["f1_macro"].shape == (2, 2)


# -- how it is run -----------------------------------------------------------------------


def test_nets_are_trained_as_one_but_in_a_block_of_another_backend(
    binary: Table, stacks: list[int], stack_two: None
) -> None:
    options = {"alphas": [1], "cv": 2, "inner_cv": 2}
    compare_alphas(MixupClassifier(**TINY), binary.X, binary.y, **options)
    assert sum(stacks) > 1
    n_before = len(stacks)
    with parallel_config("threading", n_jobs=1):
        compare_alphas(MixupClassifier(**TINY), binary.X, binary.y, **options)
    assert len(stacks) == n_before


# -- the display -------------------------------------------------------------------------


def test_display_draws_its_arrays(rows: Table) -> None:
    axes = Figure().subplots(1, 3)
    model, options = Ridge(), {"param": "alpha", "scoring": score_by_alpha, "cv": 4}
    display = AlphaDisplay.from_estimator(model, rows.X, rows.y, alphas=ALPHAS, ax=axes, **options)
    found = display.comparison
    assert display.axes_ == list(axes)
    for axes_of_score, name in zip(display.axes_, found.scores, strict=True):
        single, chosen = axes_of_score.containers
        np.testing.assert_allclose(single.lines[0].get_ydata(), found.differences[name].mean[1:])
        np.testing.assert_allclose(chosen.lines[0].get_ydata(), [found.chosen_differences[name].mean])
        [bars] = chosen.lines[2]
        [[low, high]] = [segment[:, 1] for segment in bars.get_segments()]
        interval = found.chosen_differences[name]
        np.testing.assert_allclose([low, high], [interval.low, interval.high])
        assert [tick.get_text() for tick in axes_of_score.get_xticklabels()] == ["1", "100", "chosen"]
        assert "above 0: mixup better" in axes_of_score.get_ylabel()


def test_display_makes_a_figure_with_the_verdict(rows: Table) -> None:
    found = compare_ridge(rows, cv=3)
    display = AlphaDisplay(comparison=found).plot()
    assert display.figure_.get_suptitle().split() == found.verdict.split()
    with pytest.raises(ValueError, match=r"ax must hold 1 axes for AlphaDisplay.plot; got 2"):
        display.plot(Figure().subplots(1, 2))


@pytest.mark.filterwarnings("ignore:stacked. nets are trained one by one")
@pytest.mark.parametrize("names", [None, ["no", "yes"]], ids=["codes", "names"])
def test_unlabelled_rows_are_trained_on_and_not_scored(binary: Table, names: Any) -> None:
    y = np.where(np.arange(len(binary.y)) % 3, binary.y, -1)
    codes = y
    if names is not None:
        y = np.array([*names, -1], dtype=object)[codes]
    net = SemiSupervisedMixupClassifier(max_epochs=2, random_state=0)
    cv = StratifiedKFold(2, shuffle=True, random_state=0)
    found = compare_alphas(net, binary.X, y, alphas=[1], cv=cv, inner_cv=2)
    for split, (train, test) in enumerate(cv.split(binary.X, codes)):
        labelled = test[codes[test] != -1]
        for k, alpha in enumerate([0, 1]):
            fitted = clone(net).set_params(alpha=alpha).fit(binary.X[train], y[train])
            expected = log_loss(
                y[labelled].tolist(), fitted.predict_proba(binary.X[labelled]), labels=fitted.classes_
            )
            assert found.scores["nll"][split, k] == pytest.approx(expected, abs=1e-5)


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_a_column_of_labels_is_scored_as_labels(binary: Table) -> None:
    net = MixupClassifier(max_epochs=1, early_stopping=False, random_state=0)
    flat, column = (
        compare_alphas(net, binary.X, y, alphas=[1], cv=2, inner_cv=2) for y in (binary.y, binary.y[:, None])
    )
    np.testing.assert_array_equal(flat.scores["nll"], column.scores["nll"])
