"""Targets as the user writes them, as an array that holds numbers, strings or dates, none missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from numbers import Real

import numpy as np

from sk_mixup._tensors import to_host
from sk_mixup._validation import is_missing, refuse_masked

__all__ = ["as_class_array", "as_target_array", "check_given", "refuse_classes"]


def check_given(y: object, owner: str) -> None:
    """Raise if there are no targets for an estimator of that name."""
    if y is None:
        raise ValueError(
            f"y must be given: {owner} requires y to be passed, but the target y is None. Pass labels, or a "
            "Dataset of pairs as X."
        )


def refuse_classes(fit_params: Mapping[str, object]) -> None:
    """Raise if `classes` came with the keywords of a call, where skorch takes it and looks no further."""
    if fit_params.get("classes") is not None:
        raise TypeError(
            f"classes must be an option of a classifier, or an argument of its partial_fit; got "
            f"{fit_params['classes']!r} in another call. Leave it out."
        )


def as_target_array(y: object, name: str = "y") -> np.ndarray:
    """Return targets as an array.

    Parameters
    ----------
    y : array-like
        An array, sparse matrix, tensor, frame, series or nested list; objects that are numbers or
        dates become an array of those, as in nullable columns of pandas.
    name : str, default="y"
        What the user calls it.

    Returns
    -------
    y : ndarray
        Sequences of varying length stay as they are.

    Raises
    ------
    ValueError
        If targets are missing, with their number.

    Examples
    --------
    >>> from sk_mixup.estimators._labels import as_target_array
    >>> as_target_array(np.array([True, 2, 0.5], dtype=object))
    array([1. , 2. , 0.5])
    """
    refuse_masked(y, name)
    array = _as_array(y.toarray() if hasattr(y, "toarray") else to_host(y))
    if array.dtype.kind == "T":
        y = array.tolist()
        array = np.asarray(y)
    if array.dtype.kind == "U" and not isinstance(y, np.ndarray):  # numpy writes None and NaN as words
        objects = np.asarray(y, dtype=object)
        array = array if all(isinstance(value, str) for value in objects.flat) else objects
    if array.dtype.kind == "O":
        return _from_objects(array, name)
    if array.dtype.kind in "fmM":
        missing = np.isnan(array) if array.dtype.kind == "f" else np.isnat(array)
        _refuse_missing(array[missing], array.size, name)
    return array.astype(np.float64) if array.dtype == np.longdouble else array


def _as_array(y: object) -> np.ndarray:
    try:
        return np.asarray(y)
    except ValueError:  # sequences of varying length
        if not isinstance(y, Sequence):
            raise
    array = np.empty(len(y), dtype=object)
    array[:] = y
    return array


def as_class_array(classes: object) -> np.ndarray | None:
    """Return the labels that the option `classes` names, in its order; None where it names none.

    A set, which has no order, is sorted.

    Raises
    ------
    TypeError, ValueError
        If they are no labels of one type.
    """
    if classes is None:
        return None
    if isinstance(classes, str | bytes) or not isinstance(classes, Collection):
        raise TypeError(f"classes must be a sequence of labels or None; got {classes!r}. Give all labels.")
    given = classes if isinstance(classes, Sequence) or hasattr(classes, "__array__") else list(classes)
    labels = as_target_array(given, "classes").ravel()
    if labels.dtype.kind == "O" and not all(isinstance(label, str) for label in labels):
        raise ValueError(f"classes must hold labels of one type; got {classes!r}. Give numbers or strings.")
    labels = np.sort(labels) if isinstance(classes, set | frozenset) else labels
    return labels if len(labels) else None


def _from_objects(array: np.ndarray, name: str) -> np.ndarray:
    values: list[object] = array.ravel().tolist()
    if any(np.ndim(value) for value in values):  # type: ignore[arg-type]
        return array
    _refuse_missing([value for value in values if is_missing(value)], len(values), name)
    if all(isinstance(value, Real) for value in values):
        return np.asarray(array.tolist())
    if all(isinstance(value, date | np.datetime64) for value in values):
        return _from_dates(array, values)
    return array


def _from_dates(array: np.ndarray, values: Sequence[object]) -> np.ndarray:
    """Return dates as numpy has them; those of a time zone, or finer than a microsecond, as they are."""
    if any(isinstance(value, datetime) and value.tzinfo for value in values):
        return array
    dates = np.asarray(array.tolist(), dtype=np.datetime64)
    return dates if np.all(dates == array) else array


def _refuse_missing(missing: Sequence[object] | np.ndarray, size: int, name: str) -> None:
    if len(missing):
        marked = "; of classes, a SemiSupervisedMixupClassifier learns from rows that are marked -1, too"
        raise ValueError(
            f"{name} must be known everywhere, but {name} contains missing values; got {len(missing)} of "
            f"{size}, the first {missing[0]}. Leave those rows out{marked if name == 'y' else ''}."
        )
