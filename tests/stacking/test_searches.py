"""Under `stacked`, scikit-learn's meta-estimators give what they give without it, and train nets as one."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
import math
import threading
from types import SimpleNamespace
from typing import Any
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import loguniform
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, RFECV, SequentialFeatureSelector
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.parallel import Parallel, delayed
import torch

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup.stacking import StackedBackend
from sk_mixup.stacking._engine import Engine
from tests.helpers.nets import QUICK
from tests.helpers.stacking import stacked
from tests.helpers.timeouts import no_hang

SMALL = {**QUICK, "max_epochs": 2, "module__hidden_layer_sizes": (8,)}
ALPHAS = [0, 0.2, 1]
TIMES = {"fit_time", "score_time", "mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time"}


def make_net(**options: Any) -> MixupClassifier:
    return MixupClassifier(**{**SMALL, **options})


def make_regressor(**options: Any) -> MixupRegressor:
    return MixupRegressor(**{**SMALL, **options})


# -- what holds for every test -----------------------------------------------------------


# Slow: fits each search twice, 16 s of CPU.
pytestmark = [pytest.mark.usefixtures("stack_two"), pytest.mark.slow]


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    with no_hang():
        yield


@pytest.fixture(autouse=True)
def _nothing_left_behind(_no_hang: None) -> Iterator[None]:
    n_threads, filters, running = torch.get_num_threads(), list(warnings.filters), threading.enumerate()
    yield
    left = [t.name for t in threading.enumerate() if t not in running]  # a leak is one test's fault only
    assert [name for name in left if name.startswith("sk_mixup")] == []
    assert torch.get_num_threads() == n_threads
    assert list(warnings.filters) == filters


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many epochs were run as one, each time that all waited."""
    sizes: list[int] = []
    train = Engine.train

    def record(self: Engine, epochs: Any, check: Any) -> None:
        sizes.append(len(epochs))
        train(self, epochs, check)

    monkeypatch.setattr(Engine, "train", record)
    return sizes


@pytest.fixture(scope="module")
def tables(blobs: Any, binary: Any, multilabel: Any, line: Any, plane: Any) -> SimpleNamespace:
    frame = pd.DataFrame(blobs.X, columns=list("abcde"))
    weight = np.linspace(0.5, 2, len(blobs.y))
    return SimpleNamespace(
        blobs=(blobs.X, blobs.y),
        binary=(binary.X, binary.y),
        multilabel=(multilabel.X, multilabel.y),
        line=(line.X, line.y),
        plane=(plane.X, plane.y),
        frame=(frame, np.array(["ash", "beech", "cedar"])[blobs.y]),
        weight=weight,
        rows=np.arange(len(blobs.y)) % 6,
    )


def assert_same(got: Any, expected: Any) -> None:
    """Compare numbers to 1e-9 and everything else for equality, however deep."""
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for name in expected.keys() - TIMES:
            assert_same(got[name], expected[name])
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    elif np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-9, atol=1e-9)
    elif np.asarray(expected).dtype.kind == "O":
        assert repr(got) == repr(expected)  # clones of estimators are equal in what they show
    else:
        np.testing.assert_array_equal(got, expected)


def describe(search: Any, X: Any) -> tuple[Any, ...]:
    """Return what a fitted search has found."""
    found = search.cv_results_, search.best_params_, search.best_index_
    return (*found, search.best_estimator_.predict(X))


def predict(model: Any, X: Any) -> tuple[Any, ...]:
    """Return all that a fitted estimator predicts."""
    proba = model.predict_proba(X) if hasattr(model, "predict_proba") else None
    return model.predict(X), proba


# -- the cases: what is run, and the groups that train as one ----------------------------

Run = Callable[[SimpleNamespace], Any]


def searched(
    grid: Any,
    net: Any = None,
    table: str = "blobs",
    kind: Any = GridSearchCV,
    fit: Any = None,
    **options: Any,
) -> Run:
    """Return what runs a search."""

    def run(tables: SimpleNamespace) -> Any:
        X, y = getattr(tables, table)
        params = {name: getattr(tables, value) for name, value in (fit or {}).items()}
        search = kind(make_net() if net is None else clone(net), grid, **{"cv": 3, **options})
        return describe(search.fit(X, y, **params), X)

    return run


