"""The batches of an epoch's plan, loaded row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader

from sk_mixup._data.batches import SentPlan, is_pair
from sk_mixup._tensors import send
from sk_mixup.mixing.plan import Plan

__all__ = ["PlannedLoader"]


class PlannedLoader:
    """The batches of one epoch, loaded row by row from a map-style data set.

    Parameters
    ----------
    loader : torch.utils.data.DataLoader
        Joins pairs (x, y) to batches; its ``batch_sampler`` is a list, which takes the rows of this epoch.
    plan : Plan
        What the epoch does.
    device : torch.device
        Where the batches go.
    dtype : torch.dtype
        Floating dtype of the mixing weights.
    read : callable, default=None
        Makes of what is loaded the examples and targets that the net is trained on.
    """

    def __init__(
        self,
        loader: DataLoader[object],
        plan: Plan,
        device: torch.device,
        dtype: torch.dtype,
        read: Callable[[object], object] | None = None,
    ) -> None:
        self.sent = SentPlan(plan, device, dtype)
        self.read = read
        self.loader = loader

    def __len__(self) -> int:
        return len(self.sent.plan)

    def __iter__(self) -> Iterator[Any]:
        device, order = self.sent.device, self.sent.plan.order
        rows: Any = self.loader.batch_sampler
        rows[:] = [self.sent.list_rows(order, k, k + 1).tolist() for k in range(len(self))]
        batches = self.loader if self.read is None else map(self.read, self.loader)
        for number, loaded in enumerate(batches):
            if self.sent.plan.is_plain and not is_pair(loaded):  # for a step of the user's own
                yield loaded
                continue
            x, y = loaded
            x = _send_known(x, device)
            yield self.sent.make_batch(x, send(y, device), None, number, number + 1)


def _send_known(x: object, device: torch.device) -> Any:
    """Send tensors and arrays, however deep they lie; what else a loader yields is for the user's `infer`."""
    if isinstance(x, Mapping):
        return {name: _send_known(part, device) for name, part in x.items()}
    if isinstance(x, list | tuple) and not isinstance(x, PackedSequence):
        return [_send_known(part, device) for part in x]
    return send(x, device) if isinstance(x, Tensor | np.ndarray | np.generic) else x
