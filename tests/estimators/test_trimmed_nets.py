"""A net that is trimmed for prediction predicts what it did before."""

from collections.abc import Callable
import copy
import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor, SemiSupervisedMixupClassifier
from sk_mixup.inspection import between_curves
from tests.helpers.sampling import each_pair

X, CODES = load_wine(return_X_y=True)
X = scale(X).astype(np.float32)
N_FEATURES = X.shape[1]


class MixedNet(MixupNetMixin, NeuralNetClassifier):
    """skorch's classifier, mixed."""


class MixedBinaryNet(MixupNetMixin, NeuralNetBinaryClassifier):
    """skorch's binary classifier, mixed."""


class MixedRegressor(MixupNetMixin, NeuralNetRegressor):
    """skorch's regressor, mixed."""


def end_in(layer: nn.Module, n_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(N_FEATURES, n_outputs), layer)


NAMES = np.array(["a", "b", "c"])[CODES]
BITS = np.c_[CODES == 0, CODES > 0, X[:, 0] > 0].astype(np.float32)
COUNTS = CODES[:, None].astype(np.float32)
MADE: dict[str, tuple[Callable[..., Any], dict[str, Any], Any]] = {
    "classes": (MixupClassifier, {}, NAMES),
    "two classes": (MixupClassifier, {}, CODES > 0),
    "several labels": (MixupClassifier, {}, BITS.astype(int)),
    "one logit": (
        MixupClassifier,
        {"module": nn.Linear(N_FEATURES, 1), "criterion": nn.BCEWithLogitsLoss},
        CODES > 0,
    ),
    "one probability": (
        MixupClassifier,
        {"module": end_in(nn.Sigmoid(), 1), "criterion": nn.BCELoss},
        CODES > 0,
    ),
    "probabilities": (
        MixupClassifier,
        {"module": end_in(nn.Softmax(1), 3), "criterion": nn.NLLLoss},
        NAMES,
    ),
    "weighted": (MixupClassifier, {"criterion__weight": torch.tensor([1.0, 2.0, 3.0])}, NAMES),
    "own link": (MixupClassifier, {"predict_nonlinearity": lambda z: torch.softmax(z / 2, 1)}, NAMES),
    "compiled": (MixupClassifier, {"module": nn.Linear(N_FEATURES, 3), "batch_size": 60}, NAMES),
    "few labels": (SemiSupervisedMixupClassifier, {}, np.where(np.arange(len(X)) % 3, CODES, -1)),
    "counts": (MixupRegressor, {"criterion": nn.PoissonNLLLoss}, CODES.astype(float)),
    "real": (MixupRegressor, {}, X[:, 0].astype(float)),
    "skorch's classes": (
        MixedNet,
        {"module": nn.Linear(N_FEATURES, 3), "criterion": nn.CrossEntropyLoss},
        CODES,
    ),
    "skorch's bits": (MixedBinaryNet, {"module": nn.Linear(N_FEATURES, 1)}, (CODES > 0).astype(np.float32)),
    "skorch's numbers": (MixedRegressor, {"module": nn.Linear(N_FEATURES, 1)}, COUNTS),
}


def _through_skops(net: Any) -> Any:
    sio = pytest.importorskip("skops.io")
    written = sio.dumps(net)
    return sio.loads(written, trusted=sio.get_untrusted_types(data=written))


WAYS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda net: net,
    "copy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "skops": _through_skops,
}
METHODS = ("predict", "predict_proba", "predict_log_proba", "forward")


def predict_all(net: Any) -> dict[str, np.ndarray]:
    methods = {name: getattr(net, name, None) for name in METHODS}
    return {name: np.asarray(method(X)) for name, method in methods.items() if callable(method)}


@each_pair({"kind": list(MADE), "way": list(WAYS)})
def test_trimmed_nets_predict_as_before(kind, way):
    make, options, y = MADE[kind]
    if way == "skops" and kind.startswith("skorch's"):
        way = "pickle"  # skops has no way to write nets of skorch itself
    net = make(**{"max_epochs": 3, "verbose": 0, "lr": 0.01, "random_state": 0, **options})
    if way in ("pickle", "skops") and callable(options.get("predict_nonlinearity")):
        net.set_params(predict_nonlinearity=torch.sigmoid)  # a lambda has no name to be loaded by
    net.fit(X, y)
    before = predict_all(net)
    net.trim_for_prediction()
    trimmed = WAYS[way](net)
    found = predict_all(trimmed)
    assert found.keys() == before.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_a_trimmed_net_is_inspected_as_before():
    net = MixupClassifier(max_epochs=3, random_state=0).fit(X, NAMES)
    before = between_curves(net, X, NAMES, n_pairs=20, random_state=0)
    net.trim_for_prediction()
    after = between_curves(net, X, NAMES, n_pairs=20, random_state=0)
    np.testing.assert_array_equal(after.gradient_norm, before.gradient_norm)
    np.testing.assert_array_equal(after.misses, before.misses)
