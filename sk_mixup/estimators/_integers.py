"""Integer rows, such as token ids: which tell a module that takes them from one that takes floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy import sparse
import torch
from torch import Tensor

from sk_mixup._data.storage import map_features
from sk_mixup.mixing import Vicinity

__all__ = [
    "INTEGERS",
    "as_floats",
    "as_integers",
    "check_whole",
    "find_taken",
    "holds_integers",
    "read_list",
    "refuse_mixed_codes",
    "take_two",
]

INTEGERS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)]


def _is_integer(values: object) -> bool:
    if isinstance(values, Tensor):
        return not values.is_floating_point() and values.dtype != torch.bool and not values.is_complex()
    return isinstance(values, np.ndarray) and values.dtype.kind in "iu"


def read_list(X: object) -> object:
    """Return a list of integers as an array of them, anything else as it is."""
    if not isinstance(X, list | tuple):
        return X
    try:
        values = np.asarray(X)
    except ValueError:  # of several lengths: scikit-learn says so
        return X
    return values if _is_integer(values) else X


def holds_integers(x: object) -> bool:
    """Whether inputs, in an array or in several, are integers, or some of them are."""
    parts = x.values() if isinstance(x, Mapping) and not sparse.issparse(x) else x
    return any(map(_is_integer, parts if isinstance(x, Mapping | list | tuple) else [x]))  # type: ignore[call-overload]


def as_integers(x: object) -> object:
    """Return inputs with integers in the dtype that embeddings take, and others as they are."""
    return map_features(lambda part: part.long() if _is_integer(part) else part, x)  # type: ignore[attr-defined]


def as_floats(x: object, dtype: torch.dtype) -> object:
    """Return inputs with integers as floats."""
    return map_features(lambda part: part.to(dtype) if _is_integer(part) else part, x)  # type: ignore[attr-defined]


def take_two(X: np.ndarray | Mapping[str, np.ndarray]) -> object:
    """Return the first rows of an array, or of each of several, as tensors."""
    return map_features(
        lambda values: torch.as_tensor(
            values[:2].astype(np.int64) if _is_integer(values) else np.array(values[:2])
        ),
        X,
    )


def check_whole(X: np.ndarray) -> np.ndarray:
    """Return numbers as integers, or raise if some are none: the module was fitted on integers."""
    if not np.all(np.floor(X) == X):
        raise ValueError(
            f"X must hold integers, as in fit, which the module takes only; got {X[np.floor(X) != X][0]}. "
            "Give codes of the embedding."
        )
    return X.astype(np.int64)


def find_taken(x: object, dtype: torch.dtype, runs: Callable[[object], bool]) -> bool | None:
    """Return whether a module takes integers and no floats; None if it takes neither.

    Parameters
    ----------
    x : object
        Inputs with integers among them.
    dtype : torch.dtype
        Floating dtype of the module.
    runs : callable
        Whether the module takes such inputs.
    """
    return False if runs(as_floats(x, dtype)) else (runs(x) or None)


def refuse_mixed_codes(policy: Vicinity, *, is_own: bool) -> None:
    """Raise: inputs would be mixed, by a vicinity of the user's own or by alpha, that must stay integers."""
    rule = "vicinity must leave inputs as they are" if is_own else "alpha must be 0"
    raise ValueError(
        f"{rule} for a module that takes integers only, such as an embedding, whose codes are neither "
        f"averaged nor swapped; got {policy!r}. Use alpha=0, or mix a hidden layer by vicinity="
        "ManifoldMixup(layers=(...)) of sk_mixup.mixing, without 'input'."
    )
