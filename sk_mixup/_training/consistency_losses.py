"""Pure tensor functions of semi-supervised learning: guesses, their loss, averages of weights."""

from __future__ import annotations

from collections.abc import Sequence
import math

import torch
from torch import Tensor
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from sk_mixup._tensors import copy_all
from sk_mixup._training.averages import average_rows
from sk_mixup._training.mixed_targets import smooth_targets
from sk_mixup._validation import check_choice

__all__ = [
    "RAMPS",
    "consistency_loss",
    "guess_targets",
    "ramp_up",
    "semi_supervised_loss",
    "sharpen",
    "update_average",
]

RAMPS = ("sigmoid", "linear")


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """Lower the entropy of distributions: ``p_c^(1/T) / sum_d p_d^(1/T)``, equation (7) of [1]_.

    Takes probabilities (..., n_classes). T is above 0; 1 gives them bit for bit, towards 0 the largest
    becomes 1. Computed from logarithms, so that a low T does not underflow.

    References
    ----------
    .. [1] D. Berthelot et al., "MixMatch: A Holistic Approach to Semi-Supervised Learning", NeurIPS 2019,
       https://arxiv.org/abs/1905.02249

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.consistency_losses import sharpen
    >>> sharpen(torch.tensor([0.75, 0.25]), 0.5)
    tensor([0.9000, 0.1000])
    """
    if temperature == 1:
        return probabilities.clone()
    return torch.softmax(probabilities.log() / float(temperature), dim=-1)


def guess_targets(probabilities: Tensor, temperature: float) -> Tensor:
    """Return targets (n, n_classes) of unlabelled rows from predictions (n_views, n, n_classes).

    The average over the views, sharpened: equation (6) of MixMatch, see :func:`sharpen`.
    """
    return sharpen(probabilities.mean(dim=0), temperature)


def ramp_up(progress: float, shape: str = "sigmoid") -> float:
    """Return the share of its final weight that the unlabelled loss has, in [0, 1]; 1 from ``progress=1`` on.

    'sigmoid' is ``exp(-5 (1 - t)^2)`` of [1]_ and 'linear' is t, where t is the share that is done of
    the steps that the rise takes, at most 1.

    References
    ----------
    .. [1] A. Tarvainen and H. Valpola, "Mean teachers are better role models", NeurIPS 2017,
       https://arxiv.org/abs/1703.01780

    Examples
    --------
    >>> from sk_mixup._training.consistency_losses import ramp_up
    >>> [round(ramp_up(t), 3) for t in (0, 0.5, 1, 2)]
    [0.007, 0.287, 1.0, 1.0]
    """
    check_choice("shape", shape, RAMPS)
    t = min(progress, 1.0)
    return t if shape == "linear" else math.exp(-5 * (1 - t) ** 2)


def consistency_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared distance of predicted distributions from given ones, (n, n_classes), in [0, 2 / C].

    Computes ``sum_i w_i |softmax(z_i) - q_i|^2 / (C sum_i w_i)`` for C classes: equation (4) of MixMatch
    (see :func:`sharpen`) and the mean squared error of [1]_. Bounded, and so less sensitive than a
    cross-entropy to a wrong guess.

    References
    ----------
    .. [1] V. Verma, K. Kawaguchi, A. Lamb, J. Kannala, A. Solin, Y. Bengio and D. Lopez-Paz,
       "Interpolation Consistency Training for Semi-Supervised Learning", IJCAI 2019,
       https://arxiv.org/abs/1903.03825
    """
    return average_rows((torch.softmax(logits, dim=-1) - target).square(), weight)


def semi_supervised_loss(
    logits: Tensor,
    target: Tensor,
    n_labeled: int,
    unlabeled_weight: float,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of the first `n_labeled` rows, and w times the consistency of the others.

    Computes ``L_X + w L_U``, equation (5) of MixMatch and the loss of interpolation consistency training
    (see :func:`consistency_loss`). Targets (n, n_classes) are mixed from labels, guesses or both; what
    tells the methods apart is how they were made. Each part is divided by the sum of its own weights.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.consistency_losses import semi_supervised_loss
    >>> target = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> semi_supervised_loss(torch.zeros(2, 2), target, n_labeled=1, unlabeled_weight=4.0)
    tensor(1.6931)
    """
    own, other = (None, None) if weight is None else (weight[:n_labeled], weight[n_labeled:])
    labels = smooth_targets(target[:n_labeled], label_smoothing, target.shape[1])
    losses = F.cross_entropy(logits[:n_labeled], labels, reduction="none")
    consistency = consistency_loss(logits[n_labeled:], target[n_labeled:], other)
    return average_rows(losses, own) + unlabeled_weight * consistency


def update_average(average: Sequence[Tensor], values: Sequence[Tensor], decay: float) -> None:
    """Move averages towards values, in place: ``a = decay a + (1 - decay) v``; counters are copied.

    Running statistics are averaged like the weights: they are means over rows that the trained weights
    of the same steps have seen, so both come from the same steps in the same shares.
    """
    moved, copied = list[tuple[Tensor, Tensor]](), list[tuple[Tensor, Tensor]]()
    for pair in zip(average, values, strict=True):
        (moved if pair[0].is_floating_point() or pair[0].is_complex() else copied).append(pair)
    with torch.no_grad():
        if moved:
            torch._foreach_lerp_([mean for mean, _ in moved], [value for _, value in moved], 1 - decay)
        copy_all(copied)
