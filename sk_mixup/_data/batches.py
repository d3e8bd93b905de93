"""Batches that follow the plan of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count, pairwise
from typing import Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from sk_mixup._data.storage import Rows, map_features
from sk_mixup._data.virtual_examples import PLAIN, HiddenBlock, HiddenMixing, Variation, send_operations
from sk_mixup._tensors import send
from sk_mixup.mixing.plan import INPUT, Plan

__all__ = [
    "Batch",
    "Block",
    "PlannedBatches",
    "RowSlices",
    "SentPlan",
    "is_pair",
    "join_features",
]

Features = Tensor | Mapping[str, Tensor]
Order = NDArray[np.int64] | Tensor
# What stands for targets where there are not even None.
MISSING = object()


class Batch(tuple[Any, Tensor]):
    """A mini-batch: a pair (x, y) of its own examples, and what they are mixed with.

    It unpacks as ``x, y = batch``, so code that knows nothing of mixing sees an ordinary
    batch of clean examples.

    Parameters
    ----------
    x : Tensor of shape (m, *features), or a mapping of such
        All rows that were loaded; the batch's own n examples come first.
    y : Tensor of shape (m, ...)
        Their targets.
    weight : Tensor of shape (m,) or None
        Their weights.
    position : Tensor of shape (k - 1, n), dtype int64, or None
        Which loaded rows are the partners of each example; None for plain training.
    lam : Tensor of shape (k, n) or None
        The mixing weights, of the example itself first; None for plain training.
    variation : Variation, default=Variation()
        How the inputs differ from the sum that the targets are.
    """

    loaded: Any
    targets: Tensor
    weight: Tensor | None
    position: Tensor | None
    lam: Tensor | None
    variation: Variation

    def __new__(
        cls,
        x: object,
        y: object = MISSING,
        weight: Tensor | None = None,
        position: Tensor | None = None,
        lam: Tensor | None = None,
        variation: Variation = PLAIN,
    ) -> Batch:
        """Build the pair of clean examples and remember the rest."""
        if y is MISSING:
            raise TypeError(
                "batch must be handed on as it is; got its clean pair alone, as skorch.utils.to_device makes "
                "another of it, which would not be mixed. Leave that to `infer`, or use copy.copy."
            )
        loaded, targets = cast(tuple[Any, Any], (x, y))  # anything where nothing is mixed
        n = None if position is None or position.shape[1] == len(targets) else position.shape[1]
        clean = (loaded, targets) if n is None else (map_features(lambda t: t[:n], loaded), targets[:n])
        batch = super().__new__(cls, clean)
        batch.loaded, batch.targets, batch.weight = loaded, targets, weight
        batch.position, batch.lam, batch.variation = position, lam, variation
        return batch

    def __reduce__(self) -> tuple[type[Batch], tuple[object, ...]]:
        """Copy, and pickle, what the batch is mixed with too."""
        varied = () if self.variation is PLAIN else (self.variation,)
        return Batch, (self.loaded, self.targets, self.weight, self.position, self.lam, *varied)

    @property
    def is_clean(self) -> bool:
        """Whether the inputs are the examples as they are."""
        return self.lam is None and self.variation is PLAIN

    @property
    def hidden(self) -> HiddenMixing | None:
        """What is mixed inside the network, if the inputs are not."""
        layer, lam = self.variation.layer, self.lam if self.variation.lam is None else self.variation.lam
        if layer == INPUT or lam is None:
            return None
        return HiddenMixing(layer, self._get_index(), lam, len(self.targets))

    def list_hidden(self, sizes: Sequence[int]) -> list[HiddenMixing | None]:
        """Return what is mixed inside the network, for each batch that is joined here."""
        return [self.hidden] * len(sizes)

    def get_mixed_inputs(self, start: int = 0, stop: int | None = None) -> Any:
        """Return the inputs of virtual examples; the examples themselves if not mixed.

        Where a hidden layer is mixed, all rows that were loaded are returned.

        Parameters
        ----------
        start, stop : int, default=0, None
            Which of them; None for all.

        Returns
        -------
        x : Tensor of shape (stop - start, *features), or a mapping of such

        Raises
        ------
        TypeError
            If inputs that are to be mixed are not of a floating dtype.
        """
        if self.hidden is not None:
            return self.loaded
        if (self.position is None or self.lam is None) and self.variation is PLAIN:
            is_part = start > 0 or stop is not None
            return map_features(lambda x: x[start:stop], self[0]) if is_part else self[0]
        index, lam = self._get_index()[:, start:stop], None if self.lam is None else self.lam[:, start:stop]
        return _vary(self.variation, self.loaded, index, lam, start, stop)

    def _get_index(self) -> Tensor:
        """Return which loaded rows go into each virtual example, shape (k, n)."""
        position = self.position
        n = len(self.targets) if position is None else position.shape[1]
        own = torch.arange(n, device=self.targets.device).unsqueeze(0)
        return own if position is None else torch.cat([own, position])

    def get_mixed_targets(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return targets and mixing weights of the examples that are mixed, and their weight.

        Returns
        -------
        y : Tensor of shape (k, n, ...)
            Targets; k is 1 for a batch that is not mixed.
        lam : Tensor of shape (k, n)
            Mixing weights; ones for a batch that is not mixed.
        weight : Tensor of shape (n,) or None
            Weight of each virtual example: the product of its examples' weights.
        """
        if self.position is None or self.lam is None:
            dtype = None if self.weight is None else self.weight.dtype
            lam = torch.ones(1, len(self.targets), dtype=dtype, device=self.targets.device)
            return self.targets.unsqueeze(0), lam, self.weight
        index = self._get_index()
        weight = None if self.weight is None else self.variation.weigh(_gather(self.weight, index))
        return _gather(self.targets, index), self.lam, weight


