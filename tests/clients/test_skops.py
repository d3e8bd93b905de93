"""A file of skops holds no code, and what is loaded from it predicts and goes on as what was saved."""

from pathlib import Path
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping, EpochScoring, GradientNormClipping, LRScheduler
import torch
from torch import nn

from sk_mixup import (
    MixupClassifier,
    MixupGAN,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
    get_trusted_types,
)
from sk_mixup.mixing import ManifoldMixup, Mixture, Mixup, NeighborPartners

sio = pytest.importorskip("skops.io")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
CODES = np.arange(60) % 3
X[:, 0] += 2 * CODES
NAMES = np.array(["adder", "boa", "cobra"])[CODES]
QUICK: dict[str, Any] = {"max_epochs": 2, "random_state": 0, "module__hidden_layer_sizes": (8,)}
FOUR = (MixupClassifier, MixupGAN, MixupRegressor, SemiSupervisedMixupClassifier)

TARGETS: dict[str, Any] = {
    "codes": CODES,
    "binary": CODES > 0,
    "strings": NAMES,
    "objects": NAMES.astype(object),
    "dates": np.datetime64("2020-01-01") + CODES,
    "multilabel": np.stack([CODES > 0, CODES > 1], axis=1).astype(int),
    "soft": np.eye(3)[CODES] * 0.7 + 0.1,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "no early stopping": {"early_stopping": False},
    "callbacks": {
        "callbacks": [
            EarlyStopping(patience=1, load_best=True),
            ("rate", LRScheduler("StepLR", step_size=1, gamma=0.5)),
            ("f1", EpochScoring("f1_macro", on_train=True, name="f1")),
            GradientNormClipping,
        ]
    },
    "SGD": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    "LBFGS": {"optimizer": torch.optim.LBFGS, "lr": 0.1, "batch_size": -1},
    "policy": {"vicinity": Mixture((Mixup(alpha=0.3, partners=NeighborPartners(5)), ManifoldMixup()))},
    "dropout": {"module__dropout": 0.5},
    "module": {"module": nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))},
    "bfloat16": {"module": nn.Sequential(nn.Linear(4, 3)).to(torch.bfloat16)},
    "criterion": {"criterion": nn.CrossEntropyLoss, "criterion__weight": [1.0, 2.0, 3.0]},
    "class weight": {"class_weight": "balanced"},
    "classes": {"classes": [0, 1, 2, 3]},
    "generator": {"random_state": np.random.default_rng(3)},
    "float16": {"autocast": "bfloat16"},
}


def _make(owner: type, options: dict[str, Any]) -> Any:
    if isinstance(options.get("module"), nn.Module):
        return owner(**{"max_epochs": 2, "random_state": 0, **options})
    return owner(**QUICK | options)


def _load(net: Any, trusted: list[str] | None = None) -> Any:
    return sio.loads(sio.dumps(net), trusted=get_trusted_types() if trusted is None else trusted)


def _assert_goes_on_alike(net: Any, y: np.ndarray) -> None:
    other = _load(net)
    predict = "predict_proba" if hasattr(net, "predict_proba") else "predict"
    for step in (lambda net: net, lambda net: net.partial_fit(X, y)):
        expected, actual = (getattr(step(each), predict)(X) for each in (net, other))
        np.testing.assert_array_equal(actual, expected)
        np.testing.assert_array_equal(other.predict(X), net.predict(X))
        assert other.loss_curve_ == net.loss_curve_
        assert other.n_iter_ == net.n_iter_
    assert other.get_params().keys() == net.get_params().keys()


@pytest.mark.parametrize("y", TARGETS.values(), ids=TARGETS)
def test_classifier_goes_on_as_it_would_have(y: Any) -> None:
    _assert_goes_on_alike(_make(MixupClassifier, {}).fit(X, y), y)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_classifier_with_options_goes_on_as_it_would_have(options: dict[str, Any]) -> None:
    _assert_goes_on_alike(_make(MixupClassifier, options).fit(X, CODES), CODES)


