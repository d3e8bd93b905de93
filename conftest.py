"""What doctests and tests need alike."""

from contextlib import suppress
import gc
import importlib
from pathlib import Path

import matplotlib
import pytest

from benchmarks.data.torchvision_import import prepare_torchvision

matplotlib.use("Agg")
gc.disable()  # what tests are collected into stays: there is no garbage to look for
with suppress(ImportError):  # where there is none, none is needed
    prepare_torchvision()
with suppress(ImportError), pytest.MonkeyPatch.context() as patch:
    # torchaudio, which transformers and braindecode import, without its compiled operators: they may be of
    # another build of torch, and nobody calls them.
    find = Path.glob
    patch.setattr(Path, "glob", lambda path, of: [] if "torchaudio" in str(path) else find(path, of))
    importlib.import_module("torchaudio")


def pytest_collection_finish() -> None:
    """Look for garbage again, but not among the tests, at each turn."""
    gc.enable()
    gc.freeze()
