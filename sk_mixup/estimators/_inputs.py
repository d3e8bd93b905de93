"""What the estimators are given as X: arrays, mappings of arrays, Datasets."""

from __future__ import annotations

from collections.abc import Mapping
import inspect
import math
from typing import Any, TypeGuard

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import assert_all_finite, validate_data
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from sk_mixup._skorch.datasets import is_mapped
from sk_mixup._tensors import to_host
from sk_mixup._validation import refuse_masked
from sk_mixup.estimators._integers import INTEGERS, check_whole, read_list

__all__ = [
    "FoundTargets",
    "check_has_rows",
    "check_mapping",
    "check_weights",
    "count_rows",
    "get_input_dtype",
    "is_mapping",
    "limit_spread",
    "read_finite",
    "read_plain_rows",
    "refuse_arguments",
    "refuse_weights_of_dataset",
    "stays_on_host",
    "take_rows",
    "validate_rows",
]


# So many numbers of a file are looked at at once.
PART = 2**20
# Smaller weights, relative to the largest, have products that float32 cannot hold. Beside others they count
# for nothing: of a time that is over, say.
SMALLEST_RATIO = 1e-18


def get_input_dtype() -> type[np.floating]:
    """Return the dtype of numpy that torch's default is."""
    return np.float64 if torch.get_default_dtype() == torch.float64 else np.float32


def is_mapping(X: object) -> TypeGuard[Mapping[str, np.ndarray]]:
    """Whether X is a mapping of arrays; scipy's ``dok`` matrices are dicts, but no such thing."""
    return isinstance(X, Mapping) and not sparse.issparse(X)


def count_rows(X: Any) -> int:
    """Return the number of rows of an array, a sparse matrix or a mapping of arrays."""
    if is_mapping(X):
        return len(next(iter(X.values())))
    return int(X.shape[0])


def stays_on_host(X: object, storage: str) -> bool:
    """Whether numbers are read where they are, and made floats batch by batch."""
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "fiu":
        return False
    return storage == "host" or (storage == "auto" and is_mapped(X))


def take_rows(params: Mapping[str, object], rows: np.ndarray, n_samples: int) -> dict[str, object]:
    """Return parameters of a fit for some of its rows, if they have a value for each row as groups have."""
    return {
        name: _safe_indexing(value, rows) if _has_rows(value, n_samples) else value
        for name, value in params.items()
    }


def _has_rows(value: object, n_samples: int) -> bool:
    shape = np.shape(value) if isinstance(value, list | tuple) else getattr(value, "shape", ())
    return shape[:1] == (n_samples,)