class Block:
    """Several batches, one after the other, of rows on the device; gathered as they are mixed.

    Parameters
    ----------
    rows : Rows
        The training set, on the device.
    index : Tensor of shape (k, n), dtype int64
        Rows that go into each virtual example.
    lam : Tensor of shape (k, n) or None
        The mixing weights; None for plain training.
    variation : Variation, default=Variation()
        How the inputs differ from the sum that the targets are.
    hidden : HiddenBlock, default=None
        What is mixed inside the network; None for nothing.
    """

    def __init__(
        self,
        rows: Rows,
        index: Tensor,
        lam: Tensor | None,
        variation: Variation = PLAIN,
        hidden: HiddenBlock | None = None,
    ) -> None:
        self.rows = rows
        self.index = index
        self.lam = lam
        self.variation = variation
        self.hidden = hidden

    def list_hidden(self, sizes: Sequence[int]) -> list[HiddenMixing | None]:
        """Return what is mixed inside the network, for each batch of so many rows."""
        return [None] * len(sizes) if self.hidden is None else self.hidden.split(sizes)

    def get_mixed_inputs(self, start: int = 0, stop: int | None = None) -> Any:
        """Return the inputs of some virtual examples; see :meth:`Batch.get_mixed_inputs`."""
        index, lam = self.index[:, start:stop], None if self.lam is None else self.lam[:, start:stop]
        return _vary(self.variation, self.rows.x, index, lam, start, stop)

    def get_mixed_targets(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return targets and weights; see :meth:`Batch.get_mixed_targets`."""
        rows = self.rows
        weight = None if rows.weight is None else self.variation.weigh(_gather(rows.weight, self.index))
        lam = self.lam
        if lam is None:
            dtype = None if weight is None else weight.dtype
            lam = torch.ones(self.index.shape, dtype=dtype, device=self.index.device)
        return _gather(rows.targets, self.index), lam, weight


def _vary(
    variation: Variation, x: Any, index: Tensor, lam: Tensor | None, start: int, stop: int | None
) -> Any:
    """Return virtual examples, of one input or of several."""
    streams = count()  # of noise, one for each input
    return map_features(lambda part: variation.vary(part, index, lam, start, stop, next(streams)), x)


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """Return ``values[index]`` for a matrix of indices."""
    return values.index_select(0, index.reshape(-1)).view(*index.shape, *values.shape[1:])


def join_features(x: Any, other: Any) -> Any:
    """Join the rows of two tensors, or of the tensors of two mappings or lists."""
    if isinstance(x, Mapping):
        return {name: join_features(value, other[name]) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [join_features(*values) for values in zip(x, other, strict=True)]
    return torch.cat([x, other])


class RowSlices:
    """The batches of whole arrays in order, for validation and prediction.

    Parameters
    ----------
    rows : Rows
        The set.
    batch_size : int
        Rows in a batch.
    """

    def __init__(self, rows: Rows, batch_size: int) -> None:
        self.rows = rows
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.rows), self.batch_size):
            yield Batch(*self.rows.slice(start, min(start + self.batch_size, len(self.rows))))

    def iterate_joined(self, n_batches: int) -> Iterator[tuple[Any, Tensor, Tensor | None, list[int]]]:
        """Yield inputs, targets and weights of several batches at a time, with their sizes."""
        for start in range(0, len(self.rows), n_batches * self.batch_size):
            stop = min(start + n_batches * self.batch_size, len(self.rows))
            edges = [*range(start, stop, self.batch_size), stop]
            yield (*self.rows.slice(start, stop), [after - before for before, after in pairwise(edges)])


class SentPlan:
    """A plan that was sent to the device once, and is cut there.

    Parameters
    ----------
    plan : Plan
        What an epoch does.
    device : torch.device
        Where to.
    dtype : torch.dtype
        Floating dtype of the mixing weights.
    """

    def __init__(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> None:
        self.plan = plan
        self.device = device
        self.dtype = dtype
        self.bounds: list[int] = plan.bounds.tolist()
        self.lam = self._send_weights(plan.lam)
        self.absent = None if plan.absent is None else send(plan.absent, device)
        self.operations = send_operations(plan.operations, device, dtype)

    def _send_weights(self, weights: NDArray[np.float64] | None) -> Tensor | None:
        return None if weights is None else send(weights, self.device, self.dtype)

    @cached_property
    def place(self) -> Tensor | None:
        """Places of the partners."""
        return None if self.plan.place is None else send(self.plan.place, self.device)

    @cached_property
    def lam_x(self) -> Tensor | None:
        """Weights of what is mixed where others than those of the targets."""
        return self._send_weights(self.plan.lam_x)

    @cached_property
    def input_weights(self) -> Tensor | None:
        """The same for the inputs, which are left alone in batches that are mixed further on."""
        return self._send_weights(self.plan.input_weights)

    @cached_property
    def hidden(self) -> tuple[Tensor, Tensor] | None:
        """Positions in its batch, and weights, of what is mixed inside the network."""
        position = self.plan.hidden_positions if self.plan.mixes_hidden else None
        if position is None:
            return None
        return send(position, self.device), send(self.plan.hidden_weights, self.device, self.dtype)

    def list_rows(self, order: Order, first: int, last: int) -> Order:
        """Return the rows that some batches load: their own, then partners from elsewhere.

        Parameters
        ----------
        order : ndarray or Tensor of shape (n_samples,)
            Where the rows of the plan's order stand.
        first, last : int
            The batches from `first` on, before `last`.
        """
        part = slice(self.bounds[first], self.bounds[last])
        if self.plan.place is None or self.plan.within_batch:
            return order[part]
        if isinstance(order, np.ndarray):
            return np.append(order[part], order[self.plan.place[:, part]])
        assert self.place is not None
        return torch.cat([order[part], order[self.place[:, part].reshape(-1)]])

    def make_batch(self, x: Features, y: Tensor, weight: Tensor | None, first: int, last: int) -> Batch:
        """Return some batches as one, from the rows that were loaded for them."""
        start, stop = self.bounds[first], self.bounds[last]
        position = None
        if self.plan.within_batch and self.place is not None:
            position = self.place[:, start:stop] - start
        elif self.plan.place is not None:
            position = torch.arange(stop - start, len(y), device=self.device).view(-1, stop - start)
        layer = INPUT if self.plan.layers is None else self.plan.layers[first]
        lam, variation = self._cut_weights(start, stop, self.lam_x, layer)
        return Batch(x, y, weight, position, lam, variation)

    def make_block(self, rows: Rows, order: Tensor, first: int, last: int) -> Block:
        """Return some batches side by side, of rows on the device that are gathered as they are mixed."""
        start, stop = self.bounds[first], self.bounds[last]
        index = order[start:stop].unsqueeze(0)
        if self.place is not None:
            index = torch.cat([index, order[self.place[:, start:stop]]])
        lam, variation = self._cut_weights(start, stop, self.input_weights, INPUT)
        return Block(rows, index, lam, variation, self._cut_hidden(first, last))

    def _cut_weights(
        self, start: int, stop: int, lam_x: Tensor | None, layer: str
    ) -> tuple[Tensor | None, Variation]:
        # Sums round by the layout of their terms, which follows that of the weights.
        lam = None if self.lam is None else self.lam[:, start:stop].contiguous()
        if lam_x is self.absent is None and not self.operations and layer == INPUT:
            return lam, PLAIN
        variation = Variation(
            None if lam_x is None else lam_x[:, start:stop].contiguous(),
            [(operation, values[..., start:stop]) for operation, values in self.operations],
            start,
            layer,
            None if self.absent is None else self.absent[:, start:stop],
        )
        return lam, variation

    def _cut_hidden(self, first: int, last: int) -> HiddenBlock | None:
        if self.hidden is None or self.plan.layers is None:
            return None
        position, lam = (part[:, self.bounds[first] : self.bounds[last]] for part in self.hidden)
        return HiddenBlock(self.plan.layers[first:last], position, lam)


class PlannedBatches:
    """The batches of one epoch, cut from whole arrays.

    The plan is sent to the device once, when the iteration begins.

    Parameters
    ----------
    rows : Rows
        The training set.
    plan : Plan
        What the epoch does.
    dtype : torch.dtype
        Floating dtype of the mixing weights.
    """

    def __init__(self, rows: Rows, plan: Plan, dtype: torch.dtype) -> None:
        self.rows = rows
        self.plan = plan
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        return (batch for batch, _ in self._load(range(len(self) + 1)))

    def iterate_blocks(self, n_batches: int) -> Iterator[tuple[Batch | Block, list[int]]]:
        """Yield several batches at a time, joined, with their sizes.

        Parameters
        ----------
        n_batches : int
            The most batches to join, at least 1. Batches that are mixed inside the network
            with partners from elsewhere are not joined.

        Yields
        ------
        block : Batch or Block
            The virtual examples of the batches, one after the other.
        sizes : list of int
            Rows in each batch; only the last of the epoch may differ from the others.
        """
        gathers = self.rows.on_device and (self.plan.within_batch or not self.plan.mixes_hidden)
        edges = [*range(0, len(self), n_batches), len(self)]
        yield from self._gather(edges) if gathers else self.iterate_loaded(n_batches)

    def iterate_loaded(self, n_batches: int) -> Iterator[tuple[Batch, list[int]]]:
        """Yield the same with all rows loaded; batches that are mixed inside the network are not joined."""
        return self._load([*range(0, len(self), 1 if self.plan.mixes_hidden else n_batches), len(self)])

    def _gather(self, edges: Sequence[int]) -> Iterator[tuple[Block, list[int]]]:
        """Yield the batches from one edge to the next, whose rows are gathered as they are mixed."""
        sent, sizes = self._send_plan(), np.diff(self.plan.bounds).tolist()
        order = send(self.rows.locate(self.plan.order), sent.device)
        for first, last in pairwise(edges):
            yield sent.make_block(self.rows, order, first, last), sizes[first:last]

    def _load(self, edges: Sequence[int]) -> Iterator[tuple[Batch, list[int]]]:
        """Yield the batches from one edge to the next, with their rows loaded."""
        sent, sizes = self._send_plan(), np.diff(self.plan.bounds).tolist()
        order = self.rows.stage(self.rows.locate(self.plan.order))
        for first, last in pairwise(edges):
            loaded = self.rows.load(sent.list_rows(order, first, last))
            yield sent.make_batch(*loaded, first, last), sizes[first:last]

    def _send_plan(self) -> SentPlan:
        return SentPlan(self.plan, self.rows.targets.device, self.dtype)


def is_pair(loaded: object) -> TypeGuard[tuple[Features, Tensor]]:
    """Whether a loader has yielded examples and their targets."""
    return isinstance(loaded, tuple | list) and len(loaded) == 2 and isinstance(loaded[1], Tensor)
