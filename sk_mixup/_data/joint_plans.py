"""Plans of several nets that are followed as one: their rows in one table, gathered at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from sk_mixup._data.batches import Block, PlannedBatches
from sk_mixup._data.storage import Rows
from sk_mixup._data.virtual_examples import PLAIN, HiddenBlock, Variation
from sk_mixup._tensors import send
from sk_mixup.mixing.plan import INPUT, Plan

__all__ = ["Area", "JointPlans", "can_join", "count_numbers", "cut_areas", "get_layer"]

Number = TypeVar("Number", np.int64, np.float64, np.bool_)


class Area(NamedTuple):
    """Steps `first` to `last` of the nets `start` to `stop`, whose batches have one size there."""

    first: int
    last: int
    start: int
    stop: int
    size: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of steps, nets and rows."""
        return self.last - self.first, self.stop - self.start, self.size

    def keep(self, start: int, stop: int) -> Area:
        """Return the part of some nets; `start` is then at least `stop` where there is none."""
        return self._replace(start=max(self.start, start), stop=min(self.stop, stop))

    def shift(self, n_nets: int) -> Area:
        """Return the area of nets whose numbers are so much higher."""
        return self._replace(start=self.start + n_nets, stop=self.stop + n_nets)


def cut_areas(bounds: Sequence[NDArray[np.int64]], n_joined: int) -> list[list[Area]]:
    """Cut epochs into areas of at most `n_joined` steps; each list has those of the same steps.

    Parameters
    ----------
    bounds : sequence of ndarray of shape (n_batches + 1,)
        Where each net's batches begin and end, longer epochs first. All batches but the last
        have one size, the same for all nets.
    n_joined : int
        The most steps of an area.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup._data.joint_plans import cut_areas
    >>> for areas in cut_areas([np.array([0, 4, 8, 12]), np.array([0, 4, 7])], n_joined=9):
    ...     print(*map(tuple, areas))
    (0, 1, 0, 2, 4)
    (1, 2, 0, 1, 4) (1, 2, 1, 2, 3)
    (2, 3, 0, 1, 4)
    """
    size = int(bounds[0][1])
    lengths = [len(own) - 1 for own in bounds]
    last_sizes = [int(own[-1] - own[-2]) for own in bounds]
    # Sizes differ only where an epoch ends.
    odd = {n - 1 for n, last in zip(lengths, last_sizes, strict=True) if last != size}
    edges = sorted({*range(0, lengths[0], n_joined), *lengths, *odd})
    areas = []
    for first, last in pairwise(edges):
        ends = (n == first + 1 for n in lengths if n > first)
        sizes = [own if end else size for own, end in zip(last_sizes, ends, strict=False)]
        cuts = [0, *(k for k in range(1, len(sizes)) if sizes[k] != sizes[k - 1]), len(sizes)]
        areas.append([Area(first, last, *nets, sizes[nets[0]]) for nets in pairwise(cuts)])
    return areas


def can_join(batches: PlannedBatches) -> bool:
    """Whether a plan can be followed beside others: rows on the device, and nothing done but mixing."""
    return batches.rows.on_device and not batches.plan.operations


def count_numbers(batches: Sequence[PlannedBatches]) -> int:
    """Return how many numbers the table of some nets' examples holds."""
    return sum({id(each.rows.x): each.rows.x.numel() for each in batches}.values())


