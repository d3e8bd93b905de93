"""The scheduler alone: who runs when, what is served together, and that nobody waits forever."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import random
import sys
import threading
import time
from typing import Any

import pytest

from sk_mixup.stacking import _scheduler
from sk_mixup.stacking._scheduler import Aborted, Call, Scheduler, Task, find_task
from tests.helpers.timeouts import LIMIT, within


class Request:
    """What a task asks for; `value` says who asked."""

    def __init__(self, value: Any = None, seconds: float = 0.0) -> None:
        self.value, self.seconds = value, seconds
        self.error: BaseException | None = None
        self.n_served = 0
        self.n_alone = 0

    def run_single(self) -> None:
        self.n_alone += 1


class Server:
    """Serves requests, and keeps the values of those that it served at once."""

    def __init__(self, before: Callable[[list[Any], Callable[[], None]], None] | None = None) -> None:
        self.before = before
        self.served: list[list[Any]] = []

    def __call__(self, requests: Sequence[Request], check: Callable[[], None]) -> None:
        values = [request.value for request in requests]
        if self.before is not None:
            self.before(values, check)
        for request in requests:
            request.n_served += 1
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


def make_scheduler(serve: Any = None, n_tasks: int = 64, n_running: int = 4, **options: Any) -> Scheduler:
    return Scheduler(serve or Server(), n_tasks=n_tasks, n_running=n_running, **options)


def ask(value: Any = None, seconds: float = 0.0) -> Request:
    request = Request(value, seconds)
    find_task().ask(request)
    return request


def start(scheduler: Scheduler, functions: Sequence[Callable[[], Any]]) -> tuple[Call, dict[int, Any]]:
    """Open a call; return it with what its tasks will have returned or raised."""
    call, outcomes = scheduler.open_call(find_task()), {}
    for number, function in enumerate(functions):

        def deliver(task: Task, result: Any, error: Any, number: int = number) -> None:
            outcomes[number] = result if error is None else error

        scheduler.submit(call, function, deliver)
    return call, outcomes


def run(scheduler: Scheduler, functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run a call to its end; None for a task that was given up."""
    call, outcomes = start(scheduler, functions)
    scheduler.close_call(call)
    return [outcomes.get(number) for number in range(len(functions))]


