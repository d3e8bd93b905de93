import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import stats

from benchmarks.harness.intervals import (
    Interval,
    compute_corrected_interval,
    compute_t_interval,
    count_wins,
)

VALUES = [0.3, -0.1, 0.4, 0.15, 0.02, 0.33]


def test_corrected_interval_equals_a_slow_reference() -> None:
    n, ratio = len(VALUES), 0.25
    mean = sum(VALUES) / n
    variance = sum((value - mean) ** 2 for value in VALUES) / (n - 1)
    # The 0.975 quantile of Student's t with 5 degrees of freedom, from a printed table.
    half = 2.570582 * math.sqrt((1 / n + ratio) * variance)
    interval = compute_corrected_interval(VALUES, ratio)
    np.testing.assert_allclose(interval, (mean, mean - half, mean + half), rtol=1e-6)


@pytest.mark.parametrize("compute", [compute_t_interval, lambda x: compute_corrected_interval(x, 0)])
def test_interval_without_correction_is_students(compute) -> None:  # type: ignore[no-untyped-def]
    low, high = stats.t.interval(0.95, len(VALUES) - 1, np.mean(VALUES), stats.sem(VALUES))
    np.testing.assert_allclose(compute(VALUES), (np.mean(VALUES), low, high), rtol=1e-12)


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=20),
    st.floats(0.01, 1),
    st.floats(-50, 50),
)
def test_corrected_interval_moves_with_its_values(values: list[float], ratio: float, by: float) -> None:
    interval = compute_corrected_interval(values, ratio)
    moved = compute_corrected_interval([value + by for value in values], ratio)
    np.testing.assert_allclose(moved, np.array(interval) + by, atol=1e-6)
    assert interval.low <= interval.mean <= interval.high


def test_interval_of_one_value_has_no_ends() -> None:
    interval = compute_t_interval([2.0])
    assert interval.mean == 2.0
    assert math.isnan(interval.low)
    assert interval.find_sign() == 0


@pytest.mark.parametrize(
    ("low", "high", "sign"), [(-2, -1, -1), (1, 2, 1), (-1, 1, 0), (0, 1, 0), (-1, 0, 0)]
)
def test_find_sign_needs_the_whole_interval(low: float, high: float, sign: int) -> None:
    assert Interval((low + high) / 2, low, high).find_sign() == sign


@pytest.mark.parametrize(
    ("differences", "share"),
    [([-1, -2], 1.0), ([1, 0], 0.25), ([0, 0], 0.5), ([-1, 1, 1, 1], 0.25)],
)
def test_count_wins_halves_ties(differences: list[float], share: float) -> None:
    assert count_wins(differences) == share
