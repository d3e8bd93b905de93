"""Losses of mixed targets."""

from __future__ import annotations

import torch
from torch import Tensor
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from sk_mixup.mixing.functional import soft_targets

__all__ = [
    "average_entropy",
    "average_rows",
    "mix_dense_losses",
    "mix_losses",
    "mix_targets",
    "mixed_binary_cross_entropy",
    "mixed_cross_entropy",
]


def mix_losses(losses: Tensor, lam: Tensor, weight: Tensor | None = None) -> Tensor:
    """Average the losses towards each mixed target.

    Computes ``sum_i w_i sum_k lam_ki l_ki / sum_i w_i`` over the rows i of a batch, where
    ``l_ki`` is the loss of the prediction against the k-th example's own target: the form
    ``lam l(f(x), y) + (1 - lam) l(f(x), y')`` of [1]_, section 3, with weights.

    Parameters
    ----------
    losses : Tensor of shape (k, n)
        Loss of each row's prediction against each of its k targets.
    lam : Tensor of shape (k, n)
        Mixing weights; each column adds up to 1.
    weight : Tensor of shape (n,), default=None
        Weight of each virtual example; None means 1.

    Returns
    -------
    loss : Tensor of shape ()

    Notes
    -----
    The weight of a virtual example is the product of the weights of the examples that go
    into it. Were a row of weight 2 written down twice, its pairs with a row of weight 3
    would occur six times.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.losses import mix_losses
    >>> losses, lam = torch.tensor([[4.0], [8.0]]), torch.tensor([[0.75], [0.25]])
    >>> mix_losses(losses, lam)
    tensor(5.)
    >>> mix_losses(losses.repeat(1, 2) * torch.tensor([1, 2]), lam.repeat(1, 2), torch.tensor([3.0, 1.0]))
    tensor(6.2500)
    """
    return average_rows((lam * losses).sum(dim=0).unsqueeze(1), weight)


def mixed_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    lam: Tensor,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits against mixed classes.

    Equals :func:`mix_losses` of the cross-entropies towards each class, computed as one
    cross-entropy against soft labels.

    Parameters
    ----------
    logits : Tensor of shape (n, n_classes)
        Output of the network.
    labels : Tensor of shape (k, n), dtype int64
        Class codes of the examples that were mixed.
    lam : Tensor of shape (k, n)
        Mixing weights.
    weight : Tensor of shape (n,), default=None
        Weight of each virtual example; None means 1.
    label_smoothing : float, default=0.0
        Share of each label that is spread over all classes, in [0, 1]
        (Szegedy et al. 2016).

    Returns
    -------
    loss : Tensor of shape ()

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.losses import mixed_cross_entropy
    >>> logits = torch.tensor([[0.0, 0.0]])
    >>> mixed_cross_entropy(logits, torch.tensor([[0], [1]]), torch.tensor([[0.3], [0.7]]))
    tensor(0.6931)
    """
    target = soft_targets(labels, lam.to(logits.dtype), logits.shape[1])
    if weight is None:
        return F.cross_entropy(logits, target, label_smoothing=label_smoothing)
    losses = F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
    return average_rows(losses.unsqueeze(1), weight)


def mix_targets(targets: Tensor, lam: Tensor) -> Tensor:
    """Mix real-valued targets.

    Parameters
    ----------
    targets : Tensor of shape (k, n, n_outputs)
        Targets of the examples that were mixed.
    lam : Tensor of shape (k, n)
        Mixing weights; each column adds up to 1.

    Returns
    -------
    target : Tensor of shape (n, n_outputs)
        ``sum_k lam_k y_k``.

    Notes
    -----
    For squared error and for binary cross-entropy, the loss against the mixed target has
    the gradient of the mixed losses.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.losses import mix_targets
    >>> mix_targets(torch.tensor([[[0.0]], [[8.0]]]), torch.tensor([[0.75], [0.25]]))
    tensor([[2.]])
    """
    return (lam.unsqueeze(-1) * targets).sum(dim=0)


def mixed_binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    lam: Tensor,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Binary cross-entropy of logits against mixed label indicators.

    Parameters
    ----------
    logits : Tensor of shape (n, n_labels)
        Output of the network.
    targets : Tensor of shape (k, n, n_labels)
        Indicators, 0 or 1, of the examples that were mixed.
    lam : Tensor of shape (k, n)
        Mixing weights.
    weight : Tensor of shape (n,), default=None
        Weight of each virtual example; None means 1.
    label_smoothing : float, default=0.0
        Each indicator t becomes ``(1 - label_smoothing) t + label_smoothing / 2``.

    Returns
    -------
    loss : Tensor of shape ()
        Mean over rows and labels.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.losses import mixed_binary_cross_entropy
    >>> targets = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    >>> mixed_binary_cross_entropy(torch.zeros(1, 2), targets, torch.full((2, 1), 0.5))
    tensor(0.6931)
    """
    target = mix_targets(targets, lam)
    if label_smoothing:
        target = torch.lerp(target, torch.full_like(target, 0.5), label_smoothing)
    target = target.to(logits.dtype)
    if weight is None:
        return F.binary_cross_entropy_with_logits(logits, target)
    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return average_rows(losses, weight)


