"""Several labels per row, as indicators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy import sparse
from scipy.special import entr
from sklearn.utils.multiclass import is_multilabel
from sklearn.utils.validation import assert_all_finite
from skorch.utils import to_numpy
from torch import Tensor, nn

from sk_mixup._skorch.dataset_items import to_array
from sk_mixup._training.losses import INDICATORS, Loss, LossOptions, find_loss
from sk_mixup.estimators._class_targets import (
    BINARY,
    OF_DISTANCES,
    OF_OTHER_TARGETS,
    ClassTargets,
    check_probabilities,
    name_columns,
)
from sk_mixup.estimators._inputs import get_input_dtype
from sk_mixup.estimators._links import SIGMOID, SOFTMAX, clip, keep, takes_probabilities
from sk_mixup.estimators._targets import TargetOptions

__all__ = ["Indicators"]


@dataclass(frozen=True, eq=False)
class Indicators(ClassTargets):
    """Several labels per row: for each of them whether the row has it."""

    unsuited = (*OF_OTHER_TARGETS, nn.NLLLoss, nn.MultiMarginLoss, nn.KLDivLoss)
    criterion: ClassVar[type[nn.Module]] = nn.BCEWithLogitsLoss
    names_columns = True

    @classmethod
    def accepts(cls, y: np.ndarray) -> bool:
        """Whether an array holds zeros and ones in several columns."""
        return y.ndim == 2 and bool(is_multilabel(y))

    @classmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return indicators, 0 and 1."""
        if y.dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        if not np.all(is_right := (y == 0) | (y == 1)):
            raise ValueError(
                f"y must hold 0 and 1 for several labels per row; got {y[~is_right].tolist()[0]!r}. Write 1 "
                "where a row has the label, as by (y > 0).astype(int), or use sklearn's MultiLabelBinarizer; "
                "for a label for each step of a sequence, add an axis: y[:, None]."
            )
        return y

    @classmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Take the labels of the columns that are given, in their order, or number them."""
        return cls(name_columns(y.shape[1], options.classes))

    def describe(self) -> str:
        """Return in words what y must be."""
        return f"indicators of {self.n_outputs} labels"

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return indicators as floats."""
        return self.check_axes(y, y.shape[1] == self.n_outputs).astype(get_input_dtype())

    def encode_yielded(self, y: np.ndarray) -> np.ndarray:
        """Return indicators as floats; of a Dataset that was not read before, they are checked here."""
        return self.encode(self.check(self.check_axes(y, y.ndim == 2)))

    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """Return the indicators."""
        return np.asarray(to_numpy(codes))

    def check_criterion(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> None:
        """Raise unless weights are one for all columns, or one for each."""
        super().check_criterion(criterion, label_smoothing, confidence_penalty)
        for name in ("weight", "pos_weight"):
            weight = getattr(criterion, name, None) if isinstance(criterion, BINARY) else None
            if weight is not None and weight.ndim == 1 and len(weight) not in (1, self.n_outputs or 1):
                raise ValueError(
                    f"criterion__{name} must hold a weight for each of the {self.n_outputs} columns of y; "
                    f"got {len(weight)}. Give them in that order."
                )

    def check_output(self, output: Tensor, criterion: nn.Module) -> None:
        """Raise unless there is a logit for each label; two classes per step look like two members."""
        if output.shape[1:] == (2, self.n_outputs):
            raise ValueError(
                f"y must have the shape (n_samples, 1, {self.n_outputs}) for labels 0 and 1 of "
                f"{self.n_outputs} steps; got several labels per row for an output of shape "
                f"{tuple(output.shape)}. Use y[:, None], or another number of members than 2."
            )
        self.check_width(output, self.n_outputs)
        check_probabilities(output, criterion)

    def find_closed_form(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> Loss | None:
        """Return the binary cross-entropy, if that is the criterion."""
        loss = find_loss(criterion, LossOptions(self.n_outputs or 0, label_smoothing, confidence_penalty))
        return loss if loss is not None and loss.targets == INDICATORS else None

    def get_link(self, criterion: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
        """Return the sigmoid, or the softmax of a cross-entropy; probabilities are kept."""
        if criterion is None:
            return None
        if isinstance(criterion, OF_DISTANCES):
            return clip
        if takes_probabilities(criterion):
            return keep
        return SOFTMAX if isinstance(criterion, nn.CrossEntropyLoss) else SIGMOID

    def choose(self, values: np.ndarray) -> np.ndarray:
        """Return which labels are more probable than not."""
        return (values > 0.5).astype(np.int64)

    def compute_entropy(self, proba: np.ndarray) -> np.ndarray:
        """Return the entropy of each label."""
        return np.asarray(entr(proba) + entr(1 - proba))

    def score(self, y: object, y_pred: np.ndarray, sample_weight: object = None) -> float:
        """Return subset accuracy; indicators other than 0 and 1 would never be predicted."""
        values = y.toarray() if sparse.issparse(y) else to_array(y)  # type: ignore[attr-defined]
        return super().score(self.check(values), y_pred, sample_weight)
