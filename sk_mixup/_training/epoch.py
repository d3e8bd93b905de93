"""A training epoch that a net is ready for, and which of them can be run as one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
import copy
from dataclasses import dataclass
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sk_mixup._random import TorchStream
from sk_mixup._training.module_structure import describe_module
from sk_mixup._training.stacked_optimizer_step import describe_optimizer
from sk_mixup._training.trainer import ChainTrainer, ModuleTrainer

HIDDEN = "hidden layers are mixed"

__all__ = ["Epoch", "count_flops", "describe_epoch", "iterate_layers"]


@dataclass(eq=False)
class Epoch:
    """A training epoch that a net is ready for.

    Parameters
    ----------
    trainer : Trainer or GanTrainer
        Would train the net alone.
    batches : PlannedBatches or GanBatches
        The batches.
    record : callable
        Takes the losses; see :meth:`Trainer.run_epoch`.
    stream : TorchStream
        What the net draws on torch.
    number, n_epochs : int, default=1
        Which epoch of how many.

    Attributes
    ----------
    losses : Tensor of shape (n_batches,) or None
        The losses, once they are known.
    done : bool
        What :meth:`Trainer.run_epoch` returned.
    error : BaseException or None
        What it raised.
    is_single : bool
        Whether the net was trained while no other was.
    reason : str
        Why, if it cannot be stacked.
    seconds : float
        The net's share of the time.
    """

    trainer: Any
    batches: Any
    record: Callable[[Tensor, list[int]], None]
    stream: TorchStream
    number: int = 1
    n_epochs: int = 1
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

    def take_losses(self, losses: Tensor, sizes: list[int]) -> None:
        """Take the losses of the batches and the batches' sizes."""
        self.losses = losses
        self.record(losses, sizes)

    def run_single(self) -> None:
        """Train the net alone; see :meth:`Trainer.run_epoch`."""
        start = time.perf_counter()
        try:
            self.done = self.trainer.run_epoch(self.batches, self.take_losses)
        except Exception as error:
            self.error = error
        self.seconds = time.perf_counter() - start


def describe_epoch(epoch: Epoch) -> Hashable:
    """Return what epochs share that can be run as one.

    Raises
    ------
    TypeError
        If the epoch must be run alone; the message says why.
    """
    trainer, batches = epoch.trainer, epoch.batches
    hidden = _describe_hidden(epoch)
    parts: tuple[Hashable, ...]
    if isinstance(trainer, ChainTrainer):
        sizes = [(layer.in_features, layer.out_features, layer.bias is None) for layer in trainer.layers]
        names = {p: f"{k}.{name}" for k, p, name in iterate_layers(trainer.layers)}
        parts = ("chain", *sizes)
    elif isinstance(trainer, ModuleTrainer):
        names = {p: name for name, p in trainer.module.named_parameters()}
        autocast: Any = trainer.autocast
        options = getattr(autocast, "args", ()), repr(getattr(autocast, "keywords", autocast))
        parts = ("module", describe_module(trainer.module), options)
    else:
        raise TypeError(f"{type(trainer).__name__} trains one net only")
    x, targets = batches.rows.x, batches.rows.targets
    return (
        *parts,
        describe_optimizer(trainer.optimizer, names),
        (trainer.loss.describe(), trainer.n_outputs, trainer.dtype, trainer.cuda_graph),
        (tuple(x.shape[1:]), getattr(x, "dtype", trainer.dtype), tuple(targets.shape[1:]), targets.device),
        int(batches.plan.bounds[1]),
        hidden,
    )


def _describe_hidden(epoch: Epoch) -> Hashable:
    """Return how a chain is mixed at its hidden layers; what else is mixed there is run alone."""
    plan = epoch.batches.plan
    if not plan.mixes_hidden:
        return None
    if not isinstance(epoch.trainer, ChainTrainer):
        raise TypeError(f"{HIDDEN} of a module that is no plain multilayer perceptron")
    if not plan.within_batch:
        raise TypeError(f"{HIDDEN} with partners from outside the mini-batch")
    if not epoch.batches.rows.on_device:
        raise TypeError(f"{HIDDEN} of rows that are sent batch by batch")
    return len(plan.hidden_weights), tuple(epoch.trainer.levels.values())


def iterate_layers(layers: Sequence[nn.Linear]) -> Iterator[tuple[int, Tensor, str]]:
    """Yield number, parameter and name of all parameters of some layers."""
    for k, layer in enumerate(layers):
        for name, p in layer.named_parameters():
            yield k, p, name


def count_flops(epoch: Epoch) -> int:
    """Return the operations of a module's matrix products and convolutions for one batch; 0 if unknown."""
    trainer, batches = epoch.trainer, epoch.batches
    if not isinstance(trainer, ModuleTrainer):
        return 0
    module = copy.deepcopy(trainer.module).eval()
    x = torch.zeros(int(batches.plan.bounds[1]), *batches.rows.x.shape[1:], dtype=trainer.dtype)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(x.to(batches.rows.targets.device))
    except Exception:  # whatever is wrong with the module shows when it is trained
        return 0
    return int(counter.get_total_flops())
