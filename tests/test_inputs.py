"""Every form in which examples and targets may come."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import log_loss
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset, Subset, TensorDataset

from sk_mixup import MixupClassifier, MixupRegressor

QUICK = {"early_stopping": False, "max_epochs": 3, "lr": 0.02, "batch_size": 16, "random_state": 0}
# For the tests that ask whether something is learned.
LEARN = {**QUICK, "max_epochs": 20}


@pytest.fixture(scope="module", autouse=True)
def _warn_always() -> Iterator[None]:
    """Let torch warn each time, not once a process: no test hides another's warning."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


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


# -- one logit for two classes -----------------------------------------------------------


class OneLogit(nn.Module):
    """A linear model of one output, with or without an axis of its own."""

    def __init__(self, flat: bool = False) -> None:
        super().__init__()
        self.line = nn.Linear(5, 1)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x).squeeze(1) if self.flat else self.line(x)


BINARY = {**LEARN, "module": OneLogit, "criterion": nn.BCEWithLogitsLoss, "lr": 0.1}


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0},
        {"alpha": 1},
        {"n_mixed": 3, "lam_per": "batch"},
        {"label_smoothing": 0.1},
        {"class_weight": "balanced"},
        {"early_stopping": True},
        {"criterion__pos_weight": torch.tensor(2.0)},
    ],
    ids=lambda options: "-".join(options),
)
def test_one_logit_learns_two_classes(binary: Any, flat: bool, options: dict[str, Any]) -> None:
    y = np.array(["no", "yes"])[binary.y]
    net = MixupClassifier(**{**BINARY, **options}, module__flat=flat).fit(binary.X, y)
    proba = net.predict_proba(binary.X)
    assert proba.shape == (40, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(net.predict(binary.X), net.classes_[proba.argmax(axis=1)])
    assert net.score(binary.X, y) > 0.8


@pytest.mark.parametrize("options", [{"alpha": 0}, {"alpha": 1}, {"n_mixed": 3}], ids=str)
def test_axis_of_one_logit_changes_nothing(binary: Any, options: dict[str, Any]) -> None:
    column, flat = (
        MixupClassifier(**{**BINARY, **options}, module__flat=flat).fit(binary.X, binary.y)
        for flat in (False, True)
    )
    assert flat.loss_curve_ == pytest.approx(column.loss_curve_, rel=1e-5)


def test_one_logit_has_the_likelihood_of_its_loss(binary: Any) -> None:
    net = MixupClassifier(**BINARY).fit(binary.X, binary.y)
    logits = net.forward(binary.X)[:, 0]
    expected = nn.functional.binary_cross_entropy_with_logits(logits, torch.as_tensor(binary.y).float())
    assert log_loss(binary.y, net.predict_proba(binary.X)) == pytest.approx(float(expected), rel=1e-4)


# -- arrays of any rank ------------------------------------------------------------------


class Conv(nn.Module):
    """A convolution over the last axes, averaged."""

    def __init__(self, n_axes: int) -> None:
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d}[n_axes]
        self.conv = conv(2, 4, kernel_size=3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).flatten(2).mean(dim=2))


@pytest.fixture(params=[1, 2], ids=["signals", "images"])
def images(request: pytest.FixtureRequest, blobs: Any) -> np.ndarray:
    """Signals of shape (n, 2, 6) or images of shape (n, 2, 6, 6) whose level shows the class."""
    shape = (60, 2) + request.param * (6,)
    noise = np.random.default_rng(0).normal(scale=0.1, size=shape)
    level = blobs.y.reshape((60,) + (1,) * (len(shape) - 1)) - 1.0
    return (noise + level).astype(np.float32)


def _make_conv(images: np.ndarray, **options: Any) -> MixupClassifier:
    return MixupClassifier(Conv, module__n_axes=images.ndim - 2, **{**LEARN, **options})


@pytest.mark.parametrize("options", [{}, {"alpha": 0}, {"n_mixed": 3}, {"partners": "dataset"}], ids=str)
def test_images_are_learned(images: np.ndarray, blobs: Any, options: dict[str, Any]) -> None:
    net = _make_conv(images, **options).fit(images, blobs.y)
    assert net.score(images, blobs.y) > 0.6
    assert net.n_features_in_ == 2


def test_images_are_flattened_by_the_default_module(images: np.ndarray, blobs: Any) -> None:
    net = MixupClassifier(**LEARN).fit(images, blobs.y)
    assert net.score(images, blobs.y) > 0.9
    flat = MixupClassifier(**LEARN).fit(images.reshape(60, -1), blobs.y)
    np.testing.assert_array_equal(flat.predict(images.reshape(60, -1)), net.predict(images))


