"""Targets of virtual examples, where they are sums of their examples': mixed, and smoothed."""

from __future__ import annotations

from torch import Tensor

__all__ = ["mix_columns", "mix_targets", "smooth_targets"]


def mix_targets(targets: Tensor, lam: Tensor) -> Tensor:
    """Mix real-valued targets.

    Parameters
    ----------
    targets : Tensor of shape (k, n, n_outputs)
        Targets of the examples that were mixed.
    lam : Tensor of shape (k, n)
        Mixing weights; each column sums to 1.

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
    >>> from sk_mixup._training.mixed_targets import mix_targets
    >>> mix_targets(torch.tensor([[[0.0]], [[8.0]]]), torch.tensor([[0.75], [0.25]]))
    tensor([[2.]])
    """
    return (lam.unsqueeze(-1) * targets).sum(dim=0)


def mix_columns(y: Tensor, lam: Tensor) -> Tensor:
    """Mix targets of whatever shape, as a table of floats: :func:`mix_targets` of their columns.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.mixed_targets import mix_columns
    >>> mix_columns(torch.tensor([[0], [8]]), torch.tensor([[0.75], [0.25]]))
    tensor([[2.]])
    """
    return mix_targets(y.reshape(*lam.shape, -1), lam).to(lam.dtype)


def smooth_targets(target: Tensor, label_smoothing: float | Tensor, n_classes: int) -> Tensor:
    """Spread a share of distributions uniformly over all classes.

    Parameters
    ----------
    target : Tensor
        Probabilities of classes; those of one of two for an indicator.
    label_smoothing : float or Tensor that broadcasts with target
        The share, in [0, 1].
    n_classes : int
        Number of classes.

    Returns
    -------
    target : Tensor
        ``(1 - label_smoothing) * target + label_smoothing / n_classes``; what was given for no
        smoothing.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.mixed_targets import smooth_targets
    >>> smooth_targets(torch.tensor([0.0, 1.0]), 0.2, n_classes=2)
    tensor([0.1000, 0.9000])
    """
    if isinstance(label_smoothing, float | int) and label_smoothing == 0:
        return target
    return (target * (1 - label_smoothing)).add_(label_smoothing / n_classes)
