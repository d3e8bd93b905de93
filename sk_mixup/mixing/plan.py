"""The plan of an epoch: which rows meet in which batch, and with which weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Plan", "PlannedBatch", "batch_bounds", "draw_order"]

Index = NDArray[np.int64]
Weights = NDArray[np.float64]


@dataclass(frozen=True)
class PlannedBatch:
    """One mini-batch of a plan.

    Attributes
    ----------
    rows : ndarray of shape (m,)
        Rows of the training set to load. The first ``n`` are the batch's own examples,
        in order; the others, if any, are partners from elsewhere.
    position : ndarray of shape (n_mixed, n) or None
        Position in `rows` of each example that goes into a virtual example; row 0 counts
        up from 0. None for plain training.
    lam : ndarray of shape (n_mixed, n) or None
        The weights; None for plain training.
    """

    rows: Index
    position: Index | None = None
    lam: Weights | None = None


@dataclass(frozen=True)
class Plan:
    """What one epoch does, drawn before it begins.

    Attributes
    ----------
    bounds : ndarray of shape (n_batches + 1,)
        Batch b holds the examples ``bounds[b]`` to ``bounds[b + 1]`` of the order.
    index : ndarray of shape (n_mixed, n_planned)
        Rows of the training set: ``index[0]`` is the epoch's order, ``index[1:]`` the
        partners. Shape (1, n_planned) for plain training.
    lam : ndarray of shape (n_mixed, n_planned) or None
        The weights of each virtual example, adding up to 1; None for plain training.
    position : ndarray of shape (n_mixed, n_planned) or None
        Where partners come from the same mini-batch: their places in it. None if they
        may lie anywhere in the training set.
    """

    bounds: Index
    index: Index
    lam: Weights | None = None
    position: Index | None = None

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __iter__(self) -> Iterator[PlannedBatch]:
        for start, stop in zip(self.bounds[:-1], self.bounds[1:], strict=True):
            yield self._batch(slice(start, stop))

    def _batch(self, part: slice) -> PlannedBatch:
        if self.lam is None:
            return PlannedBatch(self.index[0, part])
        if self.position is not None:
            return PlannedBatch(self.index[0, part], self.position[:, part], self.lam[:, part])
        index = self.index[:, part]
        return PlannedBatch(index.ravel(), np.arange(index.size).reshape(index.shape), self.lam[:, part])


def batch_bounds(n_samples: int, batch_size: int, *, drop_last: bool = False) -> Index:
    """Return where each mini-batch of an epoch begins and ends.

    A last batch of a single row joins the batch before it: alone it has no partner, and
    batch normalisation cannot take it.

    Parameters
    ----------
    n_samples : int
        Rows in the epoch, at least 1.
    batch_size : int
        Rows in a batch, at least 1; -1 makes the whole epoch one batch.
    drop_last : bool, default=False
        Leave out a last batch that is not full, unless it is the only one.

    Returns
    -------
    bounds : ndarray of shape (n_batches + 1,)

    Examples
    --------
    >>> from sk_mixup.mixing import batch_bounds
    >>> batch_bounds(10, 4)
    array([ 0,  4,  8, 10])
    >>> batch_bounds(9, 4)
    array([0, 4, 9])
    """
    size = n_samples if batch_size == -1 else min(batch_size, n_samples)
    bounds = np.append(np.arange(0, n_samples, size), n_samples)
    rest = n_samples % size
    if drop_last and rest:
        return bounds[:-1]
    return np.delete(bounds, -2) if rest == 1 and size > 1 else bounds


def draw_order(generator: np.random.Generator, n_samples: int, *, shuffle: bool = True) -> Index:
    """Return the order in which an epoch visits the rows: a permutation, or 0, 1, 2, ..."""
    return generator.permutation(n_samples) if shuffle else np.arange(n_samples)
