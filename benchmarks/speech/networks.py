"""The networks of the paper's experiment with speech: section 3.3, Figure 4."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from benchmarks.speech.features import Spectrogram

__all__ = ["SPEECH_NETWORKS", "SpeechNet", "SpeechNetwork", "make_lenet", "make_vgg11"]


def make_lenet(out_features: int, width: int = 64) -> nn.Sequential:
    """Return LeNet for spectrograms of shape (n, 1, 160, 101).

    Two convolutions of size 5 with 20 channels, each with pooling and ReLU, then two linear layers
    with 1,000 values between: "two convolutional and two fully-connected layers" (section 3.3).

    The paper does not give the sizes. These are those of the usual LeNet for these clips in PyTorch,
    with its dropout: half of the channels after the second convolution, half of the 1,000 values.

    Examples
    --------
    >>> from benchmarks.speech.networks import make_lenet
    >>> sum(parameter.numel() for parameter in make_lenet(30).parameters())
    16321570
    """
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(20, 20, 5), nn.Dropout2d(0.5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(20 * 37 * 22, 1000), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(1000, out_features),
    )


def make_vgg11(out_features: int, width: int = 64) -> nn.Sequential:
    """Return VGG-11 for spectrograms of shape (n, 1, 160, 101).

    Eight convolutions of size 3, each with batch normalisation and ReLU, five of them followed by
    pooling; then two linear layers.

    Configuration A of [1]_ with batch normalisation. The mixup paper says of both its networks that
    they have "two convolutional and two fully-connected layers", which can only be meant of LeNet.
    Two linear layers, of 512 values with nothing between them, are those of the usual VGG-11 for
    these clips in PyTorch; the one for photographs has three.

    References
    ----------
    .. [1] K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
       Recognition", ICLR 2015, https://arxiv.org/abs/1409.1556

    Examples
    --------
    >>> from benchmarks.speech.networks import make_vgg11
    >>> sum(parameter.numel() for parameter in make_vgg11(30).parameters())
    13172894
    """
    layers: list[nn.Module] = []
    channels = 1
    for factors in ((1,), (2,), (4, 4), (8, 8), (8, 8)):
        for factor in factors:
            n_out = factor * width
            layers += [nn.Conv2d(channels, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]
            channels = n_out
        layers.append(nn.MaxPool2d(2))
    linear = [nn.Linear(channels * 5 * 3, 8 * width), nn.Linear(8 * width, out_features)]
    return nn.Sequential(*layers, nn.Flatten(), *linear)


@dataclass(frozen=True)
class SpeechNetwork:
    """A network that can be trained."""

    title: str  # Name in tables
    make: Callable[[int, int], nn.Sequential]  # Returns the network for a number of classes and a width


SPEECH_NETWORKS: Mapping[str, SpeechNetwork] = {
    "lenet": SpeechNetwork("LeNet", make_lenet),
    "vgg11": SpeechNetwork("VGG-11", make_vgg11),
}


class SpeechNet(nn.Module):
    """A network for spectrograms, or for waveforms with the spectrogram as its first layer.

    ``MixupClassifier`` mixes what the module is given, and calls `augment` before: to mix
    waveforms, the step from them to spectrograms must stand in the module.

    Examples
    --------
    >>> import torch
    >>> from benchmarks.speech.networks import SpeechNet
    >>> SpeechNet(12, network="vgg11", width=1, level="waveform")(torch.randn(2, 1, 16_000)).shape
    torch.Size([2, 12])
    """

    def __init__(
        self, out_features: int, network: str = "lenet", width: int = 64, level: str = "spectrogram"
    ) -> None:
        super().__init__()
        first: list[nn.Module] = [Spectrogram()] if level == "waveform" else []
        self.layers = nn.Sequential(*first, *SPEECH_NETWORKS[network].make(out_features, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (n, out_features)."""
        return self.layers(x)
