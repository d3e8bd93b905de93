"""Tasks in threads; the epochs they are ready for are gathered for a short while and trained at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import math
import threading
import time

import torch

from sk_mixup._training.ambient_autocast import find_regions
from sk_mixup._training.epoch import Epoch
from sk_mixup._warning import enter_thread, find_place

__all__ = ["Aborted", "Call", "Scheduler", "Task", "find_task", "rejoin_scheduler"]

_LOCAL = threading.local()


class Aborted(BaseException):
    """Ends a task whose call was aborted; no ``except Exception`` holds it."""


class Call:
    """A parallel call: its tasks, and the task that makes it (None for a call from outside)."""

    def __init__(self, owner: Task | None) -> None:
        self.owner = owner
        self.depth: int = 0 if owner is None else owner.call.depth + 1
        self.tasks: set[Task] = set()
        self.queue: deque[Task] = deque()
        self.n_begun = 0
        self.was_aborted = False
        self.place = find_place()

    def is_aborted(self) -> bool:
        """Whether the call, or one that it is made in, was aborted."""
        return self.was_aborted or (self.owner is not None and self.owner.call.is_aborted())

    def has_waiting_owner(self) -> bool:
        """Whether a task waits for the call."""
        return self.owner is not None and self.owner.waits_for is self


class Task:
    """A function run in a thread of its own; `idle` seconds it waited, `share` seconds others spent on it."""

    def __init__(
        self, scheduler: Scheduler, call: Call, func: Callable[[], object], deliver: Deliver, number: int
    ) -> None:
        self.scheduler, self.call, self.func, self.deliver = scheduler, call, func, deliver
        self.number = number
        self.regions = find_regions()
        self.epoch: Epoch | None = None
        self.waits_for: Call | None = None
        self.in_section = False
        self.idle = self.share = 0.0
        self.wake = threading.Lock()
        self.wake.acquire()

    def ask(self, epoch: Epoch) -> None:
        """Wait until an epoch is trained; raise what it raised, or `Aborted`."""
        if self.in_section:
            epoch.run_single()
        else:
            if self.epoch is None:
                self.scheduler.largest = max(self.scheduler.largest, self.scheduler.measure(epoch))
            self._wait_to_be_served(epoch)
            self.share += epoch.seconds
        if epoch.error is not None:
            raise epoch.error

    @contextmanager
    def exclusive_section(self) -> Iterator[None]:
        """Wait until no other task runs, and keep it so until the end."""
        if self.in_section:
            yield
            return
        try:
            self._wait_to_be_served(None)
            yield
        finally:
            if self.in_section:
                self.in_section = False
                self.scheduler.wait(self, self.scheduler.ready)

    def _wait_to_be_served(self, epoch: Epoch | None) -> None:
        if not self.call.is_aborted():
            self.epoch = epoch
            self.scheduler.wait(self, self.scheduler.asking)
        if self.call.is_aborted():
            raise Aborted


Deliver = Callable[[Task, object, BaseException | None], None]
Serve = Callable[[Sequence[Epoch], Callable[[], None]], None]


def find_task() -> Task | None:
    """Return the task that this thread runs; None outside of a scheduler."""
    return getattr(_LOCAL, "task", None)


def rejoin_scheduler() -> None:
    """Wait, in a task that is late, until nothing is served; then it is waited for again.

    What draws on a generator that all share must not happen beside an exclusive section.
    """
    task = find_task()
    if task is not None and not task.in_section and task not in task.scheduler.running:
        task.scheduler.wait(task, task.scheduler.ready)


class Scheduler:
    """Runs tasks in threads, few at a time, and trains what they are ready for at once.

    A task that comes to an epoch waits. Once no task runs any more, or none has come for
    `window` seconds, all epochs that wait are trained; tasks that run on are late, and not
    waited for until they come again. So the tasks may be ordinary code that knows nothing
    of the others, and may hold locks that the scheduler cannot see.

    Parameters
    ----------
    serve : callable
        Called with epochs and a function that raises to break off. When it is called again
        with an epoch, it goes on with it.
    n_tasks : int
        The most tasks that are begun and not ended. A task that waits for a call hands its
        place down; one task of each call within a task may begin in any case.
    n_running : int
        The most tasks that run at a time, but for late ones.
    memory : float, default=inf
        What all tasks may take, by `measure` and `read_growth`.
    measure : callable, optional
        Returns what an epoch takes.
    read_growth : callable, optional
        Returns what has been taken since no task was begun. What each holds follows from it while no more
        were ever under way: later there is memory that the process keeps for the next.
    device : str or torch.device, default=None
        Where the tasks' nets are to be trained; None for wherever they say.
    window : float, default=1.0
        Seconds for which those that wait are held back for the next to come.
    clock : callable, default=time.monotonic
        Tells the time in seconds.
    """

    def __init__(
        self,
        serve: Serve,
        *,
        n_tasks: int,
        n_running: int,
        memory: float = math.inf,
        measure: Callable[[Epoch], float] = lambda epoch: 0.0,
        read_growth: Callable[[], float] = lambda: 0.0,
        device: str | torch.device | None = None,
        window: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.serve, self.measure, self.clock, self.window = serve, measure, clock, window
        self.read_growth = read_growth
        self.n_tasks, self.n_running, self.memory, self.device = n_tasks, n_running, memory, device
        self.changed = threading.Condition(threading.Lock())
        self.calls: list[Call] = []
        self.files: dict[str, Task] = {}  # what nets in training read back, and by which task
        self.begun: set[Task] = set()
        self.running: set[Task | Call] = set()  # who is waited for; also a call from outside that submits
        self.ready: deque[Task] = deque()
        self.asking: deque[Task] = deque()
        self.since: float | None = None  # when somebody began to wait, or the last came to ask
        self.n_submitted = self.n_aborts = 0
        self.largest = self.held = 0.0  # what an epoch takes at most, and a task on average
        self.most_begun = 0
        self.is_serving = self.is_closing = False
        self.messages: set[str] = set()
        self.threads: set[threading.Thread] = set()
        self.server = threading.Thread(target=self._run_server, name="sk_mixup-scheduler", daemon=True)
        self.server.start()

    def open_call(self, owner: Task | None) -> Call:
        """Begin a parallel call."""
        call = Call(owner)
        with self.changed:
            self.calls.append(call)
            if owner is None:
                self.running.add(call)
        return call

    def submit(self, call: Call, func: Callable[[], object], deliver: Deliver) -> None:
        """Run a function as a task; ``deliver(task, result, error)`` is called in its thread."""
        with self.changed:
            self.n_submitted += 1
            task = Task(self, call, func, deliver, self.n_submitted)
            if not call.is_aborted():
                call.tasks.add(task)
                call.queue.append(task)
                self._advance()
                return
        deliver(task, None, Aborted())

    @contextmanager
    def waiting(self, call: Call) -> Iterator[None]:
        """Let others run while the owner of a call waits for its tasks."""
        owner = call.owner if find_task() is call.owner else None
        start = self.clock()
        with self.changed:
            self.running.discard(call)
            if owner is not None and call.tasks:
                owner.waits_for = call
                self.running.discard(owner)
            self._advance()
        try:
            yield
        finally:
            if owner is not None:
                owner.idle += self.clock() - start
                if owner.waits_for is not None:
                    self.wait(owner, self.ready)

    def abort(self, call: Call) -> None:
        """Give up a call and those that its tasks made."""
        dropped: list[Task] = []
        with self.changed:
            call.was_aborted = True
            self.n_aborts += 1
            for other in filter(Call.is_aborted, self.calls):
                dropped.extend(other.queue)
                other.tasks.difference_update(other.queue)
                other.queue.clear()
                self._note_end(other)
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
            self.is_closing = True
            self.changed.notify_all()
        for thread in (self.server, *self.threads):
            thread.join()

    def is_news(self, message: str) -> bool:
        """Whether a message was not given yet."""
        with self.changed:
            is_new = message not in self.messages
            self.messages.add(message)
        return is_new

    def wait(self, task: Task, where: deque[Task]) -> None:
        """Let a task wait among others until it may go on."""
        start = self.clock()
        with self.changed:
            task.waits_for = None
            self.running.discard(task)
            where.append(task)
            if where is self.asking:  # each asks once until all are served: this cannot go on forever
                self.since = None
            self._advance()
        task.wake.acquire()
        task.idle += self.clock() - start

    # Who runs; all under the lock.

    def _advance(self) -> None:
        """Let tasks run as far as the limits allow, and wake the server."""
        while not self.is_serving and len(self.running) < self.n_running:
            task = self._take_next()
            if task is None or not self._resume(task):
                break
        if not (self.asking or self.ready or any(call.queue for call in self.calls)):
            self.since = None
        elif self.since is None:
            self.since = self.clock()
        self.changed.notify_all()

    def _take_next(self) -> Task | None:
        if self.ready:
            return self.ready.popleft()
        calls = [call for call in self.calls if call.queue]
        if calls and self._is_full():
            calls = [call for call in calls if call.owner is not None and not call.n_begun]
        # Tasks of a call within a task go first: what has begun is to end.
        call = min(calls, key=lambda call: (-call.depth, call.queue[0].number), default=None)
        return None if call is None else call.queue.popleft()

    def _is_full(self) -> bool:
        n_handed_down = sum(call.n_begun > 0 and call.has_waiting_owner() for call in self.calls)
        n = len(self.begun) - n_handed_down
        if self.begun and len(self.begun) >= self.most_begun:
            self.most_begun = len(self.begun)
            self.held = self.read_growth() / self.most_begun
        return n >= self.n_tasks or (n > 0 and (n + 1) * max(self.largest, self.held) > self.memory)

    def _resume(self, task: Task) -> bool:
        """Let a task begin or go on; False if the system has no thread left."""
        if task in self.begun:
            task.wake.release()
        else:
            thread = threading.Thread(target=self._run, args=(task,), name="sk_mixup-task", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # try again when somebody has ended, or the window is over
                task.call.queue.appendleft(task)
                return False
            self.threads.add(thread)
            # By then as many have ended as are to be looked at.
            if len(self.threads) > 2 * len(self.begun) + 2:
                self.threads = {other for other in self.threads if other.is_alive()}
            self.begun.add(task)
            task.call.n_begun += 1
        self.running.add(task)
        return True

    def _run(self, task: Task) -> None:
        _LOCAL.task = task
        enter_thread(task.call.place)
        start = self.clock()
        result, error = None, None
        try:
            with task.regions():
                result = task.func()
        except BaseException as raised:
            error = raised
        try:
            task.deliver(task, result, error)  # may submit the next tasks
        finally:
            with self.changed:
                if task.call.owner is not None:
                    task.call.owner.share += self.clock() - start - task.idle + task.share
                self.running.discard(task)
                self.begun.discard(task)
                task.call.n_begun -= 1
                task.call.tasks.discard(task)
                self._note_end(task.call)
                self._advance()

    def _note_end(self, call: Call) -> None:
        """Once the tasks of a call have ended, wait for its owner, who is about to go on."""
        if not call.tasks and call.owner is not None and call.has_waiting_owner():
            call.owner.waits_for = None
            self.running.add(call.owner)

    # The thread that serves.

    def _run_server(self) -> None:
        while tasks := self._gather():
            self._train([task for task in tasks if task.epoch is not None])
            with self.changed:
                for task in tasks:
                    if task.epoch is not None or task.call.is_aborted():
                        self.ready.append(task)
                        continue
                    task.in_section = True
                    task.wake.release()
                    while task.in_section:
                        self.changed.wait()
                self.is_serving = False
                self._advance()

    def _gather(self) -> list[Task]:
        """Return who is to be served, in the order in which they were submitted; nobody at the end."""
        with self.changed:
            while not self.is_closing:
                left = math.inf if self.since is None else self.since + self.window - self.clock()
                if left <= 0:
                    self.running.clear()
                    self.since = None
                if self.asking and (left <= 0 or not (self.running or self.ready)):
                    tasks = sorted(self.asking, key=lambda task: task.number)
                    self.asking.clear()
                    self.since, self.is_serving = None, True
                    return tasks
                if left <= 0:
                    self._advance()
                self.changed.wait(min(max(left, 0.001), threading.TIMEOUT_MAX))
        return []

    def _train(self, tasks: list[Task]) -> None:
        """Train epochs; those of calls that are aborted meanwhile are dropped."""
        while tasks := [task for task in tasks if not task.call.is_aborted()]:
            n_aborts = self.n_aborts

            def check(n_aborts: int = n_aborts, tasks: list[Task] = tasks) -> None:
                if self.n_aborts != n_aborts and any(task.call.is_aborted() for task in tasks):
                    raise Aborted

            epochs = [task.epoch for task in tasks if task.epoch is not None]
            try:
                self.serve(epochs, check)
                return
            except Aborted:
                continue
            except BaseException as error:
                for epoch in epochs:
                    epoch.error = error
                return
