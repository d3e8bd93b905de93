"""Entry point of ``python -m benchmarks``."""

import sys
import warnings


def main() -> int:
    """Run the command line, or say in one line which package it lacks."""
    # A protocol holds out what it says: advice for a table of one's own would fill the screen.
    warnings.filterwarnings("ignore", "validation_fraction must hold out|early_stopping must find")
    try:
        from benchmarks.cli import main as run

        return run(sys.argv[1:])
    except ModuleNotFoundError as error:
        print(
            f"python -m benchmarks: error: the package {error.name} must be installed; got none. Run "
            "pip install sk-mixup[benchmarks].",
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
