"""Options that are set on a fitted net: what stays the same changes nothing, what is built anew is told."""

from pathlib import Path
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris

from sk_mixup import MixupClassifier, MixupRegressor

X, Y = load_iris(return_X_y=True)


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
@pytest.mark.parametrize("deep", [False, True])
def test_the_same_options_keep_the_weights(owner: type, deep: bool) -> None:
    net = owner(module__hidden_layer_sizes=(8,), max_epochs=2, random_state=0).fit(X, Y)
    before = net.predict(X)
    options = {
        name: value for name, value in net.get_params(deep=deep).items() if not name.startswith("callbacks")
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.set_params(**options).set_params(module__hidden_layer_sizes=(8,), compile=False)
        np.testing.assert_array_equal(net.predict(X), before)


def test_a_prediction_of_a_module_that_was_built_anew_is_warned_of() -> None:
    net = MixupClassifier(max_epochs=2, random_state=0).fit(X, Y)
    net.set_params(module__hidden_layer_sizes=(5,))
    with pytest.warns(UserWarning, match="fit must be called once module__hidden_layer_sizes was set"):
        net.predict(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.fit(X, Y).predict(X)
        net.set_params(lr=0.5, max_epochs=3).predict(X)
    assert next(net.module_.parameters()).shape[0] == 5


def test_a_net_that_goes_on_with_another_module_is_no_cause_for_a_warning() -> None:
    net = MixupClassifier(max_epochs=2, random_state=0).fit(X, Y)
    net.set_params(module__hidden_layer_sizes=(5,)).partial_fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.predict(X)


def test_weights_that_are_loaded_are_those_of_a_training(tmp_path: Path) -> None:
    path = str(tmp_path / "weights.pt")
    narrow = MixupClassifier(max_epochs=2, random_state=0, module__hidden_layer_sizes=(5,)).fit(X, Y)
    narrow.save_params(f_params=path)
    net = MixupClassifier(max_epochs=2, random_state=0, calibrate=False).fit(X, Y)
    net.set_params(module__hidden_layer_sizes=(5,)).load_params(f_params=path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(net.predict(X), narrow.predict(X))
