"""What is worth doing at once on a kind of device: all limits that depend on it stand here."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["ACCELERATOR", "LIMITS", "Limits", "get_limits"]


@dataclass(frozen=True)
class Limits:
    """How much is done at once on a kind of device.

    Parameters
    ----------
    stack_elements : int
        Numbers, inputs and outputs, of all nets of a stack that are mixed at once.
    """

    stack_elements: int


# On the CPU what is mixed should stay in the cache; elsewhere each call costs the time of a thousand numbers.
ACCELERATOR = Limits(stack_elements=2**27)
LIMITS = {"cpu": Limits(stack_elements=2**21)}


def get_limits(device: torch.device) -> Limits:
    """Return the limits of a device's kind.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._devices import get_limits
    >>> get_limits(torch.device("cpu")).stack_elements < get_limits(torch.device("meta")).stack_elements
    True
    """
    return LIMITS.get(device.type, ACCELERATOR)
