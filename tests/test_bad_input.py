"""Bad input: an error that names the parameter, its rule, what was seen and what to do."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from skorch.dataset import ValidSplit
import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from sk_mixup import MixupClassifier, MixupRegressor

NAN, INF = float("nan"), float("inf")
ESTIMATORS = [MixupClassifier, MixupRegressor]


# -- options -----------------------------------------------------------------------------

COMMON = [
    ({"alpha": -1}, ValueError, r"alpha must be at least 0; got -1\. Use alpha=0 for no mixing"),
    ({"alpha": -INF}, ValueError, r"alpha must be at least 0; got -inf\."),
    ({"alpha": NAN}, ValueError, r"alpha must be at least 0; got nan\."),
    ({"alpha": np.float32("nan")}, ValueError, r"alpha must be at least 0; got .*nan"),
    ({"alpha": "1"}, TypeError, r"alpha must be a real number; got '1'\."),
    ({"alpha": None}, TypeError, r"alpha must be a real number; got None\."),
    ({"alpha": True}, TypeError, r"alpha must be a real number; got True\."),
    ({"alpha": 1 + 0j}, TypeError, r"alpha must be a real number; got \(1\+0j\)"),
    ({"alpha": [0.1, 1.0]}, TypeError, r"alpha must be a real number; got \[0\.1, 1\.0\]\."),
    ({"lam_per": "examples"}, ValueError, r"lam_per must be one of .*; got 'examples'\. .*mean 'example'\?"),
    ({"lam_per": None}, ValueError, r"lam_per must be one of 'example', 'batch'; got None\."),
    ({"n_mixed": 1}, ValueError, r"n_mixed must be at least 2; got 1\."),
    ({"n_mixed": 2.0}, TypeError, r"n_mixed must be an integer; got 2\.0\."),
    (
        {"partners": "sameclass"},
        ValueError,
        r"partners must .*; got 'sameclass'\. .*'same_class'\?",
    ),
    ({"warmup_epochs": -1}, ValueError, r"warmup_epochs must be at least 0; got -1\."),
    ({"warmup_epochs": 0.5}, TypeError, r"warmup_epochs must be an integer; got 0\.5\."),
    ({"cooldown_epochs": -1}, ValueError, r"cooldown_epochs must be at least 0; got -1\."),
    (
        {"warmup_epochs": 3, "cooldown_epochs": 3, "max_epochs": 5},
        ValueError,
        r"warmup_epochs \+ cooldown_epochs must be at most max_epochs; got 6 .*Raise max_epochs",
    ),
    ({"augment": 3}, TypeError, r"augment must be callable or None; got 3\."),
    ({"early_stopping": "yes"}, TypeError, r"early_stopping must be True or False; got 'yes'\."),
    ({"early_stopping": 1}, TypeError, r"early_stopping must be True or False; got 1\."),
    ({"n_iter_no_change": 0}, ValueError, r"n_iter_no_change must be at least 1; got 0\."),
    ({"validation_fraction": 0.0}, ValueError, r"validation_fraction must be in \(0, 1.; got 0\.0\."),
    ({"validation_fraction": 1.5}, ValueError, r"validation_fraction must be in .*; got 1\.5\."),
    ({"validation_fraction": NAN}, ValueError, r"validation_fraction must be in .*; got nan\."),
    (
        {"validation_fraction": 1.0, "early_stopping": True},
        ValueError,
        r"validation_fraction must .*; got 1\.0",
    ),
    ({"lr": -0.1}, ValueError, r"lr must be at least 0; got -0\.1\."),
    ({"lr": "0.1"}, TypeError, r"lr must be a real number; got '0\.1'\."),
    ({"lr": NAN}, ValueError, r"lr must be at least 0; got nan\."),
    ({"max_epochs": -1}, ValueError, r"max_epochs must be at least 0; got -1\."),
    ({"max_epochs": 1.5}, TypeError, r"max_epochs must be an integer; got 1\.5\."),
    ({"batch_size": 0}, ValueError, r"batch_size must be at least 1; got 0\. Use -1"),
    ({"batch_size": 8.0}, TypeError, r"batch_size must be an integer; got 8\.0\."),
    ({"train_split": "yes"}, TypeError, r"train_split must be 'auto', None or callable; got 'yes'\."),
    ({"warm_start": "no"}, TypeError, r"warm_start must be True or False; got 'no'\."),
    ({"autocast": "fp16"}, ValueError, r"autocast must be one of 'bfloat16', 'float16'; got 'fp16'\."),
    ({"random_state": -1}, ValueError, r"random_state must be at least 0; got -1\."),
    ({"random_state": "0"}, TypeError, r"random_state must be None, an int,.*; got '0'\."),
    ({"random_state": 1.0}, TypeError, r"random_state must be None, an int,.*; got 1\.0\."),
    ({"module": "mlp"}, TypeError, r"module must be .*; got 'mlp'"),
    ({"module": None}, TypeError, r"module must be .*; got None"),
    ({"optimizer": "adam"}, TypeError, r"optimizer must be .*; got 'adam'"),
]
CLASSIFIER = [
    ({"label_smoothing": -0.1}, ValueError, r"label_smoothing must be in \[0, 1\]; got -0\.1\."),
    ({"label_smoothing": 1.5}, ValueError, r"label_smoothing must be in \[0, 1\]; got 1\.5\."),
    ({"label_smoothing": NAN}, ValueError, r"label_smoothing must be in \[0, 1\]; got nan\."),
    ({"label_smoothing": "a"}, TypeError, r"label_smoothing must be a real number; got 'a'\."),
    ({"label_smoothing": 0.1, "criterion": nn.MultiMarginLoss}, ValueError, r"label_smoothing must be 0"),
    ({"class_weight": "balance"}, ValueError, r"class_weight.*balanced.*[gG]ot.*balance"),
    ({"class_weight": {0: -1.0, 1: 1.0, 2: 1.0}}, ValueError, r"class_weight must be .*at least 0.*-1"),
    ({"class_weight": {0: NAN, 1: 1.0, 2: 1.0}}, ValueError, r"class_weight must be .*; got.*nan"),
    ({"class_weight": {0: 0, 1: 0, 2: 0}}, ValueError, r"class_weight must .*0"),
    ({"class_weight": {"red": 2.0}}, ValueError, r"[cC]lass(es|_weight)?.*red"),
    ({"class_weight": 3}, (TypeError, ValueError), r"class_weight"),
    ({"criterion": "cross_entropy"}, (TypeError, ValueError), r"criterion must be .*'cross_entropy'"),
]
UNKNOWN = [
    ({"alhpa": 1}, r"alhpa must be an option of Mixup\w+; got an unknown name\. Did you mean 'alpha'\?"),
    ({"epochs": 3}, r"epochs must be an option of Mixup\w+.*Did you mean 'max_epochs'\?"),
    ({"learning_rate_init": 3}, r"learning_rate_init must be an option of Mixup\w+; got an unknown name\."),
    ({"module__hidden_layer_size": 3}, r"Did you mean 'module__hidden_layer_sizes'\?"),
    ({"optimizer__weigth_decay": 3}, r"Did you mean 'optimizer__weight_decay'\?"),
    ({"modul__hidden_layer_sizes": 3}, r"modul__hidden_layer_sizes must be an option"),
    ({"callbacks__print_lag": None}, r"print_lag must be .*Did you mean '(callbacks__)?print_log'\?"),
    ({"iterator_train__shufle": True}, r"Did you mean 'iterator_train__shuffle'\?"),
    ({"criterion__reductoin": "mean"}, r"Did you mean 'criterion__reduction'\?"),
]


def _name(options: dict[str, Any]) -> str:
    return "-".join(f"{name}={value}" for name, value in options.items())


def _with_names(rows: list[tuple]) -> list[Any]:
    """Name each row of a table of cases by its options."""
    return [pytest.param(*row, id=_name(row[0])) for row in rows]


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize(("options", "error", "match"), _with_names(COMMON))
def test_bad_option_is_refused(
    owner: type, blobs: Any, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        owner(**options).fit(blobs.X, blobs.y)


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize(("options", "match"), _with_names(UNKNOWN))
def test_unknown_option_is_refused(owner: type, blobs: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        owner(**options).fit(blobs.X, blobs.y)


@pytest.mark.parametrize(("options", "error", "match"), _with_names(CLASSIFIER))
def test_bad_classifier_option_is_refused(
    blobs: Any, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        MixupClassifier(**options).fit(blobs.X, blobs.y)


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_bad_options_are_stored_and_refused_only_by_fit(owner: type) -> None:
    net = owner(alpha=-1, n_mixed=0)
    assert net.get_params()["alpha"] == -1
    assert owner().set_params(alpha=-1).alpha == -1


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize("fitted", [False, True])
def test_set_params_refuses_an_unknown_option(owner: type, blobs: Any, fitted: bool) -> None:
    net = owner(max_epochs=1)
    if fitted:
        net.fit(blobs.X, blobs.y)
    with pytest.raises(ValueError, match=r"(?s)alhpa.*Did you mean 'alpha'\?"):
        net.set_params(alhpa=1.0)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("options", [{"alpha": -1}, {"alhpa": 1}])
def test_bad_option_is_refused_by_every_way_to_train(blobs: Any, method: str, options: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        getattr(MixupClassifier(**options), method)(blobs.X, blobs.y)


# -- X -----------------------------------------------------------------------------------


def _replace(X: np.ndarray, value: float) -> np.ndarray:
    X = X.copy()
    X[3, 2] = value
    return X


BAD_X = [
    pytest.param(lambda X: _replace(X, NAN), ValueError, r"(?s)X contains NaN", id="nan"),
    pytest.param(lambda X: _replace(X, INF), ValueError, r"X contains infinity", id="inf"),
    pytest.param(lambda X: sparse.csr_matrix(_replace(X, NAN)), ValueError, r"contains NaN", id="sparse-nan"),
    pytest.param(lambda X: torch.as_tensor(_replace(X, NAN)), ValueError, r"contains NaN", id="tensor-nan"),
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


class TwoInputs(nn.Module):
    """A linear model of the sum of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(5, 3)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.line(a + b)


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("method", ["fit", "predict"])
def test_mapping_with_values_that_are_not_finite_is_refused(blobs: Any, value: float, method: str) -> None:
    net = MixupClassifier(TwoInputs, max_epochs=1).fit({"a": blobs.X, "b": blobs.X}, blobs.y)
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
        pytest.param(lambda y: np.where(y > 1, NAN, y), r"y contains NaN", id="nan"),
        pytest.param(lambda y: np.where(y > 1, INF, y), r"y contains infinity", id="inf"),
        pytest.param(lambda y: torch.where(torch.as_tensor(y) > 1, NAN, 0.0), r"y contains NaN", id="tensor"),
        pytest.param(lambda y: pd.Series(y).where(y < 2), r"y contains NaN", id="series-nan"),
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
        pytest.param(lambda y: np.c_[y, y], r"y must be labels of shape \(n_samples,\) or", id="columns"),
        pytest.param(lambda y: 0 * y, r"two classes; got one class, .*0", id="one-class"),
        pytest.param(lambda y: np.where(y > 1, None, "a"), r"Unknown label type", id="missing-label"),
        pytest.param(lambda y: np.array([1, "a", 2], object)[y], r"Unknown label type", id="mixed-types"),
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
        (np.full((60, 3), [0, 1, 1]), r"y must be of the kind seen in fit"),
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


