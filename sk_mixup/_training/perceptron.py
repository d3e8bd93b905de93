"""Trains plain multilayer perceptrons without autograd, alone, and several of one shape as one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

from sk_mixup._data.batches import Batch, Block, PlannedBatches, RowSlices
from sk_mixup._data.virtual_examples import HiddenBlock
from sk_mixup._devices import Limits
from sk_mixup._training.averages import sum_batches
from sk_mixup._training.epoch import Epoch, Record, Stack
from sk_mixup._training.losses import Loss
from sk_mixup._training.optimizer_step import FusedUpdate
from sk_mixup._training.stacked_trainer import StackedTrainer
from sk_mixup._training.trainer import HIDDEN, Trainer

__all__ = ["PerceptronTrainer", "StackedPerceptronTrainer"]

# Products with fewer columns than a vector register holds are slow: they are computed transposed.
NARROW = 16
# Where one kernel computes a layer and its ReLU.
FUSING = ("cpu", "cuda")

_threshold_backward: Callable[..., Tensor] = torch.ops.aten.threshold_backward.grad_input


# -- the walk through the layers, of one net or of a stack -------------------------------


class Layer(Protocol):
    """A linear layer, of one net or of several; all tensors of those have an axis more in front."""

    def apply(self, x: Tensor) -> Tensor:
        """Return the outputs, a new tensor."""

    def keep_gradients(self, gradient: Tensor, x: Tensor) -> None:
        """Write the gradients of weight and bias, from that of the outputs for `x`."""

    def pull_back(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the inputs, a new tensor."""


