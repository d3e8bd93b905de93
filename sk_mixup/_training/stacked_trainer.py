"""One training epoch of several nets as one batched program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
import math
from typing import Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from sk_mixup._data.batches import Batch, Block
from sk_mixup._data.joint_plans import Area, can_join, count_numbers, cut_areas, get_layer
from sk_mixup._devices import Limits, get_limits
from sk_mixup._training.cuda_graph import GraphedStep
from sk_mixup._training.epoch import Check, Epoch
from sk_mixup._training.losses import Loss
from sk_mixup._training.stacked_optimizer_step import (
    StackedUpdate,
    find_runs,
    read_options,
    return_weights,
)
from sk_mixup._training.stacked_sources import JointSource, Part, SingleSource, Source
from sk_mixup._training.trainer import Trainer

__all__ = ["StackedTrainer"]

T = TypeVar("T", bound=Trainer)


class StackedTrainer(ABC, Generic[T]):
    """Trains several nets of one description as one; each as it would be trained alone.

    The nets are ordered by the length of their epochs, so that those that still train stand in front: a net
    that is done drops out of the stack. Last batches are of different sizes; nets with batches of one size
    are computed together, so that nothing is padded and every net sees just its own rows.
    """

    guard: Callable[[], AbstractContextManager[None]] = torch.no_grad
    n_hidden = 0
    # Where each net of the step at hand is mixed; empty if all are at their inputs.
    layers_in_step: Sequence[str] = ()

    def __init__(self, epochs: Sequence[Epoch], limits: Limits | None = None) -> None:
        options = read_options([cast("Trainer", epoch.trainer).optimizer for epoch in epochs])
        ordered = sorted(zip(epochs, options, strict=True), key=_get_sort_key)
        self.epochs, self.options = [epoch for epoch, _ in ordered], [own for _, own in ordered]
        self.trainers = [cast("T", epoch.trainer) for epoch in self.epochs]
        first = self.trainers[0]
        self.loss, self.n_outputs = first.loss, first.n_outputs
        self.loss_dtype = first.loss_dtype
        self.limits = get_limits(first.get_device()) if limits is None else limits
        self.cuda_graph = first.cuda_graph
        self.graphs: dict[int, GraphedStep] = {}
        self.size = int(epochs[0].batches.plan.bounds[1])
        self.lengths = [epoch.n_batches for epoch in self.epochs]
        self.weights = self._stack_weights()
        self.gradients: dict[Tensor, Tensor | None] = dict.fromkeys(self.weights)
        self._update: StackedUpdate | None = None
        self.losses = _PerBatch(self.lengths)
        self.shares = _PerBatch(self.lengths)

    @abstractmethod
    def list_tensors(self, trainer: T) -> list[Tensor]:
        """Return parameters and buffers of a net, in the order of the first net's."""

    @abstractmethod
    def step(self, start: int, stop: int, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Compute the gradients of nets `start` to `stop`; as :meth:`Trainer.step`, with an axis of nets."""

    def shape_inputs(self, x: Tensor) -> Tensor:
        """Return inputs in the shape in which a step takes them."""
        return x

    def prepare_hidden(self, trainer: T, block: Batch | Block, sizes: list[int]) -> tuple[Tensor, ...]:
        """Return `n_hidden` tensors of what is mixed at hidden layers, for the rows of a block."""
        return ()

    def get_joint_key(self, trainer: T) -> Hashable:
        """Return what nets share whose batches one call prepares."""
        return trainer.loss.describe_joint()

    def _stack_weights(self) -> dict[Tensor, Tensor]:
        tensors = [self.list_tensors(trainer) for trainer in self.trainers]
        with torch.no_grad():
            return {parts[0]: torch.stack(parts) for parts in zip(*tensors, strict=True)}

    def run_epoch(self, check: Check = lambda: None) -> bool:
        """Train all nets for an epoch; they are as they were if `check` raises, or if it is not done.

        False if the modules' first output was not what the loss knows.
        """
        n_left = len(self.epochs)
        with self.guard():
            areas, sources = self._plan_epoch()
            for beside in areas:
                n_left = self._drop_out(n_left, beside[0].first)
                pieces = [self._mix(area, sources) for area in beside]
                for steps in zip(*(piece.iterate() for piece in pieces), strict=True):
                    check()
                    if not self._step(steps):
                        return False
                for piece in pieces:
                    values = self.loss.compute_values(piece.kept, *piece.targets)
                    self.losses.write(piece.area, values.sum(dim=2))
                del pieces, piece, steps  # before the next are made
            self._drop_out(n_left, self.lengths[0])
        return_weights([self.list_tensors(each) for each in self.trainers], self.weights, self.gradients)
        self._get_update().commit()
        losses, shares = self.losses.read(), self.shares.read()
        for k, epoch in enumerate(self.epochs):
            own = shares[k] if epoch.batches.rows.weight is not None else None
            epoch.take_losses(losses[k], np.diff(epoch.batches.plan.bounds).tolist(), own)
        return True

    def _plan_epoch(self) -> tuple[list[list[Area]], list[Source]]:
        """Return what is computed as one, in the order of the steps, and where the batches come from."""
        batches, most = [epoch.batches for epoch in self.epochs], self.limits.stack_elements
        features = math.prod(batches[0].rows.x.shape[1:])
        n_numbers = self.size * (features + 2 * self.n_outputs) * len(batches)
        n_joined = max(1, most // max(1, n_numbers))
        joint = [each for each in batches if can_join(each)]
        joins = bool(joint) and count_numbers(joint) <= most
        keys = [
            self.get_joint_key(trainer) if joins and can_join(each) else number
            for number, (trainer, each) in enumerate(zip(self.trainers, batches, strict=True))
        ]
        sources = list[Source]()
        for start, stop in find_runs(keys):
            prepare = partial(self._prepare, self.trainers[start])
            losses = [trainer.loss for trainer in self.trainers[start:stop]]
            if stop - start > 1:
                sources.append(JointSource(batches[start:stop], losses, start, prepare))
            else:
                sources.append(SingleSource(batches[start], losses[0], start, prepare, n_joined))
        return cut_areas([each.plan.bounds for each in batches], n_joined), sources

    def _drop_out(self, n_left: int, step: int) -> int:
        """Let the nets that have no such step drop out; return how many are left."""
        if self.lengths[n_left - 1] > step:
            return n_left
        n_left = sum(length > step for length in self.lengths)
        self._get_update().narrow(n_left)
        return n_left

    def _prepare(
        self, trainer: T, block: Batch | Block, sizes: list[int], loss: Loss
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return inputs, what hidden layers need, and targets of some batches; and the rows' weights."""
        y, lam, weight = block.get_mixed_targets()
        prepared = loss.prepare(y, lam.to(self.loss_dtype), weight, sizes)
        inputs = self.shape_inputs(block.get_mixed_inputs())
        return [inputs, *self.prepare_hidden(trainer, block, sizes), *prepared], weight

    def _mix(self, area: Area, sources: Sequence[Source]) -> _Piece:
        """Return an area of batches, ready to be trained on."""
        cut = [(source, area.keep(source.start, source.stop)) for source in sources]
        parts = [source.read(own) for source, own in cut if own.start < own.stop]
        for part in parts:
            if part.weight is not None:
                self.shares.write(part.area, part.weight.sum(dim=2))
        return _Piece(area, parts, self.n_outputs, self.n_hidden)

    def _step(self, steps: Sequence[tuple[Area, Sequence[Tensor]]]) -> bool:
        """Do one step of the nets that still train; those with batches of one size are computed at once."""
        area, tensors = steps[0]
        if self.cuda_graph and len(steps) == 1 and area.size == self.size:
            if area.stop not in self.graphs:
                self.graphs = {area.stop: GraphedStep(self._step_all, self.trainers[0].optimizer)}
            done = self.graphs[area.stop](tensors)
            self._get_update().n_done = area.first + 1  # a recording is replayed without its Python
            return done
        for area, tensors in steps:
            if self.n_hidden:
                plans = [epoch.batches.plan for epoch in self.epochs[area.start : area.stop]]
                self.layers_in_step = [get_layer(plan, area.first) for plan in plans]
            if not self.step(area.start, area.stop, *tensors):
                return False
        self._get_update()()
        return True

    def _step_all(self, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Do one step of nets with batches of one size."""
        if not self.step(0, len(x), x, kept, *target):
            return False
        self._get_update()()
        return True

    def _get_update(self) -> StackedUpdate:
        """Return the optimizers; after the first step it is known which parameters have gradients."""
        if self._update is None:
            optimizers = [trainer.optimizer for trainer in self.trainers]
            self._update = StackedUpdate(optimizers, self.options, self.weights, self.gradients)
        return self._update


class _Piece:
    """An area of batches: inputs, kept outputs, what is mixed at hidden layers, and targets."""

    def __init__(self, area: Area, parts: Sequence[Part], n_outputs: int, n_hidden: int) -> None:
        self.area = area
        columns = zip(*(part.tensors for part in parts), strict=True)
        x, *rest = (each[0] if len(each) == 1 else torch.cat(each, dim=1) for each in columns)
        self.targets = rest[n_hidden:]
        self.kept = self.targets[0].new_empty(*area.shape, n_outputs)
        self.tensors = [x, self.kept, *rest]

    def iterate(self) -> Iterator[tuple[Area, tuple[Tensor, ...]]]:
        """Yield the tensors of each step, with its area."""
        steps = range(self.area.first, self.area.last)
        for step, tensors in zip(steps, zip(*self.tensors, strict=True), strict=True):
            yield self.area._replace(first=step, last=step + 1), tensors


class _PerBatch:
    """A number for each batch of each net, kept on the device."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = lengths
        self.values: Tensor | None = None

    def write(self, area: Area, values: Tensor) -> None:
        """Keep values of shape (n_steps, n_nets)."""
        if self.values is None:
            self.values = values.new_empty(self.lengths[0], len(self.lengths))
        self.values[area.first : area.last, area.start : area.stop] = values

    def read(self) -> list[Tensor]:
        """Wait for the values, and return those of each net; nothing where none were written."""
        if self.values is None:
            return []
        columns = self.values.t().contiguous().cpu().unbind()
        return [own if len(own) == n else own[:n] for own, n in zip(columns, self.lengths, strict=True)]


def _get_sort_key(pair: tuple[Epoch, str]) -> tuple[int, int, str, str]:
    """Return the longest first, then by the size of the last batch, then by what one call serves."""
    epoch, options = pair
    bounds, trainer = epoch.batches.plan.bounds, cast("Trainer", epoch.trainer)
    loss = repr(trainer.loss.describe_joint())
    return -epoch.n_batches, int(bounds[-1] - bounds[-2]), options, loss
