"""The joblib backend that runs the tasks of a call in a scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
import copy
import math
import os
from pathlib import Path
import threading
from typing import Any
import warnings

from joblib import register_parallel_backend
from joblib.parallel import FallbackToBackend, ParallelBackendBase, SequentialBackend
import torch

from sk_mixup._training.epoch import Epoch
from sk_mixup._validation import check_device, check_integer, check_real
from sk_mixup.stacking._engine import Engine, count_bytes
from sk_mixup.stacking._scheduler import Call, Scheduler, Task, find_task

__all__ = ["Budget", "StackedBackend", "find_memory"]

# Between their training epochs tasks are mostly Python, of which one runs at a time.
MOST_RUNNING = 4
# Share of the memory that is left to training and scoring when tasks are begun.
RESERVE = 0.5


class StackedBackend(ParallelBackendBase):
    """The joblib backend ``"stacked"``; :func:`sk_mixup.stacked` describes it and its options.

    Parameters
    ----------
    nesting_level, inner_max_num_threads
        joblib's own.
    max_nets, memory, device, verbose, window
        As in :func:`sk_mixup.stacked`.
    """

    is_own = False
    supports_retrieve_callback = True
    supports_sharedmem = True
    uses_threads = True
    default_n_jobs = -1

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        *,
        max_nets: int = 256,
        memory: int | None = None,
        device: torch.device | str | None = None,
        verbose: int = 0,
        window: float = 1.0,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        hint = "Give the most nets that may be in training at a time."
        self.max_nets = check_integer("max_nets", max_nets, low=1, hint=hint)
        if memory is not None:
            hint = "Give bytes, such as 4 * 2**30, or None for half of what there is."
            memory = check_integer("memory", memory, low=1, hint=hint)
        if device is not None:
            check_device(device)
        self.memory = memory
        self.device = device
        self.window = check_real("window", window, low=0, hint="Give seconds, or math.inf to wait for all.")
        self.verbose = check_integer("verbose", verbose, low=0, hint="Use 1 for a progress bar.")
        self.scheduler: Scheduler | None = None
        self.call: Call | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many tasks may be begun at a time, whatever `n_jobs` says."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return max(2, self.max_nets)  # joblib takes 1 for a loop without a backend

    def configure(self, n_jobs: int | None = 1, parallel: Any = None, **options: Any) -> int:
        """Return how many tasks may be begun at a time; each ``Parallel`` gets a backend of its own.

        A call within a task that asks for threads is a loop over numbers, such as that of a forest or of
        nearest neighbours, and trains no nets: it runs in its task.
        """
        task = find_task()
        asks_for_threads = options.get("prefer") == "threads" or options.get("require") == "sharedmem"
        if task is not None and (task.in_section or asks_for_threads):  # in a section nobody else may run
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if not self.is_own:
            own = copy.copy(self)
            own.is_own = True
            raise FallbackToBackend(own)
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def get_nested_backend(self) -> tuple[StackedBackend, int]:
        """Return the backend of parallel calls that a task makes: tasks of the same scheduler."""
        return type(self)((self.nesting_level or 0) + 1, max_nets=self.max_nets), -1

    def start_call(self) -> None:
        """Begin a parallel call; within a task, of the scheduler that the task belongs to."""
        task = find_task()
        self.scheduler = self._open_scheduler() if task is None else task.scheduler
        self.call = self.scheduler.open_call(task)

    def _open_scheduler(self) -> Scheduler:
        n_threads = _SETTINGS.enter()
        self.engine = Engine(n_threads, verbose=bool(self.verbose))
        budget = Budget(self.memory)
        return Scheduler(
            self.engine.train,
            n_tasks=self.max_nets,
            n_running=min(n_threads, MOST_RUNNING),
            memory=1.0,
            measure=budget.measure,
            read_growth=budget.read_growth,
            device=self.device,
            window=self.window,
        )

    def stop_call(self) -> None:
        """Wait for all tasks of the call; at the end of the outermost call, for all threads."""
        assert self.scheduler is not None
        assert self.call is not None
        scheduler, call = self.scheduler, self.call
        self.scheduler = self.call = None
        try:
            scheduler.close_call(call)
        finally:
            if call.owner is None:
                scheduler.close()
                self.engine.close()
                _SETTINGS.leave()

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Any:
        """Run a batch of calls as a task."""
        assert self.scheduler is not None
        assert self.call is not None
        future: Future[Any] = Future()
        if callback is not None:
            future.add_done_callback(callback)

        def deliver(task: Task, result: Any, error: BaseException | None) -> None:
            if error is None:
                _correct_times(result, task)
                future.set_result(result)
            else:
                future.set_exception(error)

        self.scheduler.submit(self.call, func, deliver)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return what a task returned, or raise what it raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Give up the tasks of the call."""
        if self.scheduler is not None and self.call is not None:
            self.scheduler.abort(self.call)

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Let others run while the caller waits for its tasks."""
        assert self.scheduler is not None
        assert self.call is not None
        with self.scheduler.waiting(self.call):
            yield


class _Settings:
    """What calls set for the whole process: one thread for each operation of torch.

    The first call that is opened sets it, the last that is closed puts back what was.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_users = 0
        self.n_threads = 1
        self.filters: Any = None

    def enter(self) -> int:
        """Return how many threads torch was to use."""
        with self.lock:
            if self.n_users == 0:
                self.n_threads = torch.get_num_threads()
                # scikit-learn sets filters in each task; in threads they end up mixed.
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
            self.n_users += 1
            torch.set_num_threads(1)
            return self.n_threads

    def leave(self) -> None:
        with self.lock:
            self.n_users -= 1
            if self.n_users == 0:
                self.filters.__exit__(None, None, None)
            torch.set_num_threads(self.n_threads)  # torch counts threads for each thread


