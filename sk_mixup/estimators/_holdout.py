"""Held-out rows: how many, and whether anyone looks at their scores."""

from __future__ import annotations

from collections.abc import Iterable
import math

from skorch.callbacks.scoring import ScoringBase

__all__ = ["count_held_out", "watches_validation"]


def count_held_out(n_samples: int, validation_fraction: float) -> int:
    """Return how many rows are held out, or raise if none is left to train on."""
    n_valid = math.ceil(n_samples * validation_fraction)
    if n_valid >= n_samples:
        raise ValueError(
            f"validation_fraction must leave rows to train on; got {validation_fraction!r} for "
            f"{n_samples} rows. Lower it, or set early_stopping=False."
        )
    return n_valid


def watches_validation(callbacks: Iterable[object]) -> bool:
    """Whether one of the user's callbacks looks at held-out scores."""
    return any(
        str(getattr(callback, "monitor", "")).startswith("valid")
        or (isinstance(callback, ScoringBase) and not callback.on_train)
        for callback in callbacks
    )