def test_images_as_tensor_change_nothing(images: np.ndarray, blobs: Any) -> None:
    plain = _make_conv(images).fit(images, blobs.y).predict_proba(images)
    tensor = torch.as_tensor(images)
    np.testing.assert_array_equal(_make_conv(images).fit(tensor, blobs.y).predict_proba(tensor), plain)


def test_images_are_augmented_in_training_only(images: np.ndarray, blobs: Any) -> None:
    seen = []

    def flip(x: Tensor) -> Tensor:
        seen.append(x.shape)
        return x.flip(-1)

    net = _make_conv(images, augment=flip, max_epochs=2).fit(images, blobs.y)
    n_batches = len(seen)
    net.predict(images)
    assert n_batches == len(seen) == 2 * 4
    assert {shape[1:] for shape in seen} == {images.shape[1:]}


# -- mappings ----------------------------------------------------------------------------


class TwoInputs(nn.Module):
    """A linear model of two inputs, one of which may be codes of an embedding."""

    def __init__(self, n_codes: int = 0) -> None:
        super().__init__()
        self.embed = nn.Embedding(n_codes, 4) if n_codes else None
        self.line = nn.Linear(9, 3)

    def forward(self, values: Tensor, kind: Tensor) -> Tensor:
        return self.line(torch.cat([values, kind if self.embed is None else self.embed(kind)], dim=1))


@pytest.mark.parametrize("alpha", [0, 1])
def test_mapping_of_arrays_is_learned(blobs: Any, alpha: float) -> None:
    X = {"values": blobs.X, "kind": blobs.X[:, :4].astype(np.float64)}
    net = MixupClassifier(TwoInputs, max_epochs=20, lr=0.02, alpha=alpha, random_state=0).fit(X, blobs.y)
    assert net.score(X, blobs.y) > 0.8


def test_mapping_with_codes_is_trained_without_mixing(blobs: Any) -> None:
    X = {"values": blobs.X, "kind": blobs.y}
    options = {"module__n_codes": 3, "max_epochs": 20, "lr": 0.02, "random_state": 0}
    assert MixupClassifier(TwoInputs, alpha=0, **options).fit(X, blobs.y).score(X, blobs.y) > 0.8
    with pytest.raises(TypeError, match="X must be of a floating dtype to be mixed"):
        MixupClassifier(TwoInputs, alpha=1, **options).fit(X, blobs.y)


@pytest.mark.parametrize("options", [{"early_stopping": True}, {"partners": "same_class"}], ids=str)
def test_mapping_takes_weights_and_options(blobs: Any, options: dict[str, Any]) -> None:
    X = {"values": blobs.X, "kind": blobs.X[:, :4]}
    net = MixupClassifier(TwoInputs, max_epochs=2, **options)
    assert net.fit(X, blobs.y, sample_weight=np.arange(60) % 3).predict(X).shape == (60,)


# -- a prediction does not depend on the rows beside it ----------------------------------


