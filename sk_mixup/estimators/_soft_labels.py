"""Soft labels: a distribution over the classes for each row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.metrics import accuracy_score
from torch import Tensor, nn

from sk_mixup._skorch.dataset_items import to_array
from sk_mixup._training.losses import (
    CrossEntropy,
    Loss,
    LossOptions,
    SoftCrossEntropy,
    find_loss,
)
from sk_mixup._training.mixed_targets import mix_columns
from sk_mixup.estimators._class_targets import (
    OF_DISTANCES,
    OF_OTHER_TARGETS,
    ClassTargets,
    is_softmax,
    name_columns,
    score_by_net,
)
from sk_mixup.estimators._inputs import get_input_dtype
from sk_mixup.estimators._links import SIGMOID, SOFTMAX, divide_by_sum, keep, takes_probabilities
from sk_mixup.estimators._targets import TargetOptions

__all__ = ["SoftLabels"]

# Distributions may come from half precision, or be rounded.
TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class SoftLabels(ClassTargets):
    """Probabilities of the classes for each row: floats of shape (n, n_classes) that sum to 1.

    Rows of zeros and ones only are several labels per row, unless fit has seen others.
    """

    unsuited = (*OF_OTHER_TARGETS, nn.MultiLabelSoftMarginLoss)
    scoring = staticmethod(score_by_net)
    names_columns = True

    @classmethod
    def accepts(cls, y: np.ndarray) -> bool:
        """Whether an array holds floats whose rows sum to 1, not all of them 0 or 1."""
        return y.dtype.kind == "f" and _are_distributions(y) and not np.all((y == 0) | (y == 1))

    def takes(self, y: np.ndarray) -> bool:
        """Whether the rows of an array sum to 1."""
        return _are_distributions(y)

    @classmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return y."""
        return y

    @classmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Take the labels of the columns that are given, in their order, or number them."""
        return cls(name_columns(y.shape[1], options.classes))

    def describe(self) -> str:
        """Return in words what y must be."""
        return f"rows of {self.n_outputs} probabilities that sum to 1"

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the distributions."""
        return self.check_axes(y, y.shape[1:] == (self.n_outputs,)).astype(get_input_dtype())

    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """Return the label of each code, or of the most probable class of each distribution."""
        found = to_array(codes)
        return np.asarray(self.known[found.argmax(axis=1) if found.ndim == 2 else found])

    def get_criterion_options(self, criterion: object, label_smoothing: float) -> dict[str, object]:
        """Return the smoothing, which a cross-entropy does itself."""
        return {"label_smoothing": label_smoothing} if label_smoothing and is_softmax(criterion) else {}

    def check_criterion(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> None:
        """Raise for a criterion that takes codes of classes only."""
        super().check_criterion(criterion, label_smoothing, confidence_penalty)
        if isinstance(criterion, nn.NLLLoss | nn.MultiMarginLoss):
            raise ValueError(
                f"criterion must take probabilities as targets for soft labels; got "
                f"{type(criterion).__name__}. Use criterion='auto'."
            )

    def check_has_classes(self) -> None:
        """Raise: a row belongs to several."""
        raise ValueError(
            "partners must not be drawn by class for soft labels; got a policy that looks at classes. Use "
            "'batch', 'dataset' or 'neighbors'."
        )

    def check_output(self, output: Tensor, criterion: nn.Module) -> None:
        """Raise unless there is a logit for each class."""
        self.check_width(output, self.n_outputs)

    def mix(self, y: Tensor, lam: Tensor, output: Tensor) -> Tensor | None:
        """Return ``sum_k lam_k y_k``."""
        return mix_columns(y.to(lam.device), lam)

    def find_closed_form(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> Loss | None:
        """Return the cross-entropy, if that is the criterion; torch weighs classes otherwise here."""
        loss = find_loss(criterion, LossOptions(self.n_outputs or 0, label_smoothing, confidence_penalty))
        if not isinstance(loss, CrossEntropy) or loss.class_weight is not None:
            return None
        return SoftCrossEntropy(loss.n_classes, loss.label_smoothing, loss.confidence_penalty)

    def get_link(self, criterion: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
        """Return the softmax, or the sigmoid of a binary criterion; outputs near the shares become such."""
        if criterion is None:
            return None
        if isinstance(criterion, OF_DISTANCES):
            return divide_by_sum
        if takes_probabilities(criterion):
            return keep
        return SIGMOID if isinstance(criterion, nn.BCEWithLogitsLoss) else SOFTMAX

    def score(self, y: object, y_pred: np.ndarray, sample_weight: object = None) -> float:
        """Return the accuracy towards the most probable class of each row, or towards labels."""
        labels = to_array(y)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if labels.ndim == 2:
            if labels.shape[1] != self.n_outputs or not _are_distributions(labels):
                raise ValueError(
                    f"y must hold {self.describe()}, or one label per row; got shape {labels.shape} and sums "
                    f"from {labels.sum(axis=1).min():g} to {labels.sum(axis=1).max():g}. Give y as in fit."
                )
            labels = self.decode(labels)
        return float(accuracy_score(labels, y_pred, sample_weight=sample_weight))


def _are_distributions(y: np.ndarray) -> bool:
    if y.ndim != 2 or y.shape[1] < 2 or y.dtype.kind not in "fiub":
        return False
    return bool(np.all(y >= 0) and np.all(np.abs(y.sum(axis=1, dtype=np.float64) - 1) <= TOLERANCE))
