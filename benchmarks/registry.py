"""The benchmarks: every folder beside this file that has a ``run.py`` with a ``COMMAND``."""

from importlib import import_module
from pathlib import Path

from benchmarks.harness.command import Command

__all__ = ["BENCHMARKS"]


def find_benchmarks() -> tuple[Command, ...]:
    """Return the command of every benchmark, in the order of their ``order``, then of their names."""
    folders = sorted(path.parent.name for path in Path(__file__).parent.glob("*/run.py"))
    commands: list[Command] = [import_module(f"benchmarks.{name}.run").COMMAND for name in folders]
    return tuple(sorted(commands, key=lambda command: (command.order, command.name)))


BENCHMARKS = find_benchmarks()
