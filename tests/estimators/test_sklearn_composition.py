"""Mixup estimators inside what scikit-learn builds round an estimator."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.exceptions import FitFailedWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import DecisionBoundaryDisplay, partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sk_mixup import MixupClassifier, MixupRegressor

# Enough to learn separable blobs, in some 30 ms.
QUICK = {"early_stopping": False, "max_epochs": 10, "lr": 0.02, "batch_size": 16, "random_state": 0}
CHANCE = 1 / 3


def _make_classifier(**options: Any) -> MixupClassifier:
    return MixupClassifier(**{**QUICK, "module__hidden_layer_sizes": (16,), **options})


def _make_regressor(**options: Any) -> MixupRegressor:
    return MixupRegressor(**{**QUICK, "module__hidden_layer_sizes": (16,), **options})


@pytest.fixture(scope="module")
def frame(blobs: Any) -> pd.DataFrame:
    return pd.DataFrame(blobs.X, columns=list("abcde"))


@pytest.fixture(scope="module")
def names(blobs: Any) -> pd.Series:
    return pd.Series(np.array(["ash", "beech", "cedar"])[blobs.y])


@pytest.fixture(scope="module")
def search(frame: pd.DataFrame, names: pd.Series) -> GridSearchCV:
    """The search that a user would write."""
    pipeline = make_pipeline(StandardScaler(), _make_classifier())
    grid = {"mixupclassifier__alpha": [0, 0.4, np.inf]}
    return GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(frame, names)


# -- search ------------------------------------------------------------------------------


def test_search_learns(search: GridSearchCV, frame: Any, names: Any) -> None:
    assert search.best_score_ > 2 * CHANCE
    assert set(search.predict(frame)) <= set(names)


@pytest.mark.slow
def test_search_on_two_processes_equals_one(search: GridSearchCV, frame: Any, names: Any) -> None:
    both = clone(search).set_params(n_jobs=2).fit(frame, names)
    np.testing.assert_array_equal(both.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(both.predict_proba(frame), search.predict_proba(frame))


def test_search_result_is_clonable(search: GridSearchCV, frame: Any, names: Any) -> None:
    again = clone(search.best_estimator_).fit(frame, names)
    np.testing.assert_array_equal(again.predict_proba(frame), search.predict_proba(frame))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("alpha", [0, 1, 0.2, np.inf]),
        ("alpha", np.array([0.0, 1.0])),
        ("alpha", np.arange(2)),
        ("lam_per", ["example", "batch"]),
        ("n_mixed", [2, 3]),
        ("n_mixed", np.array([2, 3])),
        ("partners", ["batch", "dataset", "same_class"]),
        ("warmup_epochs", [0, 2]),
        ("cooldown_epochs", np.array([0, 2])),
        ("label_smoothing", [0, 0.1]),
        ("class_weight", [None, "balanced"]),
        ("early_stopping", [False, True]),
        ("early_stopping", np.array([False, True])),
        ("augment", [None, lambda x: 2 * x]),
        ("module__hidden_layer_sizes", [(), (4,), (4, 4)]),
        ("optimizer__weight_decay", [0, 1e-4]),
        ("lr", [0.01, 0.02]),
        ("batch_size", np.array([8, -1])),
        ("max_epochs", np.array([1, 2])),
    ],
)
def test_option_is_searchable(blobs: Any, name: str, values: Any) -> None:
    search = GridSearchCV(_make_classifier(max_epochs=4), {name: values}, cv=2, error_score="raise")
    search.fit(blobs.X, blobs.y)
    assert len(search.cv_results_["params"]) == len(values)
    assert search.best_estimator_.get_params()[name] in list(values)


@pytest.mark.parametrize("estimator", [_make_classifier(), _make_regressor()])
def test_two_alphas_give_two_nets(estimator: Any, blobs: Any) -> None:
    low, high = (clone(estimator).set_params(alpha=alpha).fit(blobs.X, blobs.y) for alpha in (0.1, 1))
    assert low.loss_curve_ != high.loss_curve_


def test_failed_candidate_scores_nan_and_the_others_stand(blobs: Any) -> None:
    search = GridSearchCV(_make_classifier(), {"alpha": [0.4, -1.0]}, cv=2)
    with (
        pytest.warns(FitFailedWarning, match="alpha must be at least 0"),
        pytest.warns(UserWarning, match="non-finite"),
    ):
        search.fit(blobs.X, blobs.y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]
    assert search.best_params_ == {"alpha": 0.4}


def test_failed_candidate_raises_on_demand(blobs: Any) -> None:
    search = GridSearchCV(_make_classifier(), {"alpha": [-1.0]}, cv=2, error_score="raise")
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        search.fit(blobs.X, blobs.y)


def test_randomized_search_draws_alpha(blobs: Any) -> None:
    from scipy.stats import loguniform

    search = RandomizedSearchCV(
        _make_classifier(), {"alpha": loguniform(0.1, 2)}, n_iter=3, cv=2, random_state=0
    )
    assert 0.1 <= search.fit(blobs.X, blobs.y).best_params_["alpha"] <= 2


STOPPING = {"early_stopping": True, "n_iter_no_change": 3, "max_epochs": 40, "lr": 0.1}


def _get_valid_loss(net: MixupClassifier, X: Any, y: Any) -> float:
    """Return the loss of a fitted net on the rows that it held out."""
    codes = np.searchsorted(net.classes_, y)
    valid = net.get_split_datasets(np.asarray(X, dtype=np.float32), codes)[1]
    losses = [(float(net.validation_step(batch)["loss"]), len(batch[1])) for batch in net.get_iterator(valid)]
    return float(np.average([loss for loss, _ in losses], weights=[size for _, size in losses]))


@pytest.mark.slow
def test_early_stopping_in_a_search_on_two_processes_keeps_the_best_weights(blobs: Any) -> None:
    search = GridSearchCV(_make_classifier(**STOPPING), {"alpha": [0.2, 1]}, cv=2, n_jobs=2)
    net = search.fit(blobs.X, blobs.y).best_estimator_
    assert net.n_iter_ < net.max_epochs
    expected = min(net.history[:, "valid_loss"])
    assert _get_valid_loss(net, blobs.X, blobs.y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cooldown_epochs", [0, 2])
def test_early_stopping_counts_mixed_epochs_only(blobs: Any, cooldown_epochs: int) -> None:
    options = {**STOPPING, "cooldown_epochs": cooldown_epochs}
    net = _make_classifier(**options).fit(blobs.X, blobs.y)
    mixed = net.history[: net.n_iter_ - cooldown_epochs, "valid_loss"]
    assert len(mixed) - 1 - int(np.argmin(mixed)) == net.n_iter_no_change


# -- the search's result as an estimator -------------------------------------------------


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_search_result_in_cross_val_predict(search: Any, frame: Any, names: Any, method: str) -> None:
    result = cross_val_predict(search.best_estimator_, frame, names, cv=3, method=method)
    predicted = result if method == "predict" else search.classes_[result.argmax(axis=1)]
    assert np.mean(predicted == names) > 2 * CHANCE


def test_whole_search_in_cross_val_score(search: Any, frame: Any, names: Any) -> None:
    nested = clone(search).set_params(cv=2)
    assert cross_val_score(nested, frame, names, cv=2).min() > CHANCE


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_search_result_is_calibrated(
    search: Any, frame: Any, names: Any, ensemble: bool, method: str
) -> None:
    net = CalibratedClassifierCV(search.best_estimator_, ensemble=ensemble, method=method, cv=2)
    assert net.fit(frame, names).score(frame, names) > 2 * CHANCE
    np.testing.assert_allclose(net.predict_proba(frame).sum(axis=1), 1, rtol=1e-5)


def test_search_result_is_calibrated_without_a_refit(search: Any, frame: Any, names: Any) -> None:
    net = CalibratedClassifierCV(FrozenEstimator(search.best_estimator_)).fit(frame, names)
    assert net.score(frame, names) > 2 * CHANCE


def _stack(net: Any) -> Any:
    return StackingClassifier([("mixup", net), ("line", LogisticRegression())], cv=2)


def _vote(net: Any) -> Any:
    return VotingClassifier([("mixup", net), ("line", LogisticRegression())], voting="soft")


def _bag(net: Any) -> Any:
    return BaggingClassifier(net, n_estimators=3, random_state=0, max_features=4)


@pytest.mark.parametrize("build", [_stack, _vote, _bag, OneVsRestClassifier, OneVsOneClassifier])
def test_search_result_in_a_meta_classifier(search: Any, frame: Any, names: Any, build: Any) -> None:
    meta = build(clone(search.best_estimator_)).fit(frame.to_numpy(), names)
    assert meta.score(frame.to_numpy(), names) > 2 * CHANCE


def test_search_result_has_permutation_importances(search: Any, frame: Any, names: Any) -> None:
    result = permutation_importance(search, frame, names, n_repeats=2, random_state=0)
    assert result.importances_mean.shape == (5,)
    assert result.importances_mean.max() > 0


# -- estimators in meta-estimators -------------------------------------------------------


def test_boosting_weighs_the_rows(blobs: Any) -> None:
    net = AdaBoostClassifier(_make_classifier(), n_estimators=3, random_state=0).fit(blobs.X, blobs.y)
    assert net.score(blobs.X, blobs.y) > 2 * CHANCE


@pytest.mark.parametrize(
    "meta",
    [
        TransformedTargetRegressor(_make_regressor(), transformer=StandardScaler()),
        BaggingRegressor(_make_regressor(), n_estimators=3, random_state=0),
        AdaBoostRegressor(_make_regressor(), n_estimators=3, random_state=0),
        StackingRegressor([("mixup", _make_regressor())], cv=2),
        make_pipeline(StandardScaler(), _make_regressor()),
    ],
    ids=lambda meta: type(meta).__name__,
)
def test_regressor_in_a_meta_regressor(line: Any, meta: Any) -> None:
    assert clone(meta).fit(line.X, line.y).score(line.X, line.y) > 0.5


def test_transformed_target_regressor_scales_targets(line: Any) -> None:
    net = TransformedTargetRegressor(_make_regressor(), transformer=StandardScaler())
    assert net.fit(line.X, 1000 * line.y + 1e5).score(line.X, 1000 * line.y + 1e5) > 0.5


@pytest.mark.parametrize("meta", [MultiOutputClassifier, ClassifierChain])
def test_classifier_for_each_label(multilabel: Any, meta: Any) -> None:
    net = meta(_make_classifier()).fit(multilabel.X, multilabel.y)
    assert np.mean(net.predict(multilabel.X) == multilabel.y) > 0.7


def test_regressor_for_each_target(plane: Any) -> None:
    net = MultiOutputRegressor(_make_regressor()).fit(plane.X, plane.y)
    assert net.score(plane.X, plane.y) > 0.5


def test_threshold_is_tuned(binary: Any) -> None:
    net = TunedThresholdClassifierCV(_make_classifier(), cv=2).fit(binary.X, binary.y)
    assert net.score(binary.X, binary.y) > 0.8


def test_features_are_selected(blobs: Any) -> None:
    selector = SequentialFeatureSelector(_make_classifier(max_epochs=2), n_features_to_select=2, cv=2)
    assert selector.fit(blobs.X, blobs.y).get_support().sum() == 2


# -- scoring and inspection --------------------------------------------------------------


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "roc_auc_ovr", "f1_macro"])
def test_classifier_is_scored(blobs: Any, scoring: str) -> None:
    scores = cross_val_score(_make_classifier(), blobs.X, blobs.y, scoring=scoring, cv=2)
    assert np.isfinite(scores).all()


def test_cross_validate_returns_nets_and_train_scores(blobs: Any) -> None:
    result = cross_validate(
        _make_classifier(), blobs.X, blobs.y, cv=2, return_estimator=True, return_train_score=True
    )
    assert result["train_score"].min() > CHANCE
    assert all(net.n_iter_ == 10 for net in result["estimator"])


def test_learning_curve_has_a_point_per_size(blobs: Any) -> None:
    sizes, _, test_scores = learning_curve(
        _make_classifier(max_epochs=2), blobs.X, blobs.y, train_sizes=[0.5, 1.0], cv=2, shuffle=True
    )
    assert len(sizes) == len(test_scores) == 2


def test_partial_dependence_is_computed(line: Any) -> None:
    net = _make_regressor().fit(line.X, line.y)
    result = partial_dependence(net, line.X, features=[0], grid_resolution=5)
    assert np.isfinite(result["average"]).all()


@pytest.mark.parametrize("response_method", ["predict", "predict_proba", "auto"])
def test_decision_boundary_is_drawn(binary: Any, response_method: str) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    net = _make_classifier().fit(binary.X[:, :2], binary.y)
    display = DecisionBoundaryDisplay.from_estimator(
        net, binary.X[:, :2], grid_resolution=8, response_method=response_method
    )
    pyplot.close(display.figure_)
    assert display.response.shape[:2] == (8, 8)


# -- preprocessing -----------------------------------------------------------------------


@pytest.fixture
def texts() -> tuple[list[str], list[str]]:
    topics = {"sea": "wave boat salt tide fish", "hill": "rock path snow goat peak"}
    generator = np.random.default_rng(0)
    labels = [*topics] * 20
    words = [generator.choice(topics[label].split(), size=4) for label in labels]
    return [" ".join(row) for row in words], labels


def test_text_is_classified_from_sparse_features(texts: Any) -> None:
    words, labels = texts
    pipeline = make_pipeline(TfidfVectorizer(), _make_classifier())
    pipeline.fit(words[:30], labels[:30])
    assert pipeline.score(words[30:], labels[30:]) > 0.8


def test_mixed_columns_are_encoded_before(frame: pd.DataFrame, names: pd.Series) -> None:
    table = frame.assign(kind=np.where(frame["a"] > 0, "warm", "cold"))
    encode = make_column_transformer((OneHotEncoder(), ["kind"]), remainder=StandardScaler())
    pipeline = make_pipeline(encode, _make_classifier()).fit(table, names)
    assert pipeline.score(table, names) > 2 * CHANCE


@pytest.mark.parametrize("output", ["pandas", "default"])
def test_container_of_transformer_changes_nothing(frame: Any, names: Any, output: str) -> None:
    pipeline = make_pipeline(StandardScaler(), _make_classifier(max_epochs=2))
    plain = pipeline.fit(frame, names).predict_proba(frame)
    same = clone(pipeline).set_output(transform=output).fit(frame, names).predict_proba(frame)
    np.testing.assert_array_equal(same, plain)


def test_text_pipeline_is_searched(texts: Any) -> None:
    pipeline = make_pipeline(TfidfVectorizer(), _make_classifier())
    search = GridSearchCV(pipeline, {"mixupclassifier__alpha": [0, 0.5]}, cv=2)
    assert search.fit(*texts).best_score_ > 0.7