def run_scheduler(functions: Sequence[Callable[[], Any]], serve: Any = None, **options: Any) -> list[Any]:
    """Run a call in a scheduler of its own."""

    def body() -> list[Any]:
        scheduler = make_scheduler(serve, **options)
        outcomes = run(scheduler, functions)
        scheduler.close()
        return outcomes

    return within(body)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Wait no more than a moment for a task that does not ask."""
    monkeypatch.setattr(_scheduler, "PATIENCE", 0.05)
    return 0.05


# What is served together.


@pytest.mark.parametrize("n_running", [1, 2, 8])
@pytest.mark.parametrize("n", [1, 5])
def test_requests_of_all_are_served_at_once_in_the_order_of_the_tasks(n: int, n_running: int) -> None:
    def work(k: int) -> None:
        for _ in range(3):
            time.sleep(0.002 * (n - k))  # the last asks first
            ask(k)

    server = Server()
    run_scheduler([lambda k=k: work(k) for k in range(n)], server, n_running=n_running)
    assert server.served == [list(range(n))] * 3


def test_nothing_is_served_while_a_task_runs() -> None:
    busy, seen = Gauge(), []

    def work(k: int) -> None:
        for _ in range(5):
            with busy.inside():
                time.sleep(0.001 * (k % 3))
            ask(k)

    run_scheduler(
        [lambda k=k: work(k) for k in range(6)], Server(lambda *_: seen.append(busy.now)), n_running=3
    )
    assert seen
    assert max(seen) == 0


@pytest.mark.parametrize(("n_tasks", "n_running"), [(1, 1), (1, 4), (3, 1), (3, 2), (8, 3)])
def test_few_tasks_are_begun_and_fewer_run_at_a_time(n_tasks: int, n_running: int) -> None:
    begun, running = Gauge(), Gauge()

    def work(k: int) -> int:
        with begun.inside():
            for _ in range(2):
                with running.inside():
                    time.sleep(0.001)
                ask(k)
        return k

    server = Server()
    functions = [lambda k=k: work(k) for k in range(12)]
    assert run_scheduler(functions, server, n_tasks=n_tasks, n_running=n_running) == list(range(12))
    assert begun.most == min(n_tasks, 12)
    assert running.most <= n_running
    assert max(map(len, server.served)) == n_tasks


def test_where_there_is_no_room_tasks_are_begun_one_by_one() -> None:
    begun, asked = Gauge(), []

    def work() -> None:
        with begun.inside():
            ask()
            time.sleep(0.001)

    def has_room(n_begun: int) -> bool:
        asked.append(n_begun)
        return False

    run_scheduler([work] * 5, has_room=has_room)
    assert begun.most == 1
    assert set(asked) == {1}  # nobody asks whether one may begin


def test_tasks_without_requests_are_run() -> None:
    assert run_scheduler([lambda k=k: k * k for k in range(40)], n_tasks=3) == [k * k for k in range(40)]


def test_the_task_of_a_thread_is_found_there_only() -> None:
    assert find_task() is None
    tasks = run_scheduler([find_task] * 3)
    assert len(set(tasks)) == 3
    assert find_task() is None


def test_errors_of_tasks_are_delivered_and_the_others_go_on() -> None:
    def work(k: int) -> int:
        ask(k)
        if k % 2:
            raise [ValueError, KeyboardInterrupt, SystemExit][k % 3](str(k))
        ask(k)
        return k

    outcomes = run_scheduler([lambda k=k: work(k) for k in range(6)])
    assert outcomes[::2] == [0, 2, 4]
    assert [type(error) for error in outcomes[1::2]] == [KeyboardInterrupt, ValueError, SystemExit]


@pytest.mark.parametrize("error", [ValueError, MemoryError, KeyboardInterrupt, SystemExit])
def test_an_error_of_the_server_reaches_every_task(error: type[BaseException]) -> None:
    def fail(values: list[Any], check: Any) -> None:
        raise error("no service")

    outcomes = run_scheduler([ask] * 4, Server(fail))
    assert [type(outcome) for outcome in outcomes] == [error] * 4


def test_after_an_error_of_the_server_tasks_may_ask_again() -> None:
    def fail_once(values: list[Any], check: Any) -> None:
        if values[0] == "bad":
            raise ValueError

    def work() -> int:
        with pytest.raises(ValueError):  # noqa: PT011
            ask("bad")
        return ask("good").n_served

    assert run_scheduler([work] * 3, Server(fail_once)) == [1, 1, 1]


def test_an_error_in_one_request_is_raised_in_its_task_only() -> None:
    def serve(requests: Sequence[Request], check: Any) -> None:
        requests[1].error = ValueError("mine")

    outcomes = run_scheduler([ask] * 3, serve)
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == [False, True, False]


def test_an_error_in_the_delivery_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda failed: None)

    def body() -> list[int]:
        scheduler, done = make_scheduler(), []

        def deliver(task: Task, result: Any, error: Any) -> None:
            if result == 1:
                raise ValueError("not delivered")
            done.append(result)

        call = scheduler.open_call(None)
        for k in range(4):
            scheduler.submit(call, lambda k=k: (ask(k), k)[1], deliver)
        scheduler.close_call(call)
        scheduler.close()
        return sorted(done)

    assert within(body) == [0, 2, 3]
    time.sleep(0.01)  # the thread shows its error at its very end


def test_a_delivery_may_submit_the_next_task() -> None:
    def body() -> list[int]:
        scheduler, done = make_scheduler(n_tasks=2), []
        call = scheduler.open_call(None)

        def submit(k: int) -> None:
            def deliver(task: Task, result: Any, error: Any) -> None:
                done.append(result)
                if k + 3 < 30:
                    submit(k + 3)

            scheduler.submit(call, lambda: ask(k).value, deliver)

        for k in range(3):
            submit(k)
        scheduler.close_call(call)
        scheduler.close()
        return done

    assert sorted(within(body)) == list(range(30))


def test_news_is_told_once() -> None:
    scheduler = make_scheduler()
    assert [scheduler.is_news(message) for message in "aabab"] == [True, False, True, False, False]
    within(scheduler.close)


# Calls within tasks.


@pytest.mark.parametrize("n_tasks", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 3])
def test_nested_calls_end_with_fewer_tasks_allowed_than_wait(n_tasks: int, depth: int) -> None:
    server = Server()

    def body() -> int:
        scheduler = make_scheduler(server, n_tasks=n_tasks, n_running=2)

        def work(level: int) -> int:
            ask(level)
            count = 1 if level == depth else sum(run(scheduler, [lambda: work(level + 1)] * 3))
            ask(level)
            return count

        count = sum(run(scheduler, [lambda: work(0)] * 4))
        scheduler.close()
        return count

    assert within(body) == 4 * 3**depth
    assert sum(map(len, server.served)) == 2 * sum(4 * 3**level for level in range(depth + 1))


def test_next_task_of_an_inner_call_waits_for_a_place() -> None:
    begun, started, done = Gauge(), threading.Event(), threading.Semaphore(0)

    def body() -> None:
        scheduler = make_scheduler(n_tasks=1, n_running=2)

        def inner() -> None:
            with begun.inside():
                ask()

        def outer() -> None:
            call, _ = start(scheduler, [inner])

            def add_another() -> None:  # as joblib does, once there is something to do
                assert started.wait(LIMIT)
                scheduler.submit(call, inner, lambda *_: done.release())

            thread = threading.Thread(target=add_another, daemon=True)
            thread.start()
            with scheduler.waiting(call):
                assert done.acquire(timeout=LIMIT)
            scheduler.close_call(call)
            thread.join()

        def other() -> None:
            with begun.inside():
                started.set()
                time.sleep(0.1)
                ask()

        run(scheduler, [outer, other])
        scheduler.close()

    within(body)
    assert begun.most == 1


def test_tasks_of_inner_calls_are_begun_first() -> None:
    begun = []

    def body() -> None:
        scheduler = make_scheduler(n_tasks=1, n_running=1)

        def outer(k: int) -> None:
            begun.append(k)
            run(scheduler, [lambda: begun.append((k, 0)), lambda: begun.append((k, 1))])

        run(scheduler, [lambda k=k: outer(k) for k in range(3)])
        scheduler.close()

    within(body)
    for k in range(3):
        assert begun.index((k, 1)) - begun.index(k) >= 2
        assert [entry for entry in begun if entry in [(k, 0), (k, 1)]] == [(k, 0), (k, 1)]


def test_requests_of_all_depths_are_served_together() -> None:
    server = Server()

    def body() -> None:
        scheduler = make_scheduler(server)

        def outer() -> None:
            run(scheduler, [lambda: ask("inner"), lambda: ask("inner")])

        run(scheduler, [outer, lambda: ask("outer"), outer])
        scheduler.close()

    within(body)
    assert [sorted(values) for values in server.served] == [["inner"] * 4 + ["outer"]]


# Calls that are given up.


def run_and_abort(functions: Sequence[Callable[[], Any]], served: list[Any], **options: Any) -> list[Any]:
    """Give up a call once its first requests are being served."""
    call: list[Call] = []
    ready = threading.Event()

    def give_up(values: list[Any], check: Callable[[], None]) -> None:
        served.append(values)
        ready.wait(LIMIT)
        scheduler.abort(call[0])
        check()

    scheduler = make_scheduler(Server(give_up), **options)

    def body() -> list[Any]:
        opened, outcomes = start(scheduler, functions)
        call.append(opened)
        ready.set()
        scheduler.close_call(opened)
        scheduler.close()
        return [outcomes.get(k) for k in range(len(functions))]

    return within(body)


@pytest.mark.parametrize("waits", [ask, lambda: find_task().turn().__enter__()], ids=["request", "turn"])
def test_tasks_of_a_call_that_is_given_up_end(waits: Callable[[], Any]) -> None:
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

    functions = [lambda: work(ask), *[lambda: work(waits)] * 9]
    outcomes = run_and_abort(functions, served, n_tasks=4)
    assert all(outcome is None or isinstance(outcome, Aborted) for outcome in outcomes)
    assert raised == [Aborted] * 4
    assert len(begun) == 4  # the queued ones never began
    assert len(served) == 1


def test_a_task_that_holds_on_is_given_up_at_each_request() -> None:
    count, served = [], []

    def stubborn() -> str:
        for _ in range(5):
            try:
                ask()
            except Aborted:
                count.append(1)
        return "ended"

    assert run_and_abort([stubborn] * 2, served) == ["ended"] * 2
    assert len(count) == 10


def test_tasks_submitted_to_a_call_that_is_given_up_are_dropped() -> None:
    begun: list[int] = []

    def body() -> None:
        scheduler = make_scheduler()
        call = scheduler.open_call(None)
        scheduler.abort(call)
        scheduler.submit(call, lambda: begun.append(1), lambda *_: None)
        scheduler.close_call(call)
        scheduler.close()

    within(body)
    assert begun == []


def test_others_go_on_when_an_inner_call_is_given_up() -> None:
    server, ended = Server(), []

    def body() -> list[Any]:
        scheduler = make_scheduler(server)

        def inner() -> None:
            try:
                for _ in range(100):
                    ask("inner")
            finally:
                ended.append(1)

        def owner() -> str:
            call, _ = start(scheduler, [inner] * 3)
            with scheduler.waiting(call):
                time.sleep(0.02)
                scheduler.abort(call)
            scheduler.close_call(call)
            ask("owner")
            return "owner"

        def other() -> int:
            return sum(ask("other").n_served for _ in range(5))

        outcomes = run(scheduler, [owner, other, other])
        scheduler.close()
        return outcomes

    assert within(body) == ["owner", 5, 5]
    assert len(ended) == 3


def test_requests_of_others_are_gone_on_with_when_a_call_is_given_up_meanwhile() -> None:
    calls: list[Call] = []
    attempts: list[list[Any]] = []
    opened = threading.Event()

    def serve(requests: Sequence[Request], check: Callable[[], None]) -> None:
        attempts.append([request.value for request in requests])
        if len(attempts) == 1:
            opened.wait(LIMIT)
            scheduler.abort(calls[0])
        check()
        for request in requests:
            request.n_served += 1

    scheduler = make_scheduler(serve)

    def owner() -> None:
        call, _ = start(scheduler, [lambda: ask("inner")])
        calls.append(call)
        opened.set()
        scheduler.close_call(call)

    def body() -> list[Any]:
        outcomes = run(scheduler, [lambda: ask("first").n_served, owner, lambda: ask("last").n_served])
        scheduler.close()
        return outcomes

    assert within(body) == [1, None, 1]
    assert [sorted(values) for values in attempts] == [["first", "inner", "last"], ["first", "last"]]


# Turns.


def check_alone(gauge: Gauge, seconds: float = 0.002) -> None:
    with gauge.inside():
        time.sleep(seconds)


def test_nobody_else_runs_and_nothing_is_served_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_scheduler, "PATIENCE", 60.0)  # on a busy machine a task may stand still for a second
    turn, others = Gauge(), Gauge()
    clashes = []

    def work(k: int) -> None:
        for step in range(4):
            if (k + step) % 2:
                with find_task().turn():
                    check_alone(turn)
                    clashes.append(others.now)
            else:
                check_alone(others, 0.001)
                ask(k)

    def serve(values: list[Any], check: Any) -> None:
        clashes.append(turn.now)
        check_alone(others, 0.001)

    run_scheduler([lambda k=k: work(k) for k in range(6)], Server(serve))
    assert turn.most == 1
    assert max(clashes) == 0


def test_a_turn_within_a_turn_goes_on_and_its_requests_are_run_alone() -> None:
    server = Server()

    def work() -> tuple[int, int]:
        with find_task().turn(), find_task().turn():
            request = ask()
        assert not find_task().is_within_turn()
        return request.n_alone, ask().n_served

    assert run_scheduler([work] * 3, server) == [(1, 1)] * 3
    assert [len(values) for values in server.served] == [3]


def test_an_error_ends_a_turn() -> None:
    def fail() -> None:
        with find_task().turn():
            raise ValueError

    def work() -> str:
        with find_task().turn():
            return "done"

    outcomes = run_scheduler([fail, work, fail, work])
    assert outcomes[1::2] == ["done"] * 2


@pytest.mark.parametrize("n_tasks", [1, 2, 8])
@pytest.mark.parametrize("n_running", [1, 2])
def test_calls_within_a_turn_keep_it(n_tasks: int, n_running: int) -> None:
    turn, clashes = Gauge(), []

    def body() -> list[Any]:
        scheduler = make_scheduler(n_tasks=n_tasks, n_running=n_running)

        def inner() -> int:
            with find_task().turn():
                clashes.append(turn.now)
                return ask().n_alone

        def work() -> int:
            with find_task().turn(), turn.inside():
                return sum(run(scheduler, [inner] * 3))

        outcomes = run(scheduler, [work] * 4)
        scheduler.close()
        return outcomes

    assert within(body) == [3] * 4
    assert turn.most == 1
    assert set(clashes) == {1}


def test_a_turn_is_kept_to_its_end_when_its_call_is_given_up() -> None:
    turn, calls, begun = Gauge(), [], threading.Event()
    reached = []

    def body() -> list[Any]:
        scheduler = make_scheduler()

        def inner() -> None:
            with find_task().turn(), turn.inside():
                begun.set()
                time.sleep(0.05)
                reached.append("end of turn")

        def owner() -> None:
            call, _ = start(scheduler, [inner] * 3)
            with scheduler.waiting(call):
                begun.wait(LIMIT)
                scheduler.abort(call)
            scheduler.close_call(call)

        def other() -> str:
            for _ in range(5):
                with find_task().turn(), turn.inside():
                    time.sleep(0.002)
                ask()
            return "other"

        outcomes = run(scheduler, [owner, other, other])
        scheduler.close()
        return outcomes

    assert within(body) == [None, "other", "other"]
    assert turn.most == 1
    assert reached.count("end of turn") <= 3
    assert calls == []


def test_a_call_within_a_turn_begins_though_others_are_queued() -> None:
    """Tasks of an inner call that wait for room do not stand in the way of the turn's own."""

    def body() -> list[Any]:
        scheduler = make_scheduler(n_tasks=2, n_running=1)
        parked = threading.Event()

        def in_turn() -> int:
            with find_task().turn():
                return sum(run(scheduler, [lambda: ask().n_alone]))

        def crowd() -> int:
            return sum(run(scheduler, [lambda: ask().n_served] * 4))

        outcomes = run(scheduler, [in_turn, crowd])
        scheduler.close()
        parked.set()
        return outcomes

    assert within(body, 8.0) == [1, 4]


