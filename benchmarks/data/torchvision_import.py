"""torchvision, also where its compiled operators do not fit the build of torch."""

import importlib
from typing import Any

import torch

__all__ = ["import_torchvision", "prepare_torchvision"]

OPERATORS = ("nms", "qnms")


def import_torchvision(name: str) -> Any:
    """Return a module of torchvision.

    Examples
    --------
    >>> from benchmarks.data.torchvision_import import import_torchvision
    >>> import_torchvision("transforms.v2").__name__
    'torchvision.transforms.v2'
    """
    prepare_torchvision()
    return importlib.import_module(f"torchvision.{name}")


def prepare_torchvision() -> None:
    """Let torchvision be imported from now on.

    On import it describes two operators for detection, and fails where they could not be loaded. Nothing
    here calls them: they are then, and only then, declared, without a kernel.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        _declare_operators()


def _declare_operators() -> None:
    libraries: Any = torch.library  # they carry no types
    library = libraries.Library("torchvision", "FRAGMENT")
    _LIBRARIES.append(library)
    for operator in OPERATORS:
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


# What is declared ends with the object that declared it.
_LIBRARIES: list[Any] = []
