"""Trains the two nets of a GAN against each other, on mixtures of real and generated examples."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sk_mixup._data.storage import align, gather_rows, send
from sk_mixup._training.module_structure import describe_module, find_chain
from sk_mixup._training.optimizer_step import FusedUpdate
from sk_mixup._training.stacked_optimizer_step import describe_optimizer
from sk_mixup.mixing import AdversarialPlan, mix_real_and_fake

__all__ = ["GENERATOR_LOSSES", "AdversarialBatches", "AdversarialStep", "AdversarialTrainer", "split_losses"]

GENERATOR_LOSSES = ("non-saturating", "minimax")
# Rows and noise are put on the device for so many numbers at once.
BLOCK_ELEMENTS = 2**20


@dataclass(frozen=True, eq=False)
class AdversarialBatches:
    """The mini-batches of some generator steps.

    Parameters
    ----------
    rows : Tensor of shape (n_samples, *features)
        Real examples, on the device.
    plan : AdversarialPlan
        Which rows, weights and noise.
    n_noise : int
        Inputs of the generator.
    """

    rows: Tensor
    plan: AdversarialPlan
    n_noise: int

    def __len__(self) -> int:
        """Return the number of generator steps."""
        return len(self.plan)

    def iterate(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield real rows, noise and weights of each generator step.

        Their first axis are its mini-batches: the discriminator's, then the generator's.
        """
        n_numbers = self.plan.rows[0].size * (math.prod(self.rows.shape[1:]) + self.n_noise)
        n_joined = max(1, BLOCK_ELEMENTS // n_numbers)
        for start in range(0, len(self), n_joined):
            yield from zip(*self._load(self.plan.slice(start, start + n_joined)), strict=True)

    def _load(self, plan: AdversarialPlan) -> tuple[Tensor, Tensor, Tensor]:
        device, dtype = self.rows.device, self.rows.dtype
        noise = plan.draw_noise(self.n_noise, np.float64 if dtype == torch.float64 else np.float32)
        index = send(plan.rows, device)
        rows = gather_rows(self.rows, index.view(-1)).view(*index.shape, *self.rows.shape[1:])
        return rows, send(noise, device, dtype), send(plan.lam, device, dtype)


class AdversarialStep:
    """One generator step and the discriminator's steps before it, of one net or of a stack.

    Parameters
    ----------
    generate : callable
        Turns noise (*nets, n, n_noise) into examples, with as many numbers as real ones.
    discriminate : callable
        Turns examples (*nets, 2 * n, *features) into logits, one for each.
    generator_loss : {'non-saturating', 'minimax'}
        What the generator descends.
    descend_discriminator, descend_generator : callable
        Given the losses of the nets, computes the gradients and does a step of the optimizer.
    """

    def __init__(
        self,
        generate: Callable[[Tensor], Tensor],
        discriminate: Callable[[Tensor], Tensor],
        generator_loss: str,
        descend_discriminator: Callable[[Tensor], None],
        descend_generator: Callable[[Tensor], None],
    ) -> None:
        self.generate = generate
        self.discriminate = discriminate
        self.is_minimax = generator_loss == "minimax"
        self.descend_discriminator = descend_discriminator
        self.descend_generator = descend_generator

    def __call__(self, real: Iterable[Tensor], noise: Iterable[Tensor], lam: Iterable[Tensor]) -> Tensor:
        """Do the steps.

        Parameters
        ----------
        real : iterable of n_batches Tensor of shape (*nets, n, *features)
        noise : iterable of n_batches Tensor of shape (*nets, n, n_noise)
        lam : iterable of n_batches Tensor of shape (*nets, n)

        Returns
        -------
        losses : Tensor of shape (n_batches, *nets)
            The discriminator's, then the generator's.
        """
        losses = []
        *steps, last = zip(real, noise, lam, strict=True)
        for x, z, weight in steps:
            with torch.no_grad():
                fake = self.generate(z)
            loss = self._judge(x, fake, weight, swapped=False)
            self.descend_discriminator(loss)
            losses.append(loss.detach())
        x, z, weight = last
        loss = self._judge(x, self.generate(z), weight, swapped=not self.is_minimax)
        loss = -loss if self.is_minimax else loss
        self.descend_generator(loss)
        return torch.stack([*losses, loss.detach()])

    def _judge(self, real: Tensor, fake: Tensor, lam: Tensor, *, swapped: bool) -> Tensor:
        """Return the discriminator's loss on mixtures, of each net; with targets swapped for its opponent."""
        virtual, target = mix_real_and_fake(real, fake.reshape(real.shape), lam)
        logits = self.discriminate(virtual).reshape(target.shape)
        target = 1 - target if swapped else target
        return binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=-1)