# -- the module's output -----------------------------------------------------------------


class Wide(nn.Module):
    """A linear model whose outputs number `width`, or have no axis of their own for None."""

    def __init__(self, width: int | None) -> None:
        super().__init__()
        self.width = width
        self.line = nn.Linear(5, width or 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.line(x)
        return output[:, 0] if self.width is None else output


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("width", [1, 2, 4, None])
def test_classifier_module_of_another_width_is_refused(blobs: Any, alpha: float, width: int | None) -> None:
    net = MixupClassifier(Wide, module__width=width, alpha=alpha)
    with pytest.raises(ValueError, match=r"module must return 3 logits per row.*last layer to 3"):
        net.fit(blobs.X, blobs.y)


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("width", [2, 4])
def test_multilabel_module_of_another_width_is_refused(multilabel: Any, alpha: float, width: int) -> None:
    with pytest.raises(ValueError, match=r"module must return 3 logits per row"):
        MixupClassifier(Wide, module__width=width, alpha=alpha).fit(multilabel.X, multilabel.y)


@pytest.mark.parametrize("alpha", [0, 1])
def test_two_logits_for_a_binary_loss_are_refused(binary: Any, alpha: float) -> None:
    net = MixupClassifier(Wide, module__width=2, alpha=alpha, criterion=nn.BCEWithLogitsLoss)
    with pytest.raises(ValueError, match=r"module must return 1 logit"):
        net.fit(binary.X, binary.y)


def test_binary_loss_for_three_classes_is_refused(blobs: Any) -> None:
    net = MixupClassifier(Wide, module__width=1, criterion=nn.BCEWithLogitsLoss)
    with pytest.raises(ValueError, match=r"BCEWithLogitsLoss|criterion must"):
        net.fit(blobs.X, blobs.y)


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("width", [2, 60])
def test_regressor_module_of_another_width_is_refused(
    line: Any, alpha: float, weighted: bool, width: int
) -> None:
    weight = 1.0 + np.arange(60) if weighted else None
    net = MixupRegressor(Wide, module__width=width, alpha=alpha, batch_size=-1)
    with pytest.raises(ValueError, match=r"module must return 1 outputs? per row"):
        net.fit(line.X, line.y, sample_weight=weight)


@pytest.mark.parametrize("width", [None, 1])
def test_targets_are_never_broadcast(line: Any, width: int | None) -> None:
    options = {"module__width": width, "lr": 0.1, "max_epochs": 60, "random_state": 0}
    net = MixupRegressor(Wide, **options).fit(line.X, line.y)
    assert net.score(line.X, line.y) > 0.9


# -- weights -----------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (-np.ones(60), r"sample_weight must be finite and at least 0; got -1\.0"),
        (np.where(np.arange(60) == 3, -2.0, 1.0), r"sample_weight must be finite and at least 0; got -2\.0"),
        (np.where(np.arange(60) == 3, NAN, 1.0), r"sample_weight must be finite and at least 0; got nan"),
        (np.where(np.arange(60) == 3, INF, 1.0), r"sample_weight must be finite and at least 0; got inf"),
        (np.zeros(60), r"sample_weight must hold a weight above 0; got only zeros"),
        (np.ones(59), r"sample_weight must be 1-dimensional.*got shape \(59,\) for 60 rows"),
        (np.ones((60, 1)), r"sample_weight must be 1-dimensional.*got shape \(60, 1\)"),
        (2.0, r"sample_weight must be 1-dimensional.*got shape \(\)"),
        (["heavy"] * 60, r"could not convert string to float"),
    ],
    ids=["negative", "one-negative", "nan", "inf", "zeros", "short", "column", "scalar", "strings"],
)
def test_bad_weights_are_refused(owner: type, blobs: Any, method: str, weight: Any, match: str) -> None:
    with pytest.raises((ValueError, TypeError), match=match):
        getattr(owner(), method)(blobs.X, blobs.y, sample_weight=weight)


