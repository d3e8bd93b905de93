"""Examples of any rank, mappings of arrays, and one logit for two classes."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from tests.helpers.datasets import make_tensor_dataset
from tests.helpers.nets import ESTIMATORS, LEARN

pytestmark = pytest.mark.usefixtures("warn_always")


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


@pytest.mark.parametrize("n_rows", [1, 5, 59])
def test_image_is_predicted_alike_among_others(images: np.ndarray, blobs: Any, n_rows: int) -> None:
    net = _make_conv(images, max_epochs=1).fit(images, blobs.y)
    expected = net.predict_proba(images)[:n_rows]
    np.testing.assert_allclose(net.predict_proba(images[:n_rows]), expected, rtol=1e-5)


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
    with pytest.raises(ValueError, match="alpha must be 0 for a module that takes integers only"):
        MixupClassifier(TwoInputs, alpha=1, **options).fit(X, blobs.y)


@pytest.mark.parametrize("options", [{"early_stopping": True}, {"partners": "same_class"}], ids=str)
def test_mapping_takes_weights_and_options(blobs: Any, options: dict[str, Any]) -> None:
    X = {"values": blobs.X, "kind": blobs.X[:, :4]}
    net = MixupClassifier(TwoInputs, max_epochs=2, **options)
    assert net.fit(X, blobs.y, sample_weight=np.arange(60) % 3).predict(X).shape == (60,)


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize("form", ["array", "data set"])
@pytest.mark.parametrize("module", [nn.Linear(7, 3), nn.Sequential(nn.Conv2d(5, 3, 1))], ids=["line", "maps"])
def test_module_for_other_inputs_is_named_with_their_shape(
    blobs: Any, module: nn.Module, form: str, owner: Any
) -> None:
    y = blobs.y if owner is MixupClassifier else blobs.y.astype(np.float32)
    data = (blobs.X, y) if form == "array" else (make_tensor_dataset(blobs.X, y),)
    with pytest.raises(RuntimeError, match=r"module must take rows of X; got .* a batch of shape \(2, 5\)"):
        owner(module, **LEARN).fit(*data)
