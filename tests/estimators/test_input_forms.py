"""Every form in which examples and targets may come trains the same net."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import DataConversionWarning
import torch
from torch import Tensor

from sk_mixup import MixupClassifier, MixupRegressor
from tests.helpers.nets import LEARN, QUICK

pytestmark = pytest.mark.usefixtures("warn_always")


def _make_classifier(**options: Any) -> MixupClassifier:
    return MixupClassifier(**{**QUICK, **options})


def _make_regressor(**options: Any) -> MixupRegressor:
    return MixupRegressor(**{**QUICK, **options})


def _make_read_only(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X.flags.writeable = False
    return X


# -- the same data, the same net ---------------------------------------------------------

# The values of the tables are multiples of 1/64, so that no form rounds them.
X_FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda X: X.astype(np.float64),
    "float16": lambda X: X.astype(np.float16),
    "list": lambda X: X.tolist(),
    "tuples": lambda X: tuple(map(tuple, X.tolist())),
    "frame": lambda X: pd.DataFrame(X, columns=list("abcde")),
    "frame-float64": lambda X: pd.DataFrame(X.astype(np.float64), columns=list("abcde")),
    "frame-nullable": lambda X: pd.DataFrame(X, columns=list("abcde")).astype("Float64"),
    "frame-unnamed": lambda X: pd.DataFrame(X),
    "tensor": torch.as_tensor,
    "tensor-float64": lambda X: torch.as_tensor(X).double(),
    "tensor-with-gradient": lambda X: torch.as_tensor(X).clone().requires_grad_(),
    "object": lambda X: X.astype(object),
    "fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2],
    "reversed": lambda X: X[::-1].copy()[::-1],
    "read-only": _make_read_only,
    "big-endian": lambda X: X.astype(">f4"),
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_matrix,
    "lil": sparse.lil_matrix,
    "dok": sparse.dok_matrix,
    "csr-array": sparse.csr_array,
    "csr-float64": lambda X: sparse.csr_matrix(X.astype(np.float64)),
    "csr-int64": lambda X: _widen_indices(sparse.csr_array(X)),
}


def _widen_indices(matrix: Any) -> Any:
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


def _as_case(form: Any) -> list[Any]:
    return [pytest.param(convert, id=name) for name, convert in form.items()]


@pytest.fixture(scope="module")
def proba(blobs: Any) -> np.ndarray:
    """What the net fitted on plain arrays predicts."""
    return _make_classifier().fit(blobs.X, blobs.y).predict_proba(blobs.X)


@pytest.mark.parametrize("convert", _as_case(X_FORMS))
def test_form_of_x_changes_nothing(blobs: Any, proba: np.ndarray, convert: Any) -> None:
    X = convert(blobs.X)
    np.testing.assert_array_equal(_make_classifier().fit(X, blobs.y).predict_proba(X), proba)


@pytest.mark.parametrize("convert", _as_case({k: f for k, f in X_FORMS.items() if "frame" not in k}))
def test_form_of_x_at_predict_changes_nothing(blobs: Any, proba: np.ndarray, convert: Any) -> None:
    net = _make_classifier().fit(blobs.X, blobs.y)
    np.testing.assert_array_equal(net.predict_proba(convert(blobs.X)), proba)


@pytest.mark.parametrize("convert", _as_case(X_FORMS))
def test_form_of_x_changes_nothing_in_partial_fit(blobs: Any, convert: Any) -> None:
    net = _make_classifier().fit(blobs.X, blobs.y).partial_fit(blobs.X, blobs.y)
    X = convert(blobs.X)
    same = _make_classifier().partial_fit(X, blobs.y).partial_fit(X, blobs.y)
    np.testing.assert_array_equal(same.predict_proba(X), net.predict_proba(blobs.X))


@pytest.mark.parametrize(
    "options", [{"early_stopping": True}, {"partners": "dataset"}, {"alpha": 0}], ids=str
)
def test_sparse_rows_train_as_dense_ones(blobs: Any, options: dict[str, Any]) -> None:
    X = np.where(np.abs(blobs.X) < 0.5, 0, blobs.X)
    dense = _make_classifier(**options).fit(X, blobs.y)
    thin = _make_classifier(**options).fit(sparse.csr_matrix(X), blobs.y)
    assert thin.loss_curve_ == dense.loss_curve_
    np.testing.assert_array_equal(thin.predict_proba(sparse.csr_matrix(X)), dense.predict_proba(X))


def test_sparse_rows_without_entries_are_zeros(blobs: Any) -> None:
    net = _make_classifier().fit(blobs.X, blobs.y)
    empty = sparse.csr_matrix((3, 5))
    np.testing.assert_array_equal(net.predict_proba(empty), net.predict_proba(np.zeros((3, 5))))


def test_sparse_entries_given_twice_add_up(blobs: Any) -> None:
    net = _make_classifier().fit(blobs.X, blobs.y)
    matrix = sparse.coo_matrix(blobs.X)
    parts = [np.concatenate([part, part]) for part in (matrix.data / 2, matrix.row, matrix.col)]
    twice = sparse.coo_matrix((parts[0], (parts[1], parts[2])), shape=matrix.shape)
    np.testing.assert_array_equal(net.predict_proba(twice), net.predict_proba(blobs.X))


def test_sparse_matrix_is_made_dense_batch_by_batch() -> None:
    X = sparse.random(200, 5000, density=1e-3, format="csr", random_state=0, dtype=np.float32)
    shapes = []

    def look(x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape))
        return x

    net = _make_classifier(augment=look, max_epochs=1).fit(X, np.arange(200) % 2)
    assert max(shapes) == (16, 5000)
    assert net.predict_proba(X).shape == (200, 2)


Y_FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "int32": lambda y: y.astype(np.int32),
    "uint8": lambda y: y.astype(np.uint8),
    "float": lambda y: y.astype(np.float64),
    "list": lambda y: y.tolist(),
    "series": pd.Series,
    "series-shuffled-index": lambda y: pd.Series(y, index=np.arange(60)[::-1]),
    "series-nullable": lambda y: pd.Series(y, dtype="Int64"),
    "series-category": lambda y: pd.Series(pd.Categorical(y)),
    "index": pd.Index,
    "tensor": torch.as_tensor,
    "tensor-int32": lambda y: torch.as_tensor(y).int(),
    "read-only": _make_read_only,
}


@pytest.mark.parametrize("convert", _as_case(Y_FORMS))
def test_form_of_labels_changes_nothing(blobs: Any, proba: np.ndarray, convert: Any) -> None:
    net = _make_classifier().fit(blobs.X, convert(blobs.y))
    np.testing.assert_array_equal(net.predict_proba(blobs.X), proba)


LABELS = {
    "strings": np.array(["ash", "beech", "cedar"]),
    "object-strings": np.array(["ash", "beech", "cedar"], dtype=object),
    "ints": np.array([-7, 3, 900]),
    "large-ints": np.array([2**40, 2**41, 2**62]),
    "floats": np.array([-1.0, 2.0, 7.0]),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_names_of_labels_change_nothing(blobs: Any, proba: np.ndarray, labels: np.ndarray) -> None:
    net = _make_classifier().fit(blobs.X, labels[blobs.y])
    np.testing.assert_array_equal(net.predict_proba(blobs.X), proba)
    np.testing.assert_array_equal(net.predict(blobs.X), labels[proba.argmax(axis=1)])
    np.testing.assert_array_equal(net.classes_, labels)
    assert net.predict(blobs.X).dtype == labels.dtype


@pytest.mark.parametrize("labels", [[False, True], ["no", "yes"], [-1, 1], [1, 2]], ids=str)
def test_binary_labels_are_predicted_as_given(binary: Any, labels: list) -> None:
    y = np.take(labels, binary.y)
    net = _make_classifier(**LEARN).fit(binary.X, y)
    assert net.predict_proba(binary.X).shape == (40, 2)
    assert net.score(binary.X, y) > 0.8
    assert net.predict(binary.X).dtype == y.dtype


@pytest.mark.parametrize("name", ["list", "series", "tensor", "read-only"])
def test_form_of_real_targets_changes_nothing(line: Any, name: str) -> None:
    plain = _make_regressor().fit(line.X, line.y).predict(line.X)
    same = _make_regressor().fit(line.X, Y_FORMS[name](line.y)).predict(line.X)
    np.testing.assert_array_equal(same, plain)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_dtype_of_real_targets_changes_nothing(blobs: Any, dtype: Any) -> None:
    y = blobs.y.astype(np.float32)
    plain = _make_regressor().fit(blobs.X, y).predict(blobs.X)
    np.testing.assert_array_equal(_make_regressor().fit(blobs.X, y.astype(dtype)).predict(blobs.X), plain)


WEIGHT_FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "ints": lambda w: w.astype(np.int64),
    "list": lambda w: w.tolist(),
    "series": lambda w: pd.Series(w, index=np.arange(60)[::-1]),
    "tensor": torch.as_tensor,
    "float32": lambda w: w.astype(np.float32),
}


@pytest.mark.parametrize("convert", _as_case(WEIGHT_FORMS))
def test_form_of_weights_changes_nothing(blobs: Any, convert: Any) -> None:
    weight = np.arange(60) % 4.0
    plain = _make_classifier().fit(blobs.X, blobs.y, sample_weight=weight).predict_proba(blobs.X)
    same = _make_classifier().fit(blobs.X, blobs.y, sample_weight=convert(weight))
    np.testing.assert_array_equal(same.predict_proba(blobs.X), plain)


@pytest.mark.parametrize("classes", [[0, 1, 2], (2, 1, 0), np.arange(3)], ids=str)
def test_order_of_given_classes_changes_nothing(blobs: Any, proba: np.ndarray, classes: Any) -> None:
    net = _make_classifier(classes=classes).fit(blobs.X, blobs.y)
    np.testing.assert_array_equal(net.predict_proba(blobs.X), proba)


# -- columns of targets ------------------------------------------------------------------


@pytest.mark.parametrize("make", [_make_classifier, _make_regressor])
def test_target_column_is_taken_with_a_warning(blobs: Any, make: Any) -> None:
    plain = make().fit(blobs.X, blobs.y).predict(blobs.X)
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        column = make().fit(blobs.X, blobs.y[:, None])
    np.testing.assert_array_equal(column.predict(blobs.X), plain)


@pytest.mark.parametrize("make", [_make_classifier, _make_regressor])
def test_target_frame_of_one_column_is_taken_with_a_warning(blobs: Any, make: Any) -> None:
    plain = make().fit(blobs.X, blobs.y).predict(blobs.X)
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        column = make().fit(blobs.X, pd.DataFrame({"target": blobs.y}))
    np.testing.assert_array_equal(column.predict(blobs.X), plain)


INDICATOR_FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda y: y.tolist(),
    "frame": pd.DataFrame,
    "bool": lambda y: y.astype(bool),
    "float": lambda y: y.astype(np.float64),
    "tensor": torch.as_tensor,
    "csr": sparse.csr_matrix,
    "csr-array": sparse.csr_array,
}


@pytest.mark.parametrize("convert", _as_case(INDICATOR_FORMS))
def test_form_of_indicators_changes_nothing(multilabel: Any, convert: Any) -> None:
    plain = _make_classifier().fit(multilabel.X, multilabel.y)
    same = _make_classifier().fit(multilabel.X, convert(multilabel.y))
    np.testing.assert_array_equal(same.predict_proba(multilabel.X), plain.predict_proba(multilabel.X))
    np.testing.assert_array_equal(same.predict(multilabel.X), plain.predict(multilabel.X))


@pytest.mark.parametrize("options", [{}, {"alpha": 0}, {"n_mixed": 3}, {"partners": "same_class"}], ids=str)
def test_indicators_are_learned(multilabel: Any, options: dict[str, Any]) -> None:
    predicted = MixupClassifier(**{**LEARN, **options}).fit(multilabel.X, multilabel.y).predict(multilabel.X)
    assert predicted.shape == (60, 3)
    assert set(np.unique(predicted)) <= {0, 1}
    assert np.mean(predicted == multilabel.y) > 0.75


def test_indicators_of_two_columns_are_no_classes(binary: Any) -> None:
    y = np.c_[binary.y, 1 - binary.y]
    net = _make_classifier().fit(binary.X, y)
    assert net.predict(binary.X).shape == (40, 2)
    assert net.classes_.tolist() == [0, 1]


def test_several_targets_are_learned(plane: Any) -> None:
    net = MixupRegressor(**LEARN).fit(plane.X, plane.y)
    assert net.predict(plane.X).shape == (60, 2)
    assert net.score(plane.X, plane.y) > 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_regressor_predicts_in_the_dtype_of_x(line: Any, dtype: Any) -> None:
    net = _make_regressor().fit(line.X, line.y)
    assert net.predict(line.X.astype(dtype)).dtype == dtype
