"""Targets of which some are unknown: found, encoded, weighed, kept out of the held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import column_or_1d
from skorch.utils import to_numpy
from torch import Tensor

from sk_mixup._data.storage import Rows
from sk_mixup._skorch.datasets import SkorchRows, unwrap_subset
from sk_mixup.estimators._base import MixupEstimatorMixin
from sk_mixup.estimators._labels import LabelsMixin

__all__ = ["PartlyLabeledRows", "UnlabeledMixin", "find_labeled"]

# scikit-learn's marker in y, and our code for it.
UNLABELED = -1


class PartlyLabeledRows(SkorchRows):
    """The labelled rows of a training set, with the unlabelled ones beside them.

    What knows nothing of unlabelled rows, such as a scoring callback, sees an ordinary set.
    """

    unlabeled: Rows

    @classmethod
    def join(cls, labeled: Rows, unlabeled: Rows) -> PartlyLabeledRows:
        """Return the labelled rows with the unlabelled ones beside them."""
        rows = cls(labeled.x, labeled.targets, labeled.weight, decode=labeled.decode, index=labeled.index)
        rows.unlabeled = unlabeled
        return rows


class UnlabeledMixin(LabelsMixin):
    """Takes targets in which -1 stands for an unknown label, as scikit-learn does."""

    def _encode_targets(self, y: Any, n_samples: int, *, reset: bool, classes: Any = None) -> NDArray[Any]:
        """Turn labels into codes, and the marker of unlabelled rows into -1."""
        y = self._read_targets(y, n_samples)
        labeled = find_labeled(y)
        if not labeled.any():
            raise ValueError(
                "y must hold labelled rows; got only -1, which marks unlabelled ones. Label at least one row "
                "of each of two classes."
            )
        known = _to_plain(y[labeled])
        given = self.classes if classes is None else classes
        if reset:
            _check_classes(known, given, n_unlabeled=int((~labeled).sum()))
        codes = np.full(len(y), UNLABELED, dtype=np.int64)
        codes[labeled] = super()._encode_targets(known, len(known), reset=reset, classes=classes)
        return codes

    def _read_targets(self, y: Any, n_samples: int) -> NDArray[Any]:
        """Return labels and markers as an array of one axis."""
        y = y.toarray() if sparse.issparse(y) else to_numpy(y) if isinstance(y, Tensor) else np.asarray(y)
        if y.ndim > 1 and y.shape[1:] != (1,):
            raise ValueError(
                f"y must be 1-dimensional, one label per row, with -1 for unlabelled rows; got shape "
                f"{y.shape}. Fit one estimator for each column, as sklearn.multioutput does."
            )
        y = column_or_1d(y, warn=True)
        if len(y) != n_samples:  # the parent has the words for it
            self._check_targets(y, n_samples)
        return y

    def _get_weights(self, y: NDArray[Any], sample_weight: Any) -> NDArray[np.float64] | None:
        """Return one weight per row; classes weigh labelled rows only."""
        labeled = y != UNLABELED
        weight = MixupEstimatorMixin._get_weights(self, y, sample_weight)
        by_class = super()._get_weights(y[labeled], None)
        if by_class is not None:
            weight = np.ones(len(y)) if weight is None else weight.copy()
            weight[labeled] *= by_class
        counted = labeled if weight is None else labeled & (weight > 0)
        if not counted.any():
            raise ValueError(
                "sample_weight must hold a weight above 0 for a labelled row; got only zeros there. Drop the "
                "argument, or leave the labels out."
            )
        self._n_labeled = int(counted.sum())
        return weight

    def _check_holdout(self, X: Any) -> int:
        """Return how many rows are held out; only labelled ones can be."""
        return super()._check_holdout(np.empty(self._n_labeled))

    def _check_arrays(self, X: Any, y: Any, *, reset: bool) -> Any:
        checked = super()._check_arrays(X, y, reset=reset)
        if isinstance(checked, dict):
            raise TypeError(
                f"X must be an array or a sparse matrix for {type(self).__name__}; got a mapping of arrays. "
                "Join them into one array, and take it apart in the module."
            )
        return checked

    def _check_dataset(self, dataset: Any, y: Any, *, reset: bool, classes: Any) -> Any:
        raise TypeError(
            f"X must be an array or a sparse matrix for {type(self).__name__}, which must know beforehand "
            f"which rows are labelled; got a {type(dataset).__name__}. Pass X and y as arrays; a "
            "memory-mapped X is read batch by batch."
        )

    def get_split_datasets(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> Any:
        """Return the training and the validation set; only labelled rows are held out."""
        dataset = self.get_dataset(X, y, sample_weight)
        self._report_streaming(dataset)
        rows = np.arange(len(y)) if sample_weight is None else np.flatnonzero(sample_weight)
        labeled, unlabeled = rows[y[rows] != UNLABELED], rows[y[rows] == UNLABELED]
        train, valid = dataset.subset(labeled), None
        split = self._get_split(train, y[labeled])
        if split is not None:
            train, valid = map(unwrap_subset, split(train, y[labeled], **params))
        if not isinstance(train, Rows):
            raise TypeError(
                f"train_split must return a subset of the rows it is given; got a {type(train).__name__}. "
                "Use skorch.dataset.ValidSplit."
            )
        beside = dataset.subset(unlabeled) if len(unlabeled) else train
        return PartlyLabeledRows.join(train, beside), self._encode_foreign(valid)

    def _encode_foreign(self, valid: Any) -> Any:
        valid = super()._encode_foreign(valid)
        if isinstance(valid, Rows) and bool((valid.get_targets() == UNLABELED).any()):
            raise ValueError(
                "train_split must hold out labelled rows; got a validation set with the label -1. Leave "
                "unlabelled rows out of it."
            )
        return valid


def find_labeled(y: NDArray[Any]) -> NDArray[np.bool_]:
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


def _is_marker(label: Any) -> bool:
    return isinstance(label, Real) and float(label) == UNLABELED


def _to_plain(labels: NDArray[Any]) -> NDArray[Any]:
    """Return numbers in an array of numbers, also where they came as objects."""
    if labels.dtype.kind == "O" and all(isinstance(label, Real) for label in labels):
        return np.asarray(labels.tolist())
    return labels


def _check_classes(labels: NDArray[Any], classes: Sequence[Any] | None, *, n_unlabeled: int) -> None:
    """Raise if the marker was meant as a class."""
    given = [] if classes is None else list(classes)
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