def test_a_call_within_a_turn_begins_though_there_is_no_room() -> None:
    full = threading.Event()

    def body() -> list[Any]:
        scheduler = make_scheduler(has_room=lambda n_begun: not full.is_set())

        def in_turn() -> int:
            with find_task().turn():
                full.set()
                return sum(run(scheduler, [lambda: ask().n_alone]))

        outcomes = run(scheduler, [in_turn] * 3)
        scheduler.close()
        return outcomes

    assert within(body, 8.0) == [1, 1, 1]


# Patience.


@pytest.mark.parametrize("n_running", [1, 2, 8])
def test_a_task_that_waits_for_a_lock_of_another_is_not_waited_for(impatient: float, n_running: int) -> None:
    lock = threading.Lock()

    def work() -> int:
        with lock:
            return sum(ask().n_served for _ in range(5))

    assert run_scheduler([work] * 6, n_running=n_running) == [5] * 6


@pytest.mark.parametrize("n_tasks", [1, 2, 3])
def test_a_lock_may_be_held_over_several_calls(impatient: float, n_tasks: int) -> None:
    lock = threading.Lock()

    def body() -> list[Any]:
        scheduler = make_scheduler(n_tasks=n_tasks, n_running=2)

        def work() -> int:
            with lock:
                count = 0
                for _ in range(3):
                    call, outcomes = start(scheduler, [lambda: ask().n_served] * 2)
                    with scheduler.waiting(call):
                        while len(outcomes) < 2:
                            time.sleep(0.01)  # as joblib waits
                    scheduler.close_call(call)
                    count += sum(outcomes.values())
                return count

        outcomes = run(scheduler, [work] * 5)
        scheduler.close()
        return outcomes

    assert within(body, 10.0) == [6] * 5


