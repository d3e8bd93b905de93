"""Under stacked() all ends: with errors, interrupts, locks, slow tasks, and little memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import gc
import math
import multiprocessing
import os
from pathlib import Path
import random
import re
import signal
import sys
import threading
import time
from typing import Any
import warnings
import weakref

from joblib import Parallel, delayed, parallel_config
import numpy as np
import pytest
from sklearn import clone
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from skorch.callbacks import Callback
import torch

from sk_mixup import MixupClassifier, fit_stacked, stacked
from sk_mixup.stacking import StackedBackend
from sk_mixup.stacking._joblib_backend import Budget, find_memory
from sk_mixup.stacking._scheduler import find_task
from tests.helpers.nets import QUICK, get_weights, is_equal
from tests.helpers.timeouts import LIMIT, no_hang, within


def make_net(seed: int = 0, **options: Any) -> MixupClassifier:
    return MixupClassifier(**{**QUICK, "random_state": seed, **options})


def fit_single(seed: int, table: Any, **options: Any) -> dict[str, torch.Tensor]:
    return get_weights(make_net(seed, **options).fit(table.X, table.y))


def is_close(net: Any, weights: dict[str, torch.Tensor]) -> bool:
    own = get_weights(net)
    return all(torch.allclose(own[name], weights[name], rtol=1e-4, atol=1e-6) for name in weights)


def impatient(max_nets: int = 256) -> Any:
    """Stack nets, but wait for nobody who is busy."""
    return parallel_config(backend=StackedBackend(max_nets=max_nets, window=0.0), n_jobs=-1)


@pytest.fixture(scope="module", autouse=True)
def _warm(blobs: Any) -> None:
    """Let torch import what it imports late: some of it sets warning filters."""
    make_net(max_epochs=1, module__dropout=0.5).fit(blobs.X, blobs.y)


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    """Check that the process is afterwards what it was."""
    n_threads, filters, threads = torch.get_num_threads(), list(warnings.filters), threading.enumerate()
    yield
    assert torch.get_num_threads() == n_threads
    assert list(warnings.filters) == filters
    left = [thread.name for thread in threading.enumerate() if thread not in threads]
    assert [name for name in left if name.startswith("sk_mixup")] == []


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


def acting(act: Callable[[], Any], when: str = "on_epoch_end", epoch: int = 2) -> list[tuple[str, Any]]:
    return [("act", Act(act, when, epoch))]


def raising(error: type[BaseException], when: str = "on_epoch_end") -> list[tuple[str, Any]]:
    return acting(lambda: raise_error(error), when)


# Errors of one task.


@pytest.mark.parametrize("when", ["on_epoch_begin", "on_epoch_end", "on_train_end"])
def test_the_first_error_is_raised_after_all_others_have_ended(blobs: Any, when: str) -> None:
    epoch = 3 if when == "on_train_end" else 2
    nets = [make_net(seed) for seed in range(6)]
    for k, error in ((2, KeyError), (4, OSError)):
        nets[k].set_params(callbacks=acting(lambda error=error: raise_error(error), when, epoch))
    with pytest.raises(KeyError, match="on purpose") as caught:
        within(lambda: fit_stacked((net, blobs.X, blobs.y) for net in nets))
    assert caught.value.__notes__ == ["raised by the fit of job 2"]
    for seed in (0, 1, 3, 5):
        assert is_close(nets[seed], fit_single(seed, blobs))


@pytest.mark.parametrize("error", [ValueError, SystemExit, Stop, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("nested", [False, True])
def test_an_error_of_a_task_ends_the_call(blobs: Any, error: type[BaseException], nested: bool) -> None:
    """Also where other tasks are in searches of their own."""
    trains = threading.Event()

    def fail() -> None:
        assert trains.wait(LIMIT)
        raise_error(error)

    def fit() -> Any:
        net = make_net(max_epochs=100_000, callbacks=acting(lambda: trains.set()))
        if nested:
            return cross_val_score(net, blobs.X, blobs.y, cv=3)
        return net.fit(blobs.X, blobs.y)

    def body() -> None:
        with impatient():
            Parallel()(delayed(task)() for task in [fit, fail, fit])

    with pytest.raises(error, match="on purpose"):
        within(body)


@pytest.mark.parametrize("when", ["on_epoch_begin", "on_epoch_end"])
def test_an_interrupt_by_a_callback_stops_its_net_only(blobs: Any, when: str) -> None:
    """As in skorch, where it is the way to stop a training."""
    nets = [make_net(seed, max_epochs=4) for seed in range(3)]
    nets[1].set_params(callbacks=raising(KeyboardInterrupt, when))
    within(lambda: fit_stacked((net, blobs.X, blobs.y) for net in nets))
    assert [len(net.history) for net in nets] == [4, 2, 4]
    for seed in (0, 2):
        assert is_close(nets[seed], fit_single(seed, blobs, max_epochs=4))


# Interrupts.


@contextmanager
def pressing() -> Iterator[Callable[[], None]]:
    """Give what presses Ctrl-C, once."""
    main, pressed = threading.get_ident(), threading.Event()

    def press() -> None:
        if not pressed.is_set():
            pressed.set()
            signal.pthread_kill(main, signal.SIGINT)

    def notice(unraisable: Any) -> None:
        """Press again: Python drops what is raised while it tells weak references of an end."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            signal.pthread_kill(main, signal.SIGINT)
        else:
            hook(unraisable)

    hook, sys.unraisablehook = sys.unraisablehook, notice
    # A shell starts its background jobs with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with no_hang():
            yield press
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook


