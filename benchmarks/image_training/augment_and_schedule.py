"""How the nets of ``cifar`` are trained: crops and flips, the schedule, test errors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from skorch.callbacks import Callback
import torch
from torch import Tensor

__all__ = [
    "MOMENTUM",
    "CropAndFlip",
    "HeldOutErrors",
    "StepDecay",
    "predict_codes",
    "repeatable_convolutions",
]

MOMENTUM = 0.9


class CropAndFlip:
    """Pad each image, cut it to its size again at a random place, and flip every other one.

    `padding` pixels are added on each side, of the value `fill`, one for all channels or one for each.
    To pad raw images with 0 and to normalise them afterwards, torchvision's usual order, is
    to pad normalised images with the normalised value of black: for channels of mean m and
    deviation s, ``fill`` is ``-m / s``.

    All images of a batch are cut and flipped at once, on their device and with draws from
    torch's global generator there; nothing waits for the device.

    Examples
    --------
    >>> import torch
    >>> from benchmarks.image_training.augment_and_schedule import CropAndFlip
    >>> x = torch.arange(2.0).reshape(1, 1, 1, 2)
    >>> flipped = CropAndFlip(padding=0)(x.expand(100, -1, -1, -1))[:, 0, 0, 0]
    >>> 30 < int(flipped.sum()) < 70
    True
    """

    def __init__(self, padding: int = 4, fill: Sequence[float] = (0.0,)) -> None:
        self.padding = padding
        self.fill = torch.tensor(fill).reshape(-1, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        """Return new images of the shape, dtype, device and memory format of `x`."""
        n, _, height, width = x.shape
        self.fill = self.fill.to(x)  # a copy only where device or dtype have changed
        # Cuts begin at -padding, ..., padding.
        top, left = torch.randint(-self.padding, self.padding + 1, (2, n, 1), device=x.device)
        is_flipped = torch.rand(n, 1, device=x.device) < 0.5
        rows, columns = (torch.arange(size, device=x.device).unsqueeze(0) for size in (height, width))
        rows = rows + top
        columns = torch.where(is_flipped, width - 1 - columns, columns) + left
        inside = _lies_in(rows, height).unsqueeze(2) & _lies_in(columns, width).unsqueeze(1)
        place = rows.clamp(0, height - 1).unsqueeze(2) * width + columns.clamp(0, width - 1).unsqueeze(1)
        return torch.where(inside.unsqueeze(1), _take_pixels(x, place), self.fill)


def _lies_in(place: Tensor, size: int) -> Tensor:
    return (place >= 0) & (place < size)


def _take_pixels(x: Tensor, place: Tensor) -> Tensor:
    """Return the pixels of each image at places from 0 to height * width - 1, in the layout of `x`."""
    n, channels, height, width = x.shape
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        start = height * width * torch.arange(n, device=x.device).reshape(n, 1, 1)
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
        taken = pixels.index_select(0, (place + start).reshape(-1))
        return taken.reshape(n, height, width, channels).permute(0, 3, 1, 2)
    index = place.reshape(n, 1, -1).expand(-1, channels, -1)
    return x.reshape(n, channels, -1).gather(2, index).reshape(x.shape)


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