def test_a_lock_may_be_held_over_a_turn(impatient: float) -> None:
    lock = threading.Lock()

    def work() -> str:
        with lock, find_task().turn():
            return "done"

    assert run_scheduler([work] * 6, n_running=2) == ["done"] * 6


def test_a_task_may_wait_for_another_within_a_turn(impatient: float) -> None:
    def body() -> list[Any]:
        scheduler = make_scheduler(n_running=1)
        come = threading.Event()

        def work() -> list[Any]:
            with find_task().turn():
                return run(scheduler, [lambda: come.wait(LIMIT), come.set])

        outcomes = run(scheduler, [work])
        scheduler.close()
        return outcomes

    assert within(body, 8.0) == [[True, None]]


def test_a_slow_task_is_not_waited_for_at_each_request(impatient: float) -> None:
    slow, seconds = threading.Event(), []

    def work() -> None:
        start = time.monotonic()
        for _ in range(20):
            ask()
        seconds.append(time.monotonic() - start)
        slow.set()

    server = Server()
    assert run_scheduler([work, lambda: slow.wait(LIMIT)], server)[1] is True
    assert seconds[0] < 20 * impatient / 2
    assert len(server.served) == 20


def test_slow_tasks_do_not_keep_others_from_beginning(impatient: float) -> None:
    come = threading.Barrier(5)
    assert sorted(run_scheduler([lambda: come.wait(LIMIT)] * 5, n_running=1)) == list(range(5))


