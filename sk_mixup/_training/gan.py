"""Trains the two nets of a GAN, of one or of several as one, on mixtures of real and generated examples."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import nullcontext
import copy
from dataclasses import dataclass
import math
from typing import ClassVar, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import binary_cross_entropy_with_logits

from sk_mixup._data.storage import align
from sk_mixup._tensors import gather_rows, send
from sk_mixup._training.ambient_autocast import MakeContext
from sk_mixup._training.epoch import Epoch, Record
from sk_mixup._training.module_structure import describe_attributes, describe_module, find_linear_layers
from sk_mixup._training.optimizer_step import FusedUpdate, place_state
from sk_mixup._training.stacked_optimizer_step import (
    StackedUpdate,
    describe_optimizer,
    read_options,
    return_weights,
)
from sk_mixup.mixing import GanPlan, mix_real_and_fake

__all__ = ["GENERATOR_LOSSES", "GanBatches", "GanStep", "GanTrainer", "Player", "StackedGanTrainer"]

GENERATOR_LOSSES = ("non-saturating", "minimax")
# Rows and noise are put on the device for so many numbers at once.
BLOCK_ELEMENTS = 2**20


@dataclass(frozen=True, eq=False)
class GanBatches:
    """The mini-batches of some generator steps: rows (n_samples, *features) on the device, and a plan."""

    rows: Tensor
    plan: GanPlan
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

    def _load(self, plan: GanPlan) -> tuple[Tensor, Tensor, Tensor]:
        device, dtype = self.rows.device, self.rows.dtype
        noise = plan.draw_noise(self.n_noise, np.float64 if dtype == torch.float64 else np.float32)
        index = send(plan.rows, device)
        rows = gather_rows(self.rows, index.view(-1)).view(*index.shape, *self.rows.shape[1:])
        return rows, send(noise, device, dtype), send(plan.lam, device, dtype)


class TrainedNet(Protocol):
    """A net, or a stack of nets, in training."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the output for `x`, of shape (*nets, n, *features)."""

    def descend(self, loss: Tensor) -> None:
        """Do a step of the optimizer along the gradient of each net's loss."""


class GanStep:
    """One generator step and the discriminator's steps before it, of one GAN or of a stack.

    The generator turns noise (*nets, n, n_noise) into examples with as many numbers as real ones, the
    discriminator turns examples (*nets, 2 * n, *features) into logits, one for each.
    """

    def __init__(
        self,
        generator: TrainedNet,
        discriminator: TrainedNet,
        generator_loss: str,
        autocast: MakeContext = nullcontext,
    ) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.is_minimax = generator_loss == "minimax"
        self.autocast = autocast

    def __call__(self, real: Iterable[Tensor], noise: Iterable[Tensor], lam: Iterable[Tensor]) -> Tensor:
        """Do the steps; return the losses (n_batches, *nets), the generator's last.

        Each iterable yields `n_batches` tensors: real rows (*nets, n, *features), noise (*nets, n, n_noise)
        and weights (*nets, n).
        """
        losses = []
        *steps, last = zip(real, noise, lam, strict=True)
        for x, z, weight in steps:
            with torch.no_grad(), self.autocast():
                fake = self.generator(z)
            loss = self._judge(x, fake, weight, swapped=False)
            self.discriminator.descend(loss)
            losses.append(loss.detach())
        x, z, weight = last
        with self.autocast():
            fake = self.generator(z)
        loss = self._judge(x, fake, weight, swapped=not self.is_minimax)
        loss = -loss if self.is_minimax else loss
        self.generator.descend(loss)
        return torch.stack([*losses, loss.detach()])

    def _judge(self, real: Tensor, fake: Tensor, lam: Tensor, *, swapped: bool) -> Tensor:
        """Return the discriminator's loss on mixtures, of each net; with targets swapped for its opponent."""
        virtual, target = mix_real_and_fake(real, fake.reshape(real.shape).to(real.dtype), lam)
        with self.autocast():
            logits = self.discriminator(virtual).reshape(target.shape).to(target.dtype)
        target = 1 - target if swapped else target
        return binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=-1)


@dataclass(frozen=True, eq=False)
class Player:
    """One of the two nets of a GAN, and its optimizer."""

    module: nn.Module
    optimizer: torch.optim.Optimizer

    def describe(self) -> Hashable:
        """Return what players share whose nets can be stacked; TypeError for those that cannot."""
        names = {id(p): key for key, p in self.module.named_parameters()}
        return describe_module(self.module), describe_optimizer(self.optimizer, names)

    def move_to(self, device: str | torch.device) -> None:
        """Put the net and the optimizer's state on a device."""
        self.module.to(device)
        place_state(self.optimizer, device)


