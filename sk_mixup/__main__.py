"""The command line: ``python -m sk_mixup compare FILE --target COLUMN``."""

import sys

from sk_mixup._compare.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
