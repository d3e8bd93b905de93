"""What runs an epoch faster than step by step, where there is such a thing, and why else there is not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
import math
from typing import Any, Protocol

from skorch.history import History
import torch
from torch import nn

from sk_mixup._data.batches import PlannedBatches, RowSlices
from sk_mixup._data.storage import Rows
from sk_mixup._skorch.default_callbacks import Watchers
from sk_mixup._skorch.overriding import STEPS, find_overridden
from sk_mixup._skorch.precision import HALF
from sk_mixup._skorch.stack_member import find_own_stream, warn_single
from sk_mixup._training.epoch import Epoch, EpochTrainer, Record
from sk_mixup._training.gan import GanBatches
from sk_mixup._training.losses import Loss
from sk_mixup._training.module import ModuleTrainer
from sk_mixup._training.module_structure import find_levels, find_linear_layers
from sk_mixup._training.optimizer_step import find_own_method, is_plain_step
from sk_mixup._training.perceptron import PerceptronTrainer
from sk_mixup._training.threads import find_most_threads
from sk_mixup._training.trainer import HIDDEN, Trainer
from sk_mixup._validation import check_graph_device
from sk_mixup.mixing.plan import INPUT
from sk_mixup.stacking._scheduler import find_task

__all__ = [
    "TrainingStep",
    "choose_evaluator",
    "choose_trainer",
    "find_own_step",
    "run_trainer",
    "train_fast",
    "validate_fast",
]


class SkorchNet(Protocol):
    """A mixed skorch net, as far as the choice of a trainer asks for it."""

    augment: object
    cuda_graph: bool
    history: History
    optimizer_: torch.optim.Optimizer
    scaler_: torch.amp.GradScaler | None
    _modules: list[str]
    _criteria: list[str]
    _optimizers: list[str]
    _n_epochs_before: int
    _n_epochs_now: int

    @property
    def _torch_device(self) -> torch.device: ...

    @property
    def _watchers(self) -> Watchers: ...

    def _find_own_step(self) -> str: ...

    def _set_training(self, training: bool) -> None: ...

    def choose_trainer(self, batches: object, fit_params: Mapping[str, object]) -> Trainer | str:
        """Return what runs a training epoch faster than step by step, or in words why it cannot be done."""

    def get_evaluator(self, batches: object, fit_params: Mapping[str, object]) -> PerceptronTrainer | None:
        """Return what computes the losses of a validation set faster than step by step, if there is such."""

    def _build_trainer(
        self, rows: Rows, *, training: bool = False, hidden: Collection[str] = ()
    ) -> Trainer | str: ...


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
        is_plain = not self.is_cast and self.dtype not in HALF
        layers = find_linear_layers(self.module, rows.x.ndim) if is_plain else None
        levels = find_levels(self.module) if hidden else {}
        if layers is None or not levels.keys() >= set(hidden):
            return ModuleTrainer(
                self.module,
                self.loss,
                self.n_outputs,
                self.optimizer,
                dtype=self.dtype,
                autocast=self.autocast,
                cuda_graph=self.cuda_graph,
            )
        if not self._trains(layers, rows):
            return "the module's weights are not those that are trained"
        return PerceptronTrainer(layers, self.loss, self.optimizer, levels=levels, cuda_graph=self.cuda_graph)

    def _trains(self, layers: list[nn.Linear], rows: Rows) -> bool:
        """Whether the optimizer has all weights of the layers, and they fit the rows."""
        trained = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        parameters = [p for layer in layers for p in layer._parameters.values() if p is not None]
        alike = {(p.dtype, p.device) for p in parameters} == {(self.dtype, rows.targets.device)}
        sizes = layers[0].in_features, layers[-1].out_features
        return (
            alike
            and set(map(id, parameters)) == trained
            and sizes == (math.prod(rows.x.shape[1:]), self.n_outputs)
        )


def choose_trainer(net: SkorchNet, batches: object, fit_params: Mapping[str, object]) -> Trainer | str:
    """Return what runs a training epoch faster than step by step, or in words why it cannot be done.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net.
    batches : iterable
        The batches of an epoch.
    fit_params : dict
        What the module's ``forward`` is given beside the inputs.

    Returns
    -------
    trainer : Trainer or str
        The reason wherever the epoch must run step by step: for a criterion without a
        closed form, steps of a subclass, callbacks that look at batches or gradients,
        half precision, augmentation that is not `rowwise`, inputs that are no array of floats.
    """
    if net._watchers.look_at_batches(training=True):
        return "a callback has hooks round a batch"
    if fit_params:
        return f"forward takes {sorted(fit_params)} beside X"
    if not isinstance(batches, PlannedBatches):
        return "the rows come from a Dataset or a loader of its own"
    hidden = set(batches.plan.layers or ()) - {INPUT}
    if hidden and net.cuda_graph:
        return HIDDEN
    return net._find_own_step() or net._build_trainer(batches.rows, training=True, hidden=hidden)


def choose_evaluator(
    net: SkorchNet, batches: object, fit_params: Mapping[str, object]
) -> PerceptronTrainer | None:
    """Return what computes the losses of a validation set faster than step by step, if there is such."""
    if fit_params or not isinstance(batches, RowSlices) or find_overridden(net, ("validation_step",)):
        return None
    if net._watchers.look_at_held_out_batches():
        return None
    trainer = net._find_own_step() or net._build_trainer(batches.rows)
    return trainer if isinstance(trainer, PerceptronTrainer) else None


def find_own_step(net: SkorchNet) -> str:
    """Return in words what a training step is beside what this library and skorch make of it."""
    if (net._modules, net._criteria, net._optimizers) != (["module"], ["criterion"], ["optimizer"]):
        return "there are several modules, criteria or optimizers"
    if net.augment is not None and not getattr(net.augment, "rowwise", False):
        return "augment is called on each batch"
    if net.scaler_ is not None:
        return "autocast='float16' scales the loss step by step"
    if net._watchers.look_at_gradients():
        return "a callback looks at the gradients"
    if isinstance(net.optimizer_, torch.optim.LBFGS):
        return "LBFGS takes several evaluations a step"
    if not is_plain_step(net.optimizer_):
        return "the optimizer's step has hooks"
    if own := find_own_method(net.optimizer_):
        return f"{type(net.optimizer_).__name__} has a {own} of its own"
    name = find_overridden(net, STEPS)
    return f"{name} is overridden" if name else ""


def train_fast(net: SkorchNet, batches: Any, record: Record, fit_params: Mapping[str, object]) -> bool:
    """Run a training epoch the fast way; return False where that cannot be done."""
    trainer = net.choose_trainer(batches, fit_params)
    if isinstance(trainer, str):
        _explain_steps(trainer, cuda_graph=net.cuda_graph)
        return False
    if net.cuda_graph:
        check_graph_device(net._torch_device)
    net._set_training(True)
    number = len(net.history) - net._n_epochs_before
    return run_trainer(trainer, batches, record, number, net._n_epochs_now)


def validate_fast(net: SkorchNet, batches: Any, record: Record, fit_params: Mapping[str, object]) -> bool:
    """Run a validation epoch the fast way; return False where that cannot be done."""
    evaluator = net.get_evaluator(batches, fit_params)
    if evaluator is None:
        return False
    net._set_training(False)
    evaluator.evaluate(batches, record, net._watchers.show_scorings)
    return True


def _explain_steps(reason: str, *, cuda_graph: bool) -> None:
    """Say why an epoch runs step by step to who wants it to run otherwise."""
    if cuda_graph:
        raise ValueError(
            f"cuda_graph must be False where training goes step by step; got True, but {reason}. "
            "Remove one of them."
        )
    warn_single(reason)


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
    most_threads = find_most_threads()
    epoch = Epoch(trainer, batches, record, find_own_stream(), number, n_epochs, most_threads=most_threads)
    task.ask(epoch)
    epoch.stream.is_single = epoch.is_single
    if epoch.reason:
        warn_single(epoch.reason)
    return epoch.done
