"""Losses of a classifier: of one label per row, of several, and of one per pixel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
import inspect
from typing import Any
import warnings

import numpy as np
from skorch.callbacks import EpochScoring
from skorch.utils import is_dataset, to_numpy, to_tensor
import torch
from torch import Tensor, nn

from sk_mixup._data.batches import Batch
from sk_mixup._random import unseen_draws
from sk_mixup._training.averages import mix_dense_losses
from sk_mixup._training.losses import (
    CLASSES,
    INDICATORS,
    Loss,
    LossOptions,
    average_entropy,
    find_loss,
    smooth_targets,
)
from sk_mixup.estimators._base import first_pair
from sk_mixup.estimators._labels import IGNORED, LabelsMixin
from sk_mixup.modules import MLP
from sk_mixup.stacking._scheduler import rejoin_scheduler

__all__ = ["ClassificationMixin", "score_pixels"]

SMOOTHED = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss)


class ClassificationMixin(LabelsMixin):
    """Criterion, losses and link of a classifier."""

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        callbacks = list(super()._default_callbacks)
        if not self._dense:
            return callbacks
        scores = EpochScoring(score_pixels, name="valid_acc", lower_is_better=False)
        return [(name, scores if name == "valid_acc" else callback) for name, callback in callbacks]

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **params: Any) -> Any:
        """Run the epochs; see :class:`MixupNetMixin`."""
        # A module whose forward wants more than X cannot be looked at beforehand.
        if self.criterion == "auto" and not params.keys() - {"sample_weight", "_routing_method"}:
            self._look_at_output(X)
        return super().fit_loop(X, y, epochs, **params)

    def _look_at_output(self, X: Any) -> None:
        """Check what a module of the user's own returns, on one example."""
        if type(self.module_) is MLP or isinstance(X, Mapping):
            return
        x = torch.as_tensor(first_pair(X)[0])[None] if is_dataset(X) else X[:1]
        rejoin_scheduler()
        with unseen_draws():
            (output,) = self.forward_iter(self.get_dataset(x, np.zeros(1, dtype=np.int64)))
        if not isinstance(output, Tensor):  # a tuple, for a get_loss of the user's own
            return
        self._check_output(output)
        total = output.sum(dim=1 if self._dense else -1)
        if self._n_outputs > 1 and torch.all(output >= 0) and torch.allclose(total, torch.ones_like(total)):
            warnings.warn(
                "module must return logits; got an output that looks like probabilities. Drop its last "
                "softmax, or set criterion=torch.nn.NLLLoss to train on probabilities as in skorch.",
                UserWarning,
                stacklevel=6,
            )

    def initialize_criterion(self) -> Any:
        """Build the criterion; 'auto' follows the kind of the targets."""
        kwargs = self.get_params_for("criterion")
        criterion = self.criterion
        if isinstance(criterion, str):
            criterion = nn.BCEWithLogitsLoss if vars(self).get("_multilabel") else nn.CrossEntropyLoss
        self._check_component_names("criterion", criterion)
        if inspect.isclass(criterion) and issubclass(criterion, nn.CrossEntropyLoss):
            if self.label_smoothing:
                kwargs = {"label_smoothing": self.label_smoothing, **kwargs}
            if self._dense and self._encodes_dense:
                kwargs["ignore_index"] = IGNORED
        self.criterion_ = self.initialized_instance(criterion, kwargs)
        self._check_criterion()
        return self

    def _check_criterion(self) -> None:
        """Raise if the criterion is not one that an option or the targets need."""
        name = type(self.criterion_).__name__
        for option in ("label_smoothing", "confidence_penalty"):
            if getattr(self, option) and not isinstance(self.criterion_, SMOOTHED):
                raise ValueError(
                    f"{option} must be 0 for criterion {name}; got {getattr(self, option)!r}. Use "
                    "criterion='auto', or do it inside the criterion."
                )
        if self._dense and not isinstance(self.criterion_, nn.CrossEntropyLoss):
            raise ValueError(
                f"criterion must be a cross-entropy for a label per pixel; got {name}. Use criterion='auto'."
            )
        if self._dense and self.confidence_penalty:
            raise ValueError(
                f"confidence_penalty must be 0 for a label per pixel; got {self.confidence_penalty!r}. Drop "
                "it."
            )

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """Return the loss of plain targets; see ``skorch.NeuralNetClassifier``."""
        self._check_output(y_pred)
        if isinstance(self.criterion_, nn.BCEWithLogitsLoss):
            y_true = to_tensor(y_true, self.device).to(y_pred.dtype).reshape(y_pred.shape)
            y_true = smooth_targets(y_true, self.label_smoothing, 2)
        return super().get_loss(y_pred, y_true, X=X, training=training)

    def get_batch_loss(self, y_pred: Any, batch: Batch, x: Any = None, training: bool = False) -> Tensor:
        """Return the loss of a batch; in training, less the weighted entropy of the predictions."""
        if self._dense and not self.is_overridden("get_loss"):
            y, lam, weight = batch.get_mixed_targets()
            return self.get_mixed_loss(y_pred, y, lam, weight, x=x, training=training)
        loss = self._compute_closed_form(y_pred, batch, training)
        if loss is not None:
            return loss
        loss = super().get_batch_loss(y_pred, batch, x, training)
        if not training or not self.confidence_penalty:
            return loss
        logits = y_pred.unsqueeze(1) if y_pred.ndim == 1 else y_pred
        binary = isinstance(self.criterion_, nn.BCEWithLogitsLoss)
        weight = None if batch.weight is None else batch.get_mixed_targets()[2]
        return loss - self.confidence_penalty * average_entropy(logits, weight, binary=binary)

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
        """Return the loss of mixed targets, in closed form where there is one."""
        self._check_output(y_pred)
        loss = self._mix_in_closed_form(y_pred, y, lam, weight)
        if loss is not None:
            return loss
        if self._dense and isinstance(y_pred, Tensor) and not self.is_overridden("get_loss"):
            losses = [self.get_row_losses(y_pred, y_k, x=x, training=training) for y_k in y]
            return mix_dense_losses(torch.stack(losses), lam, y != self.criterion_.ignore_index, weight)
        return super().get_mixed_loss(y_pred, y, lam, weight, x=x, training=training)

    def _get_closed_form_loss(self, training: bool) -> Loss | None:
        if self._dense:
            return None
        penalty = self.confidence_penalty if training else 0.0
        loss = find_loss(self.criterion_, LossOptions(self._n_outputs, self.label_smoothing, penalty))
        kind = INDICATORS if self._multilabel else CLASSES
        return loss if loss is not None and loss.targets == kind else None

    def _check_output(self, y_pred: Any) -> None:
        if not isinstance(y_pred, Tensor):
            return
        n_outputs = getattr(self, "_n_outputs", None)
        if self._dense and (y_pred.ndim < 3 or y_pred.shape[1] != n_outputs):
            raise ValueError(
                f"module must return logits of shape (n_samples, {n_outputs}, height, width) for a label per "
                f"pixel; got an output of shape {tuple(y_pred.shape)}. Give a convolutional module."
            )
        if y_pred.ndim > 2:
            return
        width = y_pred.shape[1] if y_pred.ndim == 2 else 1
        one_logit = isinstance(self.criterion_, nn.BCEWithLogitsLoss) and not self._multilabel
        if one_logit and n_outputs not in (None, 2):
            raise ValueError(
                f"criterion must be a cross-entropy for {n_outputs} classes; got BCEWithLogitsLoss, which "
                "takes one logit for two. Use criterion='auto'."
            )
        expected = 1 if one_logit else n_outputs
        if expected is not None and width != expected:
            raise ValueError(
                f"module must return {expected} logits per row, for classes {self.classes_.tolist()}; got an "
                f"output of shape {tuple(y_pred.shape)}. Set the width of its last layer to {expected}."
            )

    def _get_predict_nonlinearity(self) -> Any:
        if self.predict_nonlinearity == "auto" and self._dense:
            return partial(torch.softmax, dim=1)
        if self.predict_nonlinearity == "auto" and isinstance(self.criterion_, nn.BCEWithLogitsLoss):
            return torch.sigmoid if vars(self).get("_multilabel") else _sigmoid_columns
        return super()._get_predict_nonlinearity()


def score_pixels(net: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
    """Return the share of labelled pixels whose label is predicted.

    Parameters
    ----------
    net : MixupClassifier
        Fitted on a label per pixel.
    X : array-like or Dataset
        Examples.
    y : array-like of shape (n_samples, *sizes)
        Labels; codes for a Dataset.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each example.
    """
    y = to_numpy(y) if isinstance(y, Tensor) else np.asarray(y)
    counts = y != (net.criterion_.ignore_index if is_dataset(X) else net._ignored)
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
    share = weight.reshape(-1, *(1,) * (y.ndim - 1)) * counts
    return float(np.sum(share * (net.predict(X) == y)) / np.sum(share))


def _sigmoid_columns(logits: Tensor) -> Tensor:
    """Turn one logit per row into the probabilities of both classes."""
    positive = torch.sigmoid(logits.reshape(-1))
    return torch.stack([1 - positive, positive], dim=1)
