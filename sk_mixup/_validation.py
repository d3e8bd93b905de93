"""Checks of user values; each raises an error that names the value and its rule."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
import difflib
import math
from numbers import Integral, Real
import sys
from typing import Any

import numpy as np
import torch

__all__ = [
    "check_bool",
    "check_choice",
    "check_device",
    "check_graph_device",
    "check_integer",
    "check_names",
    "check_real",
    "describe_nonfinite_loss",
    "did_you_mean",
    "is_missing",
    "naming",
    "refuse_masked",
]


def check_real(
    name: str,
    value: object,
    *,
    low: float,
    high: float = math.inf,
    above: bool = False,
    below: bool = False,
    hint: str,
) -> float:
    """Return `value` as a float, or raise if it is not a real number within the bounds.

    NaN fails every bound. Booleans do not count as numbers.

    Raises
    ------
    TypeError
        If `value` is not a real number.
    ValueError
        If `value` lies outside [low, high]; `above` excludes `low`, `below` excludes `high`.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number; got {value!r}. {hint}")
    number = float(value)
    inside = (low < number if above else low <= number) and (number < high if below else number <= high)
    if not inside:
        raise ValueError(f"{name} must be {_describe(low, high, above, below)}; got {value!r}. {hint}")
    return number


def check_integer(name: str, value: object, *, low: int, hint: str) -> int:
    """Return `value` as an int, or raise if it is not an integer of at least `low`.

    Raises
    ------
    TypeError
        If `value` is not an integer.
    ValueError
        If `value` is below `low`.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer; got {value!r}. {hint}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}; got {value!r}. {hint}")
    return int(value)


def check_bool(name: str, value: object, *, hint: str) -> bool:
    """Return `value`, or raise if it is neither True nor False.

    Raises
    ------
    TypeError
        If `value` is not a boolean.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{name} must be True or False; got {value!r}. {hint}")


def check_choice(name: str, value: object, choices: Collection[str]) -> str:
    """Return `value`, or raise if it is not one of `choices`.

    Raises
    ------
    ValueError
        If `value` is not among `choices`; a close match is suggested.
    """
    if isinstance(value, str) and value in choices:
        return value
    options = ", ".join(repr(choice) for choice in choices)
    hint = did_you_mean(value, choices) or "Choose one of them."
    raise ValueError(f"{name} must be one of {options}; got {value!r}. {hint}")


def check_names(owner: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raise if a name is not an option of `owner`.

    Raises
    ------
    ValueError
        If a name is not in `known`; a close match is suggested.
    """
    for name in sorted(set(names) - set(known)):
        hint = did_you_mean(name, known) or f"Its options are {', '.join(sorted(known))}."
        raise ValueError(f"{name} must be an option of {owner}; got an unknown name. {hint}")


def describe_nonfinite_loss(name: str, losses: Iterable[float], epoch: int, hint: str) -> str:
    """Return in words which loss of an epoch is the first that is NaN or infinite; '' if all are finite."""
    bad = next((loss for loss in losses if not math.isfinite(loss)), None)
    return "" if bad is None else f"{name} must stay finite; got {bad} in epoch {epoch}. {hint}"


def did_you_mean(name: object, known: Collection[str]) -> str:
    """Return ``Did you mean ...?`` for the closest known name, whatever its case, or an empty string."""
    lowered = {each.lower(): each for each in known}
    close = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.6)
    return f"Did you mean {lowered[close[0]]!r}?" if close else ""


def refuse_masked(values: object, name: str) -> None:
    """Raise for an array that masks numbers, which other code would take for known."""
    if not isinstance(values, np.ma.MaskedArray) or not np.ma.is_masked(values):
        return
    n_masked = int(np.ma.getmaskarray(values).sum())
    raise ValueError(
        f"{name} must be known everywhere; got an array that masks {n_masked} of {values.size} values. Leave "
        "those rows out, or impute inputs, as by sklearn.impute.SimpleImputer from X.filled(np.nan)."
    )


def is_missing(value: object) -> bool:
    """Whether a value stands for none: None, NaN, NaT or pandas' NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # of pandas' NA nothing is true
        return True


def _describe(low: float, high: float, above: bool, below: bool) -> str:
    if high == math.inf:
        return f"{'greater than' if above else 'at least'} {low:g}"
    if high == sys.float_info.max:
        return f"finite and {'greater than' if above else 'at least'} {low:g}"
    return f"in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"


def check_device(device: Any) -> None:
    """Raise if torch finds no such device here, or one that holds no numbers."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].partition(" device type at start")[0]
    else:
        if device is None or torch.device(device).type != "meta":
            return
        reason = "it holds no numbers"
    meant = "Did you mean 'cuda'? Where there is no GPU, use" if str(device).lower() == "gpu" else "Use"
    raise ValueError(
        f"device must be one that torch finds here; got {device!r} ({reason}). {meant} 'cpu'."
    ) from None


def check_graph_device(device: str | torch.device) -> None:
    """Raise a ValueError unless a device records CUDA graphs."""
    if torch.device(device).type != "cuda":
        raise ValueError(
            f"cuda_graph must be False for device {str(device)!r}; got True. Use it with device='cuda'."
        )


@contextmanager
def naming(name: str, value: object, hint: str) -> Iterator[None]:
    """Say which option it is that cannot be called as it must be, where one is called inside."""
    try:
        yield
    except TypeError as error:
        if "; got " in str(error):  # it says already which argument
            raise
        called = getattr(value, "__name__", type(value).__name__)
        raise TypeError(
            f"{name} must take what it is called with; got {called}, which does not: {error}. {hint}"
        ) from error
