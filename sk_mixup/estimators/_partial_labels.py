"""Targets of which some are unknown: found, encoded, weighed, kept out of the held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Self

import numpy as np
from sklearn.utils.validation import column_or_1d
from skorch.utils import is_dataset

from sk_mixup._data.storage import Rows
from sk_mixup._skorch.datasets import SkorchRows
from sk_mixup.estimators._inputs import is_mapping
from sk_mixup.estimators._labels import as_target_array
from sk_mixup.estimators._row_labels import Labels
from sk_mixup.estimators._targets import ClassWeight, TargetOptions, check_length

__all__ = [
    "UNLABELED",
    "PartialLabels",
    "PartlyLabeledRows",
    "check_is_array",
    "check_labeled_parts",
    "find_labeled",
]

# scikit-learn's marker in y, and our code for it.
UNLABELED = -1


class PartlyLabeledRows(SkorchRows):
    """The labelled rows of a training set, with the unlabelled ones beside them.

    What knows nothing of unlabelled rows, such as a scoring callback, sees an ordinary set.
    """

    unlabeled: Rows

    @classmethod
    def join(cls, labeled: SkorchRows, unlabeled: Rows) -> PartlyLabeledRows:
        """Return the labelled rows with the unlabelled ones beside them."""
        rows = cls.keep(labeled.given, labeled.x, labeled.targets, labeled.weight)
        rows.decode, rows.index = labeled.decode, labeled.index
        rows.unlabeled = unlabeled
        return rows


def check_is_array(X: object, owner: type) -> None:
    """Raise if it cannot be known beforehand which rows are labelled, or if `X` is no single array."""
    if is_mapping(X):
        raise TypeError(
            f"X must be an array or a sparse matrix for {owner.__name__}; got a mapping of arrays. "
            "Join them into one array, and take it apart in the module."
        )
    if is_dataset(X):
        raise TypeError(
            f"X must be an array or a sparse matrix for {owner.__name__}, which must know "
            f"beforehand which rows are labelled; got a {type(X).__name__}. Pass X and y as arrays; a "
            "memory-mapped X is read batch by batch."
        )


def check_labeled_parts(train: object, valid: object) -> SkorchRows:
    """Return the training set that a split has made, or raise where it cannot be trained or scored on."""
    if not isinstance(train, SkorchRows):
        raise TypeError(
            f"train_split must return a subset of the rows it is given; got a {type(train).__name__}. "
            "Use skorch.dataset.ValidSplit."
        )
    if isinstance(valid, Rows) and bool((valid.get_targets() == UNLABELED).any()):
        raise ValueError(
            "train_split must hold out labelled rows; got a validation set with the label -1. Leave "
            "unlabelled rows out of it."
        )
    return train


@dataclass(frozen=True, eq=False)
class PartialLabels(Labels):
    """One label per row, in which -1 stands for an unknown one, as in scikit-learn."""

    @classmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return labels and markers as an array of one axis."""
        if y.ndim > 1 and y.shape[1:] != (1,):
            raise ValueError(
                f"y must be 1-dimensional, one label per row, with -1 for unlabelled rows; got shape "
                f"{y.shape}. Fit one estimator for each column, as sklearn.multioutput does."
            )
        y = column_or_1d(y, warn=True)
        labeled = find_labeled(y)
        if not labeled.any():
            raise ValueError(
                "y must hold labelled rows; got only -1, which marks unlabelled ones. Label at least one row "
                "of each of two classes."
            )
        super().check(_to_plain(y[labeled]))
        return y

    @classmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Remember the labels."""
        labeled = find_labeled(y)
        known = _to_plain(y[labeled])
        _check_classes(known, options.classes, n_unlabeled=int((~labeled).sum()))
        return super().learn(known, options)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Turn labels into codes, and the marker into -1."""
        labeled = find_labeled(y)
        codes = np.full(len(y), UNLABELED, dtype=np.int64)
        codes[labeled] = super().encode(_to_plain(y[labeled]))
        return codes

    def find_trainable(self, codes: np.ndarray) -> np.ndarray:
        """Return which rows have a label."""
        return codes != UNLABELED

    def weigh_classes(self, codes: np.ndarray, class_weight: ClassWeight) -> np.ndarray | None:
        """Return the weight of each class, balanced among labelled rows."""
        return super().weigh_classes(codes[codes != UNLABELED], class_weight)

    def weigh(
        self, codes: np.ndarray, weight: np.ndarray | None, by_class: np.ndarray | None
    ) -> np.ndarray | None:
        """Return one weight per row; classes weigh labelled rows only."""
        labeled = codes != UNLABELED
        if by_class is not None:
            weight = np.ones(len(codes)) if weight is None else weight.copy()
            weight[labeled] *= by_class[codes[labeled]]
        _check_counts(weight, labeled)
        return weight

    def score(self, y: object, y_pred: np.ndarray, sample_weight: object = None) -> float:
        """Return the accuracy among the labelled rows."""
        y = np.asarray(column_or_1d(y))
        check_length(y, len(y_pred))
        labeled = find_labeled(y)
        if not labeled.any():
            raise ValueError("y must hold labelled rows to score; got only -1. Score labelled rows.")
        weight = None if sample_weight is None else np.asarray(sample_weight)
        _check_counts(weight, labeled)
        return super().score(
            _to_plain(y[labeled]), y_pred[labeled], None if weight is None else weight[labeled]
        )


