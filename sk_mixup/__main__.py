"""The command line: ``python -m sk_mixup compare FILE --target COLUMN``."""

import os
import sys

from sk_mixup._compare.cli import main


def run() -> int:
    """Run the command line, whatever characters its output takes and however much of it is read."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        try:
            return main(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; what is still to be written must not fail anew
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(run())
