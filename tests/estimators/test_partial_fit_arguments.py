"""The arguments of `partial_fit` beside X and y: those of scikit-learn's estimators of the kind."""

from typing import Any

import numpy as np
import pytest
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.utils.metadata_routing import get_routing_for_object
from torch import nn

from sk_mixup import MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier
from tests.helpers.nets import get_weights, is_equal

OWN = {"module__hidden_layer_sizes": (6,), "max_epochs": 2, "batch_size": 16, "random_state": 0}
X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
CODES = np.arange(40) % 3
CLASSIFIERS = [MixupClassifier, SemiSupervisedMixupClassifier]
WEIGHT = np.arange(40) % 4 + 0.5


@pytest.mark.parametrize("y", [X[:, 0], X[:, :2]], ids=["one column", "two"])
def test_the_third_argument_of_a_regressor_is_the_weights(y: np.ndarray) -> None:
    named = MixupRegressor(**OWN).partial_fit(X, y, sample_weight=WEIGHT)
    third = MixupRegressor(**OWN).partial_fit(X, y, WEIGHT)
    plain = MixupRegressor(**OWN).partial_fit(X, y)
    assert is_equal(get_weights(third), get_weights(named))
    assert not is_equal(get_weights(third), get_weights(plain))


@pytest.mark.parametrize("owner", CLASSIFIERS)
def test_the_third_argument_of_a_classifier_is_the_classes(owner: Any) -> None:
    net = owner(**OWN).partial_fit(X, CODES, [0, 1, 2, 3], WEIGHT)
    named = owner(**OWN).partial_fit(X, CODES, classes=[0, 1, 2, 3], sample_weight=WEIGHT)
    assert net.classes_.tolist() == [0, 1, 2, 3]
    assert is_equal(get_weights(net), get_weights(named))


NAMES = np.array(["a", "b", "c"])
SOFT = 0.8 * np.eye(3)[CODES] + 0.2 / 3
KINDS = [
    *((owner, CODES, [0, 1, 2], True) for owner in CLASSIFIERS),
    *((owner, NAMES[CODES], ["a", "b", "c"], True) for owner in CLASSIFIERS),
    (MixupClassifier, np.eye(3, dtype=int)[CODES], ["a", "b", "c"], False),
    (MixupClassifier, SOFT, ["a", "b", "c"], False),
    (MixupClassifier, np.tile(CODES[:, None], (1, 4)), [0, 1, 2], True),
]


def fit_first(owner: Any, y: np.ndarray, classes: Any) -> Any:
    module = {}
    if y.shape == (40, 4):  # a label for each of four pixels
        module = {"module": nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 1))}
    options = {name: value for name, value in OWN.items() if not module or not name.startswith("module")}
    return owner(**options, **module).partial_fit(X, y, classes=classes)


@pytest.mark.parametrize(("owner", "y", "classes", "_any_order"), KINDS)
def test_later_calls_take_the_same_classes_or_none(
    owner: Any, y: Any, classes: Any, _any_order: bool
) -> None:
    for given in (classes, np.array(classes), None):
        net = fit_first(owner, y, classes).partial_fit(X, y, classes=given)
        assert net.classes_.tolist() == classes
        assert len(net.history) == 4


@pytest.mark.parametrize(("owner", "y", "classes", "in_any_order"), KINDS)
def test_classes_in_another_order_are_the_same_unless_they_name_columns(
    owner: Any, y: Any, classes: Any, in_any_order: bool
) -> None:
    net = fit_first(owner, y, classes)
    if in_any_order:
        assert net.partial_fit(X, y, classes=classes[::-1]).classes_.tolist() == classes
        return
    with pytest.raises(ValueError, match="classes must be the same as in the first call"):
        net.partial_fit(X, y, classes=classes[::-1])


@pytest.mark.parametrize(("owner", "y", "classes", "_any_order"), KINDS)
@pytest.mark.parametrize("others", [["x", "y", "z"], [5, 6, 7], [0, 1, 2, 3], ["a", "b"]], ids=str)
def test_other_classes_are_refused_and_leave_the_net(
    owner: Any, y: Any, classes: Any, _any_order: bool, others: Any
) -> None:
    net = fit_first(owner, y, classes)
    before = get_weights(net)
    with pytest.raises(ValueError, match=r"classes must be the same as in the first call, \[.*; got \["):
        net.partial_fit(X, y, classes=others)
    assert is_equal(get_weights(net), before)
    assert len(net.history) == 2
    assert net.classes_.tolist() == classes


@pytest.mark.parametrize("owner", CLASSIFIERS)
def test_classes_of_a_fit_stay_those_of_a_later_call(owner: Any) -> None:
    net = owner(**OWN).fit(X, CODES)
    with pytest.raises(ValueError, match=r"in the first call, \[0, 1, 2\]; got \[0, 1, 2, 3\]"):
        net.partial_fit(X, CODES, classes=[0, 1, 2, 3])
    assert owner(**OWN, classes=[0, 1, 2]).partial_fit(X, CODES, classes=range(4)).classes_.tolist() == [
        0,
        1,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (MixupRegressor, "partial_fit"),
        (MixupRegressor, "fit"),
        (MixupClassifier, "fit"),
        (SemiSupervisedMixupClassifier, "fit"),
    ],
)
def test_classes_are_refused_where_they_would_be_ignored(owner: Any, method: str) -> None:
    with pytest.raises(TypeError, match=r"classes must be an option of a classifier.*got \[0, 1, 2\]"):
        getattr(owner(**OWN), method)(X, CODES, classes=[0, 1, 2])


def test_weights_are_routed_to_a_regressor_as_to_others() -> None:
    """skorch tells scikit-learn that `classes` of partial_fit is no metadata, and must find it there."""
    with config_context(enable_metadata_routing=True):
        net = (
            MixupRegressor(**OWN)
            .set_partial_fit_request(sample_weight=True)
            .set_fit_request(sample_weight=True)
        )
        routed = make_pipeline("passthrough", net).fit(X, X[:, 0], sample_weight=WEIGHT)
        assert get_routing_for_object(net).consumes("partial_fit", ["sample_weight", "classes"]) == {
            "sample_weight"
        }
    plain = MixupRegressor(**OWN).fit(X, X[:, 0], WEIGHT)
    np.testing.assert_array_equal(routed.predict(X), plain.predict(X))
