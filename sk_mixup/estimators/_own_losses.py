"""Losses of the user's own: which these are, and whether they take each row by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sk_mixup._warning import warn_user

__all__ = ["is_own", "warn_unless_by_rows"]


def is_own(criterion: nn.Module) -> bool:
    """Whether a criterion is none of torch's."""
    return not type(criterion).__module__.startswith("torch.nn.")


def warn_unless_by_rows(criterion: nn.Module, output: Tensor, n_columns: int) -> None:
    """Warn if the loss of several rows is not that of each: they may be broadcast against each other."""
    # Positive numbers and counts, of which distributions of most kinds have a likelihood.
    values = torch.linspace(0.5, 5.5, 5 * output[0].numel()).to(output).reshape(5, *output.shape[1:])
    y = torch.arange(5 * n_columns, 0, -1).to(output).reshape(5, n_columns)
    try:
        with torch.no_grad():
            losses = torch.stack([criterion(values[k : k + 1], y[k : k + 1]) for k in range(5)])
            loss = criterion(values, y)
    except Exception:  # of whatever kind: it may refuse numbers that the module never returns
        return
    totals = losses.mean(), losses.sum()
    if loss.ndim or any(torch.isclose(loss, total, equal_nan=True) for total in totals):
        return
    warn_user(
        f"criterion {type(criterion).__name__} must compute the loss of each row by itself; got a loss of 5 "
        f"rows that is not the mean of theirs, for outputs of shape {tuple(values.shape)} and y of shape "
        f"{tuple(y.shape)}. Look for rows that are broadcast against each other.",
    )