def find_labeled(y: np.ndarray) -> np.ndarray:
    """Return which entries are labels and not the marker -1.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Numbers, strings, or objects of either kind.

    Raises
    ------
    ValueError
        If the string '-1' is among the labels: numpy makes it of a marker among strings.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.estimators._partial_labels import find_labeled
    >>> find_labeled(np.array(["cat", -1, "dog"], dtype=object))
    array([ True, False,  True])
    """
    if y.dtype.kind in "OUS" and any(label in ("-1", b"-1") for label in y.tolist()):
        raise ValueError(
            "y must mark unlabelled rows by the number -1; got the string '-1', which numpy makes of it "
            "among strings. Use an array of dtype object."
        )
    if y.dtype.kind == "O":
        return np.array([not _is_marker(label) for label in y], dtype=bool)
    return np.asarray(y != UNLABELED) if y.dtype.kind in "biuf" else np.ones(len(y), dtype=bool)


def _check_counts(weight: np.ndarray | None, labeled: np.ndarray) -> None:
    """Raise unless a labelled row counts."""
    if weight is not None and not weight[labeled].any():
        raise ValueError(
            "sample_weight must hold a weight above 0 for a labelled row; got only zeros there. Remove "
            "the argument, or leave the labels out."
        )


def _is_marker(label: object) -> bool:
    return isinstance(label, Real) and float(label) == UNLABELED


def _to_plain(labels: np.ndarray) -> np.ndarray:
    """Return numbers, or dates, in an array of such, also where they came as objects."""
    return as_target_array(labels)


def _check_classes(labels: np.ndarray, classes: np.ndarray | None, *, n_unlabeled: int) -> None:
    """Raise if the marker was meant as a class."""
    given = [] if classes is None else classes.tolist()
    if any(map(_is_marker, given)):
        raise ValueError(
            f"classes must not name -1, which marks unlabelled rows; got {given}. Recode the labels, such as "
            "to 0 and 1."
        )
    if given or not n_unlabeled:
        return
    first, *others = labels.tolist()
    if all(label == first for label in others):
        raise ValueError(
            "y must hold labels of at least two classes beside -1, which marks unlabelled rows; got one "
            f"class, {first!r}, and {n_unlabeled} rows marked -1. If -1 is a class of yours, recode "
            "the labels, such as to 0 and 1; otherwise add examples of another class, or give `classes`."
        )
