"""A curve through differences by ERM's training error, with intervals of a cluster bootstrap."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["OFFSET", "Cluster", "find_crossing", "fit_curves", "to_scale"]

Values = NDArray[np.float64]
# Added to an error in per cent before its logarithm is taken: about one image of a thousand.
OFFSET = 0.1
N_GRID = 61
DEGREE = 2
ENDS = (0.025, 0.975)


@dataclass(frozen=True, eq=False)
class Cluster:
    """Points that are drawn together: one setting on images, one table."""

    group: object  # What is held fixed in the slope within groups
    x: Values  # (n_points, n_seeds): ERM's training error, in per cent
    y: Values  # (n_points, n_seeds): the difference from ERM


def to_scale(error: Values) -> Values:
    """Return errors in per cent on the scale of the curve: the logarithm to base 10 of error + 0.1."""
    return np.asarray(np.log10(error + OFFSET))


def fit_curves(clusters: Sequence[Cluster], *, n_resamples: int, seed: int = 0) -> dict[str, Any]:
    """Return a parabola through the points' means, and slopes, each with its 95 % interval.

    The curve is fitted by least squares over the scale of :func:`to_scale`, each point with equal weight. A
    resample draws clusters with replacement, then in each its seeds. ``crossing`` is where the curve first
    reaches 0 from the left, in per cent: below it mixup's figure is the lower one; inf where it never does,
    -inf where the curve begins above. ``slope`` is the change of the difference by a tenfold training error,
    ``slope_within`` the same with what the groups differ in held fixed.
    """
    generator = np.random.default_rng(seed)
    points = [_average(cluster, np.arange(cluster.x.shape[1])) for cluster in clusters]
    scales = np.concatenate([x for _, x, _ in points])
    grid = np.linspace(scales.min(), scales.max(), N_GRID)
    estimates = [_estimate(points, grid)]
    for _ in range(n_resamples):
        drawn = [clusters[place] for place in generator.integers(len(clusters), size=len(clusters))]
        sizes = [cluster.x.shape[1] for cluster in drawn]
        seeds = [generator.integers(size, size=size) for size in sizes]
        estimates.append(_estimate(list(map(_average, drawn, seeds)), grid))
    found: dict[str, Any] = {"grid": (10**grid - OFFSET).round(4).tolist()}
    for name in ("curve", "crossing", "slope", "slope_within"):
        values = np.array([estimate[name] for estimate in estimates])
        ends = np.quantile(values[1:], ENDS, axis=0, method="inverted_cdf")
        for suffix, part in zip(("", "_low", "_high"), (values[0], *ends), strict=True):
            found[f"{name}{suffix}"] = np.round(part, 4).tolist()
    return found


Points = tuple[object, Values, Values]


def _average(cluster: Cluster, seeds: NDArray[np.int64]) -> Points:
    """Return group, scale and difference of a cluster's points, means over some seeds."""
    return cluster.group, to_scale(cluster.x[:, seeds].mean(axis=1)), cluster.y[:, seeds].mean(axis=1)


def _estimate(points: Sequence[Points], grid: Values) -> dict[str, Any]:
    x, y = (np.concatenate([part[place] for part in points]) for place in (1, 2))
    curve = _fit_polynomial(x, y)(grid)
    centred = [(_center(x), _center(y)) for x, y in _group(points)]
    within = [np.concatenate(part) for part in zip(*centred, strict=True)]
    return {
        "curve": curve,
        "crossing": find_crossing(10**grid - OFFSET, curve),
        "slope": _find_slope(_center(x), _center(y)),
        "slope_within": _find_slope(within[0], within[1]),
    }


def _group(points: Sequence[Points]) -> list[tuple[Values, Values]]:
    groups = dict.fromkeys(group for group, *_ in points)
    return [
        (
            np.concatenate([x for own, x, _ in points if own == group]),
            np.concatenate([y for own, _, y in points if own == group]),
        )
        for group in groups
    ]


def _center(values: Values) -> Values:
    return np.asarray(values - values.mean())


def _find_slope(x: Values, y: Values) -> float:
    """Return the least-squares slope of centred values; 0 where x does not vary."""
    return float(x @ y / (x @ x)) if x @ x > 0 else 0.0


def _fit_polynomial(x: Values, y: Values) -> Callable[[Values], Values]:
    degree = min(DEGREE, len(np.unique(x)) - 1)
    coefficients = np.linalg.lstsq(np.vander(x, degree + 1), y, rcond=None)[0]
    return lambda grid: np.asarray(np.vander(grid, degree + 1) @ coefficients)


def find_crossing(grid: Values, curve: Values) -> float:
    """Return where a curve first reaches 0: inf if nowhere, -inf if it begins there.

    Examples
    --------
    >>> import numpy as np
    >>> from benchmarks.regimes.curve import find_crossing
    >>> find_crossing(np.array([1.0, 2.0, 3.0]), np.array([-1.0, 1.0, 2.0]))
    1.5
    """
    above = np.flatnonzero(curve >= 0)
    if above.size == 0:
        return np.inf
    place = int(above[0])
    if place == 0:
        return -np.inf
    return float(np.interp(0, curve[place - 1 : place + 1], grid[place - 1 : place + 1]))
