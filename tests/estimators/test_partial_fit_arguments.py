"""The arguments of `partial_fit` beside X and y: those of scikit-learn's estimators of the kind."""

from typing import Any

import numpy as np
import pytest

from sk_mixup import MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier
from tests.helpers.nets import get_weights, is_equal

OWN = {"module__hidden_layer_sizes": (6,), "max_epochs": 2, "batch_size": 16, "random_state": 0}
X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
CODES = np.arange(40) % 3
WEIGHT = np.arange(40) % 4 + 0.5


@pytest.mark.parametrize("y", [X[:, 0], X[:, :2]], ids=["one column", "two"])
def test_the_third_argument_of_a_regressor_is_the_weights(y: np.ndarray) -> None:
    named = MixupRegressor(**OWN).partial_fit(X, y, sample_weight=WEIGHT)
    third = MixupRegressor(**OWN).partial_fit(X, y, WEIGHT)
    plain = MixupRegressor(**OWN).partial_fit(X, y)
    assert is_equal(get_weights(third), get_weights(named))
    assert not is_equal(get_weights(third), get_weights(plain))


@pytest.mark.parametrize("owner", [MixupClassifier, SemiSupervisedMixupClassifier])
def test_the_third_argument_of_a_classifier_is_the_classes(owner: Any) -> None:
    net = owner(**OWN).partial_fit(X, CODES, [0, 1, 2, 3], WEIGHT)
    named = owner(**OWN).partial_fit(X, CODES, classes=[0, 1, 2, 3], sample_weight=WEIGHT)
    assert net.classes_.tolist() == [0, 1, 2, 3]
    assert is_equal(get_weights(net), get_weights(named))


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
