"""The command line ``python -m benchmarks NAME [--preset P] [options]``."""

from collections.abc import Sequence
import dataclasses
import sys

import tyro

from benchmarks import report
from benchmarks.harness.command import Command, UserError, check_known
from benchmarks.harness.results import format_table
from benchmarks.registry import BENCHMARKS

__all__ = ["main"]

COMMANDS = {command.name: command for command in (*BENCHMARKS, report.COMMAND)}
USAGE = (
    "usage: python -m benchmarks NAME [--preset paper|gpu|cpu|smoke] [--data-dir D] [--download]\n"
    "                            [--out DIR] [--seeds N]\n"
    "       python -m benchmarks NAME --help     every option of one benchmark\n"
)
INTERRUPTED = 130


def main(args: Sequence[str]) -> int:
    """Run one command; without arguments list them.

    Parameters
    ----------
    args : sequence of str
        The command line after the program's name.

    Returns
    -------
    status : int
        0 on success, 1 when a check found something, 2 for a mistake of the user, 130 when
        interrupted.
    """
    if not args or args[0] in {"-h", "--help"}:
        print(list_commands())
        return 0
    try:
        check_known("the benchmark", args[0], COMMANDS)
        command = COMMANDS[args[0]]
        return command.run(parse_config(command, list(args[1:])))
    except UserError as error:
        print(f"python -m benchmarks: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return INTERRUPTED


def list_commands() -> str:
    """Return the usage and a table of all commands with their place in the paper."""
    rows = [
        {"command": command.name, "in the paper": command.paper, "what it shows": command.claim}
        for command in COMMANDS.values()
    ]
    return f"{USAGE}\n{format_table(rows)}"


def parse_config(command: Command, args: list[str]) -> object:
    """Make a command's configuration from its preset and the options typed.

    Parameters
    ----------
    command : Command
        Gives the presets; the type of a preset gives the options.
    args : list of str
        The options as typed.

    Returns
    -------
    config : object
        A new frozen configuration.

    Raises
    ------
    UserError
        If the preset is unknown or a value breaks its rule.
    SystemExit
        From tyro, for an unknown option (status 2) or ``--help`` (status 0).
    """
    default = _choose_preset(command, args)
    return tyro.cli(
        type(default),
        default=default,
        args=args,
        prog=f"python -m benchmarks {command.name}",
        description=f"{command.claim} ({command.paper})",
    )


def _choose_preset(command: Command, args: list[str]) -> object:
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
    return dataclasses.replace(default, preset=name) if name else default
