"""Trains any module by autograd, alone, and several modules of one kind by ``vmap``."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import nullcontext
import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils.flop_counter import FlopCounterMode

from sk_mixup._data.batches import PlannedBatches
from sk_mixup._data.virtual_examples import mixing_again, mixing_at
from sk_mixup._devices import Limits, get_limits
from sk_mixup._random import TorchStream, get_global_states
from sk_mixup._training.ambient_autocast import MakeContext
from sk_mixup._training.epoch import Epoch, Stack
from sk_mixup._training.losses import Loss
from sk_mixup._training.module_structure import describe_attributes, describe_module
from sk_mixup._training.stacked_trainer import StackedTrainer
from sk_mixup._training.trainer import HIDDEN, Trainer

__all__ = ["ModuleTrainer", "StackedModuleTrainer"]

# In how many steps of an epoch generators of the process are looked at.
MOST_LOOKS = 2


class ModuleTrainer(Trainer):
    """Trains any module that returns outputs of shape (n, n_outputs), by autograd.

    `autocast` returns the context of the forward pass, such as ``torch.autocast("cuda")``; the loss is
    computed in the precision of the inputs.
    """

    draws: ClassVar[bool] = True
    fewest_stacked: ClassVar[int] = 4

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        n_outputs: int,
        optimizer: torch.optim.Optimizer,
        *,
        dtype: torch.dtype,
        autocast: MakeContext = nullcontext,
        cuda_graph: bool = False,
    ) -> None:
        super().__init__(loss, n_outputs, optimizer, dtype=dtype, cuda_graph=cuda_graph)
        self.module = module
        self.autocast = autocast
        self.parameters = self.list_weights()

    def describe(self, batches: PlannedBatches) -> Hashable:
        """Return what can be run as one; see :meth:`EpochTrainer.describe`."""
        if self.cuda_graph and any(map(_is_drawing, self.module.modules())):
            raise TypeError("dropout draws for each net of a stack by itself, which cannot be a CUDA graph")
        return super().describe(batches)

    def describe_module(self, batches: PlannedBatches) -> tuple[Hashable, dict[int, str]]:
        """Return what modules share that can be stacked; see :meth:`Trainer.describe_module`."""
        if batches.plan.mixes_hidden:
            raise TypeError(f"{HIDDEN} of a module that is no plain multilayer perceptron")
        names = {id(p): name for name, p in self.module.named_parameters()}
        return (describe_module(self.module), repr(self.autocast)), names

    def list_in_place(self) -> list[Tensor]:
        """Return the tensors of the module."""
        held = [value for part in self.module.modules() for value in vars(part).values()]
        own = [value for value in held if isinstance(value, Tensor)]
        return [*self.module.parameters(), *self.module.buffers(), *own]

    def stack(self, epochs: Sequence[Epoch]) -> Stack:
        """Return what runs epochs of one description as one."""
        return StackedModuleTrainer(epochs)

    def is_worth_stacking(self, batches: PlannedBatches, n_nets: int) -> bool:
        """Whether a stack of so many nets is faster than one net after the other."""
        device = self.get_device()
        fewest = self.fewest_stacked if device.type == "cpu" else 2
        return n_nets >= fewest and self.count_flops(batches) <= get_limits(device).stack_flops

    def count_flops(self, batches: PlannedBatches) -> int:
        """Return the operations of the matrix products and convolutions of one batch; 0 if unknown."""
        x = torch.zeros(int(batches.plan.bounds[1]), *batches.rows.x.shape[1:], dtype=self.dtype)
        try:
            module = copy.deepcopy(self.module).eval()
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                module(x.to(self.get_device()))
        except Exception:  # whatever is wrong with the module shows when it is trained
            return 0
        return int(counter.get_total_flops())

    def step(self, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Do one step; see :meth:`Trainer.step`."""
        for parameter in self.parameters:  # before `forward`, which may have a gradient of its own to add
            parameter.grad = None
        with torch.enable_grad(), self.autocast(), mixing_at(self.module, self.hidden):
            output = self.module(x)
            if isinstance(output, Tensor) and output.ndim == 1 and self.n_outputs == 1:
                output = output.unsqueeze(1)
        if not isinstance(output, Tensor) or output.shape != kept.shape or not output.is_floating_point():
            return False
        gradient = self.loss.compute_gradient(output.detach().to(kept.dtype), kept, *target)
        with mixing_again(self.module, self.hidden):
            torch.autograd.backward(output, gradient.to(output.dtype))
        self.update()
        return True


