"""scikit-learn's array API: predictions are what X is, and equal those of numpy."""

from collections.abc import Callable, Iterator
import pickle

import numpy as np
import pytest
from sklearn import clone, config_context
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
import torch

from sk_mixup import MixupClassifier, MixupGAN, MixupRegressor, SemiSupervisedMixupClassifier
from tests.helpers.versions import since_sklearn

Convert = Callable[[np.ndarray], object]
CLASSES = np.repeat([3, 5, 9], 20)
X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32) + CLASSES[:, None].astype(np.float32)
UNLABELLED = np.where(np.arange(60) % 3, CLASSES, -1)
LABELS = np.stack([CLASSES > 3, CLASSES > 5], axis=1).astype(np.int64)
SMALL = {"max_epochs": 2, "random_state": 0}


def convert_to_strict(values: np.ndarray) -> object:
    strict = pytest.importorskip("array_api_strict")
    return strict.asarray(values)


@pytest.fixture(params=[torch.tensor, convert_to_strict], ids=["torch", "array_api_strict"])
def convert(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Convert]:
    """Return what makes arrays of another namespace, which scikit-learn dispatches on."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with config_context(array_api_dispatch=True):
        yield request.param


def check_is_like(values: object, expected: np.ndarray, like: object) -> None:
    assert type(values) is type(like)
    np.testing.assert_allclose(np.asarray(values), expected, rtol=0, atol=1e-6)


# scikit-learn's scaler divides by 0 in a namespace that says so.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize(
    ("net", "y", "methods"),
    [
        (MixupClassifier(**SMALL), CLASSES, ["predict", "predict_proba", "predict_log_proba"]),
        (MixupClassifier(**SMALL), LABELS, ["predict", "predict_proba"]),
        (MixupRegressor(**SMALL), X[:, 0], ["predict"]),
        (MixupRegressor(**SMALL), X[:, :2], ["predict"]),
        (SemiSupervisedMixupClassifier(**SMALL), UNLABELLED, ["predict", "predict_proba"]),
        (MixupGAN(max_epochs=1, steps_per_epoch=2, random_state=0), None, ["score_samples"]),
        pytest.param(
            make_pipeline(StandardScaler(), MixupClassifier(**SMALL)),
            CLASSES,
            ["predict", "predict_proba"],
            marks=since_sklearn(1, 8),
        ),
    ],
    ids=["classifier", "multilabel", "regressor", "two-outputs", "semi", "gan", "pipeline"],
)
def test_predictions_are_in_the_namespace_of_x(
    convert: Convert, net: BaseEstimator, y: np.ndarray | None, methods: list[str]
) -> None:
    rows, targets = convert(X), None if y is None else convert(y)
    fitted = clone(net).fit(rows, targets)
    with config_context(array_api_dispatch=False):
        alone = clone(net).fit(X, y)
        expected = [getattr(alone, method)(X) for method in methods]
    for method, values in zip(methods, expected, strict=True):
        check_is_like(getattr(fitted, method)(rows), values, rows)


def test_predictions_of_numpy_are_numpy(convert: Convert) -> None:
    net = MixupClassifier(**SMALL).fit(convert(X), convert(CLASSES))
    assert isinstance(net.predict(X), np.ndarray)


def test_classes_are_in_the_namespace_of_x_while_it_is_asked_for(convert: Convert) -> None:
    net = MixupClassifier(**SMALL).fit(convert(X), convert(CLASSES))
    check_is_like(pickle.loads(pickle.dumps(net)).classes_, np.unique(CLASSES), convert(X))
    with config_context(array_api_dispatch=False):
        assert isinstance(net.classes_, np.ndarray)
    assert isinstance(net.fit(X, CLASSES).classes_, np.ndarray)


def test_names_stay_in_numpy() -> None:
    names = np.array(list("abcdefghij"))[CLASSES]
    net = MixupClassifier(**SMALL).fit(torch.tensor(X), names)
    np.testing.assert_array_equal(net.predict(torch.tensor(X)), net.predict(X))


@since_sklearn(1, 8)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
def test_cross_val_predict_equals_numpy(convert: Convert, method: str) -> None:
    net = MixupClassifier(**SMALL)
    values = cross_val_predict(net, convert(X), convert(CLASSES), cv=2, method=method)
    with config_context(array_api_dispatch=False):
        expected = cross_val_predict(net, X, CLASSES, cv=2, method=method)
    check_is_like(values, expected, convert(X))


@pytest.mark.parametrize("net", [MixupClassifier(**SMALL), MixupRegressor(**SMALL)])
def test_scores_equal_numpy(convert: Convert, net: BaseEstimator) -> None:
    y = CLASSES if isinstance(net, MixupClassifier) else X[:, 0]
    scores = cross_val_score(net, convert(X), convert(y), cv=2)
    with config_context(array_api_dispatch=False):
        np.testing.assert_allclose(scores, cross_val_score(net, X, y, cv=2), rtol=1e-6)


@since_sklearn(1, 8)
@pytest.mark.parametrize("ensemble", [True, False])
def test_temperature_scaling_equals_numpy(convert: Convert, ensemble: bool) -> None:
    codes = np.unique(CLASSES, return_inverse=True)[1]  # scikit-learn 1.9 takes labels for codes there
    calibrated = CalibratedClassifierCV(
        MixupClassifier(**SMALL), method="temperature", cv=2, ensemble=ensemble
    )
    proba = clone(calibrated).fit(convert(X), convert(codes)).predict_proba(convert(X))
    assert type(proba) is type(convert(X))
    with config_context(array_api_dispatch=False):
        expected = calibrated.fit(X, codes).predict_proba(X)
    np.testing.assert_allclose(np.asarray(proba), expected, atol=1e-4)


def test_arrays_of_the_standard_are_taken_without_dispatch() -> None:
    strict = pytest.importorskip("array_api_strict")
    net = MixupRegressor(**SMALL).fit(strict.asarray(X), strict.asarray(X[:, 0]))
    np.testing.assert_array_equal(net.predict(X), clone(net).fit(X, X[:, 0]).predict(X))
