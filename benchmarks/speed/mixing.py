"""The mixing operation alone, ours and its peers'."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.data.torchvision_import import import_torchvision
from benchmarks.harness.interleaved_timing import interleave
from sk_mixup.mixing import Mixup, mix_rows, soft_targets

__all__ = ["PEERS", "make_mixers", "time_mixing"]

ALPHA = 0.2
PEERS = ("timm", "torchvision")
Mixer = Callable[[Tensor, Tensor], Any]


def time_mixing(
    n_rounds: int, shape: tuple[int, ...], n_classes: int, n_batches: int
) -> dict[str, list[float]]:
    """Return the times that an epoch of batches takes to be mixed, inputs and labels."""
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(shape, generator=generator), torch.randint(n_classes, shape[:1], generator=generator))
        for _ in range(4)
    ]
    mixers = make_mixers(n_batches * shape[0], shape, n_classes)

    def run(start: Callable[[], Mixer]) -> None:
        mix_batch = start()
        for k in range(n_batches):
            mix_batch(*batches[k % len(batches)])

    def make_contender(start: Callable[[], Mixer]) -> Callable[[], None]:
        return lambda: run(start)

    return interleave({name: make_contender(start) for name, start in mixers.items()}, n_rounds)


def make_mixers(n_samples: int, shape: tuple[int, ...], n_classes: int) -> dict[str, Callable[[], Mixer]]:
    """Return, for each library, what begins an epoch and gives the mixing of one batch."""
    mixers = {
        "sk_mixup": lambda: _start_ours(n_samples, shape[0], n_classes),
        "formula": _start_formula,
    }
    if find_spec("timm"):
        mixers["timm"] = lambda: _start_timm(n_classes)
    if find_spec("torchvision") and len(shape) == 4:  # it takes images only
        mixers["torchvision"] = lambda: _start_torchvision(n_classes)
    return mixers


def _start_ours(n_samples: int, batch_size: int, n_classes: int) -> Mixer:
    """Draw the plan of an epoch; the rows of a batch are at hand, as they are for the peers."""
    policy = Mixup(alpha=ALPHA, lam_per="batch")
    plan = policy(np.random.default_rng(), n_samples, batch_size, shuffle=False)
    assert plan.place is not None, "mixup draws partners"
    assert plan.lam is not None, "and weights"
    first = np.arange(0, n_samples, batch_size).repeat(batch_size)
    index = torch.from_numpy(np.stack([plan.order - first, plan.place[0] - first], axis=1))
    lam = torch.from_numpy(plan.lam.T.astype(np.float32))
    parts = zip(torch.split(index, batch_size), torch.split(lam, batch_size), strict=True)

    def mix_batch(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        rows, weights = next(parts)
        labels = y.index_select(0, rows.view(-1)).view_as(rows)
        return mix_rows(x, rows.t(), weights.t()), soft_targets(labels.t(), weights.t(), n_classes)

    return mix_batch


def _start_formula() -> Mixer:
    """Mix as the paper's section 2 prints it: one weight a batch, a random permutation."""
    generator = np.random.default_rng()

    def mix_batch(x: Tensor, y: Tensor) -> tuple[Any, ...]:
        lam = generator.beta(ALPHA, ALPHA)
        index = torch.randperm(len(x))
        return lam * x + (1 - lam) * x[index], y, y[index], lam

    return mix_batch


def _start_timm(n_classes: int) -> Mixer:
    import_torchvision("transforms.v2")  # timm imports it too
    from timm.data.mixup import Mixup as TimmMixup

    # It writes into the batch that it is given, as it does in its own training script.
    peer: Any = TimmMixup  # it carries no types
    return peer(mixup_alpha=ALPHA, label_smoothing=0.0, num_classes=n_classes)


def _start_torchvision(n_classes: int) -> Mixer:
    peer: Any = import_torchvision("transforms.v2")
    return peer.MixUp(alpha=ALPHA, num_classes=n_classes)
