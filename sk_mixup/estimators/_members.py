"""Implicit ensembles: modules that return the outputs of several members for each row."""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["average_losses", "average_members", "spread_members"]


def spread_members(output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return a row for each member of each row, and its target.

    Parameters
    ----------
    output : Tensor of shape (n, k, n_outputs)
        Outputs of the k members.
    y : Tensor of shape (n, ...)
        Targets.

    Returns
    -------
    output : Tensor of shape (n * k, n_outputs)
    y : Tensor of shape (n * k, ...)

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.estimators._members import spread_members
    >>> spread_members(torch.zeros(2, 2, 1), torch.tensor([3, 4]))[1]
    tensor([3, 3, 4, 4])
    """
    return output.flatten(0, 1), y.repeat_interleave(output.shape[1], dim=0)


def average_losses(loss: Tensor, n_members: int, *, adds: bool) -> Tensor:
    """Return the mean over members of the losses of spread rows, or of their sum where it `adds` them."""
    if loss.ndim:
        return loss.reshape(-1, n_members, *loss.shape[1:]).mean(dim=1)
    return loss / n_members if adds else loss


def average_members(values: Tensor, *, log: bool = False) -> Tensor:
    """Average what members predict, of shape (n, k, n_outputs); `log` says that it is logarithms.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.estimators._members import average_members
    >>> average_members(torch.tensor([[[0.2, 0.8], [0.6, 0.4]]]))
    tensor([[0.4000, 0.6000]])
    """
    return values.logsumexp(dim=1) - math.log(values.shape[1]) if log else values.mean(dim=1)
