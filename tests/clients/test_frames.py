"""Frames of polars and pyarrow, and pandas frames of pyarrow's types, are the table that they hold."""

from collections.abc import Callable
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup.inspection import between_curves, robustness_curve
from tests.clients.conftest import Rows

COLUMNS = ["a", "b", "c", "d"]
SHORT = {"n_pairs": 20, "n_points": 3, "random_state": 0}
Make = Callable[[np.ndarray, np.ndarray], tuple[object, object]]


def as_polars(X: np.ndarray, y: np.ndarray) -> tuple[object, object]:
    polars = pytest.importorskip("polars")
    return polars.DataFrame(dict(zip(COLUMNS, X.T, strict=True))), polars.Series("y", y)


def as_pyarrow(X: np.ndarray, y: np.ndarray) -> tuple[object, object]:
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.table(dict(zip(COLUMNS, X.T, strict=True))), pyarrow.array(y)


def as_chunks(X: np.ndarray, y: np.ndarray) -> tuple[object, object]:
    pyarrow = pytest.importorskip("pyarrow")
    return as_pyarrow(X, y)[0], pyarrow.chunked_array([y[:50], y[50:]])


def as_pandas_of_arrow(X: np.ndarray, y: np.ndarray) -> tuple[object, object]:
    pytest.importorskip("pyarrow")
    backend = {"dtype_backend": "pyarrow"}
    return pd.DataFrame(X, columns=COLUMNS).convert_dtypes(**backend), pd.Series(y).convert_dtypes(**backend)


def as_nullable(X: np.ndarray, y: np.ndarray) -> tuple[object, object]:
    return pd.DataFrame(X, columns=COLUMNS).convert_dtypes(), pd.Series(y).convert_dtypes()


@pytest.mark.parametrize("make", [as_polars, as_pyarrow, as_chunks, as_pandas_of_arrow])
@pytest.mark.parametrize("target", ["codes", "names", "real"])
def test_a_frame_trains_the_net_of_its_table(
    iris: Rows, classifier: MixupClassifier, regressor: MixupRegressor, make: Make, target: str
) -> None:
    X, y = iris.X, iris.y
    y = {"codes": y, "names": np.array(["one", "two", "three"])[y], "real": X[:, 0] * 2}[target]
    net = regressor if target == "real" else classifier
    frame, targets = make(X, y)
    fitted, alone = clone(net).fit(frame, targets), clone(net).fit(X, y)
    np.testing.assert_allclose(fitted.predict(frame) == alone.predict(X), True)
    assert fitted.score(frame, targets) == pytest.approx(alone.score(X, y))


@pytest.mark.parametrize("make", [as_polars, as_pandas_of_arrow])
def test_names_of_columns_are_remembered(iris: Rows, classifier: MixupClassifier, make: Make) -> None:
    frame, targets = make(iris.X, iris.y)
    assert classifier.fit(frame, targets).feature_names_in_.tolist() == COLUMNS


@pytest.mark.parametrize("make", [as_polars, as_pandas_of_arrow])
def test_pipelines_are_cross_validated(iris: Rows, classifier: MixupClassifier, make: Make) -> None:
    model = make_pipeline(StandardScaler(), classifier)
    expected = cross_val_predict(model, iris.X, iris.y, cv=3, method="predict_proba")
    found = cross_val_predict(model, *make(iris.X, iris.y), cv=3, method="predict_proba")
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("make", [as_polars, as_pandas_of_arrow, as_nullable])
def test_frames_are_inspected_under_the_names_of_their_columns(
    iris: Rows, classifier: MixupClassifier, make: Make
) -> None:
    frame, targets = make(iris.X, iris.y)
    scale = make_column_transformer((StandardScaler(), COLUMNS))
    for model in (clone(classifier), make_pipeline(scale, clone(classifier))):
        alike = clone(model).fit(pd.DataFrame(iris.X, columns=COLUMNS), iris.y)
        model.fit(frame, targets)
        expected = between_curves(alike, pd.DataFrame(iris.X, columns=COLUMNS), iris.y, **SHORT)
        found = between_curves(model, frame, targets, **SHORT)
        np.testing.assert_array_equal(found.misses, expected.misses)
        # Of a pipeline the source has the inputs.
        curve = robustness_curve(model, frame, targets, source=classifier.fit(frame, targets), eps=[0, 0.5])
        assert curve.error[0] == pytest.approx(1 - model.score(frame, targets))


@pytest.mark.parametrize("make", [as_polars, as_pyarrow, as_pandas_of_arrow])
def test_weights_of_a_series(iris: Rows, classifier: MixupClassifier, make: Make) -> None:
    weight = np.arange(len(iris.y)) % 3 + 1.0
    series = make(iris.X, weight)[1]
    fitted = clone(classifier).fit(iris.X, iris.y, sample_weight=series)
    alone = clone(classifier).fit(iris.X, iris.y, sample_weight=weight)
    np.testing.assert_array_equal(fitted.predict_proba(iris.X), alone.predict_proba(iris.X))


# A column of a polars frame of which a user is to be told, and what of it.
TOLD = {
    "far": (lambda polars, n: polars.Series([1e4 + i % 2 for i in range(n)]), "mean 1e+04"),
    "codes": (lambda polars, n: polars.Series([i % 4 for i in range(n)]), "OneHotEncoder"),
    "small codes": (lambda polars, n: polars.Series([i % 4 for i in range(n)], dtype=polars.UInt8), "codes"),
    "numbers": (lambda polars, n: polars.Series([0.5 * (i % 4) for i in range(n)]), None),
    "few counts": (lambda polars, n: polars.Series([i % 2 for i in range(n)]), None),
}
WORDS = ["red", "green"]
REFUSED = {
    "words": (lambda polars, n: polars.Series([WORDS[i % 2] for i in range(n)]), "tabular_pipeline"),
    "category": (
        lambda polars, n: polars.Series([WORDS[i % 2] for i in range(n)], dtype=polars.Categorical),
        "tabular_pipeline",
    ),
    "gaps": (lambda polars, n: polars.Series([None if i % 9 else 0.5 for i in range(n)]), "SimpleImputer"),
    "whole gaps": (
        lambda polars, n: polars.Series([None if i % 9 else 5 for i in range(n)]),
        "SimpleImputer",
    ),
}


@pytest.mark.parametrize("kind", TOLD)
def test_a_column_of_polars_is_warned_of_by_name(iris: Rows, classifier: MixupClassifier, kind: str) -> None:
    polars = pytest.importorskip("polars")
    make, text = TOLD[kind]
    frame = as_polars(iris.X, iris.y)[0].with_columns(make(polars, len(iris.X)).alias("e"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clone(classifier).set_params(early_stopping=False).fit(frame, iris.y)
    found = [str(warning.message) for warning in caught]
    assert ["'e'" in message and text in message for message in found] == [True] * (text is not None)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_column_of_polars_is_refused_by_name(iris: Rows, classifier: MixupClassifier, kind: str) -> None:
    polars = pytest.importorskip("polars")
    make, text = REFUSED[kind]
    frame = as_polars(iris.X, iris.y)[0].with_columns(make(polars, len(iris.X)).alias("e"))
    with pytest.raises(ValueError, match=f"'e'.*{text}"):
        clone(classifier).fit(frame, iris.y)
