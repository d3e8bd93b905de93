"""What a step of a single net asks of its device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sk_mixup import MixupClassifier
from sk_mixup._training.perceptron import PerceptronTrainer
from tests.helpers.architectures import draw_batches, find_trainer
from tests.helpers.fake_cuda import Waiting

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]
VIEWS = {"aten.t.default", "aten.split_with_sizes.default", "aten.detach.default"}


def count_operations(n_rows: int) -> int:
    """Return how many operations an epoch of the default net takes; views are none."""
    X, y = np.zeros((n_rows, 8), np.float32), np.arange(n_rows) % 3
    net = MixupClassifier(early_stopping=False, max_epochs=1, batch_size=8).fit(X, y)
    batches = draw_batches(net, X, y)
    trainer = find_trainer(net, batches)
    assert isinstance(trainer, PerceptronTrainer)
    with Waiting() as watched:
        assert trainer.run_epoch(batches, lambda *_: None)
    return sum(name not in VIEWS for name in watched.seen)


def test_step_of_the_default_net_takes_few_operations() -> None:
    # Three layers, two for the loss, back by two for each layer and two for each ReLU, two to descend.
    assert (count_operations(80) - count_operations(40)) / 5 == 3 + 2 + 3 * 2 + 2 * 2 + 2


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("value", [1.0, float("nan"), float("inf"), -float("inf")])
def test_hidden_layer_by_one_kernel_is_the_layer_and_its_relu(device: str, value: float) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(8, 16).to(device), torch.randn(32, 8, device=device)
    x[::3, 2] = value
    with torch.no_grad():
        options: dict[str, Any] = {"rtol": 0, "atol": 0} if device == "cpu" else {}
        fused = torch._addmm_activation(layer.bias, x, layer.weight.t())
        torch.testing.assert_close(fused, layer(x).relu(), equal_nan=True, **options)
