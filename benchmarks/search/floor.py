"""The least that training many nets as one takes: a bare loop, beside our stack and a lone fit."""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from benchmarks.harness.fitting import count_batches
from benchmarks.harness.interleaved_timing import interleave
from benchmarks.peers.contenders import HIDDEN, LR
from benchmarks.search.growth import fit_lone, fit_nets

__all__ = ["compute_loss", "make_batches", "make_weights", "time_floor", "train_floor"]

FEW = 10
"""Nets of the smaller stacks, whose weights and moments fit into the cache."""


def make_weights(n_nets: int, n_features: int, n_classes: int) -> list[torch.Tensor]:
    """Return weights (n_nets, in, out) and biases (n_nets, 1, out) of each layer in turn."""
    weights = []
    for n_in, n_out in pairwise((n_features, *HIDDEN, n_classes)):
        for shape in ((n_nets, n_in, n_out), (n_nets, 1, n_out)):
            weights.append(torch.empty(shape).uniform_(-(n_in**-0.5), n_in**-0.5).requires_grad_())
    return weights


def make_batches(
    X: np.ndarray, y: np.ndarray, *, n_nets: int, batch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the batches of an epoch, other rows for every net."""
    shape = (count_batches(len(X), batch_size), n_nets, batch_size)
    rows = torch.randint(len(X), shape, generator=torch.Generator().manual_seed(0))
    return torch.as_tensor(X)[rows], F.one_hot(torch.as_tensor(y)).float()[rows]


def compute_loss(weights: list[torch.Tensor], x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the sum over the nets of the cross-entropy with soft targets."""
    for weight, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        x = torch.baddbmm(bias, x, weight).relu_()
    logits = torch.baddbmm(weights[-1], x, weights[-2])
    total = F.cross_entropy(logits.flatten(0, 1), target.flatten(0, 1), reduction="sum")
    return total / x.shape[1]


def train_floor(weights: list[torch.Tensor], x: torch.Tensor, target: torch.Tensor, n_steps: int) -> None:
    """Train with fused Adam on batches that are there already; nothing is drawn or mixed."""
    optimizer = torch.optim.Adam(weights, lr=LR, fused=True)
    for step in range(n_steps):
        batch = step % len(x)
        optimizer.zero_grad()
        torch.autograd.backward(compute_loss(weights, x[batch], target[batch]))
        optimizer.step()


def time_floor(
    n_rounds: int, X: np.ndarray, y: np.ndarray, *, n_nets: int, batch_size: int, epochs: tuple[int, int]
) -> dict[str, list[float]]:
    """Time steps of our stack, of the bare loop and of a lone fit, in turns.

    Microseconds for each net and step, of "stack", "floor" (all nets as one), "floor-tens" (stacks of ten
    nets, one after another) and "lone".
    """
    short, long = epochs
    n_steps = (long - short) * count_batches(len(X), batch_size)
    x, target = make_batches(X, y, n_nets=n_nets, batch_size=batch_size)

    def train(size: int) -> None:
        for start in range(0, n_nets, size):
            part = slice(start, start + size)
            weights = make_weights(len(range(n_nets)[part]), X.shape[1], target.shape[-1])
            train_floor(weights, x[:, part], target[:, part], n_steps)

    def fit(n_epochs: int) -> None:
        fit_nets(n_nets, X, y, batch_size=batch_size, max_epochs=n_epochs)

    def fit_alone(n_epochs: int) -> None:
        fit_lone(1, X, y, batch_size=batch_size, max_epochs=n_epochs)

    seconds = interleave(
        {
            "stack-short": lambda: fit(short),
            "stack-long": lambda: fit(long),
            "floor": lambda: train(n_nets),
            "floor-tens": lambda: train(FEW),
            "lone-short": lambda: fit_alone(short),
            "lone-long": lambda: fit_alone(long),
        },
        n_rounds,
    )
    more = {
        name: np.subtract(seconds[f"{name}-long"], seconds[f"{name}-short"]) for name in ("stack", "lone")
    }
    floors = {name: np.array(seconds[name]) for name in ("floor", "floor-tens")}
    counts = {"stack": n_nets, "floor": n_nets, "floor-tens": n_nets, "lone": 1}
    all_seconds = more | floors
    return {
        name: [float(1e6 * value / (count * n_steps)) for value in all_seconds[name]]
        for name, count in counts.items()
    }