class Mixing(Protocol):
    """What mixes the rows of a hidden layer."""

    def mix(self, hidden: Tensor) -> Tensor:
        """Return the mixed rows."""

    def unmix(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the rows from that of the mixed rows."""


def _predict(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Return the outputs of a net."""
    for layer in layers[:-1]:
        x = layer.apply(x).relu_()
    return layers[-1].apply(x)


def _keep_all_gradients(
    layers: Sequence[Layer],
    x: Tensor,
    compute_gradient: Callable[[Tensor], Tensor],
    mixings: Mapping[int, Mixing],
) -> None:
    """Go forward and back through the layers; what is mixed stands by the number of the layer, from 1."""
    hidden, clean = [x], dict[int, Tensor]()
    for level, layer in enumerate(layers[:-1], 1):
        hidden.append(layer.apply(hidden[-1]).relu_())
        if level in mixings:
            clean[level] = hidden[level]
            hidden[level] = mixings[level].mix(hidden[level])
    gradient = compute_gradient(layers[-1].apply(hidden[-1]))
    for k in range(len(layers) - 1, -1, -1):
        layers[k].keep_gradients(gradient, hidden[k])
        if k:
            gradient = layers[k].pull_back(gradient)
            if k in mixings:
                gradient = mixings[k].unmix(gradient)
            _threshold_backward(gradient, clean.get(k, hidden[k]), 0, grad_input=gradient)


def _iterate_parameters(layers: Sequence[nn.Linear]) -> Iterator[tuple[Tensor, str]]:
    """Yield all parameters of some layers and their names."""
    for k, layer in enumerate(layers):
        for name, p in layer._parameters.items():
            if p is not None:
                yield p, f"{k}.{name}"


# -- one net -----------------------------------------------------------------------------


def _apply_linear(x: Tensor, transposed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(x, transposed) if bias is None else torch.addmm(bias, x, transposed)


def _apply_hidden(x: Tensor, transposed: Tensor, bias: Tensor | None) -> Tensor:
    return _apply_linear(x, transposed, bias).relu_()


def _apply_fused(x: Tensor, transposed: Tensor, bias: Tensor) -> Tensor:
    return torch._addmm_activation(bias, x, transposed)


class _SingleLayer:
    """A layer of one net: its inputs are of shape (n, n_inputs)."""

    def __init__(self, layer: nn.Linear) -> None:
        self.weight = layer.weight.detach()
        self.transposed = self.weight.t()
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.weight_gradient = layer.weight.grad
        self.bias_gradient = None if layer.bias is None else layer.bias.grad

    def apply(self, x: Tensor) -> Tensor:
        return _apply_linear(x, self.transposed, self.bias)

    def keep_gradients(self, gradient: Tensor, x: Tensor) -> None:
        torch.mm(gradient.t(), x, out=self.weight_gradient)
        if self.bias_gradient is not None:
            torch.sum(gradient, 0, out=self.bias_gradient)

    def pull_back(self, gradient: Tensor) -> Tensor:
        return torch.mm(gradient, self.weight)


class PerceptronTrainer(Trainer):
    """Trains linear layers with ReLUs between them, without autograd.

    For small batches autograd's own work takes longer than the arithmetic (``python -m benchmarks speed``).
    Here a step is twenty-odd tensor operations, those that autograd would call, in its order. `levels` are
    the numbers of the ReLUs, from 1, by their names in the module: where mixing can take place.
    """

    guard = torch.inference_mode

    def __init__(
        self,
        layers: Sequence[nn.Linear],
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        *,
        levels: Mapping[str, int] = MappingProxyType({}),
        cuda_graph: bool = False,
    ) -> None:
        dtype = layers[0].weight.dtype
        super().__init__(loss, layers[-1].out_features, optimizer, dtype=dtype, cuda_graph=cuda_graph)
        self.layers = layers
        self.levels = levels

    def describe_module(self, batches: PlannedBatches) -> tuple[Hashable, dict[int, str]]:
        """Return what modules share that can be stacked; see :meth:`Trainer.describe_module`."""
        sizes = [(layer.in_features, layer.out_features, layer.bias is None) for layer in self.layers]
        names = {id(p): name for p, name in _iterate_parameters(self.layers)}
        return (*sizes, self._describe_hidden(batches)), names

    def _describe_hidden(self, batches: PlannedBatches) -> Hashable:
        """Return how hidden layers are mixed."""
        plan = batches.plan
        if not plan.mixes_hidden or plan.hidden_weights is None:
            return None
        if not plan.within_batch:
            raise TypeError(f"{HIDDEN} with partners from outside the mini-batch")
        if not batches.rows.on_device:
            raise TypeError(f"{HIDDEN} of rows that are sent batch by batch")
        return len(plan.hidden_weights), tuple(self.levels.values())

    def stack(self, epochs: Sequence[Epoch]) -> Stack:
        """Return what runs epochs of one description as one."""
        return StackedPerceptronTrainer(epochs)

    def count_step_bytes(self, batches: PlannedBatches) -> int:
        """Return about how much a step reads and writes: weights, gradients, moments and units."""
        n_units = sum(layer.in_features + layer.out_features for layer in self.layers)
        n_numbers = 2 * int(batches.plan.bounds[1]) * n_units
        return super().count_step_bytes(batches) + n_numbers * self.layers[0].weight.itemsize

    def bind(self) -> None:
        """Take up weights and gradients, which stay where they are in memory."""
        for parameter, _ in _iterate_parameters(self.layers):
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
        self.bound = [_SingleLayer(layer) for layer in self.layers]
        self.forward = [(layer.transposed, layer.bias) for layer in self.bound]
        fuses = self.get_device().type in FUSING and all(bias is not None for _, bias in self.forward)
        self.apply_hidden: Callable[..., Tensor] = _apply_fused if fuses else _apply_hidden
        parts = [(k, b.weight, b.weight_gradient, b.bias_gradient) for k, b in enumerate(self.bound)]
        self.backward = parts[::-1]
        self.update = FusedUpdate(self.optimizer, in_place=True)

    def list_in_place(self) -> list[Tensor]:
        """Return the gradients, which a step overwrites."""
        return [p.grad for p, _ in _iterate_parameters(self.layers) if p.grad is not None]

    def shape_inputs(self, x: Tensor) -> Tensor:
        """Flatten the features."""
        return x.flatten(1)

    def evaluate(self, batches: RowSlices, record: Record, show: Callable[[Batch, Tensor], None]) -> None:
        """Compute the losses of the batches of a validation set; nothing is trained.

        Several batches are computed as one, and `show` is called with it and its outputs.
        """
        widest = max(max(layer.in_features, layer.out_features) for layer in self.layers)
        n_joined = max(1, self.block_elements // (batches.batch_size * widest))
        layers = [_SingleLayer(layer) for layer in self.layers]
        with self.guard():
            for x, y, weight, sizes in batches.iterate_joined(n_joined):
                lam = torch.ones(1, len(y), dtype=self.dtype, device=y.device)
                prepared = self.loss.prepare(y.unsqueeze(0), lam, weight, sizes)
                output = _predict(layers, self.shape_inputs(x))
                show(Batch(x, y, weight), output)
                kept = torch.empty_like(output)
                self.loss.compute_gradient(output, kept, *prepared)
                losses = sum_batches(self.loss.compute_values(kept, *prepared), sizes)
                weight = self.loss.weigh(y.unsqueeze(0), lam, weight)[1]
                record(losses, sizes, None if weight is None else sum_batches(weight, sizes))

    def step(self, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Do one step; see :meth:`Trainer.step`."""
        if self.hidden is None:
            self._walk(x, kept, target)
        else:
            mixings = {self.levels[self.hidden.layer]: self.hidden}
            gradient = self.loss.compute_gradient
            _keep_all_gradients(self.bound, x, lambda output: gradient(output, kept, *target), mixings)
        self.update()
        return True

    def _walk(self, x: Tensor, kept: Tensor, target: Sequence[Tensor]) -> None:
        """Go forward and back where nothing inside is mixed, as :func:`_keep_all_gradients` does.

        Methods of layers would take about 5 % of an epoch at batches of 16.
        """
        hidden = [x]
        for transposed, bias in self.forward[:-1]:
            x = self.apply_hidden(x, transposed, bias)
            hidden.append(x)
        gradient = self.loss.compute_gradient(_apply_linear(x, *self.forward[-1]), kept, *target)
        for k, weight, weight_gradient, bias_gradient in self.backward:
            torch.mm(gradient.t(), hidden[k], out=weight_gradient)
            if bias_gradient is not None:
                torch.sum(gradient, 0, out=bias_gradient)
            if k:
                gradient = torch.mm(gradient, weight)
                _threshold_backward(gradient, hidden[k], 0, grad_input=gradient)


# -- several nets ------------------------------------------------------------------------


class _StackedLayer:
    """A layer of several nets: its inputs are of shape (n_nets, n, n_inputs)."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, weight_gradient: Tensor, bias_gradient: Tensor | None
    ) -> None:
        self.weight = weight
        self.transposed = weight.transpose(1, 2)
        self.bias = None if bias is None else bias.unsqueeze(1)
        self.weight_gradient = weight_gradient
        self.bias_gradient = bias_gradient
        self.is_narrow = weight.shape[2] < NARROW

    def apply(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return torch.bmm(x, self.transposed)
        return torch.baddbmm(self.bias, x, self.transposed)

    def keep_gradients(self, gradient: Tensor, x: Tensor) -> None:
        if self.is_narrow:
            self.weight_gradient.copy_(torch.bmm(x.transpose(1, 2), gradient).transpose(1, 2))
        else:
            torch.bmm(gradient.transpose(1, 2), x, out=self.weight_gradient)
        if self.bias_gradient is not None:
            torch.sum(gradient, 1, out=self.bias_gradient)

    def pull_back(self, gradient: Tensor) -> Tensor:
        return torch.bmm(gradient, self.weight)


class StackedPerceptronTrainer(StackedTrainer[PerceptronTrainer]):
    """Trains stacks of linear layers with ReLUs between them, without autograd."""

    guard = torch.inference_mode

    def __init__(self, epochs: Sequence[Epoch], limits: Limits | None = None) -> None:
        super().__init__(epochs, limits)
        self.own_gradients = {p: torch.empty_like(stack) for p, stack in self.weights.items()}
        self.gradients.update(self.own_gradients)
        self.views: dict[tuple[int, int], list[_StackedLayer]] = {}
        self.n_hidden = 2 if self.epochs[0].batches.plan.mixes_hidden else 0

    def list_tensors(self, trainer: PerceptronTrainer) -> list[Tensor]:
        """Return weights and biases."""
        return [p for p, _ in _iterate_parameters(trainer.layers)]

    def shape_inputs(self, x: Tensor) -> Tensor:
        """Flatten the features."""
        return x.flatten(1)

    def prepare_hidden(
        self, trainer: PerceptronTrainer, block: Batch | Block, sizes: list[int]
    ) -> tuple[Tensor, ...]:
        """Return index and weights; see :meth:`HiddenBlock.weigh`."""
        hidden = block.hidden
        return hidden.weigh(sizes, trainer.levels) if isinstance(hidden, HiddenBlock) else ()

    def get_joint_key(self, trainer: PerceptronTrainer) -> Hashable:
        """Return what nets share whose batches one call prepares."""
        return super().get_joint_key(trainer), tuple(trainer.levels.items())

    def _find_mixings(self, start: int, stop: int, hidden: Sequence[Tensor]) -> dict[int, _StackedMixing]:
        """Return what is mixed in this step, by the number of the layer."""
        found = dict[int, _StackedMixing]()
        for trainer, layer in zip(self.trainers[start:stop], self.layers_in_step, strict=False):
            level = trainer.levels.get(layer, 0)
            if level and level not in found:
                found[level] = _StackedMixing(hidden[0], hidden[1][:, :, level - 1])
        return found

    def _get_layers(self, start: int, stop: int) -> list[_StackedLayer]:
        """Return the layers of some nets."""
        nets = start, stop
        if nets not in self.views:
            self.views[nets] = [self._cut_layer(layer, *nets) for layer in self.trainers[0].layers]
        return self.views[nets]

    def _cut_layer(self, layer: nn.Linear, start: int, stop: int) -> _StackedLayer:
        def cut(p: Tensor) -> tuple[Tensor, Tensor]:
            return self.weights[p].detach()[start:stop], self.own_gradients[p][start:stop]

        weight, weight_gradient = cut(layer.weight)
        bias, bias_gradient = (None, None) if layer.bias is None else cut(layer.bias)
        return _StackedLayer(weight, bias, weight_gradient, bias_gradient)

    def step(self, start: int, stop: int, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Compute the gradients; see :meth:`StackedTrainer.step`."""
        inside, known = target[: self.n_hidden], target[self.n_hidden :]

        def compute_gradient(output: Tensor) -> Tensor:
            return self.loss.compute_gradient(output, kept, *known)

        layers, mixings = self._get_layers(start, stop), self._find_mixings(start, stop, inside)
        _keep_all_gradients(layers, x, compute_gradient, mixings)
        return True


class _StackedMixing:
    """Mixes the rows of several nets, each among its own; index and weights are (n_nets, n, k)."""

    def __init__(self, index: Tensor, lam: Tensor) -> None:
        n_nets, n, _ = index.shape
        first = torch.arange(0, n_nets * n, n, device=index.device)
        self.index = (index + first.view(-1, 1, 1)).reshape(-1)
        self.lam = lam.unsqueeze(3)

    def mix(self, hidden: Tensor) -> Tensor:
        """Return the mixed rows of hidden units, of shape (n_nets, n, n_units)."""
        rows = hidden.reshape(-1, hidden.shape[2]).index_select(0, self.index)
        return (self.lam * rows.view(*self.lam.shape[:3], -1)).sum(dim=2)

    def unmix(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the rows from that of the mixed rows."""
        parts = (self.lam * gradient.unsqueeze(2)).reshape(-1, gradient.shape[2])
        own = gradient.new_zeros(gradient.shape).view(-1, gradient.shape[2])
        return own.index_add_(0, self.index, parts).view_as(gradient)
