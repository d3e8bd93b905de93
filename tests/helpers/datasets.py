"""Data sets of a user's own that several test files train on."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import IterableDataset, TensorDataset


class Pairs(torch.utils.data.Dataset):
    """A map-style data set of a user's own; it holds no arrays."""

    def __init__(self, X: Any, y: Any) -> None:
        self.pairs = [(torch.as_tensor(x), int(code)) for x, code in zip(X, y, strict=True)]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, row: int) -> Any:
        return self.pairs[row]


class Stream(IterableDataset):
    """The pairs of another data set, in order."""

    def __init__(self, pairs: Any) -> None:
        self.pairs = pairs

    def __iter__(self) -> Any:
        return (self.pairs[row] for row in range(len(self.pairs)))


def make_tensor_dataset(X: Any, y: Any) -> TensorDataset:
    return TensorDataset(torch.as_tensor(X), torch.as_tensor(y))


class Items(torch.utils.data.Dataset):
    """Yields whatever a function makes of a row."""

    def __init__(self, n_rows: int, make: Callable[[int], Any]) -> None:
        self.n_rows, self.make = n_rows, make

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, row: int) -> Any:
        return self.make(row)
