"""Labels as they are given and predicted: one of each row, names and numbers kept apart."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sk_mixup._tensors import to_host
from sk_mixup._validation import is_missing

__all__ = ["check_labels", "check_same_kind", "encode_labels"]

KINDS = {
    **dict.fromkeys("biuf", "numbers"),
    **dict.fromkeys("UT", "names"),
    "S": "bytes",
    "m": "times",
    "M": "dates",
}


def check_labels(name: str, y: ArrayLike | Tensor) -> np.ndarray:
    """Return labels as a flat array, or raise if they are none, or one is missing."""
    given = to_host(y)
    labels = np.asarray(given)
    if labels.ndim != 1:
        raise ValueError(f"{name} must hold one label per row; got shape {labels.shape}. Give a flat array.")
    # Of a list of names numpy would write None and NaN as words.
    is_list = labels.dtype.kind == "U" and not isinstance(given, np.ndarray)
    missing = _list_missing(np.asarray(given, dtype=object) if is_list else labels)
    if missing:
        raise ValueError(
            f"{name} must hold known labels; got {missing[0]} in {len(missing)} of {len(labels)} rows. Leave "
            "such rows out."
        )
    return labels


def _list_missing(labels: np.ndarray) -> list[object]:
    if labels.dtype.kind == "O":
        return [label for label in labels.tolist() if is_missing(label)]
    return list(labels[labels != labels])


def encode_labels(name: str, labels: np.ndarray, classes: np.ndarray) -> NDArray[np.int64]:
    """Return the position of each label among the classes, or raise if one is not among them."""
    codes = {label: code for code, label in enumerate(classes.tolist())}
    unknown = [label for label in dict.fromkeys(labels.tolist()) if label not in codes]
    if unknown:
        known = f"{name} must hold labels that the model knows, {list(codes)}"
        raise ValueError(
            f"{known}; got {unknown}. Remove their rows, or give codes 0, 1, 2, ... for a module."
        )
    return np.array([codes[label] for label in labels.tolist()], dtype=np.int64)


def check_same_kind(name: str, labels: np.ndarray, other: str, others: np.ndarray) -> None:
    """Raise if no label can equal one of the others, as names and numbers never do."""
    kinds, other_kinds = _find_kinds(labels), _find_kinds(others)
    if kinds and other_kinds and not kinds & other_kinds:
        raise ValueError(
            f"{name} must hold labels of the kind that {other} holds, {' and '.join(sorted(other_kinds))}; "
            f"got {labels.tolist()[0]!r} beside {others.tolist()[0]!r}. Write both in the same way."
        )


def _find_kinds(labels: np.ndarray) -> set[str]:
    if labels.dtype.kind != "O":
        return {KINDS.get(labels.dtype.kind, "others")} if labels.size else set()
    return {_name_kind(kind) for kind in set(map(type, labels.tolist()))}


def _name_kind(kind: type) -> str:
    return "names" if issubclass(kind, str) else "numbers" if issubclass(kind, Real) else kind.__name__
