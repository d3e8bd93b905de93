"""The benchmarks: every folder of this package that has a ``run.py`` with a ``COMMAND``."""

from importlib import import_module
from pathlib import Path

import benchmarks
from benchmarks.harness.command import Command

__all__ = ["find_benchmarks"]


def find_benchmarks(typed: str | None = None) -> tuple[Command, ...]:
    """Return the command of every benchmark, in the order of their ``order``, then of their names.

    Where `typed` is the name of one, it is returned alone: it works without the packages that others need.
    """
    files = (path for place in benchmarks.__path__ for path in Path(place).glob("*/run.py"))
    names = sorted({path.parent.name for path in files})
    if "_" not in (typed or "") and (folder := (typed or "").replace("-", "_")) in names:
        names = [folder]
    commands: list[Command] = [import_module(f"benchmarks.{name}.run").COMMAND for name in names]
    return tuple(sorted(commands, key=lambda command: (command.order, command.name)))
