"""Every vicinity, what it asks of the data, and a policy that notes the plans of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from sk_mixup.mixing import (
    ERM,
    CutMix,
    Extrapolation,
    FeatureExtrapolation,
    FeatureInterpolation,
    FeatureSwap,
    GaussianNoise,
    KernelPartners,
    ManifoldMixup,
    Mixture,
    Mixup,
    NeighborPartners,
    Plan,
    RowFacts,
    TableMixup,
    Vicinity,
)

NEAR = NeighborPartners(2)
NEAR_CLASS = NeighborPartners(2, same_class=True)
SIMILAR = KernelPartners(0.5)
INF = float("inf")

# Names of layers are those of an nn.Sequential.
VICINITIES: dict[str, Vicinity] = {
    "erm": ERM(),
    "mixup": Mixup(0.4),
    "per_batch": Mixup(lam_per="batch"),
    "average": Mixup(INF),
    "three": Mixup(n_mixed=3),
    "dataset": Mixup(partners="dataset"),
    "same_class": Mixup(n_mixed=3, partners="same_class"),
    "neighbors": Mixup(partners=NEAR),
    "near_class": Mixup(partners=NEAR_CLASS, n_mixed=3),
    "kernel": Mixup(partners=SIMILAR),
    "noise": GaussianNoise(0.5),
    "cutmix": CutMix(),
    "cutmix_per_batch": CutMix(0.5, lam_per="batch", partners="dataset"),
    "cutmix_same_class": CutMix(partners="same_class"),
    "manifold": ManifoldMixup(layers=("input", "0", "1")),
    "manifold_three": ManifoldMixup(0.5, layers=("1",), n_mixed=3, lam_per="batch"),
    "manifold_dataset": ManifoldMixup(layers=("1",), partners="dataset"),
    "manifold_kernel": ManifoldMixup(layers=("0",), partners=SIMILAR),
    "interpolation": FeatureInterpolation(0.3, partners=NEAR),
    "interpolation_of_class": FeatureInterpolation(partners=NEAR_CLASS),
    "interpolation_inside": FeatureInterpolation(layers=("1",), partners="dataset"),
    "feature_extrapolation": FeatureExtrapolation(partners="batch"),
    "feature_extrapolation_of_class": FeatureExtrapolation(0.2, partners=NEAR_CLASS),
    "feature_extrapolation_inside": FeatureExtrapolation(0.4, layers=("0", "1"), partners=NEAR),
    "extrapolation": Extrapolation(),
    "extrapolation_per_batch": Extrapolation(1.0, lam_per="batch", partners="dataset"),
    "swap": FeatureSwap(),
    "swap_per_batch": FeatureSwap(1.0, "batch", ((0, 2), 4), partners="dataset"),
    "swap_by_information": FeatureSwap(INF, categorical_features=(), weights="mutual_info"),
    "table": TableMixup(0.4, categorical_features=(1, (0, 2))),
    "table_per_batch": TableMixup(1.0, "batch", (True, False) * 3, partners=NEAR),
    "table_by_information": TableMixup(2.0, categorical_features=(1,), weights="mutual_info"),
    "mixture": Mixture((Mixup(0.4), Extrapolation(), FeatureInterpolation(partners=NEAR))),
    "mixture_per_example": Mixture(
        (Mixup(0.4), Extrapolation(partners="dataset")), weights=(1, 3), per="example"
    ),
    "mixture_of_images": Mixture((Mixup(0.8), CutMix())),
    "mixture_of_tables": Mixture((TableMixup(2.0, "example", (3,)), Mixup(), FeatureSwap())),
    "mixture_with_noise": Mixture((ERM(), GaussianNoise(0.3), Mixup(n_mixed=3)), per="example"),
    "mixture_of_noises": Mixture((ERM(), GaussianNoise(0.3), GaussianNoise(1.0)), per="example"),
    "mixture_with_hidden": Mixture((ManifoldMixup(layers=("1",)), Mixup(partners="dataset"))),
    "mixture_of_mixtures": Mixture((Mixture((ERM(), Mixup())), GaussianNoise()), weights=(2, 1)),
}

OF_CLASSES = [name for name in VICINITIES if name.endswith("_class") or name == "same_class"]
OF_TARGETS = ["kernel", "manifold_kernel"]
OF_IMAGES = [name for name in VICINITIES if "cutmix" in name or name.endswith("images")]
OF_TABLES = [name for name in VICINITIES if name.startswith(("swap", "table")) or name.endswith("tables")]
BY_INFORMATION = [name for name in VICINITIES if name.endswith("information")]
# An example that is drawn plain is filled up with itself where others are mixed.
FILLED_UP = ["mixture_with_noise", "mixture_of_mixtures"]


def fits(name: str, *, classes: bool, shape: Sequence[int]) -> bool:
    """Whether a vicinity can be used for classes or real targets, and for examples of a shape."""
    if name in (OF_TARGETS if classes else OF_CLASSES):
        return False
    return len(shape) == 1 if name in OF_TABLES else len(shape) == 3 or name not in OF_IMAGES


def get_shape(name: str) -> tuple[int, ...]:
    """Return the shape of an example that a vicinity fits."""
    return (6,) if name in OF_TABLES else (2, 5, 6)


def get_architecture(name: str) -> str:
    """Return the name of an architecture that a vicinity fits."""
    return "tanh" if name in OF_TABLES else "convolution"


@cache
def make_facts(n_samples: int, shape: tuple[int, ...] = (2, 5, 6)) -> RowFacts:
    """Return all that a policy may ask, for rows of three classes; neighbours are found once."""
    generator = np.random.default_rng(99)
    return RowFacts(
        labels=np.arange(n_samples) % 3,
        targets=generator.normal(size=n_samples),
        inputs=generator.normal(size=(n_samples, shape[0])),
        shape=shape,
        layers=("input", "0", "1"),
    )


@dataclass(frozen=True)
class Noted(Vicinity):
    """Draws what another policy draws, and keeps the plans."""

    policy: Vicinity
    plans: list[Plan] = field(default_factory=list, compare=False)

    def check(self, facts: RowFacts) -> None:
        self.policy.check(facts)

    def draw(self, *args: Any) -> Plan:
        self.plans.append(self.policy.draw(*args))
        return self.plans[-1]
