"""What doctests and tests need alike."""

import gc

import matplotlib
import torch

matplotlib.use("Agg")
gc.disable()  # what tests are collected into stays: there is no garbage to look for


def pytest_collection_finish() -> None:
    """Look for garbage again, but not among the tests, at each turn."""
    gc.enable()
    gc.freeze()


def _declare(name: str) -> None:
    """Declare an operator of torchvision that its build for another torch lacks; nothing here calls it."""
    if not hasattr(torch.ops.torchvision, name):
        LIBRARY.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")


LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for operator in ("nms", "qnms"):
    _declare(operator)
