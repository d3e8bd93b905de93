"""Who is mixed with whom: draws of partners from a batch, the training set or a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sk_mixup.mixing.plan import Index

# So many rows are drawn at once: what is drawn stays in the cache until it is used.
CHUNK = 2**16

__all__ = ["draw_batch_partners", "draw_class_partners", "draw_dataset_partners"]


def draw_batch_partners(generator: np.random.Generator, bounds: Index) -> Index:
    """Shuffle each mini-batch of an epoch, many batches in one sort.

    Parameters
    ----------
    generator : numpy.random.Generator
        Source of randomness.
    bounds : ndarray of shape (n_batches + 1,)
        Where the batches begin and end; all but the last have one size.

    Returns
    -------
    place : ndarray of shape (n_planned,)
        A permutation that keeps every batch: the example at place i of the epoch is mixed
        with the one at ``place[i]``.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import draw_batch_partners
    >>> draw_batch_partners(np.random.default_rng(0), np.array([0, 3, 5]))
    array([2, 1, 0, 3, 4])
    """
    size, n_planned = int(bounds[1]), int(bounds[-1])
    # All batches but the last have one size, so row-wise sorts shuffle many of them at once.
    n_even = n_planned if n_planned % size == 0 else int(bounds[-2])
    step = max(1, CHUNK // size) * size
    place = np.empty(n_planned, dtype=np.int64)
    for start in range(0, n_even, step):
        part = place[start : min(start + step, n_even)]
        _shuffle_batches(generator, part.reshape(-1, size), start)
    if n_even < n_planned:
        _shuffle_batches(generator, place[n_even:].reshape(1, -1), n_even)
    return place


def _shuffle_batches(generator: np.random.Generator, places: Index, start: int) -> None:
    """Fill the rows of `places` with permutations of their places, counted from `start`."""
    # Random keys are sorted that hold their places in their last bits: the order of positive
    # floats is that of their bits, and sorting takes a third of the time of an argsort.
    n_batches, size = places.shape
    generator.random(out=places.view(np.float64))
    mask = (1 << (size - 1).bit_length()) - 1
    places &= ~mask
    places |= np.arange(size)
    places.sort(axis=1)
    places &= mask
    places += np.arange(start, start + n_batches * size, size)[:, None]


def draw_dataset_partners(generator: np.random.Generator, n_samples: int) -> Index:
    """Return a permutation of the epoch: place i is mixed with place ``partner[i]``."""
    return generator.permutation(n_samples)


def draw_class_partners(generator: np.random.Generator, labels: NDArray[np.generic]) -> Index:
    """Shuffle the rows of each class among themselves.

    Parameters
    ----------
    generator : numpy.random.Generator
        Source of randomness.
    labels : ndarray of shape (n_samples,)
        Class of each row.

    Returns
    -------
    partner : ndarray of shape (n_samples,)
        A permutation with ``labels[partner[i]] == labels[i]``; the only row of a class
        is its own partner.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import draw_class_partners
    >>> draw_class_partners(np.random.default_rng(1), np.array([0, 1, 0, 1, 0]))
    array([2, 3, 4, 1, 0])
    """
    places = np.argsort(labels, kind="stable")
    shuffled = np.lexsort((generator.random(len(labels)), labels))
    partner = np.empty(len(labels), dtype=np.int64)
    partner[places] = shuffled
    return partner