def test_class_weight_for_several_labels_is_refused(multilabel: Any) -> None:
    with pytest.raises(ValueError, match="class_weight must be None for several labels"):
        MixupClassifier(class_weight="balanced").fit(multilabel.X, multilabel.y)


# -- training that goes wrong ------------------------------------------------------------


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize("alpha", [0, 1])
def test_loss_that_overflows_is_reported(owner: type, blobs: Any, alpha: float) -> None:
    net = owner(alpha=alpha, lr=1e30, optimizer=torch.optim.SGD, max_epochs=5)
    with pytest.raises(ValueError, match=r"train_loss must stay finite; got (nan|inf) in epoch \d.*lower lr"):
        net.fit(blobs.X, blobs.y)


class Breaking(nn.Linear):
    """A linear model whose output is NaN from the `after`-th training batch on."""

    def __init__(self, after: int) -> None:
        super().__init__(5, 3)
        self.calls = 0
        self.after = after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        return super().forward(x) * (NAN if self.calls >= self.after else 1.0)


@pytest.mark.parametrize(("after", "epoch"), [(1, 1), (4, 1), (5, 2), (11, 3)])
def test_loss_that_becomes_nan_names_its_epoch(blobs: Any, after: int, epoch: int) -> None:
    net = MixupClassifier(Breaking, module__after=after, batch_size=15, max_epochs=9)
    with pytest.raises(ValueError, match=rf"got nan in epoch {epoch}\. Scale the inputs"):
        net.fit(blobs.X, blobs.y)


