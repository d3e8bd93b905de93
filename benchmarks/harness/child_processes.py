"""Measurements in a process of their own, and the most memory that a process holds."""

import json
import os
from pathlib import Path
import subprocess
import sys
import threading
import time
from typing import Any

import psutil

__all__ = ["Peak", "run_in_process"]


class Peak:
    """The most memory that this process holds while a block runs, in bytes.

    When the block has ended ``growth`` is that memory less what was held when it began.
    """

    growth = 0

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.bytes = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self.done.is_set():
            self.bytes = max(self.bytes, self.process.memory_info().rss)
            time.sleep(0.001)

    def __enter__(self) -> "Peak":
        self.start = self.process.memory_info().rss
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.done.set()
        self.thread.join()
        self.growth = self.bytes - self.start


def run_in_process(module: str, *arguments: str | int) -> dict[str, Any]:
    """Run a module, such as "benchmarks.speed.children", as a program; return the record it prints as JSON.

    It is told nothing of how many threads there are to be.
    """
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env={**told, "PYTHONPATH": path},
    )
    record: dict[str, Any] = json.loads(done.stdout)
    return record