def test_a_slow_task_that_asks_is_waited_for_again(impatient: float) -> None:
    server = Server()

    def late() -> None:
        time.sleep(3 * impatient)
        for _ in range(3):
            ask("late")

    def steady() -> None:
        for _ in range(8):
            time.sleep(0.6 * impatient)
            ask("steady")

    run_scheduler([steady, late], server)
    assert ["steady", "late"] in server.served


def test_the_call_from_outside_is_waited_for_while_it_submits() -> None:
    server = Server()

    def body() -> None:
        scheduler = make_scheduler(server)
        call = scheduler.open_call(None)
        for k in range(5):
            scheduler.submit(call, lambda k=k: ask(k), lambda *_: None)
            time.sleep(0.02)
        scheduler.close_call(call)
        scheduler.close()

    within(body)
    assert server.served == [list(range(5))]


def test_a_call_from_outside_that_takes_its_time_is_not_waited_for(impatient: float) -> None:
    server = Server()

    def body() -> None:
        scheduler = make_scheduler(server)
        call = scheduler.open_call(None)
        for k in range(2):
            scheduler.submit(call, lambda k=k: ask(k), lambda *_: None)
            time.sleep(4 * impatient)
        scheduler.close_call(call)
        scheduler.close()

    within(body)
    assert server.served == [[0], [1]]


