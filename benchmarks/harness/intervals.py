"""Means and intervals over repeated train/test splits."""

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np
from scipy import stats

__all__ = [
    "Interval",
    "compute_corrected_interval",
    "compute_ratio_interval",
    "compute_t_interval",
    "count_wins",
]

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean with the ends of its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    def find_sign(self) -> int:
        """Return -1 or 1 when the whole interval lies on that side of 0, otherwise 0."""
        return int(self.low > 0) - int(self.high < 0)


def compute_corrected_interval(values: Sequence[float] | np.ndarray, test_ratio: float) -> Interval:
    """Return mean and 95 % interval of a quantity measured on repeated random splits.

    The corrected resampled t interval of Nadeau and Bengio [1]_. The test sets of repeated splits
    overlap, and so do the training sets, so the repeats are not independent: the variance of the
    mean is ``(1 / n + n_test / n_train)`` times the sample variance, instead of ``1 / n`` times.

    ``test_ratio`` is rows for testing divided by rows for training; there must be two splits or more.

    References
    ----------
    .. [1] C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine Learning 52,
       2003.

    Examples
    --------
    >>> from benchmarks.harness.intervals import compute_corrected_interval
    >>> compute_corrected_interval([1.0, 1.0, 1.0], test_ratio=0.25)
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    return _make_interval(values, 1 / len(values) + test_ratio)


def compute_t_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Return mean and Student's 95 % interval of independent values, such as one for each data set."""
    return _make_interval(values, 1 / len(values))


def compute_ratio_interval(values: np.ndarray, base: np.ndarray) -> Interval:
    """Return by how many per cent values differ from others: the geometric mean of their ratios.

    With Student's interval of the logarithms; all are above 0, such as one for each data set.

    Examples
    --------
    >>> import numpy as np
    >>> from benchmarks.harness.intervals import compute_ratio_interval
    >>> compute_ratio_interval(np.array([2.0, 4.0]), np.array([1.0, 2.0]))
    Interval(mean=100.0, low=100.0, high=100.0)
    """
    logarithms = compute_t_interval(np.log(np.asarray(values) / base))
    return Interval(*(100 * (math.exp(end) - 1) for end in logarithms))


def _make_interval(values: Sequence[float] | np.ndarray, factor: float) -> Interval:
    """Return the t interval whose variance is ``factor`` times the sample variance."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if array.size < 2:
        return Interval(mean, math.nan, math.nan)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, array.size - 1))
    half = quantile * math.sqrt(factor * float(array.var(ddof=1)))
    return Interval(mean, mean - half, mean + half)


def count_wins(differences: Sequence[float] | np.ndarray) -> float:
    """Return the share of repeats with a negative difference; a tie counts one half."""
    signs = np.sign(np.asarray(differences, dtype=np.float64))
    return float(np.mean((1 - signs) / 2))
