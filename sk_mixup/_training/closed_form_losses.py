"""Losses whose gradient with respect to the network's output is known in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from sk_mixup._training.losses import mix_targets
from sk_mixup._training.module_structure import is_hooked
from sk_mixup.mixing import soft_targets

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Loss",
    "PenalizedBinaryCrossEntropy",
    "PenalizedCrossEntropy",
    "SquaredError",
    "find_loss",
    "get_divisors",
    "sum_batches",
]


class Loss(Protocol):
    """A loss whose gradient with respect to the network's output is known.

    The methods see the mixing of a whole block of batches at once, and then the outputs
    for one batch. Where several nets are trained as one, the outputs, and all that goes with
    them, have an axis more in front: that of the nets.
    """

    def prepare(self, y: Tensor, lam: Tensor, divisor: Tensor) -> tuple[Tensor, ...]:
        """Return tensors of shape (m, ...) that hold all that is known before the outputs.

        Parameters
        ----------
        y : Tensor of shape (k, m, ...)
            Targets of the examples that are mixed, for the m rows of several batches.
        lam : Tensor of shape (k, m)
            Mixing weights.
        divisor : Tensor of shape () or (m, 1)
            What the loss of each row is divided by in the mean of its batch; see
            :func:`get_divisors`.
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

    def prepare(self, y: Tensor, lam: Tensor, divisor: Tensor) -> tuple[Tensor, ...]:
        """Return minus the soft labels, each with its row's share in the mean of its batch."""
        target = soft_targets(y, lam, self.n_classes)
        if self.label_smoothing:
            target.mul_(1 - self.label_smoothing).add_(self.label_smoothing / self.n_classes)
        target.mul_(-divisor.reciprocal())
        return (target,)

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``softmax(output) - target``, by the share; autograd's own kernel."""
        (target,) = prepared
        torch.log_softmax(output, -1, out=kept)
        return torch._log_softmax_backward_data(target, kept, -1, output.dtype)

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``-sum_c target_c log softmax(output)_c`` by the share."""
        (target,) = prepared
        return (kept * target).sum(dim=-1)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Binary cross-entropy of logits against mixed indicators; see ``mixed_binary_cross_entropy``.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of each indicator that is replaced by 1/2.
    """

    label_smoothing: float = 0.0

    def prepare(self, y: Tensor, lam: Tensor, divisor: Tensor) -> tuple[Tensor, ...]:
        """Return the mixed indicators, and what the loss of each row is divided by."""
        target = mix_targets(y, lam).to(lam.dtype)
        if self.label_smoothing:
            target = torch.lerp(target, torch.full_like(target, 0.5), self.label_smoothing)
        return target, (divisor * target.shape[1]).expand(len(target), 1)

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``(sigmoid(output) - target) / divisor``."""
        target, divisor = prepared
        kept.copy_(output)
        return output.sigmoid().sub_(target).div_(divisor)

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the cross-entropies over the divisor."""
        target, divisor = prepared
        losses = F.binary_cross_entropy_with_logits(kept, target, reduction="none")
        return (losses / divisor).sum(dim=-1)


@dataclass(frozen=True)
class PenalizedCrossEntropy(CrossEntropy):
    """Cross-entropy minus the entropy of the prediction; see ``average_entropy`` of the losses.

    Parameters
    ----------
    n_classes, label_smoothing
        As in :class:`CrossEntropy`.
    confidence_penalty : float, default=0.0
        Weight of the entropy.
    """

    confidence_penalty: float = 0.0

    def prepare(self, y: Tensor, lam: Tensor, divisor: Tensor) -> tuple[Tensor, ...]:
        """Return the soft labels as :class:`CrossEntropy` does, and the entropy's weight."""
        weight = (self.confidence_penalty / divisor).expand(lam.shape[1], 1)
        return *super().prepare(y, lam, divisor), weight

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the gradient; that of minus the entropy H is ``p (log p + H)``."""
        target, weight = prepared
        gradient = super().compute_gradient(output, kept, target)
        p = kept.exp()
        entropy = -(p * kept).sum(dim=-1, keepdim=True)
        return gradient.addcmul_(p * (kept + entropy), weight)

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the cross-entropies, less the weighted entropies."""
        target, weight = prepared
        return super().compute_values(kept, target) + (kept.exp() * kept * weight).sum(dim=-1)