class StackedModuleTrainer(StackedTrainer[ModuleTrainer]):
    """Trains stacks of any module by ``torch.func``; buffers, as of batch norm, are stacked too."""

    def __init__(self, epochs: Sequence[Epoch], limits: Limits | None = None) -> None:
        super().__init__(epochs, limits)
        self.module, self.autocast = self.trainers[0].module, self.trainers[0].autocast
        self.streams: list[TorchStream] = []
        self.n_looks = self.n_drawing = 0
        self.skeleton = self._make_skeleton()
        self.attributes = describe_attributes(self.module, _is_drawing)

    def list_tensors(self, trainer: ModuleTrainer) -> list[Tensor]:
        """Return parameters and buffers."""
        return [*trainer.module.parameters(), *trainer.module.buffers()]

    def _make_skeleton(self) -> nn.Module:
        """Return the module without weights; its dropout draws from each net's own stream."""
        memo = {id(tensor): tensor for tensor in self.list_tensors(self.trainers[0])}
        skeleton = copy.deepcopy(self.module, memo)
        for part in list(skeleton.modules()):
            for name, child in list(part._modules.items()):  # one that stands there twice, twice
                if type(child) is nn.Dropout and child.training:
                    setattr(part, name, _StackedDropout(child.p, self.streams, inplace=child.inplace))
        return skeleton

    def _call(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> object:
        tensors = {**parameters, **buffers}
        output = functional_call(self.skeleton, tensors, (x,))
        if any(tensors[name] is not buffer for name, buffer in buffers.items()):
            raise RuntimeError("forward puts a new tensor in the place of a buffer")
        return output

    def step(self, start: int, stop: int, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Compute the gradients; see :meth:`StackedTrainer.step`."""
        self.streams[:] = [epoch.stream for epoch in self.epochs[start:stop]]
        parameters = {
            name: self.weights[p][start:stop].detach().requires_grad_(p.requires_grad)
            for name, p in self.module.named_parameters()
        }
        buffers = {name: self.weights[b][start:stop] for name, b in self.module.named_buffers()}
        is_first = self._update is None
        before = get_global_states() if self.n_looks < MOST_LOOKS else None
        with torch.enable_grad(), self.autocast():
            # A function kept here would hold the weights of this stack until the next collection of garbage.
            output = vmap(self._call, in_dims=(0, 0, 0))(parameters, buffers, x)
            if isinstance(output, Tensor) and output.ndim == 2 and self.n_outputs == 1:
                output = output.unsqueeze(2)
        if not isinstance(output, Tensor) or output.shape != kept.shape or not output.is_floating_point():
            return False
        if before is not None:
            self._check_draws(before)
        if is_first and describe_attributes(self.skeleton, _is_drawing) != self.attributes:
            raise RuntimeError("forward changes attributes of the module, or a copy lacks some")
        gradient = self.loss.compute_gradient(output.detach().to(kept.dtype), kept, *target)
        trained = {name: p for name, p in parameters.items() if p.requires_grad}
        gradients = torch.autograd.grad(
            output, list(trained.values()), gradient.to(output.dtype), allow_unused=True
        )
        self._keep_gradients(dict(zip(trained, gradients, strict=True)), start, stop)
        return True

    def _check_draws(self, before: tuple[object, ...]) -> None:
        """Raise if each of the first steps drew from a generator of the process; one may be by others."""
        self.n_looks += 1
        self.n_drawing += get_global_states() != before
        n_steps = max(epoch.n_batches for epoch in self.epochs)
        if self.n_looks == min(MOST_LOOKS, n_steps) == self.n_drawing:
            raise RuntimeError("forward draws from the global generator of Python or numpy")

    def _keep_gradients(self, gradients: dict[str, Tensor | None], start: int, stop: int) -> None:
        for name, p in self.module.named_parameters():
            gradient, kept = gradients.get(name), self.gradients[p]
            if self._update is not None and (gradient is None) != (kept is None):
                raise RuntimeError(f"{name} takes part in some steps only")
            if gradient is None:
                continue
            if kept is None:
                kept = self.gradients[p] = torch.zeros_like(self.weights[p])
            kept[start:stop] = gradient


def _is_drawing(part: nn.Module) -> bool:
    """Whether a submodule is dropout, which a stack replaces."""
    return type(part) is _StackedDropout or (type(part) is nn.Dropout and part.training)


class _StackedDropout(nn.Module):
    """Dropout under ``vmap``: each net draws by itself; on the CPU what it would draw alone."""

    def __init__(self, p: float, streams: list[TorchStream], *, inplace: bool) -> None:
        super().__init__()
        self.p = p
        self.streams = streams
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        if self.p == 0:
            return x
        noise = _DrawNoise.apply(x, self.p, self.streams)  # type: ignore[no-untyped-call]
        return x.mul_(noise) if self.inplace else x * noise


class _DrawNoise(torch.autograd.Function):
    """Zeros with probability p, else 1 / (1 - p); a stream of its own for each net."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, p: float, streams: list[TorchStream]) -> Tensor:
        raise RuntimeError("forward drops out of a tensor that is the same for all nets")

    @staticmethod
    def setup_context(ctx: Any, inputs: object, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: object, *_: Tensor) -> tuple[None, None, None]:
        return None, None, None

    @staticmethod
    def vmap(
        info: object, in_dims: tuple[int, ...], x: Tensor, p: float, streams: list[TorchStream]
    ) -> tuple[Tensor, int]:
        nets = x.movedim(in_dims[0], 0)
        return torch.stack([_draw_noise(part, p, s) for part, s in zip(nets, streams, strict=True)]), 0


def _draw_noise(x: Tensor, p: float, stream: TorchStream) -> Tensor:
    """Draw, on the CPU, what torch's own dropout draws."""
    noise = torch.empty_like(x)  # torch fills a tensor in the order of its memory
    if p == 1:
        return noise.zero_()
    return noise.bernoulli_(1 - p, generator=stream.find_generator(x.device)).div_(1 - p)
