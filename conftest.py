"""What doctests and tests need alike."""

import matplotlib
import torch

matplotlib.use("Agg")


def _declare(name: str) -> None:
    """Declare an operator of torchvision that its build for another torch lacks; nothing here calls it."""
    if not hasattr(torch.ops.torchvision, name):
        LIBRARY.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")


LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for operator in ("nms", "qnms"):
    _declare(operator)