def test_a_request_that_comes_just_when_others_are_served_is_not_lost(impatient: float) -> None:
    """Both the server and a slow task wait for the scheduler's lock; whoever comes first, both go on."""

    def body() -> list[Any]:
        scheduler, outcomes = make_scheduler(n_running=4), []
        for _ in range(5):
            held = threading.Event()

            def late() -> int:
                held.wait(LIMIT)  # noqa: B023
                time.sleep(3 * impatient)
                return ask("late").n_served

            call, results = start(scheduler, [lambda: ask("early").n_served, late])
            with scheduler.waiting(call):
                time.sleep(0.2 * impatient)
                with scheduler.changed:  # a moment in which neither comes in
                    held.set()
                    time.sleep(4 * impatient)
            scheduler.close_call(call)
            outcomes.append([results[0], results[1]])
        scheduler.close()
        return outcomes

    assert within(body, 10.0) == [[1, 1]] * 5


# Accounts, and the end.


def test_idle_is_the_time_spent_waiting() -> None:
    tasks = []

    def work() -> None:
        time.sleep(0.03)
        ask(seconds=0.5)
        with find_task().turn():
            time.sleep(0.03)
        tasks.append(find_task())

    run_scheduler([work] * 2, Server(lambda *_: time.sleep(0.1)))
    for task in tasks:
        assert 0.1 <= task.idle < 0.3
        assert task.share == 0.5


def test_the_work_of_inner_tasks_is_the_share_of_their_owner() -> None:
    def body() -> list[Any]:
        scheduler = make_scheduler(Server(lambda *_: time.sleep(0.05)))

        def inner() -> None:
            time.sleep(0.02)
            ask(seconds=1.0)

        def work() -> Task:
            run(scheduler, [inner] * 3)
            return find_task()

        tasks = run(scheduler, [work] * 2)
        scheduler.close()
        return tasks

    for task in within(body):
        assert 3.06 <= task.share < 3.5
        assert task.idle >= 0.07


def test_requests_within_a_turn_are_no_share() -> None:
    def work() -> float:
        with find_task().turn():
            ask(seconds=5.0)  # it is in the task's own time
        return find_task().share

    assert run_scheduler([work]) == [0.0]


def list_scheduler_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sk_mixup")]


def test_close_leaves_no_thread() -> None:
    before = list_scheduler_threads()
    run_scheduler([ask] * 10)
    deadline = time.monotonic() + 1.0
    while list_scheduler_threads() != before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert list_scheduler_threads() == before


