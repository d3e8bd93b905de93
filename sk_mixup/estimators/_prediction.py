"""Prediction of whole arrays: tables in blocks of one size, anything else in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sklearn.exceptions import NotFittedError
from skorch.exceptions import NotInitializedError
import torch
from torch import Tensor

from sk_mixup._data.storage import Rows, split_padded

__all__ = ["NotReadyError", "Output", "TablePredictor", "cut_rows", "is_table"]

# A table is predicted in blocks of this many rows, the last one padded: float32 matrix
# products choose their kernel by batch size, and rows predicted one by one differed from
# rows predicted together by up to 3e-7.
BLOCK_SIZE = 256
# Results of so many rows are handed on at once.
TABLE_SIZE = 64 * BLOCK_SIZE

# What a module returns: one tensor, or several.
Output = Tensor | tuple[Tensor, ...]


class NotReadyError(NotInitializedError, NotFittedError):
    """An estimator is asked to predict that was neither fitted nor initialized."""


def is_table(rows: Rows) -> bool:
    """Whether each example is one row of numbers."""
    return getattr(rows.x, "ndim", None) == 2


def cut_rows(rows: Rows, size: int) -> Iterator[Tensor]:
    """Yield the examples, so many at a time."""
    for start in range(0, len(rows), size):
        yield rows.slice(start, min(start + size, len(rows)))[0]


@dataclass(frozen=True)
class TablePredictor:
    """Predicts a table in padded blocks, so that a prediction does not depend on the rows beside it.

    Parameters
    ----------
    evaluate : callable
        Returns the module's outputs for each of several batches.
    batch_size : int
        Of outputs that go to code of the user's.
    in_batches : bool
        Whether they do; else the outputs of a whole part of the table are handed on at once.
    """

    evaluate: Callable[[list[Tensor]], list[Output]]
    batch_size: int
    in_batches: bool

    def predict(self, rows: Rows) -> Iterator[Output]:
        """Yield the module's outputs, in order."""
        for x in cut_rows(rows, TABLE_SIZE):
            yield from self._predict_part(x)

    def _predict_part(self, x: Tensor) -> list[Output]:
        outputs = self.evaluate(split_padded(x, BLOCK_SIZE))
        if isinstance(outputs[0], Tensor):
            output = torch.cat(outputs)[: len(x)]  # type: ignore[arg-type]
            return list(torch.split(output, self.batch_size)) if self.in_batches else [output]
        if any(len(part) != BLOCK_SIZE for part in outputs[0]):  # not a row for each example
            return self.evaluate(list(torch.split(x, self.batch_size)))
        columns = [torch.cat(column)[: len(x)] for column in zip(*outputs, strict=True)]
        return list(zip(*(torch.split(column, self.batch_size) for column in columns), strict=True))