def train_flat(net: Any, X: Any, y: Any) -> None:
    GridSearchCV(net, {"alpha": [0, 1]}, cv=3).fit(X, y)


def train_nested(net: Any, X: Any, y: Any) -> None:
    cross_validate(GridSearchCV(net, {"alpha": [0, 1]}, cv=2), X, y, cv=2)


def train_in_sections(net: Any, X: Any, y: Any) -> None:
    class Watched(MixupClassifier):
        def on_batch_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
            """A hook round each batch."""

    cross_val_score(Watched(**net.get_params(deep=False)), X, y, cv=3)


@pytest.mark.parametrize("train", [train_flat, train_nested, train_in_sections])
@pytest.mark.filterwarnings("ignore:stacked")
def test_ctrl_c_ends_the_training(blobs: Any, train: Callable[..., None]) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"^$"), pressing() as press, stacked():
        train(make_net(max_epochs=100_000, callbacks=acting(press)), blobs.X, blobs.y)
    nets = within(lambda: fit_stacked((make_net(k), blobs.X, blobs.y) for k in (3, 4)))
    assert is_close(nets[0], fit_single(3, blobs))


def test_ctrl_c_ends_plain_tasks() -> None:
    begun: list[int] = []

    def work(k: int, press: Callable[[], None]) -> None:
        begun.append(k)
        press()
        task = find_task()
        with task.scheduler.changed:
            assert task.scheduler.changed.wait_for(task.call.is_aborted, LIMIT)

    with pytest.raises(KeyboardInterrupt, match=r"^$"), pressing() as press, stacked():
        Parallel()(delayed(work)(k, press) for k in range(1000))
    assert len(begun) < 1000


@pytest.mark.parametrize("nested", [False, True])
def test_a_timeout_ends_the_training(blobs: Any, nested: bool) -> None:
    net = make_net(max_epochs=100_000)

    def train() -> None:
        (train_flat(net, blobs.X, blobs.y) if nested else clone(net).fit(blobs.X, blobs.y))

    def body() -> None:
        with stacked():
            Parallel(timeout=0.1)(delayed(train)() for _ in range(3))

    with pytest.raises(multiprocessing.TimeoutError):
        within(body)


@pytest.mark.slow
@pytest.mark.parametrize("max_nets", [1, 2, 8])
def test_a_task_may_train_while_it_consumes_a_generator(blobs: Any, max_nets: int) -> None:
    def work() -> list[float]:
        scores: list[float] = []
        tasks = (delayed(make_net(k).fit)(blobs.X, blobs.y) for k in range(3))
        for net in Parallel(return_as="generator")(tasks):
            scores.extend(cross_val_score(net, blobs.X, blobs.y, cv=2))
        return scores

    def body() -> list[Any]:
        with stacked(max_nets):
            return Parallel()(delayed(work)() for _ in range(2))

    single = np.concatenate([cross_val_score(make_net(k), blobs.X, blobs.y, cv=2) for k in range(3)])
    for scores in within(body):
        np.testing.assert_allclose(scores, single)


# Tasks that do not (only) train.


def test_a_lock_round_each_fit(blobs: Any) -> None:
    lock = threading.Lock()

    def fit(seed: int) -> Any:
        with lock:
            return make_net(seed).fit(blobs.X, blobs.y)

    def body() -> list[Any]:
        with impatient():
            return Parallel()(delayed(fit)(seed) for seed in range(4))

    assert all(is_close(net, fit_single(seed, blobs)) for seed, net in enumerate(within(body)))


@pytest.mark.parametrize("max_nets", [1, 2, 64])
def test_a_lock_round_several_searches(blobs: Any, max_nets: int) -> None:
    lock = threading.Lock()

    def search() -> float:
        with lock:
            return sum(cross_val_score(make_net(k), blobs.X, blobs.y, cv=2).sum() for k in range(2))

    def body() -> list[float]:
        with impatient(max_nets):
            return Parallel()(delayed(search)() for _ in range(4))

    scores = within(body)
    assert np.ptp(scores) < 1e-9


