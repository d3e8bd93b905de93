"""Times of several contenders, taken in turns: the only times that can be compared on a busy machine."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.harness.fitting import measure_time

__all__ = ["compare_times", "interleave"]

Contender = Callable[[], Any]


def interleave(contenders: Mapping[str, Contender], n_rounds: int) -> dict[str, list[float]]:
    """Time each contender once a round; each round begins with the next one.

    Parameters
    ----------
    contenders : mapping of str to callable
        What is timed, called without arguments.
    n_rounds : int
        Rounds that count; one more is run before them as a warm-up.

    Returns
    -------
    seconds : dict of str to list of float
        Times of each contender, round by round.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, n_rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            with measure_time() as watch:
                contenders[name]()
            if turn >= 0:
                seconds[name].append(watch.seconds)
    return seconds


def compare_times(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return the ratio of two contenders' times, round by round: median and quartiles.

    Parameters
    ----------
    ours, theirs : list of float
        Seconds; entry i of both is from the same round.

    Returns
    -------
    ratio : dict
        ``ratio`` (the median), ``low`` and ``high`` (the quartiles).

    Examples
    --------
    >>> from benchmarks.harness.interleaved_timing import compare_times
    >>> compare_times([1.0, 1.0, 3.0], [2.0, 4.0, 4.0])
    {'ratio': 0.5, 'low': 0.375, 'high': 0.625}
    """
    low, median, high = np.quantile(np.divide(ours, theirs), [0.25, 0.5, 0.75])
    return {"ratio": float(median), "low": float(low), "high": float(high)}