@pytest.fixture(scope="module")
def wide() -> Any:
    """A net of the default width, whose products are large enough to differ by batch."""
    X = np.random.default_rng(0).normal(size=(600, 20)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    net = MixupClassifier(early_stopping=False, max_epochs=1, random_state=0).fit(X, y)
    return net, X, net.predict_proba(X)


@pytest.mark.parametrize("n_rows", [1, 2, 7, 255, 256, 257, 513])
def test_row_is_predicted_alike_among_others(wide: Any, n_rows: int) -> None:
    net, X, proba = wide
    np.testing.assert_array_equal(net.predict_proba(X[:n_rows]), proba[:n_rows])


@pytest.mark.parametrize("row", [0, 255, 256, 599])
def test_row_is_predicted_alike_alone(wide: Any, row: int) -> None:
    net, X, proba = wide
    np.testing.assert_array_equal(net.predict_proba(X[[row]])[0], proba[row])
    np.testing.assert_array_equal(net.predict_proba(sparse.csr_matrix(X[[row]]))[0], proba[row])


def test_order_of_rows_is_the_order_of_predictions(wide: Any) -> None:
    net, X, proba = wide
    order = np.random.default_rng(1).permutation(len(X))
    np.testing.assert_array_equal(net.predict_proba(X[order]), proba[order])


@pytest.mark.parametrize("batch_size", [1, 7, 1000, -1])
def test_batch_size_does_not_touch_the_prediction_of_a_table(wide: Any, batch_size: int) -> None:
    net, X, proba = wide
    net.set_params(batch_size=batch_size)
    np.testing.assert_array_equal(net.predict_proba(X), proba)


def test_prediction_twice_is_the_same(wide: Any) -> None:
    net, X, proba = wide
    np.testing.assert_array_equal(net.predict_proba(X), proba)


@pytest.mark.parametrize("n_rows", [1, 5, 59])
def test_image_is_predicted_alike_among_others(images: np.ndarray, blobs: Any, n_rows: int) -> None:
    net = _make_conv(images, max_epochs=1).fit(images, blobs.y)
    expected = net.predict_proba(images)[:n_rows]
    np.testing.assert_allclose(net.predict_proba(images[:n_rows]), expected, rtol=1e-5)


# -- last batches of one row -------------------------------------------------------------


class Normed(nn.Sequential):
    """A linear model after batch normalisation, which cannot take one row in training."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(5), nn.Linear(5, 3))


class Stream(IterableDataset):
    """Pairs from a tensor data set, in order, with no length."""

    def __init__(self, pairs: TensorDataset) -> None:
        self.pairs = pairs

    def __iter__(self) -> Any:
        return iter(self.pairs)


NORMED: dict[str, Any] = {"early_stopping": False, "batch_size": 8, "max_epochs": 2, "random_state": 0}


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("partners", ["batch", "dataset", "same_class"])
def test_last_batch_of_one_row_is_normalised(blobs: Any, alpha: float, partners: str) -> None:
    net = MixupClassifier(Normed, alpha=alpha, partners=partners, **NORMED).fit(blobs.X[:33], blobs.y[:33])
    assert np.isfinite(net.predict_proba(blobs.X)).all()
    assert sum(net.history[0, "batches", :, "train_batch_size"]) == 33


def test_last_batch_of_one_row_after_weights_is_normalised(blobs: Any) -> None:
    weight = np.arange(60) < 33
    net = MixupClassifier(Normed, **NORMED).fit(blobs.X, blobs.y, sample_weight=weight)
    assert np.isfinite(net.predict_proba(blobs.X)).all()


@pytest.mark.parametrize("n_rows", [33, 37, 41])
def test_last_batch_of_one_row_after_a_split_is_normalised(blobs: Any, n_rows: int) -> None:
    options = {**NORMED, "early_stopping": True, "validation_fraction": 0.1}
    net = MixupClassifier(Normed, **options).fit(blobs.X[:n_rows], blobs.y[:n_rows])
    assert np.isfinite(net.predict_proba(blobs.X)).all()


@pytest.mark.parametrize("wrap", [lambda pairs: pairs, lambda pairs: Subset(pairs, range(33)), Stream])
def test_last_batch_of_one_row_of_a_dataset_is_normalised(blobs: Any, wrap: Any) -> None:
    pairs = TensorDataset(torch.as_tensor(blobs.X[:33]), torch.as_tensor(blobs.y[:33]))
    net = MixupClassifier(Normed, classes=[0, 1, 2], **NORMED).fit(wrap(pairs))
    assert np.isfinite(net.predict_proba(blobs.X)).all()


# -- partial data ------------------------------------------------------------------------


def test_chunks_of_a_stream_are_learned(blobs: Any) -> None:
    net = MixupClassifier(max_epochs=1, lr=0.02, random_state=0)
    for chunk in 10 * np.array_split(np.arange(60), 3):
        net.partial_fit(blobs.X[chunk], blobs.y[chunk], classes=[0, 1, 2])
    assert net.score(blobs.X, blobs.y) > 0.8
    assert net.n_iter_ == 30


def test_first_chunk_may_lack_a_class(blobs: Any) -> None:
    few = blobs.y < 2
    net = _make_classifier().partial_fit(blobs.X[few], blobs.y[few], classes=[0, 1, 2])
    assert net.predict_proba(blobs.X).shape == (60, 3)
    net.partial_fit(blobs.X, blobs.y)
    assert net.classes_.tolist() == [0, 1, 2]


def test_chunk_of_one_row_is_trained_on(blobs: Any) -> None:
    net = _make_classifier().partial_fit(blobs.X, blobs.y)
    assert net.partial_fit(blobs.X[:1], blobs.y[:1]).n_iter_ == 6


@pytest.mark.parametrize("classes", [[0, 1, 2], (2, 1, 0), np.arange(3)], ids=str)
def test_order_of_given_classes_changes_nothing(blobs: Any, proba: np.ndarray, classes: Any) -> None:
    net = _make_classifier(classes=classes).fit(blobs.X, blobs.y)
    np.testing.assert_array_equal(net.predict_proba(blobs.X), proba)


def test_class_without_rows_has_a_column(blobs: Any) -> None:
    net = _make_classifier(classes=[0, 1, 2, 3]).fit(blobs.X, blobs.y)
    assert net.predict_proba(blobs.X).shape == (60, 4)
    assert net.classes_.tolist() == [0, 1, 2, 3]