def test_nets_do_not_wait_for_slow_tasks(blobs: Any) -> None:
    trained = threading.Event()

    def fit() -> Any:
        net = make_net().fit(blobs.X, blobs.y)
        trained.set()
        return net

    def body() -> list[Any]:
        with impatient():
            return Parallel()(delayed(task)() for task in [lambda: trained.wait(LIMIT), fit])

    waited, net = within(body)
    assert waited is True
    assert is_close(net, fit_single(0, blobs))


@pytest.mark.parametrize("when", ["on_epoch_end", "on_train_end"])
def test_callbacks_may_fit_nets(blobs: Any, when: str) -> None:
    inner: list[Any] = []

    def train() -> None:
        inner.append(make_net(7).fit(blobs.X, blobs.y))
        cross_val_score(make_net(8), blobs.X, blobs.y, cv=2)

    nets = [make_net(k, callbacks=acting(train, when, epoch=3)) for k in range(3)]
    within(lambda: fit_stacked((net, blobs.X, blobs.y) for net in nets))
    assert all(is_close(net, fit_single(k, blobs)) for k, net in enumerate(nets))
    assert [is_close(net, fit_single(7, blobs)) for net in inner] == [True] * 3


@pytest.mark.filterwarnings("ignore:stacked")
@pytest.mark.parametrize("max_nets", [1, 8])
def test_batch_hooks_may_fit_nets(blobs: Any, max_nets: int) -> None:
    """They are called within the net's exclusive section."""
    scores: list[Any] = []

    class Busy(Callback):
        def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
            if training and len(net.history) == 1 and len(net.history[-1]["batches"]) == 1:
                scores.append(cross_val_score(make_net(1, max_epochs=1), blobs.X, blobs.y, cv=2))

    nets = [make_net(k, max_epochs=2, callbacks=[("busy", Busy())]) for k in range(3)]
    within(lambda: fit_stacked(((net, blobs.X, blobs.y) for net in nets), max_nets=max_nets))
    assert all(is_close(net, fit_single(k, blobs, max_epochs=2)) for k, net in enumerate(nets))
    expected = cross_val_score(make_net(1, max_epochs=1), blobs.X, blobs.y, cv=2)
    np.testing.assert_allclose(scores, [expected] * 3)


# One within the other, and side by side.


def test_a_fit_outside_of_tasks_is_an_ordinary_one(blobs: Any) -> None:
    net, before = make_net(), threading.active_count()
    with stacked():
        net.fit(blobs.X, blobs.y)
        assert threading.active_count() == before
        assert find_task() is None
    assert is_equal(get_weights(net), fit_single(0, blobs))


@pytest.fixture(params=[1, 2])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


def test_two_threads_may_stack_at_once(blobs: Any, n_threads: int) -> None:
    results: dict[int, Any] = {}
    begun = [threading.Event(), threading.Event()]

    def work(name: int) -> None:
        torch.set_num_threads(n_threads)

        def meet() -> None:
            begun[name].set()
            assert begun[1].wait(LIMIT)

        for _ in range(2 + name):
            with stacked():
                scores = cross_val_score(make_net(name, callbacks=acting(meet)), blobs.X, blobs.y, cv=2)
        results[name] = [torch.get_num_threads(), *scores]

    def body() -> None:
        threads = [threading.Thread(target=work, args=(name,), daemon=True) for name in range(2)]
        threads[0].start()
        assert begun[0].wait(LIMIT)  # neither begins nor ends with the other
        threads[1].start()
        for thread in threads:
            thread.join()

    within(body)
    for name in range(2):
        single = cross_val_score(make_net(name), blobs.X, blobs.y, cv=2)
        np.testing.assert_allclose(results[name], [n_threads, *single])
    # Also in a new thread, for which torch counts anew.
    assert [torch.get_num_threads(), within(torch.get_num_threads)] == [n_threads] * 2


@pytest.mark.parametrize("fails", [False, True])
def test_the_number_of_threads_is_given_back(fails: bool) -> None:
    seen: list[int] = []

    def work() -> None:
        seen.append(torch.get_num_threads())
        if fails:
            raise_error(ValueError)

    torch.set_num_threads(2)
    try:
        with stacked():
            if fails:
                with pytest.raises(ValueError, match="on purpose"):
                    Parallel()([delayed(work)()])
            else:
                Parallel()([delayed(work)()])
        assert [*seen, torch.get_num_threads()] == [1, 2]
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
OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
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
    ({"window": -1}, ValueError, r"window must be at least 0; got -1\. Give seconds"),
    ({"window": math.nan}, ValueError, r"window must be at least 0; got nan\."),
    ({"window": None}, TypeError, r"window must be a real number; got None\."),
    ({"device": "cudda"}, ValueError, r"device must be one that torch finds here; got 'cudda'"),
    ({"device": "cuda:99"}, ValueError, r"device must be one that torch finds here; got 'cuda:99'"),
    ({"device": 3.5}, ValueError, r"device must be one that torch finds here; got 3\.5"),
    ({"devise": "cpu"}, TypeError, r"devise"),
]


