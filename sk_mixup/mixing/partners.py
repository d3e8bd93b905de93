"""Who is mixed with whom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sk_mixup.mixing.plan import Index

__all__ = ["draw_batch_partners", "draw_class_partners", "draw_dataset_partners"]


def draw_batch_partners(generator: np.random.Generator, bounds: Index) -> Index:
    """Shuffle each mini-batch of an epoch, all batches in one sort.

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
    # All batches but the last have one size, so one row-wise argsort shuffles them all.
    n_even = n_planned if n_planned % size == 0 else int(bounds[-2])
    place = np.empty(n_planned, dtype=np.int64)
    for start, stop, width in ((0, n_even, size), (n_even, n_planned, n_planned - n_even)):
        if stop > start:
            draws = generator.random(((stop - start) // width, width))
            batches = np.argsort(draws, axis=1) + np.arange(start, stop, width)[:, None]
            place[start:stop] = batches.ravel()
    return place


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
