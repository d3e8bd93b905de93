"""CutMix weighs labels by pixels, whatever changes the size of the images on their way."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from skorch import NeuralNetClassifier
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset, default_collate

from sk_mixup import MixupClassifier, MixupNetMixin
from sk_mixup.mixing import CutMix, Mixture, Mixup

X = np.zeros((44, 1, 8, 8), dtype=np.float32)
X[22:] = 1  # the mean of an image is its share of class 1
Y = np.arange(44) // 22
QUICK: dict[str, Any] = {"batch_size": 11, "max_epochs": 2, "random_state": 0}


class Net(MixupNetMixin, NeuralNetClassifier):
    pass


class Spy(nn.Module):
    """Returns the share of each class in an image as its probability, near enough for the loss to tell."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(x.mean(dim=(1, 2, 3)).detach())
        return torch.stack([self.bias.expand(len(x)), self.bias.expand(len(x))], dim=1)


def crop(x: Tensor) -> Tensor:
    return x[:, :, 2:6, 1:7]


def enlarge(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2)


def flip(x: Tensor) -> Tensor:
    return x.flip(3)


class Items(Dataset[Any]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, number: int) -> Any:
        return X[number], Y[number]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return ((x, y) for x, y in zip(X, Y, strict=True))


def collate_cropped(items: list[Any]) -> Any:
    x, y = default_collate(items)
    return crop(x), y


def fit(owner: Any, data: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of class 1 in the pixels and in the labels of virtual examples."""
    labels: list[Tensor] = []

    class Noting(owner):
        def get_batch_loss(self, y_pred: Any, batch: Any, x: Any = None, training: bool = False) -> Any:
            if training:
                y, lam, _ = batch.get_mixed_targets()
                labels.append((y * lam).sum(dim=0))
            return super().get_batch_loss(y_pred, batch, x, training)

    own: dict[str, Any] = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0}
    net = Noting(Spy(), **QUICK, **(own if owner is Net else {"early_stopping": False}), **options)
    net.fit(*data)
    return torch.cat(net.module_.seen[-len(labels) :]).numpy(), torch.cat(labels).numpy()


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize("augment", [crop, enlarge, flip, None])
@pytest.mark.parametrize("data", [(X, Y), (Items(), None)], ids=["arrays", "Dataset"])
@pytest.mark.parametrize("vicinity", [CutMix(), CutMix(lam_per="batch"), Mixture((CutMix(), Mixup(1.0)))])
def test_labels_are_the_shares_of_pixels(
    owner: Any, augment: Callable[..., Any] | None, data: Any, vicinity: Any
) -> None:
    pixels, labels = fit(owner, data, augment=augment, vicinity=vicinity)
    assert 0.1 < np.mean((pixels > 0) & (pixels < 1)) < 1
    np.testing.assert_allclose(labels, pixels, atol=1e-6)


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize("augment", [None, enlarge])
def test_images_cropped_as_they_are_joined_are_weighed_by_their_pixels(
    owner: Any, augment: Callable[..., Any] | None
) -> None:
    options = {"iterator_train__collate_fn": collate_cropped, "vicinity": CutMix(), "augment": augment}
    pixels, labels = fit(owner, (Items(), None), **options)
    assert 0.1 < np.mean((pixels > 0) & (pixels < 1)) < 1
    np.testing.assert_allclose(labels, pixels, atol=1e-6)


def take_bytes(x: Tensor) -> Tensor:
    assert x.dtype == torch.uint8
    return crop(x).float()


def take_whole_batches(x: Tensor) -> Tensor:
    assert len(x) == QUICK["batch_size"]
    return crop(x)


def take_bright_images(x: Tensor) -> Tensor:
    assert x.any()
    return crop(x)


@pytest.mark.parametrize(
    ("augment", "rows"),
    [(take_bytes, X.astype(np.uint8)), (take_whole_batches, X), (take_bright_images, 1 - X)],
    ids=["bytes", "whole batches", "bright images"],
)
@pytest.mark.parametrize("is_dataset", [False, True], ids=["arrays", "Dataset"])
def test_what_changes_the_size_is_asked_with_a_batch_as_in_training(
    augment: Callable[..., Any], rows: np.ndarray, is_dataset: bool
) -> None:
    y = rows.mean(axis=(1, 2, 3)).astype(np.int64)
    data = (TensorDataset(torch.as_tensor(rows), torch.as_tensor(y)), None) if is_dataset else (rows, y)
    pixels, labels = fit(Net, data, augment=augment, vicinity=CutMix())
    np.testing.assert_allclose(labels, pixels, atol=1e-6)


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize("data", [(X, Y), (Items(), None)], ids=["arrays", "Dataset"])
def test_what_augments_counts_the_batches_of_training_alone(owner: Any, data: Any) -> None:
    augment = nn.BatchNorm2d(1, affine=False)
    fit(owner, data, augment=augment, vicinity=CutMix())
    assert augment.num_batches_tracked == 8


@pytest.mark.parametrize("case", ["stream", "sizes that vary"])
def test_sizes_that_cannot_be_known_are_refused(case: str) -> None:
    sizes = iter(range(3, 1000))

    def vary(x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, size=2 + next(sizes) % 5)

    owner, data, options = {
        "stream": (Net, (Stream(), None), {"augment": crop}),
        "sizes that vary": (MixupClassifier, (X, Y), {"augment": vary}),
    }[case]
    with pytest.raises(ValueError, match="X must hold images of one size for rectangles"):
        fit(owner, data, vicinity=CutMix(), **options)  # type: ignore[arg-type]