@pytest.mark.parametrize("y", [X[:, 0], X[:, :2]], ids=["one", "two"])
def test_regressor_goes_on_as_it_would_have(y: np.ndarray) -> None:
    _assert_goes_on_alike(_make(MixupRegressor, {}).fit(X, y), y)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("method", ["mixmatch", "ict"])
def test_semi_supervised_classifier_goes_on_from_both_sets_of_weights(
    method: str, early_stopping: bool
) -> None:
    y = np.where(np.arange(60) % 2, CODES, -1)
    net = _make(SemiSupervisedMixupClassifier, {"method": method, "early_stopping": early_stopping}).fit(X, y)
    _assert_goes_on_alike(net, y)


@pytest.mark.parametrize("owner", [MixupClassifier, SemiSupervisedMixupClassifier, MixupRegressor])
def test_a_module_that_is_given_stays_where_a_fit_starts(owner: type) -> None:
    net = owner(nn.Sequential(nn.Linear(4, 3)), max_epochs=2, lr=0.1, random_state=0)
    y = X[:, :3] if owner is MixupRegressor else CODES
    other = _load(net.fit(X, y))
    assert other.module_ is not other.module
    torch.testing.assert_close(other.module[0].weight, net.module[0].weight, rtol=0, atol=0)
    np.testing.assert_array_equal(*(clone(each).fit(X, y).predict(X) for each in (net, other)))
    np.testing.assert_array_equal(*(each.fit(X, y).predict(X) for each in (net, other)))


def test_gan_goes_on_as_it_would_have() -> None:
    sizes = {"generator__hidden_layer_sizes": (8,), "discriminator__hidden_layer_sizes": (8,)}
    net = MixupGAN(max_epochs=1, steps_per_epoch=3, random_state=0, **sizes).fit(X)
    assert set(sio.get_untrusted_types(data=sio.dumps(net))) <= set(get_trusted_types())
    other = _load(net)
    for step in (lambda net: net, lambda net: net.partial_fit(X)):
        expected, actual = (step(each).sample(5, random_state=0) for each in (net, other))
        np.testing.assert_array_equal(actual, expected)
        np.testing.assert_array_equal(other.score_samples(X), net.score_samples(X))
        assert list(map(str, other.history_[:, "generator_loss"])) == list(
            map(str, net.history_[:, "generator_loss"])
        )


@pytest.mark.parametrize("owner", FOUR)
def test_unfitted_estimator_keeps_its_options(owner: type) -> None:
    net = owner(alpha=0.3, lr=0.5)
    assert _load(net).get_params(deep=False) == net.get_params(deep=False)


@pytest.mark.parametrize("value", [np.float32(0.1), float("nan"), np.bool_(True), "word", np.arange(3), {1}])
def test_history_keeps_whatever_was_recorded(value: Any) -> None:
    net = _make(MixupClassifier, {}).fit(X, CODES)
    net.history.record("own", value)
    np.testing.assert_equal(_load(net).history[-1]["own"], value)
    assert _load(net).history[:, ("train_loss", "dur")] == net.history[:, ("train_loss", "dur")]


def test_file_is_not_much_larger_than_a_pickle() -> None:
    rows = np.tile(np.arange(60), 10)
    net = _make(MixupClassifier, {"max_epochs": 20, "batch_size": 4}).fit(X[rows], CODES[rows])
    assert len(sio.dumps(net)) < 5 * len(pickle.dumps(net))


def test_warm_start_goes_on() -> None:
    net = _make(MixupClassifier, {"warm_start": True}).fit(X, CODES)
    other = _load(net).fit(X, CODES)
    np.testing.assert_array_equal(other.predict_proba(X), net.fit(X, CODES).predict_proba(X))
    assert len(other.history) == len(net.history)


