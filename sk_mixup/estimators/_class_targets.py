"""What kinds of targets that name classes share: labels and codes, criteria, probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from sklearn.metrics import accuracy_score
from torch import Tensor, nn

from sk_mixup._tensors import to_double
from sk_mixup._training.averages import COUNTED
from sk_mixup._training.mixed_targets import smooth_targets
from sk_mixup._warning import warn_user
from sk_mixup.estimators._members import average_members, spread_members
from sk_mixup.estimators._targets import ClassWeight, Targets

__all__ = [
    "BINARY",
    "OF_DISTANCES",
    "OF_OTHER_TARGETS",
    "ClassTargets",
    "check_probabilities",
    "is_softmax",
    "list_classes",
    "name_columns",
    "score_by_net",
]

# Criteria that labels are smoothed for, and whose output has an entropy.
SMOOTHED = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss)
# Criteria that take an indicator for each output.
BINARY = (nn.BCEWithLogitsLoss, nn.BCELoss)
# Losses of distances, which outputs that are probabilities themselves have the least of.
OF_DISTANCES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
# Losses of torch for counts, signs and lists, which would be trained by and read wrongly.
OF_OTHER_TARGETS = (
    nn.PoissonNLLLoss,
    nn.MultiLabelMarginLoss,
    nn.SoftMarginLoss,
    nn.HingeEmbeddingLoss,
)


@dataclass(frozen=True, eq=False)
class ClassTargets(Targets):
    """Targets that name classes.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,) or None
        The labels, sorted or in the order of the columns of y; None before anything is learned.
    temperature : float
        What logits are divided by for predictions.
    """

    criterion: ClassVar[type[nn.Module]] = nn.CrossEntropyLoss
    # Whether classes are the names of the columns of y, in their order.
    names_columns: ClassVar[bool] = False

    classes: np.ndarray | None = None
    temperature: float = field(default=1.0, kw_only=True)

    @property
    def n_outputs(self) -> int | None:
        """Number of classes."""
        return None if self.classes is None else len(self.classes)

    @property
    def known(self) -> np.ndarray:
        """The classes, of which there must be some."""
        assert self.classes is not None, "learned before it is asked for"
        return self.classes

    def check_same_classes(self, given: np.ndarray) -> None:
        """Raise if other classes are given than those that were learned."""
        ordered = given if self.names_columns else np.unique(given)
        if not np.array_equal(given, self.known) and not np.array_equal(ordered, self.known):
            raise ValueError(
                f"classes must be the same as in the first call, {self.known.tolist()}; got "
                f"{given.tolist()}. Leave the argument out, or train a new estimator for other classes."
            )

    def weigh_classes(self, codes: np.ndarray, class_weight: ClassWeight) -> np.ndarray | None:
        """Raise where classes have weights: there is no class of a row."""
        if class_weight is not None:
            raise ValueError(
                f"class_weight must be None for {self.describe()}; got {class_weight!r}. Use "
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
        if weight is not None and self.n_outputs is not None and weight.shape != (self.n_outputs,):
            found = len(weight) if weight.ndim == 1 else f"shape {tuple(weight.shape)}"
            raise ValueError(
                f"criterion__weight must hold a weight for each of the {self.n_outputs} classes "
                f"{self.known.tolist()}; got {found}. Give them in that order."
            )

    def check_width(self, output: Tensor, expected: int | None) -> None:
        """Raise unless the module returns as many logits per row, or per member of each row."""
        width = 1 if output.ndim == 1 else output.shape[-1] if output.ndim in (2, 3) else None
        if expected is not None and width != expected:
            raise ValueError(
                f"module must return {expected} logits per row, for classes {self.known.tolist()}; got an "
                f"output of shape {tuple(output.shape)}. Set the width of its last layer to {expected}."
            )

    def at(self, temperature: float) -> ClassTargets:
        """Return the same targets, predicted at a temperature."""
        return self if temperature == self.temperature else replace(self, temperature=temperature)

    @property
    def units(self) -> dict[str, object]:
        """The temperature."""
        return {"temperature": self.temperature}

    def of_units(self, units: Mapping[str, object]) -> ClassTargets:
        """Return the same targets, at the temperature of other weights if they have one."""
        temperature = units.get("temperature", self.temperature)
        return self.at(temperature) if isinstance(temperature, float) else self

    def spread(self, codes: np.ndarray, n_outputs: int) -> np.ndarray:
        """Return what codes say of each class: the distribution of a row, or its indicators."""
        return np.eye(n_outputs)[codes] if codes.ndim == 1 else super().spread(codes, n_outputs)

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
        values = link(to_double(output))
        return average_members(values, log=log) if self.count_members(values) else values

    def choose(self, values: np.ndarray) -> np.ndarray:
        """Return the code of the most probable class, of each row or pixel."""
        return values.argmax(axis=1)

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
        try:
            codes = np.searchsorted(classes, y, sorter=order)
        except TypeError:  # numbers cannot be looked up among words
            codes = np.zeros(len(y), dtype=np.intp)
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


def check_probabilities(output: Tensor, criterion: nn.Module) -> None:
    """Raise if a loss of probabilities is given other numbers; warn where it has values for some of them."""
    if type(criterion) not in (nn.NLLLoss, nn.BCELoss) or bool(((output >= 0) & (output <= 1)).all()):
        return
    message = (
        f"module must return probabilities for criterion {type(criterion).__name__}, as in skorch; got "
        f"numbers from {output.min():g} to {output.max():g}. Use criterion='auto' for logits."
    )
    if isinstance(criterion, nn.BCELoss):
        raise ValueError(message)
    warn_user(message)


def list_classes(labels: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """Return all labels, those that are given or those that are there."""
    known = labels if given is None else given
    # Those that codes stand for are in the order of the codes.
    known = _check_differ(known) if _are_codes(labels, known) else np.unique(known)
    if len(known) < 2:
        name = "y" if given is None else "classes"
        raise ValueError(
            f"{name} must hold at least two classes; got one class, {known.tolist()[0]!r}. Add examples of "
            "another, or give `classes`."
        )
    return known


def name_columns(n_columns: int, given: np.ndarray | None) -> np.ndarray:
    """Return the labels of the columns of y, in their order: those that are given, or numbers."""
    if given is None:
        return np.arange(n_columns)
    if len(given) != n_columns:
        raise ValueError(
            f"classes must name one label for each column of y; got {len(given)} for {n_columns} columns. "
            "Name them all, or give y a column of zeros for each label that no row has."
        )
    return _check_differ(given)


def _check_differ(classes: np.ndarray) -> np.ndarray:
    """Return labels that are told apart by their places, or raise if two are the same."""
    labels, counts = np.unique(classes, return_counts=True)
    if counts.max() > 1:
        raise ValueError(
            f"classes must name each label once where it tells their order; got "
            f"{labels[counts > 1].tolist()[0]!r} {counts.max()} times. Give each a name of its own."
        )
    return classes


def _are_codes(y: np.ndarray, classes: np.ndarray) -> bool:
    """Whether targets can only be meant as positions among the classes: integers, where those are names."""
    return y.dtype.kind in "iu" and (
        classes.dtype.kind in "US" or (classes.dtype.kind == "O" and all(isinstance(c, str) for c in classes))
    )


def is_softmax(criterion: object) -> bool:
    """Whether a criterion is the class of a cross-entropy."""
    return isinstance(criterion, type) and issubclass(criterion, nn.CrossEntropyLoss)


def score_by_net(net: object, X: object, y: object, sample_weight: object = None) -> float:
    """Return the net's score: scikit-learn's accuracy takes no maps of labels."""
    return net.score(X, y, sample_weight)  # type: ignore[attr-defined]
