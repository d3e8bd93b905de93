"""Densities in the plane that ``gan`` learns, each scaled to a standard deviation of about 1 an axis."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
import itertools
import math

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_swiss_roll

__all__ = ["DENSITIES", "Density", "Mixture", "SwissRoll"]

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Density(ABC):
    """A density that can be drawn from."""

    title: str  # Its name in tables

    @property
    def modes(self) -> Points:
        """Centres of the modes, of shape (n_modes, 2); none here."""
        return np.empty((0, 2))

    @property
    def std(self) -> float:
        """Standard deviation of a mode along an axis."""
        return math.nan

    @abstractmethod
    def draw(self, n_samples: int, generator: np.random.Generator) -> Points:
        """Return points of shape (n_samples, 2)."""


@dataclass(frozen=True, eq=False)
class Mixture(Density):
    """Round Gaussians of equal weight.

    Examples
    --------
    >>> from benchmarks.gan.densities import DENSITIES
    >>> ring = DENSITIES["ring"]
    >>> ring.modes.shape, round(ring.std, 5)
    ((8, 2), 0.01414)
    """

    centers: tuple[tuple[float, float], ...]  # One for each mode
    spread: float  # Standard deviation of each along an axis

    @property
    def modes(self) -> Points:
        """Centres of the modes, of shape (n_modes, 2)."""
        return np.array(self.centers)

    @property
    def std(self) -> float:
        """Standard deviation of a mode along an axis."""
        return self.spread

    def draw(self, n_samples: int, generator: np.random.Generator) -> Points:
        """Return points of shape (n_samples, 2), each of a mode chosen at random."""
        index = generator.integers(len(self.centers), size=n_samples)
        return self.modes[index] + self.spread * generator.standard_normal((n_samples, 2))


@dataclass(frozen=True, eq=False)
class SwissRoll(Density):
    """The two rolled axes of scikit-learn's swiss roll."""

    noise: float  # Standard deviation around the curve, before scaling
    scale: float  # By which the axes are divided

    def draw(self, n_samples: int, generator: np.random.Generator) -> Points:
        """Return points of shape (n_samples, 2)."""
        rolled, _ = make_swiss_roll(n_samples, noise=self.noise, random_state=int(generator.integers(2**31)))
        return rolled[:, [0, 2]] / self.scale


def _make_ring(n_modes: int, radius: float, std: float) -> Mixture:
    angles = 2 * math.pi * np.arange(n_modes) / n_modes
    centers = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return Mixture("ring of eight", tuple(map(tuple, centers.tolist())), std)


def _make_grid(n_side: int, distance: float, std: float) -> Mixture:
    axis = [distance * (place - (n_side - 1) / 2) for place in range(n_side)]
    return Mixture("5x5 grid", tuple(itertools.product(axis, axis)), std)


# The densities of the papers on lost modes: a ring of radius 2 with deviation 0.02, a grid of spacing 2
# with deviation 0.05, a roll of noise 0.25. Each is divided by what makes its deviation about 1 an axis.
DENSITIES: Mapping[str, Density] = {
    "ring": _make_ring(8, 2 / math.sqrt(2), 0.02 / math.sqrt(2)),
    "grid": _make_grid(5, 2 / math.sqrt(8), 0.05 / math.sqrt(8)),
    "swiss_roll": SwissRoll("swiss roll", noise=0.25, scale=6.7),
}
