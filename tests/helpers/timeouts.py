"""Runs what could hang, and fails if it does."""

from collections.abc import Callable
import threading
from typing import Any

import pytest
import torch

LIMIT = 20.0  # seconds after which a test counts as hung


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
