"""How many threads a training uses: small nets few, without a change for any other thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import math
import threading

import torch
from torch import nn

__all__ = ["find_most_threads", "fitting_threads", "suit_threads"]

# Work of one thread in a step, below which another costs more than it saves: with two threads, nets of up to
# 512x512 units took 1.0 to 30 times as long at batches of 16 and 32 (the more, the busier the machine), a
# net of 1024x1024 units, 1.1e8 operations at a batch of 16, 0.6 times.
FLOPS_EACH = 5e7
# Modules with weights whose work is known.
KNOWN = (nn.Linear, nn.BatchNorm1d, nn.LayerNorm)

_LOCK = threading.Lock()
_LOCAL = threading.local()


def suit_threads(modules: Sequence[nn.Module], shape: Sequence[int], batch_size: int) -> float:
    """Return how many threads a training step is worth, at least 1; infinity where its work is not known.

    Parameters
    ----------
    modules : sequence of torch.nn.Module
        The networks.
    shape : sequence of int
        Shape of an example; linear layers may be applied at many places of it.
    batch_size : int
        Rows of a mini-batch; -1 for all.

    Examples
    --------
    >>> from torch import nn
    >>> from sk_mixup._training.threads import suit_threads
    >>> suit_threads([nn.Linear(54, 128)], (54,), 32)
    1
    >>> suit_threads([nn.Linear(2048, 2048)], (2048,), 32)
    16
    >>> suit_threads([nn.Conv2d(3, 6, 5)], (3, 32, 32), 32)
    inf
    """
    parts = [part for module in modules for part in module.modules() if part._parameters]
    linear = [part for part in parts if isinstance(part, nn.Linear)]
    places = [p.device.type for part in parts for p in part._parameters.values() if p is not None]
    if not linear or any(type(part) not in KNOWN for part in parts) or set(places) != {"cpu"}:
        return math.inf
    if not shape or batch_size < 0:
        return math.inf
    n_rows = batch_size * max(1, math.prod(shape) / linear[0].in_features)
    # Two operations a weight forward, and four back.
    return max(1, round(6 * n_rows * sum(part.weight.numel() for part in linear) / FLOPS_EACH))


def find_most_threads() -> float:
    """Return how many threads the training in this thread is worth; infinity outside of one."""
    return getattr(_LOCAL, "most", math.inf)


@contextmanager
def fitting_threads(most: float) -> Iterator[None]:
    """Let torch use at most so many threads for what this thread does inside; never more than before."""
    before, outside = torch.get_num_threads(), find_most_threads()
    _LOCAL.most = min(most, outside)
    fewer = int(min(before, most))
    try:
        if fewer < before:
            _set_here(fewer)
        yield
    finally:
        _LOCAL.most = outside
        if fewer < before:
            _set_here(before)


def _set_here(n_threads: int) -> None:
    """Set the number for this thread only.

    ``torch.set_num_threads`` sets it for this thread and for all that have not begun, but for none that has:
    so one that begins and ends here puts the number back for those to come.
    """
    with _LOCK:
        for_new = _call_in_thread(torch.get_num_threads)
        torch.set_num_threads(n_threads)
        if for_new != n_threads:
            _call_in_thread(lambda: torch.set_num_threads(for_new))


def _call_in_thread(function: Callable[[], int | None]) -> int:
    results: list[int | None] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0] or 0
