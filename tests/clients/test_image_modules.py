"""Image models of timm and torchvision with random weights."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from sk_mixup import MixupClassifier
from tests.clients.conftest import Rows

pytestmark = pytest.mark.slow  # their imports take seconds


def make_timm_resnet() -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm.create_model("test_resnet", pretrained=False, num_classes=3, in_chans=1)


def make_timm_vit() -> nn.Module:
    timm = pytest.importorskip("timm")
    options = {"img_size": 8, "patch_size": 4, "num_classes": 3, "in_chans": 1}
    return timm.create_model("test_vit", pretrained=False, **options)


def make_torchvision() -> nn.Module:
    # Its compiled operators may belong to another torch: conftest.py declares what its import asks for.
    models = pytest.importorskip("torchvision.models", exc_type=(ImportError, RuntimeError))
    model = models.shufflenet_v2_x0_5(weights=None, num_classes=3)
    model.conv1[0] = nn.Conv2d(1, 24, 3, 1, 1, bias=False)
    return model


@pytest.mark.parametrize("make", [make_timm_resnet, make_timm_vit, make_torchvision])
def test_probabilities_are_those_of_the_module(
    digits: Rows, classifier: MixupClassifier, make: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(0)
    net = classifier.set_params(module=make(), max_epochs=15, lr=1e-3).fit(*digits.train)
    with torch.no_grad():
        logits = net.module_.eval()(torch.tensor(digits.test[0]))
    expected = torch.softmax(logits, 1)
    np.testing.assert_allclose(net.predict_proba(digits.test[0]), expected, atol=1e-5)
    assert np.mean(net.predict(digits.test[0]) == digits.test[1]) > 0.5  # chance is a third