@dataclass(frozen=True, eq=False)
class GanTrainer:
    """Trains a generator and a discriminator; nothing in an epoch waits for the device.

    ``look(module)`` is called when the gradients of one of the nets are there, before its optimizer's step.
    `autocast` returns the context of the nets' forward passes.
    """

    generator: Player
    discriminator: Player
    generator_loss: str
    look: Callable[[nn.Module], None] | None = None
    autocast: MakeContext = nullcontext

    draws: ClassVar[bool] = False
    # Five GANs of three layers of 128 units take 0.8 of the time of one after the other, those
    # of 256 and more units as much or more (`python -m benchmarks gan`): they stay single.
    fewest_stacked: ClassVar[int] = 1

    def get_device(self) -> torch.device:
        """Return where the weights are."""
        return self._list_weights()[0].device

    def _list_weights(self) -> list[Tensor]:
        groups = [*self.discriminator.optimizer.param_groups, *self.generator.optimizer.param_groups]
        return [p for group in groups for p in group["params"]]

    def stack(self, epochs: Sequence[Epoch]) -> StackedGanTrainer:
        """Return what runs epochs of one description as one."""
        return StackedGanTrainer(epochs)

    def is_worth_stacking(self, batches: GanBatches, n_nets: int) -> bool:
        """Whether a stack of so many GANs is faster than one after the other."""
        has_mlps = self.find_layers(batches.rows.ndim) is not None
        return has_mlps or (n_nets > 1 and self.get_device().type != "cpu")

    def count_step_bytes(self, batches: GanBatches) -> int:
        """Return about how much a step reads and writes: weights, gradients and two moments."""
        return 4 * sum(p.nbytes for p in self._list_weights())

    def find_layers(self, ndim: int) -> tuple[list[nn.Linear], list[nn.Linear]] | None:
        """Return the layers of both nets where both are plain MLPs for batches of `ndim` axes, else None."""
        layers = (
            find_linear_layers(self.generator.module),
            find_linear_layers(self.discriminator.module, ndim),
        )
        return None if layers[0] is None or layers[1] is None else (layers[0], layers[1])

    def run_epoch(self, batches: GanBatches, record: Record) -> bool:
        """Train on some mini-batches; record their losses also when training is broken off."""
        nets = _SingleNet(self.generator, self.look), _SingleNet(self.discriminator, self.look)
        step = GanStep(*nets, self.generator_loss, self.autocast)
        done = []
        try:
            for real, noise, lam in batches.iterate():
                # Matrix products round differently by where in memory their factors begin.
                done.append(step(map(align, real), map(align, noise), lam))
        finally:
            for net in nets:
                net.update.close()
            if done:
                losses = torch.cat(done)
                record(losses, [batches.plan.rows.shape[2]] * len(losses), None)
        return True

    def describe(self, batches: GanBatches) -> Hashable:
        """Return what trainers and batches share that can be run as one; a TypeError says why not."""
        if self.look is not None:
            raise TypeError("a callback looks at gradients")
        rows = batches.rows
        return (
            "gan",
            self.generator.describe(),
            self.discriminator.describe(),
            (self.generator_loss, repr(self.autocast)),
            (tuple(rows.shape[1:]), rows.dtype, rows.device, batches.n_noise),
            batches.plan.rows.shape,
        )


