"""How the nets of ``cifar`` are trained: the schedule, test errors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from skorch.callbacks import Callback
import torch
from torch import Tensor

__all__ = [
    "MOMENTUM",
    "HeldOutErrors",
    "StepDecay",
    "predict_codes",
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


class HeldOutErrors(Callback):
    """Record the error on each held-out part at the end of each epoch, as ``NAME_error`` in [0, 1].

    `parts` are rows and their class codes, by name. They are sent to the device once, and the device is
    waited for once an epoch and part.
    """

    def __init__(self, parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self.parts = parts
        self.rows_: dict[str, Any] = {}

    def on_epoch_end(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Predict the rows, in batches of ``iterator_valid__batch_size``, and count the errors."""
        if not self.rows_:
            self.rows_ = {name: net.get_dataset(X, y) for name, (X, y) in self.parts.items()}
        for name, rows in self.rows_.items():
            n_wrong = (predict_codes(net, rows) != rows.targets).sum()
            net.history.record(f"{name}_error", int(n_wrong) / len(rows))


def predict_codes(net: Any, rows: Any) -> Tensor:
    """Return the most probable class of each row, as a code; the device is not waited for."""
    batches = net.get_iterator(rows, training=False)
    return torch.cat([net.evaluation_step(batch).argmax(1) for batch in batches])


@contextmanager
def repeatable_convolutions() -> Iterator[None]:
    """Let cuDNN choose, inside, only among convolutions that give the same result every time."""
    backend: Any = torch.backends.cudnn  # its flags carry no types
    before, backend.deterministic = backend.deterministic, True
    try:
        yield
    finally:
        backend.deterministic = before
