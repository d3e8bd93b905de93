"""How the nets of ``imagenet`` are trained: the schedule, validation errors, checkpoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from skorch.callbacks import Callback
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.harness.checkpoints import load_checkpoint, save_checkpoint
from benchmarks.harness.several_processes import Team
from sk_mixup import MixupClassifier

__all__ = ["HeldOutErrors", "NumberEpochs", "WarmupAndDecay", "count_errors", "read_curves", "train_together"]

TOP = 5
TEST_BATCH = 256


class NumberEpochs(Callback):
    """Tell the training images which epoch begins, counted from initialization."""

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Set the number, which the history counts already."""
        dataset_train.epoch = len(net.history) - 1


class WarmupAndDecay(Callback):
    """Let the learning rate grow in equal steps through the first epochs, and fall tenfold at the milestones.

    The schedule of Goyal et al. (2017), which section 3.1 follows. It counts epochs over calls of
    ``partial_fit``.

    Examples
    --------
    >>> from benchmarks.imagenet.training import WarmupAndDecay
    >>> schedule = WarmupAndDecay(0.1, warmup=2, milestones=[3], n_batches=2)
    >>> [round(schedule.compute_rate(0.5, step), 3) for step in range(8)]
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.05, 0.05]
    """

    def __init__(self, start: float, *, warmup: int, milestones: Sequence[int], n_batches: int) -> None:
        self.start = start
        self.warmup = warmup
        self.milestones = milestones
        self.n_batches = n_batches
        self.step_ = 0
        self.handle_: Any = None

    def compute_rate(self, lr: float, step: int) -> float:
        """Return the learning rate of a step, counted from 0, that reaches `lr`."""
        n_warmup = self.warmup * self.n_batches
        if step < n_warmup:
            return self.start + (lr - self.start) * step / n_warmup
        n_done = step // self.n_batches
        return lr * 0.1 ** sum(n_done >= milestone for milestone in self.milestones)

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Have the optimizer set its rate before each step: a callback for each batch would read its loss."""

        def set_rate(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            rate = self.compute_rate(net.lr, self.step_)
            for group in optimizer.param_groups:
                group["lr"] = rate
            self.step_ += 1

        optimizer = getattr(net.optimizer_, "optimizer", net.optimizer_)  # accelerate puts another round it
        self.handle_ = optimizer.register_step_pre_hook(set_rate)

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Count from the epoch that begins, which the history holds already."""
        self.step_ = (len(net.history) - 1) * self.n_batches

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Take the hook away: the next training has its own."""
        self.handle_.remove()


class HeldOutErrors(Callback):
    """Record top-1 and top-5 error on validation images at the end of each epoch.

    They are ``top1_error`` and ``top5_error`` in the history, in [0, 1]. Each process tests its
    share of the images, which are pairs of pixels and a class code.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        team: Team,
        *,
        bfloat16: bool,
        n_workers: int = 0,
    ) -> None:
        self.dataset = dataset
        self.team = team
        self.bfloat16 = bfloat16
        self.n_workers = n_workers

    def on_epoch_end(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Count the errors of all processes."""
        n_images = len(self.dataset)  # type: ignore[arg-type]  # Dataset promises no length
        share = Subset(self.dataset, range(self.team.rank, n_images, self.team.size))
        # A generator of its own keeps the loader from drawing on torch's global one.
        generator = torch.Generator()
        loader: Any = DataLoader(share, TEST_BATCH, num_workers=self.n_workers, generator=generator)
        module = net.module_.eval()
        device = next(module.parameters()).device
        totals = torch.zeros(2, dtype=torch.int64, device=device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            for x, y in loader:
                logits = module(x.to(device, non_blocking=True))
                totals += count_errors(logits, y.to(device))
        top1, top5 = (self.team.add(totals) / n_images).tolist()
        net.history.record("top1_error", top1)
        net.history.record("top5_error", top5)


def count_errors(logits: Tensor, y: Tensor) -> Tensor:
    """Return for how many rows the class is not the first, and not among the first five.

    Examples
    --------
    >>> import torch
    >>> from benchmarks.imagenet.training import count_errors
    >>> count_errors(-torch.arange(6.0).expand(3, 6), torch.tensor([0, 4, 5]))
    tensor([2, 1])
    """
    first = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
    hits = first == y.unsqueeze(1)
    return torch.stack([(~hits[:, 0]).sum(), (~hits.any(dim=1)).sum()])


def train_together(
    net: MixupClassifier,
    dataset: Dataset[Any],
    team: Team,
    *,
    n_epochs: int,
    every: int,
    path: Path,
    identity: str,
) -> None:
    """Train a net in all processes, from its checkpoint on if there is one, and write one after each piece.

    As :func:`benchmarks.harness.checkpoints.train_in_pieces`, whose files it shares. One checkpoint is
    enough for all processes: weights and optimizer are the same in all of them, and each derives
    its own stream from a generator that is in the same state in all.
    """
    net.initialize()
    if team.broadcast(path.exists()):
        load_checkpoint(net, path, identity)
    while (n_done := len(net.history)) < n_epochs:
        net.set_params(max_epochs=min(every, n_epochs - n_done))
        net.partial_fit(dataset)
        if team.is_main:
            save_checkpoint(net, path, identity)
        team.wait()


def read_curves(net: MixupClassifier) -> dict[str, np.ndarray]:
    """Return errors in per cent, losses and seconds of all epochs."""
    return {
        "top1": 100 * np.array(net.history[:, "top1_error"]),
        "top5": 100 * np.array(net.history[:, "top5_error"]),
        "loss": np.array(net.history[:, "train_loss"]),
        "seconds": np.array(net.history[:, "dur"]),
    }