class JointPlans:
    """The plans of several nets, sent to the device at once and cut there.

    Parameters
    ----------
    batches : sequence of PlannedBatches
        The epoch of each net; see :func:`can_join`. Examples have one shape and dtype.
    """

    def __init__(self, batches: Sequence[PlannedBatches]) -> None:
        self.plans = plans = [each.plan for each in batches]
        self.rows, begins = _join_rows([each.rows for each in batches])
        self.size = int(plans[0].bounds[1])
        self.lengths = [len(plan.order) for plan in plans]
        starts = [0, *accumulate(self.lengths)]
        self.n_lines = max(1 if plan.lam is None else len(plan.lam) for plan in plans)
        self.device, self.dtype = self.rows.targets.device, batches[0].dtype
        located = zip(batches, begins, strict=True)
        order = np.concatenate([begin + each.rows.locate(each.plan.order) for each, begin in located])
        self.order = send(order, self.device)
        self.starts = send(np.asarray(starts[:-1]), self.device)
        self.place = self._send_places(starts)
        is_mixed = any(plan.lam is not None for plan in plans)
        self.lam = self._send_weights([plan.lam for plan in plans]) if is_mixed else None
        inputs = [plan.input_weights for plan in plans]
        differ = any(weights is not None for weights in inputs)
        both = zip(inputs, plans, strict=True)
        self.lam_x = (
            self._send_weights([plan.lam if x is None else x for x, plan in both]) if differ else None
        )
        self.absent = self._send_absent()
        self.hidden = self._send_hidden()

    def _join(self, parts: Sequence[NDArray[Number] | None], fill: NDArray[Number]) -> NDArray[Number]:
        """Return the columns of all nets side by side; lines and columns that a net lacks are filled."""
        return np.concatenate([_widen(*each, fill) for each in zip(parts, self.lengths, strict=True)], axis=1)

    def _send_places(self, starts: Sequence[int]) -> Tensor | None:
        if self.n_lines == 1:
            return None
        joined = self._join([plan.place for plan in self.plans], np.full((self.n_lines - 1, 1), -1))
        joined += np.repeat(starts[:-1], self.lengths)
        own = np.arange(starts[-1])
        # What is no partner is the row itself, with the weight 0.
        missing = joined < np.repeat(starts[:-1], self.lengths)
        return send(np.where(missing, own, joined) if missing.any() else joined, self.device)

    def _send_weights(self, weights: Sequence[NDArray[np.float64] | None]) -> Tensor:
        return send(self._join(weights, np.eye(self.n_lines)[:, :1]), self.device, self.dtype)

    def _send_absent(self) -> Tensor | None:
        """Send which partners are none, where rows have weights: these are not multiplied."""
        counts = [1 if plan.lam is None else len(plan.lam) for plan in self.plans]
        differ = len(set(counts)) > 1 or any(plan.absent is not None for plan in self.plans)
        if self.rows.weight is None or self.place is None or not differ:
            return None
        none = [np.zeros((n - 1, len(plan.order)), bool) for n, plan in zip(counts, self.plans, strict=True)]
        parts = [
            here if plan.absent is None else plan.absent for here, plan in zip(none, self.plans, strict=True)
        ]
        return send(self._join(parts, np.full((self.n_lines - 1, 1), True)), self.device)

    def _send_hidden(self) -> tuple[Tensor, Tensor] | None:
        """Send positions in its batch, and weights, of what is mixed inside the networks."""
        if not self.plans[0].mixes_hidden:
            return None
        weights = self._send_weights([plan.hidden_weights for plan in self.plans])
        positions = [plan.hidden_positions for plan in self.plans]
        return send(self._join(positions, np.zeros((self.n_lines, 1), np.int64)), self.device), weights

    def make_block(self, area: Area) -> Block:
        """Return the virtual examples of an area: step by step, in each net by net."""
        n_steps, _, size = area.shape
        first = area.first * self.size
        steps = torch.arange(first, first + n_steps * size, device=self.device).view(n_steps, 1, size)
        own = (self.starts[area.start : area.stop].unsqueeze(1) + steps).view(-1)
        index = self.order.index_select(0, own).unsqueeze(0)
        if self.place is not None:
            place = self.place.index_select(1, own)
            index = torch.cat([index, self.order.index_select(0, place.view(-1)).view_as(place)])
        lam, lam_x, absent = (
            None if values is None else values.index_select(1, own)
            for values in (self.lam, self.lam_x, self.absent)
        )
        is_plain = lam_x is None and absent is None
        variation = PLAIN if is_plain else Variation(lam_x, absent=absent)
        return Block(self.rows, index, lam, variation, self._cut_hidden(area, own))

    def _cut_hidden(self, area: Area, own: Tensor) -> HiddenBlock | None:
        if self.hidden is None:
            return None
        plans = self.plans[area.start : area.stop]
        layers = [get_layer(plan, step) for step in range(area.first, area.last) for plan in plans]
        return HiddenBlock(tuple(layers), *(part.index_select(1, own) for part in self.hidden))


def _widen(part: NDArray[Number] | None, length: int, fill: NDArray[Number]) -> NDArray[Number]:
    """Return as many lines as `fill` has, of a certain length."""
    if part is not None and part.shape == (len(fill), length):
        return part
    whole = np.repeat(fill, length, axis=1)
    if part is not None:
        whole[: part.shape[0], : part.shape[1]] = part
    return whole


def get_layer(plan: Plan, step: int) -> str:
    """Return where a batch is mixed."""
    return INPUT if plan.layers is None else plan.layers[step]


def _join_rows(sets: Sequence[Rows]) -> tuple[Rows, list[int]]:
    """Return the rows of several sets in one table, and where each begins; shared ones are there once."""
    begins, distinct, n_rows = dict[tuple[int, ...], int](), list[Rows](), 0
    keys = [(id(rows.x), id(rows.targets), id(rows.weight)) for rows in sets]
    for key, rows in zip(keys, sets, strict=True):
        if key not in begins:
            begins[key] = n_rows
            distinct.append(rows)
            n_rows += len(rows.targets)
    found = [begins[key] for key in keys]
    if len(distinct) == 1:
        return Rows(sets[0].x, sets[0].targets, sets[0].weight), found
    weight = None
    if any(rows.weight is not None for rows in distinct):
        weight = torch.cat([_get_weight(rows) for rows in distinct])
    x, y = (torch.cat([getattr(rows, name) for rows in distinct]) for name in ("x", "targets"))
    return Rows(x, y, weight), found


def _get_weight(rows: Rows) -> Tensor:
    if rows.weight is not None:
        return rows.weight
    return torch.ones(len(rows.targets), dtype=torch.get_default_dtype(), device=rows.targets.device)
