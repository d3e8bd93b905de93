"""Every scikit-learn search trains its nets as one: a joblib backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
import copy
import threading
from typing import Any
import warnings

from joblib import parallel_config, register_parallel_backend
from joblib.parallel import FallbackToBackend, ParallelBackendBase
import psutil
from sklearn.utils.parallel import Parallel, delayed
import torch

from sk_mixup._validation import check_device, check_integer
from sk_mixup.stacking._engine import Engine
from sk_mixup.stacking._scheduler import Call, Scheduler, Task, find_task

__all__ = ["StackedBackend", "fit_stacked", "stacked"]


# Between their training epochs tasks are mostly Python, of which one runs at a time.
MOST_RUNNING = 4


# Share of the memory that is left to training and scoring when tasks are begun.
RESERVE = 0.3


class StackedBackend(ParallelBackendBase):
    """The joblib backend ``"stacked"``; :func:`stacked` describes it and its options.

    Parameters
    ----------
    nesting_level, inner_max_num_threads
        joblib's own.
    max_nets, memory, device, verbose
        As in :func:`stacked`.
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
        device: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        hint = "Give the most nets that may be in training at a time."
        self.max_nets = check_integer("max_nets", max_nets, low=1, hint=hint)
        if memory is not None:
            hint = "Give bytes, such as 4 * 2**30, or None for half of what is free."
            memory = check_integer("memory", memory, low=1, hint=hint)
        if device is not None:
            check_device(device)
        self.memory = memory
        self.device = device
        self.verbose = check_integer("verbose", verbose, low=0, hint="Use 1 for a progress bar.")
        self.scheduler: Scheduler | None = None
        self.call: Call | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many tasks may be begun at a time, whatever `n_jobs` says."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return max(2, self.max_nets)  # joblib takes 1 for a loop without a backend

    def configure(self, n_jobs: int | None = 1, parallel: Any = None, **options: Any) -> int:
        """Return how many tasks may be begun at a time; each ``Parallel`` gets a backend of its own."""
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
        n_running = min(n_threads, MOST_RUNNING)
        return Scheduler(
            self.engine.train,
            n_tasks=self.max_nets,
            n_running=n_running,
            has_room=_Gauge(self.memory, self.device, n_running).has_room,
            device=self.device,
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


class _Gauge:
    """Tells whether the memory suffices for one more task.

    Parameters
    ----------
    memory : int or None
        Bytes that the tasks may take in all; None for half of what is free.
    device : object
        Where the nets are trained, or None.
    n_running : int
        Tasks that may run, and so grow, at a time.
    """

    def __init__(self, memory: int | None, device: Any, n_running: int) -> None:
        self.device = None if device is None else torch.device(device)
        self.n_running = n_running
        self.before = self._read_used()
        self.memory = self._read_free() // 2 if memory is None else memory

    def has_room(self, n_begun: int) -> bool:
        """Whether as much as the tasks have taken on average is left, for those that still grow too."""
        used = self._read_used() - self.before
        return used + self.n_running * used / n_begun <= (1 - RESERVE) * self.memory

    def _on_gpu(self) -> bool:
        return self.device is not None and self.device.type == "cuda"

    def _read_used(self) -> Any:
        cuda: Any = torch.cuda  # its functions carry no types
        return cuda.memory_allocated(self.device) if self._on_gpu() else psutil.Process().memory_info().rss

    def _read_free(self) -> Any:
        cuda: Any = torch.cuda
        return cuda.mem_get_info(self.device)[0] if self._on_gpu() else psutil.virtual_memory().available


def _correct_times(results: Any, task: Task) -> None:
    """Make scikit-learn's fit times those of each net: not the waiting, but its share of the training."""
    for result in results if isinstance(results, list) else ():
        if isinstance(result, dict) and "fit_time" in result:
            result["fit_time"] = max(result["fit_time"] - task.idle + task.share, 0.0)


@contextmanager
def stacked(
    max_nets: int = 256, *, memory: int | None = None, device: Any = None, verbose: int = 0
) -> Iterator[None]:
    """Train all nets of a scikit-learn search, or of any other meta-estimator, as one.

    Inside, whatever runs its fits through joblib (searches, cross-validation, learning
    curves, bagging, one-vs-rest, stacking and others) trains its mixup nets in lockstep:
    each training step is one batched program for all of them. Nothing else in the code
    changes, and every net is the one that it would be alone.

    Parameters
    ----------
    max_nets : int, default=256
        The most tasks that are under way at a time, and so the most nets in training.
        The ``n_jobs`` of a search has no meaning here.
    memory : int, default=None
        Bytes that the process may grow by: no task is begun that would, by what those
        under way have taken on average, pass it. On a GPU named by `device`, bytes
        allocated there. None is half of what is free. One net is always trained.
    device : str or torch.device, default=None
        Where the nets are trained, whatever their own ``device``, to which they return
        after the fit. None leaves each where it is.
    verbose : int, default=0
        1 shows a progress bar with the nets in training, their last epoch and mean loss.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

    Warns
    -----
    UserWarning
        Once a call for each reason for which nets cannot be stacked, such as a training
        step of one's own, callbacks round each batch, LBFGS or ``autocast="float16"``.
        Such nets are trained one by one, with the same result.

    See Also
    --------
    fit_stacked : The same for a list of fits.

    Notes
    -----
    Within a task of another such block, a block's options have no effect: all nets are
    trained by the outermost.

    The name is also a joblib backend: ``joblib.parallel_config(backend="stacked")``.

    Each task (a fit and its scoring) is run in a thread; a task that comes to a training
    epoch waits, and once all wait the epochs of nets with equal modules, batch sizes and
    classes of optimizers are run as one: linear layers with ReLUs by batched matrix
    products, other modules by ``torch.func.vmap``. Data, numbers of rows, mixing, learning
    rates, weights and seeds may differ. A net that stops early leaves; others join. No task
    waits for more than a second for one that is busy with something else.

    ``fit_time`` in ``cv_results_`` is each net's share of the time, without waiting. On the
    CPU as many stacks are trained at a time as torch has threads
    (``torch.get_num_threads()``), one thread each.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sk_mixup import MixupClassifier, stacked
    >>> X, y = load_iris(return_X_y=True)
    >>> net = MixupClassifier(max_epochs=5, lr=1e-2, random_state=0)
    >>> with stacked():
    ...     search = GridSearchCV(net, {"alpha": [0, 0.2, 1]}, cv=5).fit(X, y)
    >>> bool(search.best_score_ > 0.5)
    True
    """
    backend = StackedBackend(max_nets=max_nets, memory=memory, device=device, verbose=verbose)
    with parallel_config(backend=backend, n_jobs=-1):
        yield


def fit_stacked(jobs: Iterable[tuple[Any, ...]], **options: Any) -> list[Any]:
    """Fit several estimators as one.

    Parameters
    ----------
    jobs : iterable of tuple
        ``(estimator, X)``, ``(estimator, X, y)`` or ``(estimator, X, y, fit_params)``, the last
        a dict. Estimators may be pipelines or anything else with ``fit``; each must be an
        object of its own.
    **options : dict
        Those of :func:`stacked`.

    Returns
    -------
    estimators : list
        The estimators, fitted, in the order of the jobs.

    Raises
    ------
    TypeError, ValueError
        If a job is no such tuple or an estimator occurs twice.
    Exception
        The first error of a fit, after all other fits have ended; a note names the job.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_mixup import MixupClassifier, fit_stacked
    >>> X, y = load_iris(return_X_y=True)
    >>> nets = [MixupClassifier(max_epochs=2, random_state=seed) for seed in range(3)]
    >>> [net.n_iter_ for net in fit_stacked((net, X, y) for net in nets)]
    [2, 2, 2]
    """
    checked = [_check_job(number, job) for number, job in enumerate(jobs)]
    estimators = [job[0] for job in checked]
    if len({id(estimator) for estimator in estimators}) < len(estimators):
        raise ValueError(
            "jobs must each have an estimator of its own; got one that occurs twice. Use sklearn.base.clone."
        )
    with stacked(**options):
        errors = Parallel()(delayed(_fit)(number, *job) for number, job in enumerate(checked))
    for error in errors:
        if error is not None:
            raise error
    return estimators


def _check_job(number: int, job: Any) -> tuple[Any, ...]:
    is_job = isinstance(job, tuple | list) and 2 <= len(job) <= 4
    if not is_job or isinstance(job[0], type) or not hasattr(job[0], "fit"):
        raise TypeError(
            f"jobs must hold tuples (estimator, X, y) or (estimator, X, y, fit_params); job {number} is a "
            f"{type(job).__name__} that is none. Put an estimator first."
        )
    return tuple(job)


def _fit(number: int, estimator: Any, X: Any, y: Any = None, params: Any = None) -> Exception | None:
    try:
        estimator.fit(X, y, **(params or {}))
    except Exception as error:
        error.add_note(f"raised by the fit of job {number}")
        return error
    return None


register_parallel_backend("stacked", StackedBackend)
