"""The networks of the paper's experiments with CIFAR: section 3.2, Figure 3, Tables 2 and 5."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu
from torch.utils.checkpoint import checkpoint

__all__ = ["NETWORKS", "DenseNetBC", "Network", "PreActBlock", "PreActResNet18", "WideResNet"]


class _StagedNet(nn.Module):
    """Stem, stages, and a linear layer on the mean over all places; what the networks share.

    Parameters
    ----------
    in_channels : int
        Channels of an image.
    stem_channels : int
        Channels after the first convolution, which keeps the size.
    stages : nn.Sequential
        Everything up to the last normalisation.
    n_features : int
        Channels after the stages.
    out_features : int
        Number of classes.
    """

    def __init__(
        self, in_channels: int, stem_channels: int, stages: nn.Sequential, n_features: int, out_features: int
    ) -> None:
        super().__init__()
        self.stem = _make_conv(in_channels, stem_channels, 3)
        self.stages = stages
        self.norm = nn.BatchNorm2d(n_features)
        self.head = nn.Linear(n_features, out_features)
        self.apply(_reset_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (n, out_features) for `x` of shape (n, channels, height, width)."""
        maps = _activate(self.norm, self.stages(self.stem(x)))
        return self.head(maps.mean((2, 3)))


class PreActResNet18(_StagedNet):
    """Residual network of eight blocks whose normalisation and ReLU come before the convolution.

    Parameters
    ----------
    out_features : int
        Number of classes.
    width : int, default=64
        Channels of the first stage; the others have 2, 4 and 8 times as many. The default
        is the network of the mixup paper.
    dropout : float, default=0.0
        Probability that a value between the two convolutions of a block is zeroed in
        training, in [0, 1).
    in_channels : int, default=3
        Channels of an image.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

    Notes
    -----
    Figure 4(e) of [1]_ in the form for small images: a stem of stride 1 and no pooling, then
    stages of two blocks each with strides 1, 2, 2, 2. A shortcut is the identity where the
    shapes agree, else a convolution of size 1 on the block's activated input. The first
    block's activation stands before its two paths part, as in the appendix of [1]_. Weights
    start as in [2]_, eq. 10. The dropout is that of the mixup paper's section 3.4.

    An image of 8 x 8 pixels ends as a single one, so that a training batch must then hold two
    images or more.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Identity Mappings in Deep Residual Networks",
       ECCV 2016, https://arxiv.org/abs/1603.05027
    .. [2] K. He, X. Zhang, S. Ren and J. Sun, "Delving Deep into Rectifiers", ICCV 2015,
       https://arxiv.org/abs/1502.01852

    Examples
    --------
    >>> import torch
    >>> from benchmarks.networks.cifar_networks import PreActResNet18
    >>> PreActResNet18(10, width=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, out_features: int, width: int = 64, dropout: float = 0.0, in_channels: int = 3
    ) -> None:
        _check_sizes(out_features=out_features, width=width, in_channels=in_channels)
        _check_dropout(dropout)
        channels = [width, width, 2 * width, 4 * width, 8 * width]
        stages = _make_residual_stages(channels, n_blocks=2, dropout=dropout)
        super().__init__(in_channels, width, stages, channels[-1], out_features)


class WideResNet(_StagedNet):
    """Residual network with fewer layers and more channels.

    Parameters
    ----------
    out_features : int
        Number of classes.
    depth : int, default=28
        Number of convolutions, 6 n + 4 for n blocks in each of the three stages. Defaults
        are WRN-28-10, the network of the mixup paper.
    widen_factor : int, default=10
        Channels of the three stages, in units of 16, 32 and 64.
    dropout : float, default=0.0
        Probability that a value between the two convolutions of a block is zeroed in
        training, in [0, 1).
    in_channels : int, default=3
        Channels of an image.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

    Notes
    -----
    Table 1 of [1]_ with blocks of two convolutions of size 3, those of
    :class:`PreActResNet18`; the dropout is that of section 2.4. The depth counts the three
    convolutions of size 1 in shortcuts, of which there are two if ``widen_factor=1``.

    References
    ----------
    .. [1] S. Zagoruyko and N. Komodakis, "Wide Residual Networks", BMVC 2016,
       https://arxiv.org/abs/1605.07146

    Examples
    --------
    >>> import torch
    >>> from benchmarks.networks.cifar_networks import WideResNet
    >>> WideResNet(10, depth=10, widen_factor=1)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        out_features: int,
        depth: int = 28,
        widen_factor: int = 10,
        dropout: float = 0.0,
        in_channels: int = 3,
    ) -> None:
        _check_sizes(out_features=out_features, widen_factor=widen_factor, in_channels=in_channels)
        n_blocks = _count_blocks(depth)
        _check_dropout(dropout)
        channels = [16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        stages = _make_residual_stages(channels, n_blocks=n_blocks, dropout=dropout)
        super().__init__(in_channels, channels[0], stages, channels[-1], out_features)


class DenseNetBC(_StagedNet):
    """Densely connected network with bottlenecks and compression.

    Parameters
    ----------
    out_features : int
        Number of classes.
    depth : int, default=190
        Number of layers with weights outside shortcuts, 6 n + 4 for n pairs of convolutions
        in each of the three stages. Defaults are the network of the mixup paper.
    growth_rate : int, default=40
        Channels that each pair of convolutions adds.
    compression : float, default=0.5
        Share of the channels that is kept between stages, in (0, 1].
    in_channels : int, default=3
        Channels of an image.
    memory_efficient : bool, default=False
        Whether joined and normalised maps are computed again in the backward pass instead
        of kept. Gradients and running statistics are the same.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

    Notes
    -----
    DenseNet-BC of [1]_, section 3: a stem of twice ``growth_rate`` channels; in a stage,
    each pair of convolutions, of size 1 to 4 times ``growth_rate`` channels and of size 3,
    sees all maps before it; between stages a convolution of size 1 and a mean over 2 x 2
    pixels. ``memory_efficient`` changes nothing under ``torch.compile``, which decides by
    itself what to keep.

    References
    ----------
    .. [1] G. Huang, Z. Liu, L. van der Maaten and K. Q. Weinberger, "Densely Connected
       Convolutional Networks", CVPR 2017, https://arxiv.org/abs/1608.06993

    Examples
    --------
    >>> import torch
    >>> from benchmarks.networks.cifar_networks import DenseNetBC
    >>> DenseNetBC(10, depth=10, growth_rate=2)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        out_features: int,
        depth: int = 190,
        growth_rate: int = 40,
        compression: float = 0.5,
        in_channels: int = 3,
        memory_efficient: bool = False,
    ) -> None:
        _check_sizes(out_features=out_features, growth_rate=growth_rate, in_channels=in_channels)
        n_layers = _count_blocks(depth)
        if not 0 < compression <= 1:
            raise ValueError(f"compression must be in (0, 1]; got {compression!r}. Use 1 for none.")
        if not isinstance(memory_efficient, bool):
            raise TypeError(
                f"memory_efficient must be True or False; got {memory_efficient!r}. Use True to save memory."
            )
        stages = nn.Sequential()
        n_channels = 2 * growth_rate
        for stage in range(3):
            block = _DenseBlock(n_channels, growth_rate, n_layers, memory_efficient)
            n_channels += n_layers * growth_rate
            n_kept = max(1, int(compression * n_channels)) if stage < 2 else n_channels
            stages.append(nn.Sequential(block, _Transition(n_channels, n_kept)) if stage < 2 else block)
            n_channels = n_kept
        super().__init__(in_channels, 2 * growth_rate, stages, n_channels, out_features)


class PreActBlock(nn.Module):
    """Two convolutions of size 3, each after a normalisation and a ReLU, and a shortcut.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    stride : int, default=1
        Of the first convolution and of the shortcut.
    dropout : float, default=0.0
        Probability that an input of the second convolution is zeroed in training.
    is_first : bool, default=False
        Whether the block follows the stem: its shortcut then starts after the ReLU.

    Examples
    --------
    >>> import torch
    >>> from benchmarks.networks.cifar_networks import PreActBlock
    >>> PreActBlock(4, 8, stride=2)(torch.zeros(2, 4, 6, 6)).shape
    torch.Size([2, 8, 3, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dropout: float = 0.0,
        is_first: bool = False,
    ) -> None:
        super().__init__()
        changes = in_channels != out_channels or stride != 1
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = _make_conv(in_channels, out_channels, 3, stride)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.conv2 = _make_conv(out_channels, out_channels, 3)
        self.shortcut = _make_conv(in_channels, out_channels, 1, stride) if changes else None
        self.parts_after_relu = changes or is_first

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of shape (n, out_channels, ...) for `x` of shape (n, in_channels, ...)."""
        active = _activate(self.norm1, x)
        carried = active if self.parts_after_relu else x
        if self.shortcut is not None:
            carried = self.shortcut(carried)
        hidden = _activate(self.norm2, self.conv1(active))
        if self.dropout is not None:
            hidden = self.dropout(hidden)
        return self.conv2(hidden) + carried


class _DenseLayer(nn.Module):
    """A convolution of size 1 and one of size 3 on all maps so far."""

    def __init__(self, in_channels: int, growth_rate: int, memory_efficient: bool) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = _make_conv(in_channels, 4 * growth_rate, 1)
        self.norm2 = nn.BatchNorm2d(4 * growth_rate)
        self.conv2 = _make_conv(4 * growth_rate, growth_rate, 3)
        self.memory_efficient = memory_efficient

    def forward(self, *maps: Tensor) -> Tensor:
        """Return new maps of shape (n, growth_rate, height, width)."""
        if self.memory_efficient and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            narrow = checkpoint(
                self.squeeze, *maps, use_reentrant=False, preserve_rng_state=False, context_fn=self.recompute
            )
        else:
            narrow = self.squeeze(*maps)
        return self.conv2(_activate(self.norm2, narrow))

    def squeeze(self, *maps: Tensor) -> Tensor:
        """Return the maps joined and brought to 4 growth_rate channels."""
        return self.conv1(_activate(self.norm1, torch.cat(maps, dim=1)))

    def recompute(self) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        """Return what surrounds the first and the second computation of :meth:`squeeze`."""
        return nullcontext(), _freeze_statistics(self.norm1)


@contextmanager
def _freeze_statistics(norm: nn.BatchNorm2d) -> Iterator[None]:
    """Let the running statistics be: a batch that is computed twice counts once."""
    # Without statistics the second computation would save fewer tensors, which checkpoint refuses.
    momentum, counter = norm.momentum, norm.num_batches_tracked
    norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        norm.momentum, norm.num_batches_tracked = momentum, counter


class _DenseBlock(nn.ModuleList):
    """Layers of which each sees the block's input and what all layers before it added."""

    def __init__(self, in_channels: int, growth_rate: int, n_layers: int, memory_efficient: bool) -> None:
        sizes = [in_channels + layer * growth_rate for layer in range(n_layers)]
        super().__init__(_DenseLayer(size, growth_rate, memory_efficient) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input and all new maps, joined along the channels."""
        maps = [x]
        for layer in self:
            maps.append(layer(*maps))
        return torch.cat(maps, dim=1)


class _Transition(nn.Module):
    """Fewer channels, and half the height and width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = _make_conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of shape (n, out_channels, height // 2, width // 2)."""
        return avg_pool2d(self.conv(_activate(self.norm, x)), 2)


def _activate(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Return the ReLU of the normalised maps."""
    # In place: no gradient needs the normalised maps, and a training step of the CIFAR nets takes
    # 4 to 7 % less on a CPU.
    return relu(norm(x), inplace=True)


def _make_residual_stages(channels: list[int], *, n_blocks: int, dropout: float) -> nn.Sequential:
    """Return a stage for each two neighbours in `channels`; all but the first halve the size."""
    stages = nn.Sequential()
    for number, (n_in, n_out) in enumerate(pairwise(channels)):
        first = PreActBlock(n_in, n_out, 1 if number == 0 else 2, dropout, is_first=number == 0)
        others = [PreActBlock(n_out, n_out, dropout=dropout) for _ in range(n_blocks - 1)]
        stages.append(nn.Sequential(first, *others))
    return stages


def _make_conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without a bias, which a normalisation would remove."""
    return nn.Conv2d(in_channels, out_channels, size, stride=stride, padding=size // 2, bias=False)


def _reset_weights(part: nn.Module) -> None:
    """Draw the weights of a convolution with variance 2 / fan-in; let a linear layer's bias be 0."""
    if isinstance(part, nn.Conv2d):
        nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
    elif isinstance(part, nn.Linear):
        nn.init.zeros_(part.bias)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        _check_whole(name, size, 1, "Give a whole number from 1.")


def _check_whole(name: str, value: int, low: int, hint: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer; got {value!r}. {hint}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}; got {value!r}. {hint}")


def _check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1); got {dropout!r}. Use 0 for none.")


def _count_blocks(depth: int) -> int:
    """Return n for a depth of 6 n + 4."""
    _check_whole("depth", depth, 10, "The smallest net has a depth of 10.")
    if depth % 6 != 4:
        near = 6 * round((depth - 4) / 6) + 4
        raise ValueError(f"depth must be 6 n + 4 for a whole n; got {depth!r}. Use {near}.")
    return (depth - 4) // 6


@dataclass(frozen=True)
class Network:
    """A network as an experiment names it."""

    title: str  # Name in tables and plots
    module: type[nn.Module]  # The class; its defaults are the network of the mixup paper
    n_millions: float  # Millions of parameters for ten classes, to the digits that are printed
    source: str  # Where that number comes from


NETWORKS = {
    "preact_resnet18": Network("PreAct ResNet-18", PreActResNet18, 11.17, "layers of arXiv 1603.05027"),
    "wide_resnet28_10": Network("WideResNet-28-10", WideResNet, 36.5, "arXiv 1605.07146"),
    "densenet_bc190": Network("DenseNet-BC-190", DenseNetBC, 25.6, "arXiv 1608.06993, Table 2"),
}
"""The networks of the mixup paper's Figure 3(a), by the names that options take."""
