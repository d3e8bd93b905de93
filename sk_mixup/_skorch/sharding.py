"""Sharding of rows and averaging of metrics in distributed training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from sk_mixup.mixing.plan import Index

__all__ = ["AnnouncedBatches", "average_rows", "check_alike", "shard_order"]


def shard_order(order: Index, rank: int, n_processes: int, *, drop_last: bool = False) -> tuple[Index, int]:
    """Return the order of an epoch as one process sees it: its own share, then all other rows.

    Parameters
    ----------
    order : ndarray of shape (n_samples,)
        The order that all processes have drawn.
    rank : int
        Number of the process.
    n_processes : int
        How many there are.
    drop_last : bool, default=False
        Whether shares are cut to one size, rather than padded from the start of the order.

    Returns
    -------
    sharded : ndarray of shape (n_sharded,)
        All rows. Those that pad a share occur again.
    n_own : int
        How many rows at the beginning are the process's own.

    Raises
    ------
    ValueError
        If there are fewer rows than processes.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup._skorch.sharding import shard_order
    >>> shard_order(np.array([3, 1, 4, 0, 2]), 1, 2)
    (array([1, 0, 3, 3, 4, 2]), 3)
    >>> shard_order(np.array([3, 1, 4, 0, 2]), 1, 2, drop_last=True)
    (array([1, 0, 3, 4, 2]), 2)
    """
    n_samples = len(order)
    if n_samples < n_processes:
        raise ValueError(
            f"X must hold a row for each of {n_processes} processes; got {n_samples}. Start fewer."
        )
    size = n_samples // n_processes if drop_last else -(-n_samples // n_processes)
    table = np.resize(order, (size, n_processes))
    rest = table[:, np.arange(n_processes) != rank].ravel()
    return np.concatenate([table[:, rank], rest, order[table.size :]]), size


def average_rows(rows: list[dict[str, Any]], size: str, device: torch.device, *, joined: bool) -> None:
    """Put into rows of the history their averages over the processes.

    Parameters
    ----------
    rows : list of dict
        A row for each mini-batch; as many in each process. Its numbers are changed.
    size : str
        Name of the number of examples. By it, or by their weights where they have any, the
        others are weighted.
    device : torch.device
        Where the processes exchange tensors.
    joined : bool
        Whether the processes had different examples, whose number is then the sum.
    """
    if not rows:
        return
    weight = size.replace("size", "weight")
    numbers = (name for name, value in rows[0].items() if isinstance(value, int | float))
    names = sorted(name for name in {*numbers} - {size, weight} if all(name in row for row in rows))
    own = [[row[size], row.get(weight, row[size])] for row in rows]
    counts = torch.tensor(own, dtype=torch.float64, device=device)
    values = [[float(row[name]) for name in names] for row in rows]
    values_by_weight = counts[:, 1:] * torch.tensor(values, dtype=torch.float64, device=device)
    sums = torch.cat([counts, values_by_weight], dim=1)
    torch.distributed.all_reduce(sums)
    for row, (n_rows, total, *weighted) in zip(rows, sums.tolist(), strict=True):
        row.update({name: value / (total or 1) for name, value in zip(names, weighted, strict=True)})
        if joined:
            row |= {size: int(n_rows)} | ({weight: total} if total != n_rows else {})


def check_alike(facts: dict[str, Any], n_processes: int) -> None:
    """Raise in all processes if they differ in something that they must have alike."""
    gathered: list[Any] = [None] * n_processes
    torch.distributed.all_gather_object(gathered, facts)
    for name in facts:
        found = [other[name] for other in gathered]
        if any(value != found[0] for value in found):
            rows = " rows" if name == "X" else ""
            raise ValueError(
                f"{name} must be the same in all processes; got {found}{rows}. Give each the same; training "
                "shards the rows."
            )


class AnnouncedBatches:
    """Batches that tell an accelerator which is the last: a step is due there."""

    remainder = -1

    def __init__(self, batches: Any, state: Any) -> None:
        self.batches = batches
        self.state = state
        self.end_of_dataloader = False

    def __iter__(self) -> Iterator[Any]:
        self.end_of_dataloader = False
        self.state._add_dataloader(self)
        try:
            batches = iter(self.batches)
            held = next(batches, None)
            for batch in batches:
                yield held
                held = batch
            self.end_of_dataloader = True
            if held is not None:
                yield held
        finally:
            self.state._remove_dataloader(self)
