"""Training inside an autocast region of the caller's, which keeps what it has cast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["casting_anew"]


@contextmanager
def casting_anew(device: torch.device) -> Iterator[None]:
    """Let an autocast region round a fit cast the weights in each operation inside, and none it cast before.

    torch keeps the cast weights until the outermost region ends, and does not see an optimizer's step: all
    steps would be taken with the first weights. A region of each step's own keeps them for that step only,
    and stays as it is.
    """
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    keeps = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(keeps)
        torch.clear_autocast_cache()
