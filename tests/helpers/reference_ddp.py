"""Training on joined mini-batches by a plain loop."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

from tests.helpers.ddp_worker import LR, MOMENTUM


def descend(start: dict[str, Tensor], steps: list[Any], n_rows: int | None = None) -> dict[str, Tensor]:
    """Train on joined mini-batches by a plain loop: SGD with momentum, written out."""
    weights = {name: value.clone().requires_grad_() for name, value in start.items()}
    speed = {name: torch.zeros_like(value) for name, value in start.items()}
    for parts in steps:
        losses = torch.cat([score_rows(weights, *part) for part in parts])
        loss = losses.sum() / (n_rows or len(losses))
        grads = torch.autograd.grad(loss, list(weights.values()))
        with torch.no_grad():
            for name, grad in zip(weights, grads, strict=True):
                speed[name] = MOMENTUM * speed[name] + grad
                weights[name] -= LR * speed[name]
    return weights


def score_rows(weights: dict[str, Tensor], x: Tensor, y: Tensor, lam: Tensor) -> Tensor:
    """Return the cross-entropy of each virtual example."""
    hidden = torch.tanh(x @ weights["0.weight"].T + weights["0.bias"])
    logits = hidden @ weights["2.weight"].T + weights["2.bias"]
    target = (lam.unsqueeze(2) * one_hot(y, 3)).sum(dim=0)
    return -(target * log_softmax(logits, dim=1)).sum(dim=1)
