"""The networks of Table 1, from torchvision's building blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.data.imagenet_files import MEAN, STD, find_torchvision

__all__ = ["BATCH_NORMS", "NETWORKS", "Network", "PixelResNet", "build_network"]

# Names of the scales and shifts of batch normalisations, which are not decayed.
BATCH_NORMS = ("*bn?.*", "*downsample.1.*")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A residual network, and how Table 1 trains it."""

    title: str  # Name in tables
    block: str  # torchvision's block
    layers: Sequence[int]  # Blocks in each of the four stages
    groups: int = 1  # Groups of each 3x3 convolution: ResNeXt's cardinality
    width_per_group: int = 64  # Channels of a group in the first stage
    n_parameters: int  # With 1,000 classes
    alpha: float = 0.2  # Mixup's alpha in Table 1
    epochs: tuple[int, ...] = (90, 200)  # Lengths of training in Table 1


NETWORKS = {
    "resnet18": Network(
        title="ResNet-18", block="BasicBlock", layers=(2, 2, 2, 2), n_parameters=11_689_512, epochs=(90,)
    ),
    "resnet50": Network(title="ResNet-50", block="Bottleneck", layers=(3, 4, 6, 3), n_parameters=25_557_032),
    "resnet101": Network(
        title="ResNet-101", block="Bottleneck", layers=(3, 4, 23, 3), n_parameters=44_549_160
    ),
    "resnext101_32x4d": Network(
        title="ResNeXt-101 32x4d",
        block="Bottleneck",
        layers=(3, 4, 23, 3),
        groups=32,
        width_per_group=4,
        n_parameters=44_177_704,
        alpha=0.4,
    ),
    "resnext101_64x4d": Network(
        title="ResNeXt-101 64x4d",
        block="Bottleneck",
        layers=(3, 4, 23, 3),
        groups=64,
        width_per_group=4,
        n_parameters=83_455_272,
        alpha=0.4,
        epochs=(90,),
    ),
}


def build_network(name: str, out_features: int) -> nn.Module:
    """Return a new network from images (n, 3, height, width) to logits, with torchvision's initial weights.

    No scale of a batch normalisation begins at 0.

    Examples
    --------
    >>> import torch
    >>> from benchmarks.networks.imagenet_networks import build_network
    >>> with torch.device("meta"):
    ...     net = build_network("resnet50", out_features=1000)
    >>> sum(parameter.numel() for parameter in net.parameters())
    25557032
    """
    resnet: Any = find_torchvision("models.resnet")
    network = NETWORKS[name]
    module: nn.Module = resnet.ResNet(
        getattr(resnet, network.block),
        list(network.layers),
        num_classes=out_features,
        groups=network.groups,
        width_per_group=network.width_per_group,
    )
    return module


class PixelResNet(nn.Module):
    """A network that normalises its images itself: what the estimator trains.

    Images are mixed before they are normalised, which gives the same virtual examples as mixing
    after it: normalisation is affine, and the weights of a mixture sum to 1.

    Examples
    --------
    >>> import torch
    >>> from benchmarks.networks.imagenet_networks import PixelResNet
    >>> pixels = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    >>> PixelResNet("resnet18", out_features=3)(pixels).shape
    torch.Size([2, 3])
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, name: str, out_features: int, channels_last: bool = False) -> None:
        super().__init__()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.net = build_network(name, out_features).to(memory_format=self.layout)  # type: ignore[call-overload]
        self.register_buffer("mean", 255 * torch.tensor(MEAN), persistent=False)
        self.register_buffer("factor", 1 / (255 * torch.tensor(STD)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits for bytes or floats from 0 to 255 of shape (n, height, width, 3)."""
        images = ((x - self.mean) * self.factor).permute(0, 3, 1, 2)
        logits: Tensor = self.net(images.contiguous(memory_format=self.layout))
        return logits
