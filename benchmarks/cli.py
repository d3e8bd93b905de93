"""The command line ``python -m benchmarks NAME [--preset P] [options]``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
import sys
from typing import Any

import tyro

from benchmarks import report, smoke
from benchmarks.harness.command import OUT, ROOT, BaseConfig, Command, UserError, check_folder
from benchmarks.harness.recording import check_recording
from benchmarks.harness.results import format_table
from benchmarks.harness.rules import check_known
from benchmarks.harness.runner import PostponedError
from benchmarks.registry import find_benchmarks
import sk_mixup

__all__ = ["main"]

PROG = "python -m benchmarks"
RESUMES = "A stopped run goes on where it was with the same command."
USAGE = f"""usage: {PROG} NAME [--preset paper|gpu|cpu|smoke] [--data-dir D] [--download]
                            [--out DIR | --record] [--seeds N]
       {PROG} NAME --help     every option of one benchmark, and how long it takes
       {PROG} --version

Results go to {OUT}. {RESUMES} {Command.more_seeds}
"""
INTERRUPTED = 130


def main(args: Sequence[str], *, benchmarks: Sequence[Command] | None = None, root: Path = ROOT) -> int:
    """Run one command and return its exit status; without arguments list them.

    0 is success, 1 a check that found something, 2 a mistake of the user, 130 an interrupt. `benchmarks` None
    takes those registered; `root` is the checkout that ``--record`` writes to.
    """
    if args and args[0] == "--version":
        print(f"sk_mixup {sk_mixup.__version__}")
        return 0
    found = find_benchmarks(*args[:1]) if benchmarks is None else benchmarks
    commands = {item.name: item for item in (*found, report.make_command(found), smoke.make_command(found))}
    if not args or args[0] in {"-h", "--help"}:
        print(list_commands(commands))
        return 0
    try:
        check_known("the benchmark", args[0], commands)
        command = commands[args[0]]
        return command.run(parse_config(command, list(args[1:]), root))
    except UserError as error:
        print(f"{PROG}: error: {error}", file=sys.stderr)
        return 2
    except PostponedError as reason:
        print(reason)
        return 0
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return INTERRUPTED


def list_commands(commands: Mapping[str, Command]) -> str:
    """Return the usage and a table of all commands with their place in the paper and their times."""
    rows = [
        {
            "command": command.name,
            "in the paper": command.paper,
            "what it shows": command.claim,
            "time": command.times.get(next(iter(command.presets)), ""),
        }
        for command in commands.values()
    ]
    return f"{USAGE}\n{format_table(rows)}"


def parse_config(command: Command, args: list[str], root: Path) -> Any:
    """Return a command's configuration, made from its preset and the options typed, and checked.

    tyro raises :class:`SystemExit` for an unknown option (status 2) or ``--help`` (status 0).
    """
    default = _choose_preset(command, args)
    config = tyro.cli(
        type(default),
        default=default,
        args=args,
        prog=f"{PROG} {command.name}",
        description=f"{command.claim} ({command.paper}).{_describe_times(command)}",
    )
    return config if "" in command.presets else _prepare(command, config, root)


def _describe_times(command: Command) -> str:
    if "" in command.presets:
        return ""
    times = (f"{name}: {command.times.get(name, 'not timed')}" for name in command.presets)
    return f"\n\nHow long a preset takes: {'; '.join(times)}.\n\n{RESUMES} {command.more_seeds}"


def _choose_preset(command: Command, args: list[str]) -> Any:
    """Return the preset named in ``args``, the command's first if there is none."""
    name = next(iter(command.presets))
    for position, arg in enumerate(args):
        if arg == "--preset" and position + 1 < len(args):
            name = args[position + 1]
        elif arg.startswith("--preset="):
            name = arg.removeprefix("--preset=")
    if name not in command.presets and "" in command.presets:
        raise UserError(f"--preset must be left out for {command.name!r}; got {name!r}.")
    check_known("--preset", name, command.presets)
    default = command.presets[name]
    return replace(default, preset=name) if name else default


def _prepare(command: Command, config: BaseConfig, root: Path) -> BaseConfig:
    """Check what depends on more than one option, and return where a recorded run writes."""
    given = {"--data-dir": config.data_dir, "--download": config.download or None}
    for option, value in given.items():
        if value is not None and not config.reads_files():
            raise UserError(
                f"{option} must be left out for this run of {command.name}, which reads no files; got "
                f"'{value}'. Remove the argument."
            )
    config.check_device()
    if config.record:
        check_recording(config, command.presets[config.preset], root)
        config = replace(config, out=root / "benchmarks" / "results", work=OUT)
        check_folder("The folder of the recorded results", config.out)
    check_folder("--out" if config.work is None else "The folder of the journal", config.work or config.out)
    return config
