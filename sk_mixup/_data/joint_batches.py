"""Batches of labelled and unlabelled rows that are mixed together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from sk_mixup._data.batches import Batch
from sk_mixup._data.storage import Rows
from sk_mixup._tensors import send
from sk_mixup.mixing import draw_lam

__all__ = ["JointBatch", "JointBatches", "JointPlan", "draw_joint_plan"]

Index = NDArray[np.int64]


@dataclass(frozen=True)
class JointPlan:
    """What one semi-supervised epoch does, drawn before it begins.

    A joint batch holds n_labeled labelled rows, then n_views times its n_unlabeled
    unlabelled ones, n rows in all.

    Attributes
    ----------
    labeled : ndarray of shape (n_steps, n_labeled)
        Labelled rows of each step.
    unlabeled : ndarray of shape (n_steps, n_unlabeled)
        Unlabelled rows of each step.
    place : ndarray of shape (n_steps, n)
        Place in the joint batch of the partner of each row.
    lam : ndarray of shape (n_steps, n)
        Weight of the row itself.
    """

    labeled: Index
    unlabeled: Index
    place: Index
    lam: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labeled)


def draw_joint_plan(
    generator: np.random.Generator,
    n_samples: tuple[int, int],
    batch_sizes: tuple[int, int],
    *,
    n_views: int,
    alpha: float,
    lam_per: str = "example",
    across: bool = False,
) -> JointPlan:
    """Draw the plan of one epoch: a pass over the part that takes more steps.

    Parameters
    ----------
    generator : numpy.random.Generator
        The only source of randomness.
    n_samples : tuple of int
        Labelled and unlabelled rows, each at least 1.
    batch_sizes : tuple of int
        Of each part; -1 for all its rows.
    n_views : int
        How often each unlabelled row stands in its batch.
    alpha : float
        λ ~ Beta(alpha, alpha); 0 gives λ = 1.
    lam_per : {'example', 'batch'}, default='example'
        Whether each row draws its own λ or all of a step share one.
    across : bool, default=False
        Whether partners come from both parts, and λ is at least 1/2 so that a row stays nearer
        to itself (MixMatch); otherwise from a row's own part.

    Returns
    -------
    plan : JointPlan

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup._data.joint_batches import draw_joint_plan
    >>> generator = np.random.default_rng(0)
    >>> plan = draw_joint_plan(generator, (2, 4), (2, 2), n_views=1, alpha=0)
    >>> plan.unlabeled.tolist(), plan.labeled.tolist()
    ([[2, 0], [1, 3]], [[1, 0], [0, 1]])
    """
    sizes = [n if size == -1 else min(size, n) for n, size in zip(n_samples, batch_sizes, strict=True)]
    n_steps = max(-(-n // size) for n, size in zip(n_samples, sizes, strict=True))
    unlabeled = _draw_rounds(generator, n_samples[1], n_steps, sizes[1])
    labeled = _draw_rounds(generator, n_samples[0], n_steps, sizes[0])
    n_joint = sizes[0] + n_views * sizes[1]
    lam = np.ones((n_steps, n_joint))
    if alpha > 0:
        drawn = draw_lam(generator, alpha, n_steps * (n_joint if lam_per == "example" else 1))[0]
        lam *= drawn.reshape(n_steps, -1)
    place = np.tile(np.arange(n_joint), (n_steps, 1))
    parts = [place] if across else [place[:, : sizes[0]], place[:, sizes[0] :]]
    for part in parts:
        generator.permuted(part, axis=1, out=part)
    return JointPlan(labeled, unlabeled, place, np.maximum(lam, 1 - lam) if across else lam)


def _draw_rounds(generator: np.random.Generator, n_samples: int, n_steps: int, size: int) -> Index:
    """Return the rows of some batches: permutations of all rows, one after the other."""
    n_rounds = -(-n_steps * size // n_samples)
    order = np.concatenate([generator.permutation(n_samples) for _ in range(n_rounds)])
    return order[: n_steps * size].reshape(n_steps, size)


class JointBatch(Batch):
    """A batch of labelled rows, as which it unpacks, with the unlabelled ones beside it.

    Attributes
    ----------
    unlabeled : Tensor of shape (n_views * n_unlabeled, *features)
        The unlabelled rows, all of them once for each view.
    n_views : int
        Number of views.
    place : Tensor of shape (n,), dtype int64
        Place of each row's partner in the joint batch.
    joint_lam : Tensor of shape (2, n)
        Weights of the row and of its partner.
    lam : Tensor of shape (2, n_labeled)
        Those of the labelled rows: what is predicted for them is no prediction for clean rows.
    joint_weight : Tensor of shape (n,) or None
        Weights of all rows.
    noise : Tensor of shape (n, *features) or None
        What is added to the inputs.
    unlabeled_weight : float
        Weight of the unlabelled loss in this step.
    """

    unlabeled: Tensor
    n_views: int
    place: Tensor
    joint_lam: Tensor
    joint_weight: Tensor | None
    noise: Tensor | None
    unlabeled_weight: float

    @property
    def inputs(self) -> Tensor:
        """Inputs of all rows, as they were loaded."""
        return torch.cat([self[0], self.unlabeled])


class JointBatches:
    """The joint batches of one epoch.

    Parameters
    ----------
    labeled, unlabeled : Rows
        The two parts of the training set.
    plan : JointPlan
        What the epoch does.
    unlabeled_weight : ndarray of shape (n_steps,)
        Weight of the unlabelled loss in each step.
    generator : numpy.random.Generator
        Draws the noise, step by step: that of a whole epoch may be larger than the data.
    noise_std : float
        Standard deviation of the noise; 0 for none.
    dtype : torch.dtype
        Floating dtype of noise and mixing weights.
    """

    def __init__(
        self,
        labeled: Rows,
        unlabeled: Rows,
        plan: JointPlan,
        unlabeled_weight: NDArray[np.float64],
        generator: np.random.Generator,
        noise_std: float,
        dtype: torch.dtype,
    ) -> None:
        self.labeled = labeled
        self.unlabeled = unlabeled
        self.plan = plan
        self.unlabeled_weight = unlabeled_weight
        self.generator = generator
        self.noise_std = noise_std
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[JointBatch]:
        plan, device = self.plan, self.labeled.targets.device
        labeled = self.labeled.stage(self.labeled.locate(plan.labeled))
        unlabeled = self.unlabeled.stage(self.unlabeled.locate(plan.unlabeled))
        place = send(plan.place, device)
        lam = send(np.stack([plan.lam, 1 - plan.lam], axis=1), device, self.dtype)
        for step, share in enumerate(self.unlabeled_weight.tolist()):
            batch = self._load(labeled[step], unlabeled[step])
            batch.place, batch.joint_lam, batch.unlabeled_weight = place[step], lam[step], share
            batch.lam = batch.joint_lam[:, : len(batch.targets)]
            yield batch

    def _load(self, labeled: Index | Tensor, unlabeled: Index | Tensor) -> JointBatch:
        x, y, weight = self.labeled.load(labeled)
        x_unlabeled, _, weight_unlabeled = self.unlabeled.load(unlabeled)
        batch = JointBatch(x, y, weight)
        n_joint = self.plan.place.shape[1]
        batch.n_views = (n_joint - len(y)) // len(x_unlabeled)
        batch.unlabeled = torch.cat([x_unlabeled] * batch.n_views)
        batch.joint_weight = None
        if weight is not None and weight_unlabeled is not None:
            batch.joint_weight = torch.cat([weight, *[weight_unlabeled] * batch.n_views])
        batch.noise = self._draw_noise((n_joint, *x.shape[1:]))
        return batch

    def _draw_noise(self, shape: tuple[int, ...]) -> Tensor | None:
        if not self.noise_std:
            return None
        noise = self.generator.standard_normal(shape, dtype=np.float32)
        return send(noise, self.labeled.targets.device, self.dtype).mul_(float(self.noise_std))
