"""Prediction of whole arrays: tables in padded blocks, anything else in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from sklearn import get_config
from sklearn.exceptions import NotFittedError
from sklearn.utils._array_api import get_namespace_and_device
from skorch.exceptions import NotInitializedError
import torch
from torch import Tensor, nn

from sk_mixup._data.storage import Rows, split_padded
from sk_mixup._tensors import is_foreign_array
from sk_mixup.estimators._block_sizes import BLOCK_SIZE, choose_size_on_device, split_table

__all__ = [
    "NotReadyError",
    "Output",
    "TablePredictor",
    "count_at_once",
    "cut_rows",
    "find_like",
    "in_namespace_of",
    "is_table",
]

# Results of so many rows are handed on at once, ...
TABLE_SIZE = 16_384
# ... or of as many as make so many numbers: rows of a sparse matrix are made dense.
TABLE_NUMBERS = 2**24

# What a module returns: one tensor, or several.
Output = Tensor | tuple[Tensor, ...]


class NotReadyError(NotInitializedError, NotFittedError):
    """An estimator is asked to predict that was neither fitted nor initialized."""


def is_table(rows: Rows) -> bool:
    """Whether each example is one row of numbers."""
    return getattr(rows.x, "ndim", None) == 2


def find_like(X: object) -> object:
    """Return an empty array where X is, of its namespace, if scikit-learn dispatches on it; else None."""
    if not get_config()["array_api_dispatch"] or not (isinstance(X, Tensor) or is_foreign_array(X)):
        return None
    xp, _, device = get_namespace_and_device(X)
    like: object = xp.empty(0, device=device)
    return like


def in_namespace_of(X: object, values: np.ndarray) -> np.ndarray:
    """Return predictions as what X is and where it is, if scikit-learn dispatches on arrays.

    Labels that are no numbers stay in numpy, which alone holds them.
    """
    like = find_like(X)
    if like is None or values.dtype.kind not in "biuf":
        return values
    xp, _, device = get_namespace_and_device(like)
    moved: np.ndarray = xp.asarray(values, device=device)
    return moved


def count_at_once(width: int, device: torch.device) -> int:
    """Return how many rows of a table are predicted at once."""
    if device.type != "cpu":  # a block: a part of one would be filled up
        return min(TABLE_SIZE, choose_size_on_device(device, width))
    fitting = TABLE_NUMBERS // max(width, 1)
    return min(TABLE_SIZE, max(BLOCK_SIZE, 2 ** max(0, fitting.bit_length() - 1)))


def cut_rows(rows: Rows, size: int) -> Iterator[Tensor]:
    """Yield copies of the examples, so many at a time."""
    for start in range(0, len(rows), size):
        yield rows.slice(start, min(start + size, len(rows)))[0]


@dataclass(frozen=True)
class TablePredictor:
    """Predicts a table in padded blocks, so that a prediction does not depend on the rows beside it.

    Parameters
    ----------
    evaluate : callable
        Returns the module's outputs for each of several batches.
    module : torch.nn.Module or None
        The module; None where outputs are not those of the module alone.
    get_batch_size : callable
        Returns, for a number of rows, the size of outputs that go to code of the user's.
    in_batches : bool
        Whether they do; else the outputs of a whole part of the table are handed on at once.
    """

    evaluate: Callable[[list[Tensor]], list[Output]]
    module: nn.Module | None
    get_batch_size: Callable[[int], int]
    in_batches: bool

    def predict(self, x: Tensor) -> list[Output]:
        """Return the module's outputs for a part of the table: at once, or in batches."""
        blocks = split_table(x, self.module)
        try:
            outputs = self.evaluate(blocks)
        except torch.OutOfMemoryError:
            if len(blocks[0]) <= BLOCK_SIZE:
                raise
            blocks = split_padded(x, BLOCK_SIZE)
            outputs = self.evaluate(blocks)
        if isinstance(outputs[0], Tensor):
            output = (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[: x.shape[0]]  # type: ignore[arg-type]
            return list(torch.split(output, self.get_batch_size(len(x)))) if self.in_batches else [output]
        batch_size = self.get_batch_size(len(x))
        if any(getattr(part, "shape", ())[:1] != blocks[0].shape[:1] for part in outputs[0]):
            # not a row for each example
            return self.evaluate([part.clone() for part in torch.split(x, batch_size)])
        columns = [torch.cat(column)[: len(x)] for column in zip(*outputs, strict=True)]
        return list(zip(*(torch.split(column, batch_size) for column in columns), strict=True))
