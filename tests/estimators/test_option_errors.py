"""Bad options: an error that names the option, its rule, what was seen and what to do."""

from math import inf, nan
import re
from typing import Any

import numpy as np
import pytest
from torch import nn

from sk_mixup import MixupClassifier
from tests.helpers.nets import ESTIMATORS

COMMON = [
    ({"alpha": -1}, ValueError, r"alpha must be at least 0; got -1\. Use alpha=0 for no mixing"),
    ({"alpha": -inf}, ValueError, r"alpha must be at least 0; got -inf\."),
    ({"alpha": nan}, ValueError, r"alpha must be at least 0; got nan\."),
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
    ({"validation_fraction": nan}, ValueError, r"validation_fraction must be in .*; got nan\."),
    (
        {"validation_fraction": 1.0, "early_stopping": True},
        ValueError,
        r"validation_fraction must .*; got 1\.0",
    ),
    ({"lr": -0.1}, ValueError, r"lr must be finite and greater than 0; got -0\.1\."),
    ({"lr": "0.1"}, TypeError, r"lr must be a real number; got '0\.1'\."),
    ({"lr": nan}, ValueError, r"lr must be finite and greater than 0; got nan\."),
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
    ({"label_smoothing": nan}, ValueError, r"label_smoothing must be in \[0, 1\]; got nan\."),
    ({"label_smoothing": "a"}, TypeError, r"label_smoothing must be a real number; got 'a'\."),
    ({"label_smoothing": 0.1, "criterion": nn.MultiMarginLoss}, ValueError, r"label_smoothing must be 0"),
    ({"class_weight": "balance"}, ValueError, r"class_weight.*balanced.*[gG]ot.*balance"),
    ({"class_weight": {0: -1.0, 1: 1.0, 2: 1.0}}, ValueError, r"class_weight must be .*at least 0.*-1"),
    ({"class_weight": {0: nan, 1: 1.0, 2: 1.0}}, ValueError, r"class_weight must be .*; got.*nan"),
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


@pytest.mark.parametrize("device", ["cudda", "cuda:99", 3.5])
def test_device_that_is_not_there_is_refused(blobs: Any, device: Any) -> None:
    net = MixupClassifier(device=device, max_epochs=1)
    with pytest.raises(ValueError, match=r"device must be one that torch finds here; got .* Use 'cpu'\."):
        net.fit(blobs.X, blobs.y)