def fitted(model: Any, table: str = "blobs") -> Run:
    """Return what fits an estimator and predicts."""

    def run(tables: SimpleNamespace) -> Any:
        X, y = getattr(tables, table)
        return predict(clone(model).fit(X, y), X)

    return run


def called(function: Any, *args: Any, net: Any = None, table: str = "blobs", **options: Any) -> Run:
    """Return what calls a function of an estimator and a table."""
    return lambda tables: function(
        make_net() if net is None else clone(net), *getattr(tables, table), *args, **options
    )


MANY = {
    "module__hidden_layer_sizes": [(8,), (4, 4)],
    "optimizer": [torch.optim.SGD, torch.optim.Adam],
    "max_epochs": [1, 2],
}
HALVING = {"resource": "max_epochs", "min_resources": 1, "max_resources": 3, "factor": 3, "random_state": 0}

SEARCHES: dict[str, tuple[Run, list[int]]] = {
    "grid": (searched({"alpha": ALPHAS}), [9, 9]),
    "randomized": (
        searched({"alpha": loguniform(0.1, 2)}, kind=RandomizedSearchCV, n_iter=3, random_state=0),
        [9, 9],
    ),
    "halving random": (
        searched({"alpha": loguniform(0.1, 2)}, kind=HalvingRandomSearchCV, cv=2, n_candidates=9, **HALVING),
        [18, 6, 6, 6],
    ),
    "max_epochs": (searched({"max_epochs": [1, 2, 4]}), [9, 6, 3, 3]),
    "several kinds of nets": (searched(MANY, cv=2), [16, 8]),
    "dropout": (searched({"module__dropout": [0.0, 0.3]}), [6, 6]),
    "regressor": (searched({"alpha": ALPHAS}, make_regressor(), "line"), [9, 9]),
    "early stopping": (searched({"alpha": ALPHAS}, make_net(early_stopping=True)), [9, 9]),
    "weights": (searched({"alpha": ALPHAS}, fit={"sample_weight": "weight"}), [9, 9]),
    "groups": (searched({"alpha": ALPHAS}, cv=GroupKFold(3), fit={"groups": "rows"}), [9, 9]),
    "pipeline": (
        searched({"net__alpha": ALPHAS}, Pipeline([("scale", StandardScaler()), ("net", make_net())])),
        [9, 9],
    ),
    "column transformer": (
        searched(
            {"net__alpha": [0, 1], "columns__first__n_components": [1, 2]},
            Pipeline(
                [
                    (
                        "columns",
                        ColumnTransformer([("first", PCA(), ["a", "b"])], remainder=StandardScaler()),
                    ),
                    ("net", make_net()),
                ]
            ),
            "frame",
        ),
        [12, 12],
    ),
    "transformed target": (
        searched(
            {"regressor__alpha": ALPHAS},
            TransformedTargetRegressor(make_regressor(), transformer=StandardScaler()),
            "line",
        ),
        [9, 9],
    ),
    "bagging": (
        searched(
            {"estimator__alpha": [0, 1]}, BaggingClassifier(make_net(), n_estimators=3, random_state=0), cv=2
        ),
        [12, 12, 3, 3],  # the refit's nets are tasks, too
    ),
    "no net": (searched({"C": [0.1, 1]}, LogisticRegression()), []),
}

