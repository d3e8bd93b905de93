"""Who trains one net: this process, or several; what they draw alike and what each draws itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from sk_mixup._skorch.sharding import average_rows, shard_order
from sk_mixup.mixing import RowFacts, Vicinity, batch_bounds, draw_order
from sk_mixup.mixing.plan import Plan

__all__ = ["AcceleratedProcesses", "Processes"]


class Processes:
    """The processes that train one net, as seen by one of them; here it is the only one."""

    @property
    def n_processes(self) -> int:
        """How many there are."""
        return 1

    def draw_plan(
        self,
        policy: Vicinity,
        generator: np.random.Generator,
        n_samples: int,
        batch_size: int,
        *,
        facts: RowFacts,
        shuffle: bool,
        drop_last: bool,
    ) -> Plan:
        """Draw the plan of an epoch; see :meth:`Vicinity.__call__`."""
        return policy(generator, n_samples, batch_size, facts=facts, shuffle=shuffle, drop_last=drop_last)

    def spawn(self, generator: np.random.Generator) -> np.random.Generator:
        """Return a child of the generator."""
        return generator.spawn(1)[0]

    def derive_seed(self, seed: int) -> int:
        """Return the seed."""
        return seed

    def shard(self, loader: Iterable[Any]) -> Iterable[Any]:
        """Return all batches."""
        return loader

    def average(self, rows: list[dict[str, Any]], size: str, *, joined: bool) -> None:
        """Leave the rows of the history as they are."""

    def agree(self, vote: bool) -> bool:
        """Return the vote."""
        return vote


class AcceleratedProcesses(Processes):
    """Several processes under an ``accelerate.Accelerator``.

    Each draws the same order of an epoch, takes every n-th row of it, and draws the rest of
    its plan from its own stream.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
        Knows the other processes.
    """

    def __init__(self, accelerator: Any) -> None:
        self.accelerator = accelerator

    @property
    def n_processes(self) -> int:
        """How many there are."""
        return int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Number of this one."""
        return int(self.accelerator.process_index)

    def draw_plan(
        self,
        policy: Vicinity,
        generator: np.random.Generator,
        n_samples: int,
        batch_size: int,
        *,
        facts: RowFacts,
        shuffle: bool,
        drop_last: bool,
    ) -> Plan:
        """Draw the order of all rows, and the plan of this process's share of it."""
        order = draw_order(generator, n_samples, shuffle=shuffle)
        sharded, n_own = shard_order(order, self.rank, self.n_processes, drop_last=drop_last)
        bounds = batch_bounds(n_own, batch_size, drop_last=drop_last)
        return policy.draw_checked(self.spawn(generator), bounds, sharded, facts)

    def spawn(self, generator: np.random.Generator) -> np.random.Generator:
        """Return this process's own child of a generator that all processes have."""
        return generator.spawn(self.n_processes)[self.rank]

    def derive_seed(self, seed: int) -> int:
        """Return this process's own seed, from one that all processes have."""
        child = np.random.SeedSequence(seed).spawn(self.n_processes)[self.rank]
        return int(child.generate_state(1)[0])

    def shard(self, loader: Iterable[Any]) -> Iterable[Any]:
        """Return this process's share of the batches of a torch DataLoader."""
        if not isinstance(loader, torch.utils.data.DataLoader):
            raise TypeError(
                "iterator_train must be a torch DataLoader where several processes train; got "
                f"{type(loader).__name__}. Use a DataLoader with a sampler of your own."
            )
        sharded: Iterable[Any] = self.accelerator.prepare_data_loader(loader)
        return sharded

    def average(self, rows: list[dict[str, Any]], size: str, *, joined: bool) -> None:
        """Put averages over the processes into rows of the history; see ``average_rows``."""
        average_rows(rows, size, self.accelerator.device, joined=joined)

    def agree(self, vote: bool) -> bool:
        """Return whether any process votes so."""
        votes = torch.tensor(int(vote), device=self.accelerator.device)
        torch.distributed.all_reduce(votes)
        return bool(votes > 0)
