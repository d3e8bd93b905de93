"""The semi-supervised training step of a skorch net, and the average of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sk_mixup._data.batches import Batch
from sk_mixup._data.joint_batches import JointBatch, JointBatches, draw_joint_plan
from sk_mixup._skorch.default_callbacks import is_early_stopping
from sk_mixup._skorch.step import NetBase
from sk_mixup._training.consistency_losses import guess_targets, ramp_up, semi_supervised_loss, update_average
from sk_mixup.mixing import mix_rows, soft_targets

__all__ = ["METHODS", "AveragedWeights", "ConsistencyMixin", "Method"]


@dataclass(frozen=True)
class Method:
    """What tells one semi-supervised method from another.

    Attributes
    ----------
    across : bool
        Whether labelled and unlabelled rows are mixed with each other, and λ is folded.
    averaged_guesses : bool
        Whether the averaged weights guess the targets of unlabelled rows, or the trained ones.
    ramp : str
        Shape of :func:`sk_mixup._training.consistency_losses.ramp_up`.
    temperature, n_augmentations
        Values where the options of these names are None.
    """

    across: bool
    averaged_guesses: bool
    ramp: str
    temperature: float
    n_augmentations: int


METHODS = {
    "ict": Method(
        across=False,
        averaged_guesses=True,
        ramp="sigmoid",
        temperature=1.0,
        n_augmentations=1,
    ),
    "mixmatch": Method(
        across=True,
        averaged_guesses=False,
        ramp="linear",
        temperature=0.5,
        n_augmentations=2,
    ),
}


class AveragedWeights:
    """The trained weights of a module and their average: the module holds one set, this the other.

    Parameters, buffers and, so, the optimizer's references stay the same objects; what they
    hold is exchanged.

    Parameters
    ----------
    module : torch.nn.Module
        The module, whose weights both sets begin with.

    Attributes
    ----------
    n_steps : int
        Steps that the average has seen.
    """

    def __init__(self, module: nn.Module) -> None:
        self.others = [tensor.detach().clone() for tensor in _list_tensors(module)]
        self.n_steps = 0

    def swap(self, module: nn.Module) -> None:
        """Exchange the set in the module for the other."""
        for place, tensor in enumerate(_list_tensors(module)):
            other = self.others[place].to(tensor.device)
            self.others[place], tensor.data = tensor.data, other

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """Exchange the sets inside."""
        self.swap(module)
        try:
            yield
        finally:
            self.swap(module)

    def update(self, module: nn.Module, decay: float) -> None:
        """Move the average, which this holds, towards the weights that the module holds.

        The first steps are averaged evenly: an exponential average over few steps is mostly
        what it began with.
        """
        self.n_steps += 1
        update_average(self.others, _list_tensors(module), min(decay, 1 - 1 / self.n_steps))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "others": [tensor.cpu() for tensor in self.others]}


def _list_tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


class ConsistencyMixin(NetBase):
    """Trains on joint batches, and lets the averaged weights predict.

    Outside of the steps of an epoch the module holds the averaged weights, so that
    validation, callbacks, predictions and files all see them.
    """

    _weights: AveragedWeights | None = None

    @property
    def _method(self) -> Method:
        """The method, with the options that were given."""
        own = METHODS[self.method]
        given = {name: getattr(self, name) for name in ("temperature", "n_augmentations")}
        return replace(own, **{name: value for name, value in given.items() if value is not None})

    def get_training_batches(self, dataset: Any, policy: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the joint batches of one training epoch, drawn from its plan.

        Parameters
        ----------
        dataset : PartlyLabeledRows
            The training set.
        policy, *args, **kwargs
            Not used: both methods mix pairs.

        Returns
        -------
        batches : JointBatches
        """
        method, generator = self._method, self.generator_.spawn(1)[0]
        plan = draw_joint_plan(
            generator,
            (len(dataset), len(dataset.unlabeled)),
            (self.batch_size, self.unlabeled_batch_size),
            n_views=method.n_augmentations,
            alpha=self.alpha,
            lam_per=self.lam_per,
            across=method.across,
        )
        n_done = max(len(self.history) - 1, 0) + np.arange(len(plan)) / len(plan)
        shares = [ramp_up(n / self._n_rampup, method.ramp) if self._n_rampup else 1.0 for n in n_done]
        noise_std = 0.0 if self.augment is not None else self.noise_std
        weights = self.unlabeled_weight * np.array(shares)
        return JointBatches(dataset, dataset.unlabeled, plan, weights, generator, noise_std, self.float_dtype)

    @property
    def _n_rampup(self) -> int:
        return self.max_epochs // 2 if self.rampup_epochs is None else self.rampup_epochs

    def choose_trainer(self, batches: Any, fit_params: dict[str, Any]) -> Any:
        """Return in words why there is no faster way than step by step."""
        return f"a step of {type(self).__name__} takes labelled and unlabelled rows"

    def initialize_module(self) -> Any:
        """Build the module; the average begins anew."""
        self._weights = None
        return super().initialize_module()

    def load_params(self, *args: Any, **kwargs: Any) -> None:
        """Load what ``save_params`` wrote: averaged weights, from which training goes on."""
        super().load_params(*args, **kwargs)
        self._weights = None

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **params: Any) -> Any:
        """Run the epochs; see :class:`MixupNetMixin`."""
        super().fit_loop(X, y, epochs, **params)
        # What early stopping puts back, once this is done, is where a further fit begins.
        if any(is_early_stopping(*item) and item[1].load_best for item in self.callbacks_):
            self._weights = None
        return self

    def run_single_epoch(self, iterator: Any, training: bool, *args: Any, **kwargs: Any) -> None:
        """Run one pass, a training pass with the trained weights in the module."""
        with self._trained_weights() if training else nullcontext():
            super().run_single_epoch(iterator, training, *args, **kwargs)

    @contextmanager
    def _trained_weights(self) -> Iterator[None]:
        if self._weights is None:
            self._weights = AveragedWeights(self.module_)
        else:
            self._weights.swap(self.module_)
        try:
            yield
        finally:
            self._weights.swap(self.module_)

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Do one optimisation step, and let the average follow."""
        step: dict[str, Any] = super().train_step(batch, **fit_params)
        assert self._weights is not None, "made before the first step"
        self._weights.update(self.module_, self.ema_decay)
        return step

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Guess, mix, compute the loss of one joint batch and the gradients."""
        x, target, weight = self.build_virtual_examples(batch, **fit_params)
        self._set_training(True)
        with self._get_autocast():
            y_pred = self.infer(x, **fit_params)
        logits = self._check_logits(y_pred)
        n_labeled = len(batch[1])
        loss = semi_supervised_loss(
            logits, target, n_labeled, batch.unlabeled_weight, weight, self.label_smoothing
        )
        (loss if self.scaler_ is None else self.scaler_.scale(loss)).backward()
        return {"loss": loss, "y_pred": logits[:n_labeled]}

    def build_virtual_examples(
        self, batch: JointBatch, **fit_params: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what one step trains on.

        Parameters
        ----------
        batch : JointBatch
            Labelled and unlabelled rows.
        **fit_params : dict
            What the module's ``forward`` is given beside the inputs.

        Returns
        -------
        x : Tensor of shape (n, *features)
            Mixed inputs, those of labelled rows first.
        target : Tensor of shape (n, n_classes)
            Mixed labels and guesses.
        weight : Tensor of shape (n,) or None
            Product of the weights of the rows that are mixed.
        """
        x, labels = self._augment_joint(batch), batch[1]
        guesses = self.guess(x[len(labels) :], batch.n_views, **fit_params)
        share = guesses.new_ones(1, len(labels))
        known = soft_targets(labels.unsqueeze(0), share, guesses.shape[1])
        target = torch.cat([known, *[guesses] * batch.n_views])
        index = torch.stack([torch.arange(len(x), device=x.device), batch.place])
        weight, lam = batch.joint_weight, batch.joint_lam
        if weight is not None and self.alpha:  # else a row is mixed with nothing
            weight = weight * weight[batch.place]
        return mix_rows(x, index, lam), mix_rows(target, index, lam), weight

    def _augment_joint(self, batch: JointBatch) -> Tensor:
        x = batch.inputs if batch.noise is None else batch.inputs + batch.noise
        return x if self.augment is None else self._augment_batch(Batch(x, batch.place)).loaded

    def guess(self, x: Tensor, n_views: int, **fit_params: Any) -> Tensor:
        """Return the guessed targets of unlabelled rows, which no gradient goes through.

        Parameters
        ----------
        x : Tensor of shape (n_views * n, *features)
            Views of the rows, one after the other.
        n_views : int
            Number of views.
        **fit_params : dict
            What the module's ``forward`` is given beside the inputs.

        Returns
        -------
        target : Tensor of shape (n, n_classes)
        """
        self._set_training(False)  # as it predicts: no dropout, no running statistic moved
        with torch.no_grad(), self._guessing_weights(), self._get_autocast():
            output = self.infer(x, **fit_params)
        probabilities = torch.softmax(self._check_logits(output), dim=1)
        return guess_targets(
            probabilities.view(n_views, -1, probabilities.shape[1]), self._method.temperature
        )

    def _guessing_weights(self) -> AbstractContextManager[None]:
        assert self._weights is not None, "made before the first step"
        return self._weights.swapped(self.module_) if self._method.averaged_guesses else nullcontext()

    def _check_logits(self, output: Any) -> Tensor:
        """Return the module's output in full precision, or raise if it is not one row of logits each."""
        if not isinstance(output, Tensor) or output.ndim != 2:
            found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"module must return a tensor of logits of shape (n, n_classes); got {found}. Return the "
                "logits only."
            )
        self._check_output(output)
        return self._to_full_precision(output)
