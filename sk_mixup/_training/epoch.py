"""A training epoch that a net is ready for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
import math
import time
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from sk_mixup._random import TorchStream

__all__ = ["Check", "Epoch", "EpochTrainer", "Record", "Stack"]

# Takes the losses of the batches of an epoch, a tensor of shape (n_batches,), their sizes, and what each
# counts in the mean of the epoch, another such tensor, or None where that is its size.
Record = Callable[[Tensor, list[int], Tensor | None], None]
# Called before each step of a stack; raises to break off.
Check = Callable[[], None]


class Stack(Protocol):
    """Several nets that are trained as one."""

    def run_epoch(self, check: Check) -> bool:
        """Train all nets for an epoch; they are as they were if `check` raises, or if it is not done.

        False if the modules' first output was not what the loss knows.
        """


class EpochTrainer(Protocol):
    """What trains one net for an epoch, on batches of its kind, and knows how several are trained as one.

    If it `draws` on torch's global generator, the net is not trained beside others by threads, but for as
    part of a stack. `fewest_stacked` is the fewest nets that are stacked on the CPU, even if what they read
    and write does not fit into the cache.
    """

    draws: ClassVar[bool]
    fewest_stacked: ClassVar[int]

    def get_device(self) -> torch.device:
        """Return where the weights are."""

    def run_epoch(self, batches: Any, record: Record) -> bool:
        """Train on the batches of one epoch; see :meth:`Trainer.run_epoch`."""

    def describe(self, batches: Any) -> Hashable:
        """Return what trainers and batches share that can be run as one; a TypeError says why not."""

    def stack(self, epochs: Sequence[Epoch]) -> Stack:
        """Return what runs the epochs of trainers and batches of one description as one."""

    def is_worth_stacking(self, batches: Any, n_nets: int) -> bool:
        """Whether a stack of so many nets is faster than one net after the other."""

    def count_step_bytes(self, batches: Any) -> int:
        """Return about how much a step reads and writes."""


@dataclass(eq=False)
class Epoch:
    """A training epoch that a net is ready for, and what came of it.

    `trainer` would train the net alone on the `batches`, `record` takes the losses, `stream` is what the net
    draws on torch, `most_threads` how many threads a step is worth.
    Then `done` is what the trainer returned and `error` what it raised, `is_single` tells that no other net
    was trained meanwhile, `reason` why it cannot be stacked; `seconds` is its share of the time.
    """

    trainer: EpochTrainer
    batches: Any
    record: Record
    stream: TorchStream
    number: int = 1
    n_epochs: int = 1
    most_threads: float = math.inf
    losses: Tensor | None = None
    done: bool = False
    error: BaseException | None = None
    is_single: bool = False
    reason: str = ""
    seconds: float = 0.0

    @property
    def n_batches(self) -> int:
        """Number of steps."""
        return len(self.batches)

    def take_losses(self, losses: Tensor, sizes: list[int], shares: Tensor | None) -> None:
        """Take the losses of the batches, the batches' sizes, and what each counts."""
        self.losses = losses
        self.record(losses, sizes, shares)

    def run_single(self) -> None:
        """Train the net alone; see :meth:`Trainer.run_epoch`."""
        start = time.perf_counter()
        try:
            self.done = self.trainer.run_epoch(self.batches, self.take_losses)
        except Exception as error:
            self.error = error
        self.seconds = time.perf_counter() - start
