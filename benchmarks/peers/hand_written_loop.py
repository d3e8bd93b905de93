"""Training loops as a PyTorch user writes them, and the times of estimators beside theirs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from benchmarks.harness.interleaved_timing import interleave, list_times
from sk_mixup import MixupClassifier

__all__ = ["lay_out", "make_loop", "make_random_inputs", "make_step", "time_trainings"]

Step = Callable[[Tensor, Tensor], Tensor]


def make_random_inputs(n_rows: int, shape: Sequence[int], n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return normal inputs (float32) and labels: times do not depend on the values."""
    X = np.random.default_rng(0).standard_normal((n_rows, *shape), dtype=np.float32)
    return X, np.arange(n_rows) % n_classes


def time_trainings(
    nets: Mapping[str, MixupClassifier],
    make_contender: Callable[[float], Callable[[], Any]],
    data: Sequence[Any],
    *,
    n_rounds: int,
    n_epochs: int,
) -> Iterator[dict[str, Any]]:
    """Return times of estimators and of loops written by hand, all in turns.

    Contender ("estimator, ..." or "loop, ..."), round and microseconds per row.
    """
    contenders: dict[str, Callable[[], Any]] = {}
    for method, net in nets.items():
        net.set_params(max_epochs=n_epochs)
        contenders[f"estimator, {method}"] = partial(net.partial_fit, *data)
        contenders[f"loop, {method}"] = make_contender(net.alpha)
    device = next(iter(nets.values())).device
    seconds = interleave(contenders, n_rounds, device=device)
    return list_times(seconds, scale=1e6 / (len(data[0]) * n_epochs), digits=3)


def lay_out(module: nn.Module, device: str, *, channels_last: bool) -> torch.memory_format:
    """Move a network to a device, to be trained there, and return the layout of its images."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model: Any = module.to(device).train()
    model.to(memory_format=layout)
    return layout


def make_step(
    module: nn.Module, optimizer: torch.optim.Optimizer, *, alpha: float, device: str, bfloat16: bool
) -> Step:
    """Return a training step with the paper's own mixup: one λ and one permutation for each batch.

    Takes a batch and returns its loss, which is not waited for.
    """
    generator = np.random.default_rng(0)

    def autocast() -> AbstractContextManager[Any]:
        kind = torch.device(device).type
        return torch.autocast(kind, dtype=torch.bfloat16) if bfloat16 else nullcontext()

    def step(x: Tensor, target: Tensor) -> Tensor:
        partner, lam = target, 1.0
        if alpha:
            index, lam = torch.randperm(len(x), device=device), generator.beta(alpha, alpha)
            x, partner = torch.lerp(x[index], x, lam), target[index]
        optimizer.zero_grad()
        with autocast():
            logits = module(x)
            loss = F.cross_entropy(logits, target)
            if alpha:
                loss = lam * loss + (1 - lam) * F.cross_entropy(logits, partner)
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    return step


def make_loop(
    X: np.ndarray,
    y: np.ndarray,
    *,
    module: nn.Module,
    make_optimizer: Callable[..., torch.optim.Optimizer],
    alpha: float,
    batch_size: int,
    n_epochs: int,
    augment: Callable[[Tensor], Tensor] | None = None,
    device: str = "cpu",
    bfloat16: bool = False,
    channels_last: bool = False,
    compile: bool = False,
) -> Callable[[], list[float]]:
    """Return a loop as a PyTorch user writes it who keeps the data on the device.

    It trains `module`, which is moved to the device, for `n_epochs` epochs more in each call, and returns
    their mean losses. `alpha` is of λ's Beta distribution, one λ for each batch; 0 is plain training.
    `augment` is called with the inputs of each batch.
    """
    layout = lay_out(module, device, channels_last=channels_last)
    inputs, labels = torch.as_tensor(X, device=device), torch.as_tensor(y, device=device)
    layout = layout if inputs.ndim == 4 else torch.contiguous_format
    inputs = inputs.contiguous(memory_format=layout)
    optimizer = make_optimizer(module.parameters())
    model: Any = torch.compile(module, dynamic=False) if compile else module
    step = make_step(model, optimizer, alpha=alpha, device=device, bfloat16=bfloat16)

    def load(rows: Tensor) -> tuple[Tensor, Tensor]:
        x = inputs[rows].contiguous(memory_format=layout)
        return (x if augment is None else augment(x)), labels[rows]

    def train() -> list[float]:
        means = []
        for _ in range(n_epochs):
            parts = torch.split(torch.randperm(len(inputs), device=device), batch_size)
            means.append(torch.stack([step(*load(rows)) for rows in parts]).mean().item())
        return means

    return train
