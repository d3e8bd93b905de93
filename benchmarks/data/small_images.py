"""Small images that benchmarks learn from, and a small net for them."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import sklearn
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.data.cifar_files import read_cifar10
from benchmarks.data.tables import Table

__all__ = ["IMAGE_TITLES", "ConvNet", "load_images", "scale_images"]

IMAGE_TITLES = {"cifar10": "CIFAR-10", "digit_images": "Digits as images"}


class ConvNet(nn.Module):
    """A convolution of stride 2 and a ReLU for each number of channels in `widths`, then a linear layer.

    ``shape`` is that of an image: channels, height and width.
    """

    def __init__(self, out_features: int, shape: tuple[int, int, int], widths: Sequence[int]) -> None:
        super().__init__()
        channels, height, width = shape
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise([channels, *widths]):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.ReLU()]
            height, width = (height + 1) // 2, (width + 1) // 2
        n_features = ([channels, *widths])[-1] * height * width
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(n_features, out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (n, out_features) for `x` of shape (n, channels, height, width)."""
        return self.layers(x)


def load_images(name: str, data_dir: Path | None) -> Table:
    """Return images as bytes: CIFAR-10, its training rows first, or scikit-learn's digits."""
    if name == "cifar10":
        return Table(name, *read_cifar10(data_dir), "CIFAR-10's own files")
    digits = load_digits()
    source = f"scikit-learn {sklearn.__version__}"
    return Table(name, digits.images[:, None].astype(np.uint8), digits.target, source)


def scale_images(X: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return images with mean 0 and deviation 1 for each channel of the rows ``train``, float32."""
    mean, std = (compute(X[train], axis=(0, 2, 3), keepdims=True) for compute in (np.mean, np.std))
    return ((X - mean) / std).astype(np.float32)
