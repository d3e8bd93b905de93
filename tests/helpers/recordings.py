"""Nets and steps that are recorded as CUDA graphs, on the CPU or where they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from sk_mixup._training.cuda_graph import GraphedStep
from tests.helpers.architectures import PROBLEMS, QUICK, draw_batches, find_trainer, fit, make_rows


class Scaled(nn.Module):
    """A module with an attribute, a buffer and a weight that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)
        self.scale = 1.0
        self.register_buffer("shift", torch.zeros(4))
        self.held = torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x) * self.scale + self.shift) * self.held)


def run_epoch(net: Any, *, cuda_graph: bool) -> None:
    architecture = "mlp"
    batches = draw_batches(net, make_rows(architecture), PROBLEMS["classes"].y)
    trainer = find_trainer(net, batches)
    assert trainer is not None
    trainer.cuda_graph = cuda_graph
    assert trainer.run_epoch(batches, lambda *_: None)


def make(module: Any = None, **options: Any) -> Any:
    """Return a net that has not been trained."""
    options = {"max_epochs": 0, "batch_size": 8} | options
    if module is None:
        return fit("mlp", **options)
    net = MixupClassifier(module, **QUICK | options)
    return net.fit(make_rows("mlp"), PROBLEMS["classes"].y)


def make_step(device: str = "cpu") -> tuple[GraphedStep, Tensor]:
    """Return a step of a net on a device, and a batch."""
    p = nn.Parameter(torch.zeros(2, device=device))
    p.grad = torch.ones_like(p)
    optimizer = torch.optim.SGD([p], lr=0.1)

    def step(x: Tensor, kept: Tensor) -> bool:
        optimizer.step()
        kept.copy_(x)
        return True

    return GraphedStep(step, optimizer), torch.zeros(3, device=device)


def repeat(step: GraphedStep, x: Tensor, n: int = GraphedStep.n_warmup + 2) -> None:
    for _ in range(n):
        step((x, torch.empty_like(x)))
