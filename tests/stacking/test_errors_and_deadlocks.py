"""Under stacked() all ends: with errors, interrupts, locks, slow tasks, and little memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import gc
import multiprocessing
import random
import re
import signal
import sys
import threading
import time
from typing import Any
import warnings
import weakref

from joblib import Parallel, delayed
import numpy as np
import pytest
from sklearn import clone, config_context, get_config
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.utils.parallel import Parallel as SklearnParallel
from sklearn.utils.parallel import delayed as sklearn_delayed
from skorch.callbacks import Callback
import torch

from sk_mixup import MixupClassifier, fit_stacked, stacked
from sk_mixup.stacking import _context as stacking
from sk_mixup.stacking._context import _Gauge
from sk_mixup.stacking._scheduler import find_task
from tests.helpers.nets import QUICK, get_weights, is_equal
from tests.helpers.timeouts import LIMIT, within


def make_net(seed: int = 0, **options: Any) -> MixupClassifier:
    return MixupClassifier(**{**QUICK, "random_state": seed, **options})


def fit_alone(seed: int, table: Any, **options: Any) -> dict[str, torch.Tensor]:
    return get_weights(make_net(seed, **options).fit(table.X, table.y))


def is_close(net: Any, weights: dict[str, torch.Tensor]) -> bool:
    own = get_weights(net)
    return all(torch.allclose(own[name], weights[name], rtol=1e-4, atol=1e-6) for name in weights)


def list_threads() -> list[str]:
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("sk_mixup"))


def wait_for_threads(expected: list[str]) -> None:
    """Wait a moment for threads that are at their very end."""
    deadline = time.monotonic() + 2.0
    while list_threads() != expected and time.monotonic() < deadline:
        time.sleep(0.005)
    assert list_threads() == expected


@pytest.fixture(scope="module", autouse=True)
def _warm(blobs: Any) -> None:
    """Let torch import what it imports late: some of it sets warning filters."""
    make_net(max_epochs=1, module__dropout=0.5).fit(blobs.X, blobs.y)


@pytest.fixture
def tidy() -> Iterator[None]:
    """Check that the process is afterwards what it was."""
    n_threads, filters, threads = torch.get_num_threads(), list(warnings.filters), list_threads()
    yield
    assert torch.get_num_threads() == n_threads
    assert list(warnings.filters) == filters
    wait_for_threads(threads)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sk_mixup.stacking._scheduler.PATIENCE", 0.05)


class Act(Callback):
    """Does something at some point of each epoch."""

    def __init__(self, act: Callable[[], Any], when: str = "on_epoch_end", epoch: int = 2) -> None:
        self.act, self.when, self.epoch = act, when, epoch

    def notify(self, when: str, net: Any) -> None:
        if when == self.when and len(net.history) == self.epoch:
            self.act()

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.notify("on_epoch_begin", net)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.notify("on_epoch_end", net)

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self.notify("on_train_end", net)


class Stop(BaseException):
    """Ends more than an exception does."""


def raise_error(error: type[BaseException]) -> None:
    raise error("on purpose")


def raising(error: type[BaseException], when: str = "on_epoch_end") -> list[tuple[str, Any]]:
    return [("act", Act(lambda: raise_error(error), when))]


# Errors of one task.


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("when", ["on_epoch_begin", "on_epoch_end", "on_train_end"])
def test_the_first_error_is_raised_after_all_others_have_ended(blobs: Any, when: str) -> None:
    epoch = 3 if when == "on_train_end" else 2
    nets = [make_net(seed) for seed in range(6)]
    for k in (2, 4):
        act = Act(lambda k=k: raise_error([KeyError, OSError][k == 4]), when, epoch)
        nets[k].set_params(callbacks=[("act", act)])
    with pytest.raises(KeyError, match="on purpose") as caught:
        within(lambda: fit_stacked((net, blobs.X, blobs.y) for net in nets))
    assert caught.value.__notes__ == ["raised by the fit of job 2"]
    for seed in (0, 1, 3, 5):
        assert is_close(nets[seed], fit_alone(seed, blobs))


@pytest.mark.usefixtures("tidy")
@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
@pytest.mark.parametrize("lr", [1e30, 1e38])
def test_a_net_that_diverges_fails_alone(blobs: Any, lr: float) -> None:
    net = make_net(optimizer=torch.optim.SGD)
    search = GridSearchCV(net, {"lr": [0.02, lr]}, cv=2, error_score=np.nan, refit=False)

    def body() -> Any:
        with stacked(), pytest.warns(FitFailedWarning, match="must stay finite"):
            return search.fit(blobs.X, blobs.y).cv_results_["split0_test_score"]

    scores = within(body)
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1])
    alone = cross_val_score(net, blobs.X, blobs.y, cv=2)
    np.testing.assert_allclose(scores[0], alone[0])


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("error", [ValueError, SystemExit, Stop, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("nested", [False, True])
def test_an_error_of_a_task_ends_the_call(blobs: Any, error: type[BaseException], nested: bool) -> None:
    """Also where other tasks are in searches of their own."""

    def fail() -> None:
        time.sleep(0.1)
        raise_error(error)

    def fit() -> Any:
        net = make_net(max_epochs=400)
        if nested:
            return cross_val_score(net, blobs.X, blobs.y, cv=3)
        return net.fit(blobs.X, blobs.y)

    def body() -> None:
        with stacked():
            Parallel()(delayed(task)() for task in [fit, fail, fit])

    with pytest.raises(error):
        within(body, 15.0)


@pytest.mark.usefixtures("tidy")
def test_an_outer_search_raises_while_inner_ones_train(blobs: Any) -> None:
    class Failing(MixupClassifier):
        def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
            if self.lr == 1.0:
                raise ValueError("bad lr")
            return super().fit(X, y, **params)

    search = GridSearchCV(
        Failing(**{**QUICK, "max_epochs": 50}), {"lr": [0.01, 1.0]}, cv=2, error_score="raise"
    )

    def body() -> None:
        with stacked():
            cross_validate(search, blobs.X, blobs.y, cv=3, error_score="raise")

    with pytest.raises(ValueError, match="bad lr"):
        within(body, 15.0)


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("when", ["on_epoch_begin", "on_epoch_end"])
def test_an_interrupt_by_a_callback_stops_its_net_only(blobs: Any, when: str) -> None:
    """As in skorch, where it is the way to stop a training."""
    nets = [make_net(seed, max_epochs=4) for seed in range(3)]
    nets[1].set_params(callbacks=raising(KeyboardInterrupt, when))
    within(lambda: fit_stacked((net, blobs.X, blobs.y) for net in nets))
    lengths = [len(net.history) for net in nets]
    alone = make_net(1, max_epochs=4, callbacks=raising(KeyboardInterrupt, when)).fit(blobs.X, blobs.y)
    assert lengths == [4, len(alone.history), 4]


@pytest.mark.usefixtures("tidy")
def test_errors_of_scorers_are_those_of_one_task(blobs: Any) -> None:
    calls = []

    def score(net: Any, X: Any, y: Any) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("no score")
        return 0.5

    def body() -> Any:
        with stacked(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cross_val_score(make_net(), blobs.X, blobs.y, cv=4, scoring=score, error_score=np.nan)

    scores = within(body)
    assert sorted(np.isnan(scores)) == [False, False, False, True]


# Interrupts.


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Press Ctrl-C after a while; and again, should that not suffice."""
    ident = threading.main_thread().ident

    def press() -> None:
        signal.pthread_kill(ident, signal.SIGINT)

    def press_in(wait: float) -> None:
        timers.append(threading.Timer(wait, press))
        timers[-1].daemon = True
        timers[-1].start()

    def notice(unraisable: Any) -> None:
        """Press again: Python drops what is raised while it tells weak references of an end."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            press_in(0.1)
        else:
            hook(unraisable)

    timers: list[threading.Timer] = []
    hook, sys.unraisablehook = sys.unraisablehook, notice
    # A shell starts its background jobs with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    press_in(seconds)
    press_in(LIMIT)
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook


LONG = {"max_epochs": 100_000}


def train_flat(X: Any, y: Any) -> None:
    GridSearchCV(make_net(**LONG), {"alpha": [0, 1]}, cv=3).fit(X, y)


def train_nested(X: Any, y: Any) -> None:
    cross_validate(GridSearchCV(make_net(**LONG), {"alpha": [0, 1]}, cv=2), X, y, cv=2)


def train_in_turns(X: Any, y: Any) -> None:
    class Watched(MixupClassifier):
        def on_batch_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
            """A hook round each batch."""

    cross_val_score(Watched(**{**QUICK, **LONG}), X, y, cv=3)


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("train", [train_flat, train_nested, train_in_turns])
@pytest.mark.filterwarnings("ignore:stacked")
def test_ctrl_c_ends_the_training(blobs: Any, train: Callable[..., None]) -> None:
    start, threads = time.monotonic(), list_threads()
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.5), stacked():
        train(blobs.X, blobs.y)
    assert time.monotonic() - start < 10
    wait_for_threads(threads)
    net = make_net(3)
    within(lambda: fit_stacked([(net, blobs.X, blobs.y), (make_net(4), blobs.X, blobs.y)]))
    assert is_close(net, fit_alone(3, blobs))


@pytest.mark.usefixtures("tidy")
def test_ctrl_c_ends_plain_tasks(blobs: Any) -> None:
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.2), stacked():
        Parallel()(delayed(time.sleep)(0.5) for _ in range(1000))
    assert time.monotonic() - start < 10


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("nested", [False, True])
def test_a_timeout_ends_the_training(blobs: Any, nested: bool) -> None:
    train = train_flat if nested else make_net(**LONG).fit

    def body() -> None:
        with stacked():
            Parallel(timeout=0.5)(delayed(train)(blobs.X, blobs.y) for _ in range(3))

    with pytest.raises(multiprocessing.TimeoutError):
        within(body, 15.0)


@pytest.mark.usefixtures("tidy")
def test_a_generator_may_be_closed_before_its_end(blobs: Any) -> None:
    def body() -> int:
        with stacked():
            call = Parallel(return_as="generator")
            jobs = [
                delayed(make_net(k, max_epochs=2 + 100 * (k > 1)).fit)(blobs.X, blobs.y) for k in range(5)
            ]
            fitted = call(jobs)
            first = [next(fitted), next(fitted)]
            with pytest.warns(UserWarning, match="cancelled"):
                fitted.close()
        return len(first)

    assert within(body) == 2


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_a_generator_gives_all_nets(blobs: Any, return_as: str) -> None:
    def body() -> list[Any]:
        with stacked():
            call = Parallel(return_as=return_as)
            return list(call(delayed(make_net(k).fit)(blobs.X, blobs.y) for k in range(5)))

    nets = sorted(within(body), key=lambda net: net.random_state)
    assert all(is_close(net, fit_alone(k, blobs)) for k, net in enumerate(nets))


@pytest.mark.usefixtures("tidy")
def test_calls_may_be_made_while_a_generator_is_consumed(blobs: Any) -> None:
    lengths = [1, 150, 150]  # the generator's call is not over when the other begins

    def body() -> list[Any]:
        with stacked():
            fitted = Parallel(return_as="generator")(
                delayed(make_net(k, max_epochs=n).fit)(blobs.X, blobs.y) for k, n in enumerate(lengths)
            )
            first = next(fitted)
            scores = cross_val_score(make_net(), blobs.X, blobs.y, cv=2)
            return [first, *fitted, scores]

    *nets, scores = within(body, 15.0)
    assert [len(net.history) for net in nets] == lengths
    assert is_close(nets[0], fit_alone(0, blobs, max_epochs=1))
    np.testing.assert_allclose(scores, cross_val_score(make_net(), blobs.X, blobs.y, cv=2))


@pytest.mark.slow
@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("max_nets", [1, 2, 8])
def test_a_task_may_train_while_it_consumes_a_generator(blobs: Any, max_nets: int) -> None:
    def work() -> list[float]:
        scores = []
        tasks = (delayed(make_net(k).fit)(blobs.X, blobs.y) for k in range(3))
        for net in Parallel(return_as="generator")(tasks):
            scores.extend(cross_val_score(net, blobs.X, blobs.y, cv=2))
        return scores

    def body() -> list[Any]:
        with stacked(max_nets):
            return Parallel()(delayed(work)() for _ in range(2))

    alone = np.concatenate([cross_val_score(make_net(k), blobs.X, blobs.y, cv=2) for k in range(3)])
    for scores in within(body, 15.0):
        np.testing.assert_allclose(scores, alone)


# Tasks that do not (only) train.


@pytest.mark.usefixtures("tidy")
def test_tasks_without_nets(blobs: Any) -> None:
    def body() -> Any:
        with stacked():
            squares = Parallel()(delayed(pow)(k, 2) for k in range(700))
            return squares, cross_val_score(DummyClassifier(), blobs.X, blobs.y, cv=3)

    squares, scores = within(body)
    assert squares == [k * k for k in range(700)]
    assert len(scores) == 3


@pytest.mark.usefixtures("tidy", "impatient")
def test_a_lock_round_each_fit(blobs: Any) -> None:
    lock = threading.Lock()

    def fit(seed: int) -> Any:
        with lock:
            return make_net(seed).fit(blobs.X, blobs.y)

    def body() -> list[Any]:
        with stacked():
            return Parallel()(delayed(fit)(seed) for seed in range(6))

    assert all(is_close(net, fit_alone(seed, blobs)) for seed, net in enumerate(within(body)))


@pytest.mark.usefixtures("tidy", "impatient")
@pytest.mark.parametrize("max_nets", [1, 2, 64])
def test_a_lock_round_several_searches(blobs: Any, max_nets: int) -> None:
    lock = threading.Lock()

    def search() -> float:
        with lock:
            return sum(cross_val_score(make_net(k), blobs.X, blobs.y, cv=2).sum() for k in range(3))

    def body() -> list[float]:
        with stacked(max_nets):
            return Parallel()(delayed(search)() for _ in range(5))

    scores = within(body, 15.0)
    assert np.ptp(scores) < 1e-9


@pytest.mark.usefixtures("tidy", "impatient")
def test_nets_do_not_wait_for_slow_tasks(blobs: Any) -> None:
    trained = threading.Event()

    def fit() -> Any:
        net = make_net(max_epochs=30).fit(blobs.X, blobs.y)
        trained.set()
        return net

    def body() -> list[Any]:
        with stacked():
            return Parallel()(delayed(task)() for task in [lambda: trained.wait(LIMIT / 2), fit])

    waited, net = within(body)
    assert waited is True
    assert is_close(net, fit_alone(0, blobs, max_epochs=30))


@pytest.mark.usefixtures("tidy")
def test_configurations_hold_in_tasks(blobs: Any) -> None:
    def look() -> bool:
        make_net().fit(blobs.X, blobs.y)
        return get_config()["assume_finite"]

    def body() -> list[list[bool]]:
        with stacked():
            with config_context(assume_finite=True):
                inside = SklearnParallel()(sklearn_delayed(look)() for _ in range(3))
            return [inside, SklearnParallel()(sklearn_delayed(look)() for _ in range(3))]

    assert within(body) == [[True] * 3, [False] * 3]


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("when", ["on_epoch_end", "on_train_end"])
def test_callbacks_may_fit_nets(blobs: Any, when: str) -> None:
    inner: list[Any] = []

    def train() -> None:
        inner.append(make_net(7).fit(blobs.X, blobs.y))
        cross_val_score(make_net(8), blobs.X, blobs.y, cv=2)

    nets = [make_net(k, callbacks=[("act", Act(train, when, epoch=3))]) for k in range(3)]
    within(lambda: fit_stacked((net, blobs.X, blobs.y) for net in nets))
    assert all(is_close(net, fit_alone(k, blobs)) for k, net in enumerate(nets))
    assert [is_close(net, fit_alone(7, blobs)) for net in inner] == [True] * 3


@pytest.mark.usefixtures("tidy")
@pytest.mark.filterwarnings("ignore:stacked")
@pytest.mark.parametrize("max_nets", [1, 2, 8])
def test_batch_hooks_may_fit_nets(blobs: Any, max_nets: int) -> None:
    """They are called within the net's turn."""

    class Busy(Callback):
        def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
            if training and len(net.history) == 1:
                cross_val_score(make_net(1, max_epochs=1), blobs.X, blobs.y, cv=2)

    nets = [make_net(k, max_epochs=2, callbacks=[("busy", Busy())]) for k in range(3)]
    within(lambda: fit_stacked(((net, blobs.X, blobs.y) for net in nets), max_nets=max_nets))
    assert all(is_close(net, fit_alone(k, blobs, max_epochs=2)) for k, net in enumerate(nets))


