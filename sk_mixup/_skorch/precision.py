"""Mixed precision: its names, its context, and the way back."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor

__all__ = ["AUTOCAST", "HALF", "make_autocast", "to_float32"]

AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
HALF = tuple(AUTOCAST.values())


def make_autocast(autocast: str, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes the context of a forward pass in mixed precision."""
    return partial(torch.autocast, device.type, dtype=AUTOCAST[autocast])


def to_float32(output: object) -> object:
    """Return a module's output, or several in a tuple, list or dict, with halves in single precision."""
    if isinstance(output, Tensor):
        return output.float() if output.dtype in HALF else output
    if isinstance(output, MutableMapping):
        same = copy.copy(output)
        for name, value in output.items():
            same[name] = to_float32(value)
        return same
    if isinstance(output, list | tuple):
        parts: list[Any] = list(map(to_float32, output))
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return output
