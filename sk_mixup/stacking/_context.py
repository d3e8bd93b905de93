"""Every scikit-learn search trains its nets as one: `stacked` and `fit_stacked`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from joblib import parallel_config
from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed
import torch

from sk_mixup.stacking._joblib_backend import StackedBackend
from sk_mixup.stacking._reach import open_block

__all__ = ["fit_stacked", "is_stacking", "stacked"]


@contextmanager
def stacked(
    max_nets: int = 256,
    *,
    memory: int | None = None,
    device: torch.device | str | None = None,
    verbose: int = 0,
    window: float = 1.0,
) -> Iterator[None]:
    """Train all nets of a scikit-learn search, or of any other meta-estimator, as one.

    Inside, whatever runs its fits through joblib (searches, cross-validation, learning
    curves, bagging, one-vs-rest, stacking and others) trains its mixup nets in lockstep:
    each training step is one batched program for all of them. Nothing else in the code
    changes, and every net is that of a single fit up to the rounding of float32; on a GPU
    not with dropout, see Notes.

    Parameters
    ----------
    max_nets : int, default=256
        The most tasks that are under way at a time, and so the most nets in training.
        The ``n_jobs`` of a search has no meaning here.
    memory : int, default=None
        Bytes that all that is under way may take: no task is begun that would pass it, by the
        weights, gradients, moments and rows of the largest net and, on Linux, by what the tasks with
        their folds of the data have added to the process. None is half of what is free on a GPU
        named by `device`, else half of the machine's memory. One net is always trained.
    device : str or torch.device, default=None
        Where the nets are trained, whatever their own ``device``, to which they return
        after the fit. None leaves each where it is.
    verbose : int, default=0
        1 shows a progress bar with the nets in training, their last epoch and mean loss.
    window : float, default=1.0
        Seconds for which nets that are ready for an epoch wait for those that are not, such
        as those that still load data. ``math.inf`` waits for every net, so what is stacked
        with what does not depend on the clock; a task that waits for another one then hangs.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

    Warns
    -----
    UserWarning
        Once a call for each reason for which nets cannot be stacked, such as a training
        step or criterion of one's own, callbacks round each batch, LBFGS or
        ``autocast="float16"``. Such nets are trained one by one, each as in a single fit.
        Also by a fit in a thread, or in a process begun in the block, that joblib has not begun:
        no block reaches it.

    See Also
    --------
    fit_stacked : The same for a list of fits.

    Notes
    -----
    Within a task of another such block, a block's options have no effect: all nets are
    trained by the outermost.

    The name is also a joblib backend: ``joblib.parallel_config(backend="stacked")``.

    Each net draws the rows, partners and weights that it draws in a single fit; only sums may be
    rounded otherwise, as batched matrix products add up in another order. Long training can
    amplify that, as it amplifies any other last digit: of 24 nets trained on the first 900 of
    scikit-learn's digits for 40 epochs (seeds 0 to 2; ``alpha`` 0, 0.2, 1 and 4; ``lr`` 0.001 and
    0.01; else defaults), 3 differed from their single fits in accuracy on the other 897, by 3 of
    these at most. A single fit with one bias of the last layer changed by one unit in its last
    place before training did so in 4 of the 24, by 9 at most; with ``max_epochs=100``, where early
    stopping may end at another epoch, it was 6 and 7 of 24, each by 18 at most. In float64
    (``torch.set_default_dtype``) nets agree to about 1e-9.

    With dropout that holds on the CPU only. On a GPU torch's dropout draws from the one global
    generator, in an order of its own, and the nets of a stack draw from generators of their
    own: which units are dropped differs from a single fit, not how many. Equal seeds still
    give equal nets, as long as they are stacked for the same epochs.

    Each task (a fit and its scoring) is run in a thread; a task that comes to a training
    epoch waits. Once all wait, or none has come for `window` seconds, the epochs of nets with equal
    modules, batch sizes and classes of optimizers are run as one: linear layers with
    ReLUs by batched matrix products, other modules by ``torch.func.vmap``. Data, numbers of
    rows, mixing, learning rates, weights and seeds may differ. A net that stops early
    leaves; others join, also those that came late.

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
    backend = StackedBackend(max_nets=max_nets, memory=memory, device=device, verbose=verbose, window=window)
    with open_block(), parallel_config(backend=backend, n_jobs=-1):
        yield


def is_stacking() -> bool:
    """Whether parallel calls made here are run by a block of :func:`stacked`."""
    return isinstance(get_active_backend()[0], StackedBackend)


def fit_stacked(jobs: Iterable[tuple[Any, ...]], **options: Any) -> list[Any]:
    """Fit several estimators as one.

    Parameters
    ----------
    jobs : iterable of tuple
        ``(estimator, X)``, ``(estimator, X, y)`` or ``(estimator, X, y, fit_params)``, the last
        a dict. Estimators may be pipelines or anything else with ``fit``; each must be an
        object of its own.
    **options : dict
        Those of :func:`stacked`. Without any, in a block of it, those of the block.

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
    _refuse_shared_callbacks(estimators)
    with stacked(**options) if options or not is_stacking() else nullcontext():
        errors = Parallel()(delayed(_fit)(number, *job) for number, job in enumerate(checked))
    for error in errors:
        if error is not None:
            raise error
    return estimators


def _refuse_shared_callbacks(estimators: Sequence[object]) -> None:
    """Raise if a callback is in several estimators: it would count the epochs of all of them as one net's."""
    owners: dict[int, int] = {}
    for number, estimator in enumerate(estimators):
        for callback in _list_callbacks(estimator):
            if owners.setdefault(id(callback), number) != number:
                raise ValueError(
                    "callbacks must be objects of each estimator's own where several are trained at once; "
                    f"got one {type(callback).__name__} in jobs {owners[id(callback)]} and {number}. Use "
                    "sklearn.base.clone, or give the class."
                )


def _list_callbacks(estimator: object) -> Iterator[object]:
    params: Mapping[str, object] = getattr(estimator, "get_params", dict)()
    for name, given in params.items():
        if name.rpartition("__")[2] == "callbacks" and isinstance(given, list | tuple):
            parts = (part[1] if isinstance(part, tuple) else part for part in given)
            yield from (part for part in parts if part is not None and not isinstance(part, type))


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