def check_mapping(X: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Check a mapping of arrays, the inputs of a module of several arguments."""
    for name, values in X.items():
        refuse_masked(values, f"X[{name!r}]")
    arrays = {name: np.asarray(to_host(values)) for name, values in X.items()}
    lengths = {name: values.shape[:1] for name, values in arrays.items()}
    if not arrays or len(set(lengths.values())) != 1:
        raise ValueError(f"X must hold arrays of equal length; got {lengths}. Give one row per example.")
    for name, values in arrays.items():
        if values.dtype.kind == "f":
            assert_all_finite(values, input_name=f"X[{name!r}]")
            check_range(values, f"X[{name!r}]")
    return arrays


@np.errstate(over="ignore")
def check_range(values: np.ndarray, name: str) -> None:
    """Raise if finite numbers, which become inputs batch by batch, are too large for these; part by part."""
    dtype = np.dtype(get_input_dtype())
    if values.dtype.kind != "f" or values.dtype.itemsize <= dtype.itemsize or not values.size:
        return
    n_rows = max(1, PART * len(values) // values.size)
    for start in range(0, len(values), n_rows):
        assert_all_finite(values[start : start + n_rows].astype(dtype), input_name=name)


def refuse_arguments(
    module: nn.Module, x: object, fit_params: Mapping[str, object], error: TypeError
) -> None:
    """Raise where what a module was called with does not fit the arguments of its ``forward``."""
    named: dict[str, object] = dict(x) if is_mapping(x) else {}
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*(() if named else (x,)), **named, **fit_params)
    except TypeError as misfit:
        taken = f"the arguments of {type(module).__name__}.forward, {signature}"
        unknown = [name for name in fit_params if name not in signature.parameters]
        if unknown:
            raise TypeError(
                f"{unknown[0]} must be among {taken}; got an unknown name. Leave it out of fit."
            ) from error
        raise TypeError(
            f"X must fit {taken}; got {list(named) or 'one array'} ({misfit}). Name what it takes in a "
            "mapping, {'name': array}, or in the items of a Dataset."
        ) from error


def read_finite(numbers: np.ndarray) -> np.ndarray | None:
    """Return numbers in the dtype of inputs; None unless they, and the sum of their squares, are finite."""
    floats, dtype = numbers, get_input_dtype()
    if numbers.dtype != dtype:
        with np.errstate(over="ignore", invalid="ignore"):  # scikit-learn says which number is too large
            floats = numbers.astype(dtype)
    flat = floats.ravel(order="K")
    return floats if math.isfinite(np.vdot(flat, flat)) else None  # one pass, which sets no flags


def read_plain_rows(estimator: BaseEstimator, X: object, storage: str, *, reset: bool) -> np.ndarray | None:
    """Return rows that need no more than a look, in the dtype of inputs; None for all others.

    What scikit-learn makes of a table of finite floats, without names, is known without its rules, which take
    as long as it takes to predict a hundred rows, and at their first call look for what is installed. It must
    be as wide as that of the fit; at the `reset` of one, its width is remembered.
    """
    if type(X) is not np.ndarray or X.dtype.char not in "fd" or X.ndim != 2 or not X.size:
        return None
    if not reset and X.shape[1] != vars(estimator).get("n_features_in_"):
        return None
    if not reset and hasattr(estimator, "feature_names_in_"):
        return None
    rows = None if stays_on_host(X, storage) else read_finite(X)
    if reset and rows is not None:
        estimator.n_features_in_ = X.shape[1]
        vars(estimator).pop("feature_names_in_", None)
    return rows


@np.errstate(over="ignore", invalid="ignore")  # scikit-learn says which number is too large
def validate_rows(
    estimator: BaseEstimator,
    X: object,
    takes_integers: bool,
    storage: str,
    *,
    reset: bool,
    ensure_min_samples: int,
) -> Any:
    """Check an array by scikit-learn's rules, whose number and names of features the estimator remembers.

    Parameters
    ----------
    estimator : BaseEstimator
        Whose rows they are.
    X : array-like or sparse matrix
        The rows.
    takes_integers : bool
        Whether integers stay such; in later rows, which must then be whole numbers, or must be none.
    storage : {'auto', 'device', 'host'}
        Where arrays are kept: what is read where it lies keeps its dtype.
    reset : bool
        Whether these are the first rows.
    ensure_min_samples : int
        How many there must be.
    """
    keeps_integers, stays = takes_integers and not sparse.issparse(X), stays_on_host(X, storage)
    checked = validate_data(
        estimator,
        _as_plain_integers(read_list(to_host(X))) if keeps_integers else to_host(X),
        reset=reset,
        accept_sparse="csr",
        allow_nd=True,
        dtype="numeric" if stays else [get_input_dtype(), *(INTEGERS if keeps_integers else [])],
        ensure_min_samples=ensure_min_samples,
    )
    if stays:
        check_range(checked, "X")
    return check_whole(checked) if takes_integers and not reset and checked.dtype.kind == "f" else checked


def _as_plain_integers(X: object) -> object:
    """Return a frame of whole numbers, of nullable columns or of categories, with columns of numpy's."""
    dtypes = np.ravel(getattr(X, "dtypes", ())).tolist() if hasattr(X, "iloc") else []
    kinds = {
        getattr(getattr(getattr(each, "categories", each), "dtype", each), "kind", "O") for each in dtypes
    }
    if not dtypes or not kinds <= set("iu") or all(isinstance(each, np.dtype) for each in dtypes):
        return X
    return X if X.isna().to_numpy().any() else X.astype(np.int64)  # type: ignore[attr-defined]


def check_has_rows(dataset: Dataset[object]) -> None:
    """Raise if a Dataset that knows its length is empty."""
    if not isinstance(dataset, IterableDataset) and not len(dataset):  # type: ignore[arg-type]
        raise ValueError("X must hold at least one row; got an empty Dataset. Give it rows.")


class FoundTargets(np.ndarray):
    """Targets that nobody gave: a Dataset was read for them, and the first inputs beside them."""

    inputs: object = None


def check_weights(sample_weight: object, n_samples: int) -> np.ndarray | None:
    """Return one weight per row; None for none."""
    if sample_weight is None:
        return None
    refuse_masked(sample_weight, "sample_weight")
    weight = _read_weights(to_host(sample_weight))
    if weight.shape != (n_samples,):
        raise ValueError(
            f"sample_weight must be 1-dimensional, one weight per row; got shape {weight.shape} for "
            f"{n_samples} rows. Give an array of shape ({n_samples},)."
        )
    if not np.all(weight >= 0) or not np.all(np.isfinite(weight)):
        bad = weight[~(weight >= 0) | ~np.isfinite(weight)][0]
        raise ValueError(
            f"sample_weight must be finite and at least 0; got {bad}. Negative values in sample_weight "
            "have no meaning here: leave such rows out."
        )
    if not weight.any():
        raise ValueError("sample_weight must hold a weight above 0; got only zeros. Remove the argument.")
    return limit_spread(weight)


def refuse_weights_of_dataset(sample_weight: object, class_weight: object) -> None:
    """Raise where there are weights for the rows of a Dataset."""
    if sample_weight is not None:
        raise ValueError("sample_weight must be None for a Dataset; got weights. Pass X and y as arrays.")
    if class_weight is not None:
        raise ValueError(
            f"class_weight must be None for a Dataset; got {class_weight!r}. Pass X and y as arrays."
        )


def _scale_down(weight: np.ndarray) -> np.ndarray:
    """Divide weights whose sum overflows by the largest: only their ratios count."""
    with np.errstate(over="ignore"):
        return weight if np.isfinite(weight.sum()) else weight / weight.max()


def _read_weights(given: object) -> np.ndarray:
    """Return weights as floats, or raise if they are no numbers."""
    dtype = np.asarray(given).dtype
    try:
        if dtype.kind in "biufO":
            return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):  # objects that are no numbers
        pass
    raise TypeError(
        f"sample_weight must hold real numbers; got values of dtype {dtype}. Give one number per row."
    )


def limit_spread(weight: np.ndarray) -> np.ndarray:
    """Return weights of which float32 can hold the product of any two: raise those next to nothing."""
    largest = weight.max()
    if not largest < np.inf:
        raise ValueError(
            f"sample_weight, times class_weight, must be finite; got {largest}. Divide each by its largest."
        )
    return _scale_down(np.where(weight > 0, np.maximum(weight, SMALLEST_RATIO * largest), 0.0))
