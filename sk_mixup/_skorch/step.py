"""One mixed training step of a skorch net: augment, mix, predict, score, descend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
import inspect
import math
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import get_len, unpack_data
from skorch.utils import TeeGenerator, to_tensor
import torch
from torch import Tensor

from sk_mixup._data.batches import Batch, PlannedBatches, RowSlices
from sk_mixup._data.storage import Rows, map_features
from sk_mixup._data.virtual_examples import mixing_at
from sk_mixup._training.averages import mix_losses
from sk_mixup._training.losses import Loss
from sk_mixup._training.module import ModuleTrainer
from sk_mixup._training.module_structure import find_levels, find_linear_layers
from sk_mixup._training.perceptron import PerceptronTrainer
from sk_mixup._training.trainer import HIDDEN, Trainer
from sk_mixup.mixing.plan import INPUT

__all__ = ["AUTOCAST", "MixedStepMixin", "NetBase", "can_fuse", "is_foreign"]

# At run time the mixins stand on their own and a skorch net comes behind them. skorch
# carries no types, so to a type checker their base, and what they call on it, is Any.
NetBase: Any = object

# What a subclass may override of a training step.
STEPS = (
    "train_step",
    "train_step_single",
    "mix_inputs",
    "infer",
    "get_batch_loss",
    "get_mixed_loss",
    "get_row_losses",
    "get_loss",
    "_augment_batch",
    "_step_optimizer",
    "_zero_grad_optimizer",
)
PLAIN_MODULES = ("skorch.net", "skorch.classifier", "skorch.regressor")
AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class MixedStepMixin(NetBase):
    """The steps of one mini-batch; each may be overridden, as in skorch."""

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Do one optimisation step; see ``skorch.NeuralNet.train_step``."""
        if any(isinstance(getattr(self, f"{name}_"), torch.optim.LBFGS) for name in self._optimizers):
            return super().train_step(batch, **fit_params)
        self._zero_grad_optimizer()
        step = self.train_step_single(batch, **fit_params)
        if self.scaler_ is not None:
            self.scaler_.unscale_(self.optimizer_)
        if self._wants_gradients():
            named = TeeGenerator(self.get_all_learnable_params())
            self.notify("on_grad_computed", named_parameters=named, batch=batch, training=True)
        self._step_optimizer(None)
        return step

    def get_trainer(self, batches: Any, fit_params: dict[str, Any]) -> Trainer | None:
        """Return what runs a training epoch faster than step by step.

        Parameters
        ----------
        batches : iterable
            The batches of an epoch.
        fit_params : dict
            What the module's ``forward`` is given beside the inputs.

        Returns
        -------
        trainer : Trainer or None
            None wherever the steps of this class must be gone through: for a criterion
            without a closed form, steps of a subclass, callbacks that look at gradients,
            half precision, augmentation, inputs that are no array of floats.
        """
        trainer = self.choose_trainer(batches, fit_params)
        return None if isinstance(trainer, str) else trainer

    def choose_trainer(self, batches: Any, fit_params: dict[str, Any]) -> Trainer | str:
        """Return the trainer, as :meth:`get_trainer`, or in words why there is none."""
        if fit_params:
            return f"forward takes {sorted(fit_params)} beside X"
        if not isinstance(batches, PlannedBatches):
            return "the rows come from a Dataset or a loader of its own"
        hidden = set(batches.plan.layers or ()) - {INPUT}
        if hidden and self.cuda_graph:
            return HIDDEN
        return self._find_own_step() or self._build_trainer(batches.rows, training=True, hidden=hidden)

    def get_evaluator(self, batches: Any, fit_params: dict[str, Any]) -> PerceptronTrainer | None:
        """Return what computes the losses of a validation set faster than step by step, if there is such."""
        if fit_params or not isinstance(batches, RowSlices) or self.is_overridden("validation_step"):
            return None
        trainer = self._find_own_step() or self._build_trainer(batches.rows)
        return trainer if isinstance(trainer, PerceptronTrainer) else None

    def _build_trainer(
        self, rows: Rows, *, training: bool = False, hidden: Collection[str] = ()
    ) -> Trainer | str:
        """Return the trainer for these rows, or in words why there is none."""
        loss, dtype = self._get_closed_form_loss(training), self.float_dtype
        if loss is None:
            return f"criterion {type(self.criterion_).__name__} has no gradient in closed form here"
        if isinstance(rows.x, Mapping) or getattr(rows.x, "dtype", dtype) != dtype:
            return "X is no array of the dtype of the weights"
        graph = {"cuda_graph": self.cuda_graph}
        autocasts = self.autocast or torch.is_autocast_enabled(self._torch_device.type)
        layers = None if autocasts else find_linear_layers(self.module_, rows.x.ndim)
        levels = find_levels(self.module_) if hidden else {}
        if not levels.keys() >= set(hidden):
            layers = None
        if layers is None:
            graph["autocast"] = self._make_autocast()
            return ModuleTrainer(self.module_, loss, self._n_outputs, self.optimizer_, **graph)
        trained = {p for group in self.optimizer_.param_groups for p in group["params"]}
        parameters = {p for layer in layers for p in layer.parameters()}
        alike = {(p.dtype, p.device) for p in parameters} == {(dtype, rows.targets.device)}
        sizes = layers[0].in_features, layers[-1].out_features
        if not alike or parameters != trained or sizes != (math.prod(rows.x.shape[1:]), self._n_outputs):
            return "the module's weights are not those that are trained"
        return PerceptronTrainer(layers, loss, self.optimizer_, levels=levels, **graph)

    def _get_closed_form_loss(self, training: bool) -> Loss | None:
        """Return the loss of training, or of validation, in closed form, where it has one."""
        return None

    def _find_own_step(self) -> str:
        """Return in words what a training step is beside what this library and skorch make of it."""
        if (self._modules, self._criteria, self._optimizers) != (["module"], ["criterion"], ["optimizer"]):
            return "there are several modules, criteria or optimizers"
        if self.augment is not None:
            return "augment is called on each batch"
        if self.scaler_ is not None:
            return "autocast='float16' scales the loss step by step"
        if self._wants_gradients():
            return "a callback looks at the gradients"
        if isinstance(self.optimizer_, torch.optim.LBFGS):
            return "LBFGS takes several evaluations a step"
        return next((f"{name} is overridden" for name in STEPS if self.is_overridden(name)), "")

    def is_overridden(self, name: str) -> bool:
        """Whether a method is a subclass's, or was put on this very net."""
        return name in vars(self) or is_foreign(getattr(type(self), name))

    @property
    def _torch_device(self) -> torch.device:
        """The device; for ``device=None``, which leaves the module where it is, the module's."""
        if self.device is not None:
            return torch.device(self.device)
        module = vars(self).get("module_")
        parameters = module.parameters() if isinstance(module, torch.nn.Module) else ()
        return next((p.device for p in parameters), torch.device("cpu"))

    def _step_optimizer(self, step_fn: Any) -> None:
        if self.scaler_ is None:
            super()._step_optimizer(step_fn)
        else:
            self.scaler_.step(self.optimizer_)
            self.scaler_.update()

    def _wants_gradients(self) -> bool:
        if type(self).on_grad_computed is not NeuralNet.on_grad_computed:
            return True
        return any(type(cb).on_grad_computed is not Callback.on_grad_computed for _, cb in self.callbacks_)

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Mix one batch, compute its loss and the gradients."""
        self._set_training(True)
        batch = self._augment_batch(_as_batch(batch))
        with self._get_autocast():
            x = self.mix_inputs(batch)
            with mixing_at(self._bare_module, batch.hidden):
                y_pred = self.infer(x, **fit_params)
            loss = self.get_batch_loss(y_pred, batch, x, training=True)
        self._descend_from(loss)
        return {"loss": loss, "y_pred": self._to_full_precision(y_pred)}

    @property
    def _bare_module(self) -> Any:
        """The module as it was built, without what may be wrapped round it in a training step."""
        return self.module_

    def _descend_from(self, loss: Tensor) -> None:
        """Compute the gradients of a loss."""
        (loss if self.scaler_ is None else self.scaler_.scale(loss)).backward()

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute the loss of one batch as it is: never mixed, never augmented."""
        self._set_training(False)
        batch = _as_batch(batch)
        with torch.no_grad(), self._get_autocast():
            y_pred = self.infer(batch[0], **fit_params)
            loss = self.get_batch_loss(y_pred, batch, batch[0], training=False)
        return {"loss": loss, "y_pred": self._to_full_precision(y_pred)}

    def evaluation_step(self, batch: Any, training: bool = False) -> Any:
        """Return the module's output for one batch; see ``skorch.NeuralNet``."""
        with self._get_autocast():
            output = super().evaluation_step(batch, training=training)
        return self._to_full_precision(output)

    def _to_full_precision(self, output: Any) -> Any:
        return output if self.autocast is None else _to_float32(output)

    def _get_autocast(self) -> AbstractContextManager[Any]:
        return self._make_autocast()()

    def _make_autocast(self) -> Callable[[], AbstractContextManager[Any]]:
        if self.autocast is None:
            return nullcontext
        return partial(torch.autocast, self._torch_device.type, dtype=AUTOCAST[self.autocast])

    def _augment_batch(self, batch: Batch) -> Batch:
        if self.augment is None:
            return batch
        x = self.augment(batch.loaded)
        if get_len(x) != get_len(batch.loaded):
            raise ValueError(
                f"augment must return as many rows as it is given; got {get_len(x)} rows for "
                f"{get_len(batch.loaded)}. Change each row without adding or dropping any."
            )
        return Batch(x, batch.targets, batch.weight, batch.position, batch.lam, batch.variation)

    def mix_inputs(self, batch: Batch) -> Any:
        """Return the inputs of the virtual examples of a batch."""
        x = batch.get_mixed_inputs()
        return to_tensor(x, self.device) if batch.lam is None else x

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Return the module's output; see ``skorch.NeuralNet.infer``."""
        if self.channels_last:
            x = map_features(self._lay_out, x)
        return super().infer(x, **fit_params)

    def _lay_out(self, x: Any) -> Any:
        """Put the channels of images last in memory."""
        images = isinstance(x, Tensor) and x.ndim == 4
        return x.to(self._torch_device, memory_format=torch.channels_last) if images else x

    def get_batch_loss(self, y_pred: Any, batch: Batch, x: Any = None, training: bool = False) -> Tensor:
        """Return the loss of a batch, mixed or not, weighted or not.

        Parameters
        ----------
        y_pred : Tensor of shape (n, n_outputs)
            Output of the module for the batch's (virtual) examples.
        batch : Batch
            The batch.
        x : Tensor of shape (n, *features), default=None
            The inputs that were predicted, handed on to ``get_loss``.
        training : bool, default=False
            Whether this is a training step.

        Returns
        -------
        loss : Tensor of shape ()
        """
        loss = self._compute_closed_form(y_pred, batch, training)
        if loss is not None:
            return loss
        if batch.lam is None and batch.weight is None:
            return self.get_loss(y_pred, batch[1], X=x, training=training)
        y, lam, weight = batch.get_mixed_targets()
        return self.get_mixed_loss(y_pred, y, lam, weight, x=x, training=training)

    def _compute_closed_form(self, y_pred: object, batch: Batch, training: bool) -> Tensor | None:
        """Return the loss of a batch as a fast epoch computes it, where no method is overridden."""
        if not isinstance(batch.targets, Tensor) or self.is_overridden("get_mixed_loss"):
            return None
        return self._mix_in_closed_form(y_pred, *batch.get_mixed_targets(), training=training)

    def _mix_in_closed_form(
        self, y_pred: object, y: Tensor, lam: Tensor, weight: Tensor | None, *, training: bool = False
    ) -> Tensor | None:
        """Return the loss of mixed targets in closed form, where it has one and nothing is overridden."""
        if not isinstance(y_pred, Tensor) or any(map(self.is_overridden, ("get_loss", "get_row_losses"))):
            return None
        loss = self._get_closed_form_loss(training)
        output = y_pred.unsqueeze(1) if y_pred.ndim == 1 else y_pred
        if loss is None or not loss.accepts(output, y):
            return None
        y, lam = y.to(output.device), lam.to(output.device)
        return loss.apply(output, y, lam, None if weight is None else weight.to(output.device))

    def get_mixed_loss(
        self,
        y_pred: Any,
        y: Tensor,
        lam: Tensor,
        weight: Tensor | None = None,
        *,
        x: Any = None,
        training: bool = False,
    ) -> Tensor:
        """Return the average of ``sum_k lam_k loss(y_pred, y_k)``, each row by its weight.

        Parameters
        ----------
        y_pred : Tensor of shape (n, n_outputs)
            Output of the module for the virtual examples.
        y : Tensor of shape (k, n, ...)
            Targets of the examples that were mixed.
        lam : Tensor of shape (k, n)
            Mixing weights.
        weight : Tensor of shape (n,), default=None
            Weights of the virtual examples.
        x : Tensor of shape (n, *features), default=None
            The virtual examples, handed on to ``get_loss``.
        training : bool, default=False
            Whether this is a training step.

        Returns
        -------
        loss : Tensor of shape ()
        """
        if not hasattr(self.criterion_, "reduction"):
            return self._mix_batch_losses(y_pred, y, lam, weight, x, training)
        losses = [self.get_row_losses(y_pred, y_k, x=x, training=training) for y_k in y]
        return mix_losses(torch.stack([row.reshape(len(row), -1).mean(dim=1) for row in losses]), lam, weight)

    def get_row_losses(self, y_pred: Any, y: Tensor, *, x: Any = None, training: bool = False) -> Tensor:
        """Return ``get_loss`` with the criterion's reduction set to 'none'."""
        criterion = self.criterion_
        reduction, criterion.reduction = criterion.reduction, "none"
        try:
            return self.get_loss(y_pred, y, X=x, training=training)
        finally:
            criterion.reduction = reduction

    def _mix_batch_losses(
        self, y_pred: Any, y: Tensor, lam: Tensor, weight: Any, x: Any, training: bool
    ) -> Tensor:
        """Mix the losses of whole batches, for a criterion without losses per row."""
        if not self.get_policy().has_one_lam_per_batch or weight is not None:
            raise ValueError(
                f"criterion must offer reduction='none' for lam_per='example' or weights; got "
                f"{type(self.criterion_).__name__} without it. Use lam_per='batch' without weights, or "
                "give the criterion a `reduction` attribute."
            )
        losses = [self.get_loss(y_pred, y_k, X=x, training=training) for y_k in y]
        return (lam[:, 0] * torch.stack(losses)).sum()

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """Return the optimizer's arguments; its fused kernel is used where there is one."""
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        optimizer = getattr(self, prefix, None)
        if can_fuse(optimizer, kwargs, args):
            kwargs["fused"] = True
        return args, kwargs


def is_foreign(method: Any) -> bool:
    """Whether a method is neither this library's nor one of skorch's plain nets'."""
    # Where its code stands: a decorator may have given it another's name and module.
    owner = getattr(method, "__globals__", {}).get("__name__", "")
    return owner not in PLAIN_MODULES and not owner.startswith("sk_mixup.")


def _as_batch(batch: Any) -> Batch:
    return batch if isinstance(batch, Batch) else Batch(*unpack_data(batch))


def _to_float32(output: Any) -> Any:
    return tuple(map(_to_float32, output)) if isinstance(output, tuple) else output.float()


def can_fuse(optimizer: Any, kwargs: dict[str, Any], args: Any) -> bool:
    """Whether the optimizer has a fused kernel for these parameters."""
    if not inspect.isclass(optimizer) or "fused" not in inspect.signature(optimizer).parameters:
        return False
    if kwargs.keys() & {"fused", "foreach", "capturable", "differentiable"}:
        return False
    parameters = [p for group in args[0] for p in group["params"]]
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