@dataclass(frozen=True)
class PenalizedBinaryCrossEntropy(BinaryCrossEntropy):
    """Binary cross-entropy less the entropies of the predictions.

    Parameters
    ----------
    label_smoothing
        As in :class:`BinaryCrossEntropy`.
    confidence_penalty : float, default=0.0
        Weight of the entropies.
    """

    confidence_penalty: float = 0.0

    def prepare(self, y: Tensor, lam: Tensor, divisor: Tensor) -> tuple[Tensor, ...]:
        """Return indicators and divisor as :class:`BinaryCrossEntropy` does, and the entropy's weight."""
        target, divisor = super().prepare(y, lam, divisor)
        return target, divisor, self.confidence_penalty / divisor

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the gradient; that of minus the entropy of ``p = sigmoid(z)`` is ``p (1 - p) z``."""
        target, divisor, weight = prepared
        gradient = super().compute_gradient(output, kept, target, divisor)
        p = output.sigmoid()
        return gradient.addcmul_(p * (1 - p) * output, weight)

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the cross-entropies, less the weighted entropies."""
        target, divisor, weight = prepared
        entropy = F.binary_cross_entropy_with_logits(kept, kept.sigmoid(), reduction="none")
        return super().compute_values(kept, target, divisor) - (entropy * weight).sum(dim=-1)


@dataclass(frozen=True)
class SquaredError:
    """Squared error against mixed targets."""

    def prepare(self, y: Tensor, lam: Tensor, divisor: Tensor) -> tuple[Tensor, ...]:
        """Return the mixed targets, and what twice the error of each row is multiplied by."""
        target = mix_targets(y, lam).to(lam.dtype)
        return target, (2 / (divisor * target.shape[1])).expand(len(target), 1)

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``2 (output - target) / divisor``."""
        target, factor = prepared
        kept.copy_(output)
        return (output - target).mul_(factor)

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the squared errors over the divisor."""
        target, factor = prepared
        return ((kept - target).square() * factor).sum(dim=-1) / 2


def get_divisors(weight: Tensor | None, sizes: Sequence[int], like: Tensor) -> Tensor:
    """Return what the loss of each row is divided by in the weighted mean of its batch.

    Parameters
    ----------
    weight : Tensor of shape (m,) or None
        Weight of each row; None means 1.
    sizes : sequence of int
        Rows in each batch, m in all; only the last may differ from the others.
    like : Tensor
        Gives dtype and device.

    Returns
    -------
    divisor : Tensor of shape () or (m, 1)
        The sum of the batch's weights over the row's own; the batch's size, if all weigh 1.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.closed_form_losses import get_divisors
    >>> get_divisors(None, [2, 2], torch.zeros(1))
    tensor(2.)
    >>> get_divisors(torch.tensor([1.0, 3.0, 2.0]), [2, 1], torch.zeros(1)).squeeze(1)
    tensor([4.0000, 1.3333, 1.0000])
    """
    if weight is not None:
        sums = [part.sum().expand(len(part)) for part in torch.split(weight, list(sizes))]
        return (torch.cat(sums) / weight).unsqueeze(1)
    if sizes[-1] == sizes[0]:
        return like.new_full((), float(sizes[0]))
    n_even = (len(sizes) - 1) * sizes[0]
    full, last = (
        like.new_full((n, 1), float(size)) for n, size in ((n_even, sizes[0]), (sizes[-1], sizes[-1]))
    )
    return torch.cat([full, last])


def sum_batches(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the sum over each batch.

    Parameters
    ----------
    values : Tensor of shape (m,)
        A value for each row.
    sizes : sequence of int
        Rows in each batch, m in all; only the last may differ from the others.

    Returns
    -------
    sums : Tensor of shape (n_batches,)

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.closed_form_losses import sum_batches
    >>> sum_batches(torch.arange(5), [2, 2, 1])
    tensor([1, 5, 4])
    """
    n_even = len(sizes) if sizes[-1] == sizes[0] else len(sizes) - 1
    sums = values[: n_even * sizes[0]].view(n_even, -1).sum(dim=1)
    return sums if n_even == len(sizes) else torch.cat([sums, values[n_even * sizes[0] :].sum().view(1)])


def find_loss(
    criterion: nn.Module, n_outputs: int, label_smoothing: float = 0.0, confidence_penalty: float = 0.0
) -> Loss | None:
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
    confidence_penalty : float, default=0.0
        Weight of the prediction's entropy, which the loss of classes is lessened by.

    Examples
    --------
    >>> from torch import nn
    >>> from sk_mixup._training.closed_form_losses import find_loss
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
        options = (n_outputs, criterion.label_smoothing)
        return (
            PenalizedCrossEntropy(*options, confidence_penalty)
            if confidence_penalty
            else CrossEntropy(*options)
        )
    if type(criterion) is not nn.BCEWithLogitsLoss:
        return None
    if confidence_penalty:
        return PenalizedBinaryCrossEntropy(label_smoothing, confidence_penalty)
    return BinaryCrossEntropy(label_smoothing)
