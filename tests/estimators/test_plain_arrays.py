"""Arrays that are taken after a look are what scikit-learn's rules make of them."""

from collections.abc import Callable
import warnings

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, column_or_1d, validate_data

from sk_mixup import MixupClassifier
from sk_mixup.estimators._inputs import read_plain_rows
from sk_mixup.estimators._real_values import RealValues
from sk_mixup.estimators._row_labels import Labels

FORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda X: X,
    "Fortran": np.asfortranarray,
    "reversed": lambda X: X[::-1, ::-1],
    "every other": lambda X: X[::2],
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS)
def test_plain_rows_are_those_of_scikit_learn(form: str, dtype: type[np.floating]) -> None:
    X = FORMS[form](np.random.default_rng(0).normal(size=(8, 3)).astype(dtype))
    net, other = MixupClassifier(), BaseEstimator()
    net.feature_names_in_ = np.array(["of", "another", "fit"])
    rows = read_plain_rows(net, X, "auto", reset=True)
    expected = validate_data(other, X, dtype=np.float32)
    assert rows is not None
    assert rows.dtype == expected.dtype
    np.testing.assert_array_equal(rows, expected)
    assert net.n_features_in_ == other.n_features_in_
    assert not hasattr(net, "feature_names_in_")
    assert (rows is X) == (expected is X)


@pytest.mark.parametrize(
    "X",
    [
        np.array([[np.nan, 1.0]]),
        np.array([[np.inf, -np.inf]]),
        np.array([[1e39, 1.0]]),
        np.zeros((0, 2)),
        np.zeros((2, 0)),
        np.zeros(2),
        np.zeros((2, 2, 2)),
        np.zeros((2, 2), dtype=int),
        np.zeros((2, 2), dtype=np.float16),
        np.zeros((2, 2), dtype=complex),
        np.zeros((2, 2)).view(np.matrix),
        [[1.0, 2.0]],
    ],
    ids=lambda X: f"{type(X).__name__} {np.asarray(X).dtype}{np.shape(X)}",
)
def test_other_rows_are_left_to_scikit_learn(X: object) -> None:
    net = MixupClassifier()
    assert read_plain_rows(net, X, "auto", reset=True) is None
    assert not hasattr(net, "n_features_in_")


@settings(max_examples=60, deadline=None)
@given(
    y=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    low=st.sampled_from([-(2**62), -3, 0, 100]),
    dtype=st.sampled_from([np.int64, np.uint64, np.int8]),
)
def test_labels_are_those_of_scikit_learn(y: list[int], low: int, dtype: type[np.integer]) -> None:
    labels = (np.array(y) + low).astype(dtype)
    with warnings.catch_warnings(record=True) as expected:
        warnings.simplefilter("always")
        kind = type_of_target(labels)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        checked = Labels.check(labels)
    assert kind in ("binary", "multiclass")
    np.testing.assert_array_equal(checked, column_or_1d(labels))
    assert {str(warning.message) for warning in found} == {str(warning.message) for warning in expected}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8])
def test_real_targets_are_those_of_scikit_learn(dtype: type[np.number]) -> None:
    y = np.random.default_rng(0).uniform(0, 9, size=7).astype(dtype)
    expected = check_array(y, ensure_2d=False, dtype=np.float32)
    np.testing.assert_array_equal(RealValues.check(y), expected)
    assert RealValues.check(y).dtype == expected.dtype


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_real_targets_must_be_finite(value: float) -> None:
    with pytest.raises(ValueError, match=r"y contains|too large"):
        RealValues.check(np.array([value, 1.0]))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e25, -1e25, 3e38, 1e300, np.inf, np.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_numbers_are_left_to_the_rules_without_a_warning(value: float, dtype: type) -> None:
    with np.errstate(over="ignore"):
        X = np.array([[0.5, value], [1.0, 2.0]], dtype=np.float64).astype(dtype)
    assert read_plain_rows(MixupClassifier(), X, "auto", reset=True) is None
