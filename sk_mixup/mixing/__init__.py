"""Vicinities: policies that draw a plan (numpy), pure functions that apply it (torch)."""

from sk_mixup.mixing.cutmix import CutMix, draw_boxes
from sk_mixup.mixing.extrapolation import Extrapolation, FeatureExtrapolation, FeatureInterpolation
from sk_mixup.mixing.feature_swap import FeatureSwap, TableMixup
from sk_mixup.mixing.functional import (
    add_noise,
    mix,
    mix_pair,
    mix_rows,
    paste_boxes,
    soft_targets,
    swap_features,
)
from sk_mixup.mixing.gan_plan import GanPlan, draw_gan_plan, mix_real_and_fake
from sk_mixup.mixing.gaussian_noise import GaussianNoise
from sk_mixup.mixing.kernel_partners import draw_kernel_partners
from sk_mixup.mixing.manifold import ManifoldMixup
from sk_mixup.mixing.mixture import Mixture
from sk_mixup.mixing.mixup import ERM, Mixup, draw_lam
from sk_mixup.mixing.noise_source import NoiseSource
from sk_mixup.mixing.operations import AddNoise, Operation, PasteBoxes, Sources, SwapFeatures
from sk_mixup.mixing.partners import (
    BatchPartners,
    ClassPartners,
    DatasetPartners,
    KernelPartners,
    NeighborPartners,
    Partners,
    as_partners,
)
from sk_mixup.mixing.permutation_partners import (
    draw_batch_partners,
    draw_class_partners,
    draw_dataset_partners,
)
from sk_mixup.mixing.plan import Plan, PlannedBatch, batch_bounds, draw_order
from sk_mixup.mixing.row_facts import RowFacts
from sk_mixup.mixing.vicinity import Vicinity, draw_partners

__all__ = [
    "ERM",
    "AddNoise",
    "BatchPartners",
    "ClassPartners",
    "CutMix",
    "DatasetPartners",
    "Extrapolation",
    "FeatureExtrapolation",
    "FeatureInterpolation",
    "FeatureSwap",
    "GanPlan",
    "GaussianNoise",
    "KernelPartners",
    "ManifoldMixup",
    "Mixture",
    "Mixup",
    "NeighborPartners",
    "NoiseSource",
    "Operation",
    "Partners",
    "PasteBoxes",
    "Plan",
    "PlannedBatch",
    "RowFacts",
    "Sources",
    "SwapFeatures",
    "TableMixup",
    "Vicinity",
    "add_noise",
    "as_partners",
    "batch_bounds",
    "draw_batch_partners",
    "draw_boxes",
    "draw_class_partners",
    "draw_dataset_partners",
    "draw_gan_plan",
    "draw_kernel_partners",
    "draw_lam",
    "draw_order",
    "draw_partners",
    "mix",
    "mix_pair",
    "mix_real_and_fake",
    "mix_rows",
    "paste_boxes",
    "soft_targets",
    "swap_features",
]
