"""Do many independent tasks in parallel, with a journal and a progress bar."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import joblib
import torch
from tqdm import tqdm

from benchmarks.harness.journal import Journal

__all__ = ["run_tasks"]

Worker = Callable[..., dict[str, Any]]
Tasks = Mapping[str, tuple[Any, ...]]


def run_tasks(
    worker: Worker, tasks: Tasks, journal: Journal, *, n_jobs: int, label: str
) -> list[dict[str, Any]]:
    """Return ``worker(*arguments)`` for every task, in the order of the tasks.

    Tasks that the journal already holds are not done again; each new record is in the journal
    before the next is looked at, so a kill costs only the tasks under way.

    Parameters
    ----------
    worker : callable
        Module-level function that returns a record JSON can hold.
    tasks : mapping of str to tuple
        Arguments by key; started in this order, so put the longest first.
    journal : Journal
        Where finished records are kept.
    n_jobs : int
        Processes; -1 uses every core.
    label : str
        Text in front of the progress bar.

    Returns
    -------
    records : list of dict
        One for each task.
    """
    records = {key: record for key, record in journal.read().items() if key in tasks}
    pending = {key: arguments for key, arguments in tasks.items() if key not in records}
    with tqdm(total=len(tasks), initial=len(records), desc=label, unit="fit") as bar:
        for key, record in _iterate_done(worker, pending, n_jobs):
            journal.append(key, record)
            records[key] = record
            bar.update()
    return [records[key] for key in tasks]


def _iterate_done(worker: Worker, tasks: Tasks, n_jobs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield key and record of each task as it ends."""
    if not tasks:
        return
    limit = joblib.cpu_count() if n_jobs == -1 else min(n_jobs, joblib.cpu_count())
    parallel = joblib.Parallel(n_jobs=min(limit, len(tasks)), return_as="generator_unordered")
    yield from parallel(joblib.delayed(_run_task)(worker, key, arguments) for key, arguments in tasks.items())


def _run_task(worker: Worker, key: str, arguments: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    """Run one task on one thread: at these sizes more threads only get in each other's way."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return key, worker(*arguments)
    finally:
        torch.set_num_threads(n_threads)