CROSS_VALIDATED: dict[str, tuple[Run, list[int]]] = {
    "cross_validate": (called(cross_validate, cv=3), [3, 3]),
    "cross_val_score": (called(cross_val_score, cv=4), [4, 4]),
    "cross_val_predict_proba": (called(cross_val_predict, cv=4, method="predict_proba"), [4, 4]),
    "learning_curve": (
        called(learning_curve, train_sizes=[0.4, 0.7, 1.0], cv=3, shuffle=True, random_state=0),
        [9, 9],
    ),
    # Each of the three tasks trains three times, on ever more rows.
    "incremental learning_curve": (
        called(
            learning_curve,
            train_sizes=[0.4, 0.7, 1.0],
            cv=3,
            shuffle=True,
            random_state=0,
            exploit_incremental_learning=True,
        ),
        [3] * 6,
    ),
    "validation_curve": (
        called(validation_curve, param_name="alpha", param_range=[0, 4], cv=3),
        [6, 6],
    ),
    # The score itself is no task; each of four permutations trains three nets in turn.
    "permutation_test_score": (
        called(permutation_test_score, cv=3, n_permutations=4, random_state=0),
        [4] * 6,
    ),
    "twice nested search": (
        called(
            cross_validate,
            net=GridSearchCV(OneVsRestClassifier(make_net()), {"estimator__alpha": [0, 1]}, cv=2),
            cv=2,
        ),
        [24, 24, 6, 6],
    ),
    "boosting": (
        called(cross_val_score, net=AdaBoostClassifier(make_net(), n_estimators=2, random_state=1), cv=3),
        [3] * 4,
    ),
    "chain": (called(cross_val_predict, net=ClassifierChain(make_net()), table="multilabel", cv=4), [4] * 6),
    "permuted features": (
        lambda tables: dict(
            permutation_importance(make_net().fit(*tables.blobs), *tables.blobs, n_repeats=3, random_state=0)
        ),
        [],
    ),
}


def weigh_features(net: Any) -> Any:
    """Return how much the first layer makes of each feature."""
    first = next(net.module_.parameters())
    return first.detach().abs().mean(dim=0).numpy()


def selected(selector: Any) -> Run:
    """Return what selects features."""

    def run(tables: SimpleNamespace) -> Any:
        fitted = clone(selector).fit(*tables.blobs)
        return fitted.get_support(), getattr(fitted, "cv_results_", {}), getattr(fitted, "ranking_", 0)

    return run


LINE = ("line", LogisticRegression())

META: dict[str, tuple[Run, list[int]]] = {
    "bagging": (fitted(BaggingClassifier(make_net(), n_estimators=8, random_state=0)), [8, 8]),
    "bagging regressor": (
        fitted(BaggingRegressor(make_regressor(), n_estimators=6, random_state=0), "line"),
        [6, 6],
    ),
    "bagging a search": (
        fitted(
            BaggingClassifier(
                GridSearchCV(make_net(), {"alpha": [0, 1]}, cv=2), n_estimators=3, random_state=0
            )
        ),
        [12, 12, 3, 3],
    ),
    "one vs rest": (fitted(OneVsRestClassifier(make_net())), [3, 3]),
    "one vs one": (fitted(OneVsOneClassifier(make_net())), [3, 3]),
    # Two of the six random codes are constant, and no net is needed for them.
    "output code": (fitted(OutputCodeClassifier(make_net(), code_size=2, random_state=0)), [4, 4]),
    # First the members, then what the last one learns from.
    "stacking": (
        fitted(StackingClassifier([("low", make_net(alpha=0)), ("high", make_net()), LINE], cv=3)),
        [2, 2, 6, 6],
    ),
    "stacking regressor": (
        fitted(StackingRegressor([("a", make_regressor(alpha=0)), ("b", make_regressor())], cv=2), "line"),
        [2, 2, 4, 4],
    ),
    "voting": (
        fitted(
            VotingClassifier(
                [("low", make_net(alpha=0)), ("high", make_net()), ("wide", make_net(batch_size=8)), LINE],
                voting="soft",
            )
        ),
        [3, 3],
    ),
    "calibrated": (fitted(CalibratedClassifierCV(make_net(), cv=3)), [3, 3]),
    "tuned threshold": (fitted(TunedThresholdClassifierCV(make_net(), cv=3), "binary"), [3, 3]),
    "multi-output classifier": (
        lambda tables: predict(MultiOutputClassifier(make_net()).fit(*tables.multilabel), tables.blobs[0]),
        [3, 3],
    ),
    "boosting": (fitted(AdaBoostClassifier(make_net(), n_estimators=3, random_state=0)), []),
    "a net": (fitted(make_net()), []),
    "RFE": (selected(RFE(make_net(), n_features_to_select=2, importance_getter=weigh_features)), []),
    # From five features down to one, in each of three folds; the last selection is no task.
    "RFECV": (selected(RFECV(make_net(), cv=3, importance_getter=weigh_features)), [3] * 10),
    # Five candidates for the first feature and four for the second, one after the other.
    "sequential selection": (
        selected(SequentialFeatureSelector(make_net(), n_features_to_select=2, cv=2)),
        [2] * 18,
    ),
}

