"""The training epoch: blocks of mixed batches, gradients in closed form, the optimizer's kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
import math
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from sk_mixup._data.batches import Batch, Block, PlannedBatches, RowSlices
from sk_mixup._data.storage import ALIGNMENT
from sk_mixup._data.virtual_examples import HiddenMixing, mixing_at
from sk_mixup._training.averages import sum_batches
from sk_mixup._training.losses import Loss
from sk_mixup._training.optimizer_step import FusedUpdate

__all__ = ["ChainTrainer", "GraphedStep", "ModuleTrainer", "Trainer"]

# Batches are mixed in blocks of about so many numbers: enough to make the cost of the calls
# vanish, few enough to stay in the cache. Targets are prepared, and losses computed, for more.
BLOCK_ELEMENTS = 2**18
TARGET_ELEMENTS = 2**20


class Trainer(ABC):
    """Trains a module on the batches of a plan; nothing in an epoch waits for the device.

    Several batches are gathered and mixed at once, and what their loss can know before the
    outputs is computed at once. A step is then a forward pass, the loss's gradient in
    closed form, the chain rule and the optimizer's kernel: the tensor operations of a
    plain loop, so that plain training gives the weights of a plain loop, bit for bit.

    Parameters
    ----------
    loss : Loss
        The loss of the module's output.
    n_outputs : int
        Number of outputs of the module.
    optimizer : torch.optim.Optimizer
        Descends along the gradients, which are left in ``parameter.grad``.
    cuda_graph : bool, default=False
        Whether the step is recorded as a CUDA graph, once an epoch, and replayed.
    """

    guard: Callable[[], AbstractContextManager[Any]] = torch.no_grad
    hidden: HiddenMixing | None = None

    def __init__(
        self, loss: Loss, n_outputs: int, optimizer: torch.optim.Optimizer, *, cuda_graph: bool = False
    ) -> None:
        self.loss = loss
        self.n_outputs = n_outputs
        self.dtype = optimizer.param_groups[0]["params"][0].dtype
        self.optimizer = optimizer
        self.cuda_graph = cuda_graph

    def list_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups of parameters."""
        return self.optimizer.param_groups

    def bind(self) -> None:
        """Get ready for an epoch."""
        self.update = FusedUpdate(self.optimizer)

    def run_epoch(self, batches: PlannedBatches, record: Callable[[Tensor, list[int]], None]) -> bool:
        """Train on the batches of one epoch.

        Parameters
        ----------
        batches : PlannedBatches
            The batches.
        record : callable
            Called with the losses of the batches, a tensor of shape (n_batches,), and the
            number of rows in each, when the epoch ends or is broken off.

        Returns
        -------
        done : bool
            False if the module's first output was not what the loss knows; then nothing
            was changed.
        """
        self.bind()
        full, features = int(batches.plan.bounds[1]), math.prod(batches.rows.x.shape[1:])
        steps = {full: GraphedStep(self.step)} if self.cuda_graph else {}
        n_mixed = max(1, BLOCK_ELEMENTS // max(1, full * features))
        n_joined = max(1, TARGET_ELEMENTS // (full * 2 * self.n_outputs))
        if not batches.rows.on_device:  # other rows are loaded before they are mixed
            n_joined = min(n_joined, n_mixed)
        # One tensor for the whole epoch: small ones that outlive a block scatter the memory.
        losses = torch.empty(len(batches), dtype=batches.dtype, device=batches.rows.targets.device)
        done: list[int] = []
        try:
            with self.guard():
                for block, sizes in batches.iterate_blocks(n_joined):
                    values = self._run_block(block, sizes, n_mixed, steps)
                    if values is None:
                        return False
                    losses[len(done) : len(done) + len(sizes)] = values
                    done.extend(sizes)
        finally:
            self.update.close()
            record(losses[: len(done)], done)
        return True

    def _run_block(
        self, block: Batch | Block, sizes: list[int], n_mixed: int, steps: Mapping[int, Callable[..., bool]]
    ) -> Tensor | None:
        y, lam, weight = block.get_mixed_targets()
        lam = lam.to(self.dtype)
        prepared = self.loss.prepare(y, lam, weight, sizes)
        kept = lam.new_empty(lam.shape[1], self.n_outputs)
        parts = [torch.split(part, sizes) for part in (kept, *prepared)]
        inputs = zip(block.list_hidden(sizes), self._mix_inputs(block, sizes, n_mixed), *parts, strict=True)
        for self.hidden, x, *rest in inputs:
            if not steps.get(len(x), self.step)(x, *rest):
                return None
        return sum_batches(self.loss.compute_values(kept, *prepared), sizes)

    def _mix_inputs(self, block: Batch | Block, sizes: list[int], n_mixed: int) -> Iterator[Tensor]:
        """Yield the inputs of each batch, as if it had been gathered alone.

        Matrix products round differently by where in memory their factors begin, and a
        module may write into its inputs, which autograd forbids in a view.
        """
        if isinstance(block.hidden, HiddenMixing):  # one batch, whose partners go through the network too
            yield self.shape_inputs(block.get_mixed_inputs())
            return
        start = 0
        for first in range(0, len(sizes), n_mixed):
            joined = sizes[first : first + n_mixed]
            x = self.shape_inputs(block.get_mixed_inputs(start, start + sum(joined)))
            is_aligned = len(joined) == 1 or x[: joined[0]].nbytes % ALIGNMENT == 0
            for batch in torch.split(x, joined):
                yield batch.data if is_aligned else batch.clone()
            start += sum(joined)

    def shape_inputs(self, x: Tensor) -> Tensor:
        """Return inputs in the shape in which a step takes them."""
        return x

    @abstractmethod
    def step(self, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Do one step.

        Parameters
        ----------
        x : Tensor of shape (n, *features)
            The virtual examples.
        kept : Tensor of shape (n, n_outputs)
            Where the loss writes what its values are computed from.
        *target : Tensor
            The batch's part of what the loss prepared.

        Returns
        -------
        done : bool
            False if the output of the module was not what the loss knows.
        """


class ModuleTrainer(Trainer):
    """Trains any module that returns outputs of shape (n, n_outputs), by autograd.

    Parameters
    ----------
    module : torch.nn.Module
        The module, in training mode.
    loss, n_outputs, optimizer, cuda_graph
        As in :class:`Trainer`.
    autocast : callable, default=contextlib.nullcontext
        Returns the context of the forward pass, such as ``torch.autocast("cuda")``; the loss
        is computed in the precision of the inputs.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        n_outputs: int,
        optimizer: torch.optim.Optimizer,
        *,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        cuda_graph: bool = False,
    ) -> None:
        super().__init__(loss, n_outputs, optimizer, cuda_graph=cuda_graph)
        self.module = module
        self.autocast = autocast
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def step(self, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Do one step; see :meth:`Trainer.step`."""
        with torch.enable_grad(), self.autocast(), mixing_at(self.module, self.hidden):
            output = self.module(x)
            if isinstance(output, Tensor) and output.ndim == 1 and self.n_outputs == 1:
                output = output.unsqueeze(1)
        if not isinstance(output, Tensor) or output.shape != kept.shape or not output.is_floating_point():
            return False
        gradient = self.loss.compute_gradient(output.detach().to(kept.dtype), kept, *target)
        for parameter in self.parameters:
            parameter.grad = None
        torch.autograd.backward(output, gradient.to(output.dtype))
        self.update()
        return True


class ChainTrainer(Trainer):
    """Trains a chain of linear layers with ReLUs between them, without autograd.

    For small batches autograd's own work takes longer than the arithmetic
    (``python -m benchmarks speed``). Here a step is twenty-odd tensor operations, those
    that autograd would call, in its order.

    Parameters
    ----------
    layers : list of torch.nn.Linear
        The layers, from the input on, as :func:`sk_mixup.modules.find_chain` gives them.
    levels : mapping of str to int, default={}
        Number of each ReLU, from 1, by its name in the module: where mixing can take place,
        as :func:`sk_mixup.modules.find_levels` gives them.
    loss, optimizer, cuda_graph
        As in :class:`Trainer`.
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
        super().__init__(loss, layers[-1].out_features, optimizer, cuda_graph=cuda_graph)
        self.layers = layers
        self.levels = levels

    def bind(self) -> None:
        """Take up weights and gradients, which stay where they are in memory."""
        layers = self.layers
        for parameter in chain.from_iterable(layer.parameters() for layer in layers):
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
        linear = [(layer.weight.detach(), _detach(layer.bias)) for layer in layers]
        self.update = FusedUpdate(self.optimizer, in_place=True)
        *self.inner, self.last = ((weight.t(), bias) for weight, bias in linear)
        gradients = [(layer.weight.grad, None if layer.bias is None else layer.bias.grad) for layer in layers]
        self.backward = [(k, linear[k][0], *gradients[k]) for k in reversed(range(len(layers)))]

    def shape_inputs(self, x: Tensor) -> Tensor:
        """Flatten the features."""
        return x.flatten(1)

    def evaluate(self, batches: RowSlices, record: Callable[[Tensor, list[int]], None]) -> None:
        """Compute the losses of the batches of a validation set; nothing is trained.

        Parameters
        ----------
        batches : RowSlices
            The batches.
        record : callable
            As in :meth:`run_epoch`.
        """
        n_joined = max(
            1, BLOCK_ELEMENTS // (batches.batch_size * max(layer.out_features for layer in self.layers))
        )
        with self.guard():
            for x, y, weight, sizes in batches.iterate_joined(n_joined):
                lam = torch.ones(1, len(y), dtype=self.dtype, device=y.device)
                prepared = self.loss.prepare(y.unsqueeze(0), lam, weight, sizes)
                output = self.shape_inputs(x)
                for layer in self.layers[:-1]:
                    output = _apply_linear(output, layer.weight.t(), layer.bias).relu_()
                last = self.layers[-1]
                output = _apply_linear(output, last.weight.t(), last.bias)
                kept = torch.empty_like(output)
                self.loss.compute_gradient(output, kept, *prepared)
                record(sum_batches(self.loss.compute_values(kept, *prepared), sizes), sizes)

    def step(self, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Do one step; see :meth:`Trainer.step`."""
        mixing = self.hidden
        level, clean = (0 if mixing is None else self.levels[mixing.layer]), x
        hidden = [x]
        for weight, bias in self.inner:
            hidden.append(_apply_linear(hidden[-1], weight, bias).relu_())
            if mixing is not None and len(hidden) == level + 1:
                clean, hidden[level] = hidden[level], mixing.mix(hidden[level])
        gradient = self.loss.compute_gradient(_apply_linear(hidden[-1], *self.last), kept, *target)
        for k, weight, weight_gradient, bias_gradient in self.backward:
            torch.mm(gradient.t(), hidden[k], out=weight_gradient)
            if bias_gradient is not None:
                torch.sum(gradient, 0, out=bias_gradient)
            if k:
                gradient, output = torch.mm(gradient, weight), hidden[k]
                if mixing is not None and k == level:
                    gradient, output = mixing.unmix(gradient, len(clean)), clean
                _threshold_backward(gradient, output, 0, grad_input=gradient)
        self.update()
        return True


class GraphedStep:
    """A training step, recorded as a CUDA graph and replayed: one launch instead of dozens.

    The first steps are run as they are, on the stream that the recording needs; recording
    itself computes nothing. What the step reads from Python, such as the learning rate,
    stays what it was when it was recorded.

    Parameters
    ----------
    step : callable
        The ``step`` of a :class:`Trainer`, for batches of one size.
    """

    n_warmup = 3

    def __init__(self, step: Callable[..., bool]) -> None:
        cuda: Any = torch.cuda  # its streams carry no types
        self.step = step
        self.stream = cuda.Stream()
        self.n_done = 0
        self.graph: Any = None
        self.inputs: list[Tensor] = []

    def __call__(self, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Do one step; see :meth:`Trainer.step`."""
        if self.n_done < self.n_warmup:
            self.n_done += 1
            return self._run_as_it_is(x, kept, *target)
        if self.graph is None:
            self._record(x, kept, *target)
        x_read, kept_written, *target_read = self.inputs
        x_read.copy_(x)
        for read, part in zip(target_read, target, strict=True):
            read.copy_(part)
        self.graph.replay()
        kept.copy_(kept_written)
        return True

    def _run_as_it_is(self, *tensors: Tensor) -> bool:
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            done = self.step(*tensors)
        current.wait_stream(self.stream)
        return done

    def _record(self, *tensors: Tensor) -> None:
        self.inputs = [tensor.clone() for tensor in tensors]
        self.stream.wait_stream(torch.cuda.current_stream())
        graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self.stream):
            graph.capture_begin()
            try:
                self.step(*self.inputs)
            finally:
                graph.capture_end()
        self.graph = graph


_threshold_backward: Any = torch.ops.aten.threshold_backward.grad_input


def _detach(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach()


def _apply_linear(x: Tensor, transposed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(x, transposed) if bias is None else torch.addmm(bias, x, transposed)
