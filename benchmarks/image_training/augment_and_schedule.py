"""How the nets of ``cifar`` are trained: the schedule, test scores."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from skorch.callbacks import Callback
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = [
    "MOMENTUM",
    "HeldOutScores",
    "StepDecay",
    "predict_logits",
    "read_scores",
    "repeatable_convolutions",
]

MOMENTUM = 0.9


class StepDecay(Callback):
    """Multiply the learning rate by `factor` after each milestone, a number of epochs since initialization.

    skorch's ``LRScheduler`` starts anew in every ``partial_fit``.
    """

    def __init__(self, milestones: Sequence[int], factor: float = 0.1) -> None:
        self.milestones = milestones
        self.factor = factor

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Set the learning rate of the epoch that begins, which the history holds already."""
        n_done = len(net.history) - 1
        lr = net.lr * self.factor ** sum(n_done >= milestone for milestone in self.milestones)
        for group in net.optimizer_.param_groups:
            group["lr"] = lr


class HeldOutScores(Callback):
    """Record ``NAME_error`` in [0, 1] and ``NAME_nll`` in nats of each held-out part, at the end of an epoch.

    `parts` are rows and their class codes, by name. They are sent to the device once, and the device is
    waited for once an epoch and part. `epochs` are counted from 1, since initialization; None for all.
    """

    def __init__(
        self,
        parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
        *,
        epochs: Collection[int] | None = None,
    ) -> None:
        self.parts = parts
        self.epochs = epochs
        self.rows_: dict[str, Any] = {}

    def on_epoch_end(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Predict the rows, in batches of ``iterator_valid__batch_size``, and record their scores."""
        if self.epochs is not None and len(net.history) not in self.epochs:
            return
        if not self.rows_:
            self.rows_ = {name: net.get_dataset(X, y) for name, (X, y) in self.parts.items()}
        for name, rows in self.rows_.items():
            logits = predict_logits(net, rows)
            wrong = (logits.argmax(1) != rows.targets).float().mean()
            error, nll = torch.stack([wrong, cross_entropy(logits, rows.targets)]).tolist()
            net.history.record(f"{name}_error", round(error * len(rows)) / len(rows))
            net.history.record(f"{name}_nll", nll)


def read_scores(net: Any, name: str) -> list[float]:
    """Return what was recorded under a name, by epochs."""
    return [epoch[name] for epoch in net.history if name in epoch]


def predict_logits(net: Any, rows: Any) -> Tensor:
    """Return the module's output for each row; the device is not waited for."""
    batches = net.get_iterator(rows, training=False)
    return torch.cat([net.evaluation_step(batch) for batch in batches])


@contextmanager
def repeatable_convolutions() -> Iterator[None]:
    """Let cuDNN choose, inside, only among convolutions that give the same result every time."""
    backend: Any = torch.backends.cudnn  # its flags carry no types
    before, backend.deterministic = backend.deterministic, True
    try:
        yield
    finally:
        backend.deterministic = before