CASES = [
    pytest.param(*case, id=f"{kind}: {name}")
    for kind, cases in {"search": SEARCHES, "validation": CROSS_VALIDATED, "meta": META}.items()
    for name, case in cases.items()
]


@pytest.mark.parametrize(("run", "sizes"), CASES)
def test_result_is_the_same_and_nets_train_together(
    run: Run, sizes: list[int], tables: Any, groups: list[int], float64: None
) -> None:
    single = run(tables)
    assert groups == []
    with stacked():
        together = run(tables)
    assert_same(together, single)
    assert groups == sizes


# -- a search's settings -----------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1])
def test_n_jobs_has_no_meaning(n_jobs: Any, tables: Any, groups: list[int]) -> None:
    with stacked():
        GridSearchCV(make_net(), {"alpha": ALPHAS}, cv=4, n_jobs=n_jobs).fit(*tables.blobs)
    assert groups == [12, 12]


@pytest.mark.parametrize("pre_dispatch", [1, 5, "n_jobs", "all"])
def test_result_does_not_depend_on_pre_dispatch(
    pre_dispatch: Any, tables: Any, groups: list[int], float64: None
) -> None:
    run = searched({"alpha": ALPHAS}, pre_dispatch=pre_dispatch)
    single = run(tables)
    with stacked():
        assert_same(run(tables), single)
    assert sum(groups) == 18
    assert max(groups) <= {1: 1, 5: 5}.get(pre_dispatch, 9)


