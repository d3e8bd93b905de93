"""Batches that follow the plan of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sk_mixup._data.storage import Rows, map_features
from sk_mixup._data.virtual_examples import PLAIN, HiddenBlock, HiddenMixing, Variation, send_operations
from sk_mixup._tensors import send
from sk_mixup.mixing.plan import INPUT, Plan, PlannedBatch

__all__ = ["Batch", "Block", "PlannedBatches", "PlannedLoader", "RowSlices", "join_features", "make_batch"]

Features = Tensor | Mapping[str, Tensor]


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
        x: Features,
        y: Tensor,
        weight: Tensor | None = None,
        position: Tensor | None = None,
        lam: Tensor | None = None,
        variation: Variation = PLAIN,
    ) -> Batch:
        """Build the pair of clean examples and remember the rest."""
        n = len(y) if position is None else position.shape[1]
        clean = (x, y) if n == len(y) else (map_features(lambda t: t[:n], x), y[:n])
        batch = super().__new__(cls, clean)
        batch.loaded, batch.targets, batch.weight = x, y, weight
        batch.position, batch.lam, batch.variation = position, lam, variation
        return batch

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
            return map_features(lambda x: x[start:stop], self[0])
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
    if not isinstance(x, Mapping):
        return variation.vary(x, index, lam, start, stop)
    parts = enumerate(x.items())
    return {name: variation.vary(part, index, lam, start, stop, stream) for stream, (name, part) in parts}


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """Return ``values[index]`` for a matrix of indices."""
    return values.index_select(0, index.reshape(-1)).view(*index.shape, *values.shape[1:])


def join_features(x: Any, other: Any) -> Any:
    """Join the rows of two tensors, or of the tensors of two mappings."""
    if isinstance(x, Mapping):
        return {name: torch.cat([value, other[name]]) for name, value in x.items()}
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
        return self._load_spans(self.plan.bounds)

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
        bounds = self.plan.bounds
        cuts = self.rows.on_device and (self.plan.within_batch or not self.plan.mixes_hidden)
        edges = [*range(0, len(self), n_batches if cuts or not self.plan.mixes_hidden else 1), len(self)]
        blocks = self._cut_spans if cuts else self._load_spans
        sizes = np.diff(bounds).tolist()
        spans = (sizes[start:stop] for start, stop in pairwise(edges))
        yield from zip(blocks(bounds[edges]), spans, strict=True)

    def _cut_spans(self, bounds: Any) -> Iterator[Block]:
        """Yield what the plan holds between one bound and the next, still to be gathered."""
        order = self.rows.stage(self.rows.locate(self.plan.order))
        place = self._send(self.plan.place)
        spans = pairwise(bounds.tolist())
        weights, inside = self._iterate_weights(bounds, joined=True), self._iterate_hidden(bounds)
        for (start, stop), (lam, variation), hidden in zip(spans, weights, inside, strict=True):
            index = order[start:stop].unsqueeze(0)
            if place is not None:
                index = torch.cat([index, order[place[:, start:stop]]])
            yield Block(self.rows, index, lam, variation, hidden)

    def _iterate_hidden(self, bounds: Any) -> Iterator[HiddenBlock | None]:
        """Yield what is mixed inside the network between one bound and the next."""
        plan = self.plan
        if not plan.mixes_hidden or plan.layers is None or plan.place is None:
            yield from [None] * (len(bounds) - 1)
            return
        starts = np.repeat(plan.bounds[:-1], np.diff(plan.bounds))
        rows = np.concatenate([np.arange(plan.bounds[-1])[None], plan.place]) - starts
        index, lam = self._send(rows), self._send(plan.hidden_weights)
        assert index is not None
        assert lam is not None
        lam = lam.to(self.dtype)
        numbers = np.searchsorted(plan.bounds, bounds).tolist()
        for (start, stop), (first, last) in zip(pairwise(bounds.tolist()), pairwise(numbers), strict=True):
            yield HiddenBlock(plan.layers[first:last], index[:, start:stop], lam[:, start:stop])

    def _load_spans(self, bounds: Any) -> Iterator[Batch]:
        """Yield what the plan holds between one bound and the next, with its rows loaded."""
        plan, device = self.plan, self.rows.targets.device
        order = self.rows.stage(self.rows.locate(plan.order))
        place: Any = plan.place
        if plan.within_batch or self.rows.on_device:
            place = self._send(place)
        spans = pairwise(bounds.tolist())
        for (start, stop), (lam, variation) in zip(spans, self._iterate_weights(bounds), strict=True):
            rows, position = order[start:stop], None
            if place is not None and plan.within_batch:
                position = place[:, start:stop] - start
            elif place is not None:
                partners = place[:, start:stop]
                rows = _join(rows, order[partners.reshape(-1)])
                position = torch.arange(stop - start, len(rows), device=device).view(partners.shape)
            yield Batch(*self.rows.load(rows), position, lam, variation)

    def _iterate_weights(
        self, bounds: Any, *, joined: bool = False
    ) -> Iterator[tuple[Tensor | None, Variation]]:
        """Yield mixing weights and variation between one bound and the next.

        Batches that are `joined` are not mixed at the input where they are mixed further on.
        """
        plan, weights = self.plan, self.plan.input_weights if joined else self.plan.lam_x
        layers = None if joined else plan.layers
        lam, lam_x, absent = (self._send(part) for part in (plan.lam, weights, plan.absent))
        operations = send_operations(plan.operations, self.rows.targets.device, self.dtype)
        is_plain = not operations and all(part is None for part in (lam_x, absent, layers))
        first = {start: number for number, start in enumerate(plan.bounds.tolist())}
        for start, stop in pairwise(bounds.tolist()):
            own = None if lam is None else lam[:, start:stop].to(self.dtype)
            if is_plain:
                yield own, PLAIN
                continue
            yield (
                own,
                Variation(
                    None if lam_x is None else lam_x[:, start:stop].to(self.dtype),
                    [(operation, values[..., start:stop]) for operation, values in operations],
                    start,
                    INPUT if layers is None else layers[first[start]],
                    None if absent is None else absent[:, start:stop],
                ),
            )

    def _send(self, values: Any) -> Tensor | None:
        return None if values is None else send(values, self.rows.targets.device)


def _join(rows: Any, others: Any) -> Any:
    return torch.cat([rows, others]) if isinstance(rows, Tensor) else np.concatenate([rows, others])


class PlannedLoader:
    """The batches of one epoch, loaded row by row from a map-style data set.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Pairs (x, y), one row at a time.
    plan : Plan
        What the epoch does.
    device : torch.device
        Where the batches go.
    dtype : torch.dtype
        Floating dtype of the mixing weights.
    **kwargs : dict
        Options of :class:`torch.utils.data.DataLoader`, such as ``num_workers``.
    """

    def __init__(
        self, dataset: Dataset[Any], plan: Plan, device: torch.device, dtype: torch.dtype, **kwargs: Any
    ) -> None:
        self.plan = list(plan)
        self.device = device
        self.dtype = dtype
        # A generator of its own keeps the loader from drawing on torch's global one.
        self.loader = DataLoader(
            dataset,
            batch_sampler=[batch.rows.tolist() for batch in self.plan],
            generator=torch.Generator(),
            **kwargs,
        )

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        for (x, y), planned in zip(self.loader, self.plan, strict=True):
            x = map_features(lambda t: send(t, self.device), x)
            yield make_batch(x, send(y, self.device), None, planned, self.dtype)


def make_batch(x: Any, y: Tensor, weight: Tensor | None, planned: PlannedBatch, dtype: torch.dtype) -> Batch:
    """Join loaded rows with their part of the plan."""
    floats, others = (planned.lam, planned.lam_x), (planned.position, planned.absent)
    lam, lam_x = (None if part is None else send(part, y.device, dtype) for part in floats)
    position, absent = (None if part is None else send(part, y.device) for part in others)
    operations = send_operations(planned.operations, y.device, dtype)
    if planned.layer == INPUT and lam_x is absent is None and not operations:
        return Batch(x, y, weight, position, lam)
    variation = Variation(lam_x, operations, planned.start, planned.layer, absent)
    return Batch(x, y, weight, position, lam, variation)
