"""The plan of an epoch: which rows meet in which batch, and with which weights.

One word for each number of an example, here and wherever plans are followed:

========  ==================================================================================
row       number of an example in the training set
order     the rows, as an epoch visits them
place     where in the order an example stands: its row is ``order[place]``
position  where in the rows that a mini-batch has loaded it stands: its row is ``rows[position]``
index     matrix of the rows, or of the positions, that go into each virtual example: its own
          in the first line, its partners' in the others
========  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sk_mixup.mixing.operations import Operation

__all__ = ["INPUT", "Plan", "PlannedBatch", "batch_bounds", "draw_order"]

# Where a batch is mixed, if not at the output of a submodule.
INPUT = "input"

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
        Positions of the partners of each example; None where nothing is mixed.
    lam : ndarray of shape (n_mixed, n) or None
        The weights, of the example itself first; None where nothing is mixed.
    lam_x, operations, layer, absent
        The batch's part of what :class:`Plan` holds under these names; `layer` is one name.
    start : int
        The place of the epoch at which the batch begins.
    """

    rows: Index
    position: Index | None = None
    lam: Weights | None = None
    lam_x: Weights | None = None
    operations: tuple[Operation, ...] = ()
    layer: str = INPUT
    absent: NDArray[np.bool_] | None = None
    start: int = 0


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
        Places of the partners of each example; None where nothing is mixed.
    lam : ndarray of shape (n_mixed, n_planned) or None
        The weights of the targets in each virtual example, of the example itself first; they
        sum to 1. None where nothing is mixed.
    within_batch : bool
        Whether all partners come from the same mini-batch.
    lam_x : ndarray of shape (n_mixed, n_planned) or None
        The weights of the inputs where they are others than those of the targets.
    operations : tuple of Operation
        What is done to the inputs after they are mixed, such as :class:`AddNoise`. A batch
        that is mixed at a hidden layer must be left alone.
    layers : tuple of str, of length n_batches, or None
        Where each batch is mixed: the name of a submodule, whose output is mixed, or
        'input'. None mixes the inputs of all.
    absent : ndarray of shape (n_mixed - 1, n_planned), dtype bool, or None
        Partners that an example lacks, in a mixture of policies with different numbers of them.

    Notes
    -----
    What breaks one of these rules is refused when a vicinity has drawn it.
    """

    bounds: Index
    order: Index
    place: Index | None = None
    lam: Weights | None = None
    within_batch: bool = False
    lam_x: Weights | None = None
    operations: tuple[Operation, ...] = ()
    layers: tuple[str, ...] | None = None
    absent: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __iter__(self) -> Iterator[PlannedBatch]:
        for number, (start, stop) in enumerate(pairwise(self.bounds.tolist())):
            yield self._get_batch(number, start, stop)

    @property
    def is_plain(self) -> bool:
        """Whether the examples are trained on as they are."""
        return self.lam is None and not self.operations

    @property
    def index(self) -> Index:
        """Rows that go into each virtual example, shape (n_mixed, n_planned)."""
        own = self.order[None, : self.bounds[-1]]
        return own if self.place is None else np.concatenate([own, self.order[self.place]])

    @property
    def mixes_hidden(self) -> bool:
        """Whether some batch is mixed inside the network."""
        return self.layers is not None and any(layer != INPUT for layer in self.layers)

    @property
    def input_weights(self) -> Weights | None:
        """Weights of the inputs where they are others than those of the targets.

        Where a batch is mixed at a hidden layer, those of the example itself are 1.
        """
        if self.layers is None or self.lam is None:
            return self.lam_x
        weights = self.hidden_weights.copy()
        weights[:, self._is_hidden()] = np.eye(len(weights))[:, :1]
        return weights

    @property
    def hidden_weights(self) -> Weights:
        """Weights of what is mixed, inputs or the outputs of a hidden layer."""
        weights = self.lam if self.lam_x is None else self.lam_x
        assert weights is not None, "asked only where rows are mixed"
        return weights

    @property
    def hidden_positions(self) -> Index | None:
        """Positions in its batch of what is mixed, shape (n_mixed, n_planned)."""
        if self.place is None:
            return None
        starts = np.repeat(self.bounds[:-1], np.diff(self.bounds))
        return np.concatenate([np.arange(self.bounds[-1])[None], self.place]) - starts

    def _is_hidden(self) -> NDArray[np.bool_]:
        """Return of each planned example whether it is mixed inside the network."""
        layers = self.layers or (INPUT,) * len(self)
        return np.repeat([layer != INPUT for layer in layers], np.diff(self.bounds))

    def _get_batch(self, number: int, start: int, stop: int) -> PlannedBatch:
        own, part = self.order[start:stop], slice(start, stop)
        operations = tuple(operation.cut(part) for operation in self.operations)
        if self.place is None or self.lam is None:
            return PlannedBatch(own, operations=operations, start=start)
        place, rows = self.place[:, part], own
        if self.within_batch:
            position = place - start
        else:
            position = np.arange(len(own), len(own) + place.size).reshape(place.shape)
            rows = np.append(own, self.order[place])
        lam_x = None if self.lam_x is None else self.lam_x[:, part]
        layer = INPUT if self.layers is None else self.layers[number]
        absent = None if self.absent is None else self.absent[:, part]
        return PlannedBatch(rows, position, self.lam[:, part], lam_x, operations, layer, absent, start)


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