@pytest.mark.parametrize("augment", [lambda x: x[:-1], lambda x: torch.cat([x, x])])
@pytest.mark.parametrize("alpha", [0, 1])
def test_augment_that_changes_the_number_of_rows_is_refused(blobs: Any, augment: Any, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"augment must return as many rows as it is given; got \d+ rows"):
        MixupClassifier(augment=augment, alpha=alpha).fit(blobs.X, blobs.y)


def test_held_out_share_that_leaves_no_rows_is_refused(binary: Any) -> None:
    net = MixupClassifier(early_stopping=True, validation_fraction=0.9)
    rows = [0, 1, 2]
    with pytest.raises(ValueError, match=r"validation_fraction must leave rows to train on; got 0\.9 for 3"):
        net.fit(binary.X[rows], np.array([0, 1, 1]))


# -- data sets ---------------------------------------------------------------------------


class Stream(IterableDataset):
    """Three pairs without labels known beforehand."""

    def __iter__(self) -> Any:
        return iter([(torch.zeros(5), 0), (torch.ones(5), 1), (torch.ones(5), 1)])


def _make_dataset(blobs: Any, y: Any = None) -> TensorDataset:
    return TensorDataset(torch.as_tensor(blobs.X), torch.as_tensor(blobs.y if y is None else y))