class _SingleNet:
    """One net in training."""

    def __init__(self, player: Player, look: Callable[[nn.Module], None] | None) -> None:
        self.module, self.look = player.module, look
        self.update = FusedUpdate(player.optimizer)
        self.weights = [p for group in player.optimizer.param_groups for p in group["params"]]
        self.trained = [p for p in self.weights if p.requires_grad]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the output for `x`, of shape (n, *features)."""
        return self.module(x)

    def descend(self, loss: Tensor) -> None:
        """Do a step of the optimizer along the gradient of the loss."""
        for p in self.weights:
            p.grad = None
        torch.autograd.backward(loss, inputs=self.trained)
        if self.look is not None:
            self.look(self.module)
        with torch.no_grad():
            self.update()


class StackedGanTrainer:
    """Trains several GANs of one description as one; each as :class:`GanTrainer` would train it."""

    def __init__(self, epochs: Sequence[Epoch]) -> None:
        trainers = [cast("GanTrainer", epoch.trainer) for epoch in epochs]
        players = [each for trainer in trainers for each in (trainer.generator, trainer.discriminator)]
        options = read_options([player.optimizer for player in players])
        # Nets with equal options of the optimizers share the calls of the kernel: side by side.
        order = sorted(range(len(epochs)), key=lambda k: (options[2 * k], options[2 * k + 1]))
        self.epochs, trainers = [epochs[k] for k in order], [trainers[k] for k in order]
        layers = trainers[0].find_layers(epochs[0].batches.rows.ndim) or (None, None)
        self.nets = (
            _StackedNet([t.generator for t in trainers], [options[2 * k] for k in order], layers[0]),
            _StackedNet([t.discriminator for t in trainers], [options[2 * k + 1] for k in order], layers[1]),
        )
        self.step = GanStep(*self.nets, trainers[0].generator_loss, trainers[0].autocast)

    def run_epoch(self, check: Callable[[], None] = lambda: None) -> bool:
        """Train all nets; they are as they were if `check`, called before each generator step, raises."""
        done = []
        for gans in zip(*(epoch.batches.iterate() for epoch in self.epochs), strict=True):
            check()
            done.append(self.step(*(torch.stack(parts, dim=1) for parts in zip(*gans, strict=True))))
        for net in self.nets:
            net.check_attributes()
        for net in self.nets:
            net.return_weights()
        n_rows = self.epochs[0].batches.plan.rows.shape[2]
        for epoch, losses in zip(self.epochs, torch.cat(done).cpu().unbind(1), strict=True):
            epoch.take_losses(losses, [n_rows] * len(losses), None)
        return True


class _StackedNet:
    """One of the two nets of several GANs in training: their stacked weights."""

    def __init__(
        self, players: Sequence[Player], options: Sequence[str], layers: list[nn.Linear] | None
    ) -> None:
        self.module, self.layers, self.options = players[0].module, layers, options
        self.optimizers = [player.optimizer for player in players]
        self.owned = [[*player.module.parameters(), *player.module.buffers()] for player in players]
        with torch.no_grad():
            self.weights = {parts[0]: torch.stack(parts) for parts in zip(*self.owned, strict=True)}
        for p, stack in self.weights.items():
            stack.requires_grad_(p.requires_grad)
        self.gradients: dict[Tensor, Tensor | None] = {
            p: torch.zeros_like(stack) if stack.requires_grad else None for p, stack in self.weights.items()
        }
        self.update: StackedUpdate | None = None
        if layers is None:  # a copy, for `forward` may change it
            weights = {id(tensor): tensor for tensor in self.owned[0]}
            self.skeleton = copy.deepcopy(self.module, weights)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the output of each net for its part of `x`, of shape (n_nets, n, *features)."""
        if self.layers is None:
            return self._call_module(x)
        output = x.flatten(2)
        for number, layer in enumerate(self.layers):
            output = output if number == 0 else output.relu()
            weight = self.weights[layer.weight].transpose(1, 2)
            if layer.bias is None:
                output = torch.bmm(output, weight)
            else:
                output = torch.baddbmm(self.weights[layer.bias].unsqueeze(1), output, weight)
        return output

    def _call_module(self, x: Tensor) -> Tensor:
        tensors = dict([*self.module.named_parameters(), *self.module.named_buffers()])
        # A function kept here would hold the weights of this stack until the next collection of garbage.
        output: Tensor = vmap(self._call)({name: self.weights[p] for name, p in tensors.items()}, x)
        return output

    def _call(self, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        given = dict(tensors)
        output: Tensor = functional_call(self.skeleton, given, (x,))
        if any(given[name] is not tensor for name, tensor in tensors.items()):
            raise RuntimeError("forward puts a new tensor in the place of a weight or buffer")
        return output

    def check_attributes(self) -> None:
        """Raise if calls of the module have changed it: each net would have changed its own."""
        if self.layers is None and describe_attributes(self.skeleton) != describe_attributes(self.module):
            raise RuntimeError("forward changes attributes of the module, or a copy lacks some")

    def descend(self, loss: Tensor) -> None:
        """Compute the gradients of each net's loss and do a step of the optimizers."""
        trained = {p: stack for p, stack in self.weights.items() if stack.requires_grad}
        gradients = torch.autograd.grad(loss.sum(), list(trained.values()))
        for p, gradient in zip(trained, gradients, strict=True):
            kept = self.gradients[p]
            assert kept is not None
            kept.copy_(gradient)
        if self.update is None:
            weights = {p: stack.detach() for p, stack in self.weights.items()}
            self.update = StackedUpdate(self.optimizers, self.options, weights, self.gradients)
        with torch.no_grad():
            self.update()

    def return_weights(self) -> None:
        """Copy weights, buffers, the last gradients and the optimizers' states to the nets."""
        return_weights(self.owned, self.weights, self.gradients)
        if self.update is not None:
            self.update.narrow(0)
            self.update.commit()
