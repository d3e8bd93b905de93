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
    stack_flops : int
        Operations of a module's matrix products and convolutions in one batch with which ``vmap`` still pays.
    prediction_rows : int
        Rows of a table in each block that is predicted.
    augment_elements : int
        Numbers of images that are augmented at once; a batch at least.
    """

    stack_elements: int
    stack_flops: int
    prediction_rows: int
    augment_elements: int


# On the CPU what is mixed should stay in the cache. Measured at batch 16 with layers of 128 units, stacks of
# 2, 5 and 20 by `vmap` took 1.8, 0.9 and 0.6 of the time of single nets; convolutions of 32x32 images at
# batch 128 took twice that time. Rows: see estimators/_block_sizes.py.
CPU = Limits(stack_elements=2**21, stack_flops=2**21, prediction_rows=256, augment_elements=1)
LIMITS = {"cpu": CPU}
# Elsewhere each call costs the time of many numbers. None of this was measured on a GPU yet. `stack_flops`
# is to be: `vmap` makes grouped convolutions, which are slow; compare stacks of small convolutional nets
# with single ones in `benchmarks gpu`, and take the size at which they are level.
ACCELERATOR = Limits(stack_elements=2**27, stack_flops=2**28, prediction_rows=2**14, augment_elements=2**23)


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
