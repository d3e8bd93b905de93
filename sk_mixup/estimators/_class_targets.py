"""Targets of a classifier: one label per row, several, or one per pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import sys
from typing import ClassVar, Self

import numpy as np
from scipy import sparse
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets, is_multilabel, type_of_target
from sklearn.utils.validation import assert_all_finite, column_or_1d
from skorch.utils import to_numpy
from torch import Tensor, nn

from sk_mixup._skorch.dataset_items import to_array
from sk_mixup._training.losses import (
    CLASSES,
    COUNTED,
    IGNORED,
    INDICATORS,
    Loss,
    LossOptions,
    find_loss,
    smooth_targets,
)
from sk_mixup._validation import check_choice, check_real
from sk_mixup.estimators._inputs import get_input_dtype
from sk_mixup.estimators._links import (
    MAP_SIGMOID_COLUMNS,
    MAP_SOFTMAX,
    SIGMOID,
    SIGMOID_COLUMNS,
    SOFTMAX,
    keep,
    make_columns,
    takes_probabilities,
)
from sk_mixup.estimators._members import average_members, spread_members
from sk_mixup.estimators._targets import ClassWeight, TargetOptions, Targets, is_own

__all__ = ["ClassTargets", "Indicators", "Labels", "PixelLabels", "is_softmax", "score_by_net"]

# Criteria that labels are smoothed for, and whose output has an entropy.
SMOOTHED = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss)
# Criteria that take an indicator for each output.
BINARY = (nn.BCEWithLogitsLoss, nn.BCELoss)


@dataclass(frozen=True, eq=False)
class ClassTargets(Targets):
    """Targets that name classes.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,) or None
        The labels, sorted; None before anything is learned.
    """

    criterion: ClassVar[type[nn.Module]] = nn.CrossEntropyLoss

    classes: np.ndarray | None = None

    @property
    def n_outputs(self) -> int | None:
        """Number of classes."""
        return None if self.classes is None else len(self.classes)

    @property
    def known(self) -> np.ndarray:
        """The classes, of which there must be some."""
        assert self.classes is not None, "learned before it is asked for"
        return self.classes

    def weigh_classes(self, codes: np.ndarray, class_weight: ClassWeight) -> np.ndarray | None:
        """Raise where classes have weights: there is no class of a row."""
        if class_weight is not None:
            raise ValueError(
                f"class_weight must be None for several labels per row; got {class_weight!r}. Use "
                f"{'criterion__weight' if self.is_dense else 'sample_weight'}."
            )
        return None

    def check_has_distances(self) -> None:
        """Raise: classes have none."""
        raise ValueError(
            "partners must be drawn without a kernel for classes; got 'kernel', which is for real-valued "
            "targets (C-Mixup). Use 'batch', 'same_class' or 'neighbors'."
        )

    def check_criterion(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> None:
        """Raise unless the criterion is one that an option needs."""
        options = {"label_smoothing": label_smoothing, "confidence_penalty": confidence_penalty}
        for name, value in options.items():
            if value and not isinstance(criterion, SMOOTHED):
                raise ValueError(
                    f"{name} must be 0 for criterion {type(criterion).__name__}; got {value!r}. Use "
                    "criterion='auto', or do it inside the criterion."
                )
        weight = getattr(criterion, "weight", None) if isinstance(criterion, COUNTED) else None
        if weight is not None and self.n_outputs not in (None, len(weight)):
            raise ValueError(
                f"criterion__weight must hold a weight for each of the {self.n_outputs} classes "
                f"{self.known.tolist()}; got {len(weight)}. Give them in that order."
            )

    def check_width(self, output: Tensor, expected: int | None) -> None:
        """Raise unless the module returns as many logits per row, or per member of each row."""
        width = 1 if output.ndim == 1 else output.shape[-1] if output.ndim in (2, 3) else None
        if expected is not None and width != expected:
            raise ValueError(
                f"module must return {expected} logits per row, for classes {self.known.tolist()}; got an "
                f"output of shape {tuple(output.shape)}. Set the width of its last layer to {expected}."
            )

    def count_members(self, output: Tensor) -> int:
        """Return how many outputs of n_outputs numbers there are of a row."""
        return output.shape[1] if output.ndim == 3 else 0

    def align(
        self, output: Tensor, y: Tensor, criterion: nn.Module, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Give each member a row; plain targets of a binary criterion the form of its output, smoothed."""
        if self.count_members(output):
            output, y = spread_members(output, y)
        if isinstance(criterion, BINARY):
            y = y.to(output.device, output.dtype).reshape(output.shape)
            y = smooth_targets(y, label_smoothing, 2)
        return output, y

    def read(self, output: Tensor, link: Callable[[Tensor], Tensor], *, log: bool = False) -> Tensor:
        """Return probabilities in double precision: losses of them are clipped at the least of the dtype."""
        values = link(output.double())
        return average_members(values, log=log) if self.count_members(values) else values

    def score(self, y: object, y_pred: np.ndarray, sample_weight: object = None) -> float:
        """Return the accuracy; for several labels per row, subset accuracy."""
        return float(accuracy_score(y, y_pred, sample_weight=sample_weight))

    def check_axes(self, y: np.ndarray, fits: bool) -> np.ndarray:
        """Return y, or raise where it has other axes than in fit."""
        if not fits:
            raise ValueError(
                f"y must be {self.describe()}, as in fit; got an array of shape {y.shape}. Call fit."
            )
        return y

    def encode_labels(self, y: np.ndarray) -> np.ndarray:
        """Return the code of each label of an array of one axis."""
        classes = self.known
        order = np.argsort(classes, kind="stable")
        codes = np.searchsorted(classes, y, sorter=order)
        codes = order[np.minimum(codes, len(classes) - 1)]
        unknown = classes[codes] != y
        if np.any(unknown):
            raise ValueError(
                f"y must hold labels among the classes {classes.tolist()}; got {y[unknown].tolist()[0]!r}. "
                "Call fit with all labels, or name them in `classes`."
            )
        return codes.astype(np.int64, copy=False)

    def encode_labels_or_codes(self, y: np.ndarray) -> np.ndarray:
        """Return the code of each label; of classes that are names, a Dataset may yield the codes."""
        if not _are_codes(y, self.known):
            return self.encode_labels(y)
        if np.any(outside := (y < 0) | (y >= len(self.known))):
            raise ValueError(
                f"y must hold codes from 0 to {len(self.known) - 1}, or labels among the classes "
                f"{self.known.tolist()}; got {y[outside].tolist()[0]!r}. Name all labels in `classes`."
            )
        return y.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Labels(ClassTargets):
    """One label per row."""

    unsuited = (
        nn.MSELoss,
        nn.L1Loss,
        nn.SmoothL1Loss,
        nn.HuberLoss,
        nn.PoissonNLLLoss,
        nn.GaussianNLLLoss,
        nn.KLDivLoss,
    )

    @classmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return labels as an array of one axis."""
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
        classes = _list_classes(y, options.classes)
        _check_ignored(options.ignored, classes)
        return cls(classes)

    def describe(self) -> str:
        """Return in words what y must be."""
        return "one label per row"

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

    def choose(self, values: np.ndarray) -> np.ndarray:
        """Return the code of the most probable class."""
        return values.argmax(axis=1)


@dataclass(frozen=True, eq=False)
class Indicators(ClassTargets):
    """Several labels per row: for each of them whether the row has it."""

    criterion: ClassVar[type[nn.Module]] = nn.BCEWithLogitsLoss

    @classmethod
    def accepts(cls, y: np.ndarray) -> bool:
        """Whether an array holds zeros and ones in several columns."""
        return y.ndim == 2 and bool(is_multilabel(y))

    @classmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return indicators, 0 and 1."""
        if y.dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        return _check_indicators(y, (y == 0) | (y == 1))

    @classmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Remember the number of columns, or the labels that are given."""
        n_columns = y.shape[1]
        classes = np.arange(n_columns) if options.classes is None else np.unique(options.classes)
        if len(classes) != n_columns:
            raise ValueError(
                f"classes must name one label for each column of y; got {len(classes)} for {n_columns} "
                "columns. Name them all, or give y a column of zeros for each label that no row has."
            )
        return cls(classes)

    def describe(self) -> str:
        """Return in words what y must be."""
        return f"indicators of {self.n_outputs} labels"

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return indicators as floats."""
        if y.shape[1] != self.n_outputs:
            raise ValueError(
                f"y must be {self.describe()}, as in fit; got an array of shape {y.shape}. Call fit."
            )
        return y.astype(get_input_dtype())

    def encode_yielded(self, y: np.ndarray) -> np.ndarray:
        """Return indicators as floats; of a Dataset that was not read before, they are checked here."""
        return self.encode(self.check(self.check_axes(y, y.ndim == 2)))

    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """Return the indicators."""
        return np.asarray(to_numpy(codes))

    def check_output(self, output: Tensor, criterion: nn.Module) -> None:
        """Raise unless there is a logit for each label; two classes per step look like two members."""
        if output.shape[1:] == (2, self.n_outputs):
            raise ValueError(
                f"y must have the shape (n_samples, 1, {self.n_outputs}) for labels 0 and 1 of "
                f"{self.n_outputs} steps; got several labels per row for an output of shape "
                f"{tuple(output.shape)}. Use y[:, None], or another number of members than 2."
            )
        self.check_width(output, self.n_outputs)

    def find_closed_form(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> Loss | None:
        """Return the binary cross-entropy, if that is the criterion."""
        loss = find_loss(criterion, LossOptions(self.n_outputs or 0, label_smoothing, confidence_penalty))
        return loss if loss is not None and loss.targets == INDICATORS else None

    def get_link(self, criterion: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
        """Return the sigmoid; probabilities are kept."""
        if criterion is None:
            return None
        return keep if takes_probabilities(criterion) else SIGMOID

    def choose(self, values: np.ndarray) -> np.ndarray:
        """Return which labels are more probable than not."""
        return (values > 0.5).astype(np.int64)

    def score(self, y: object, y_pred: np.ndarray, sample_weight: object = None) -> float:
        """Return subset accuracy; indicators other than 0 and 1 would never be predicted."""
        values = y.toarray() if sparse.issparse(y) else to_array(y)  # type: ignore[attr-defined]
        return super().score(self.check(values), y_pred, sample_weight)


def score_by_net(net: object, X: object, y: object, sample_weight: object = None) -> float:
    """Return the net's score: scikit-learn's accuracy takes no maps of labels."""
    return net.score(X, y, sample_weight)  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class PixelLabels(ClassTargets):
    """A label per pixel, or per step of a sequence: semantic segmentation, tagging.

    Attributes
    ----------
    ignored : int
        The label of pixels that have none, as the user writes it.
    n_axes : int or None
        Axes of the positions: 2 for images, 1 for sequences.
    has_channel : bool
        Whether y has an axis of size 1 before them, as masks often have.
    """

    is_dense = True
    scoring = staticmethod(score_by_net)

    ignored: int = IGNORED
    n_axes: int | None = None
    has_channel: bool = False

    @classmethod
    def accepts(cls, y: np.ndarray) -> bool:
        """Whether an array has a map of labels for each example, or several integers and not only two."""
        steps = y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "iu" and not is_multilabel(y)
        return y.ndim > 2 or steps

    def takes(self, y: np.ndarray) -> bool:
        """Whether an array has the axes of that in fit: a few steps may be labelled 0 and 1 only."""
        return self.n_axes is not None and y.ndim == 1 + self.n_axes + self.has_channel

    @classmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return maps of integers."""
        if y.dtype.kind == "f" and np.all(np.isfinite(y)) and np.all(y == np.floor(y)):
            y = y.astype(np.int64)
        if y.dtype.kind not in "iub":
            raise ValueError(
                f"y must hold integer labels where it has one per pixel; got an array of shape {y.shape} and "
                f"dtype {y.dtype}. Encode the labels as integers."
            )
        return y

    @classmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Remember the labels, without that of ignored pixels."""
        has_channel = y.ndim > 2 and y.shape[1] == 1
        classes = _list_classes(y[y != options.ignored], options.classes)
        return cls(classes, options.ignored, y.ndim - 1 - has_channel, has_channel)

    def describe(self) -> str:
        """Return in words what y must be."""
        return "a label per pixel"

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the code of each label."""
        return self._encode_labelled(y, self.encode_labels)

    def encode_yielded(self, y: np.ndarray) -> np.ndarray:
        """Return the code of each label."""
        return self._encode_labelled(self.check_axes(y, y.ndim > 1), self.encode_labels_or_codes)

    def _encode_labelled(self, y: np.ndarray, encode: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        if self.n_axes is not None and y.ndim == self.n_axes + 2 and y.shape[1] == 1:
            y = y[:, 0]
        codes = np.full(y.shape, IGNORED, dtype=np.int64)
        labelled = y != self.ignored
        codes[labelled] = encode(y[labelled])
        return codes

    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """Return the label of each code, with the axes that y had."""
        codes = to_numpy(codes)
        if self.has_channel and self.n_axes is not None and codes.ndim == 1 + self.n_axes:
            codes = codes[:, None]
        return np.where(codes == IGNORED, self.ignored, self.known[np.maximum(codes, 0)])

    def check_has_classes(self) -> None:
        """Raise: an example has no class of its own."""
        raise ValueError(
            "partners must not be drawn by class for a label per pixel; got a policy that looks at "
            "classes. Use 'batch' or 'dataset'."
        )

    def get_criterion_options(self, criterion: object, label_smoothing: float) -> dict[str, object]:
        """Return the smoothing, and which code is none."""
        if not is_softmax(criterion):
            return {}
        options: dict[str, object] = {"label_smoothing": label_smoothing} if label_smoothing else {}
        return options | {"ignore_index": IGNORED}

    def check_criterion(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> None:
        """Raise unless the criterion is a cross-entropy, a binary one of two classes, or the user's own."""
        super().check_criterion(criterion, label_smoothing, confidence_penalty)
        is_binary = isinstance(criterion, nn.BCEWithLogitsLoss) and self.n_outputs in (None, 2)
        if not is_binary and not isinstance(criterion, nn.CrossEntropyLoss) and not is_own(criterion):
            raise ValueError(
                f"criterion must be a cross-entropy for a label per pixel; got {type(criterion).__name__}. "
                "Use criterion='auto'."
            )
        if confidence_penalty:
            raise ValueError(
                f"confidence_penalty must be 0 for a label per pixel; got {confidence_penalty!r}. Remove it."
            )

    def check_output(self, output: Tensor, criterion: nn.Module) -> None:
        """Raise unless there is a map of logits for each class, or one for two."""
        fits = self.n_axes is None or self._drop_channel(output).ndim == 2 + self.n_axes
        width = 1 if isinstance(criterion, nn.BCEWithLogitsLoss) else self.n_outputs
        if output.ndim < 3 or output.shape[1] != width or not fits:
            sizes, rest = (
                ("n_steps", "one for each step, or fit one estimator per column by sklearn.multioutput")
                if self.n_axes == 1
                else ("height, width", "them by a convolutional module")
            )
            raise ValueError(
                f"module must return logits of shape (n_samples, {width}, {sizes}) for a label per "
                f"{'step' if self.n_axes == 1 else 'pixel'}; got an output of shape {tuple(output.shape)}. "
                f"Return {rest}."
            )

    def _drop_channel(self, output: Tensor) -> Tensor:
        """Return logits without the axis that y had, where the module's first axis of positions is that."""
        if self.has_channel and self.n_axes is not None and output.shape[2:3] == (1,):
            return output.squeeze(2) if output.ndim == 3 + self.n_axes else output
        return output

    def align(
        self, output: Tensor, y: Tensor, criterion: nn.Module, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Give output and targets the same positions; those of a binary criterion are indicators."""
        output = self._drop_channel(output)
        if not isinstance(criterion, nn.BCEWithLogitsLoss):
            return output, y
        y = y.to(output.device, output.dtype).clamp(min=0)  # what is ignored counts for nothing
        return output[:, 0], smooth_targets(y, label_smoothing, 2)

    def check_sizes(self, output: Tensor, y: object) -> None:
        """Raise unless the maps of logits are of the size of the label maps."""
        sizes = tuple(getattr(y, "shape", ()))[1:]
        if self.has_channel and self.n_axes is not None and len(sizes) > self.n_axes:
            sizes = sizes[1:]
        if tuple(self._drop_channel(output).shape[2:]) != sizes:
            raise ValueError(
                f"y must hold a label for each pixel of the module's output, of shape {tuple(output.shape)}; "
                f"got label maps of shape {sizes}. Give them that size."
            )

    def count_members(self, output: Tensor) -> int:
        """Return 0: what has an axis more is a label per step."""
        return 0

    def get_link(self, criterion: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
        """Return the softmax over the classes of each pixel, or the sigmoid of its one logit."""
        if criterion is not None and takes_probabilities(criterion):
            return keep
        return MAP_SIGMOID_COLUMNS if isinstance(criterion, nn.BCEWithLogitsLoss) else MAP_SOFTMAX

    def choose(self, values: np.ndarray) -> np.ndarray:
        """Return the code of the most probable class of each pixel."""
        return values.argmax(axis=1)

    def score(self, y: object, y_pred: np.ndarray, sample_weight: object = None) -> float:
        """Return the share of labelled pixels whose label is predicted."""
        y = to_numpy(y) if isinstance(y, Tensor) else np.asarray(y)
        if y.size != y_pred.size:  # never broadcast
            raise ValueError(
                f"y must hold a label for each prediction; got shape {y.shape} for {y_pred.shape}. Give maps "
                "of the size that the module returns."
            )
        y = y.reshape(y_pred.shape)
        counts = y != self.ignored
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        share = weight.reshape(-1, *(1,) * (y.ndim - 1)) * counts
        return float(np.sum(share * (y_pred == y)) / np.sum(share))


def _list_classes(labels: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """Return all labels, those that are given or those that are there."""
    known = labels if given is None else given
    if not _are_codes(labels, known):  # else they stand in the order of the codes
        known = np.unique(known)
    if len(known) < 2:
        name = "y" if given is None else "classes"
        raise ValueError(
            f"{name} must hold at least two classes; got one class, {known.tolist()[0]!r}. Add examples of "
            "another, or give `classes`."
        )
    return known


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


def _check_ignored(ignored: int, classes: np.ndarray) -> None:
    """Raise where torch, which compares codes, would leave out other rows than the user means."""
    codes = range(len(classes))
    if ignored == IGNORED or classes.tolist() == list(codes):
        return
    if ignored in codes or ignored in classes.tolist():
        raise ValueError(
            f"criterion__ignore_index must not be set for labels other than 0, 1, 2, ...; got {ignored} for "
            f"classes {classes.tolist()}. Leave out rows without a label, or let "
            "SemiSupervisedMixupClassifier learn from them."
        )


def _are_codes(y: np.ndarray, classes: np.ndarray) -> bool:
    """Whether targets can only be meant as positions among the classes: integers, where those are names."""
    return y.dtype.kind in "iu" and (
        classes.dtype.kind in "US" or (classes.dtype.kind == "O" and all(isinstance(c, str) for c in classes))
    )


def _check_indicators(y: np.ndarray, is_right: np.ndarray) -> np.ndarray:
    if not np.all(is_right):
        raise ValueError(
            f"y must hold 0 and 1 for several labels per row; got {y[~is_right].tolist()[0]!r}. Write 1 "
            "where a row has the label, as by (y > 0).astype(int), or use sklearn's MultiLabelBinarizer."
        )
    return y


def _check_class_weight(given: Mapping[object, float] | str, classes: list[object]) -> None:
    if not isinstance(given, Mapping):
        check_choice("class_weight", given, ("balanced",))
        return
    unknown = [label for label in given if label not in classes]
    if unknown:
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


def is_softmax(criterion: object) -> bool:
    return isinstance(criterion, type) and issubclass(criterion, nn.CrossEntropyLoss)
