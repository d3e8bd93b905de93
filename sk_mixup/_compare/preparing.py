"""Rows that are made numbers once for each split, and not once for each alpha."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Lock
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

from joblib import parallel_config
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Kept", "PreparedOnce"]

Made = TypeVar("Made")
Prepared: TypeAlias = "np.ndarray | pd.DataFrame"


class Kept:
    """What was made, by key; copies are the same, so that clones of an estimator share it."""

    def __init__(self) -> None:
        self._values: dict[Hashable, object] = {}
        self._lock = Lock()

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def find(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what is kept under a key, made at the first call; other threads wait for it.

        It is made in this thread alone: parts of it that became tasks would wait for those who wait here.
        """
        with self._lock, parallel_config("sequential"):
            if key not in self._values:
                self._values[key] = make()
            found: Made = self._values[key]  # type: ignore[assignment]
            return found


class PreparedOnce(TransformerMixin, BaseEstimator):
    """A transformer whose clones share what they learn and make of the same rows.

    Parameters
    ----------
    transformer : transformer
        What is shared; it must be deterministic.
    kept : Kept
        Where that is kept.

    Notes
    -----
    Rows are told apart by their labels: all frames must be parts of one table whose index has no duplicates.
    """

    def __init__(self, transformer: BaseEstimator, kept: Kept) -> None:
        self.transformer = transformer
        self.kept = kept

    def fit(self, X: pd.DataFrame, y: object = None) -> Self:
        """Learn from the rows."""
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: pd.DataFrame, y: object = None) -> Prepared:
        """Learn from the rows, and return the numbers made of them."""

        def make() -> tuple[BaseEstimator, Prepared]:
            transformer = clone(self.transformer)
            return transformer, transformer.fit_transform(X, y)

        self.rows_ = _name_rows(X)
        self.transformer_, prepared = self.kept.find(self.rows_, make)
        return prepared

    def transform(self, X: pd.DataFrame) -> Prepared:
        """Return the numbers that are made of other rows."""
        return self.kept.find((self.rows_, _name_rows(X)), lambda: self.transformer_.transform(X))


def _name_rows(X: pd.DataFrame) -> bytes:
    return np.asarray(X.index, dtype=np.int64).tobytes()
