"""What runs a training epoch faster than step by step, where there is such a thing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
import math
from typing import Any

import torch
from torch import nn

from sk_mixup._data.batches import PlannedBatches
from sk_mixup._data.storage import Rows
from sk_mixup._skorch.stack_member import find_own_stream, warn_single
from sk_mixup._training.epoch import Epoch, EpochTrainer, Record
from sk_mixup._training.gan import GanBatches
from sk_mixup._training.losses import Loss
from sk_mixup._training.module import ModuleTrainer
from sk_mixup._training.module_structure import find_levels, find_linear_layers
from sk_mixup._training.perceptron import PerceptronTrainer
from sk_mixup._training.trainer import Trainer
from sk_mixup.stacking._scheduler import find_task

__all__ = ["TrainingStep", "run_trainer"]


@dataclass(frozen=True)
class TrainingStep:
    """What a training step consists of that is this library's and skorch's alone.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    optimizer : torch.optim.Optimizer
        Descends along its gradients.
    loss : Loss
        The loss, with its gradient in closed form.
    n_outputs : int
        Width of the module's output.
    dtype : torch.dtype
        Floating dtype of the weights.
    autocast : callable
        Makes the context of the forward pass.
    is_cast : bool
        Whether the forward pass runs in mixed precision.
    cuda_graph : bool, default=False
        Whether the step is recorded as a CUDA graph.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Loss
    n_outputs: int
    dtype: torch.dtype
    autocast: Callable[[], AbstractContextManager[Any]]
    is_cast: bool
    cuda_graph: bool = False

    def build_trainer(self, rows: Rows, hidden: Collection[str] = ()) -> Trainer | str:
        """Return the trainer for these rows, or in words why there is none."""
        if isinstance(rows.x, Mapping) or getattr(rows.x, "dtype", self.dtype) != self.dtype:
            return "X is no array of the dtype of the weights"
        layers = None if self.is_cast else find_linear_layers(self.module, rows.x.ndim)
        levels = find_levels(self.module) if hidden else {}
        if layers is None or not levels.keys() >= set(hidden):
            return ModuleTrainer(
                self.module,
                self.loss,
                self.n_outputs,
                self.optimizer,
                autocast=self.autocast,
                cuda_graph=self.cuda_graph,
            )
        if not self._trains(layers, rows):
            return "the module's weights are not those that are trained"
        return PerceptronTrainer(layers, self.loss, self.optimizer, levels=levels, cuda_graph=self.cuda_graph)

    def _trains(self, layers: list[nn.Linear], rows: Rows) -> bool:
        """Whether the optimizer has all weights of the layers, and they fit the rows."""
        trained = {p for group in self.optimizer.param_groups for p in group["params"]}
        parameters = {p for layer in layers for p in layer.parameters()}
        alike = {(p.dtype, p.device) for p in parameters} == {(self.dtype, rows.targets.device)}
        sizes = layers[0].in_features, layers[-1].out_features
        return alike and parameters == trained and sizes == (math.prod(rows.x.shape[1:]), self.n_outputs)


def run_trainer(
    trainer: EpochTrainer,
    batches: PlannedBatches | GanBatches,
    record: Record,
    number: int,
    n_epochs: int,
) -> bool:
    """Train on the batches of an epoch, as one program with other nets where such are trained.

    Parameters
    ----------
    trainer : EpochTrainer
        Trains the net.
    batches : PlannedBatches or GanBatches
        The batches, of the kind that the trainer takes.
    record : callable
        Called with losses and numbers of rows of batches.
    number, n_epochs : int
        Which epoch of how many.

    Returns
    -------
    done : bool
        False if the epoch must run step by step.
    """
    task = find_task()
    if task is None:
        return trainer.run_epoch(batches, record)
    epoch = Epoch(trainer, batches, record, find_own_stream(), number, n_epochs)
    task.ask(epoch)
    epoch.stream.is_single = epoch.is_single
    if epoch.reason:
        warn_single(epoch.reason)
    return epoch.done
