"""Which threads and processes a block of ``stacked()`` reaches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import tempfile
import threading

from sk_mixup.stacking._scheduler import find_task

__all__ = ["find_missed", "open_block"]

# Names a file that is there as long as a block is open, and so tells processes that were begun in it.
VARIABLE = "SK_MIXUP_STACKED"

_OPEN: list[tuple[int, int]] = []  # process and thread of each block


@contextmanager
def open_block() -> Iterator[None]:
    """Let other threads and processes know that a block is open."""
    own, before = (os.getpid(), threading.get_ident()), os.environ.get(VARIABLE)
    with tempfile.NamedTemporaryFile(prefix=f"sk_mixup_{own[0]}_") as file:
        os.environ[VARIABLE] = file.name
        _OPEN.append(own)
        try:
            yield
        finally:
            _OPEN.remove(own)
            if before is None:
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = before


def find_missed() -> str | None:
    """Return 'thread' or 'process' if a block is open that does not reach this one; None else."""
    if find_task() is not None:
        return None
    process, thread = os.getpid(), threading.get_ident()
    threads = {ident for owner, ident in _OPEN if owner == process}
    if threads:
        return None if thread in threads else "thread"
    name = os.environ.get(VARIABLE)
    return "process" if name is not None and Path(name).exists() else None
