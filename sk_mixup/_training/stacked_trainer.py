"""One training epoch of several nets as one batched program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain, repeat, zip_longest
import math
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor

from sk_mixup._data.batches import Batch, Block
from sk_mixup._training.averages import sum_batches
from sk_mixup._training.cuda_graph import GraphedStep
from sk_mixup._training.epoch import Check, Epoch
from sk_mixup._training.stacked_optimizer_step import StackedUpdate, find_runs, read_options
from sk_mixup._training.trainer import Trainer

__all__ = ["StackedTrainer"]

# Inputs of all nets of a stack are mixed in blocks of about so many numbers.
BLOCK_ELEMENTS = 2**21

T = TypeVar("T", bound=Trainer)


class StackedTrainer(ABC, Generic[T]):
    """Trains several nets of one description as one; each as it would be trained alone.

    The nets are ordered by the length of their epochs, so that those that still train stand in front: a net
    that is done drops out of the stack. Last batches are of different sizes; nets with batches of one size
    are computed together, so that nothing is padded and every net sees just its own rows.
    """

    block_elements = BLOCK_ELEMENTS
    guard: Callable[[], AbstractContextManager[None]] = torch.no_grad
    n_hidden = 0
    # Where each net is mixed in the step at hand; empty if all are at their inputs.
    layers_in_step: Sequence[str | None] = ()

    def __init__(self, epochs: Sequence[Epoch]) -> None:
        self.epochs = sorted(epochs, key=_get_sort_key)
        self.trainers = [cast("T", epoch.trainer) for epoch in self.epochs]
        first = self.trainers[0]
        self.loss, self.n_outputs, self.dtype = first.loss, first.n_outputs, first.dtype
        self.cuda_graph = first.cuda_graph
        self.graphs: dict[int, GraphedStep] = {}
        self.size = int(epochs[0].batches.plan.bounds[1])
        self.lengths = [epoch.n_batches for epoch in self.epochs]
        self.weights = self._stack_weights()
        self.gradients: dict[Tensor, Tensor | None] = dict.fromkeys(self.weights)
        self._update: StackedUpdate | None = None
        self.losses: list[list[Tensor]] = [[] for _ in self.epochs]
        self.sizes: list[list[int]] = [[] for _ in self.epochs]
        self.shares: list[list[Tensor]] = [[] for _ in self.epochs]

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

    def list_layers(self, block: Batch | Block) -> Sequence[str]:
        """Return where each batch of a block is mixed."""
        return ()

    def _stack_weights(self) -> dict[Tensor, Tensor]:
        tensors = [self.list_tensors(trainer) for trainer in self.trainers]
        with torch.no_grad():
            return {parts[0]: torch.stack(parts) for parts in zip(*tensors, strict=True)}

    def _return_weights(self) -> None:
        """Copy weights, buffers and the last gradients from the stack to the nets."""
        stacked = [stack.unbind() for stack in self.weights.values()]
        gradients = [None if stack is None else stack.unbind() for stack in self.gradients.values()]
        with torch.no_grad():
            for k, trainer in enumerate(self.trainers):
                own = self.list_tensors(trainer)
                torch._foreach_copy_(own, [parts[k] for parts in stacked])
                for p, stack in zip(own, gradients, strict=True):
                    p.grad = None if stack is None else stack[k].clone()

    def run_epoch(self, check: Check = lambda: None) -> bool:
        """Train all nets for an epoch; they are as they were if `check` raises, or if it is not done.

        False if the modules' first output was not what the loss knows.
        """
        features = math.prod(self.epochs[0].batches.rows.x.shape[1:])
        n_numbers = self.size * (features + 2 * self.n_outputs) * len(self.epochs)
        n_joined = max(1, self.block_elements // max(1, n_numbers))
        sources = [epoch.batches.iterate_blocks(n_joined) for epoch in self.epochs]
        n_left = len(self.epochs)
        with self.guard():
            for step in range(0, self.lengths[0], n_joined):
                n_left = self._drop_out(n_left, step)
                blocks = [next(source) for source in sources[:n_left]]
                for k, (batch, sizes) in enumerate(self._mix(blocks)):
                    n_left = self._drop_out(n_left, step + k)
                    check()
                    if not self._step(batch, sizes[:n_left]):
                        return False
            self._drop_out(n_left, self.lengths[0])
        self._return_weights()
        self._get_update().commit()
        for epoch, losses, sizes, shares in zip(
            self.epochs, self.losses, self.sizes, self.shares, strict=True
        ):
            epoch.take_losses(torch.cat(losses), sizes, torch.cat(shares) if shares else None)
        return True

    def _drop_out(self, n_left: int, step: int) -> int:
        """Let the nets that have no such step drop out; return how many are left."""
        if self.lengths[n_left - 1] > step:
            return n_left
        n_left = sum(length > step for length in self.lengths)
        self._get_update().narrow(n_left)
        return n_left

    def _mix(
        self, blocks: Sequence[tuple[Batch | Block, list[int]]]
    ) -> Iterator[tuple[tuple[Tensor, ...], list[int]]]:
        """Yield the tensors of a step of all nets, and the sizes of the nets' batches.

        The tensors are inputs, kept outputs and targets, of shape (n_nets, n, ...); a
        batch that is smaller than the largest is padded with undefined rows.
        """
        parts = []
        for trainer, (block, sizes), shares in zip(self.trainers, blocks, self.shares, strict=False):
            y, lam, weight = block.get_mixed_targets()
            lam = lam.to(self.dtype)
            prepared = trainer.loss.prepare(y, lam, weight, sizes)
            if weight is not None:
                shares.append(sum_batches(weight, sizes))
            inputs = self.shape_inputs(block.get_mixed_inputs())
            parts.append((inputs, *self.prepare_hidden(trainer, block, sizes), *prepared))
        all_sizes = [sizes for _, sizes in blocks]
        x, *rest = (_arrange(tensors, all_sizes, self.size) for tensors in zip(*parts, strict=True))
        targets = rest[self.n_hidden :]
        kept = targets[0].new_empty(*x.shape[:3], self.n_outputs)
        in_step = [list(sizes) for sizes in zip_longest(*all_sizes, fillvalue=0)]
        layers = zip_longest(*(self.list_layers(block) for block, _ in blocks))
        for batch, sizes, self.layers_in_step in zip(
            zip(x, kept, *rest, strict=True), in_step, chain(layers, repeat(())), strict=False
        ):
            yield batch, sizes
        values = self.loss.compute_values(kept, *targets)
        sums = values[..., : self.size].sum(dim=2).unbind(1)
        for k, sizes in enumerate(all_sizes):
            losses = sums[k][: len(sizes)]
            if sizes[-1] != self.size:
                losses = torch.cat([losses[:-1], values[len(sizes) - 1, k, : sizes[-1]].sum().view(1)])
            self.losses[k].append(losses)
            self.sizes[k].extend(sizes)

    def _step(self, batch: tuple[Tensor, ...], sizes: list[int]) -> bool:
        """Do one step of the nets that still train."""
        n_nets, n = len(sizes), sizes[0]
        if self.cuda_graph and n == self.size and sizes.count(n) == n_nets:
            if n_nets not in self.graphs:
                self.graphs = {n_nets: GraphedStep(self._step_all)}
            x, kept, *target = (_cut(part, 0, n_nets, n) for part in batch)
            return self.graphs[n_nets](x, kept, *target)
        for start, stop in find_runs(sizes):
            n = sizes[start]
            x, kept, *target = (_cut(part, start, stop, n) for part in batch)
            if not self.step(start, stop, x, kept, *target):
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
            self._update = StackedUpdate(optimizers, self.weights, self.gradients)
        return self._update


def _get_sort_key(epoch: Epoch) -> tuple[int, int, str]:
    """Return the longest first, then by the size of the last batch, then by the optimizer's options."""
    bounds, trainer = epoch.batches.plan.bounds, cast("Trainer", epoch.trainer)
    return -epoch.n_batches, int(bounds[-1] - bounds[-2]), read_options(trainer.optimizer)


def _arrange(parts: Sequence[Tensor], sizes: Sequence[list[int]], size: int) -> Tensor:
    """Return the rows of each net, step by step: shape (n_batches, n_nets, n, ...)."""
    n_batches, largest = max(map(len, sizes)), max(max(own) for own in sizes)
    if all(len(part) == n_batches * size for part in parts):
        return torch.stack([part.view(n_batches, size, *part.shape[1:]) for part in parts], dim=1)
    arranged = parts[0].new_empty(n_batches, len(parts), max(largest, size), *parts[0].shape[1:])
    for k, (part, own) in enumerate(zip(parts, sizes, strict=True)):
        n_even = len(own) if own[-1] == size else len(own) - 1
        arranged[:n_even, k, :size] = part[: n_even * size].view(n_even, size, *part.shape[1:])
        if n_even < len(own):
            arranged[n_even, k, : own[-1]] = part[n_even * size :]
    return arranged


def _cut(part: Tensor, start: int, stop: int, n: int) -> Tensor:
    """Return the first rows of some nets."""
    if stop - start != len(part):
        part = part[start:stop]
    return part if part.shape[1] == n else part[:, :n]
