"""Pure tensor functions of semi-supervised learning: guesses, their loss, averages of weights."""

from __future__ import annotations

from collections.abc import Sequence
import math

import torch
from torch import Tensor
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from sk_mixup._training.averages import average_rows
from sk_mixup._training.losses import smooth_targets
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
    """Lower the entropy of distributions.

    Computes ``p_c^(1/T) / sum_d p_d^(1/T)``, equation (7) of [1]_.

    Parameters
    ----------
    probabilities : Tensor of shape (..., n_classes)
        Distributions over the last axis.
    temperature : float
        T, above 0; 1 changes nothing, towards 0 the largest probability becomes 1.

    Returns
    -------
    sharpened : Tensor of shape (..., n_classes)
        A new tensor, of the dtype and on the device of `probabilities`.

    Notes
    -----
    Computed from logarithms, so that a low temperature does not underflow. T = 1 gives the
    probabilities bit for bit.

    References
    ----------
    .. [1] D. Berthelot, N. Carlini, I. Goodfellow, N. Papernot, A. Oliver and C. Raffel,
       "MixMatch: A Holistic Approach to Semi-Supervised Learning", NeurIPS 2019,
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
    return torch.softmax(probabilities.log() / temperature, dim=-1)


def guess_targets(probabilities: Tensor, temperature: float) -> Tensor:
    """Guess the targets of unlabelled rows from predictions for several views of each.

    The predictions are averaged over the views and sharpened: equation (6) of [1]_, then
    :func:`sharpen`.

    Parameters
    ----------
    probabilities : Tensor of shape (n_views, n, n_classes)
        Predicted distributions.
    temperature : float
        That of :func:`sharpen`.

    Returns
    -------
    target : Tensor of shape (n, n_classes)
        A new tensor.

    References
    ----------
    .. [1] D. Berthelot, N. Carlini, I. Goodfellow, N. Papernot, A. Oliver and C. Raffel,
       "MixMatch: A Holistic Approach to Semi-Supervised Learning", NeurIPS 2019,
       https://arxiv.org/abs/1905.02249

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.consistency_losses import guess_targets
    >>> guess_targets(torch.tensor([[[0.6, 0.4]], [[0.9, 0.1]]]), 0.5)
    tensor([[0.9000, 0.1000]])
    """
    return sharpen(probabilities.mean(dim=0), temperature)


def ramp_up(progress: float, shape: str = "sigmoid") -> float:
    """Return the share of its final weight that the unlabelled loss has.

    Parameters
    ----------
    progress : float
        Steps done divided by the steps that the rise takes, at least 0.
    shape : {'sigmoid', 'linear'}, default='sigmoid'
        'sigmoid' is ``exp(-5 (1 - t)^2)`` of Tarvainen and Valpola [1]_, with t = `progress`,
        at most 1; 'linear' is t.

    Returns
    -------
    share : float
        In [0, 1]; 1 from ``progress=1`` on.

    References
    ----------
    .. [1] A. Tarvainen and H. Valpola, "Mean teachers are better role models", NeurIPS 2017,
       https://arxiv.org/abs/1703.01780

    Examples
    --------
    >>> from sk_mixup._training.consistency_losses import ramp_up
    >>> [round(ramp_up(t), 3) for t in (0, 0.5, 1, 2)]
    [0.007, 0.287, 1.0, 1.0]
    >>> ramp_up(0.25, "linear")
    0.25
    """
    check_choice("shape", shape, RAMPS)
    t = min(progress, 1.0)
    return t if shape == "linear" else math.exp(-5 * (1 - t) ** 2)


def consistency_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared distance of predicted distributions from given ones.

    Computes ``sum_i w_i |softmax(z_i) - q_i|^2 / (C sum_i w_i)`` for C classes: equation (4)
    of [1]_, and the mean squared error of [2]_. Bounded, and so less sensitive than a
    cross-entropy to a wrong guess.

    Parameters
    ----------
    logits : Tensor of shape (n, n_classes)
        Output of the network.
    target : Tensor of shape (n, n_classes)
        Distributions.
    weight : Tensor of shape (n,), default=None
        Weight of each row; None means 1.

    Returns
    -------
    loss : Tensor of shape ()
        In [0, 2 / C].

    References
    ----------
    .. [1] D. Berthelot, N. Carlini, I. Goodfellow, N. Papernot, A. Oliver and C. Raffel,
       "MixMatch: A Holistic Approach to Semi-Supervised Learning", NeurIPS 2019,
       https://arxiv.org/abs/1905.02249
    .. [2] V. Verma, K. Kawaguchi, A. Lamb, J. Kannala, A. Solin, Y. Bengio and D. Lopez-Paz,
       "Interpolation Consistency Training for Semi-Supervised Learning", IJCAI 2019,
       https://arxiv.org/abs/1903.03825

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.consistency_losses import consistency_loss
    >>> consistency_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    tensor(0.2500)
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
    """Cross-entropy of labelled rows and consistency of the others.

    Computes ``L_X + w L_U``, equation (5) of MixMatch [1]_ and the loss of interpolation
    consistency training [2]_: L_X is the cross-entropy of the first `n_labeled` rows, L_U the
    :func:`consistency_loss` of the others. What tells the methods apart is how rows and
    targets were made.

    Parameters
    ----------
    logits : Tensor of shape (n, n_classes)
        Output of the network.
    target : Tensor of shape (n, n_classes)
        Mixed targets: labels, guesses or both.
    n_labeled : int
        How many of the rows come first that stem from labelled ones.
    unlabeled_weight : float
        w, at least 0.
    weight : Tensor of shape (n,), default=None
        Weight of each row within its part; None means 1. Each part is divided by the sum of
        its own weights.
    label_smoothing : float, default=0.0
        Share of each labelled target that is spread over all classes, in [0, 1].

    Returns
    -------
    loss : Tensor of shape ()

    References
    ----------
    .. [1] D. Berthelot, N. Carlini, I. Goodfellow, N. Papernot, A. Oliver and C. Raffel,
       "MixMatch: A Holistic Approach to Semi-Supervised Learning", NeurIPS 2019,
       https://arxiv.org/abs/1905.02249
    .. [2] V. Verma, K. Kawaguchi, A. Lamb, J. Kannala, A. Solin, Y. Bengio and D. Lopez-Paz,
       "Interpolation Consistency Training for Semi-Supervised Learning", IJCAI 2019,
       https://arxiv.org/abs/1903.03825

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
    """Move averages towards values, in place.

    Computes ``a = decay a + (1 - decay) v`` for each pair; what is no real or complex number,
    such as a counter of batches, is copied.

    Parameters
    ----------
    average : sequence of Tensor
        Parameters and buffers of the average; written to.
    values : sequence of Tensor
        Those of the module that is trained, of the same shapes.
    decay : float
        In [0, 1]; 0 copies the values.

    Notes
    -----
    Running statistics are averaged like the weights: they are means over rows that the
    trained weights of the same steps have seen, so that weights and statistics of the
    average come from the same steps in the same shares.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.consistency_losses import update_average
    >>> average = [torch.tensor([0.0]), torch.tensor(3)]
    >>> update_average(average, [torch.tensor([8.0]), torch.tensor(4)], decay=0.75)
    >>> average
    [tensor([2.]), tensor(4)]
    """
    with torch.no_grad():
        for mean, value in zip(average, values, strict=True):
            if mean.is_floating_point() or mean.is_complex():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
