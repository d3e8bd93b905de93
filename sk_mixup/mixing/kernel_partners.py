"""Partners by a Gaussian kernel on the targets, without a matrix of all pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sk_mixup.mixing.plan import Index, Weights

__all__ = ["draw_kernel_partners"]

# Targets are binned in cells of this width, in bandwidths. Cells this far away hold no row
# that counts: exp(-8.5**2 / 2) is 2e-16, and a row's weight to itself is 1.
CELL = 0.5
N_CELLS = 18
# So many rows are drawn at once. Those that have refused so many proposals, or a sixteenth of
# the number of rows, are drawn directly, which costs about as much.
CHUNK = 2**14
N_PROPOSALS = 64
DIRECT_CELLS = 2**24
# A narrower kernel, as a share of the largest target, would overflow.
LEAST = 1e-100


def draw_kernel_partners(
    generator: np.random.Generator, targets: NDArray[np.floating], bandwidth: float
) -> Index:
    """Draw a partner for each row, likelier the nearer its target: section 3 of [1]_.

    Row j becomes the partner of row i with probability proportional to
    ``exp(-|y_i - y_j|**2 / (2 bandwidth**2))``; a row may be its own partner.

    Parameters
    ----------
    generator : numpy.random.Generator
        Source of randomness.
    targets : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Targets of each row, finite.
    bandwidth : float
        Standard deviation of the kernel, in units of the targets, above 0.

    Returns
    -------
    partner : ndarray of shape (n_samples,), dtype int64
        The partner of each row.

    Notes
    -----
    No matrix of all pairs is built. The rows are sorted by their targets (by the first
    principal component, if there are several) and binned in cells of half a bandwidth. A
    row draws a cell by an upper bound of its weight, a row of that cell uniformly, and accepts
    it with its weight over the bound: rejection sampling, which is exact. Rows that refuse too
    many proposals are drawn from their full weights, a few at a time. Memory grows linearly
    with the number of rows: a million rows with one target took 0.3 s and 58 bytes each (one
    thread of an AMD EPYC). With several targets that are many bandwidths apart, time can grow
    with the square of the number of rows.

    References
    ----------
    .. [1] H. Yao, Y. Wang, L. Zhang, J. Zou and C. Finn, "C-Mixup: Improving Generalization
       in Regression", NeurIPS 2022, https://arxiv.org/abs/2210.05775

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import draw_kernel_partners
    >>> targets = np.array([0.0, 100.0, 0.1, 100.1])
    >>> draw_kernel_partners(np.random.default_rng(0), targets, bandwidth=1.0) % 2
    array([0, 1, 0, 1])
    """
    table = np.asarray(targets, dtype=np.float64).reshape(len(targets), -1)
    table = table - np.median(table, axis=0)  # where most rows are, their differences are exact
    table /= max(bandwidth, LEAST * np.abs(table).max())
    line = _project(table)
    order = np.argsort(line, kind="stable")
    line = line[order]
    # Both a cell and its neighbours are found by their numbers among those that hold rows.
    cells, starts = np.unique(np.floor(line / CELL), return_index=True)
    sampler = _Sampler(table[order], cells, np.append(starts, len(line)))
    partner = np.empty(len(line), dtype=np.int64)
    for start in range(0, len(line), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(line)))
        partner[order[rows]] = order[sampler.draw(generator, rows)]
    return partner


def _project(table: Weights) -> Weights:
    """Return one number per row whose differences are at most the rows' distances."""
    if table.shape[1] == 1:
        return table[:, 0]
    centred = table - table.mean(axis=0)
    return table @ np.linalg.eigh(centred.T @ centred)[1][:, -1]


class _Sampler:
    """Draws partners of rows by rejection; their targets are in bandwidths, sorted, in cells of a line."""

    steps = np.arange(-N_CELLS, N_CELLS + 1)
    ceiling = np.exp(-0.5 * (CELL * np.maximum(np.abs(steps) - 1, 0)) ** 2)

    def __init__(self, table: Weights, cells: Weights, bounds: Index) -> None:
        self.table = table
        self.cells = cells
        self.bounds = bounds

    def draw(self, generator: np.random.Generator, rows: Index) -> Index:
        """Return a partner of each row; the rows stand side by side."""
        own = np.searchsorted(self.bounds, rows, side="right") - 1
        known, which = np.unique(own, return_inverse=True)
        near, weight = self._weigh_cells(known)
        partner = np.empty(len(rows), dtype=np.int64)
        left, n_done = np.arange(len(rows)), 0
        while len(left) and n_done < max(N_PROPOSALS, len(self.table) // 16):
            n = max(1, CHUNK // len(left))  # the fewer are left, the more is proposed to each
            own = np.repeat(left, n)
            drawn, bound = self._propose(generator, near, weight, which[own])
            accept = generator.random(len(own)) * bound < self._compare(rows[own], drawn)
            accept, drawn = accept.reshape(-1, n), drawn.reshape(-1, n)
            first = np.arange(len(left)), accept.argmax(axis=1)
            partner[left] = drawn[first]
            left, n_done = left[~accept[first]], n_done + n
        if len(left):
            partner[left] = self._draw_directly(generator, rows[left])
        return partner

    def _weigh_cells(self, known: Index) -> tuple[Index, Weights]:
        """Return the cells round some cells, and the cumulated bounds of their weights."""
        wanted = self.cells[known, None] + self.steps
        near = np.minimum(np.searchsorted(self.cells, wanted), len(self.cells) - 1)
        counts = np.where(self.cells[near] == wanted, np.diff(self.bounds)[near], 0)
        return near, np.cumsum(counts * self.ceiling, axis=1)

    def _propose(
        self, generator: np.random.Generator, near: Index, weight: Weights, which: Index
    ) -> tuple[Index, Weights]:
        """Draw a row for each, and return it with the bound of its weight."""
        height = generator.random(len(which)) * weight[which, -1]
        step = np.minimum((weight[which] <= height[:, None]).sum(axis=1), len(self.steps) - 1)
        cell = near[which, step]
        drawn = self.bounds[cell] + (
            generator.random(len(which)) * (self.bounds[cell + 1] - self.bounds[cell])
        ).astype(np.int64)
        return drawn, self.ceiling[step]

    def _compare(self, rows: Index, others: Index) -> Weights:
        """Return the kernel's weights of pairs."""
        return np.exp(-0.5 * np.square(self.table[rows] - self.table[others]).sum(axis=-1))

    def _draw_directly(self, generator: np.random.Generator, rows: Index) -> Index:
        """Draw from the full weights, a few rows at a time."""
        drawn = []
        n_rows = max(1, DIRECT_CELLS // self.table.size)
        for part in np.split(rows, range(n_rows, len(rows), n_rows)):
            weight = np.cumsum(self._compare(part[:, None], np.arange(len(self.table))), axis=1)
            height = generator.random(len(part)) * weight[:, -1]
            drawn.append((weight <= height[:, None]).sum(axis=1))
        return np.concatenate(drawn)