@pytest.mark.parametrize("y", [np.linspace(0, 1, 60), -np.arange(60) % 3 - 1])
def test_dataset_of_other_than_codes_is_refused(blobs: Any, y: Any) -> None:
    with pytest.raises(ValueError, match=r"targets of a Dataset must be class codes 0, 1, 2"):
        MixupClassifier().fit(_make_dataset(blobs, y))


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_weights_with_a_dataset_are_refused(owner: type, blobs: Any) -> None:
    with pytest.raises(ValueError, match=r"sample_weight must be None for a Dataset"):
        owner().fit(_make_dataset(blobs), sample_weight=np.ones(60))


def test_class_weight_with_a_dataset_is_refused(blobs: Any) -> None:
    with pytest.raises(ValueError, match=r"class_weight must be None for a Dataset"):
        MixupClassifier(class_weight="balanced").fit(_make_dataset(blobs))


def test_dataset_of_no_rows_is_refused(blobs: Any) -> None:
    empty = TensorDataset(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"X must|at least|empty"):
        MixupClassifier().fit(empty)


def test_stream_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"classes must be given for an IterableDataset; got None"):
        MixupClassifier().fit(Stream())


@pytest.mark.parametrize("partners", ["dataset", "same_class"])
def test_partners_from_beyond_the_batch_of_a_stream_are_refused(partners: str) -> None:
    net = MixupClassifier(partners=partners, classes=[0, 1])
    with pytest.raises(ValueError, match=rf"partners must be 'batch' for a data set.*; got '{partners}'"):
        net.fit(Stream())


# -- nothing is lost ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": -1},
        {"n_mixed": 1},
        {"label_smoothing": 2},
        {"class_weight": "balance"},
        {"warmup_epochs": 99},
        {"random_state": -1},
        {"validation_fraction": 1.0, "early_stopping": True},
        {"batch_size": 0},
        {"lr": -1},
    ],
    ids=_name,
)
def test_refit_with_a_bad_option_leaves_the_net_as_it_was(blobs: Any, options: dict[str, Any]) -> None:
    net = MixupClassifier(max_epochs=2, random_state=0).fit(blobs.X, blobs.y)
    expected, n_iter = net.predict_proba(blobs.X), net.n_iter_
    with pytest.raises(ValueError, match=re.escape(next(iter(options)))):
        net.set_params(**options).fit(blobs.X, np.array(["a", "b", "c"])[blobs.y])
    np.testing.assert_array_equal(net.predict_proba(blobs.X), expected)
    assert net.classes_.tolist() == [0, 1, 2]
    assert net.n_iter_ == n_iter


BAD_FITS = [
    pytest.param(lambda X, y: (_replace(X, NAN), y), {}, id="nan"),
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
