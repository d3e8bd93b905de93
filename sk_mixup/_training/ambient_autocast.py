"""Training inside an autocast region of the caller's, which keeps what it has cast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial

import torch

__all__ = ["MakeContext", "casting_anew", "find_region", "find_regions"]

MakeContext = Callable[[], AbstractContextManager[object]]
KINDS = ("cpu", "cuda", "mps", "xpu")


def find_region(kind: str) -> MakeContext:
    """Return what enters the region of this thread for a kind of device; where there is none, nothing."""
    if not torch.is_autocast_enabled(kind):
        return nullcontext
    return partial(torch.autocast, kind, dtype=torch.get_autocast_dtype(kind))


def find_regions() -> MakeContext:
    """Return what enters all regions of this thread in another one: each thread begins without."""
    regions = [region for kind in KINDS if (region := find_region(kind)) is not nullcontext]

    @contextmanager
    def enter() -> Iterator[None]:
        with ExitStack() as stack:
            for region in regions:
                stack.enter_context(region())
            yield

    return enter if regions else nullcontext


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
