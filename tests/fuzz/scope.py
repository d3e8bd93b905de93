"""What the scripts of the fuzz test are written with."""
# ruff: noqa: F401

from dataclasses import dataclass, replace
from pathlib import Path
import tempfile
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from skorch.callbacks import EarlyStopping, EpochScoring, GradientNormClipping, LRScheduler
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import ValidSplit
from skorch.helper import SliceDataset, predefined_split
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from sk_mixup import MixupClassifier, MixupGAN, MixupRegressor, SemiSupervisedMixupClassifier
from sk_mixup.mixing import (
    ERM,
    CutMix,
    Extrapolation,
    FeatureExtrapolation,
    FeatureInterpolation,
    FeatureSwap,
    GaussianNoise,
    KernelPartners,
    ManifoldMixup,
    Mixture,
    Mixup,
    NeighborPartners,
    Partners,
    TableMixup,
    Vicinity,
)

LEVELS = {"real": (-8, 9, 4), "integer": (-8, 9, 1), "natural": (0, 16, 1), "bit": (0, 2, 1)}


def make_rows(seed: int, n: int, level: str = "real") -> np.ndarray:
    """Return a table of 3 columns whose numbers every dtype of a level holds exactly."""
    low, high, parts = LEVELS[level]
    drawn = np.random.default_rng(seed).integers(low, high, size=(n, 3))
    return (drawn / parts).astype(np.float32)


def make_images(seed: int, n: int, level: str = "real") -> np.ndarray:
    low, high, parts = LEVELS[level]
    drawn = np.random.default_rng(seed).integers(low, high, size=(n, 1, 4, 4))
    return (drawn / parts).astype(np.float32)


def make_codes(seed: int, shape: Any, n_classes: int) -> np.ndarray:
    """Return codes of classes, all of which occur in the first rows."""
    codes = np.random.default_rng(seed + 1).integers(n_classes, size=shape)
    flat = codes.reshape(-1)
    flat[: 4 * n_classes] = np.arange(min(flat.size, 4 * n_classes)) % n_classes
    return codes


def name_codes(codes: np.ndarray, *names: Any) -> list[Any]:
    return [names[code] for code in codes]


def lock(values: np.ndarray) -> np.ndarray:
    locked = values.copy()
    locked.flags.writeable = False
    return locked


def map_file(values: np.ndarray, mode: Any = "r") -> np.ndarray:
    path = Path(tempfile.mkdtemp()) / "values.npy"
    np.save(path, values)
    return np.load(path, mmap_mode=mode)


class Items(torch.utils.data.Dataset):
    """Items of any form, one for each row."""

    def __init__(self, X: Any, y: Any, make: Any = lambda x, y: (x, y)) -> None:
        self.items = [make(*pair) for pair in zip(X, y, strict=True)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        return self.items[row]


class Stream(IterableDataset):
    def __init__(self, items: Any) -> None:
        self.items = items

    def __iter__(self) -> Any:
        return iter([self.items[row] for row in range(len(self.items))])


def make_linear() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(3, 3)


class Conv(nn.Module):
    """Logits for each pixel."""

    def __init__(self, n_classes: int = 3) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, n_classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Focal(nn.Module):
    """A criterion of the user's own on logits."""

    def forward(self, y_pred: Tensor, y: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(y_pred, y, reduction="none")
        return ((1 - torch.exp(-loss)) * loss).mean()


@dataclass(frozen=True)
class OwnVicinity(Vicinity):
    """mixup with one field of its plan changed."""

    change: Any = None

    def draw(self, *args: Any) -> Any:
        plan = Mixup().draw(*args)
        return plan if self.change is None else self.change(plan)


@dataclass(frozen=True)
class OwnPartners(Partners):
    find: Any = None
    within_batch: Any = False

    def draw(self, generator: Any, bounds: Any, order: Any, facts: Any) -> Any:
        return np.arange(len(order))[::-1] if self.find is None else self.find(len(order))
