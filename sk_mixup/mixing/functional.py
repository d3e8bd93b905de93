"""Pure tensor functions that build virtual examples."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["add_noise", "mix", "mix_pair", "mix_rows", "paste_boxes", "soft_targets", "swap_features"]


def mix_pair(x: Tensor, x_partner: Tensor, lam: Tensor | float) -> Tensor:
    """Interpolate each row with its partner.

    Computes ``lam * x + (1 - lam) * x_partner``, the virtual example of equation (1)
    of [1]_.

    Parameters
    ----------
    x : Tensor of shape (n, *features)
        Inputs or one-hot targets, of a floating dtype.
    x_partner : Tensor of shape (n, *features)
        The partner of each row of `x`.
    lam : Tensor of shape () or (n,), or float
        Weight of `x`, in [0, 1], of the dtype of `x`; a scalar serves the whole batch.

    Returns
    -------
    mixed : Tensor of shape (n, *features)
        A new tensor, of the dtype and on the device of `x`.

    Raises
    ------
    TypeError
        If `x` or `x_partner` is no tensor, or not of a floating dtype.
    ValueError
        If `lam` is neither a scalar nor one value per row, or if the shape of `x_partner` is
        not that of `x`.

    See Also
    --------
    mix : The same for more than two examples.
    Mixup : Draws partners and weights.

    Notes
    -----
    The ends are exact: ``lam=1`` gives `x` and ``lam=0`` gives `x_partner`, bit for bit, where both and
    their difference are finite.
    No branch depends on a tensor's values, so the function works under
    ``torch.func.vmap`` and ``torch.compile``.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.mixing import mix_pair
    >>> x = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    >>> mix_pair(x, x.flip(0), torch.tensor(0.75))
    tensor([[0.2500, 0.5000],
            [0.7500, 1.5000]])
    """
    _check_tensors(x=x, x_partner=x_partner)
    _check_floating(x)
    _check_floating(x_partner, "x_partner")
    if x_partner.shape != x.shape:
        raise ValueError(
            f"x_partner must have the shape of x; got shape {tuple(x_partner.shape)} for x of shape "
            f"{tuple(x.shape)}. Give one partner per row."
        )
    return torch.lerp(x_partner, x, _per_row("lam", lam, x))


def mix(rows: Tensor, lam: Tensor) -> Tensor:
    """Sum several examples per row, each with its weight.

    Computes ``sum_k lam[k] * rows[k]``: mixup of k examples, with weights from a
    Dirichlet distribution, which section 2 of [1]_ reports on.

    Parameters
    ----------
    rows : Tensor of shape (k, n, *features)
        Example ``rows[j, i]`` is the j-th that goes into virtual example i.
    lam : Tensor of shape (k, n)
        Weights of the dtype of `rows`; those of one virtual example sum to 1.

    Returns
    -------
    mixed : Tensor of shape (n, *features)
        A new tensor, of the dtype and on the device of `rows`.

    Raises
    ------
    TypeError
        If an argument is no tensor.
    ValueError
        If `lam` does not hold one weight per example.

    See Also
    --------
    mix_pair : The case k = 2, exact at both ends.

    Notes
    -----
    For k = 2 the result is that of :func:`mix_pair` with ``lam[0]``.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.mixing import mix
    >>> mix(torch.tensor([[[1.0]], [[2.0]], [[4.0]]]), torch.tensor([[0.5], [0.25], [0.25]]))
    tensor([[2.]])
    """
    _check_tensors(rows=rows, lam=lam)
    if lam.shape != rows.shape[:2]:
        raise ValueError(
            f"lam must hold one weight per example; got lam of shape {tuple(lam.shape)} for rows of shape "
            f"{tuple(rows.shape)}. Give lam the shape {tuple(rows.shape[:2])}."
        )
    return mix_pair(rows[0], rows[1], lam[0]) if len(rows) == 2 else _add_up(rows, lam)


def _add_up(rows: Tensor, lam: Tensor) -> Tensor:
    mixed = rows[0] * _per_row("lam", lam[0], rows[0])
    for row, weight in zip(rows[1:], lam[1:], strict=True):
        mixed = torch.addcmul(mixed, row, _per_row("lam", weight, row))
    return mixed


def mix_rows(x: Tensor, index: Tensor, lam: Tensor) -> Tensor:
    """Gather rows and mix them, in one pass over the memory.

    Computes ``sum_k lam[k, i] * x[index[k, i]]`` for every i, without a copy of the rows
    that are gathered.

    Parameters
    ----------
    x : Tensor of shape (m, *features)
        The examples, of a floating dtype.
    index : Tensor of shape (k, n), dtype int64
        Rows of `x` that go into each virtual example, in [0, m).
    lam : Tensor of shape (k, n)
        Their weights; those of one virtual example sum to 1.

    Returns
    -------
    mixed : Tensor of shape (n, *features)
        A new tensor, of the dtype and on the device of `x`; images whose channels come
        last in memory stay so.

    Raises
    ------
    TypeError
        If `x` is not of a floating dtype, or an argument is no tensor.
    ValueError
        If `lam` does not hold one weight per index.

    See Also
    --------
    mix : The same for rows that have been gathered.

    Notes
    -----
    Weights of 0 and 1 are exact: the result is then a row of `x`, bit for bit, if the
    others are finite. On the CPU and on CUDA one kernel reads each row once and writes the
    result once: images of 3x32x32 were mixed, draws and labels included, in 0.33 of the time
    of the formula as printed, rows of 54 numbers in 1.04 of it (``python -m benchmarks speed``).

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.mixing import mix_rows
    >>> x = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    >>> mix_rows(x, torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0.75, 0.5], [0.25, 0.5]]))
    tensor([[0.2500, 0.5000],
            [1.0000, 2.0000]])
    """
    _check_tensors(x=x, index=index, lam=lam)
    if not x.is_floating_point():
        raise TypeError(
            f"X must be of a floating dtype to be mixed; got {x.dtype}. Give X as float32, mix a hidden "
            "layer by ManifoldMixup, or use alpha=0."
        )
    if lam.shape != index.shape:
        raise ValueError(
            f"lam must hold one weight per index; got lam of shape {tuple(lam.shape)} for index of shape "
            f"{tuple(index.shape)}. Give lam the shape of index."
        )
    lam = lam.to(x.dtype)
    if not (x.is_cpu or x.is_cuda):  # the kernel is not everywhere
        return _add_up(x[index], lam)
    if x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return mix_rows(x.permute(0, 2, 3, 1), index, lam).permute(0, 3, 1, 2)
    starts = torch.arange(0, index.numel(), len(index), device=x.device)
    rows, weights = index.t().reshape(-1), lam.t().reshape(-1)
    table = x if x.ndim == 2 else x.reshape(len(x), -1)
    mixed = torch.embedding_bag(table, rows, starts, mode=0, per_sample_weights=weights)[0]
    return mixed if x.ndim == 2 else mixed.view(index.shape[1], *x.shape[1:])


def paste_boxes(x: Tensor, x_partner: Tensor, box: Tensor) -> Tensor:
    """Fill a rectangle of each image from its partner's.

    Computes ``M * x + (1 - M) * x_partner`` with the mask M that is 0 inside the rectangle,
    equation (1) of [1]_.

    Parameters
    ----------
    x : Tensor of shape (n, channels, height, width)
        Images.
    x_partner : Tensor of shape (n, channels, height, width)
        The partner of each.
    box : Tensor of shape (4, n), dtype int64
        Top, bottom, left and right in pixels; bottom and right are excluded.

    Returns
    -------
    pasted : Tensor of shape (n, channels, height, width)
        A new tensor; all pixels are copies, bit for bit.

    Raises
    ------
    TypeError
        If an argument is no tensor.
    ValueError
        If the shapes do not agree.

    References
    ----------
    .. [1] S. Yun, D. Han, S. J. Oh, S. Chun, J. Choe and Y. Yoo, "CutMix: Regularization
       Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019,
       https://arxiv.org/abs/1905.04899

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.mixing import paste_boxes
    >>> x, x_partner = torch.zeros(1, 1, 2, 3), torch.ones(1, 1, 2, 3)
    >>> paste_boxes(x, x_partner, torch.tensor([[0], [1], [1], [3]]))
    tensor([[[[0., 1., 1.],
              [0., 0., 0.]]]])
    """
    _check_tensors(x=x, x_partner=x_partner, box=box)
    if x.ndim != 4 or x_partner.shape != x.shape or box.shape != (4, len(x)):
        raise ValueError(
            f"x must hold images of shape (n, channels, height, width), with a partner and a box each; got "
            f"shapes {tuple(x.shape)}, {tuple(x_partner.shape)} and {tuple(box.shape)}. Give box the shape "
            "(4, n)."
        )
    top, bottom, left, right = box.view(4, -1, 1)
    row = torch.arange(x.shape[2], device=x.device)
    column = torch.arange(x.shape[3], device=x.device)
    in_rows = (row >= top) & (row < bottom)
    in_columns = (column >= left) & (column < right)
    inside = in_rows.unsqueeze(2) & in_columns.unsqueeze(1)
    return torch.where(inside.unsqueeze(1), x_partner, x)


def swap_features(x: Tensor, x_partner: Tensor, swapped: Tensor) -> Tensor:
    """Take some features of each row of a table from its partner.

    Computes ``S * x + (1 - S) * x_partner`` with a mask S of zeros and ones: Feat-Mix of [1]_.

    Parameters
    ----------
    x : Tensor of shape (n, n_features)
        Rows of a table.
    x_partner : Tensor of shape (n, n_features)
        The partner of each.
    swapped : Tensor of shape (n_features, n), dtype bool
        Whether a feature is the partner's: ``1 - S``, a column for each row.

    Returns
    -------
    mixed : Tensor of shape (n, n_features)
        A new tensor; all values are copies, bit for bit.

    Raises
    ------
    TypeError
        If an argument is no tensor.
    ValueError
        If the shapes do not agree.

    References
    ----------
    .. [1] J. Chen, J. Yan, Q. Chen, D. Z. Chen, J. Wu and J. Sun, "Can a Deep Learning Model be a
       Sure Bet for Tabular Prediction?" (ExcelFormer), KDD 2024, https://arxiv.org/abs/2301.02819

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.mixing import swap_features
    >>> swap_features(torch.zeros(1, 3), torch.ones(1, 3), torch.tensor([[False], [True], [True]]))
    tensor([[0., 1., 1.]])
    """
    _check_tensors(x=x, x_partner=x_partner, swapped=swapped)
    if x.ndim != 2 or x_partner.shape != x.shape or swapped.shape != x.T.shape:
        raise ValueError(
            "x must be a table of shape (n, n_features), with a partner and a column of swapped for each; "
            f"got shapes {tuple(x.shape)}, {tuple(x_partner.shape)} and {tuple(swapped.shape)}. Give swapped "
            "the shape (n_features, n)."
        )
    return torch.where(swapped.T, x_partner, x)


def add_noise(x: Tensor, noise: Tensor, std: Tensor | float) -> Tensor:
    """Add to each row its noise.

    Computes ``x + std * noise``: the Gaussian vicinity of [1]_, for standard normal noise.

    Parameters
    ----------
    x : Tensor of shape (n, *features)
        Inputs, of a floating dtype.
    noise : Tensor of shape (n, *features)
        Numbers from a standard normal distribution.
    std : Tensor of shape () or (n,), or float
        Standard deviation of the noise, of the dtype of `x`.

    Returns
    -------
    noisy : Tensor of shape (n, *features)
        A new tensor; where `std` is 0, `x` bit for bit.

    Raises
    ------
    TypeError
        If `x` or `noise` is no tensor, or not of a floating dtype.
    ValueError
        If the shapes do not agree.

    References
    ----------
    .. [1] O. Chapelle, J. Weston, L. Bottou and V. Vapnik, "Vicinal Risk Minimization",
       NIPS 2000

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.mixing import add_noise
    >>> add_noise(torch.ones(2, 1), torch.tensor([[1.0], [-1.0]]), torch.tensor([0.5, 0.25]))
    tensor([[1.5000],
            [0.7500]])
    """
    _check_tensors(x=x, noise=noise)
    _check_floating(x)
    _check_floating(noise, "noise")
    if noise.shape != x.shape:
        raise ValueError(
            f"noise must have the shape of x; got shape {tuple(noise.shape)} for x of shape "
            f"{tuple(x.shape)}. Give one number per feature."
        )
    return torch.addcmul(x, noise, _per_row("std", std, x).expand_as(x))


def soft_targets(labels: Tensor, share: Tensor, n_classes: int) -> Tensor:
    """Sum one-hot vectors, each with its share.

    Parameters
    ----------
    labels : Tensor of shape (k, n), dtype int64
        Class codes in [0, n_classes) of the k examples that go into each row.
    share : Tensor of shape (k, n)
        Share of each example; the mixing weight, for soft labels.
    n_classes : int
        Number of classes.

    Returns
    -------
    target : Tensor of shape (n, n_classes)
        A new tensor of the dtype and on the device of `share`.

    Raises
    ------
    TypeError
        If `labels` or `share` is no tensor.
    ValueError
        If their shapes differ.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.mixing import soft_targets
    >>> soft_targets(torch.tensor([[0], [2]]), torch.tensor([[0.75], [0.25]]), 3)
    tensor([[0.7500, 0.0000, 0.2500]])
    """
    _check_tensors(labels=labels, share=share)
    if labels.ndim != 2 or share.shape != labels.shape:
        raise ValueError(
            f"share must have the shape (k, n) of labels; got shape {tuple(share.shape)} for labels of shape "
            f"{tuple(labels.shape)}. Give a share for each label."
        )
    target = torch.zeros(labels.shape[1], n_classes, dtype=share.dtype, device=share.device)
    return target.scatter_add(1, labels.T, share.T)


def _check_tensors(**tensors: object) -> None:
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name} must be a torch.Tensor; got {type(value).__name__}. Convert it by torch.as_tensor."
            )


def _check_floating(x: Tensor, name: str = "x") -> None:
    if not x.is_floating_point():
        raise TypeError(f"{name} must be of a floating dtype; got {x.dtype}. Convert it by {name}.float().")


def _per_row(name: str, lam: Tensor | float, x: Tensor) -> Tensor:
    """View `lam` so that it broadcasts along the features of `x`."""
    lam = lam if isinstance(lam, Tensor) else x.new_tensor(lam)
    if lam.ndim == 0:
        return lam
    if lam.shape != x.shape[:1]:
        raise ValueError(
            f"{name} must be a scalar or hold one value per row of x; got {name} of shape "
            f"{tuple(lam.shape)} for x of shape {tuple(x.shape)}."
        )
    return lam.view(-1, *(1,) * (x.ndim - 1))
