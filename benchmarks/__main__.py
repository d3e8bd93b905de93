"""Entry point of ``python -m benchmarks``."""

import os
import sys


def main() -> int:
    """Run the command line, or say in one line which package it lacks."""
    try:
        from benchmarks.cli import main as run

        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        try:
            return run(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except ModuleNotFoundError as error:
        print(
            f"python -m benchmarks: error: the package {error.name} must be installed; got none. Run "
            "pip install '.[benchmarks]' in a clone.",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:  # `| head` has read enough; what is still to be written must not fail anew
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a name that is too long, a folder that others may not read
        print(f"python -m benchmarks: error: {error}. The same command goes on.", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