# -- what is in a file -------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier])
def test_default_estimator_holds_but_its_own_type(owner: type, early_stopping: bool) -> None:
    net = _make(owner, {"early_stopping": early_stopping})
    pipeline = make_pipeline(StandardScaler(), net).fit(X, CODES)
    name = f"{owner.__module__}.{owner.__name__}"
    assert sio.get_untrusted_types(data=sio.dumps(pipeline)) == [name]
    assert name in get_trusted_types()


class OwnNet(nn.Linear):
    """A module of the user's own."""


class OwnClassifier(MixupClassifier):
    """A subclass with state of its own."""

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        super().fit(*args, **kwargs)
        self.note_ = "kept"
        return self


def test_types_of_the_users_own_are_asked_for_by_name() -> None:
    options = {"module": OwnNet, "max_epochs": 1, "random_state": 0}
    net = OwnClassifier(**options).fit(X, CODES)
    names = [f"{__name__}.OwnClassifier", f"{__name__}.OwnNet"]
    with pytest.raises(TypeError, match="Untrusted types found in the file"):
        _load(net)
    other = _load(net, [*get_trusted_types(), *names])
    assert other.note_ == "kept"
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))


def test_no_trusted_type_is_one_that_calls_what_it_is_given() -> None:
    modules = ("builtins.", "functools.", "operator.", "os.", "pickle.", "torch._", "torch.serialization.")
    assert not [name for name in get_trusted_types() if name.startswith(modules)]
    assert not [name for name in get_trusted_types() if "Checkpoint" in name]


@pytest.mark.parametrize("owner", FOUR)
def test_state_with_pickled_bytes_is_refused(owner: type) -> None:
    """Such a state is what skorch's own ``__setstate__`` would unpickle."""
    malicious = b"cbuiltins\nexec\n(S'raise SystemExit(3)'\ntR."
    state = {"device": "cpu", "torch_load_kwargs": None, "_unpickled": True, "_on_device": malicious}
    state |= {"__cuda_dependent_attributes__": malicious}
    with pytest.raises(ValueError, match="state must hold the attributes and the parts of a"):
        owner.__new__(owner).__setstate__(state)


# -- in another process ------------------------------------------------------------------

SERVE = """
import sys, numpy as np, skops.io as sio, sk_mixup
X = np.load(sys.argv[1])
for file in sys.argv[2:]:
    net = sio.load(file, trusted=sk_mixup.get_trusted_types())
    predict = net.predict_proba if hasattr(net, "predict_proba") else net.predict
    expected, labels = np.load(file + ".expected.npy"), np.load(file + ".labels.npy")
    for rows, wanted in ((X, expected), (X[:1], expected[:1])):
        np.testing.assert_array_equal(predict(rows), wanted, err_msg=file)
    np.testing.assert_array_equal(net.predict(X), labels, err_msg=file)
"""
SERVED = {
    "strings": (MixupClassifier, NAMES),
    "regression": (MixupRegressor, X[:, :2]),
    "semi-supervised": (SemiSupervisedMixupClassifier, CODES),
}


@pytest.mark.slow
def test_another_process_predicts_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X)
    for name, (owner, y) in SERVED.items():
        pipeline = make_pipeline(StandardScaler(), _make(owner, {})).fit(X, y)
        predict = pipeline.predict_proba if hasattr(pipeline, "predict_proba") else pipeline.predict
        sio.dump(pipeline, tmp_path / name)
        np.save(tmp_path / f"{name}.expected.npy", predict(X))
        np.save(tmp_path / f"{name}.labels.npy", pipeline.predict(X))
    files = [str(tmp_path / name) for name in ("X.npy", *SERVED)]
    done = subprocess.run([sys.executable, "-c", SERVE, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_weights_that_are_tied_stay_so() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 3))
    module[2].weight = module[0].weight
    net = MixupClassifier(module, max_epochs=2, random_state=0).fit(X, CODES)
    other = _load(net)
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))
    assert other.module_[2].weight is other.module_[0].weight
    for each in (net, other):
        each.partial_fit(X, CODES)
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))
