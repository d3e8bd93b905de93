"""The scheduler by itself: who runs when, what is served together, and that nobody waits forever."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import math
import random
import sys
import threading
from typing import Any

import pytest

from sk_mixup.stacking._scheduler import Aborted, Call, Scheduler, Task, find_task, rejoin_scheduler
from tests.helpers.timeouts import LIMIT, within


class Request:
    """What a task asks for; `value` says who asked."""

    def __init__(self, value: Any = None, seconds: float = 0.0) -> None:
        self.value, self.seconds = value, seconds
        self.error: BaseException | None = None
        self.n_served = 0
        self.n_single = 0

    def run_single(self) -> None:
        self.n_single += 1


class Server:
    """Serves requests, and keeps the values of those that it served at once."""

    def __init__(self, before: Callable[[list[Any], Callable[[], None]], None] | None = None) -> None:
        self.before = before
        self.served: list[list[Any]] = []

    def __call__(self, requests: Sequence[Request], check: Callable[[], None]) -> None:
        values = [request.value for request in requests]
        if self.before is not None and requests:
            self.before(values, check)
        for request in requests:
            request.n_served += 1
        if requests:
            self.served.append(values)


class Gauge:
    """Counts who is inside, and the most that ever were."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            yield
        finally:
            with self.lock:
                self.now -= 1


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def move(self, scheduler: Scheduler, seconds: float) -> None:
        self.now += seconds
        with scheduler.changed:
            scheduler.changed.notify_all()


def make_scheduler(serve: Any = None, n_tasks: int = 64, n_running: int = 4, **options: Any) -> Scheduler:
    """Return a scheduler whose time stands still: all tasks are waited for."""
    options = {"clock": Clock(), **options}
    return Scheduler(serve or Server(), n_tasks=n_tasks, n_running=n_running, **options)


def ask(value: Any = None, seconds: float = 0.0) -> Any:
    request: Any = Request(value, seconds)
    get_task().ask(request)
    return request


def get_task() -> Task:
    task = find_task()
    assert task is not None
    return task


def start(scheduler: Scheduler, functions: Sequence[Callable[[], Any]]) -> tuple[Call, dict[int, Any]]:
    """Open a call; return it with what its tasks will have returned or raised."""
    outcomes: dict[int, Any] = {}
    call = scheduler.open_call(find_task())
    for number, function in enumerate(functions):

        def deliver(task: Task, result: Any, error: Any, number: int = number) -> None:
            outcomes[number] = result if error is None else error

        scheduler.submit(call, function, deliver)
    return call, outcomes


