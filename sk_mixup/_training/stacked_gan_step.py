"""Several GANs of one shape, trained as one batched program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sk_mixup._training.epoch import Epoch
from sk_mixup._training.gan_step import AdversarialStep
from sk_mixup._training.stacked_optimizer_step import StackedUpdate, read_options

__all__ = ["LockstepAdversarialTrainer"]


class LockstepAdversarialTrainer:
    """Trains several GANs as one; each as :class:`AdversarialTrainer` would train it alone.

    Parameters
    ----------
    epochs : sequence of Epoch
        One for each GAN, equal in what their trainers describe.
    """

    def __init__(self, epochs: Sequence[Epoch]) -> None:
        # Nets with equal options of the optimizers share the calls of the kernel: side by side.
        self.epochs = sorted(epochs, key=lambda epoch: str(_read_options(epoch.trainer)))
        self.trainers: list[Any] = [epoch.trainer for epoch in self.epochs]
        chains = self.trainers[0].find_chains(epochs[0].batches.rows.ndim)
        self.stacks = {
            name: _Stack(
                [trainer.modules[name] for trainer in self.trainers],
                [trainer.optimizers[name] for trainer in self.trainers],
                None if chains is None else chains[name],
            )
            for name in ("generator", "discriminator")
        }

    def run_epoch(self, check: Callable[[], None] = lambda: None) -> bool:
        """Train all nets; they are as they were if that is broken off.

        Parameters
        ----------
        check : callable
            Called before each generator step; raises to break off.

        Returns
        -------
        done : bool
            True.
        """
        generator, discriminator = self.stacks["generator"], self.stacks["discriminator"]
        step = AdversarialStep(
            generator,
            discriminator,
            self.trainers[0].generator_loss,
            discriminator.descend,
            generator.descend,
        )
        done = []
        for nets in zip(*(epoch.batches.iterate() for epoch in self.epochs), strict=True):
            check()
            done.append(step(*(torch.stack(parts, dim=1) for parts in zip(*nets, strict=True))))
        for stack in self.stacks.values():
            stack.return_weights()
        n_rows = self.epochs[0].batches.plan.rows.shape[2]
        for epoch, losses in zip(self.epochs, torch.cat(done).unbind(1), strict=True):
            epoch.take_losses(losses, [n_rows] * len(losses))
        return True


def _read_options(trainer: Any) -> list[Any]:
    return [read_options(optimizer) for optimizer in trainer.optimizers.values()]


class _Stack:
    """The stacked weights of one of the two nets.

    Parameters
    ----------
    modules : sequence of torch.nn.Module
        The nets.
    optimizers : sequence of torch.optim.Optimizer
        One for each.
    layers : list of torch.nn.Linear or None
        Those of the first net, where it is a plain multilayer perceptron.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        layers: list[nn.Linear] | None,
    ) -> None:
        self.modules, self.optimizers, self.layers = modules, optimizers, layers
        self.owned = [[*module.parameters(), *module.buffers()] for module in modules]
        with torch.no_grad():
            self.weights = {parts[0]: torch.stack(parts) for parts in zip(*self.owned, strict=True)}
        for p, stack in self.weights.items():
            stack.requires_grad_(p.requires_grad)
        self.gradients: dict[Tensor, Tensor | None] = {
            p: torch.zeros_like(stack) if stack.requires_grad else None for p, stack in self.weights.items()
        }
        self.update: StackedUpdate | None = None

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
        module = self.modules[0]
        tensors = dict([*module.named_parameters(), *module.named_buffers()])
        # A function kept here would hold the weights of this stack until the next collection of garbage.
        output: Tensor = vmap(self._call)({name: self.weights[p] for name, p in tensors.items()}, x)
        return output

    def _call(self, tensors: dict[str, Tensor], x: Tensor) -> Any:
        return functional_call(self.modules[0], tensors, (x,))

    def descend(self, losses: Tensor) -> None:
        """Compute the gradients of each net's loss and do a step of the optimizers."""
        trained = {p: stack for p, stack in self.weights.items() if stack.requires_grad}
        gradients = torch.autograd.grad(losses.sum(), list(trained.values()))
        for p, gradient in zip(trained, gradients, strict=True):
            kept: Any = self.gradients[p]
            kept.copy_(gradient)
        if self.update is None:
            weights = {p: stack.detach() for p, stack in self.weights.items()}
            self.update = StackedUpdate(self.optimizers, weights, self.gradients)
        with torch.no_grad():
            self.update()

    def return_weights(self) -> None:
        """Copy weights, buffers, the last gradients and the optimizers' states to the nets."""
        with torch.no_grad():
            for k, own in enumerate(self.owned):
                torch._foreach_copy_(own, [stack[k] for stack in self.weights.values()])
                for p, gradient in zip(own, self.gradients.values(), strict=True):
                    p.grad = None if gradient is None else gradient[k].clone()
        if self.update is not None:
            self.update.narrow(0)
            self.update.commit()