# One within the other, and side by side.


@pytest.mark.usefixtures("tidy")
def test_a_fit_outside_of_tasks_is_an_ordinary_one(blobs: Any) -> None:
    net, before = make_net(), list_threads()
    with stacked():
        net.fit(blobs.X, blobs.y)
        assert list_threads() == before
        assert find_task() is None
    assert is_equal(get_weights(net), fit_alone(0, blobs))


@pytest.mark.usefixtures("tidy")
def test_stacked_within_stacked(blobs: Any) -> None:
    def body() -> Any:
        with stacked(), stacked(max_nets=3):
            return cross_val_score(make_net(), blobs.X, blobs.y, cv=3)

    np.testing.assert_allclose(within(body), cross_val_score(make_net(), blobs.X, blobs.y, cv=3))


class StackedSearch(GridSearchCV):
    """A search that trains its nets as one, wherever it is fitted."""

    n_fits = 0

    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
        StackedSearch.n_fits += 1
        with stacked():
            return super().fit(X, y, **params)


@pytest.mark.usefixtures("tidy")
def test_stacked_within_tasks_of_stacked(blobs: Any) -> None:
    grid = {"alpha": [0, 1]}
    StackedSearch.n_fits = 0

    def body() -> Any:
        with stacked():
            return cross_val_score(StackedSearch(make_net(), grid, cv=2), blobs.X, blobs.y, cv=3)

    scores = within(body, 15.0)
    assert StackedSearch.n_fits == 3
    alone = cross_val_score(GridSearchCV(make_net(), grid, cv=2), blobs.X, blobs.y, cv=3)
    np.testing.assert_allclose(scores, alone)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_two_threads_may_stack_at_once(blobs: Any, n_threads: int) -> None:
    filters, before = list(warnings.filters), list_threads()
    torch.set_num_threads(n_threads)
    results, seen = {}, {}

    def work(name: int) -> None:
        torch.set_num_threads(n_threads)
        time.sleep(0.05 * name)  # neither begins or ends with the other
        for _ in range(3):
            with stacked():
                results[name] = cross_val_score(make_net(name, max_epochs=8), blobs.X, blobs.y, cv=4)
        seen[name] = torch.get_num_threads()

    def body() -> None:
        threads = [threading.Thread(target=work, args=(name,), daemon=True) for name in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    try:
        within(body)
        n_new: list[int] = []
        new = threading.Thread(target=lambda: n_new.append(torch.get_num_threads()))
        new.start()
        new.join()
        for name in range(2):
            alone = cross_val_score(make_net(name, max_epochs=8), blobs.X, blobs.y, cv=4)
            np.testing.assert_allclose(results[name], alone)
        assert [torch.get_num_threads(), *n_new] == [n_threads] * 2
        assert seen == {0: n_threads, 1: n_threads}
        assert list(warnings.filters) == filters
        wait_for_threads(before)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("fails", [False, True])
def test_the_number_of_threads_is_given_back(blobs: Any, fails: bool) -> None:
    def work() -> int:
        if fails:
            raise ValueError
        return torch.get_num_threads()

    torch.set_num_threads(2)
    try:
        if fails:
            with pytest.raises(ValueError), stacked():  # noqa: PT011
                Parallel()(delayed(work)() for _ in range(3))
        else:
            with stacked():
                assert Parallel()(delayed(work)() for _ in range(3)) == [1] * 3
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


# Options.

JOBS = [
    ("[3]", TypeError, r"jobs must hold tuples .*; job 0 is a int that is none\. Put an estimator first\."),
    ("[(net, X, y), net]", TypeError, r"job 1 is a MixupClassifier that is none"),
    ("[(X, y)]", TypeError, r"job 0 is a tuple that is none\. Put an estimator first"),
    ("[(X, net, y)]", TypeError, r"Put an estimator first"),
    ("[(net,)]", TypeError, r"job 0 is a tuple"),
    ("[()]", TypeError, r"job 0 is a tuple"),
    ("[(net, X, y, {}, 1)]", TypeError, r"job 0 is a tuple"),
    ("[(type(net), X, y)]", TypeError, r"job 0 is a tuple"),
    ("[(net, X, y), (net, X, y)]", ValueError, r"an estimator of its own; got one that occurs twice.*clone"),
]
OPTIONS = [
    ({"max_nets": 0}, ValueError, r"max_nets must be at least 1; got 0\. Give the most nets"),
    ({"max_nets": -1}, ValueError, r"max_nets must be at least 1; got -1\."),
    ({"max_nets": 1.5}, TypeError, r"max_nets must be an integer; got 1\.5\."),
    ({"max_nets": True}, TypeError, r"max_nets must be an integer; got True\."),
    ({"max_nets": "3"}, TypeError, r"max_nets must be an integer; got '3'\."),
    ({"max_nets": None}, TypeError, r"max_nets must be an integer; got None\."),
    ({"memory": -1}, ValueError, r"memory must be at least 1; got -1\. Give bytes"),
    ({"memory": 0}, ValueError, r"memory must be at least 1; got 0\."),
    ({"memory": "1G"}, TypeError, r"memory must be an integer; got '1G'\. Give bytes"),
    ({"memory": 1e9}, TypeError, r"memory must be an integer; got 1000000000\.0\."),
    ({"verbose": -1}, ValueError, r"verbose must be at least 0; got -1\. Use 1 for a progress bar"),
    ({"verbose": True}, TypeError, r"verbose must be an integer; got True\."),
    ({"device": "cudda"}, ValueError, r"device must be one that torch finds here; got 'cudda'"),
    ({"device": "cuda:99"}, ValueError, r"device must be one that torch finds here; got 'cuda:99'"),
    ({"device": 3.5}, ValueError, r"device must be one that torch finds here; got 3\.5"),
    ({"devise": "cpu"}, TypeError, r"devise"),
]


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize(("jobs", "error", "match"), JOBS, ids=[row[0] for row in JOBS])
def test_bad_jobs_are_refused(blobs: Any, jobs: str, error: type[Exception], match: str) -> None:
    names = {"net": make_net(), "X": blobs.X, "y": blobs.y}
    with pytest.raises(error, match=match):
        within(lambda: fit_stacked(eval(jobs, names)))
    assert not names["net"].initialized_


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize(("options", "error", "match"), OPTIONS, ids=[str(row[0]) for row in OPTIONS])
def test_bad_options_are_refused(
    blobs: Any, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        fit_stacked([(make_net(), blobs.X, blobs.y)], **options)
    with pytest.raises(error, match=match), stacked(**options):
        pass


def test_no_jobs_give_no_estimators() -> None:
    assert fit_stacked([]) == []


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_nets_return_to_their_own_device(blobs: Any, device: Any) -> None:
    nets = [make_net(k) for k in range(3)]
    within(lambda: fit_stacked(((net, blobs.X, blobs.y) for net in nets), device=device))
    for k, net in enumerate(nets):
        assert net.device == "cpu"
        assert is_close(net, fit_alone(k, blobs))


# Memory, groups, progress and times.


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize(("max_nets", "largest"), [(1, 1), (2, 2), (3, 3), (256, 7)])
def test_no_more_nets_than_allowed_are_in_training(
    blobs: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    max_nets: int,
    largest: int,
) -> None:
    sizes: list[int] = []
    train = stacking.Engine.train

    def record(self: Any, epochs: Any, check: Any) -> None:
        sizes.append(len(epochs))
        train(self, epochs, check)

    monkeypatch.setattr(stacking.Engine, "train", record)
    nets = [make_net(k) for k in range(7)]
    within(lambda: fit_stacked(((net, blobs.X, blobs.y) for net in nets), max_nets=max_nets))
    assert max(sizes) == largest
    assert sum(sizes) == 7 * 3
    assert all(is_close(net, fit_alone(k, blobs)) for k, net in enumerate(nets))


@pytest.mark.usefixtures("tidy")
def test_with_little_memory_one_net_at_a_time_is_trained(blobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    train = stacking.Engine.train

    def record(self: Any, epochs: Any, check: Any) -> None:
        sizes.append(len(epochs))
        train(self, epochs, check)

    monkeypatch.setattr(stacking.Engine, "train", record)
    used = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(_Gauge, "_read_used", lambda self: next(used))  # what is used only grows
    nets = [make_net(k) for k in range(4)]
    within(lambda: fit_stacked(((net, blobs.X, blobs.y) for net in nets), memory=1))
    assert max(sizes) == 1
    assert all(is_close(net, fit_alone(k, blobs)) for k, net in enumerate(nets))


@pytest.mark.usefixtures("tidy")
def test_searches_within_searches_end_with_little_memory(blobs: Any) -> None:
    search = GridSearchCV(make_net(), {"alpha": [0, 1]}, cv=2)

    def body() -> Any:
        with stacked(memory=1):
            return cross_val_score(search, blobs.X, blobs.y, cv=3)

    np.testing.assert_allclose(within(body), cross_val_score(search, blobs.X, blobs.y, cv=3))


@pytest.mark.parametrize(
    ("grown", "n_begun", "n_running", "memory", "has_room"),
    [
        (0, 1, 1, 1, True),
        (70, 1, 1, 201, True),  # the next may take another 70; 0.3 are reserved
        (70, 1, 1, 199, False),
        (210, 3, 1, 401, True),
        (210, 3, 2, 499, False),  # two that still grow
        (210, 3, 2, 501, True),
        (-50, 2, 1, 1, True),  # something else was freed
    ],
)
def test_room_is_what_the_tasks_have_taken_on_average(
    monkeypatch: pytest.MonkeyPatch, grown: int, n_begun: int, n_running: int, memory: int, has_room: bool
) -> None:
    used = [1000]
    monkeypatch.setattr(_Gauge, "_read_used", lambda self: used[0])
    gauge = _Gauge(memory, None, n_running)
    used[0] += grown
    assert gauge.has_room(n_begun) is has_room


def test_room_is_half_of_what_is_free() -> None:
    gauge = _Gauge(None, None, 1)
    assert 0.25 * gauge._read_free() < gauge.memory <= gauge._read_free()


def test_a_progress_bar_is_shown_on_demand(blobs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fit_stacked(((make_net(k), blobs.X, blobs.y) for k in range(3)), verbose=1)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.search(r"stacked.*9/9.*nets=3.*|nets=3", shown.err)
    assert re.search(r"epoch=3", shown.err)
    assert re.search(r"loss=\d", shown.err)
    fit_stacked((make_net(k), blobs.X, blobs.y) for k in range(3))
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("tidy")
def test_fit_times_are_shares(blobs: Any) -> None:
    search = GridSearchCV(make_net(max_epochs=20), {"alpha": [0, 0.5, 1]}, cv=5, refit=False)

    def body() -> tuple[float, float]:
        start = time.perf_counter()
        with stacked():
            search.fit(blobs.X, blobs.y)
        return time.perf_counter() - start, float(search.cv_results_["mean_fit_time"].sum() * 5)

    seconds, total = within(body)
    assert 0 < total <= 1.5 * torch.get_num_threads() * seconds
    assert total < 15 * seconds / 4


@pytest.mark.usefixtures("tidy")
def test_fit_times_of_nested_searches_are_shares(blobs: Any) -> None:
    search = GridSearchCV(make_net(max_epochs=10), {"alpha": [0, 1]}, cv=3)

    def body() -> tuple[float, float]:
        start = time.perf_counter()
        with stacked():
            times = cross_validate(search, blobs.X, blobs.y, cv=4)["fit_time"]
        return time.perf_counter() - start, float(times.sum())

    seconds, total = within(body)
    assert 0.2 * seconds < total <= 1.5 * torch.get_num_threads() * seconds


@pytest.mark.usefixtures("tidy")
def test_no_task_is_kept(blobs: Any) -> None:
    tasks = []

    def work(seed: int) -> Any:
        tasks.append(weakref.ref(find_task()))
        return make_net(seed).fit(blobs.X, blobs.y)

    def body() -> list[Any]:
        with stacked():
            return Parallel()(delayed(work)(seed) for seed in range(3))

    nets = within(body)
    gc.collect()
    assert len(nets) == len(tasks)
    assert [task() for task in tasks] == [None] * 3


# All at once.


class Jobs:
    """Random short jobs; each says what it is to return or to raise."""

    def __init__(self, seed: int, X: Any, y: Any) -> None:
        self.random, self.X, self.y = random.Random(seed), X, y
        self.cache: dict[Any, Any] = {}

    def draw(self) -> tuple[Callable[[], Any], Any]:
        kinds = [self.fit, self.fit, self.fit, self.search, self.plain, self.fail, self.fail_in_callback]
        return self.random.choice(kinds)()

    def make_net(self) -> MixupClassifier:
        pick = self.random.choice
        options = {"module__hidden_layer_sizes": pick([(), (4,), (6, 3)]), "module__dropout": pick([0, 0.5])}
        return make_net(pick([0, 1]), max_epochs=pick([1, 3]), alpha=pick([0, 1]), **options)

    def remember(self, make: Callable[[], Any], net: Any, what: str) -> Any:
        key = what, repr(sorted(net.get_params().items(), key=str))
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def fit(self) -> tuple[Callable[[], Any], Any]:
        net = self.make_net()

        def run() -> Any:
            return clone(net).fit(self.X, self.y).predict_proba(self.X)

        return run, self.remember(run, net, "fit")

    def search(self) -> tuple[Callable[[], Any], Any]:
        net = self.make_net()

        def run() -> Any:
            return cross_val_score(net, self.X, self.y, cv=2, scoring="neg_log_loss")

        return run, self.remember(run, net, "search")

    def plain(self) -> tuple[Callable[[], Any], Any]:
        seconds = self.random.random() * 0.01
        return lambda: (time.sleep(seconds), seconds)[1], seconds

    def fail(self) -> tuple[Callable[[], Any], Any]:
        error = self.random.choice([ValueError, OSError, Stop, SystemExit, KeyboardInterrupt])
        return lambda: raise_error(error), error

    def fail_in_callback(self) -> tuple[Callable[[], Any], Any]:
        error = self.random.choice([ValueError, OSError, Stop, SystemExit])
        net = self.make_net().set_params(max_epochs=3, callbacks=raising(error))
        return lambda: net.fit(self.X, self.y), error


def catch(run: Callable[[], Any]) -> Any:
    """Return what a job returns, or the class of what it raises."""
    try:
        return run()
    except (ValueError, OSError, Stop, SystemExit, KeyboardInterrupt) as error:
        return type(error)


@pytest.mark.slow
@pytest.mark.usefixtures("tidy", "impatient")
@pytest.mark.parametrize(("seed", "max_nets"), [(0, 256), (1, 4), (2, 1)])
def test_random_jobs_end_as_they_would_alone(blobs: Any, seed: int, max_nets: int) -> None:
    jobs = Jobs(seed, blobs.X, blobs.y)
    runs, expected = zip(*(jobs.draw() for _ in range(120)), strict=True)

    def body() -> list[Any]:
        with stacked(max_nets):
            return Parallel()(delayed(catch)(run) for run in runs)

    for got, wanted in zip(within(body), expected, strict=True):
        if isinstance(wanted, type):
            assert got is wanted
        else:
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("tidy", "impatient")
@pytest.mark.parametrize("seed", range(4))
def test_random_jobs_end_when_one_fails(blobs: Any, seed: int) -> None:
    jobs = Jobs(seed, blobs.X, blobs.y)
    runs, expected = zip(*(jobs.draw() for _ in range(40)), strict=True)
    errors = tuple({wanted for wanted in expected if isinstance(wanted, type)})

    def body() -> None:
        with stacked(8):
            Parallel()(delayed(run)() for run in runs)

    with pytest.raises(errors):
        within(body, 15.0)
