"""One label per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import sys
from typing import Self

import numpy as np
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import assert_all_finite, column_or_1d
from skorch.utils import to_numpy
from torch import Tensor, nn

from sk_mixup._training.losses import CLASSES, Loss, LossOptions, find_loss
from sk_mixup._validation import check_choice, check_real
from sk_mixup.estimators._class_targets import (
    BINARY,
    OF_DISTANCES,
    OF_OTHER_TARGETS,
    ClassTargets,
    check_probabilities,
    is_softmax,
    list_classes,
)
from sk_mixup.estimators._links import SIGMOID_COLUMNS, SOFTMAX, keep, make_columns, takes_probabilities
from sk_mixup.estimators._targets import ClassWeight, TargetOptions

__all__ = ["Labels"]


@dataclass(frozen=True, eq=False)
class Labels(ClassTargets):
    """One label per row."""

    unsuited = (*OF_DISTANCES, *OF_OTHER_TARGETS, nn.KLDivLoss, nn.MultiLabelSoftMarginLoss)

    @classmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return labels as an array of one axis."""
        if _are_plain(y):
            return y
        if y.dtype.kind == "f":
            assert_all_finite(y, input_name="y")
            _check_whole(y)
        if y.dtype.kind == "O":
            _check_one_type(y)
        check_classification_targets(y)
        if type_of_target(y, input_name="y", raise_unknown=True) == "multiclass-multioutput":
            raise ValueError(
                f"y must be labels of shape (n_samples,) or 0-1 indicators of shape (n_samples, n_labels); "
                f"got several columns of classes, of shape {y.shape}. Use sklearn.multioutput."
            )
        return column_or_1d(y, warn=True)

    @classmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Remember the labels."""
        classes = list_classes(y, options.classes)
        _check_ignored(options.ignored, classes)
        return cls(classes)

    def describe(self) -> str:
        """Return in words what y must be."""
        return "one label per row"

    def get_width(self, criterion: object) -> int | None:
        """Return the number of classes, or 1 for two classes by a binary criterion."""
        is_binary = isinstance(criterion, type) and issubclass(criterion, BINARY)
        return 1 if is_binary and self.n_outputs == 2 else self.n_outputs

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the code of each label."""
        return self.encode_labels(y)

    def encode_yielded(self, y: np.ndarray) -> np.ndarray:
        """Return the code of each label; a column of them is one label per row."""
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        return self.encode_labels_or_codes(self.check_axes(y, y.ndim == 1))

    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """Return the label of each code; of a net that has seen none, the codes."""
        known: np.ndarray = to_numpy(codes)
        return known if self.classes is None else np.asarray(self.classes[known])

    def weigh_classes(self, codes: np.ndarray, class_weight: ClassWeight) -> np.ndarray | None:
        """Return the weight of each class, 1 for those without an example where they are balanced."""
        if class_weight is None:
            return None
        labels = self.known.tolist()
        _check_class_weight(class_weight, labels)
        if isinstance(class_weight, Mapping):
            return np.array([class_weight.get(label, 1) for label in labels], dtype=np.float64)
        counts = np.bincount(codes, minlength=len(labels))
        return np.where(counts, len(codes) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 1.0)

    def can_stratify(self, codes: np.ndarray | None, n_valid: int) -> bool:
        """Whether a held-out set of that size can hold every class, as its share is."""
        if codes is None or np.ndim(codes) != 1:
            return False
        counts = np.unique(codes, return_counts=True)[1]
        return bool(counts.min() >= 2 and len(counts) <= min(n_valid, len(codes) - n_valid))

    def get_criterion_options(self, criterion: object, label_smoothing: float) -> dict[str, object]:
        """Return the smoothing, which a cross-entropy does itself."""
        return {"label_smoothing": label_smoothing} if label_smoothing and is_softmax(criterion) else {}

    def check_output(self, output: Tensor, criterion: nn.Module) -> None:
        """Raise unless there is a logit for each class, or one for two."""
        one_logit = isinstance(criterion, BINARY)
        if one_logit and self.n_outputs not in (None, 2):
            raise ValueError(
                f"criterion must be a cross-entropy for {self.n_outputs} classes; got "
                f"{type(criterion).__name__}, which takes one logit for two. Use criterion='auto'."
            )
        self.check_width(output, 1 if one_logit else self.n_outputs)
        check_probabilities(output, criterion)

    def read(self, output: Tensor, link: Callable[[Tensor], Tensor], *, log: bool = False) -> Tensor:
        """Return probabilities; one number a row, by a link of the user's, is that of the second class."""
        values = super().read(output, link, log=log)
        is_one = self.n_outputs == 2 and (values.ndim == 1 or values.shape[1:] == (1,))
        return make_columns(values) if is_one and not log else values

    def find_closed_form(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> Loss | None:
        """Return the cross-entropy, if that is the criterion."""
        loss = find_loss(criterion, LossOptions(self.n_outputs or 0, label_smoothing, confidence_penalty))
        return loss if loss is not None and loss.targets == CLASSES else None

    def get_link(self, criterion: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
        """Return the softmax, or the sigmoid of one logit for two classes; probabilities are kept."""
        if criterion is None:
            return None
        if takes_probabilities(criterion):
            return make_columns if isinstance(criterion, BINARY) else keep
        return SIGMOID_COLUMNS if isinstance(criterion, BINARY) else SOFTMAX


def _are_plain(y: np.ndarray) -> bool:
    """Whether labels are integers, few beside the rows: of these scikit-learn's rules have nothing to say."""
    if type(y) is not np.ndarray or y.ndim != 1 or y.dtype.kind not in "iu" or not len(y):
        return False
    return int(y.max()) - int(y.min()) < len(y) // 2


def _check_one_type(y: np.ndarray) -> None:
    """Raise where labels cannot be put in an order, as numbers and strings cannot."""
    try:
        np.unique(y)
    except TypeError:
        kinds = " and ".join(sorted({type(label).__name__ for label in y.flat}))
        raise ValueError(
            f"y must hold labels of one type; got {kinds}. Write all as strings, such as by y.astype(str)."
        ) from None


def _check_whole(y: np.ndarray) -> None:
    """Raise if several columns hold fractions: they were meant for soft labels."""
    if y.ndim == 2 and y.shape[1] > 1 and np.any(y != np.floor(y)):
        raise ValueError(
            "y must hold labels, or soft labels whose rows sum to 1; got fractions in rows that sum to "
            f"{y.sum(axis=1)[:3].tolist()}. Unknown label type: continuous-multioutput. Divide each row by "
            "its sum, or use MixupRegressor for real values."
        )


def _check_ignored(ignored: int | None, classes: np.ndarray) -> None:
    """Raise where torch, which compares codes, would leave out other rows than the user means."""
    codes = range(len(classes))
    if ignored is None or classes.tolist() == list(codes):
        return
    if ignored in codes or ignored in classes.tolist():
        raise ValueError(
            f"criterion__ignore_index must not be set for labels other than 0, 1, 2, ...; got {ignored} for "
            f"classes {classes.tolist()}. Leave out rows without a label, or let "
            "SemiSupervisedMixupClassifier learn from them."
        )


def _check_class_weight(given: Mapping[object, float] | str, classes: list[object]) -> None:
    if not isinstance(given, Mapping):
        check_choice("class_weight", given, ("balanced",))
        return
    unknown = [label for label in given if label not in classes]
    # As in scikit-learn: rows of a fold or a stream may lack a class, but then all others have a weight.
    if unknown and not all(label in given for label in classes):
        raise ValueError(
            f"class_weight must name classes among {classes}; got {unknown[0]!r}. Use the labels in y."
        )
    for label, weight in given.items():
        hint = f"It stands for class {label!r}; 0 leaves the class out."
        check_real("class_weight", weight, low=0.0, high=sys.float_info.max, hint=hint)
    if not any(given.get(label, 1) for label in classes):
        raise ValueError(
            "class_weight must leave a class with a weight above 0; got only zeros. Remove the argument."
        )
