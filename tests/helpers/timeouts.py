"""Runs what could hang, and fails if it does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import signal
import threading
from typing import Any

import pytest
import torch

LIMIT = 30.0  # seconds after which a test counts as hung


def within(body: Callable[[], Any], limit: float = LIMIT) -> Any:
    """Return what a function returns or raise what it raises; fail if it does not end in time."""
    outcome: dict[str, Any] = {}
    n_threads = torch.get_num_threads()

    def run() -> None:
        torch.set_num_threads(n_threads)
        try:
            outcome["result"] = body()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    if thread.is_alive():
        pytest.fail(f"hangs: not done after {limit} seconds")
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


@contextmanager
def no_hang() -> Iterator[None]:
    """Break off what hangs in the main thread; again and again, should it hang in the clean-up."""

    def stop(*_: Any) -> None:
        raise TimeoutError("this test hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
