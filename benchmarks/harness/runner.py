"""Do many independent tasks in parallel, with a journal and a progress bar."""

from collections.abc import Callable, Iterator, Mapping
import time
from typing import Any
import warnings

import joblib
import torch
from tqdm import tqdm

from benchmarks.harness.journal import Journal

__all__ = ["Join", "PostponedError", "Tasks", "Worker", "postpone", "run_tasks"]

Worker = Callable[..., Any]
Tasks = Mapping[str, tuple[Any, ...]]
Join = Callable[..., int]
Call = tuple[list[str], tuple[Any, ...]]
End = tuple[Callable[[], float], float]


class PostponedError(Exception):
    """Time is up before all tasks are done; the command line says so, and the same command goes on."""


def run_tasks(
    worker: Worker,
    tasks: Tasks,
    journal: Journal,
    *,
    n_jobs: int,
    label: str,
    join: Join | None = None,
    until: float = float("inf"),
    is_partial: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> list[dict[str, Any]]:
    """Return the record of every task, in their order; those that the journal holds are not done again.

    ``worker(*arguments)``, of a module, returns a record JSON can hold, which is in the journal before the
    next is looked at: a kill costs only the tasks under way. Tasks are started in their order, so put the
    longest first.

    ``join(*shared)`` is how many tasks that differ in their last argument only, the repeat, are done at once:
    ``worker(*shared, repeats)`` then returns a dict whose lists have a ``repeat`` each, by which they
    are parted.

    Once the clock, which all processes share, has passed `until` no task is begun any more. Those that were
    not have no record where `is_partial` allows that; else what there is is shared, and
    :class:`PostponedError` raised.
    """
    records = {key: record for key, record in journal.read().items() if key in tasks}
    pending = {key: arguments for key, arguments in tasks.items() if key not in records}
    calls = _list_calls(pending, join)
    with tqdm(total=len(tasks), initial=len(records), desc=label, unit="fit") as bar:
        for keys, found in _iterate_done(worker, calls, n_jobs, (clock, until)):
            for key in keys:
                record = found if join is None else _take_repeat(found, tasks[key][-1])
                journal.append(key, record)
                records[key] = record
                bar.update()
    if len(records) < len(tasks) and not is_partial:
        raise postpone(journal, len(records), len(tasks))
    return [records[key] for key in tasks if key in records]


def postpone(journal: Journal | None, n_done: int, n_tasks: int) -> PostponedError:
    """Share what a run has done, if anything keeps it, and return what tells how it goes on."""
    shared = None if journal is None else journal.share()
    where = "" if shared is None else f" Commit '{shared}' to go on in another clone."
    return PostponedError(f"{n_done} of {n_tasks} are done; the same command goes on.{where}")


def _take_repeat(found: dict[str, Any], repeat: int) -> dict[str, Any]:
    return {name: [row for row in rows if row["repeat"] == repeat] for name, rows in found.items()}


def _list_calls(tasks: Tasks, join: Join | None) -> list[Call]:
    """Return the calls of the worker: keys, and arguments."""
    if join is None:
        return [([key], arguments) for key, arguments in tasks.items()]
    groups: dict[tuple[int, ...], list[str]] = {}
    for key, (*shared, _) in tasks.items():
        groups.setdefault(tuple(map(id, shared)), []).append(key)
    calls: list[Call] = []
    for keys in groups.values():
        *shared, _ = tasks[keys[0]]
        size = join(*shared)
        parts = [keys[start : start + size] for start in range(0, len(keys), size)]
        calls += [(part, (*shared, [tasks[key][-1] for key in part])) for part in parts]
    return calls


def _iterate_done(
    worker: Worker, calls: list[Call], n_jobs: int, end: End
) -> Iterator[tuple[list[str], Any]]:
    """Yield the keys of each call that was begun in time and what it returned, as they end."""
    if not calls:
        return
    limit = joblib.cpu_count() if n_jobs == -1 else min(n_jobs, joblib.cpu_count())
    parallel = joblib.Parallel(n_jobs=min(limit, len(calls)), return_as="generator_unordered")
    done = parallel(joblib.delayed(_run_call)(worker, end, *call) for call in calls)
    yield from filter(None, done)


def _run_call(
    worker: Worker, end: End, keys: list[str], arguments: tuple[Any, ...]
) -> tuple[list[str], Any] | None:
    """Run one call on one thread: at these sizes more threads only get in each other's way.

    The time is looked at here: joblib hands calls out before a process is free.
    """
    clock, until = end
    if clock() >= until:
        return None
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            # A protocol holds out what it says: advice for a table of one's own would fill the screen.
            warnings.filterwarnings("ignore", "validation_fraction must hold out|early_stopping must find")
            return keys, worker(*arguments)
    finally:
        torch.set_num_threads(n_threads)
