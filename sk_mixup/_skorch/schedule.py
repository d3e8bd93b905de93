"""Plain epochs, mixed epochs, plain epochs; and the losses of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from skorch.history import History
import torch
from torch import Tensor

__all__ = ["EpochLosses", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """How many epochs of a training are plain before mixing, mixed, and plain after it.

    Parameters
    ----------
    warmup, mixed, cooldown : int
        Numbers of epochs, at least 0.
    """

    warmup: int
    mixed: int
    cooldown: int

    @classmethod
    def make(
        cls,
        n_epochs: int,
        *,
        n_done: int,
        warmup_epochs: int,
        cooldown_epochs: int,
        n_planned: int | None = None,
    ) -> Self:
        """Return the schedule of `n_epochs` more epochs; warm-up counts from initialization.

        Cool-down is the last of them, or of `n_planned` in all, and whatever comes after these.

        Examples
        --------
        >>> from sk_mixup._skorch.schedule import Schedule
        >>> Schedule.make(10, n_done=0, warmup_epochs=3, cooldown_epochs=2)
        Schedule(warmup=3, mixed=5, cooldown=2)
        >>> Schedule.make(10, n_done=2, warmup_epochs=3, cooldown_epochs=20)
        Schedule(warmup=1, mixed=0, cooldown=9)
        >>> Schedule.make(2, n_done=6, warmup_epochs=3, cooldown_epochs=3, n_planned=10)
        Schedule(warmup=0, mixed=1, cooldown=1)
        """
        n_late = 0 if n_planned is None else n_done + n_epochs - n_planned
        n_plain = max(cooldown_epochs + n_late, 0) if cooldown_epochs else 0
        warmup = min(max(warmup_epochs - n_done, 0), n_epochs)
        cooldown = min(n_plain, n_epochs - warmup)
        return cls(warmup, n_epochs - warmup - cooldown, cooldown)


class EpochLosses:
    """Losses of the batches of an epoch: kept on the device, and written to the history.

    Parameters
    ----------
    history : skorch.history.History
        Its last epoch is the one that is run.
    prefix : {'train', 'valid'}
        Beginning of the names in the history.
    unit : float, default=1.0
        What losses are multiplied by there.
    """

    def __init__(self, history: History, prefix: str, unit: float = 1.0) -> None:
        self.unit = unit
        self.rows: list[dict[str, float | int]] = history[-1]["batches"]
        self.names = f"{prefix}_loss", f"{prefix}_batch_size", f"{prefix}_batch_weight"
        self.n_before = len(self.rows)
        self.values: list[Tensor] = []
        self.shares: list[Tensor | None] = []
        self.sizes: list[int] = []

    def add(self, losses: Tensor, sizes: list[int], shares: Tensor | None) -> None:
        """Add the losses of some batches of so many rows each.

        Parameters
        ----------
        losses : Tensor of shape (n_batches,), or () for one
            The losses.
        sizes : list of int
            Numbers of rows.
        shares : Tensor of the shape of losses, or None
            What each counts in the mean of the epoch: what the sum over its rows was divided by.
            None where that is the number of rows.
        """
        self.values.append(losses.reshape(-1))
        self.shares.append(shares)
        self.sizes.extend(sizes)

    def record_last(self, loss: Tensor, size: int, share: Tensor | None) -> None:
        """Wait for the loss of a batch, and fill the last row of the history."""
        self.sizes.append(size)
        self._fill(self.rows[-1:], [loss.item()], [size], [size if share is None else share.item()])

    def record_all(self) -> None:
        """Wait for the losses that were added, and fill their rows of the history.

        A batch that was gone through step by step has a row already.
        """
        losses = torch.cat(self.values).tolist() if self.values else []
        shares: list[float] = []
        for part, share in zip(self.values, self.shares, strict=True):
            sizes = self.sizes[len(shares) : len(shares) + len(part)]
            shares.extend(sizes if share is None else share.reshape(-1).tolist())
        missing = self.n_before + len(losses) - len(self.rows)
        self.rows.extend({} for _ in range(missing))
        self._fill(self.rows[self.n_before :], losses, self.sizes, shares)

    def _fill(
        self,
        rows: Sequence[dict[str, float | int]],
        losses: Sequence[float],
        sizes: Sequence[int],
        shares: Sequence[float],
    ) -> None:
        """Write to rows of the history; what a batch counts only where that is not its size."""
        loss_name, size_name, share_name = self.names
        for row, loss, size, share in zip(rows, losses, sizes, shares, strict=False):
            row[loss_name], row[size_name] = loss * self.unit, size
            if share != size:
                row[share_name] = share
