"""What ``regimes`` trains on images, and in which order: what carries the main figure comes first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.fitting import derive_seed
from benchmarks.harness.rules import UserError

__all__ = ["BASELINE", "CHOICES", "MIXUP", "Plan", "Run", "Setting", "Settings", "name_alpha"]

BASELINE, MIXUP = "ERM", "mixup"
# Choices of section 2 that are changed one at a time from mixup with the paper's alpha.
CHOICES: dict[str, dict[str, Any]] = {
    "two loaders": {"partners": "dataset"},
    "three examples": {"n_mixed": 3},
    "same class": {"partners": "same_class"},
    "λ per example": {"lam_per": "example"},
}


@dataclass(frozen=True, order=True)
class Setting:
    """What a network is, how many images it sees, and how often: "2500/16/100" on the command line."""

    n_images: int
    width: int
    epochs: int

    @classmethod
    def parse(cls, text: str) -> "Setting":
        """Return what was typed as numbers."""
        return cls(*map(int, text.split("/")))

    def __str__(self) -> str:
        return f"{self.n_images}/{self.width}/{self.epochs}"


class Settings:
    """Settings as they are typed: three whole numbers from 2 on, or from 1."""

    def check(self, name: str, values: tuple[str, ...]) -> None:
        """Raise :class:`UserError` unless all are."""
        for value in values:
            parts = value.split("/")
            if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
                raise UserError(
                    f"{name} must be images/width/epochs, whole numbers above 0, such as 2500/16/100; got "
                    f"{value!r}."
                )


def name_alpha(alpha: float) -> str:
    """Return the name of mixup with another alpha than the paper's.

    Examples
    --------
    >>> from benchmarks.regimes.design import name_alpha
    >>> name_alpha(0.2), name_alpha(float("inf"))
    ('alpha 0.2', 'alpha ∞')
    """
    return "alpha ∞" if alpha == float("inf") else f"alpha {alpha:g}"


@dataclass(frozen=True)
class Run:
    """One training."""

    setting: Setting
    method: str  # 'ERM', 'mixup', a key of ``CHOICES``, or a name of ``name_alpha``
    weight_decay: float
    repeat: int  # From 0; runs of one repeat share images and seed

    @property
    def key(self) -> str:
        """The run's name in the journal."""
        method = self.method.replace(" ", "_")
        return f"images/{self.setting}/{method}/{self.weight_decay:g}/{self.repeat}"

    @property
    def seed(self) -> int:
        """Seed of initial weights, orders, partners, weights, crops and flips."""
        return derive_seed("regimes", self.repeat)


@dataclass(frozen=True)
class Plan:
    """All trainings, in order of importance."""

    n_repeats: int
    weight_decay: float
    runs: list[Run] = field(default_factory=list)

    def add(
        self, settings: Sequence[Setting], methods: Sequence[str], *, weight_decay: float | None = None
    ) -> "Plan":
        """Add methods at some settings, unless they are planned; a setting ends before the next begins."""
        decay = self.weight_decay if weight_decay is None else weight_decay
        for setting in settings:
            for repeat in range(self.n_repeats):
                runs = (Run(setting, method, decay, repeat) for method in methods)
                self.runs.extend(run for run in runs if run not in self.runs)
        return self
