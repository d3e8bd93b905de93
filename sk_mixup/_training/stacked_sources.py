"""Where the batches of a stack come from: of nets that are mixed together, or of each net by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sk_mixup._data.batches import Batch, Block, PlannedBatches
from sk_mixup._data.joint_plans import Area, JointPlans
from sk_mixup._training.losses import JointLoss, Loss

__all__ = ["JointSource", "Part", "SingleSource", "Source"]

# Turns virtual examples of so many rows a batch into inputs, targets and whatever else a step
# takes, of shape (n, ...); and returns the weights of the rows, or None.
Prepare = Callable[[Batch | Block, list[int], Loss], tuple[list[Tensor], Tensor | None]]


class Part(NamedTuple):
    """What steps take of some nets: tensors of shape (n_steps, n_nets, n, ...), and the rows' weights."""

    area: Area
    tensors: list[Tensor]
    weight: Tensor | None

    @classmethod
    def make(cls, area: Area, tensors: Sequence[Tensor], weight: Tensor | None) -> Part:
        """Return the rows of an area in the form of its batches."""
        whole = [tensor.view(*area.shape, *tensor.shape[1:]) for tensor in tensors]
        return cls(area, whole, None if weight is None else weight.view(area.shape))


class Source(Protocol):
    """The batches of nets that stand side by side in a stack."""

    start: int
    stop: int

    def read(self, area: Area) -> Part:
        """Return the batches of an area of these nets; areas come in the order of their steps."""


class JointSource:
    """Several nets whose rows are gathered, mixed and prepared by the same calls."""

    def __init__(
        self, batches: Sequence[PlannedBatches], losses: Sequence[Loss], start: int, prepare: Prepare
    ) -> None:
        self.start, self.stop = start, start + len(batches)
        self.plans = JointPlans(batches)
        self.loss = JointLoss(losses, self.plans.device, self.plans.dtype)
        self.prepare = prepare

    def read(self, area: Area) -> Part:
        """Return the batches of an area; see :meth:`Source.read`."""
        own = area.shift(-self.start)
        block = self.plans.make_block(own)
        net = torch.arange(own.start, own.stop, device=self.plans.device).unsqueeze(1)
        loss = self.loss.choose(net.expand(area.shape).reshape(-1))
        n_steps, n_nets, size = area.shape
        return Part.make(area, *self.prepare(block, [size] * (n_steps * n_nets), loss))


class SingleSource:
    """A net whose batches are prepared by themselves, up to `n_joined` of them at once."""

    def __init__(
        self, batches: PlannedBatches, loss: Loss, start: int, prepare: Prepare, n_joined: int
    ) -> None:
        self.start, self.stop = start, start + 1
        self.size = int(batches.plan.bounds[1])
        self.blocks = batches.iterate_blocks(n_joined)
        self.loss, self.prepare = loss, prepare
        self.first = self.last = 0

    def read(self, area: Area) -> Part:
        """Return the batches of an area; see :meth:`Source.read`."""
        if area.first == self.last:
            block, sizes = next(self.blocks)
            self.first, self.last = self.last, self.last + len(sizes)
            self.tensors, self.weight = self.prepare(block, sizes, self.loss)
        n_steps, _, size = area.shape
        start = (area.first - self.first) * self.size
        rows = slice(start, start + n_steps * size)
        weight = None if self.weight is None else self.weight[rows]
        tensors = [tensor[rows] for tensor in self.tensors]
        if area.last == self.last:
            self.tensors = []  # what is not needed any more would push the rest out of the cache
        return Part.make(area, tensors, weight)
