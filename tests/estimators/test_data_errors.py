"""Bad data: an error that names the argument, its rule, what was seen and what to do."""

from math import inf, nan
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from skorch.dataset import ValidSplit
import torch
from torch.utils.data import TensorDataset

from sk_mixup import MixupClassifier, MixupRegressor
from tests.helpers.datasets import Stream, make_tensor_dataset
from tests.helpers.nets import ESTIMATORS, Sum

# -- X -----------------------------------------------------------------------------------


def _replace(X: np.ndarray, value: float) -> np.ndarray:
    X = X.copy()
    X[3, 2] = value
    return X


BAD_X = [
    pytest.param(lambda X: _replace(X, nan), ValueError, r"(?s)X contains NaN", id="nan"),
    pytest.param(lambda X: _replace(X, inf), ValueError, r"X contains infinity", id="inf"),
    pytest.param(lambda X: sparse.csr_matrix(_replace(X, nan)), ValueError, r"contains NaN", id="sparse-nan"),
    pytest.param(lambda X: torch.as_tensor(_replace(X, nan)), ValueError, r"contains NaN", id="tensor-nan"),
    pytest.param(lambda X: X[:, 0], ValueError, r"(?s)1D array.*Reshape", id="one-dimension"),
    pytest.param(lambda X: X[:, :0], ValueError, r"0 feature", id="no-features"),
    pytest.param(lambda X: X + 1j, ValueError, r"Complex data not supported", id="complex"),
    pytest.param(lambda X: X.astype(str)[:, :1] + "x", ValueError, r"could not convert string", id="strings"),
    pytest.param(lambda _: None, ValueError, r"(?s)Expected 2D array.*Reshape", id="none"),
    pytest.param(lambda X: {"a": X, "b": X[:9]}, ValueError, r"X must hold arrays of equal", id="dict"),
    pytest.param(lambda _: {}, ValueError, r"X must hold arrays of equal", id="empty-dict"),
]


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize(("spoil", "error", "match"), BAD_X)
def test_bad_x_is_refused_in_fit(owner: type, blobs: Any, spoil: Any, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        owner().fit(spoil(blobs.X), blobs.y)


@pytest.fixture(scope="module")
def fitted(blobs: Any) -> MixupClassifier:
    return MixupClassifier(max_epochs=1, random_state=0).fit(blobs.X, blobs.y)


@pytest.mark.parametrize(("spoil", "error", "match"), BAD_X)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "forward"])
def test_bad_x_is_refused_in_predict(
    fitted: Any, blobs: Any, method: str, spoil: Any, error: type, match: str
) -> None:
    with pytest.raises(error, match=match):
        getattr(fitted, method)(spoil(blobs.X))


# The cast itself warns, as in any estimator of scikit-learn that works in float32.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("owner", ESTIMATORS)
def test_values_too_large_for_float32_are_refused(owner: type, blobs: Any) -> None:
    with pytest.raises(ValueError, match=r"X contains infinity or a value too large for dtype\('float32'\)"):
        owner().fit(blobs.X.astype(np.float64) * 1e60, blobs.y)


