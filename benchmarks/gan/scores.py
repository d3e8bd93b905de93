"""How close samples come to a density: distance to fresh points, modes covered, share near a mode."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from benchmarks.gan.densities import Density

__all__ = ["MODE_SHARE", "N_STD", "compute_energy_distance", "compute_mode_scores", "compute_sample_scores"]

# A sample this many standard deviations from a mode or less is near it: the papers' "high quality".
N_STD = 3.0
# A mode counts as covered from this part of its fair share of the samples on: one of 2,500 for 25 modes.
# Much of the literature counts it from the first sample on, however many there are.
MODE_SHARE = 0.01
# Where the coordinates of a net that has diverged end.
LIMIT = 100.0

Points = NDArray[np.floating[Any]]


def compute_sample_scores(samples: Points, fresh: Points, density: Density) -> dict[str, Any]:
    """Return the scores of a generator's samples.

    ``energy``, the energy distance to ``fresh``; ``modes``, how many are covered; ``near``, the share of
    samples near one, in [0, 1]. The last two are None for a density without modes. Coordinates are cut at
    ±100, and those that are not finite count as 100.
    """
    bounded = np.clip(np.nan_to_num(samples, nan=LIMIT, posinf=LIMIT, neginf=-LIMIT), -LIMIT, LIMIT)
    modes, near = compute_mode_scores(bounded, density)
    return {"energy": round(compute_energy_distance(bounded, fresh), 6), "modes": modes, "near": near}


def compute_energy_distance(samples: Points, fresh: Points) -> float:
    """Return ``2 E|X - Y| - E|X - X'| - E|Y - Y'|``, estimated by a U-statistic: 0 on average if equal."""
    within = pdist(samples).mean() + pdist(fresh).mean()
    return float(2 * cdist(samples, fresh).mean() - within)


def compute_mode_scores(samples: Points, density: Density) -> tuple[int | None, float | None]:
    """Return how many modes are covered and the share of samples near one.

    Examples
    --------
    >>> import numpy as np
    >>> from benchmarks.gan.densities import DENSITIES
    >>> from benchmarks.gan.scores import compute_mode_scores
    >>> ring = DENSITIES["ring"]
    >>> compute_mode_scores(np.concatenate([ring.modes[:3], np.zeros((1, 2))]), ring)
    (3, 0.75)
    """
    modes = density.modes
    if not len(modes):
        return None, None
    distances = np.linalg.norm(samples[:, None, :] - modes[None, :, :], axis=2)
    nearest = distances.argmin(axis=1)
    is_near = distances.min(axis=1) <= N_STD * density.std
    counts = np.bincount(nearest[is_near], minlength=len(modes))
    covered = int((counts >= MODE_SHARE * len(samples) / len(modes)).sum())
    return covered, round(float(is_near.mean()), 6)
