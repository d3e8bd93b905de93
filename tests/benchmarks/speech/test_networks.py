from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.speech.features import compute_spectrograms
from benchmarks.speech.networks import SPEECH_NETWORKS, SpeechNet, make_lenet, make_vgg11
from sk_mixup import MixupClassifier


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def list_kinds(module: nn.Module, *kinds: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, kinds)]


@pytest.mark.parametrize("n_classes", [12, 30])
def test_lenet_has_the_parameters_of_its_layers(n_classes: int) -> None:
    convolutions = (25 * 1 + 1) * 20 + (25 * 20 + 1) * 20
    height, width = ((size - 4) // 2 for size in (160, 101))
    n_features = 20 * ((height - 4) // 2) * ((width - 4) // 2)
    linear = (n_features + 1) * 1000 + 1001 * n_classes
    assert count_parameters(make_lenet(n_classes)) == convolutions + linear


@pytest.mark.parametrize("width", [1, 3, 64])
def test_vgg11_has_the_parameters_of_its_layers(width: int) -> None:
    channels = [1, *(width * factor for factor in (1, 2, 4, 4, 8, 8, 8, 8))]
    total = 0
    for n_in, n_out in pairwise(channels):
        total += (9 * n_in + 1) * n_out + 2 * n_out  # with batch normalisation
    total += (8 * width * (160 // 32) * (101 // 32) + 1) * 8 * width + (8 * width + 1) * 30
    assert count_parameters(make_vgg11(30, width)) == total


def test_vgg11_has_eleven_layers_less_one_linear() -> None:
    layers = list_kinds(make_vgg11(30, 1), nn.Conv2d, nn.Linear)
    assert [type(layer).__name__ for layer in layers] == ["Conv2d"] * 8 + ["Linear"] * 2
    assert len(list_kinds(make_vgg11(30, 1), nn.MaxPool2d)) == 5


@pytest.mark.parametrize("network", list(SPEECH_NETWORKS))
def test_networks_of_waveforms_are_those_of_their_spectrograms(network: str) -> None:
    torch.manual_seed(0)
    net = SpeechNet(5, network, width=1, level="waveform").eval()
    same = SpeechNet(5, network, width=1).eval()
    same.load_state_dict(
        dict(
            zip(same.state_dict(), net.state_dict().values(), strict=True)
        )  # numbers of layers differ by one
    )
    waves = torch.randn(2, 1, 16_000)
    with torch.no_grad():
        logits = net(waves)
        torch.testing.assert_close(logits, same(compute_spectrograms(waves[:, 0])))
    assert logits.shape == (2, 5)


@pytest.mark.parametrize("network", list(SPEECH_NETWORKS))
def test_every_network_takes_a_step_of_mixup(network: str) -> None:
    x = np.random.default_rng(0).normal(size=(3, 1, 160, 101)).astype(np.float32)
    options = {"network": network, "width": 1, "out_features": 3}
    net = MixupClassifier(SpeechNet, alpha=0.2, max_epochs=1, early_stopping=False, random_state=0)
    net.set_params(**{f"module__{name}": value for name, value in options.items()}).fit(x, [0, 1, 2])
    assert np.isfinite(net.predict_proba(x)).all()
    assert np.isfinite(net.history[-1, "train_loss"])
