"""The training epoch: blocks of mixed batches, gradients in closed form, the optimizer's kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
import math
from typing import ClassVar

import torch
from torch import Tensor

from sk_mixup._data.batches import Batch, Block, PlannedBatches
from sk_mixup._data.storage import ALIGNMENT
from sk_mixup._data.virtual_examples import HiddenMixing
from sk_mixup._devices import get_limits
from sk_mixup._training.averages import sum_batches
from sk_mixup._training.cuda_graph import (
    GraphedStep,
    check_stack_recordable,
    choose_group_size,
    recordable,
)
from sk_mixup._training.epoch import Epoch, Record, Stack
from sk_mixup._training.losses import Loss
from sk_mixup._training.optimizer_step import FusedUpdate
from sk_mixup._training.stacked_optimizer_step import describe_optimizer

__all__ = ["HIDDEN", "Trainer"]

# What is mixed inside the network in a step, and the tensors that it takes.
Step = tuple[HiddenMixing | None, tuple[Tensor, ...]]
HIDDEN = "hidden layers are mixed"
# Batches are mixed in blocks of about so many numbers: enough to make the cost of the calls
# vanish, few enough to stay in the cache. Targets are prepared, and losses computed, for more.
BLOCK_ELEMENTS = 2**18
TARGET_ELEMENTS = 2**20
# Steps that are recorded as one graph: the host's work for a call is then that of few launches a step.
MOST_RECORDED = 32


class Trainer(ABC):
    """Trains a module on the batches of a plan; nothing in an epoch waits for the device.

    Several batches are gathered and mixed at once, and what their loss can know before the
    outputs is computed at once. A step is then a forward pass, the loss's gradient in
    closed form, the chain rule and the optimizer's kernel: the tensor operations of a
    plain loop, so that plain training gives the weights of a plain loop, bit for bit.

    Parameters
    ----------
    loss : Loss
        The loss of the module's output.
    n_outputs : int
        Number of outputs of the module.
    optimizer : torch.optim.Optimizer
        Descends along the gradients, which are left in ``parameter.grad``.
    dtype : torch.dtype
        Floating dtype of the weights.
    cuda_graph : bool, default=False
        Whether the step is recorded as a CUDA graph and replayed.
    """

    draws: ClassVar[bool] = False
    fewest_stacked: ClassVar[int] = 2
    block_elements = BLOCK_ELEMENTS
    target_elements = TARGET_ELEMENTS
    guard: Callable[[], AbstractContextManager[None]] = torch.no_grad
    hidden: HiddenMixing | None = None
    # Changes the rows that were loaded for some batches, before they are mixed.
    augment: Callable[[Batch], Batch] | None = None

    def __init__(
        self,
        loss: Loss,
        n_outputs: int,
        optimizer: torch.optim.Optimizer,
        *,
        dtype: torch.dtype,
        cuda_graph: bool = False,
    ) -> None:
        self.loss = loss
        self.n_outputs = n_outputs
        self.dtype = dtype
        # Half precision holds neither a loss nor the number of its rows.
        self.loss_dtype = torch.promote_types(self.dtype, torch.float32)
        self.optimizer = optimizer
        self.cuda_graph = cuda_graph

    def get_device(self) -> torch.device:
        """Return where the weights are."""
        return self.list_weights()[0].device

    def list_weights(self) -> list[Tensor]:
        """Return what the optimizer trains."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @abstractmethod
    def describe_module(self, batches: PlannedBatches) -> tuple[Hashable, dict[int, str]]:
        """Return what modules share that can be stacked, and names of the parameters by their id."""

    def describe(self, batches: PlannedBatches) -> Hashable:
        """Return what can be run as one; see :meth:`EpochTrainer.describe`."""
        if self.augment is not None:
            raise TypeError("augment is called on each batch")
        if self.cuda_graph:
            check_stack_recordable(self.optimizer)
        module, names = self.describe_module(batches)
        x, targets = batches.rows.x, batches.rows.targets
        return (
            type(self),
            module,
            describe_optimizer(self.optimizer, names),
            (self.loss.describe(), self.n_outputs, self.dtype, self.cuda_graph),
            (tuple(x.shape[1:]), getattr(x, "dtype", self.dtype), tuple(targets.shape[1:]), targets.device),
            int(batches.plan.bounds[1]),
        )

    @abstractmethod
    def stack(self, epochs: Sequence[Epoch]) -> Stack:
        """Return what runs epochs of one description as one."""

    def is_worth_stacking(self, batches: PlannedBatches, n_nets: int) -> bool:
        """Whether a stack of so many nets is faster than one net after the other."""
        return True

    def count_step_bytes(self, batches: PlannedBatches) -> int:
        """Return about how much a step reads and writes: weights, gradients and two moments."""
        return 4 * sum(p.nbytes for p in self.list_weights())

    def bind(self) -> None:
        """Get ready for an epoch."""
        self.update = FusedUpdate(self.optimizer)

    def run_epoch(self, batches: PlannedBatches, record: Record) -> bool:
        """Train on the batches of one epoch; record them when it ends or is broken off.

        False if the module's first output was not what the loss knows; then nothing was changed.
        """
        self.bind()
        full, features = int(batches.plan.bounds[1]), math.prod(batches.rows.x.shape[1:])
        n_mixed = max(1, self.block_elements // max(1, full * features))
        n_joined = max(1, self.target_elements // (full * 2 * self.n_outputs))
        if not batches.rows.on_device:  # other rows are loaded before they are mixed
            n_joined = min(n_joined, n_mixed)
        if self.augment is not None:
            n_joined = min(n_joined, self._count_augmented(full * features))
        run_steps = self._run_steps
        if self.cuda_graph:
            graphed, bounds = self._make_graphed_step(batches), batches.plan.bounds
            n_full = len(batches) - int(bounds[-1] - bounds[-2] != full)
            most = 1 if graphed.description is None else min(MOST_RECORDED, n_mixed, n_joined)
            size = choose_group_size(n_full, most)
            n_joined -= n_joined % size
            run_steps = partial(self._run_recorded, graphed, full, size)
        # One tensor for the whole epoch: small ones that outlive a block scatter the memory.
        losses = torch.empty(len(batches), dtype=self.loss_dtype, device=batches.rows.targets.device)
        done, shares = list[int](), list[Tensor]()
        try:
            with recordable(self.optimizer) if self.cuda_graph else nullcontext(), self.guard():
                for block, sizes in self._iterate_blocks(batches, n_joined):
                    values = self._run_block(block, sizes, n_mixed, run_steps, shares)
                    if values is None:
                        return False
                    losses[len(done) : len(done) + len(sizes)] = values
                    done.extend(sizes)
        finally:
            self.update.close()
            record(losses[: len(done)], done, torch.cat(shares)[: len(done)] if shares else None)
        return True

    def _make_graphed_step(self, batches: PlannedBatches) -> GraphedStep:
        return GraphedStep(self.step, self.optimizer, partial(self._describe_step, batches))

    def _describe_step(self, batches: PlannedBatches) -> Hashable:
        """Return what a step reads from Python, and where it finds tensors; None where that is unknown."""
        try:
            module, _ = self.describe_module(batches)
        except TypeError:
            return None
        places = tuple(tensor.data_ptr() for tensor in self.list_in_place())
        return type(self), module, self.loss.describe(), self.n_outputs, places

    @abstractmethod
    def list_in_place(self) -> list[Tensor]:
        """Return what a step finds at one place in memory beside the optimizer's weights and state."""

    def _iterate_blocks(
        self, batches: PlannedBatches, n_joined: int
    ) -> Iterator[tuple[Batch | Block, list[int]]]:
        """Yield the blocks of an epoch, their rows augmented."""
        if self.augment is None:
            yield from batches.iterate_blocks(n_joined)
            return
        for batch, sizes in batches.iterate_loaded(n_joined):
            yield self.augment(batch), sizes

    def _count_augmented(self, n_numbers: int) -> int:
        """Return how many batches of so many numbers are augmented at once.

        On the CPU it is one, for the draws to be those of an epoch step by step.
        """
        return max(1, get_limits(self.get_device()).augment_elements // max(1, n_numbers))

    def _run_block(
        self,
        block: Batch | Block,
        sizes: list[int],
        n_mixed: int,
        run_steps: Callable[[Iterator[Step]], bool],
        shares: list[Tensor],
    ) -> Tensor | None:
        y, lam, weight = block.get_mixed_targets()
        lam = lam.to(self.loss_dtype)
        prepared = self.loss.prepare(y, lam, weight, sizes)
        if weight is not None:
            shares.append(sum_batches(weight, sizes))
        kept = lam.new_empty(lam.shape[1], self.n_outputs)
        parts = [torch.split(part, sizes) for part in (kept, *prepared)]
        inputs = zip(self._mix_inputs(block, sizes, n_mixed), *parts, strict=True)
        if not run_steps(zip(block.list_hidden(sizes), inputs, strict=True)):
            return None
        return sum_batches(self.loss.compute_values(kept, *prepared), sizes)

    def _run_steps(self, steps: Iterator[Step]) -> bool:
        return all(self.step(*batch) for self.hidden, batch in steps)

    def _run_recorded(self, graphed: GraphedStep, full: int, size: int, steps: Iterator[Step]) -> bool:
        """Do as many steps at a time as are recorded as one; the others, and smaller batches, as they are."""
        while group := list(islice(steps, size)):
            batches = [batch for _, batch in group]
            is_whole = len(group) == size and len(batches[-1][0]) == full
            if not (graphed(*batches) if is_whole else self._run_steps(iter(group))):
                return False
        return True

    def _mix_inputs(self, block: Batch | Block, sizes: list[int], n_mixed: int) -> Iterator[Tensor]:
        """Yield the inputs of each batch, as if it had been gathered alone.

        Matrix products round differently by where in memory their factors begin, and a
        module may write into its inputs, which autograd forbids in a view.
        """
        if isinstance(block.hidden, HiddenMixing):  # one batch, whose partners go through the network too
            yield self.shape_inputs(block.get_mixed_inputs())
            return
        start = 0
        for first in range(0, len(sizes), n_mixed):
            joined = sizes[first : first + n_mixed]
            x = self.shape_inputs(block.get_mixed_inputs(start, start + sum(joined)))
            is_aligned = len(joined) == 1 or x[: joined[0]].nbytes % ALIGNMENT == 0
            for batch in torch.split(x, joined):
                yield batch.data if is_aligned else batch.clone()
            start += sum(joined)

    def shape_inputs(self, x: Tensor) -> Tensor:
        """Return inputs in the shape in which a step takes them."""
        return x

    @abstractmethod
    def step(self, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Do one step on virtual examples (n, *features).

        The loss writes to `kept` (n, n_outputs) what its values are computed from; `target` is the batch's
        part of what it prepared. False if the loss does not know the module's output.
        """
