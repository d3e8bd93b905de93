"""What ``ablation`` compares: each a choice of the paper, or a relative of mixup."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sk_mixup.mixing import (
    CutMix,
    Extrapolation,
    FeatureExtrapolation,
    FeatureInterpolation,
    FeatureSwap,
    GaussianNoise,
    ManifoldMixup,
    Mixture,
    Mixup,
    NeighborPartners,
    TableMixup,
)

__all__ = ["BASELINE", "PUBLISHED", "Method", "make_methods"]

BASELINE = "ERM"
STANDARD = "mixup"
ALPHAS = (0.1, 0.2, 0.4, 1.0)
# Test error in % on CIFAR-10 with weight decay 1e-4 and 5e-4, from Table 5 of the paper.
PUBLISHED = {BASELINE: (5.53, 5.18), STANDARD: (4.24, 4.68)}


@dataclass(frozen=True)
class Method:
    """One row of the ablation."""

    group: str  # The choice that it varies
    options: dict[str, Any]  # Of the classifier
    only_for: str = ""  # "images" or "tables" where nothing else can be mixed so


def make_methods(alpha: float, layers: Sequence[str]) -> dict[str, Method]:
    """Return the rows by name: the baseline, mixup, then one choice changed at a time."""
    return {
        BASELINE: Method("plain", {"alpha": 0}),
        STANDARD: Method("mixup", {"alpha": alpha}),
        **_vary_weights(alpha),
        **_vary_partners(alpha),
        **_vary_layers(alpha, layers),
        **_vary_labels(alpha),
        **_list_relatives(alpha),
    }


def _vary_weights(alpha: float) -> dict[str, Method]:
    return {
        **{f"alpha {value:g}": Method("λ", {"alpha": value}) for value in ALPHAS if value != alpha},
        "λ per batch": Method("λ", {"alpha": alpha, "lam_per": "batch"}),
        **{f"k = {k}": Method("k", {"alpha": alpha, "n_mixed": k}) for k in (3, 4)},
    }


def _vary_partners(alpha: float) -> dict[str, Method]:
    partners = {
        "whole training set": "dataset",
        "same class": "same_class",
        "200 neighbours": NeighborPartners(200),
        "10 neighbours": NeighborPartners(10),
        "200 of the same class": NeighborPartners(200, same_class=True),
        "10 of the same class": NeighborPartners(10, same_class=True),
    }
    return {name: Method("partners", {"alpha": alpha, "partners": value}) for name, value in partners.items()}


def _vary_layers(alpha: float, layers: Sequence[str]) -> dict[str, Method]:
    places: dict[str, Any] = {
        f"hidden layer {number}": (name,) for number, name in enumerate(layers, start=1)
    }
    places["any layer"] = "auto"
    return {
        name: Method("layers", {"vicinity": ManifoldMixup(alpha, layers=place)})
        for name, place in places.items()
    }


def _vary_labels(alpha: float) -> dict[str, Method]:
    return {
        **{
            f"ERM, smoothing {share:g}": Method("labels", {"alpha": 0, "label_smoothing": share})
            for share in (0.05, 0.1, 0.2)
        },
        "mixup, smoothing 0.1": Method("labels", {"alpha": alpha, "label_smoothing": 0.1}),
        "ERM, confidence penalty 0.1": Method("labels", {"alpha": 0, "confidence_penalty": 0.1}),
    }


def _list_relatives(alpha: float) -> dict[str, Method]:
    near = {
        "feature interpolation": FeatureInterpolation(),
        "feature extrapolation": FeatureExtrapolation(),
        "extrapolation": Extrapolation(alpha),
    }
    noise = {f"noise {std:g}": GaussianNoise(std) for std in (0.05, 0.1, 0.2)}
    swapped = {
        "feature swap": FeatureSwap(alpha),
        "feature swap, alpha 1": FeatureSwap(1.0),
        "feature swap by information": FeatureSwap(alpha, weights="mutual_info"),
        "table mixup": TableMixup(alpha),
        "mixup or feature swap": Mixture((Mixup(alpha), FeatureSwap(alpha))),
    }
    pasted = {"CutMix": CutMix(), "mixup or CutMix": Mixture((Mixup(alpha), CutMix()))}
    return {
        **{name: Method("relatives", {"vicinity": policy}) for name, policy in near.items()},
        **{name: Method("noise", {"vicinity": policy}) for name, policy in noise.items()},
        **{name: Method("tables", {"vicinity": policy}, "tables") for name, policy in swapped.items()},
        **{name: Method("images", {"vicinity": policy}, "images") for name, policy in pasted.items()},
    }
