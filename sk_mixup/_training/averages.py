"""Averages over the weighted rows of a batch, or of several at once, and what their targets count in them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

__all__ = [
    "COUNTED",
    "IGNORED",
    "average_entropy",
    "average_rows",
    "count_targets",
    "divide_safely",
    "get_binary_entropy",
    "get_divisors",
    "limit_logarithms",
    "mix_losses",
    "sum_batches",
]

IGNORED = -100  # torch's default of `ignore_index`, which is no class
# Criteria whose mean is over the targets that are not ignored, by the weights of their classes.
COUNTED = (nn.CrossEntropyLoss, nn.NLLLoss)
# A sum of fewer numbers is the same to the last bit by itself and beside others: torch shares out longer
# ones among threads.
SUMMED_IN_ORDER = 2**15


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
    >>> from sk_mixup._training.averages import average_rows
    >>> average_rows(torch.tensor([[1.0, 3.0], [4.0, 8.0]]), torch.tensor([3.0, 1.0]))
    tensor(3.)
    """
    if weight is None:
        return losses.mean()
    return divide_safely((weight * losses.reshape(len(losses), -1).mean(dim=1)).sum(), weight.sum())


def count_targets(criterion: object, y: Tensor) -> Tensor | None:
    """Return what the loss of each target counts in the mean that torch's criterion takes.

    Parameters
    ----------
    criterion : torch.nn.Module or None
        The criterion.
    y : Tensor
        Targets, of any shape.

    Returns
    -------
    counts : Tensor of the shape of y, or None
        The weight of its class, 0 for targets that are ignored; None where all losses count 1.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sk_mixup._training.averages import count_targets
    >>> count_targets(nn.CrossEntropyLoss(torch.tensor([2.0, 3.0])), torch.tensor([[0, 1, -100]]))
    tensor([[2., 3., 0.]])
    """
    if isinstance(criterion, nn.BCEWithLogitsLoss) and y.ndim > 2 and y.dtype == torch.int64:
        return y != IGNORED  # codes of maps with one logit per pixel
    if not isinstance(criterion, COUNTED) or y.is_floating_point():
        return None
    counted = y != criterion.ignore_index
    if criterion.weight is None:
        return counted
    codes = torch.where(counted, y, 0).to(criterion.weight.device, torch.int64)
    return criterion.weight[codes] * counted.to(criterion.weight.device)


