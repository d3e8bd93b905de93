"""The networks of the paper's experiments with CIFAR: section 3.2, Figure 3, Tables 2 and 5."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

__all__ = ["NETWORKS", "DenseNetBC", "Network", "PreActBlock", "PreActResNet18", "WideResNet"]


class _StagedNet(nn.Module):
    """Stem, stages, and a linear layer on the mean over all places; what the networks share."""

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

    The first stage has ``width`` channels, the others 2, 4 and 8 times as many. ``dropout`` is that between
    the two convolutions of each block (the mixup paper's section 3.4).

    Notes
    -----
    Figure 4(e) of [1]_ in the form for small images: a stem of stride 1 and no pooling, then
    stages of two blocks each with strides 1, 2, 2, 2. A shortcut is the identity where the
    shapes agree, else a convolution of size 1 on the block's activated input. The first
    block's activation stands before its two paths part, as in the appendix of [1]_. Weights
    start as in [2]_, eq. 10.

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
        channels = [width, width, 2 * width, 4 * width, 8 * width]
        stages = _make_residual_stages(channels, n_blocks=2, dropout=dropout)
        super().__init__(in_channels, width, stages, channels[-1], out_features)


class WideResNet(_StagedNet):
    """Residual network with fewer layers and more channels.

    There are ``depth = 6 n + 4`` convolutions, for n blocks in each of the three stages of 16, 32 and 64
    times ``widen_factor`` channels. The defaults are WRN-28-10, the network of the mixup paper.

    Notes
    -----
    Table 1 of [1]_ with blocks of two convolutions of size 3, those of
    :class:`PreActResNet18`; the dropout is that of section 2.4. The depth counts the three
    convolutions of size 1 in shortcuts, of which there are two if ``widen_factor=1``.

    References
    ----------
    .. [1] S. Zagoruyko and N. Komodakis, "Wide Residual Networks", BMVC 2016,
       https://arxiv.org/abs/1605.07146
    """

    def __init__(
        self,
        out_features: int,
        depth: int = 28,
        widen_factor: int = 10,
        dropout: float = 0.0,
        in_channels: int = 3,
    ) -> None:
        channels = [16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        stages = _make_residual_stages(channels, n_blocks=(depth - 4) // 6, dropout=dropout)
        super().__init__(in_channels, channels[0], stages, channels[-1], out_features)


class DenseNetBC(_StagedNet):
    """Densely connected network with bottlenecks and compression.

    There are ``depth = 6 n + 4`` layers with weights, for n pairs of convolutions in each of three stages;
    each pair adds ``growth_rate`` channels. The defaults are the network of the mixup paper.

    Notes
    -----
    DenseNet-BC of [1]_, section 3: a stem of twice ``growth_rate`` channels; in a stage,
    each pair of convolutions, of size 1 to 4 times ``growth_rate`` channels and of size 3,
    sees all maps before it; between stages a convolution of size 1, which keeps half of the
    channels, and a mean over 2 x 2 pixels.

    References
    ----------
    .. [1] G. Huang, Z. Liu, L. van der Maaten and K. Q. Weinberger, "Densely Connected
       Convolutional Networks", CVPR 2017, https://arxiv.org/abs/1608.06993
    """

    def __init__(
        self, out_features: int, depth: int = 190, growth_rate: int = 40, in_channels: int = 3
    ) -> None:
        n_layers = (depth - 4) // 6
        stages = nn.Sequential()
        n_channels = 2 * growth_rate
        for stage in range(3):
            block = _DenseBlock(n_channels, growth_rate, n_layers)
            n_channels += n_layers * growth_rate
            n_kept = max(1, n_channels // 2) if stage < 2 else n_channels
            stages.append(nn.Sequential(block, _Transition(n_channels, n_kept)) if stage < 2 else block)
            n_channels = n_kept
        super().__init__(in_channels, 2 * growth_rate, stages, n_channels, out_features)


class PreActBlock(nn.Module):
    """Two convolutions of size 3, each after a normalisation and a ReLU, and a shortcut.

    The first convolution and the shortcut have the stride. The block that follows the stem is the first: its
    shortcut starts after the ReLU.
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

    def __init__(self, in_channels: int, growth_rate: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = _make_conv(in_channels, 4 * growth_rate, 1)
        self.norm2 = nn.BatchNorm2d(4 * growth_rate)
        self.conv2 = _make_conv(4 * growth_rate, growth_rate, 3)

    def forward(self, *maps: Tensor) -> Tensor:
        """Return new maps of shape (n, growth_rate, height, width)."""
        narrow = self.conv1(_activate(self.norm1, torch.cat(maps, dim=1)))
        return self.conv2(_activate(self.norm2, narrow))


class _DenseBlock(nn.ModuleList):
    """Layers of which each sees the block's input and what all layers before it added."""

    def __init__(self, in_channels: int, growth_rate: int, n_layers: int) -> None:
        sizes = [in_channels + layer * growth_rate for layer in range(n_layers)]
        super().__init__(_DenseLayer(size, growth_rate) for size in sizes)

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
