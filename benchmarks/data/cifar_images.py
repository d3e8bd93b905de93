"""The images that ``cifar`` learns from: official splits, normalised by their training images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.cifar_files import CIFAR_SETS, N_TRAIN, read_cifar
from benchmarks.data.small_images import IMAGE_TITLES, load_images
from benchmarks.data.tables import Table
from benchmarks.harness.fitting import split_rows

__all__ = ["DIGITS", "IMAGE_SET_TITLES", "ImageSet", "NormalizedImages", "load_image_set", "normalize_images"]

DIGITS = "digit_images"
IMAGE_SET_TITLES = {name: cifar.title for name, cifar in CIFAR_SETS.items()} | {DIGITS: IMAGE_TITLES[DIGITS]}
DIGITS_TEST_SIZE = 0.2
BLOCK = 4096


@dataclass(frozen=True)
class ImageSet:
    """Images with a fixed test set."""

    table: Table  # All images as bytes, of shape (n_samples, channels, height, width); training rows first
    n_train: int  # How many those are
    n_classes: int  # Labels are from 0 to ``n_classes - 1``

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        _, channels, height, width = self.table.X.shape
        return channels, height, width

    def describe(self) -> dict[str, Any]:
        """Return name, sizes, origin and digest, ready for JSON."""
        return self.table.describe() | {"n_train": self.n_train, "n_classes": self.n_classes}


def load_image_set(
    name: str,
    data_dir: Path | None,
    *,
    download: bool = False,
    train_rows: int | None = None,
    test_rows: int | None = None,
) -> ImageSet:
    """Load a set, or the first rows of its two parts.

    The digits are scikit-learn's, split once and for all; CIFAR is read from `data_dir`.
    """
    if name == DIGITS:
        digits = load_images(DIGITS, None)
        train, test = split_rows(digits.y, DIGITS_TEST_SIZE, seed=0)
        source, n_classes, (X, y) = digits.source, 10, (digits.X, digits.y)
    else:
        X, y = read_cifar(name, data_dir, download=download)
        train, test = np.split(np.arange(len(X)), [N_TRAIN])
        source, n_classes = f"{IMAGE_SET_TITLES[name]}'s own files", CIFAR_SETS[name].n_classes
    rows = np.concatenate([train[:train_rows], test[:test_rows]])
    return ImageSet(Table(name, X[rows], y[rows], source), len(train[:train_rows]), n_classes)


@dataclass(frozen=True)
class NormalizedImages:
    """What a net is trained and tested on."""

    X_train: np.ndarray  # Images, float32: each channel less its mean and over its deviation in training
    y_train: np.ndarray  # Class codes, int64
    X_test: np.ndarray
    y_test: np.ndarray
    mean: tuple[float, ...]  # Of each channel of the training images, in bytes
    std: tuple[float, ...]

    @property
    def black(self) -> tuple[float, ...]:
        """What a value of 0 has become, for each channel."""
        return tuple(-mean / std for mean, std in zip(self.mean, self.std, strict=True))


def normalize_images(images: ImageSet) -> NormalizedImages:
    """Return images with mean 0 and deviation 1 for each channel of the training rows.

    Examples
    --------
    >>> from benchmarks.data.cifar_images import load_image_set, normalize_images
    >>> images = normalize_images(load_image_set("digit_images", None))
    >>> round(float(abs(images.X_train.mean())), 4), round(float(images.X_train.std()), 4)
    (0.0, 1.0)
    """
    X, y, n_train = images.table.X, images.table.y, images.n_train
    # Of bytes, so the sums are whole numbers and exact.
    channels = X[:n_train].swapaxes(0, 1).reshape(X.shape[1], -1)
    counts = np.stack([np.bincount(channel, minlength=256) for channel in channels])
    values = np.arange(256)
    mean = counts @ values / counts.sum(axis=1)
    std = np.sqrt(counts @ values**2 / counts.sum(axis=1) - mean**2)
    scaled = np.empty(X.shape, dtype=np.float32)
    for start in range(0, len(X), BLOCK):  # in float64, but never all at once
        part = slice(start, start + BLOCK)
        scaled[part] = (X[part] - mean[:, None, None]) / std[:, None, None]
    train, test = slice(n_train), slice(n_train, None)
    codes = y.astype(np.int64)
    return NormalizedImages(
        scaled[train], codes[train], scaled[test], codes[test], tuple(mean.tolist()), tuple(std.tolist())
    )
