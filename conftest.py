"""What doctests and tests need alike."""

from contextlib import suppress
import gc

import matplotlib

from benchmarks.data.torchvision_import import prepare_torchvision

matplotlib.use("Agg")
gc.disable()  # what tests are collected into stays: there is no garbage to look for
with suppress(ImportError):  # where there is none, none is needed
    prepare_torchvision()


def pytest_collection_finish() -> None:
    """Look for garbage again, but not among the tests, at each turn."""
    gc.enable()
    gc.freeze()
