"""Run skorch's own tests on our classes: ``python -m tests.skorch_contract mixin``.

Arguments after the name of the swap are pytest's, so one test is run by

    python -m tests.skorch_contract mixin -k test_pickle_save_load
    python -m tests.skorch_contract estimators -k "test_repr or test_set_params" -x
    python -m tests.skorch_contract estimators --runxfail -k test_repr      # with its traceback

See :mod:`tests.skorch_contract.plugin`.
"""

import os
from pathlib import Path
import sys

import pytest
import skorch.tests

from tests.skorch_contract import plugin

NETS = ("test_net", "test_classifier", "test_regressor")
AROUND_NETS = (
    *("test_doctor", "test_helper", "test_scoring", "callbacks.test_lr_scheduler"),
    "callbacks.test_regularization",
)
# Those of these files that our estimators fail count calls, or hold to skorch what scikit-learn decides.
OF_SKORCH = ("test_dataset", "callbacks.test_scoring", "callbacks.test_training")
MODULES = {"mixin": (*NETS, *AROUND_NETS, *OF_SKORCH), "estimators": (*NETS, *AROUND_NETS)}
NEEDS_DOWNLOADS = "tokenizer"


def main(arguments: list[str]) -> int:
    """Run the tests of skorch under the swap that the first argument names; return pytest's exit code."""
    os.environ[plugin.SWAP] = arguments[0]
    modules = [f"skorch.tests.{name}" for name in MODULES[arguments[0]]]
    options = ["-c", os.devnull, "--rootdir", str(Path(skorch.tests.__file__).parent), "-p", plugin.__name__]
    output = ["-q", "--disable-warnings", "--tb=short", "-p", "no:cacheprovider"]
    chosen = ["-k", f"not {NEEDS_DOWNLOADS}", *arguments[1:]]
    return int(pytest.main([*options, *output, *chosen, "--pyargs", *modules]))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in plugin.SWAPS:
        sys.exit(f"usage: python -m tests.skorch_contract {{{','.join(plugin.SWAPS)}}} [pytest's arguments]")
    sys.exit(main(sys.argv[1:]))
