"""The plan of an epoch: which rows meet in which batch, and with which weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

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
    position : ndarray of shape (n_mixed - 1, n) or None
        Positions in `rows` of the partners of each example; None for plain training.
    lam : ndarray of shape (n_mixed, n) or None
        The weights, of the example itself first; None for plain training.
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
        Batch b holds the examples ``bounds[b]`` to ``bounds[b + 1]`` of the order. All
        batches but the last have one size.
    order : ndarray of shape (n_samples,)
        All rows of the training set, in the order in which they are visited. Those after
        ``bounds[-1]`` are left out of the epoch.
    place : ndarray of shape (n_mixed - 1, n_planned) or None
        Where in `order` the partners of each example stand; None for plain training.
    lam : ndarray of shape (n_mixed, n_planned) or None
        The weights of each virtual example, adding up to 1, of the example itself first;
        None for plain training.
    within_batch : bool
        Whether all partners come from the same mini-batch.
    """

    bounds: Index
    order: Index
    place: Index | None = None
    lam: Weights | None = None
    within_batch: bool = False

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __iter__(self) -> Iterator[PlannedBatch]:
        for start, stop in pairwise(self.bounds.tolist()):
            yield self._get_batch(start, stop)

    @property
    def index(self) -> Index:
        """Rows that go into each virtual example, shape (n_mixed, n_planned)."""
        own = self.order[None, : self.bounds[-1]]
        return own if self.place is None else np.concatenate([own, self.order[self.place]])

    def _get_batch(self, start: int, stop: int) -> PlannedBatch:
        own, part = self.order[start:stop], slice(start, stop)
        if self.place is None or self.lam is None:
            return PlannedBatch(own)
        place, lam = self.place[:, part], self.lam[:, part]
        if self.within_batch:
            return PlannedBatch(own, place - start, lam)
        position = np.arange(len(own), len(own) + place.size).reshape(place.shape)
        return PlannedBatch(np.append(own, self.order[place]), position, lam)


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