def mix_losses(
    losses: Tensor,
    lam: Tensor,
    weight: Tensor | None = None,
    counts: Tensor | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Reduce the losses towards each mixed target, as torch reduces those of plain targets.

    Computes ``sum_i w_i sum_k lam_ki sum_p l_kip`` over ``sum_i w_i sum_k lam_ki sum_p m_kip``,
    where the k-th target of row i has the loss ``l_kip`` at position p, which counts ``m_kip`` in
    torch's mean: the form ``lam l(f(x), y) + (1 - lam) l(f(x), y')`` of [1]_, section 3.

    Parameters
    ----------
    losses : Tensor of shape (k, n, *sizes)
        Losses of the predictions against each of the k targets of a row.
    lam : Tensor of shape (k, n)
        Mixing weights; each column sums to 1.
    weight : Tensor of shape (n,), default=None
        Weight of each virtual example; None means 1.
    counts : Tensor of shape (k, n, *sizes), default=None
        What each loss counts in the mean, as :func:`count_targets` gives it;
        None means 1.
    reduction : {'mean', 'batchmean', 'sum'}, default='mean'
        That of torch: 'batchmean' divides by the rows' weights, 'sum' by nothing.

    Returns
    -------
    loss : Tensor of shape ()
        0 where nothing counts.

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
    >>> from sk_mixup._training.averages import mix_losses
    >>> losses, lam = torch.tensor([[4.0], [8.0]]), torch.tensor([[0.75], [0.25]])
    >>> mix_losses(losses, lam)
    tensor(5.)
    >>> mix_losses(losses.repeat(1, 2) * torch.tensor([1, 2]), lam.repeat(1, 2), torch.tensor([3.0, 1.0]))
    tensor(6.2500)
    """
    share = lam if weight is None else lam * weight
    share = share.reshape(*lam.shape, *(1,) * (losses.ndim - 2))
    if counts is not None:  # of a class of weight 0 the loss is 0, but for what smoothing adds
        is_out = counts == 0
        losses = torch.where(is_out if counts.dtype == torch.bool else is_out & losses.isnan(), 0.0, losses)
    total = torch.where(share == 0, 0.0, share * losses).sum()
    if reduction == "sum":
        return total
    if counts is not None and reduction == "mean":
        counted = (share * counts).sum()
        return divide_safely(torch.where(counted == 0, 0.0, total), counted)
    n_rows = torch.full_like(total, lam.shape[1]) if weight is None else weight.sum()
    return divide_safely(total, n_rows * (losses[0, 0].numel() if reduction == "mean" else 1))


def average_entropy(logits: Tensor, weight: Tensor | None = None, *, binary: bool = False) -> Tensor:
    """Average the entropy of predictions, in nats: the bonus of the confidence penalty [1]_.

    Parameters
    ----------
    logits : Tensor of shape (n, n_outputs) or (n, k, n_outputs)
        Output of the network, or of k members for each row.
    weight : Tensor of shape (n,), default=None
        Weight of each row; None means 1.
    binary : bool, default=False
        Whether each output stands for itself, a sigmoid's argument; else they are a
        softmax's.

    Returns
    -------
    entropy : Tensor of shape ()
        Mean over the rows and members, and over the outputs where they are binary.

    References
    ----------
    .. [1] G. Pereyra, G. Tucker, J. Chorowski, L. Kaiser and G. Hinton, "Regularizing Neural
       Networks by Penalizing Confident Output Distributions", 2017,
       https://arxiv.org/abs/1701.06548

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.averages import average_entropy
    >>> average_entropy(torch.zeros(1, 4))
    tensor(1.3863)
    """
    if binary:
        return average_rows(get_binary_entropy(logits), weight)
    log_p = torch.log_softmax(logits, dim=-1)
    return average_rows(-(log_p.exp() * limit_logarithms(log_p)).sum(dim=-1), weight)


def limit_logarithms(log_p: Tensor) -> Tensor:
    """Return finite logarithms, so that those of 0 cost nothing by a probability of 0."""
    return log_p.clamp_min(torch.finfo(log_p.dtype).min)


def get_binary_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of each output's own prediction, in nats."""
    return F.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction="none")


def divide_safely(total: Tensor, divisor: Tensor) -> Tensor:
    """Return a quotient, or the dividend where nothing counts.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.averages import divide_safely
    >>> divide_safely(torch.tensor(0.0), torch.tensor(0.0))
    tensor(0.)
    """
    return total / torch.where(divisor == 0, 1.0, divisor)


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
        Infinite for a row of weight 0.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.averages import get_divisors
    >>> get_divisors(None, [2, 2], torch.zeros(1))
    tensor(2.)
    >>> get_divisors(torch.tensor([1.0, 3.0, 2.0]), [2, 1], torch.zeros(1)).squeeze(1)
    tensor([4.0000, 1.3333, 1.0000])
    """
    if weight is not None:
        sums = sum_batches(weight, sizes) if sizes[0] < SUMMED_IN_ORDER else _sum_one_by_one(weight, sizes)
        batch = torch.arange(len(weight), device=weight.device).div_(sizes[0], rounding_mode="floor")
        own = sums.index_select(0, batch.clamp_(max=len(sizes) - 1))
        return torch.where(weight == 0, torch.inf, own / weight).unsqueeze(1)
    if sizes[-1] == sizes[0]:
        return like.new_full((), float(sizes[0]))
    n_even = (len(sizes) - 1) * sizes[0]
    full, last = (
        like.new_full((n, 1), float(size)) for n, size in ((n_even, sizes[0]), (sizes[-1], sizes[-1]))
    )
    return torch.cat([full, last])


def _sum_one_by_one(values: Tensor, sizes: Sequence[int]) -> Tensor:
    return torch.stack([part.sum() for part in torch.split(values, list(sizes))])


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
    >>> from sk_mixup._training.averages import sum_batches
    >>> sum_batches(torch.arange(5), [2, 2, 1])
    tensor([1, 5, 4])
    """
    n_even = len(sizes) if sizes[-1] == sizes[0] else len(sizes) - 1
    sums = values[: n_even * sizes[0]].view(n_even, -1).sum(dim=1)
    return sums if n_even == len(sizes) else torch.cat([sums, values[n_even * sizes[0] :].sum().view(1)])
