"""Run the smoke preset of every benchmark in one process; the figures mean nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.harness.command import Command, check_folder

__all__ = ["Config", "make_command", "run"]


@dataclass(frozen=True)
class Config:
    """Options of the smoke runs."""

    out: Path = Path("build/smoke")
    """Folder for the results."""


def run(config: Config, benchmarks: Sequence[Command]) -> int:
    """Run the benchmarks one after the other and return 0; the first that fails ends it."""
    check_folder("--out", config.out)
    for command in benchmarks:
        print(f"\n{command.name}", flush=True)
        command.run(replace(command.presets["smoke"], preset="smoke", out=config.out))
    return 0


def make_command(benchmarks: Sequence[Command]) -> Command:
    """Return the command ``smoke`` of some benchmarks."""
    return Command(
        name="smoke",
        paper="none",
        claim="run the smoke preset of every benchmark above, in one process",
        presets={"": Config()},
        run=partial(run, benchmarks=benchmarks),
        times={"": "four minutes on one busy core"},
    )
