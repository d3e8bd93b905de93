"""One training epoch of several nets as one batched program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import nullcontext
import copy
from itertools import chain, repeat, zip_longest
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sk_mixup._data.batches import Block
from sk_mixup._random import TorchStream
from sk_mixup._training.epoch import Epoch, iterate_layers
from sk_mixup._training.module_structure import describe_attributes
from sk_mixup._training.stacked_optimizer_step import StackedUpdate, find_runs, read_options
from sk_mixup._training.trainer import ChainTrainer, GraphedStep, ModuleTrainer

__all__ = ["LockstepTrainer", "make_lockstep_trainer"]

# Inputs of all nets of a stack are mixed in blocks of about so many numbers.
BLOCK_ELEMENTS = 2**21
# Products with fewer columns than a vector register holds are slow: they are computed transposed.
NARROW = 16


def make_lockstep_trainer(epochs: Sequence[Epoch]) -> LockstepTrainer:
    """Return what runs epochs that :func:`describe_epoch` finds equal."""
    chain = isinstance(epochs[0].trainer, ChainTrainer)
    return LockstepChainTrainer(epochs) if chain else LockstepModuleTrainer(epochs)


class LockstepTrainer(ABC):
    """Trains several nets of one shape as one; each as it would be trained alone.

    The nets are ordered by the length of their epochs, so that those that still train
    stand in front: a net that is done drops out of the stack. Last batches are of
    different sizes; nets with batches of one size are computed together, so that nothing
    is filled up and every net sees just its own rows.

    Parameters
    ----------
    epochs : sequence of Epoch
        One for each net, equal in :func:`describe_epoch`.
    """

    guard: Callable[[], Any] = torch.no_grad
    n_hidden = 0
    # Where each net is mixed in the step at hand; empty if all are at their inputs.
    layers_in_step: Sequence[str | None] = ()

    def __init__(self, epochs: Sequence[Epoch]) -> None:
        keyed = [(*_get_sizes(epoch), read_options(epoch.trainer.optimizer)) for epoch in epochs]
        order = sorted(range(len(epochs)), key=keyed.__getitem__)
        self.epochs = [epochs[k] for k in order]
        self.trainers = [epoch.trainer for epoch in self.epochs]
        first = self.trainers[0]
        self.loss, self.n_outputs, self.dtype = first.loss, first.n_outputs, first.dtype
        self.cuda_graph = first.cuda_graph
        self.graphs: dict[int, GraphedStep] = {}
        self.size = int(epochs[0].batches.plan.bounds[1])
        self.lengths = [epoch.n_batches for epoch in self.epochs]
        self.weights = self._stack_weights()
        self.gradients: dict[Tensor, Tensor | None] = dict.fromkeys(self.weights)
        self._update: StackedUpdate | None = None
        self.losses: list[list[Tensor]] = [[] for _ in self.epochs]
        self.sizes: list[list[int]] = [[] for _ in self.epochs]

    @abstractmethod
    def list_tensors(self, trainer: Any) -> list[Tensor]:
        """Return parameters and buffers of a net, in the order of the first net's."""

    @abstractmethod
    def step(self, start: int, stop: int, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Compute the gradients of some nets that stand side by side.

        Parameters
        ----------
        start, stop : int
            Which nets.
        x : Tensor of shape (stop - start, n, *features)
            The virtual examples.
        kept : Tensor of shape (stop - start, n, n_outputs)
            Where the loss writes what its values are computed from.
        *target : Tensor
            The batches' part of what the loss prepared.

        Returns
        -------
        done : bool
            False if the output of the modules was not what the loss knows.
        """

    def shape_inputs(self, x: Tensor) -> Tensor:
        """Return inputs in the shape in which a step takes them."""
        return x

    def prepare_hidden(self, trainer: Any, block: Any, sizes: list[int]) -> tuple[Tensor, ...]:
        """Return `n_hidden` tensors of what is mixed at hidden layers, for the rows of a block."""
        return ()

    def _stack_weights(self) -> dict[Tensor, Tensor]:
        tensors = [self.list_tensors(trainer) for trainer in self.trainers]
        with torch.no_grad():
            return {parts[0]: torch.stack(parts) for parts in zip(*tensors, strict=True)}

    def _return_weights(self) -> None:
        """Copy weights, buffers and the last gradients from the stack to the nets."""
        stacked = [stack.unbind() for stack in self.weights.values()]
        gradients = [None if stack is None else stack.unbind() for stack in self.gradients.values()]
        with torch.no_grad():
            for k, trainer in enumerate(self.trainers):
                own = self.list_tensors(trainer)
                torch._foreach_copy_(own, [parts[k] for parts in stacked])
                for p, stack in zip(own, gradients, strict=True):
                    p.grad = None if stack is None else stack[k].clone()

    def run_epoch(self, check: Callable[[], None] = lambda: None) -> bool:
        """Train all nets for an epoch; they are as they were if it is not done.

        Parameters
        ----------
        check : callable
            Called before each step; raises to break off.

        Returns
        -------
        done : bool
            False if the modules' first output was not what the loss knows.
        """
        features = math.prod(self.epochs[0].batches.rows.x.shape[1:])
        n_numbers = self.size * (features + 2 * self.n_outputs) * len(self.epochs)
        n_joined = max(1, BLOCK_ELEMENTS // max(1, n_numbers))
        sources = [epoch.batches.iterate_blocks(n_joined) for epoch in self.epochs]
        n_left = len(self.epochs)
        with self.guard():
            for step in range(0, self.lengths[0], n_joined):
                n_left = self._drop_out(n_left, step)
                blocks = [next(source) for source in sources[:n_left]]
                for k, (batch, sizes) in enumerate(self._mix(blocks)):
                    n_left = self._drop_out(n_left, step + k)
                    check()
                    if not self._step(batch, sizes[:n_left]):
                        return False
            self._drop_out(n_left, self.lengths[0])
        self._return_weights()
        self._get_update().commit()
        for epoch, losses, sizes in zip(self.epochs, self.losses, self.sizes, strict=True):
            epoch.take_losses(torch.cat(losses), sizes)
        return True

    def _drop_out(self, n_left: int, step: int) -> int:
        """Let the nets that have no such step drop out; return how many are left."""
        if self.lengths[n_left - 1] > step:
            return n_left
        n_left = sum(length > step for length in self.lengths)
        self._get_update().narrow(n_left)
        return n_left

    def _mix(self, blocks: Sequence[tuple[Any, list[int]]]) -> Iterator[tuple[tuple[Tensor, ...], list[int]]]:
        """Yield the tensors of a step of all nets, and the sizes of the nets' batches.

        The tensors are inputs, kept outputs and targets, of shape (n_nets, n, ...); a
        batch that is smaller than the largest is filled up with undefined rows.
        """
        parts = []
        for trainer, (block, sizes) in zip(self.trainers, blocks, strict=False):
            y, lam, weight = block.get_mixed_targets()
            lam = lam.to(self.dtype)
            prepared = trainer.loss.prepare(y, lam, weight, sizes)
            inputs = self.shape_inputs(block.get_mixed_inputs())
            parts.append((inputs, *self.prepare_hidden(trainer, block, sizes), *prepared))
        all_sizes = [sizes for _, sizes in blocks]
        x, *rest = (_arrange(tensors, all_sizes, self.size) for tensors in zip(*parts, strict=True))
        targets = rest[self.n_hidden :]
        kept = targets[0].new_empty(*x.shape[:3], self.n_outputs)
        in_step = [list(sizes) for sizes in zip_longest(*all_sizes, fillvalue=0)]
        layers = zip_longest(*(block.hidden.layers if block.hidden else () for block, _ in blocks))
        for batch, sizes, self.layers_in_step in zip(
            zip(x, kept, *rest, strict=True), in_step, chain(layers, repeat(())), strict=False
        ):
            yield batch, sizes
        values = self.loss.compute_values(kept, *targets)
        sums = values[..., : self.size].sum(dim=2).unbind(1)
        for k, sizes in enumerate(all_sizes):
            losses = sums[k][: len(sizes)]
            if sizes[-1] != self.size:
                losses = torch.cat([losses[:-1], values[len(sizes) - 1, k, : sizes[-1]].sum().view(1)])
            self.losses[k].append(losses)
            self.sizes[k].extend(sizes)

    def _step(self, batch: tuple[Tensor, ...], sizes: list[int]) -> bool:
        """Do one step of the nets that still train."""
        n_nets, n = len(sizes), sizes[0]
        if self.cuda_graph and n == self.size and sizes.count(n) == n_nets:
            if n_nets not in self.graphs:
                self.graphs = {n_nets: GraphedStep(self._step_all)}
            x, kept, *target = (_cut(part, 0, n_nets, n) for part in batch)
            return self.graphs[n_nets](x, kept, *target)
        for start, stop in find_runs(sizes):
            n = sizes[start]
            x, kept, *target = (_cut(part, start, stop, n) for part in batch)
            if not self.step(start, stop, x, kept, *target):
                return False
        self._get_update()()
        return True

    def _step_all(self, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Do one step of nets with batches of one size."""
        if not self.step(0, len(x), x, kept, *target):
            return False
        self._get_update()()
        return True

    def _get_update(self) -> StackedUpdate:
        """Return the optimizers; after the first step it is known which parameters have gradients."""
        if self._update is None:
            optimizers = [trainer.optimizer for trainer in self.trainers]
            self._update = StackedUpdate(optimizers, self.weights, self.gradients)
        return self._update


def _get_sizes(epoch: Epoch) -> tuple[int, int]:
    """Return the sort key of an epoch: longest first, then by the size of the last batch."""
    bounds = epoch.batches.plan.bounds
    return -epoch.n_batches, int(bounds[-1] - bounds[-2])


def _arrange(parts: Sequence[Tensor], sizes: Sequence[list[int]], size: int) -> Tensor:
    """Return the rows of each net, step by step: shape (n_batches, n_nets, n, ...)."""
    n_batches, largest = max(map(len, sizes)), max(max(own) for own in sizes)
    if all(len(part) == n_batches * size for part in parts):
        return torch.stack([part.view(n_batches, size, *part.shape[1:]) for part in parts], dim=1)
    arranged = parts[0].new_empty(n_batches, len(parts), max(largest, size), *parts[0].shape[1:])
    for k, (part, own) in enumerate(zip(parts, sizes, strict=True)):
        n_even = len(own) if own[-1] == size else len(own) - 1
        arranged[:n_even, k, :size] = part[: n_even * size].view(n_even, size, *part.shape[1:])
        if n_even < len(own):
            arranged[n_even, k, : own[-1]] = part[n_even * size :]
    return arranged


def _cut(part: Tensor, start: int, stop: int, n: int) -> Tensor:
    """Return the first rows of some nets."""
    if stop - start != len(part):
        part = part[start:stop]
    return part if part.shape[1] == n else part[:, :n]


class LockstepChainTrainer(LockstepTrainer):
    """Trains stacks of linear layers with ReLUs between them, without autograd."""

    guard = torch.inference_mode

    def __init__(self, epochs: Sequence[Epoch]) -> None:
        super().__init__(epochs)
        self.gradients = {p: torch.empty_like(stack) for p, stack in self.weights.items()}
        self.views: dict[tuple[int, int], Any] = {}
        self.n_hidden = 2 if self.epochs[0].batches.plan.mixes_hidden else 0

    def list_tensors(self, trainer: ChainTrainer) -> list[Tensor]:
        """Return weights and biases."""
        return [p for _, p, _ in iterate_layers(trainer.layers)]

    def shape_inputs(self, x: Tensor) -> Tensor:
        """Flatten the features."""
        return x.flatten(1)

    def prepare_hidden(self, trainer: ChainTrainer, block: Block, sizes: list[int]) -> tuple[Tensor, ...]:
        """Return index and weights; see :meth:`HiddenBlock.weigh`."""
        return () if block.hidden is None else block.hidden.weigh(sizes, trainer.levels)

    def _find_mixings(self, start: int, stop: int, hidden: Sequence[Tensor]) -> dict[int, _StackedMixing]:
        """Return what is mixed in this step, by the number of the layer."""
        found = {}
        for k, layer in enumerate(self.layers_in_step[start:stop], start):
            level = self.trainers[k].levels.get(layer, 0)
            if level and level not in found:
                found[level] = _StackedMixing(hidden[0], hidden[1][:, :, level - 1])
        return found

    def _get_layers(self, start: int, stop: int) -> list[tuple[Any, ...]]:
        """Return transposed weight, weight, bias and their gradients, of each layer, for some nets."""
        if (start, stop) not in self.views:
            layers = []
            for layer in self.trainers[0].layers:
                weight = self.weights[layer.weight].detach()[start:stop]
                gradient: Any = self.gradients[layer.weight]
                part = [weight.transpose(1, 2), weight, None, gradient[start:stop], None]
                if layer.bias is not None:
                    bias: Any = self.gradients[layer.bias]
                    part[2] = self.weights[layer.bias].detach()[start:stop].unsqueeze(1)
                    part[4] = bias[start:stop]
                layers.append(tuple(part))
            self.views[start, stop] = layers
        return self.views[start, stop]

    def step(self, start: int, stop: int, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Compute the gradients; see :meth:`LockstepTrainer.step`."""
        layers = self._get_layers(start, stop)
        inside, target = target[: self.n_hidden], target[self.n_hidden :]
        mixings = self._find_mixings(start, stop, inside)
        hidden, clean = [x], {}
        for level, (transposed, _, bias, _, _) in enumerate(layers[:-1], 1):
            hidden.append(_apply_linear(hidden[-1], transposed, bias).relu_())
            if level in mixings:
                clean[level] = hidden[level]
                hidden[level] = mixings[level].mix(hidden[level])
        transposed, _, bias, _, _ = layers[-1]
        gradient = self.loss.compute_gradient(_apply_linear(hidden[-1], transposed, bias), kept, *target)
        for k in reversed(range(len(layers))):
            _, weight, _, weight_gradient, bias_gradient = layers[k]
            if weight.shape[2] < NARROW:
                weight_gradient.copy_(torch.bmm(hidden[k].transpose(1, 2), gradient).transpose(1, 2))
            else:
                torch.bmm(gradient.transpose(1, 2), hidden[k], out=weight_gradient)
            if bias_gradient is not None:
                torch.sum(gradient, 1, out=bias_gradient)
            if k:
                gradient = torch.bmm(gradient, weight)
                gradient = mixings[k].unmix(gradient) if k in mixings else gradient
                _threshold_backward(gradient, clean.get(k, hidden[k]), 0, grad_input=gradient)
        return True


class _StackedMixing:
    """Mixes the rows of several nets, each among its own.

    Parameters
    ----------
    index : Tensor of shape (n_nets, n, k)
        Rows that go into each virtual example.
    lam : Tensor of shape (n_nets, n, k)
        Their weights.
    """

    def __init__(self, index: Tensor, lam: Tensor) -> None:
        n_nets, n, _ = index.shape
        first = torch.arange(0, n_nets * n, n, device=index.device)
        self.index = (index + first.view(-1, 1, 1)).reshape(-1)
        self.lam = lam.unsqueeze(3)

    def mix(self, x: Tensor) -> Tensor:
        """Return the mixed rows of `x`, of shape (n_nets, n, n_units)."""
        rows = x.reshape(-1, x.shape[2]).index_select(0, self.index)
        return (self.lam * rows.view(*self.lam.shape[:3], -1)).sum(dim=2)

    def unmix(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the rows from that of the mixed rows."""
        parts = (self.lam * gradient.unsqueeze(2)).view(-1, gradient.shape[2])
        own = gradient.new_zeros(gradient.shape).view(-1, gradient.shape[2])
        return own.index_add_(0, self.index, parts).view_as(gradient)


_threshold_backward: Any = torch.ops.aten.threshold_backward.grad_input


def _apply_linear(x: Tensor, transposed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.bmm(x, transposed) if bias is None else torch.baddbmm(bias, x, transposed)


class LockstepModuleTrainer(LockstepTrainer):
    """Trains stacks of any module by ``torch.func``; buffers, as of batch norm, are stacked too."""

    def __init__(self, epochs: Sequence[Epoch]) -> None:
        super().__init__(epochs)
        first: Any = self.trainers[0]
        self.module = first.module
        self.autocast = first.autocast or nullcontext
        self.streams: list[TorchStream] = []
        self.skeleton = self._make_skeleton()
        self.attributes = self._describe_attributes()

    def list_tensors(self, trainer: ModuleTrainer) -> list[Tensor]:
        """Return parameters and buffers."""
        return [*trainer.module.parameters(), *trainer.module.buffers()]

    def _make_skeleton(self) -> nn.Module:
        """Return the module without weights; its dropout draws from each net's own stream."""
        memo = {id(tensor): tensor for tensor in self.list_tensors(self.trainers[0])}
        skeleton = copy.deepcopy(self.module, memo)
        for part in list(skeleton.modules()):
            for name, child in part.named_children():
                if type(child) is nn.Dropout and child.training:
                    setattr(part, name, _StackedDropout(child.p, self.streams))
        return skeleton

    def _describe_attributes(self) -> list[Hashable]:
        """Return the plain attributes of all submodules, which a step must leave as they are."""
        parts = [part for part in self.skeleton.modules() if type(part) is not _StackedDropout]
        return [describe_attributes(part) for part in parts]

    def _call(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Any:
        tensors = {**parameters, **buffers}
        output = functional_call(self.skeleton, tensors, (x,))
        if any(tensors[name] is not buffer for name, buffer in buffers.items()):
            raise RuntimeError("forward puts a new tensor in the place of a buffer")
        return output

    def step(self, start: int, stop: int, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Compute the gradients; see :meth:`LockstepTrainer.step`."""
        self.streams[:] = [epoch.stream for epoch in self.epochs[start:stop]]
        parameters = {
            name: self.weights[p][start:stop].detach().requires_grad_(p.requires_grad)
            for name, p in self.module.named_parameters()
        }
        buffers = {name: self.weights[b][start:stop] for name, b in self.module.named_buffers()}
        with torch.enable_grad(), self.autocast():
            # A function kept here would hold the weights of this stack until the next collection of garbage.
            output = vmap(self._call, in_dims=(0, 0, 0))(parameters, buffers, x)
            if isinstance(output, Tensor) and output.ndim == 2 and self.n_outputs == 1:
                output = output.unsqueeze(2)
        if not isinstance(output, Tensor) or output.shape != kept.shape or not output.is_floating_point():
            return False
        if self._update is None and self._describe_attributes() != self.attributes:
            raise RuntimeError("forward changes attributes of the module")
        gradient = self.loss.compute_gradient(output.detach().to(kept.dtype), kept, *target)
        trained = {name: p for name, p in parameters.items() if p.requires_grad}
        gradients = torch.autograd.grad(
            output, list(trained.values()), gradient.to(output.dtype), allow_unused=True
        )
        self._keep_gradients(dict(zip(trained, gradients, strict=True)), start, stop)
        return True

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


class _StackedDropout(nn.Module):
    """Dropout under ``vmap``: each net draws what it would draw alone."""

    def __init__(self, p: float, streams: list[TorchStream]) -> None:
        super().__init__()
        self.p = p
        self.streams = streams

    def forward(self, x: Tensor) -> Tensor:
        if self.p == 0:
            return x
        return x * _DrawNoise.apply(x, self.p, self.streams)  # type: ignore[no-untyped-call]


class _DrawNoise(torch.autograd.Function):
    """Zeros with probability p, else 1 / (1 - p); a stream of its own for each net."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, p: float, streams: list[TorchStream]) -> Tensor:
        return _draw_noise(x, p, streams[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[None, None, None]:
        return None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, p: float, streams: list[TorchStream]) -> tuple[Tensor, int]:
        nets = x.movedim(in_dims[0], 0)
        return torch.stack([_draw_noise(part, p, s) for part, s in zip(nets, streams, strict=True)]), 0


def _draw_noise(x: Tensor, p: float, stream: TorchStream) -> Tensor:
    """Draw what torch's own dropout draws on the CPU."""
    noise = torch.empty_like(x, device="cpu")  # torch fills a tensor in the order of its memory
    noise = noise.zero_() if p == 1 else noise.bernoulli_(1 - p, generator=stream.generator).div_(1 - p)
    return noise.to(x.device)
