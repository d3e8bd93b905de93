"""Checks of the losses of a training epoch, as they stand in the history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import math

from torch import nn

from sk_mixup._validation import describe_nonfinite_loss
from sk_mixup._warning import warn_user

__all__ = ["describe_batch_loss", "describe_nonfinite", "find_negative", "is_bounded", "refuse_negative"]

# Cross-entropies, and how far below zero rounding may bring the loss of a row: skorch gives NLLLoss the
# logarithms of probabilities to which it has added the dtype's eps.
BOUNDED = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.BCELoss)
SLACK = -1e-5
# What to do about losses that are not finite.
HINTS = {
    "train": "Scale the inputs (for example with StandardScaler), lower lr (now {lr}), or clip gradients "
    "with skorch.callbacks.GradientNormClipping.",
    "valid": "Look for values far from all others in the rows that are held out, scale the inputs (for "
    "example with StandardScaler), or lower lr (now {lr}).",
}


def describe_batch_loss(criterion: object, *, is_own: bool) -> str:
    """Return in words who gives no losses of rows, a `get_loss` of the user's own or the criterion."""
    name = type(criterion).__name__
    if criterion is None:
        return (
            "criterion_ must be there for lam_per='example' or weights, for it gives losses of rows; got a "
            "net whose criteria have other names. Use lam_per='batch' without weights, or that name."
        )
    if is_own and hasattr(criterion, "reduction"):
        return (
            "get_loss must return a loss for each row for lam_per='example' or weights; got one for the "
            f"batch. Return what {name} gives with its reduction 'none', which it has then, or use "
            "lam_per='batch' without weights."
        )
    return (
        f"criterion must offer reduction='none' for lam_per='example' or weights; got {name} without "
        "it. Use lam_per='batch' without weights, or give the criterion a `reduction` attribute."
    )


def describe_nonfinite(rows: Sequence[Mapping[str, float]], prefix: str, epoch: int, lr: float) -> str:
    """Return in words which loss of an epoch is the first that is NaN or infinite; '' if all are finite.

    Of held-out batches those without a weight, as all their targets are ignored, have no loss.
    """
    name = f"{prefix}_loss"
    losses = [row[name] for row in rows if name in row and row.get("valid_batch_weight", 1)]
    if math.isfinite(sum(losses)):
        return ""
    return describe_nonfinite_loss(name, losses, epoch, HINTS[prefix].format(lr=lr))


def is_bounded(criterion: object, *, is_classifier: bool) -> bool:
    """Whether a criterion of torch's cannot be below zero if targets are what they should be."""
    kinds = (*BOUNDED, nn.NLLLoss) if is_classifier else BOUNDED
    return type(criterion) in kinds and "forward" not in vars(criterion)  # put there by the user


def find_negative(rows: Sequence[Mapping[str, float]]) -> float:
    """Return the lowest loss of an epoch that is below zero by more than rounding; 0 if none is."""
    below = [
        row["train_loss"]
        for row in rows
        if "train_loss" in row and row["train_loss"] < SLACK * row["train_batch_size"]
    ]
    return min(below, default=0.0)


def refuse_negative(loss: float, epoch: int, criterion: object) -> None:
    """Raise as a loss of a bounded criterion is below zero; warn for NLLLoss."""
    message = (
        f"train_loss must be at least 0 for {type(criterion).__name__}; got {loss} in epoch "
        f"{epoch}. Give targets that are classes, or 0 and 1, and no weight below 0."
    )
    if not isinstance(criterion, nn.NLLLoss):
        raise ValueError(message)
    warn_user(message)  # skorch takes outputs that are no probabilities
