"""Mixing of real with generated examples: the plan of a GAN's epoch, and what a discriminator is shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sk_mixup.mixing.mixup import draw_lam
from sk_mixup.mixing.noise_source import NoiseSource
from sk_mixup.mixing.plan import Index, Weights

__all__ = ["GanPlan", "draw_gan_plan", "mix_real_and_fake"]


@dataclass(frozen=True, eq=False)
class GanPlan:
    """The draws of some generator steps, each with the discriminator's steps before it.

    Parameters
    ----------
    rows : ndarray of shape (n_iter, n_batches, batch_size)
        Real rows of each mini-batch; the last of an iteration is the generator's.
    lam : ndarray of shape (n_iter, n_batches, batch_size)
        Weight of each real row, in [0, 1].
    noise : NoiseSource
        What the generator is fed; each mini-batch has a stream of its own.
    start : int, default=0
        Number of the first iteration.
    """

    rows: Index
    lam: Weights
    noise: NoiseSource
    start: int = 0

    def __len__(self) -> int:
        """Return the number of generator steps."""
        return len(self.rows)

    def slice(self, start: int, stop: int) -> GanPlan:
        """Return the plan of some of the steps, with the same draws."""
        return GanPlan(self.rows[start:stop], self.lam[start:stop], self.noise, self.start + start)

    def draw_noise(self, n_features: int, dtype: type) -> np.ndarray:
        """Draw the generator's inputs, of shape (n_iter, n_batches, batch_size, n_features).

        Parameters
        ----------
        n_features : int
            Inputs of the generator.
        dtype : type
            numpy.float32 or numpy.float64; the numbers of both differ.
        """
        size = self.rows[0].size
        stop = self.start + len(self)
        noise = self.noise.draw(self.start * size, stop * size, (n_features,), dtype)
        return noise.reshape(*self.rows.shape, n_features)


def draw_gan_plan(
    generator: np.random.Generator,
    n_samples: int,
    shape: tuple[int, int, int],
    alpha: float,
    lam_per: str = "example",
) -> GanPlan:
    """Draw what a GAN's epoch needs, from one generator.

    Parameters
    ----------
    generator : numpy.random.Generator
        Source of randomness.
    n_samples : int
        Number of real rows, at least 1. They are drawn in a random order, in a new one when
        all have been drawn.
    shape : tuple of int
        Generator steps, mini-batches of each with those of the discriminator, rows of a
        mini-batch.
    alpha : float
        λ ~ Beta(alpha, alpha), in [0, inf]; 0 sets every λ to 1 and draws nothing.
    lam_per : {'example', 'batch'}, default='example'
        Whether each row has a λ of its own.

    Returns
    -------
    plan : GanPlan

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import draw_gan_plan
    >>> plan = draw_gan_plan(np.random.default_rng(0), 4, (1, 2, 4), alpha=0.0)
    >>> np.sort(plan.rows).tolist(), bool((plan.lam == 1).all())
    ([[[0, 1, 2, 3], [0, 1, 2, 3]]], True)
    """
    n_iter, n_batches, batch_size = shape
    size = n_iter * n_batches * batch_size
    n_passes = -(-size // n_samples)
    passes = np.tile(np.arange(n_samples), (n_passes, 1))
    rows = generator.permuted(passes, axis=1).ravel()[:size].reshape(shape)
    n_weights = size if lam_per == "example" else n_iter * n_batches
    lam = np.ones(n_weights) if alpha == 0 else draw_lam(generator, alpha, n_weights)[0]
    lam = np.broadcast_to(lam.reshape(n_iter, n_batches, -1), shape).copy()
    bounds = np.arange(0, size + 1, batch_size)
    return GanPlan(rows, lam, NoiseSource(int(generator.integers(2**63)), bounds))


def mix_real_and_fake(real: Tensor, fake: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the discriminator is shown of each pair, and how real it is.

    Of a real x and a generated g(z) two virtual examples are made: λx + (1-λ)g(z) with target
    λ, and (1-λ)x + λg(z) with target 1-λ. As the distribution of λ ~ Beta(α, α) is symmetric,
    both are distributed as in the objective of [1]_, section 3.7; λ = 1 gives a batch of real
    and a batch of generated examples: the plain GAN.

    Parameters
    ----------
    real, fake : Tensor of shape (*nets, n, *features)
        The examples.
    lam : Tensor of shape (*nets, n)
        Weight of the real ones in the first half, in [0, 1].

    Returns
    -------
    virtual : Tensor of shape (*nets, 2 * n, *features)
        The virtual examples.
    target : Tensor of shape (*nets, 2 * n)
        The share of the real one in each.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.mixing import mix_real_and_fake
    >>> virtual, target = mix_real_and_fake(torch.ones(1, 2), torch.zeros(1, 2), torch.tensor([0.75]))
    >>> virtual.tolist(), target.tolist()
    ([[0.75, 0.75], [0.25, 0.25]], [0.75, 0.25])
    """
    axis = lam.ndim - 1
    weight = lam.reshape(*lam.shape, *(1,) * (real.ndim - lam.ndim))
    virtual = torch.cat([torch.lerp(fake, real, weight), torch.lerp(real, fake, weight)], dim=axis)
    return virtual, torch.cat([lam, 1 - lam], dim=axis)
