"""One step of a skorch net: augment, mix, predict, score, descend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Self

from skorch import NeuralNet
from skorch.dataset import get_len, unpack_data
from skorch.utils import to_tensor
import torch
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss
from torch.nn.parameter import is_lazy

from sk_mixup._data.batches import Batch, is_pair
from sk_mixup._data.storage import Rows, map_features
from sk_mixup._data.virtual_examples import mixing_again, mixing_at
from sk_mixup._skorch.dataset_items import cast_floats, split_pair
from sk_mixup._skorch.facts import find_net_layers
from sk_mixup._skorch.loss_checks import describe_batch_loss
from sk_mixup._skorch.loss_divisors import Divisor, count_by, is_own_loss, learn_divisor, using_criterion
from sk_mixup._skorch.loss_scaling import LossScaler, check_optimizers
from sk_mixup._skorch.overriding import find_overridden
from sk_mixup._skorch.precision import make_autocast, to_float32
from sk_mixup._skorch.runner import find_own_step
from sk_mixup._skorch.stack_member import place_states
from sk_mixup._training.ambient_autocast import find_region
from sk_mixup._training.averages import COUNTED, count_targets, mix_losses
from sk_mixup._training.losses import Loss
from sk_mixup._training.module_structure import iterate_parts
from sk_mixup._training.optimizer_step import can_fuse
from sk_mixup._training.trainer import Trainer
from sk_mixup.mixing import Vicinity

__all__ = ["MixedSteps", "as_batch"]

REDUCTIONS = ("mean", "sum", "batchmean")


def as_batch(batch: object) -> Batch:
    """Return a batch of ours, of what any iterator yields."""
    return batch if isinstance(batch, Batch) else Batch(*unpack_data(batch))


class MixedSteps(NeuralNet):
    """The steps of one mini-batch; each may be overridden, as in skorch.

    A net of :class:`MixupNetMixin`, which adds the options, the epochs and the data.
    """

    alpha: float
    augment: Callable[[Tensor], Tensor] | None
    autocast: str | None
    channels_last: bool
    scaler_: LossScaler | None
    get_policy: Callable[[], Vicinity]
    # Of the weights of rows as they were given; they are kept with the mean 1.
    _mean_weight = 1.0

    def _iterate_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the module, or of the first of several, as it is built or given."""
        for name in ("module", *self._modules):
            module = vars(self).get(f"{name}_", getattr(self, name, None))
            if isinstance(module, nn.Module):
                for part in iterate_parts(module):
                    yield from (p for p in part._parameters.values() if p is not None)
                return

    @property
    def float_dtype(self) -> torch.dtype:
        """The floating dtype of the module: of its first parameter that is more than one number."""
        found: list[torch.dtype] = []
        for parameter in self._iterate_parameters():
            if parameter.is_floating_point():
                found.append(parameter.dtype)
                if is_lazy(parameter) or parameter.numel() > 1:
                    return parameter.dtype
        return found[0] if found else torch.get_default_dtype()

    @property
    def _torch_device(self) -> torch.device:
        """The device; for ``device=None``, which leaves the module where it is, the module's."""
        if self.device is not None:
            return torch.device(self.device)
        return next((p.device for p in self._iterate_parameters()), torch.device("cpu"))

    def _set_training(self, training: bool = True) -> None:
        """Set the mode where it is another; to look takes a tenth of the time."""
        parts = [getattr(self, f"{name}_") for name in (*self._modules, *self._criteria)]
        for part in parts:
            if not isinstance(part, nn.Module):
                continue
            if part.training is not training:
                super()._set_training(training)
                return
            parts.extend(part._modules.values())  # which the loop comes to

    def _set_memory_format(self) -> None:
        if self.channels_last:
            for name in self._modules:
                getattr(self, f"{name}_").to(memory_format=torch.channels_last)
            place_states(self)  # moments lie as weights do

    def initialize_module(self) -> Self:
        """Build the module; see ``skorch.NeuralNet.initialize_module``."""
        super().initialize_module()
        self._set_memory_format()
        return self

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """Return the optimizer's arguments; its fused kernel is used where that does the same."""
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        if can_fuse(getattr(self, prefix, None), kwargs, args, is_recorded=self.cuda_graph):
            kwargs["fused"] = True
        return args, kwargs

    def is_overridden(self, name: str) -> bool:
        """Whether a method is a subclass's, or was put on this very net."""
        return bool(find_overridden(self, (name,)))

    def _get_closed_form_loss(self, training: bool) -> Loss | None:
        """Return the loss of training, or of validation, in closed form, where it has one."""
        return None

    def _build_trainer(
        self, rows: Rows, *, training: bool = False, hidden: Collection[str] = ()
    ) -> Trainer | str:
        """Return the trainer for these rows, or in words why there is none."""
        return f"{type(self).__name__} is neither a MixupClassifier nor a MixupRegressor"

    def _find_own_step(self) -> str:
        """Return in words what a training step is beside what this library and skorch make of it."""
        return find_own_step(self)

    def train_step(self, batch: Any, **fit_params: object) -> dict[str, Any]:
        """Do one optimisation step; see ``skorch.NeuralNet.train_step``."""
        try:
            step: dict[str, Any] = super().train_step(batch, **fit_params)
        except RuntimeError as error:
            self._refuse_augmented(batch, error)
            raise
        return step

    def _refuse_augmented(self, batch: object, error: RuntimeError) -> None:
        """Raise where rows that `augment` gave another shape are what the module does not take."""
        x = None if self.augment is None else unpack_data(batch)[0]
        if not isinstance(x, Tensor) or self.augment is None:
            return
        shape = tuple(self.augment(x).shape[1:])
        if shape != tuple(x.shape[1:]):
            raise ValueError(
                f"augment must return rows that the module takes; got rows of shape {shape} for "
                f"{tuple(x.shape[1:])} and, from the module, '{error}'. Keep their shape."
            ) from error

    def train_step_single(self, batch: Any, **fit_params: object) -> dict[str, Any]:
        """Mix one batch, compute its loss and the gradients."""
        self._set_training(True)
        batch = self._augment_batch(as_batch(batch))
        with self._get_autocast():
            x = self.mix_inputs(batch)
            with mixing_at(self._bare_module, batch.hidden):
                y_pred = self.infer(x, **fit_params)
            loss = self.get_batch_loss(y_pred, batch, x, training=True)
        with mixing_again(self._bare_module, batch.hidden):
            self._descend_from(loss)
        return {"loss": loss, "y_pred": self._to_full_precision(y_pred)}

    @property
    def _bare_module(self) -> Any:
        """The module as it was built, without what may be wrapped round it in a training step.

        None in a net whose modules have other names.
        """
        return vars(self).get("module_")

    def _find_forward(self) -> Callable[..., object]:
        """Return what is given the arguments of a fit: of modules under other names, `infer` decides."""
        module = self._bare_module
        module = getattr(module, "_orig_mod", module)  # a compiled one takes anything
        forward: Callable[..., object] = self.infer if module is None else module.forward
        return forward

    @property
    def _bare_criterion(self) -> Any:
        """The criterion as it was built, whose type tells what is done; None in a net with other names."""
        criterion = vars(self).get("criterion_")
        parts = getattr(criterion, "_modules", None)  # to ask a module for what it has not takes longer
        return parts.get("_orig_mod", criterion) if parts else criterion  # of a compiled one

    def get_loss(self, y_pred: object, y_true: object, X: object = None, training: bool = False) -> Tensor:
        """Return the loss of plain targets; see ``skorch.NeuralNet``, which asks for the criterion's type."""
        with using_criterion(self, self._bare_criterion):
            loss: Tensor = super().get_loss(y_pred, y_true, X=X, training=training)
        return loss

    def _find_layers(self, wanted: str | tuple[str, ...]) -> tuple[str, ...]:
        return find_net_layers(self, wanted)

    def _list_optimizers(self) -> list[torch.optim.Optimizer]:
        return [getattr(self, f"{name}_") for name in self._optimizers]

    def _set_scaler(self) -> None:
        """Scale losses if the option says so, which may have been set since."""
        if self.autocast != "float16":
            self.scaler_ = None
            return
        check_optimizers(self._list_optimizers())
        if self.scaler_ is None:
            # Only a module that is built tells where a net without a device of its own is.
            self.scaler_ = LossScaler(self._torch_device.type)
        self.scaler_.end_step()

    def _descend_from(self, loss: Tensor) -> None:
        """Compute the gradients of a loss."""
        if self.scaler_ is None:
            torch.autograd.backward(loss)
        else:
            self.scaler_.descend(loss, self._list_optimizers())

    def _step_optimizer(self, step_fn: Callable[[], object] | None) -> None:
        """Step with each optimizer; see ``skorch.NeuralNet``."""
        if self.scaler_ is None:
            super()._step_optimizer(step_fn)
        else:
            self.scaler_.step_each(self._list_optimizers(), step_fn)

    def validation_step(self, batch: object, **fit_params: object) -> dict[str, Any]:
        """Compute the loss of one batch as it is: never mixed, never augmented."""
        self._set_training(False)
        batch = as_batch(batch)
        with torch.no_grad(), self._get_autocast():
            y_pred = self.infer(batch[0], **fit_params)
            loss = self.get_batch_loss(y_pred, batch, batch[0], training=False)
        return {"loss": loss, "y_pred": self._to_full_precision(y_pred)}

    def evaluation_step(self, batch: object, training: bool = False) -> Any:
        """Return the module's output for one batch; see ``skorch.NeuralNet``."""
        with self._get_autocast():
            output = super().evaluation_step(batch, training=training)
        return self._to_full_precision(output)

    def _predict_clean(self, batch: object, fit_params: Mapping[str, object]) -> object:
        """Return the module's output for a batch as it is, given what `forward` is given in the fit."""
        if not fit_params:
            return self.evaluation_step(batch)
        self._set_training(False)
        with torch.no_grad(), self._get_autocast():
            output = self.infer(as_batch(batch)[0], **fit_params)
        return self._to_full_precision(output)

    def _to_full_precision(self, output: Any) -> Any:
        is_unknown = isinstance(output, Tensor) and output.dtype == torch.bfloat16  # to numpy
        return to_float32(output) if is_unknown or self.autocast is not None else output

    def _get_autocast(self) -> AbstractContextManager[Any]:
        return self._make_autocast()()

    def _make_autocast(self) -> Callable[[], AbstractContextManager[Any]]:
        device = self._torch_device
        # A region round the fit is not that of the threads that train many nets.
        return find_region(device.type) if self.autocast is None else make_autocast(self.autocast, device)

    def _augment_batch(self, batch: Batch) -> Batch:
        if self.augment is None:
            return batch
        x = self.augment(batch.loaded)
        if type(x) is not type(batch.loaded) or (isinstance(x, Tensor) and not x.ndim):
            raise TypeError(
                f"augment must return a {type(batch.loaded).__name__}, as it is given; got {x!r}. Return the "
                "changed batch."
            )
        if get_len(x) != get_len(batch.loaded):
            raise ValueError(
                f"augment must return as many rows as it is given; got {get_len(x)} rows for "
                f"{get_len(batch.loaded)}. Change each row without adding or dropping any."
            )
        if isinstance(x, Tensor) and x.is_floating_point():
            x = x.to(batch.loaded.dtype) if batch.loaded.is_floating_point() else x
        return Batch(x, batch.targets, batch.weight, batch.position, batch.lam, batch.variation)

    def _cast_pair(self, loaded: object) -> object:
        """Return a pair in the dtype of the module; leave alone what is for a step of the user's own."""
        if not is_pair(loaded):
            return loaded
        x, y = split_pair(loaded)
        return self._cast_inputs(x), cast_floats(y, self.float_dtype)

    def _cast_inputs(self, x: object) -> object:
        """Return inputs that a Dataset yields in the dtype of the module."""
        return cast_floats(x, self.float_dtype)

    def mix_inputs(self, batch: Batch) -> Any:
        """Return the inputs of the virtual examples of a batch."""
        x = batch.get_mixed_inputs()
        if batch.lam is not None:
            return x
        try:
            return to_tensor(x, self.device)
        except TypeError:  # what only an `infer` of the user's own takes
            return x

    def infer(self, x: Any, **fit_params: object) -> Any:
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
        if "_divisor" not in vars(self):  # of this fit
            learn_divisor(self, y_pred, batch, x, training)
        is_clean = batch.lam is None and batch.weight is None
        if is_clean and not training:  # the criterion's own kernel is all that is needed
            return self._apply_criterion(y_pred, batch, x, training)
        loss = self._compute_closed_form(y_pred, batch, training)
        return self._apply_criterion(y_pred, batch, x, training) if loss is None else loss

    def _apply_criterion(self, y_pred: Any, batch: Batch, x: Any, training: bool) -> Tensor:
        """Return the loss of a batch that has none in closed form."""
        if batch.lam is None and batch.weight is None and not self._weighs_classes():
            loss = self.get_loss(y_pred, batch[1], X=x, training=training)
            share = self.get_share(batch, training=False)
            # torch's own mean is NaN where all targets are ignored.
            return loss if share is None else torch.where(share.to(loss.device) > 0, loss, 0.0)
        y, lam, weight = batch.get_mixed_targets()
        return self.get_mixed_loss(y_pred, y, lam, weight, x=x, training=training)

    def _weighs_classes(self) -> bool:
        """Whether all targets of a batch may weigh 0; torch's own gradient is then NaN."""
        criterion, divisor = self._bare_criterion, vars(self).get("_divisor")
        if divisor is not None:
            return divisor is Divisor.WEIGHTS
        return isinstance(criterion, COUNTED) and criterion.weight is not None and not is_own_loss(criterion)

    def _compute_closed_form(self, y_pred: object, batch: Batch, training: bool) -> Tensor | None:
        """Return the loss of a batch as a fast epoch computes it, where no method is overridden."""
        if not isinstance(batch.targets, Tensor) or self.is_overridden("get_mixed_loss"):
            return None
        return self._mix_in_closed_form(y_pred, *batch.get_mixed_targets(), training=training)

    def _mix_in_closed_form(
        self, y_pred: object, y: Tensor, lam: Tensor, weight: Tensor | None, *, training: bool = False
    ) -> Tensor | None:
        """Return the loss of mixed targets in closed form, where it has one and nothing is overridden."""
        if not isinstance(y_pred, Tensor) or find_overridden(self, ("get_loss", "get_row_losses")):
            return None
        loss = self._get_closed_form_loss(training)
        output = y_pred.unsqueeze(1) if y_pred.ndim == 1 else y_pred
        if loss is None or not loss.accepts(output, y):
            return None
        y, lam = y.to(output.device), lam.to(output.device)
        return loss.as_descended().apply(output, y, lam, None if weight is None else weight.to(output.device))

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
        if not hasattr(self._bare_criterion, "reduction"):
            return self._mix_batch_losses(y_pred, y, lam, weight, x, training)
        losses = torch.stack([self.get_row_losses(y_pred, y_k, x=x, training=training) for y_k in y])
        if losses.shape[:2] != lam.shape:  # its `reduction` is not torch's
            return self._mix_batch_losses(y_pred, y, lam, weight, x, training)
        return self._reduce(losses, y, lam, weight)

    def _reduce(self, losses: Tensor, y: Tensor, lam: Tensor, weight: Tensor | None) -> Tensor:
        """Return the losses of rows towards their targets, reduced as the criterion reduces its own."""
        counts = self._count_targets(y.to(losses.device))
        lam, weight = lam.to(losses.device), None if weight is None else weight.to(losses.device)
        if weight is not None and self._reduction == "sum":
            weight = weight * self._mean_weight
        return mix_losses(losses, lam, weight, counts, reduction=self._reduction)

    @property
    def _reduction(self) -> str:
        """How the losses of a batch are reduced; by a loss of the user's own, as it was found to do."""
        divisor: Divisor | None = vars(self).get("_divisor")
        if divisor is not None:
            return divisor.reduction
        if self.is_overridden("get_loss"):
            return "mean"
        return str(getattr(self._bare_criterion, "reduction", "mean"))

    def _check_reduction(self) -> None:
        """Raise unless torch's criterion gives one loss for a batch."""
        reduction = self._reduction
        if isinstance(self._bare_criterion, _Loss) and reduction not in REDUCTIONS:
            raise ValueError(
                f"criterion__reduction must be one of {', '.join(map(repr, REDUCTIONS))}; got {reduction!r}. "
                "Weigh rows by sample_weight; a get_loss of yours may reduce losses where nothing is mixed."
            )

    def _count_targets(self, y: Tensor) -> Tensor | None:
        """Return what targets count in the criterion's own mean, where not all count 1."""
        criterion, divisor = self._bare_criterion, vars(self).get("_divisor")
        if divisor is not None:
            return count_by(divisor, criterion, y)
        is_other = self._reduction != "mean" or self.is_overridden("get_loss")
        return None if is_other else count_targets(criterion, y)

    def get_share(self, batch: object, training: bool) -> Tensor | None:
        """Return what a batch's loss counts in the mean of an epoch; None for its number of rows.

        In training rows alone count, as in skorch; of held-out rows, what the criterion's mean counts.

        Parameters
        ----------
        batch : Batch, pair or anything else that a loader yields
            The batch.
        training : bool
            Whether this is a training step.

        Returns
        -------
        share : Tensor of shape () or None
            What the sum of the losses of its rows was divided by.
        """
        if not is_pair(batch):
            return None
        y, weight = as_batch(batch).targets, as_batch(batch).weight
        if training and weight is not None:
            weight = as_batch(batch).get_mixed_targets()[2]
        counts = None if training else self._count_targets(y)
        if counts is None:
            return None if weight is None else weight.sum()
        weight = counts.new_ones(len(y)) if weight is None else weight.to(counts.device)
        return (weight.reshape(-1, *(1,) * (y.ndim - 1)) * counts).sum()

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
            criterion = self._bare_criterion  # a net may have others, under names of their own
            raise ValueError(describe_batch_loss(criterion, is_own=self.is_overridden("get_loss")))
        losses = [self.get_loss(y_pred, y_k, X=x, training=training) for y_k in y]
        if losses[0].ndim:
            raise ValueError(
                "get_loss must return one loss for a batch where no criterion has a reduction to change; "
                f"got losses of shape {tuple(losses[0].shape)}. Return their mean."
            )
        return (lam[:, 0] * torch.stack(losses)).sum()
