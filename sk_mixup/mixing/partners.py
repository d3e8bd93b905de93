"""Who is mixed with whom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sk_mixup.mixing.plan import Index

__all__ = ["draw_batch_positions", "draw_class_partners", "draw_dataset_partners"]


def draw_batch_positions(generator: np.random.Generator, bounds: Index, n_mixed: int) -> Index:
    """Shuffle each mini-batch of an epoch against itself, all batches in one sort.

    Parameters
    ----------
    generator : numpy.random.Generator
        Source of randomness.
    bounds : ndarray of shape (n_batches + 1,)
        Where the batches begin and end.
    n_mixed : int
        Examples in a virtual example; n_mixed - 1 permutations are drawn.

    Returns
    -------
    position : ndarray of shape (n_mixed, n_planned)
        Places within each batch: row 0 counts up, every other row is a permutation.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import draw_batch_positions
    >>> draw_batch_positions(np.random.default_rng(0), np.array([0, 3, 5]), n_mixed=2)
    array([[0, 1, 2, 0, 1],
           [2, 1, 0, 0, 1]])
    """
    size, n_planned = int(bounds[1]), int(bounds[-1])
    # All batches but the last have one size, so one row-wise argsort shuffles them all.
    n_even = n_planned if n_planned % size == 0 else int(bounds[-2])
    position = np.empty((n_mixed, n_planned), dtype=np.int64)
    for k in range(n_mixed):
        for part, width in ((slice(0, n_even), size), (slice(n_even, n_planned), n_planned - n_even)):
            position[k, part] = _draw_places(generator, part.stop - part.start, width, shuffle=k > 0)
    return position


def _draw_places(generator: np.random.Generator, n_rows: int, width: int, *, shuffle: bool) -> Index:
    """Return the places 0 ... width - 1 for each run of `width` rows, in order or shuffled."""
    if n_rows == 0:
        return np.empty(0, dtype=np.int64)
    if not shuffle:
        return np.tile(np.arange(width), n_rows // width)
    return np.argsort(generator.random((n_rows // width, width)), axis=1).ravel()


def draw_dataset_partners(generator: np.random.Generator, n_samples: int) -> Index:
    """Return a permutation of the training set: row i is mixed with ``partner[i]``."""
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
