"""Times of several contenders, taken in turns: the only times that can be compared on a busy machine."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
import torch

from benchmarks.harness.fitting import measure_time

__all__ = ["Contender", "compare_times", "interleave", "list_times", "use_threads"]

Contender = Callable[[], object]


@contextmanager
def use_threads(n_threads: int) -> Iterator[None]:
    """Let torch and numpy use so many threads inside."""
    n_before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with threadpool_limits(n_threads):
            yield
    finally:
        torch.set_num_threads(n_before)


def interleave(
    contenders: Mapping[str, Contender], n_rounds: int, *, device: str = "cpu"
) -> dict[str, list[float]]:
    """Return each contender's seconds, round by round, after one round of warm-up.

    Each round begins with the next contender; a time ends when the device has ended its work.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    waits = torch.device(device).type == "cuda"
    for turn in range(-1, n_rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            with measure_time() as watch:
                contenders[name]()
                if waits:
                    torch.cuda.synchronize(device)
            if turn >= 0:
                seconds[name].append(watch.seconds)
    return seconds


def list_times(
    times: Mapping[str, Iterable[float]], *, scale: float = 1.0, digits: int = 4, **shared: Any
) -> Iterator[dict[str, Any]]:
    """Yield a record for each contender and round: `shared`, and the time times a scale."""
    for contender, values in times.items():
        for turn, value in enumerate(values):
            yield {**shared, "contender": contender, "round": turn, "value": round(scale * value, digits)}


def compare_times(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return the ratio of two contenders' times, round by round: the median, and both quartiles.

    Examples
    --------
    >>> from benchmarks.harness.interleaved_timing import compare_times
    >>> compare_times([1.0, 1.0, 3.0], [2.0, 4.0, 4.0])
    {'ratio': 0.5, 'low': 0.375, 'high': 0.625}
    """
    low, median, high = np.quantile(np.divide(ours, theirs), [0.25, 0.5, 0.75])
    return {"ratio": float(median), "low": float(low), "high": float(high)}