@pytest.mark.parametrize("value", [nan, inf])
@pytest.mark.parametrize("method", ["fit", "predict"])
def test_mapping_with_values_that_are_not_finite_is_refused(blobs: Any, value: float, method: str) -> None:
    net = MixupClassifier(Sum, max_epochs=1).fit({"a": blobs.X, "b": blobs.X}, blobs.y)
    args = (blobs.y,) if method == "fit" else ()
    with pytest.raises(ValueError, match=r"b.* contains (NaN|infinity)|b.* must be finite"):
        getattr(net, method)({"a": blobs.X, "b": _replace(blobs.X, value)}, *args)


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize(
    ("n_rows", "match"),
    [(0, r"0 sample\(s\).*minimum of|empty"), (1, r"1 sample\(s\).*minimum of 2|n_samples=1|one class")],
)
def test_too_few_rows_are_refused(owner: type, blobs: Any, n_rows: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        owner().fit(blobs.X[:n_rows], blobs.y[:n_rows])


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_no_rows_to_predict_are_refused(owner: type, blobs: Any) -> None:
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        owner(max_epochs=1).fit(blobs.X, blobs.y).predict(blobs.X[:0])


@pytest.mark.parametrize("width", [4, 6])
@pytest.mark.parametrize("method", ["predict", "predict_proba", "forward", "partial_fit"])
def test_another_number_of_features_is_refused(fitted: Any, blobs: Any, width: int, method: str) -> None:
    X = np.tile(blobs.X, 2)[:, :width]
    args = (X, blobs.y) if method == "partial_fit" else (X,)
    with pytest.raises(ValueError, match=rf"X has {width} features.*expecting 5 features"):
        getattr(fitted, method)(*args)


def test_another_shape_of_examples_is_refused(blobs: Any) -> None:
    images = np.tile(blobs.X[:, None, :, None], (1, 1, 1, 4))
    net = MixupClassifier(max_epochs=1).fit(images, blobs.y)
    with pytest.raises(ValueError, match=r"shape seen in fit, \(1, 5, 4\); got \(1, 5, 3\)"):
        net.predict(images[..., :3])


@pytest.mark.parametrize("method", ["predict", "predict_proba", "forward", "score"])
def test_classifier_predicts_nothing_before_fit(blobs: Any, method: str) -> None:
    args = (blobs.X, blobs.y) if method == "score" else (blobs.X,)
    with pytest.raises(NotFittedError, match="fit"):
        getattr(MixupClassifier(), method)(*args)


def test_regressor_predicts_nothing_before_fit(line: Any) -> None:
    with pytest.raises(NotFittedError, match="fit"):
        MixupRegressor().predict(line.X)


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_initialize_without_data_says_what_is_missing(owner: type) -> None:
    with pytest.raises(ValueError, match=r"module__in_features and module__out_features must be given"):
        owner().initialize()


# -- y -----------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        pytest.param(lambda _: None, r"requires y to be passed|y must be given", id="none"),
        pytest.param(lambda y: y[:-1], r"inconsistent numbers of samples: \[60, 59\]", id="too-short"),
        pytest.param(lambda y: np.where(y > 1, nan, y), r"y contains missing values; got 20 of 60", id="nan"),
        pytest.param(lambda y: np.where(y > 1, inf, y), r"y contains infinity", id="inf"),
        pytest.param(
            lambda y: torch.where(torch.as_tensor(y) > 1, nan, 0.0), r"y contains missing", id="tensor"
        ),
        pytest.param(lambda y: pd.Series(y).where(y < 2), r"y contains missing", id="series-nan"),
        pytest.param(lambda y: y[:, None, None], r"y|dim|shape", id="three-dimensions"),
        pytest.param(lambda _: 3, r"y|0d|scalar|Singleton", id="scalar"),
    ],
)
def test_bad_y_is_refused(owner: type, blobs: Any, spoil: Any, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        owner().fit(blobs.X, spoil(blobs.y))


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        pytest.param(lambda y: y + 0.25, r"Unknown label type: continuous", id="continuous"),
        pytest.param(lambda y: np.c_[y, y] + 0.25, r"Unknown label type", id="continuous-columns"),
        pytest.param(lambda y: np.c_[y, y], r"for a label per step; .* sklearn.multioutput", id="columns"),
        pytest.param(lambda y: 0 * y, r"two classes; got one class, .*0", id="one-class"),
        pytest.param(lambda y: np.where(y > 1, None, "a"), r"y contains missing values", id="missing-label"),
        pytest.param(
            lambda y: np.array([1, "a", 2], object)[y],
            "labels of one type; got int and str",
            id="mixed-types",
        ),
    ],
)
def test_bad_labels_are_refused(blobs: Any, spoil: Any, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        MixupClassifier().fit(blobs.X, spoil(blobs.y))


def test_string_targets_of_a_regression_are_refused(line: Any) -> None:
    with pytest.raises(ValueError, match="could not convert string"):
        MixupRegressor().fit(line.X, np.array(["a", "b", "c"])[np.arange(60) % 3])


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.full(60, 7), r"labels among the classes .*; got .*7.*Call fit"),
        (np.full(60, -7), r"labels among the classes .*; got .*-7.*Call fit"),
        (
            np.full((60, 3), [0, 1, 1]),
            r"y must be one label per row, as in fit; got an array of shape \(60, 3\)",
        ),
    ],
    ids=["above", "below", "indicators"],
)
def test_new_labels_in_partial_fit_are_refused(fitted: Any, blobs: Any, y: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        fitted.partial_fit(blobs.X, y)


@pytest.mark.parametrize("labels", [["a", "b"], [0, 1]])
def test_labels_of_another_type_in_partial_fit_are_refused(blobs: Any, labels: list) -> None:
    other = {"a": [0, 1], 0: ["a", "b"]}[labels[0]]
    net = MixupClassifier(max_epochs=1).fit(blobs.X, np.take(labels, blobs.y % 2))
    with pytest.raises((ValueError, TypeError), match=r"y must hold labels among the classes"):
        net.partial_fit(blobs.X, np.take(other, blobs.y % 2))


def test_label_outside_of_classes_is_refused(blobs: Any) -> None:
    with pytest.raises(ValueError, match=r"labels among the classes .*; got .*2"):
        MixupClassifier(classes=[0, 1]).fit(blobs.X, blobs.y)


def test_another_number_of_targets_in_partial_fit_is_refused(line: Any, plane: Any) -> None:
    net = MixupRegressor(max_epochs=1).fit(plane.X, plane.y)
    with pytest.raises(ValueError, match=r"y must hold 2 targets per row, as in fit; got 1"):
        net.partial_fit(line.X, line.y)


# -- weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (-np.ones(60), r"sample_weight must be finite and at least 0; got -1\.0"),
        (np.where(np.arange(60) == 3, -2.0, 1.0), r"sample_weight must be finite and at least 0; got -2\.0"),
        (np.where(np.arange(60) == 3, nan, 1.0), r"sample_weight must be finite and at least 0; got nan"),
        (np.where(np.arange(60) == 3, inf, 1.0), r"sample_weight must be finite and at least 0; got inf"),
        (np.zeros(60), r"sample_weight must hold a weight above 0; got only zeros"),
        (np.ones(59), r"sample_weight must be 1-dimensional.*got shape \(59,\) for 60 rows"),
        (np.ones((60, 1)), r"sample_weight must be 1-dimensional.*got shape \(60, 1\)"),
        (2.0, r"sample_weight must be 1-dimensional.*got shape \(\)"),
        (["heavy"] * 60, r"sample_weight must hold real numbers; got values of dtype"),
    ],
    ids=["negative", "one-negative", "nan", "inf", "zeros", "short", "column", "scalar", "strings"],
)
def test_bad_weights_are_refused(owner: type, blobs: Any, method: str, weight: Any, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        getattr(owner(), method)(blobs.X, blobs.y, sample_weight=weight)


def test_class_weight_for_several_labels_is_refused(multilabel: Any) -> None:
    with pytest.raises(ValueError, match=r"class_weight must be None for indicators of \d labels; got"):
        MixupClassifier(class_weight="balanced").fit(multilabel.X, multilabel.y)


# -- data sets ---------------------------------------------------------------------------

STREAM = Stream([(torch.zeros(5), 0), (torch.ones(5), 1), (torch.ones(5), 1)])


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_weights_with_a_dataset_are_refused(owner: type, blobs: Any) -> None:
    with pytest.raises(ValueError, match=r"sample_weight must be None for a Dataset"):
        owner().fit(make_tensor_dataset(blobs.X, blobs.y), sample_weight=np.ones(60))


def test_class_weight_with_a_dataset_is_refused(blobs: Any) -> None:
    with pytest.raises(ValueError, match=r"class_weight must be None for a Dataset"):
        MixupClassifier(class_weight="balanced").fit(make_tensor_dataset(blobs.X, blobs.y))


def test_dataset_of_no_rows_is_refused(blobs: Any) -> None:
    empty = TensorDataset(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"X must|at least|empty"):
        MixupClassifier().fit(empty)


def test_stream_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"classes must be given for an IterableDataset; got None"):
        MixupClassifier().fit(STREAM)