def test_some_nets_go_on_alone(tables: Any, groups: list[int], float64: None) -> None:
    """A net that was in a stack must be trainable when it is the only one left."""
    run = searched({"max_epochs": [1, 3]}, cv=[(np.arange(40), np.arange(40, 60))], error_score="raise")
    single = run(tables)
    with stacked():
        assert_same(run(tables), single)
    assert groups == [2, 1, 1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_search_over_mixed_estimators(tables: Any, groups: list[int], float64: None) -> None:
    steps = [
        make_net(),
        make_net(alpha=0),
        LogisticRegression(),
        MLPClassifier((8,), max_iter=3, random_state=0),
    ]
    pipeline = Pipeline([("scale", StandardScaler()), ("last", LogisticRegression())])
    run = searched({"last": steps}, pipeline)
    single = run(tables)
    with stacked():
        together = run(tables)
    assert_same(together, single)
    assert groups == [6, 6]


# -- failures ----------------------------------------------------------------------------

FAILING = {
    "option": ({"alpha": [0.4, -1.0, 1.0]}, "alpha must be at least 0"),
    "training": ({"lr": [0.02, 1e300, 0.01]}, "train_loss must stay finite"),
    "half": ({"max_epochs": [1, 2], "batch_size": [16, -2]}, "batch_size"),
}


@pytest.mark.parametrize("case", FAILING)
def test_failed_candidates_score_nan_and_the_others_stand(
    case: str, tables: Any, groups: list[int], float64: None
) -> None:
    grid, message = FAILING[case]
    run = searched(grid, make_regressor(), "line", error_score=np.nan)
    results = []
    for context in (nullcontext(), stacked()):
        with (
            context,
            pytest.warns(FitFailedWarning, match=message) as caught,
            pytest.warns(UserWarning, match="non-finite"),
        ):
            results.append(run(tables))
        failed = [str(w.message) for w in caught if w.category is FitFailedWarning]
        assert len(failed) == 1
        results[-1] = results[-1], failed[0].partition("Below")[0]
    assert_same(results[1], results[0])
    assert max(groups) == (9 if case == "training" else 6)


@pytest.mark.parametrize("case", FAILING)
def test_first_failure_is_raised_on_demand(case: str, tables: Any, float64: None) -> None:
    run = searched(FAILING[case][0], make_regressor(), "line", error_score="raise")
    raised = []
    for context in (nullcontext(), stacked()):
        with context, pytest.raises(ValueError, match=FAILING[case][1]) as info:
            run(tables)
        raised.append((type(info.value), str(info.value)))
    assert raised[1] == raised[0]


def test_all_failures_are_raised_as_one(tables: Any) -> None:
    raised = []
    for context in (nullcontext(), stacked()):
        with context, pytest.raises(ValueError, match="All the 6 fits failed") as info:
            searched({"alpha": [-1, -2]})(tables)
        raised.append(str(info.value).partition("Below")[0])
    assert raised[1] == raised[0]


def test_failing_scorer_is_reported(tables: Any, groups: list[int]) -> None:
    def score(net: Any, X: Any, y: Any) -> float:
        if net.alpha == 0:
            raise ValueError("no score for plain nets")
        return float(net.score(X, y))

    with stacked(), pytest.warns(UserWarning, match="no score|non-finite") as caught:
        search = GridSearchCV(make_net(), {"alpha": ALPHAS}, cv=2, scoring=score).fit(*tables.blobs)
    assert sum("no score for plain nets" in str(w.message) for w in caught) == 2
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [True, False, False]
    assert groups == [6, 6]


def test_failure_in_a_nested_search_is_raised(tables: Any) -> None:
    inner = GridSearchCV(make_net(), {"alpha": [0, -1]}, cv=2, error_score="raise")
    with stacked(), pytest.raises(ValueError, match="alpha must be at least 0"):
        cross_validate(inner, *tables.blobs, cv=3, error_score="raise")


def test_search_after_a_failed_one_is_whole(tables: Any, groups: list[int]) -> None:
    with stacked():
        with pytest.raises(ValueError, match="alpha"):
            searched({"alpha": [0, -1]}, error_score="raise")(tables)
        groups.clear()
        searched({"alpha": ALPHAS})(tables)
    assert groups == [9, 9]


# -- scikit-learn's configuration and warnings -------------------------------------------


def test_configuration_reaches_the_tasks(tables: Any, groups: list[int]) -> None:
    seen = []

    def look(X: Any) -> Any:
        seen.append((type(X), sklearn.get_config()["assume_finite"]))
        return X

    pipeline = make_pipeline(StandardScaler(), FunctionTransformer(look), make_net())
    with sklearn.config_context(assume_finite=True, transform_output="pandas"), stacked():
        cross_validate(pipeline, *tables.frame, cv=3)
    assert set(seen) == {(pd.DataFrame, True)}
    assert groups == [3, 3]


def test_configuration_of_one_task_stays_its_own(tables: Any) -> None:
    def change(k: int) -> bool:
        with sklearn.config_context(assume_finite=bool(k % 2)):
            make_net().fit(*tables.blobs)
            return sklearn.get_config()["assume_finite"]

    with stacked():
        assert Parallel()(delayed(change)(k) for k in range(4)) == [False, True, False, True]
    assert sklearn.get_config()["assume_finite"] is False


def test_weights_are_routed(tables: Any, groups: list[int], float64: None) -> None:
    X, y = tables.blobs

    def run(_: Any) -> Any:
        net = make_net().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(net, {"alpha": ALPHAS}, cv=GroupKFold(3))
        return describe(search.fit(X, y, sample_weight=tables.weight, groups=tables.rows), X)

    with sklearn.config_context(enable_metadata_routing=True):
        single = run(tables)
        with stacked():
            together = run(tables)
    assert_same(together, single)
    assert groups == [9, 9]


def test_warnings_of_tasks_are_shown_once_each(tables: Any) -> None:
    def warn(k: int) -> int:
        make_net().fit(*tables.blobs)
        warnings.warn(f"task {k}", RuntimeWarning, stacklevel=1)
        return k

    with pytest.warns(RuntimeWarning) as caught, stacked():
        assert Parallel()(delayed(warn)(k) for k in range(5)) == [0, 1, 2, 3, 4]
    assert sorted(str(w.message) for w in caught) == [f"task {k}" for k in range(5)]


def test_filters_of_the_caller_hold_in_tasks(tables: Any) -> None:
    def warn() -> None:
        make_net().fit(*tables.blobs)
        warnings.warn("loud", RuntimeWarning, stacklevel=1)

    with stacked():
        with pytest.raises(RuntimeWarning, match="loud"):  # the tests' own filter makes errors of warnings
            Parallel()(delayed(warn)() for _ in range(3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Parallel()(delayed(warn)() for _ in range(3))


# -- the backend by name, and its options ------------------------------------------------


def test_backend_is_known_by_name(tables: Any, groups: list[int], float64: None) -> None:
    run = searched({"alpha": ALPHAS}, cv=2)
    single = run(tables)
    with joblib.parallel_config(backend="stacked", window=math.inf):
        assert_same(run(tables), single)
    assert groups == [6, 6]


@pytest.mark.parametrize(
    ("max_nets", "sizes", "by_name"),
    [(1, [1] * 12, True), (3, [3] * 4, False), (6, [6, 6], True), (100, [6, 6], False)],
)
def test_no_more_nets_than_allowed_train_together(
    max_nets: int, sizes: list[int], by_name: bool, tables: Any, groups: list[int], float64: None
) -> None:
    run = searched({"alpha": ALPHAS}, cv=2)
    single = run(tables)
    options = {"backend": "stacked", "max_nets": max_nets, "window": math.inf}
    with joblib.parallel_config(**options) if by_name else stacked(max_nets=max_nets):
        together = run(tables)
    assert_same(together, single)
    assert groups == sizes


@pytest.mark.parametrize("net", [make_net(), GridSearchCV(make_net(), {"alpha": [0, 1]}, cv=2)])
def test_with_little_memory_one_net_at_a_time_is_trained(
    net: Any, tables: Any, groups: list[int], float64: None
) -> None:
    run = called(cross_validate, net=net, cv=2)
    single = run(tables)
    with stacked(memory=1):
        assert_same(run(tables), single)
    assert set(groups) == {1}


@pytest.mark.filterwarnings("ignore:stacked\\(\\) must be entered:UserWarning")
@pytest.mark.parametrize("backend", ["threading", "sequential"])
def test_other_backend_within_is_left_to_itself(
    backend: str, tables: Any, groups: list[int], float64: None
) -> None:
    run = searched({"alpha": [0, 1]}, cv=2)
    single = run(tables)
    # scikit-learn's filters end up mixed in joblib's own threads.
    with warnings.catch_warnings(), stacked(), joblib.parallel_config(backend=backend, n_jobs=2):
        assert_same(run(tables), single)
    assert groups == []


# -- joblib's own calls ------------------------------------------------------------------


def double(k: int) -> int:
    return 2 * k


def test_tasks_without_nets() -> None:
    with stacked():
        assert joblib.Parallel()(joblib.delayed(double)(k) for k in range(500)) == [2 * k for k in range(500)]


def test_no_tasks_at_all() -> None:
    with stacked():
        assert joblib.Parallel()([]) == []


def test_large_batches_of_tasks(tables: Any, groups: list[int]) -> None:
    """A batch of tasks is one task: its nets train in turn."""

    def train(k: int) -> int:
        make_net().fit(*tables.blobs)
        return k

    with stacked(max_nets=2):
        assert joblib.Parallel(batch_size=3)(joblib.delayed(train)(k) for k in range(6)) == [*range(6)]
    assert groups == [2] * 6


def train_several(X: Any, y: Any, n_nets: int) -> list[Any]:
    nets = [make_net(random_state=seed).fit(X, y) for seed in range(n_nets)]
    return [net.predict_proba(X) for net in nets]


def test_tasks_that_fit_several_nets_in_turn(tables: Any, groups: list[int], float64: None) -> None:
    calls = [joblib.delayed(train_several)(*tables.blobs, n_nets) for n_nets in (3, 1, 2)]
    single = joblib.Parallel()(calls)
    with stacked():
        together = joblib.Parallel()(calls)
    assert_same(together, single)
    assert groups == [3, 3, 2, 2, 1, 1]


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_results_as_they_come(return_as: str, tables: Any, groups: list[int], float64: None) -> None:
    calls = [joblib.delayed(train_several)(*tables.blobs, n_nets) for n_nets in (2, 1)]
    with stacked():
        results = list(joblib.Parallel(return_as=return_as)(calls))
    assert_same(sorted(results, key=len), [train_several(*tables.blobs, n_nets) for n_nets in (1, 2)])
    assert groups == [2, 2, 1, 1]


@pytest.mark.filterwarnings("ignore::UserWarning:joblib")
@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
@pytest.mark.parametrize("n_read", [0, 1])
def test_generator_may_be_given_up(return_as: str, n_read: int, tables: Any) -> None:
    with stacked(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib says that results are lost
        results = joblib.Parallel(return_as=return_as)(
            joblib.delayed(train_several)(*tables.blobs, k) for k in range(4)
        )
        for _ in range(n_read):
            next(results)
        results.close()


def test_search_while_a_generator_is_read(tables: Any, float64: None) -> None:
    """Two calls are open at a time on one backend."""
    run = searched({"alpha": [0, 1]}, cv=2)
    single = run(tables)
    with stacked():
        results = joblib.Parallel(return_as="generator")(
            joblib.delayed(train_several)(*tables.blobs, k) for k in range(3)
        )
        for k, probas in enumerate(results):
            assert len(probas) == k
            assert_same(run(tables), single)


def test_generator_within_a_task(tables: Any, groups: list[int], float64: None) -> None:
    def read(seed: int) -> Any:
        calls = (joblib.delayed(train_several)(*tables.blobs, 1) for _ in range(2))
        inner = list(joblib.Parallel(return_as="generator")(calls))
        return [*inner, make_net(random_state=seed).fit(*tables.blobs).predict_proba(tables.blobs[0])]

    single = [read(seed) for seed in range(3)]
    with stacked():
        together = joblib.Parallel()(joblib.delayed(read)(seed) for seed in range(3))
    assert_same(together, single)
    assert groups == [6, 6, 3, 3]


def test_error_in_the_tasks_iterable_is_raised(tables: Any) -> None:
    def produce() -> Iterator[Any]:
        yield joblib.delayed(train_several)(*tables.blobs, 1)
        raise LookupError("no more")

    with stacked(), pytest.raises(LookupError, match="no more"):
        joblib.Parallel()(produce())


def test_parallel_object_is_used_again(tables: Any, groups: list[int]) -> None:
    calls = [joblib.delayed(train_several)(*tables.blobs, 1) for _ in range(3)]
    with stacked(), joblib.Parallel() as parallel:
        first, second = parallel(calls), parallel(calls)
    assert_same(first, second)
    assert groups == [3, 3, 3, 3]


def test_backend_object_is_used_by_one_call(tables: Any, groups: list[int]) -> None:
    calls = [joblib.delayed(train_several)(*tables.blobs, 1) for _ in range(3)]
    joblib.Parallel(backend=StackedBackend(max_nets=2, window=math.inf), n_jobs=-1)(calls)
    assert groups == [2, 2, 1, 1]


def test_block_within_a_task(tables: Any, float64: None) -> None:
    """A task that opens a block of its own starts a scheduler within the scheduler."""

    def run_stacked() -> Any:
        with stacked():
            return cross_val_score(make_net(), *tables.blobs, cv=3)

    single = cross_val_score(make_net(), *tables.blobs, cv=3)
    with stacked():
        together = joblib.Parallel()(joblib.delayed(run_stacked)() for _ in range(2))
    assert_same(together, [single, single])


@pytest.mark.parametrize("n_threads", [2, 4])
def test_nested_searches_on_several_threads(n_threads: int, tables: Any, float64: None) -> None:
    run = CROSS_VALIDATED["twice nested search"][0]
    single = run(tables)
    torch.set_num_threads(n_threads)
    try:
        with stacked():
            together = run(tables)
    finally:
        torch.set_num_threads(1)
    assert_same(together, single)