_SETTINGS = _Settings()


class Budget:
    """Which share of the memory an epoch takes, of where its net is trained, and all that is under way.

    Parameters
    ----------
    memory : int or None
        The bytes that all nets may take; None for what :func:`find_memory` says when the first of them comes.
    read_bytes : callable, optional
        Returns what this process holds.
    """

    def __init__(self, memory: int | None, read_bytes: Callable[[], int] | None = None) -> None:
        self.memory = memory
        self.found: dict[torch.device, float] = {}
        self.read_bytes = read_bytes or read_resident_bytes
        self.before = self.read_bytes()

    def measure(self, epoch: Epoch) -> float:
        """Return the share that an epoch takes."""
        device = epoch.trainer.get_device()
        if device not in self.found:
            self.found[device] = find_memory(device) if self.memory is None else self.memory
        return count_bytes(epoch) / max(self.found[device], 1)

    def read_growth(self) -> float:
        """Return the share of the host's memory by which the process has grown.

        Beyond the nets these are folds of the data, before and after preprocessing.
        """
        is_of_host = self.memory is not None and all(device.type == "cpu" for device in self.found)
        memory = self.memory if is_of_host else find_memory("cpu")
        return (self.read_bytes() - self.before) / ((1 - RESERVE) * memory)  # type: ignore[operator]


def read_resident_bytes() -> int:
    """Return what this process alone holds in memory; 0 where the system does not say so as Linux does.

    Pages of files, such as of memory-mapped rows, are not among it.
    """
    try:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text(encoding="ascii").split())
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def find_memory(device: torch.device | str | None) -> float:
    """Return half of the memory that is free on a GPU, or that the machine has; infinity if unknown."""
    if device is not None and torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // 2
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # as on Windows
        return math.inf


def _correct_times(results: Any, task: Task) -> None:
    """Make scikit-learn's fit times those of each net: not the waiting, but its share of the training."""
    for result in results if isinstance(results, list) else ():
        if isinstance(result, dict) and "fit_time" in result:
            result["fit_time"] = max(result["fit_time"] - task.idle + task.share, 0.0)


register_parallel_backend("stacked", StackedBackend)
