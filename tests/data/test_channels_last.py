"""Images with their channels last: seen by the module wherever they come from, for the same result."""

from collections.abc import Callable
from pathlib import Path
import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from skorch import NeuralNetClassifier
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from tests.helpers.datasets import Stream, make_tensor_dataset
from tests.helpers.nets import QUICK, USER, get_weights, is_equal
from tests.helpers.sampling import spell

pytestmark = [pytest.mark.usefixtures("warn_always"), pytest.mark.slow]

OPTIONS: dict[str, Any] = {**QUICK, "max_epochs": 2}


def find_layout(x: Tensor) -> str:
    """Return where the channels of images are; their 3 x 6 x 6 numbers leave no doubt."""
    if x.is_contiguous():
        return "first"
    return "last" if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else "other"


class Witness(nn.Module):
    """A convolution and a linear layer that notes in which layout it is given images."""

    def __init__(self, width: int = 4, n_outputs: int = 3) -> None:
        super().__init__()
        self.filter = nn.Conv2d(3, width, 3)
        self.last = nn.Linear(16 * width, n_outputs)
        self.seen: set[tuple[bool, str]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add((self.training, find_layout(x)))
        return self.last(self.filter(x).relu().flatten(1))


class Turned(Witness):
    """Takes its images from a mapping."""

    def forward(self, images: Tensor, shift: Tensor) -> Tensor:
        return super().forward(images) + shift.mean(dim=1, keepdim=True)


class Spectrum(nn.Module):
    """A convolution in one direction that notes the layout of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv1d(3, 2, 3)
        self.last = nn.Linear(8, 3)
        self.seen: set[tuple[bool, str]] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add((self.training, find_layout(x)))
        return self.last(self.filter(x).flatten(1))


class MixedNet(MixupNetMixin, NeuralNetClassifier):
    """skorch's classifier with mixed training."""


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """60 images of 3 x 6 x 6 pixels."""
    return np.random.default_rng(0).normal(size=(60, 3, 6, 6)).astype(np.float32)


def _map_file(X: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


FORMS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "float32": lambda X, folder: X,
    "float64": lambda X, folder: X.astype(np.float64),
    "channels-last": lambda X, folder: X.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
    "fortran": lambda X, folder: np.asfortranarray(X),
    "tensor": lambda X, folder: torch.as_tensor(X),
    "tensor-last": lambda X, folder: torch.as_tensor(X).to(memory_format=torch.channels_last),
    "mapped": _map_file,
    "mapped-float64": lambda X, folder: _map_file(X.astype(np.float64), folder),
}
LAST = {(True, "last"), (False, "last")}


@pytest.mark.parametrize("storage", ["auto", "device", "host"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_module_sees_channels_last(
    blobs: Any, images: np.ndarray, tmp_path: Path, name: str, storage: str, early_stopping: bool
) -> None:
    X = FORMS[name](images, tmp_path)
    options = {**OPTIONS, "storage": storage, "early_stopping": early_stopping}
    net = MixupClassifier(Witness, **options, channels_last=True).fit(X, blobs.y)
    assert net.module_.seen == LAST
    net.module_.seen.clear()
    proba = net.predict_proba(X)
    assert net.module_.seen == {(False, "last")}
    plain = MixupClassifier(Witness, **options).fit(images, blobs.y)
    np.testing.assert_allclose(proba, plain.predict_proba(images), atol=1e-5)


MIXED: list[dict[str, Any]] = [
    {"alpha": 0},
    *({"partners": p, "n_mixed": k} for p in ("batch", "dataset", "same_class") for k in (2, 3)),
    {"lam_per": "batch"},
    {"augment": torch.neg},
    {"augment": torch.Tensor.contiguous},
    {"criterion": nn.MultiMarginLoss},
    {"class_weight": "balanced"},
    {"autocast": "bfloat16"},
    {"batch_size": -1},
    {"iterator_train__num_workers": 0, "iterator_valid__num_workers": 0},
    {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
]


@pytest.mark.parametrize("storage", ["device", "host"])
@pytest.mark.parametrize("options", MIXED, ids=spell)
def test_module_sees_channels_last_with_any_option(
    blobs: Any, images: np.ndarray, options: dict[str, Any], storage: str
) -> None:
    net = MixupClassifier(Witness, **{**OPTIONS, **options}, storage=storage)
    last = clone(net).set_params(channels_last=True).fit(images, blobs.y)
    proba = last.predict_proba(images)
    assert last.module_.seen == LAST
    rounding = 1e-2 if "autocast" in options else 1e-5
    np.testing.assert_allclose(proba, net.fit(images, blobs.y).predict_proba(images), atol=rounding)


@pytest.mark.parametrize("wrap", [lambda pairs: pairs, Stream], ids=["pairs", "stream"])
@pytest.mark.parametrize("alpha", [0, 1])
def test_module_sees_channels_last_of_a_dataset(
    blobs: Any, images: np.ndarray, wrap: Any, alpha: float
) -> None:
    pairs = wrap(make_tensor_dataset(images, blobs.y))
    options = {**OPTIONS, "alpha": alpha, "classes": [0, 1, 2]}
    net = MixupClassifier(Witness, **options, channels_last=True).fit(pairs)
    proba = net.predict_proba(pairs)
    assert net.module_.seen == LAST
    plain = MixupClassifier(Witness, **options).fit(pairs)
    np.testing.assert_allclose(proba, plain.predict_proba(pairs), atol=1e-5)


def test_module_sees_channels_last_of_held_out_pairs(blobs: Any, images: np.ndarray) -> None:
    pairs = make_tensor_dataset(images, blobs.y)
    options = {**OPTIONS, "early_stopping": True, "classes": [0, 1, 2]}
    assert MixupClassifier(Witness, **options, channels_last=True).fit(pairs).module_.seen == LAST


@pytest.mark.parametrize("storage", ["device", "host"])
@pytest.mark.parametrize("n_mixed", [2, 3])
def test_module_sees_channels_last_of_a_mapping(
    blobs: Any, images: np.ndarray, n_mixed: int, storage: str
) -> None:
    X = {"images": images, "shift": blobs.X}
    options = {**OPTIONS, "n_mixed": n_mixed, "storage": storage}
    net = MixupClassifier(Turned, **options, channels_last=True).fit(X, blobs.y)
    proba = net.predict_proba(X)
    assert net.module_.seen == LAST
    plain = MixupClassifier(Turned, **options).fit(X, blobs.y)
    np.testing.assert_allclose(proba, plain.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("storage", ["device", "host"])
def test_regressor_and_skorch_net_see_channels_last(blobs: Any, images: np.ndarray, storage: str) -> None:
    options = {"storage": storage, "channels_last": True}
    line = MixupRegressor(Witness, module__n_outputs=1, **OPTIONS, **options).fit(
        images, images.mean((1, 2, 3))
    )
    line.predict(images)
    net = MixedNet(Witness, random_state=0, **USER, **options).fit(images, blobs.y)
    net.predict_proba(images)
    assert line.module_.seen == net.module_.seen == LAST


# -- what has no channels is left alone --------------------------------------------------


@pytest.mark.parametrize("storage", ["device", "host"])
@pytest.mark.parametrize("n_mixed", [2, 3])
def test_inputs_of_three_axes_are_left_alone(
    blobs: Any, images: np.ndarray, n_mixed: int, storage: str
) -> None:
    X = images[:, :, 0]
    net = MixupClassifier(Spectrum, **OPTIONS, n_mixed=n_mixed, storage=storage)
    last = clone(net).set_params(channels_last=True).fit(X, blobs.y)
    np.testing.assert_array_equal(last.predict_proba(X), net.fit(X, blobs.y).predict_proba(X))
    assert last.module_.seen == {(True, "first"), (False, "first")}


def test_table_is_left_alone(blobs: Any) -> None:
    net = MixupClassifier(**OPTIONS)
    last = clone(net).set_params(channels_last=True).fit(blobs.X, blobs.y)
    assert is_equal(get_weights(last), get_weights(net.fit(blobs.X, blobs.y)))


def test_flattened_images_are_the_same_table(blobs: Any, images: np.ndarray) -> None:
    net = MixupClassifier(**OPTIONS)
    last = clone(net).set_params(channels_last=True).fit(images, blobs.y)
    np.testing.assert_array_equal(last.predict_proba(images), net.fit(images, blobs.y).predict_proba(images))


@pytest.mark.parametrize("storage", ["device", "host"])
def test_channels_stay_first_by_default(blobs: Any, images: np.ndarray, storage: str) -> None:
    net = MixupClassifier(Witness, **OPTIONS, storage=storage).fit(images, blobs.y)
    net.predict(images)
    assert net.module_.seen == {(True, "first"), (False, "first")}
    assert find_layout(net.module_.filter.weight) == "first"


# -- the weights -------------------------------------------------------------------------


def test_weights_of_convolutions_have_channels_last(blobs: Any, images: np.ndarray) -> None:
    net = MixupClassifier(Witness, **OPTIONS, channels_last=True).fit(images, blobs.y)
    assert find_layout(net.module_.filter.weight) == "last"
    assert net.module_.last.weight.is_contiguous()


def test_layout_of_weights_outlives_new_options_of_the_module(blobs: Any, images: np.ndarray) -> None:
    net = MixupClassifier(Witness, **OPTIONS, channels_last=True).fit(images, blobs.y)
    net.set_params(module__width=6)
    assert find_layout(net.module_.filter.weight) == "last"
    net.partial_fit(images, blobs.y)
    assert net.module_.seen == LAST
    assert find_layout(net.module_.filter.weight) == "last"


@pytest.mark.parametrize("way", ["pickle", "save"])
def test_layout_of_weights_outlives_saving(blobs: Any, images: np.ndarray, tmp_path: Path, way: str) -> None:
    net = MixupClassifier(Witness, **OPTIONS, channels_last=True).fit(images, blobs.y)
    if way == "save":
        net.save_params(tmp_path / "net.safetensors", use_safetensors=True)
        other = clone(net)
        other.load_params(tmp_path / "net.safetensors", use_safetensors=True)
    else:
        other = pickle.loads(pickle.dumps(net))
    assert find_layout(other.module_.filter.weight) == "last"
    np.testing.assert_array_equal(other.predict_proba(images), net.predict_proba(images))


def test_module_that_is_given_keeps_its_layout(blobs: Any, images: np.ndarray) -> None:
    module = Witness()
    net = MixupClassifier(module, **OPTIONS, channels_last=True).fit(images, blobs.y)
    assert find_layout(net.module_.filter.weight) == "last"
    assert find_layout(module.filter.weight) == "first"