def run(scheduler: Scheduler, functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run a call to its end; `Aborted` for a task that was dropped."""
    call, outcomes = start(scheduler, functions)
    scheduler.close_call(call)
    return [outcomes[number] for number in range(len(functions))]


def run_all(functions: Sequence[Callable[[], Any]], serve: Any = None, **options: Any) -> list[Any]:
    """Run a call in a scheduler of its own."""
    return run_in(lambda scheduler: functions, make_scheduler(serve, **options))


def run_in(make: Callable[[Scheduler], Sequence[Callable[[], Any]]], scheduler: Scheduler) -> list[Any]:
    """Run functions that know their scheduler, and close it."""

    def body() -> list[Any]:
        outcomes = run(scheduler, make(scheduler))
        scheduler.close()
        return outcomes

    return within(body)


@pytest.fixture
def rapid() -> Iterator[None]:
    """Let threads be switched as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


# What is served together.


@pytest.mark.parametrize("n", [1, 5])
def test_requests_of_all_are_served_at_once_in_the_order_of_the_tasks(n: int) -> None:
    came = [[threading.Event() for _ in range(n + 1)] for _ in range(3)]

    def work(k: int) -> None:
        for events in came:
            events[-1].set()
            assert events[k + 1].wait(LIMIT)  # the last asks first
            events[k].set()
            ask(k)

    server = Server()
    run_all([lambda k=k: work(k) for k in range(n)], server, n_running=n)
    assert server.served == [list(range(n))] * 3


@pytest.mark.usefixtures("rapid")
@pytest.mark.parametrize("n_running", [1, 2, 8])
def test_nothing_is_served_while_a_task_runs(n_running: int) -> None:
    busy, seen, server = Gauge(), [], Server()
    server.before = lambda *_: seen.append(busy.now)

    def work(k: int) -> None:
        for _ in range(5):
            with busy.inside():
                sum(range(1000 * k))
            ask(k)

    run_all([lambda k=k: work(k) for k in range(6)], server, n_running=n_running)
    assert seen == [0] * 5
    assert server.served == [list(range(6))] * 5


@pytest.mark.usefixtures("rapid")
@pytest.mark.parametrize(("n_tasks", "n_running"), [(1, 1), (1, 4), (3, 1), (3, 2), (8, 3)])
def test_few_tasks_are_begun_and_fewer_run_at_a_time(n_tasks: int, n_running: int) -> None:
    begun, running = Gauge(), Gauge()

    def work(k: int) -> int:
        with begun.inside():
            for _ in range(2):
                with running.inside():
                    sum(range(1000))
                ask(k)
        return k

    server = Server()
    functions = [lambda k=k: work(k) for k in range(12)]
    assert run_all(functions, server, n_tasks=n_tasks, n_running=n_running) == list(range(12))
    assert begun.most == n_tasks
    assert running.most <= n_running
    assert max(map(len, server.served)) == n_tasks


@pytest.mark.parametrize(("memory", "most"), [(1, 1), (19, 1), (20, 2), (59, 5), (1000, 6)])
def test_as_many_tasks_are_begun_as_have_room(memory: int, most: int) -> None:
    server = Server()
    options = {"memory": memory, "measure": lambda request: request.value}
    run_all([lambda k=k: ask(k) for k in (10, 5, 9, 8, 10, 3)], server, n_running=1, **options)
    assert max(map(len, server.served)) == most


@pytest.mark.parametrize(
    ("memory", "sizes"), [(1, [1] * 6), (19, [1] * 6), (20, [2, 2, 2]), (59, [5, 1]), (1000, [6])]
)
def test_no_more_tasks_are_begun_than_what_they_hold_has_room_for(memory: int, sizes: list[int]) -> None:
    server, begun = Server(), Gauge()

    def work(k: int) -> None:
        with begun.inside():
            ask(k)

    # A process keeps what the tasks held that have ended: that tells no more of what one holds.
    options = {"memory": memory, "read_growth": lambda: 10 * begun.most}
    run_all([lambda k=k: work(k) for k in range(6)], server, n_running=1, **options)
    assert [len(served) for served in server.served] == sizes


def test_a_task_that_fails_at_once_says_nothing_of_what_others_hold() -> None:
    server, begun = Server(), Gauge()

    def work(k: int) -> None:
        with begun.inside():
            ask(k)

    def fail() -> None:
        raise ValueError("at once")

    options = {"memory": 20, "read_growth": lambda: 10 * begun.most}
    run_all([fail, *[lambda k=k: work(k) for k in range(6)]], server, n_running=1, **options)
    assert [len(served) for served in server.served] == [2, 2, 2]


def test_tasks_without_requests_are_run() -> None:
    assert run_all([lambda k=k: k * k for k in range(40)], n_tasks=3) == [k * k for k in range(40)]
    assert run_all([]) == []


def test_the_task_of_a_thread_is_found_there_only() -> None:
    assert find_task() is None
    assert len(set(run_all([find_task] * 3))) == 3
    assert find_task() is None


def test_tasks_wait_for_a_thread_where_the_system_has_none_left(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, start_thread = Gauge(), threading.Thread.start

    def start_few(thread: threading.Thread) -> None:
        if thread.name == "sk_mixup-task" and begun.now == 2:
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    def work(k: int) -> int:
        with begun.inside():
            ask(k)
        return k

    monkeypatch.setattr(threading.Thread, "start", start_few)
    assert run_all([lambda k=k: work(k) for k in range(7)], n_running=1) == list(range(7))
    assert begun.most == 2


def test_news_is_told_once() -> None:
    scheduler = make_scheduler()
    assert [scheduler.is_news(message) for message in "aabab"] == [True, False, True, False, False]
    within(scheduler.close)


# Errors.


def test_errors_of_tasks_are_delivered_and_the_others_go_on() -> None:
    def work(k: int) -> int:
        ask(k)
        if k % 2:
            raise [ValueError, KeyboardInterrupt, SystemExit][k % 3](str(k))
        ask(k)
        return k

    outcomes = run_all([lambda k=k: work(k) for k in range(6)])
    assert outcomes[::2] == [0, 2, 4]
    assert [type(error) for error in outcomes[1::2]] == [KeyboardInterrupt, ValueError, SystemExit]


@pytest.mark.parametrize("error", [ValueError, MemoryError, KeyboardInterrupt, SystemExit])
def test_an_error_of_the_server_reaches_every_task_which_may_ask_again(error: type[BaseException]) -> None:
    def fail_once(values: list[Any], check: Any) -> None:
        if values[0] == "bad":
            raise error("no service")

    def work() -> int:
        with pytest.raises(error, match="no service"):
            ask("bad")
        return ask("good").n_served

    assert run_all([work] * 3, Server(fail_once)) == [1, 1, 1]


def test_an_error_in_one_request_is_raised_in_its_task_only() -> None:
    def serve(requests: Sequence[Request], check: Any) -> None:
        requests[1].error = ValueError("mine")

    outcomes = run_all([ask] * 3, serve)
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == [False, True, False]


def test_an_error_in_the_delivery_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    scheduler, done = make_scheduler(), []

    def deliver(task: Task, result: Any, error: Any) -> None:
        if result == 1:
            raise ValueError("not delivered")
        done.append(result)

    def body() -> None:
        call = scheduler.open_call(None)
        for k in range(4):
            scheduler.submit(call, lambda k=k: (ask(k), k)[1], deliver)
        scheduler.close_call(call)
        scheduler.close()

    within(body)
    assert sorted(done) == [0, 2, 3]
    assert [str(info.exc_value) for info in failed] == ["not delivered"]


def test_a_delivery_may_submit_the_next_task() -> None:
    scheduler, done = make_scheduler(n_tasks=2), []

    def submit(call: Call, k: int) -> None:
        def deliver(task: Task, result: Any, error: Any) -> None:
            done.append(result)
            if k + 3 < 30:
                submit(call, k + 3)

        scheduler.submit(call, lambda: ask(k).value, deliver)

    def body() -> None:
        call = scheduler.open_call(None)
        for k in range(3):
            submit(call, k)
        scheduler.close_call(call)
        scheduler.close()

    within(body)
    assert sorted(done) == list(range(30))


# Calls within tasks.


@pytest.mark.parametrize("n_tasks", [1, 2, 3, 64])
@pytest.mark.parametrize("depth", [1, 3])
def test_nested_calls_end_with_fewer_tasks_allowed_than_wait(n_tasks: int, depth: int) -> None:
    server = Server()
    scheduler = make_scheduler(server, n_tasks=n_tasks, n_running=2)

    def work(level: int) -> int:
        ask(level)
        count = 1 if level == depth else sum(run(scheduler, [lambda: work(level + 1)] * 3))
        ask(level)
        return count

    assert sum(run_in(lambda _: [lambda: work(0)] * 4, scheduler)) == 4 * 3**depth
    assert sum(map(len, server.served)) == 2 * sum(4 * 3**level for level in range(depth + 1))
    assert max(map(len, server.served)) <= max(n_tasks, 4 * 3**depth if n_tasks == 64 else 0)


def test_tasks_of_inner_calls_are_begun_first() -> None:
    begun: list[Any] = []

    def outer(scheduler: Scheduler, k: int) -> None:
        begun.append(k)
        run(scheduler, [lambda: begun.append((k, 0)), lambda: begun.append((k, 1))])

    scheduler = make_scheduler(n_tasks=1, n_running=1)
    run_in(lambda _: [lambda k=k: outer(scheduler, k) for k in range(3)], scheduler)
    assert begun == [entry for k in range(3) for entry in (k, (k, 0), (k, 1))]


def test_requests_of_all_depths_are_served_together() -> None:
    scheduler = make_scheduler(server := Server())

    def outer() -> None:
        run(scheduler, [lambda: ask("inner"), lambda: ask("inner")])
        ask("after")

    run_in(lambda _: [outer, lambda: ask("outer"), outer], scheduler)
    assert [sorted(values) for values in server.served] == [["inner"] * 4 + ["outer"], ["after"] * 2]


# Calls that are aborted.


def wait_for_section() -> None:
    with get_task().exclusive_section():
        pytest.fail("began though its call was aborted")


def run_and_abort(functions: Sequence[Callable[[], Any]], served: list[Any], **options: Any) -> list[Any]:
    """Abort a call once its first requests are being served."""

    def abort(values: list[Any], check: Callable[[], None]) -> None:
        served.append(values)
        scheduler.abort(scheduler.calls[0])
        check()

    scheduler = make_scheduler(Server(abort), **options)
    return run_in(lambda _: functions, scheduler)


@pytest.mark.parametrize("wait", [ask, wait_for_section])
def test_tasks_of_a_call_that_is_aborted_end(wait: Callable[[], Any]) -> None:
    raised, served, begun = [], [], []

    def work(wait: Callable[[], Any]) -> None:
        begun.append(wait)
        try:
            wait()
        except Exception:
            raised.append("Exception")
        except BaseException as error:
            raised.append(type(error))
            raise

    functions = [lambda: work(ask), *[lambda: work(wait)] * 9]
    outcomes = run_and_abort(functions, served, n_tasks=4)
    assert [type(outcome) for outcome in outcomes] == [Aborted] * 10
    assert raised == [Aborted] * 4
    assert len(begun) == 4  # the queued ones never began
    assert len(served) == 1


def test_a_task_that_holds_on_is_aborted_at_each_request() -> None:
    count, served = [], []

    def hold_on() -> str:
        for _ in range(5):
            with pytest.raises(Aborted, match=r"^$"):
                ask()
            count.append(1)
        return "ended"

    assert run_and_abort([hold_on] * 2, served) == ["ended"] * 2
    assert len(count) == 10


def test_tasks_submitted_to_a_call_that_is_aborted_are_dropped() -> None:
    scheduler, begun, told = make_scheduler(), [], []

    def body() -> None:
        call = scheduler.open_call(None)
        scheduler.abort(call)
        scheduler.submit(call, lambda: begun.append(1), lambda *outcome: told.append(outcome[2]))
        scheduler.close_call(call)
        scheduler.close()

    within(body)
    assert begun == []
    assert [type(error) for error in told] == [Aborted]


def test_requests_of_others_are_gone_on_with_when_an_inner_call_is_aborted_meanwhile() -> None:
    attempts: list[list[Any]] = []

    def serve(requests: Sequence[Request], check: Callable[[], None]) -> None:
        attempts.append(sorted(request.value for request in requests))
        if len(attempts) == 1:
            scheduler.abort(scheduler.calls[1])
        check()
        for request in requests:
            request.n_served += 1

    scheduler = make_scheduler(serve)

    def own() -> int:
        (outcome,) = run(scheduler, [lambda: ask("inner")])
        assert isinstance(outcome, Aborted)
        return ask("owner").n_served

    functions = [lambda: ask("first").n_served, own, lambda: ask("last").n_served]
    assert run_in(lambda _: functions, scheduler) == [1, 1, 1]
    assert attempts == [["first", "inner", "last"], ["first", "last"], ["owner"]]


# Exclusive sections.


@pytest.mark.usefixtures("rapid")
def test_nobody_else_runs_and_nothing_is_served_in_a_section() -> None:
    section, others, clashes = Gauge(), Gauge(), []

    def work(k: int) -> None:
        for step in range(4):
            if (k + step) % 2:
                with get_task().exclusive_section(), section.inside():
                    sum(range(1000))
                    clashes.append(others.now)
            with others.inside():
                sum(range(1000))
                clashes.append(section.now)
            ask(k)

    run_all([lambda k=k: work(k) for k in range(6)], Server(lambda *_: clashes.append(section.now)))
    assert section.most == 1
    assert max(clashes) == 0


def test_a_section_within_a_section_goes_on_and_its_requests_are_run_singly() -> None:
    def work() -> tuple[int, int]:
        with get_task().exclusive_section(), get_task().exclusive_section():
            request = ask()
        return request.n_single, ask().n_served

    server = Server()
    assert run_all([work] * 3, server) == [(1, 1)] * 3
    assert [len(values) for values in server.served] == [3]


def test_an_error_ends_a_section() -> None:
    def work(fails: bool) -> str:
        with get_task().exclusive_section():
            if fails:
                raise ValueError
            return "done"

    outcomes = run_all([lambda k=k: work(k % 2 == 0) for k in range(4)])
    assert [type(outcome) for outcome in outcomes] == [ValueError, str] * 2


def test_a_section_is_kept_to_its_end_when_its_call_is_aborted() -> None:
    section, reached = Gauge(), []
    scheduler = make_scheduler()

    def inner() -> None:
        with get_task().exclusive_section(), section.inside():
            scheduler.abort(get_task().call)
            reached.append("end of section")

    def other() -> str:
        for _ in range(3):
            with get_task().exclusive_section(), section.inside():
                ask()
            ask()
        return "other"

    functions = [lambda: [type(outcome) for outcome in run(scheduler, [inner] * 3)], other, other]
    assert run_in(lambda _: functions, scheduler) == [[type(None), Aborted, Aborted], "other", "other"]
    assert section.most == 1
    assert reached == ["end of section"]


# The window.


@pytest.mark.parametrize("n_running", [1, 2, 8])
@pytest.mark.parametrize("n_tasks", [1, 3, 64])
def test_a_lock_may_be_held_over_requests_sections_and_calls(n_running: int, n_tasks: int) -> None:
    lock = threading.Lock()
    scheduler = make_scheduler(n_running=n_running, n_tasks=n_tasks, window=0.0)

    def work() -> int:
        with lock:
            count = ask().n_served
            with get_task().exclusive_section():
                count += ask().n_single
            for _ in range(2):
                count += sum(run(scheduler, [lambda: ask().n_served] * 2))
            return count

    assert run_in(lambda _: [work] * 5, scheduler) == [6] * 5


def wait_until_asked(scheduler: Scheduler, values: set[Any]) -> None:
    """Wait until requests of these values wait to be served."""
    with scheduler.changed:
        assert scheduler.changed.wait_for(lambda: {t.epoch.value for t in scheduler.asking} >= values, LIMIT)  # type: ignore[union-attr]


def test_a_busy_task_is_waited_for_until_the_window_is_over_and_once_only() -> None:
    clock, server, trained = Clock(), Server(), threading.Event()
    scheduler = make_scheduler(server, clock=clock, window=2.0)

    def busy() -> None:
        wait_until_asked(scheduler, {"quick"})
        clock.move(scheduler, 1.9)
        assert server.served == []
        clock.move(scheduler, 0.1)
        assert trained.wait(LIMIT)  # the clock stands still: the others are served without it
        for _ in range(2):
            ask("busy")

    def quick() -> None:
        for _ in range(20):
            ask("quick")
        trained.set()
        wait_until_asked(scheduler, {"busy"})
        ask("quick")

    run_in(lambda _: [busy, quick], scheduler)
    assert server.served == [["quick"]] * 20 + [["busy", "quick"], ["busy"]]  # it is waited for again


def test_each_that_comes_begins_the_window_anew() -> None:
    clock, server = Clock(), Server()
    scheduler = make_scheduler(server, clock=clock, window=2.0)

    def work(k: int) -> None:
        wait_until_asked(scheduler, set(range(k)))
        clock.move(scheduler, 1.5)  # in all longer than the window
        ask(k)

    run_in(lambda _: [lambda k=k: work(k) for k in range(4)], scheduler)
    assert server.served == [[0, 1, 2, 3]]


def test_late_tasks_do_not_keep_others_from_beginning() -> None:
    come = threading.Barrier(5)
    assert sorted(run_all([lambda: come.wait(LIMIT)] * 5, n_running=1, window=0.0)) == list(range(5))


def test_a_late_task_rejoins_when_no_section_is_under_way() -> None:
    scheduler = make_scheduler(window=0.0)
    in_section, calls, section = threading.Event(), threading.Event(), Gauge()
    seen: list[int] = []

    def late() -> None:
        assert in_section.wait(LIMIT)
        calls.set()
        rejoin_scheduler()
        seen.append(section.now)

    def own() -> None:
        with get_task().exclusive_section(), section.inside():
            in_section.set()
            assert calls.wait(LIMIT)
            with scheduler.changed:
                assert scheduler.changed.wait_for(lambda: scheduler.ready, LIMIT)

    run_in(lambda _: [late, own], scheduler)
    assert seen == [0]


def test_the_call_from_outside_is_waited_for_while_it_submits() -> None:
    scheduler = make_scheduler(server := Server())

    def body() -> None:
        call = scheduler.open_call(None)
        for k in range(5):
            scheduler.submit(call, lambda k=k: ask(k), lambda *_: None)
            wait_until_asked(scheduler, set(range(k)) if k else set())
        scheduler.close_call(call)
        scheduler.close()

    within(body)
    assert server.served == [list(range(5))]


def test_a_call_from_outside_that_takes_its_time_is_not_waited_for() -> None:
    scheduler = make_scheduler(server := Server(), window=0.0)

    def body() -> None:
        call = scheduler.open_call(None)
        for k in range(2):
            ended = threading.Event()
            scheduler.submit(call, lambda k=k: ask(k), lambda *_, ended=ended: ended.set())
            assert ended.wait(LIMIT)
        scheduler.close_call(call)
        scheduler.close()

    within(body)
    assert server.served == [[0], [1]]


# Accounts, and the end.


def test_idle_is_the_time_spent_waiting_and_share_that_spent_by_the_server() -> None:
    clock = Clock()

    def work() -> tuple[float, float]:
        clock.now += 3.0
        ask(seconds=0.5)
        with get_task().exclusive_section():
            clock.now += 3.0
            ask(seconds=5.0)  # it is in the task's own time
        return get_task().idle, get_task().share

    def serve(requests: Sequence[Request], check: Any) -> None:
        clock.now += 10.0 * len(requests)

    assert run_all([work], serve, clock=clock) == [(10.0, 0.5)]


def test_the_work_of_inner_tasks_is_the_share_of_their_owner() -> None:
    clock = Clock()

    def inner() -> None:
        clock.now += 2.0
        ask(seconds=1.0)

    def work() -> tuple[float, float]:
        run(scheduler, [inner] * 3)
        return get_task().idle, get_task().share

    def serve(requests: Sequence[Request], check: Any) -> None:
        clock.now += 10.0 * len(requests)

    scheduler = make_scheduler(serve, n_running=1, clock=clock, window=math.inf)
    assert run_in(lambda _: [work], scheduler) == [(36.0, 9.0)]


def test_close_waits_for_each_thread() -> None:
    threads: list[threading.Thread] = []
    before = threading.active_count()

    class Lasting(threading.local):
        """Takes its time when its thread ends."""

        def __init__(self) -> None:
            self.end = End()

    class End:
        def __del__(self) -> None:
            sum(range(100_000))

    local = Lasting()

    def work() -> None:
        threads.append(threading.current_thread())
        assert local.end

    scheduler = make_scheduler()
    run_in(lambda _: [work] * 3, scheduler)
    assert not any(thread.is_alive() for thread in (*threads, scheduler.server))
    assert threading.active_count() == before


# All at once.


class Workload:
    """Random tasks: requests, sections, calls within, failures and calls that are aborted."""

    def __init__(self, seed: int, scheduler: Scheduler) -> None:
        self.random, self.scheduler = random.Random(seed), scheduler
        self.lock, self.section = threading.Lock(), Gauge()

    def draw(self) -> float:
        with self.lock:
            return self.random.random()

    def work(self, depth: int) -> str:
        for _ in range(int(4 * self.draw())):
            self.act(depth)
        return "done"

    def act(self, depth: int) -> None:
        what = self.draw()
        if what < 0.2:
            sum(range(1000))
        elif what < 0.7:
            ask(depth)
        elif what < 0.8:
            with get_task().exclusive_section(), self.section.inside():
                ask(depth)
        elif what < 0.95 and depth < 2:
            self.call(depth + 1)
        elif what > 0.97:
            raise ValueError

    def call(self, depth: int) -> None:
        functions = [lambda: self.work(depth)] * int(1 + 4 * self.draw())
        call, outcomes = start(self.scheduler, functions)
        try:
            with self.scheduler.waiting(call):
                if self.draw() < 0.2:
                    self.scheduler.abort(call)
        finally:
            self.scheduler.close_call(call)
        if any(isinstance(outcome, ValueError) for outcome in outcomes.values()) and self.draw() < 0.5:
            raise ValueError


@pytest.mark.usefixtures("rapid")
@pytest.mark.parametrize("window", [1.0, 0.0], ids=["patient", "impatient"])
@pytest.mark.parametrize(("n_tasks", "n_running"), [(1, 1), (3, 2), (64, 4)])
@pytest.mark.parametrize("seed", range(2))
def test_random_work_ends(seed: int, n_tasks: int, n_running: int, window: float) -> None:
    server = Server(lambda values, check: check())
    scheduler = make_scheduler(server, n_tasks=n_tasks, n_running=n_running, window=window)
    load = Workload(seed, scheduler)
    outcomes = run_in(lambda _: [lambda: load.work(0)] * 60, scheduler)
    assert {type(outcome) for outcome in outcomes} <= {str, ValueError}  # who draws what is up to the threads
    assert load.section.most == 1
    assert outcomes.count("done") > 30
    assert not any([scheduler.begun, scheduler.running, scheduler.ready, scheduler.asking, scheduler.calls])
