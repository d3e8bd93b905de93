"""Tasks in threads, whose requests are collected until all wait, and then served at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import heapq
import threading
import time
from typing import Any

__all__ = ["Aborted", "Call", "Scheduler", "Task", "find_task", "rejoin_scheduler"]

# A task that has run for so many seconds without a request is no longer waited for.
PATIENCE = 1.0

_LOCAL = threading.local()


class Aborted(BaseException):
    """Ends a task whose call was given up; no ``except Exception`` holds it."""


class Call:
    """A parallel call: the tasks it has submitted, and the task that waits for them.

    Parameters
    ----------
    owner : Task or None
        The task that makes the call; None for a call from outside.
    """

    def __init__(self, owner: Task | None) -> None:
        self.owner = owner
        self.depth: int = 0 if owner is None else owner.call.depth + 1
        self.tasks: set[Task] = set()
        self.aborted = False
        self.ended_since: float | None = None
        # From outside, tasks are submitted while others run already.
        self.submitting_since = time.monotonic() if owner is None else None


class Task:
    """A function that is run in a thread of its own.

    Attributes
    ----------
    idle : float
        Seconds in which the task waited.
    share : float
        Seconds that others spent on it: its share of the training, and the tasks it started.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        call: Call,
        func: Callable[[], Any],
        deliver: Callable[[Task, Any, Any], None],
    ) -> None:
        self.scheduler = scheduler
        self.call = call
        self.func = func
        self.deliver = deliver
        self.request: Any = None
        self.running_since: float | None = None
        self.has_turn = False
        self.idle = 0.0
        self.share = 0.0
        self.wake = threading.Lock()
        self.wake.acquire()

    def is_within_turn(self) -> bool:
        """Whether the task, or one that waits for it, has its turn."""
        task: Task | None = self
        while task is not None and not task.has_turn:
            task = task.call.owner
        return task is not None

    def ask(self, request: Any) -> None:
        """Wait until a request is served.

        Raises
        ------
        Aborted
            If the task's call is given up.
        """
        if self.is_within_turn():
            request.run_single()
        else:
            self.scheduler.park(self, "requests", request)
            if self.call.aborted:
                raise Aborted
            self.share += request.seconds
        if request.error is not None:
            raise request.error

    def rejoin(self) -> None:
        """Wait until nobody has a turn; a task that was left aside is waited for again.

        What draws on a generator that all share must not happen beside a turn.
        """
        with self.scheduler.changed:
            is_beside = bool(self.scheduler.served) and not self.is_within_turn()
            if not is_beside and self.running_since is not None:
                self.running_since = time.monotonic()
        if is_beside:
            self.scheduler.park(self, "ready", None)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other task runs, and keep it so until the end."""
        if self.is_within_turn():
            yield
            return
        self.scheduler.park(self, "turns", None)
        if not self.has_turn:  # given up before it came
            raise Aborted
        try:
            if self.call.aborted:
                raise Aborted
            yield
        finally:
            self.scheduler.end_turn(self)


def find_task() -> Task | None:
    """Return the task that this thread runs; None outside of a scheduler."""
    return getattr(_LOCAL, "task", None)


def rejoin_scheduler() -> None:
    """Do what :meth:`Task.rejoin` does, in a thread that runs a task."""
    task = find_task()
    if task is not None:
        task.rejoin()


class Scheduler:
    """Runs tasks in threads, few at a time, and collects their requests.

    A task that asks for something waits; once no task runs any more, all requests are
    served at once, in the order of the tasks. So the tasks may be ordinary code that knows
    nothing of the others. Nobody waits forever: a task that is busy with something else, or
    waits for something that the scheduler cannot see, is left aside after a while.

    Parameters
    ----------
    serve : callable
        Called with a list of requests and a function that raises to break off. When it is
        called again with a request, it goes on with it.
    n_tasks : int
        The most tasks that are begun and not ended.
    n_running : int
        The most tasks that run at a time.
    has_room : callable
        Called with the number of tasks that are begun; whether another may begin.
    device : object, default=None
        Where the tasks' nets are to be trained; None for wherever they say.
    """

    def __init__(
        self,
        serve: Callable[[Sequence[Any], Callable[[], None]], None],
        *,
        n_tasks: int,
        n_running: int,
        has_room: Callable[[int], bool] = lambda n_begun: True,
        device: Any = None,
    ) -> None:
        self.serve = serve
        self.device = device
        self.n_tasks, self.n_running, self.has_room = n_tasks, n_running, has_room
        self.changed = threading.Condition(threading.Lock())
        self.queue: list[tuple[int, int, Task]] = []
        self.begun: set[Task] = set()
        self.owners: set[Task] = set()
        self.running: set[Task] = set()
        self.ready: deque[Task] = deque()
        self.requests: list[Task] = []
        self.turns: list[Task] = []
        self.served: list[Task] = []
        self.calls: list[Call] = []
        self.threads: set[threading.Thread] = set()
        self.numbers: dict[Task, int] = {}
        self.messages: set[str] = set()
        self.n_submitted = 0
        self.n_aborts = 0
        self.advanced_at = time.monotonic()
        self.closing = False
        self.coordinator = threading.Thread(target=self._coordinate, name="sk_mixup-scheduler", daemon=True)
        self.coordinator.start()

    # What the backend calls.

    def open_call(self, owner: Task | None) -> Call:
        """Begin a parallel call."""
        call = Call(owner)
        with self.changed:
            call.aborted = owner is not None and owner.call.aborted
            self.calls.append(call)
        return call

    def submit(self, call: Call, func: Callable[[], Any], deliver: Callable[[Task, Any, Any], None]) -> None:
        """Run a function as a task; ``deliver(task, result, error)`` is called in its thread."""
        task = Task(self, call, func, deliver)
        with self.changed:
            if not call.aborted:
                self.n_submitted += 1
                self.numbers[task] = self.n_submitted
                call.tasks.add(task)
                # Tasks of a call within a task go first: what has begun is to end.
                heapq.heappush(self.queue, (-call.depth, self.n_submitted, task))
                self._advance()
                return
        deliver(task, None, Aborted())

    @contextmanager
    def waiting(self, call: Call) -> Iterator[None]:
        """Let others run while the owner of a call waits for its tasks."""
        with self.changed:
            call.submitting_since = None
            if call.owner is not None:
                self._stop_running(call.owner)
                self.owners.add(call.owner)
                self._note_end(call)
            self._advance()
        start = time.perf_counter()
        try:
            yield
        finally:
            if call.owner is not None:
                self._go_on(call)
                call.owner.idle += time.perf_counter() - start

    def abort(self, call: Call) -> None:
        """Give up a call and those that its tasks made."""
        with self.changed:
            for given_up in self._list_family(call):
                given_up.aborted, given_up.submitting_since = True, None
            self.n_aborts += 1
            dropped = [task for _, _, task in self.queue if task.call.aborted]
            for task in dropped:
                self._forget(task)
            self.queue = [entry for entry in self.queue if not entry[2].call.aborted]
            heapq.heapify(self.queue)
            for waiting in (self.requests, self.turns):
                for task in [task for task in waiting if task.call.aborted]:
                    waiting.remove(task)
                    self.ready.append(task)
            self._advance()
        for task in dropped:
            task.deliver(task, None, Aborted())  # an owner waits to hear of each

    def close_call(self, call: Call) -> None:
        """Wait until all tasks of a call have ended."""
        with self.waiting(call), self.changed:
            while call.tasks:
                self.changed.wait()
            self.calls.remove(call)

    def close(self) -> None:
        """End all threads; every call must be closed."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self.coordinator.join()
        for thread in self.threads:
            thread.join()

    # What tasks call.

    def is_news(self, message: str) -> bool:
        """Whether a message was not given yet."""
        with self.changed:
            is_new = message not in self.messages
            self.messages.add(message)
        return is_new

    def park(self, task: Task, waiting: str, request: Any) -> None:
        """Wait among the ``requests`` or the ``turns`` until the task may go on."""
        start = time.perf_counter()
        with self.changed:
            task.request = request
            self._stop_running(task)
            (self.ready if task.call.aborted else getattr(self, waiting)).append(task)
            self._advance()
        task.wake.acquire()
        task.idle += time.perf_counter() - start

    def end_turn(self, task: Task) -> None:
        """Let the others go on after a turn."""
        with self.changed:
            task.has_turn = False
            self.changed.notify_all()

    # The state; all of it is changed under the lock.

    def _list_family(self, call: Call) -> list[Call]:
        """Return a call and all calls made by its tasks, and by theirs."""
        family = [call]
        for member in family:
            family.extend(other for other in self.calls if other.owner and other.owner.call is member)
        return family

    def _stop_running(self, task: Task) -> None:
        self.running.discard(task)
        task.running_since = None

    def _go_on(self, call: Call) -> None:
        """Make a task that waited outside of the scheduler run again."""
        task = call.owner
        assert task is not None
        with self.changed:
            call.ended_since = None
            self.ready.appendleft(task)
            self._advance()
        task.wake.acquire()

    def _forget(self, task: Task) -> None:
        task.call.tasks.discard(task)
        self._note_end(task.call)
        del self.numbers[task]

    def _note_end(self, call: Call) -> None:
        """Note when the tasks of a call have ended, on which its owner will go on."""
        if call.owner in self.owners and not call.tasks:
            call.ended_since = time.monotonic()

    def _list_awaited(self) -> list[float]:
        """Return since when calls have been submitting tasks or have had none left."""
        since = (s for call in self.calls for s in (call.submitting_since, call.ended_since))
        return [start for start in since if start is not None]

    def _advance(self) -> None:
        """Let tasks run as far as the limits allow."""
        now = self.advanced_at = time.monotonic()
        n_prompt = sum(not self._is_slow(task, now) for task in self.running)
        while n_prompt < self.n_running and (task := self._choose_next()) is not None:
            self.running.add(task)
            task.running_since = now
            if task in self.begun:
                task.wake.release()
            else:
                self.begun.add(task)
                try:
                    self._start_thread(task)
                except RuntimeError:  # the system has no thread left
                    self._put_back(task)
                    if not self.begun:
                        raise
                    break
            n_prompt += 1
        self.changed.notify_all()

    def _put_back(self, task: Task) -> None:
        self._stop_running(task)
        self.begun.discard(task)
        heapq.heappush(self.queue, (-task.call.depth, self.numbers[task], task))

    def _may_go_on(self, task: Task) -> bool:
        """Whether a task that waited counts among those under way, or may do so again."""
        if task not in self.owners or task.is_within_turn() or task.call.aborted:
            return True
        if len(self.begun) - len(self.owners) < self.n_tasks:
            return True
        return self._stands_still()  # those under way may wait for this one

    def _stands_still(self) -> bool:
        """Whether none of the tasks under way goes on."""
        now = time.monotonic()
        going = [task for task in self.running if not self._is_slow(task, now)]
        going += [task for task in self.ready if task not in self.owners]
        return not going and not self.requests and not self.turns

    def _choose_next(self) -> Task | None:
        """Return the task that is to run next, taken from where it waited."""
        for task in self.ready:
            if self._may_go_on(task) and (not self.served or task.is_within_turn()):
                self.ready.remove(task)
                self.owners.discard(task)
                return task
        if self.served:  # no limit may hold up what the one who has its turn waits for
            return self._take_first(Task.is_within_turn)
        n_begun = len(self.begun) - len(self.owners)
        if n_begun and (n_begun >= self.n_tasks or not self.has_room(n_begun)):
            if not self._stands_still():
                return None
            # Who waits for a call waits for one of its tasks at least.
            return self._take_first(lambda task: task.call.depth > 0 and not task.call.tasks & self.begun)
        return heapq.heappop(self.queue)[2] if self.queue else None

    def _take_first(self, is_wanted: Callable[[Task], bool]) -> Task | None:
        """Return the first task of the queue of a kind, taken from it."""
        entries = [entry for entry in self.queue if is_wanted(entry[2])]
        if not entries:
            return None
        self.queue.remove(min(entries))
        heapq.heapify(self.queue)
        return min(entries)[2]

    def _is_slow(self, task: Task, now: float) -> bool:
        return task.running_since is not None and now - task.running_since >= PATIENCE

    def _start_thread(self, task: Task) -> None:
        thread = threading.Thread(target=self._run, args=(task,), name="sk_mixup-task", daemon=True)
        thread.start()
        self.threads = {other for other in self.threads if other.is_alive()} | {thread}

    def _run(self, task: Task) -> None:
        _LOCAL.task = task
        start = time.perf_counter()
        result, error = None, None
        try:
            result = task.func()
        except BaseException as raised:
            error = raised
        try:
            task.deliver(task, result, error)  # may submit the next tasks
        finally:
            with self.changed:
                if task.call.owner is not None:
                    task.call.owner.share += time.perf_counter() - start - task.idle + task.share
                self._stop_running(task)
                self.begun.discard(task)
                self._forget(task)
                self._advance()

    # The thread that serves.

    def _coordinate(self) -> None:
        while True:
            with self.changed:
                while not self._may_serve():
                    if self.closing:
                        return
                    self.changed.wait(self._get_timeout())
                    self._advance()
                asking = sorted(self.requests, key=self.numbers.__getitem__)
                turns = sorted(self.turns, key=self.numbers.__getitem__)
                self.requests, self.turns = [], []
                self.served = [*asking, *turns]
            self._serve(asking)
            for task in turns:
                with self.changed:
                    task.has_turn = True
                    self.ready.append(task)
                    self._advance()
                    while task.has_turn:
                        self.changed.wait(self._get_timeout())
                        self._advance()
            with self.changed:
                self.served = []
                self.ready.extend(asking)
                self._advance()

    def _serve(self, asking: list[Task]) -> None:
        """Serve requests; those of calls that are given up meanwhile are dropped."""
        while True:
            n_aborts = self.n_aborts
            going = [task for task in asking if not task.call.aborted]
            if not going:
                return

            def check(n_aborts: int = n_aborts, going: list[Task] = going) -> None:
                if self.n_aborts != n_aborts and any(task.call.aborted for task in going):
                    raise Aborted

            try:
                self.serve([task.request for task in going], check)
                return
            except Aborted:
                continue
            except BaseException as error:
                for task in going:
                    task.request.error = error
                return

    def _may_serve(self) -> bool:
        """Whether all wait, but for those that are not waited for."""
        if not (self.requests or self.turns):
            return False
        now = time.monotonic()
        busy = any(not self._is_slow(task, now) for task in self.running)
        is_awaited = any(now - start < PATIENCE for start in self._list_awaited())
        return not busy and not is_awaited and not any(map(self._may_go_on, self.ready))

    def _get_timeout(self) -> float | None:
        """Return how long it takes until somebody is no longer waited for."""
        # Not by the time now: what has become slow since was not taken into account yet.
        now = self.advanced_at
        since = self._list_awaited()
        since += [task.running_since for task in self.running if task.running_since is not None]
        ends = [start + PATIENCE for start in since if now - start < PATIENCE]
        return max(min(ends) - time.monotonic(), 0.001) if ends else None
