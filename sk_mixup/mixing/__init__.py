"""Vicinities: policies that draw a plan (numpy), pure functions that apply it (torch)."""

from sk_mixup.mixing.functional import mix, mix_pair, mix_rows
from sk_mixup.mixing.mixup import ERM, Mixup, draw_lam
from sk_mixup.mixing.partners import (
    draw_batch_partners,
    draw_class_partners,
    draw_dataset_partners,
)
from sk_mixup.mixing.plan import Plan, PlannedBatch, batch_bounds, draw_order

__all__ = [
    "ERM",
    "Mixup",
    "Plan",
    "PlannedBatch",
    "batch_bounds",
    "draw_batch_partners",
    "draw_class_partners",
    "draw_dataset_partners",
    "draw_lam",
    "draw_order",
    "mix",
    "mix_pair",
    "mix_rows",
]