class AdversarialTrainer:
    """Trains a generator and a discriminator; nothing in an epoch waits for the device.

    Parameters
    ----------
    modules : dict of str to torch.nn.Module
        The nets, in training mode: ``'generator'`` and ``'discriminator'``.
    optimizers : dict of str to torch.optim.Optimizer
        One for each.
    generator_loss : {'non-saturating', 'minimax'}
        What the generator descends; see :class:`sk_mixup.MixupGAN`.
    look : callable, default=None
        ``look(name)`` is called when the gradients of ``'generator'`` or
        ``'discriminator'`` are there, before its optimizer's step.
    """

    def __init__(
        self,
        modules: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        generator_loss: str,
        look: Callable[[str], None] | None = None,
    ) -> None:
        self.modules = modules
        self.optimizers = optimizers
        self.generator_loss = generator_loss
        self.look = look

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The discriminator's optimizer."""
        return self.optimizers["discriminator"]

    def list_groups(self) -> list[dict[str, Any]]:
        """Return the groups of parameters of both optimizers."""
        return [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    def find_chains(self, ndim: int) -> dict[str, list[nn.Linear]] | None:
        """Return the layers of both nets where they are linear with ReLUs between them, else None.

        Parameters
        ----------
        ndim : int
            Number of axes of a mini-batch of examples.
        """
        chains = {
            name: find_chain(module, 2 if name == "generator" else ndim)
            for name, module in self.modules.items()
        }
        return None if None in chains.values() else chains  # type: ignore[return-value]

    def run_epoch(self, batches: AdversarialBatches, record: Callable[[Tensor, list[int]], None]) -> bool:
        """Train on some mini-batches.

        Parameters
        ----------
        batches : AdversarialBatches
            The mini-batches.
        record : callable
            Called with the losses, a tensor of shape (n_iter * n_batches,), and the sizes of
            the mini-batches, when all are done or training is broken off.

        Returns
        -------
        done : bool
            True.
        """
        updates = {name: FusedUpdate(optimizer) for name, optimizer in self.optimizers.items()}
        step = AdversarialStep(
            self.modules["generator"],
            self.modules["discriminator"],
            self.generator_loss,
            self._make_descent("discriminator", updates["discriminator"]),
            self._make_descent("generator", updates["generator"]),
        )
        done = []
        try:
            for real, noise, lam in batches.iterate():
                # Matrix products round differently by where in memory their factors begin.
                done.append(step([align(x) for x in real], [align(z) for z in noise], lam))
        finally:
            for update in updates.values():
                update.close()
            if done:
                losses = torch.cat(done)
                record(losses, [batches.plan.rows.shape[2]] * len(losses))
        return True

    def _make_descent(self, name: str, update: FusedUpdate) -> Callable[[Tensor], None]:
        weights = [p for group in self.optimizers[name].param_groups for p in group["params"]]
        trained = [p for p in weights if p.requires_grad]

        def descend(loss: Tensor) -> None:
            for p in weights:
                p.grad = None
            torch.autograd.backward(loss, inputs=trained)
            if self.look is not None:
                self.look(name)
            with torch.no_grad():
                update()

        return descend

    def describe(self, batches: AdversarialBatches) -> Hashable:
        """Return what trainers and batches share that can be run as one.

        Raises
        ------
        TypeError
            If they must be run alone; the message says why.
        """
        if self.look is not None:
            raise TypeError("a callback looks at gradients")
        parts: list[Hashable] = []
        for name, module in self.modules.items():
            names: dict[Tensor, str] = {p: key for key, p in module.named_parameters()}
            parts += [describe_module(module), describe_optimizer(self.optimizers[name], names)]
        rows = batches.rows
        return (
            "adversarial",
            *parts,
            self.generator_loss,
            (tuple(rows.shape[1:]), rows.dtype, rows.device, batches.n_noise),
            batches.plan.rows.shape,
        )


def split_losses(losses: Tensor, n_batches: int) -> tuple[Tensor, Tensor]:
    """Return the discriminator's and the generator's losses of a trainer's record.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup._training.gan_step import split_losses
    >>> [part.tolist() for part in split_losses(torch.arange(6), 3)]
    [[0, 1, 3, 4], [2, 5]]
    """
    table: Any = losses.view(-1, n_batches)
    return table[:, :-1].reshape(-1), table[:, -1]
