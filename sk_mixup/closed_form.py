"""Losses whose gradient with respect to the network's output is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from sk_mixup.losses import mix_targets, soft_targets
from sk_mixup.modules import is_hooked

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "Loss", "SquaredError", "find_loss"]


class Loss(Protocol):
    """A loss whose gradient with respect to the network's output is known.

    The methods see the mixing of a whole block of batches at once, and then the outputs
    for one batch.
    """

    def prepare(self, y: Tensor, lam: Tensor, weight: Tensor | None, size: int) -> tuple[Tensor, ...]:
        """Return tensors of shape (m, ...) that hold all that is known before the outputs.

        Parameters
        ----------
        y : Tensor of shape (k, m, ...)
            Targets of the examples that are mixed, for the m rows of several batches.
        lam : Tensor of shape (k, m)
            Mixing weights.
        weight : Tensor of shape (m,) or None
            Weight of each virtual example.
        size : int
            Rows in each batch; divides m.
        """

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the gradient of a batch's loss, shape (n, n_outputs).

        What the values of the loss are computed from is written to `kept`, a tensor of
        that shape.
        """

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return what, summed over the m rows of one batch, is its loss; shape (m,)."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of logits against mixed classes; see ``mixed_cross_entropy``.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of each label that is spread over all classes.
    n_classes : int
        Number of classes.
    """

    n_classes: int
    label_smoothing: float = 0.0

    def prepare(self, y: Tensor, lam: Tensor, weight: Tensor | None, size: int) -> tuple[Tensor, ...]:
        """Return minus the soft labels, each with its row's share in the mean of its batch."""
        target = soft_targets(y, lam, self.n_classes)
        if self.label_smoothing:
            target.mul_(1 - self.label_smoothing).add_(self.label_smoothing / self.n_classes)
        target.mul_(-_get_shares(weight, size, lam))
        return (target,)

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``softmax(output) - target``, by the share; autograd's own kernel."""
        (target,) = prepared
        torch.log_softmax(output, 1, out=kept)
        return torch._log_softmax_backward_data(target, kept, 1, output.dtype)

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``-sum_c target_c log softmax(output)_c`` by the share."""
        (target,) = prepared
        return (kept * target).sum(dim=1)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Binary cross-entropy of logits against mixed indicators; see ``mixed_binary_cross_entropy``.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of each indicator that is replaced by 1/2.
    """

    label_smoothing: float = 0.0

    def prepare(self, y: Tensor, lam: Tensor, weight: Tensor | None, size: int) -> tuple[Tensor, ...]:
        """Return the mixed indicators, and what the loss of each row is divided by."""
        target = mix_targets(y, lam).to(lam.dtype)
        if self.label_smoothing:
            target = torch.lerp(target, torch.full_like(target, 0.5), self.label_smoothing)
        return target, _get_divisors(weight, size, target)

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``(sigmoid(output) - target) / divisor``."""
        target, divisor = prepared
        kept.copy_(output)
        return output.sigmoid().sub_(target).div_(divisor)

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the cross-entropies over the divisor."""
        target, divisor = prepared
        losses = F.binary_cross_entropy_with_logits(kept, target, reduction="none")
        return (losses / divisor).sum(dim=1)


@dataclass(frozen=True)
class SquaredError:
    """Squared error against mixed targets."""

    def prepare(self, y: Tensor, lam: Tensor, weight: Tensor | None, size: int) -> tuple[Tensor, ...]:
        """Return the mixed targets, and what twice the error of each row is multiplied by."""
        target = mix_targets(y, lam).to(lam.dtype)
        return target, 2 / _get_divisors(weight, size, target)

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``2 (output - target) / divisor``."""
        target, factor = prepared
        kept.copy_(output)
        return (output - target).mul_(factor)

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the squared errors over the divisor."""
        target, factor = prepared
        return ((kept - target).square() * factor).sum(dim=1) / 2


def _get_shares(weight: Tensor | None, size: int, like: Tensor) -> Tensor:
    """Return the share of each row in the mean of its batch, shape (m, 1) or ()."""
    if weight is None:
        return like.new_ones(()).div(size)
    by_batch = weight.view(-1, size)
    return (by_batch / by_batch.sum(dim=1, keepdim=True)).view(-1, 1)


def _get_divisors(weight: Tensor | None, size: int, target: Tensor) -> Tensor:
    """Return what the losses of a row are divided by, shape (m, 1)."""
    m, n_outputs = target.shape
    if weight is None:
        return target.new_full((m, 1), float(size * n_outputs))
    by_batch = weight.view(-1, size)
    return (n_outputs * by_batch.sum(dim=1, keepdim=True) / by_batch).view(m, 1)


def find_loss(criterion: nn.Module, n_outputs: int, label_smoothing: float = 0.0) -> Loss | None:
    """Return the closed form of a criterion, or None where it has none here.

    Parameters
    ----------
    criterion : torch.nn.Module
        A candidate: torch's cross-entropy, binary cross-entropy with logits or squared
        error, without class weights, averaged over a batch.
    n_outputs : int
        Number of outputs of the network.
    label_smoothing : float, default=0.0
        Smoothing of binary labels; cross-entropy brings its own.

    Examples
    --------
    >>> from torch import nn
    >>> from sk_mixup.closed_form import find_loss
    >>> find_loss(nn.CrossEntropyLoss(label_smoothing=0.1), n_outputs=3)
    CrossEntropy(n_classes=3, label_smoothing=0.1)
    >>> find_loss(nn.L1Loss(), n_outputs=3) is None
    True
    """
    if getattr(criterion, "reduction", None) != "mean" or is_hooked(criterion):
        return None
    if type(criterion) is nn.MSELoss:
        return SquaredError()
    if getattr(criterion, "weight", None) is not None or getattr(criterion, "pos_weight", None) is not None:
        return None
    if type(criterion) is nn.CrossEntropyLoss and criterion.ignore_index < 0:
        return CrossEntropy(n_outputs, criterion.label_smoothing)
    return BinaryCrossEntropy(label_smoothing) if type(criterion) is nn.BCEWithLogitsLoss else None
