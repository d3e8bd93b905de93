"""An epoch of semi-supervised training: its joint batches, and what the unlabelled loss weighs in each."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
import torch

from sk_mixup._data.joint_batches import JointBatches, draw_joint_plan
from sk_mixup._training.consistency_losses import ramp_up
from sk_mixup.estimators._partial_labels import PartlyLabeledRows
from sk_mixup.estimators._semi_supervised_options import SemiSupervisedOptions
from sk_mixup.estimators._semi_supervised_step import Method

__all__ = ["draw_epoch"]


class EpochOptions(SemiSupervisedOptions, Protocol):
    """The options of an epoch."""

    alpha: float
    augment: object
    batch_size: int
    max_epochs: int


def draw_epoch(
    options: EpochOptions,
    method: Method,
    rows: PartlyLabeledRows,
    generator: np.random.Generator,
    *,
    n_done: int,
    dtype: torch.dtype,
) -> JointBatches:
    """Return the joint batches of an epoch, `n_done` epochs after the first."""
    plan = draw_joint_plan(
        generator,
        (len(rows), len(rows.unlabeled)),
        (options.batch_size, options.unlabeled_batch_size),
        n_views=method.n_augmentations,
        alpha=options.alpha,
        lam_per=options.lam_per,
        across=method.across,
    )
    n_rampup = options.max_epochs // 2 if options.rampup_epochs is None else options.rampup_epochs
    weights = options.unlabeled_weight * _ramp(method, n_done, len(plan), n_rampup)
    noise_std = 0.0 if options.augment is not None else options.noise_std
    return JointBatches(rows, rows.unlabeled, plan, weights, generator, noise_std, dtype)


def _ramp(method: Method, n_done: int, n_steps: int, n_rampup: int) -> NDArray[np.float64]:
    """Return the share of the unlabelled loss in each step of an epoch."""
    epochs = n_done + np.arange(n_steps) / n_steps
    return np.array([ramp_up(n / n_rampup, method.ramp) if n_rampup else 1.0 for n in epochs])