@pytest.mark.parametrize("partners", ["dataset", "same_class"])
def test_partners_from_beyond_the_batch_of_a_stream_are_refused(partners: str) -> None:
    net = MixupClassifier(partners=partners, classes=[0, 1])
    with pytest.raises(ValueError, match=rf"partners must be 'batch' for a data set.*; got '{partners}'"):
        net.fit(STREAM)


# -- nothing is lost ---------------------------------------------------------------------

BAD_FITS = [
    pytest.param(lambda X, y: (_replace(X, nan), y), {}, id="nan"),
    pytest.param(lambda X, y: (X, y[:-1]), {}, id="short-y"),
    pytest.param(lambda X, y: (X, y * 0), {}, id="one-class"),
    pytest.param(lambda X, y: (X[:, :3], y * 0), {}, id="fewer-features-and-one-class"),
    pytest.param(lambda X, y: (X[:, :, None], y * 0), {}, id="images-and-one-class"),
    pytest.param(lambda X, y: (X, y + 5), {"sample_weight": -np.ones(60)}, id="weights"),
]


def _check_training_fails_without_a_trace(blobs: Any, method: str, spoil: Any, fit_params: dict) -> None:
    net = MixupClassifier(max_epochs=2, random_state=0).fit(blobs.X, blobs.y)
    expected = net.predict_proba(blobs.X)
    with pytest.raises(ValueError, match=r"X|y|sample_weight"):
        getattr(net, method)(*spoil(blobs.X, blobs.y), **fit_params)
    np.testing.assert_array_equal(net.predict_proba(blobs.X), expected)
    assert net.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("spoil", "fit_params"), BAD_FITS)
def test_refit_on_bad_data_leaves_the_net_as_it_was(blobs: Any, spoil: Any, fit_params: dict) -> None:
    _check_training_fails_without_a_trace(blobs, "fit", spoil, fit_params)


@pytest.mark.parametrize(("spoil", "fit_params"), [BAD_FITS[0], BAD_FITS[1], BAD_FITS[5]])
def test_partial_fit_on_bad_data_leaves_the_net_as_it_was(blobs: Any, spoil: Any, fit_params: dict) -> None:
    _check_training_fails_without_a_trace(blobs, "partial_fit", spoil, fit_params)


def test_fit_writes_to_none_of_its_arguments(blobs: Any) -> None:
    X, y, weight = blobs.X.copy(), blobs.y.copy(), np.arange(60.0)
    net = MixupClassifier(max_epochs=2, augment=lambda x: x.mul_(2), train_split=ValidSplit(3))
    net.fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(X, blobs.X)
    np.testing.assert_array_equal(y, blobs.y)
    np.testing.assert_array_equal(weight, np.arange(60.0))