def test_close_waits_for_each_thread() -> None:
    lasting = []

    class Lasting(threading.local):
        """Takes its time when its thread ends."""

        def __init__(self) -> None:
            self.end = End()

    class End:
        def __del__(self) -> None:
            time.sleep(0.05)

    local = Lasting()

    def work() -> None:
        lasting.append(threading.current_thread())
        assert local.end

    run_scheduler([work] * 3)
    assert not any(thread.is_alive() for thread in lasting)


def test_a_scheduler_may_be_closed_at_once() -> None:
    for _ in range(20):
        within(make_scheduler().close)


def test_a_scheduler_without_tasks_runs_empty_calls() -> None:
    assert run_scheduler([]) == []


# All at once.


class Workload:
    """Random tasks: naps, requests, turns, calls within, failures and calls that are given up."""

    def __init__(self, seed: int, scheduler: Scheduler) -> None:
        self.random, self.scheduler = random.Random(seed), scheduler
        self.lock, self.turn = threading.Lock(), Gauge()
        self.n_done = 0

    def draw(self) -> float:
        with self.lock:
            return self.random.random()

    def work(self, depth: int) -> str:
        for _ in range(int(4 * self.draw())):
            self.act(depth)
        with self.lock:
            self.n_done += 1
        return "done"

    def act(self, depth: int) -> None:
        what = self.draw()
        if what < 0.25:
            time.sleep(0.003 * self.draw())
        elif what < 0.7:
            ask(depth)
        elif what < 0.8:
            self.section(depth)
        elif what < 0.95 and depth < 2:
            self.call(depth + 1)
        elif what > 0.97:
            raise ValueError

    def section(self, depth: int) -> None:
        outer = find_task().is_within_turn()
        with find_task().turn():
            if outer:
                self.act(depth)
                return
            with self.turn.inside():
                self.act(depth)

    def call(self, depth: int) -> None:
        functions = [lambda: self.work(depth)] * int(1 + 4 * self.draw())
        call, outcomes = start(self.scheduler, functions)
        try:
            with self.scheduler.waiting(call):
                if self.draw() < 0.2:
                    time.sleep(0.002 * self.draw())
                    self.scheduler.abort(call)
        finally:
            self.scheduler.close_call(call)
        if any(isinstance(outcome, ValueError) for outcome in outcomes.values()) and self.draw() < 0.5:
            raise ValueError


@pytest.fixture
def rapid() -> Iterator[None]:
    """Let threads be switched as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("rapid")
@pytest.mark.parametrize("patience", [1.0, 0.001], ids=["patient", "impatient"])
@pytest.mark.parametrize(("n_tasks", "n_running"), [(1, 1), (3, 2), (64, 4)])
@pytest.mark.parametrize("seed", range(2))
def test_random_work_ends(
    monkeypatch: pytest.MonkeyPatch, seed: int, n_tasks: int, n_running: int, patience: float
) -> None:
    monkeypatch.setattr(_scheduler, "PATIENCE", patience)

    def check_sometimes(values: list[Any], check: Callable[[], None]) -> None:
        time.sleep(0.0002)
        check()

    def body() -> tuple[list[Any], Workload]:
        scheduler = make_scheduler(Server(check_sometimes), n_tasks=n_tasks, n_running=n_running)
        load = Workload(seed, scheduler)
        outcomes = run(scheduler, [lambda: load.work(0)] * 60)
        scheduler.close()
        left = [
            scheduler.begun,
            scheduler.owners,
            scheduler.running,
            scheduler.ready,
            scheduler.numbers,
            scheduler.calls,
        ]
        assert not any(left)
        return outcomes, load

    outcomes, load = within(body)
    assert {type(outcome) for outcome in outcomes} <= {str, ValueError}
    assert load.turn.most <= 1
    assert outcomes.count("done") > 30


def test_patience_that_ends_between_two_looks_at_the_clock_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler = make_scheduler()
    now = [100.0]
    monkeypatch.setattr(_scheduler.time, "monotonic", lambda: now[0])
    with scheduler.changed:
        call = _scheduler.Call(None)
        scheduler.calls.append(call)
        now[0] += 0.999 * _scheduler.PATIENCE
        scheduler._advance()  # still waited for
        now[0] += 0.002 * _scheduler.PATIENCE
        timeout = scheduler._get_timeout()  # no longer
        scheduler.calls.remove(call)
    monkeypatch.undo()
    scheduler.close()
    assert timeout is not None