@pytest.mark.parametrize(("jobs", "error", "match"), JOBS, ids=[row[0] for row in JOBS])
def test_bad_jobs_are_refused(blobs: Any, jobs: str, error: type[Exception], match: str) -> None:
    names = {"net": make_net(), "X": blobs.X, "y": blobs.y}
    with pytest.raises(error, match=match):
        within(lambda: fit_stacked(eval(jobs, names)))
    assert not names["net"].initialized_


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


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_nets_return_to_their_own_device(blobs: Any, device: Any) -> None:
    nets = [make_net(k) for k in range(3)]
    within(lambda: fit_stacked(((net, blobs.X, blobs.y) for net in nets), device=device))
    for k, net in enumerate(nets):
        assert net.device == "cpu"
        assert is_close(net, fit_single(k, blobs))


# Memory, progress and times.


def test_a_budget_is_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert find_memory(None) == find_memory("cpu") == total // 2
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: {"cuda:1": (600, 1000)}[str(device)])
    assert find_memory("cuda:1") == find_memory(torch.device("cuda:1")) == 300


@pytest.mark.parametrize(
    ("memory", "devices", "expected"), [(1000, ("cpu",), 0.6), (1000, ("cpu", "cuda"), 0.3), (None, (), 0.3)]
)
def test_growth_is_a_share_of_the_memory_of_the_host(
    memory: int | None, devices: tuple[str, ...], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 40, "SC_PAGE_SIZE": 100}[name])
    held = iter([700, 1000])
    budget = Budget(memory, lambda: next(held))
    budget.found.update({torch.device(device): 5.0 for device in devices})
    assert budget.read_growth() == pytest.approx(expected)  # half is left to training and scoring


def test_a_budget_tells_what_the_process_holds() -> None:
    budget = Budget(2**30)
    before = budget.read_growth()
    held = torch.ones(2**26)
    assert budget.read_growth() - before == pytest.approx(0.5, rel=0.05)
    del held


def test_pages_of_a_file_are_not_what_the_process_holds(tmp_path: Path) -> None:
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (2**25,)).flush()
    budget = Budget(2**28)
    before = budget.read_growth()
    assert np.load(tmp_path / "x.npy", mmap_mode="r").sum() == 0
    assert budget.read_growth() - before < 0.2


def test_a_progress_bar_is_shown_on_demand(blobs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fit_stacked(((make_net(k), blobs.X, blobs.y) for k in range(3)), verbose=1, window=math.inf)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.search(r"stacked: 100%.* 9/9 .*epoch=3, loss=\d.*, nets=3\]", shown.err)
    fit_stacked((make_net(k), blobs.X, blobs.y) for k in range(3))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("nested", [False, True])
def test_fit_times_are_shares_of_the_time(blobs: Any, nested: bool) -> None:
    """They add up to no more than the time that has passed: with one thread, nothing is done twice."""
    net = GridSearchCV(make_net(), {"alpha": [0, 1]}, cv=2) if nested else make_net()

    def body() -> tuple[float, Any]:
        start = time.time()
        with stacked():
            times = cross_validate(net, blobs.X, blobs.y, cv=6)["fit_time"]
        return time.time() - start, times

    seconds, times = within(body)
    assert (times > 0).all()
    assert times.sum() <= seconds


def test_no_task_is_kept(blobs: Any) -> None:
    tasks: list[Any] = []

    def work(seed: int) -> Any:
        tasks.append(weakref.ref(find_task()))  # type: ignore[arg-type]
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
        kinds = [self.fit, self.fit, self.fit, self.search, self.fail, self.fail_in_callback]
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
@pytest.mark.parametrize(("seed", "max_nets"), [(0, 256), (1, 4), (2, 1)])
def test_random_jobs_end_as_they_would_singly(blobs: Any, seed: int, max_nets: int) -> None:
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


@pytest.mark.parametrize("seed", range(2))
def test_random_jobs_end_when_one_fails(blobs: Any, seed: int) -> None:
    jobs = Jobs(seed, blobs.X, blobs.y)
    runs, expected = zip(*(jobs.draw() for _ in range(40)), strict=True)
    errors = tuple({wanted for wanted in expected if isinstance(wanted, type)})

    def body() -> None:
        with impatient(8):
            Parallel()(delayed(run)() for run in runs)

    with pytest.raises(errors, match="on purpose"):
        within(body)
