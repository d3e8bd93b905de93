"""Training in several processes at once, where ``accelerate launch`` has started them."""

from dataclasses import dataclass
import math
import os
import time
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.harness.command import UserError
from benchmarks.harness.journal import Journal
from benchmarks.harness.runner import Tasks, Worker, postpone
from sk_mixup import AccelerateMixin, MixupClassifier

__all__ = ["ParallelClassifier", "Team", "find_team", "make_accelerator", "run_in_step"]


class ParallelClassifier(AccelerateMixin, MixupClassifier):
    """A classifier that several processes train together; see :class:`sk_mixup.MixupNetMixin`.

    Each process has a copy of the network, its share of the rows of each epoch, and its own
    stream of partners and weights; gradients are averaged. ``batch_size`` is that of one
    process. A batch normalisation sees the rows of its own process, and after each epoch all
    have the statistics of the first.
    """


def make_accelerator(device: str) -> Any:
    """Return what joins the processes that ``accelerate launch`` has started; None in one that is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    try:
        from accelerate import Accelerator
    except ImportError:
        raise UserError(
            "WORLD_SIZE must be 1 without the package accelerate; got "
            f"{os.environ['WORLD_SIZE']}. Run pip install accelerate."
        ) from None
    return Accelerator(cpu=torch.device(device).type == "cpu", mixed_precision="no")


@dataclass(frozen=True)
class Team:
    """The processes that train together, as one of them sees them; its accelerator is None if it is alone.

    Examples
    --------
    >>> from benchmarks.harness.several_processes import Team
    >>> team = Team(None)
    >>> team.size, team.is_main, team.broadcast("said")
    (1, True, 'said')
    """

    accelerator: Any

    @property
    def size(self) -> int:
        """How many there are."""
        return 1 if self.accelerator is None else int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Which of them this one is, from 0."""
        return 0 if self.accelerator is None else int(self.accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this is the one that prints and writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all of them are here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()

    def broadcast(self, value: Any) -> Any:
        """Return the main process's value; one that can be pickled."""
        if self.accelerator is None:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def add(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.accelerator is None:
            return values
        total: Tensor = self.accelerator.reduce(values, reduction="sum")
        return total


def find_team(device: str) -> Team:
    """Return the processes that this one was started with."""
    return Team(make_accelerator(device))


def run_in_step(
    worker: Worker, tasks: Tasks, journal: Journal, team: Team, *, label: str, until: float = math.inf
) -> list[dict[str, Any]]:
    """Return the record of every task, done one after the other, all processes at the same one.

    The main process's records count, and it keeps them in the journal; tasks in it are not done again. Once
    its monotonic clock has passed `until`, no task is begun and :class:`PostponedError` raised.
    """
    found = journal.read() if team.is_main else None
    records = {key: record for key, record in team.broadcast(found).items() if key in tasks}
    with tqdm(
        total=len(tasks), initial=len(records), desc=label, unit="fit", disable=not team.is_main
    ) as bar:
        for key in [key for key in tasks if key not in records]:
            if team.broadcast(time.monotonic() >= until):
                raise postpone(journal if team.is_main else None, len(records), len(tasks))
            records[key] = team.broadcast(worker(*tasks[key]))
            if team.is_main:
                journal.append(key, records[key])
            bar.update()
    return [records[key] for key in tasks]