def mix_dense_losses(losses: Tensor, lam: Tensor, counts: Tensor, weight: Tensor | None = None) -> Tensor:
    """Average the losses of pixels towards each mixed target, those without a label left out.

    Computes ``sum_i w_i sum_k lam_ki sum_p m_kip l_kip`` over ``sum_i w_i sum_k lam_ki sum_p
    m_kip``, where pixel p of the k-th target of row i has the loss ``l_kip`` and ``m_kip`` is
    1, or 0 where it has no label.

    Parameters
    ----------
    losses : Tensor of shape (k, n, *sizes)
        Loss of each pixel.
    lam : Tensor of shape (k, n)
        Mixing weights; each column adds up to 1.
    counts : Tensor of shape (k, n, *sizes), dtype bool
        Whether a pixel has a label.
    weight : Tensor of shape (n,), default=None
        Weight of each row; None means 1.

    Returns
    -------
    loss : Tensor of shape ()
        0 where no pixel has a label.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.losses import mix_dense_losses
    >>> losses, lam = torch.tensor([[[2.0, 6.0]], [[1.0, 9.0]]]), torch.tensor([[0.75], [0.25]])
    >>> mix_dense_losses(losses, lam, torch.tensor([[[True, True]], [[True, False]]]))
    tensor(3.5714)
    """
    share = lam if weight is None else lam * weight
    share = share.reshape(*lam.shape, *(1,) * (losses.ndim - 2)) * counts
    total = share.sum()
    return torch.where(counts, share * losses, 0.0).sum() / torch.where(total == 0, 1.0, total)


def average_entropy(logits: Tensor, weight: Tensor | None = None, *, binary: bool = False) -> Tensor:
    """Average the entropy of predictions, in nats: what the confidence penalty [1]_ rewards.

    Parameters
    ----------
    logits : Tensor of shape (n, n_outputs)
        Output of the network.
    weight : Tensor of shape (n,), default=None
        Weight of each row; None means 1.
    binary : bool, default=False
        Whether each output stands for itself, a sigmoid's argument; else they are a
        softmax's.

    Returns
    -------
    entropy : Tensor of shape ()
        Mean over the rows, and over the outputs where they are binary.

    References
    ----------
    .. [1] G. Pereyra, G. Tucker, J. Chorowski, L. Kaiser and G. Hinton, "Regularizing Neural
       Networks by Penalizing Confident Output Distributions", 2017,
       https://arxiv.org/abs/1701.06548

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.losses import average_entropy
    >>> average_entropy(torch.zeros(1, 4))
    tensor(1.3863)
    """
    if binary:
        return average_rows(
            F.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction="none"), weight
        )
    log_p = torch.log_softmax(logits, dim=1)
    return average_rows(-(log_p.exp() * log_p).sum(dim=1), weight)


def average_rows(losses: Tensor, weight: Tensor | None = None) -> Tensor:
    """Average losses, each row counting by its weight.

    Parameters
    ----------
    losses : Tensor of shape (n,) or (n, n_outputs)
        Losses of each row.
    weight : Tensor of shape (n,), default=None
        Weight of each row; None means 1.

    Returns
    -------
    loss : Tensor of shape ()

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.losses import average_rows
    >>> average_rows(torch.tensor([[1.0, 3.0], [4.0, 8.0]]), torch.tensor([3.0, 1.0]))
    tensor(3.)
    """
    if weight is None:
        return losses.mean()
    return (weight * losses.reshape(len(losses), -1).mean(dim=1)).sum() / weight.sum()
