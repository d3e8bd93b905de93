"""Training of a chain of linear layers with gradients in closed form, without autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from sk_mixup._update import FusedUpdate
from sk_mixup.data import Batch, PlannedBatches
from sk_mixup.losses import mix_targets, soft_targets
from sk_mixup.modules import MLP

__all__ = [
    "BinaryCrossEntropy",
    "ChainTrainer",
    "CrossEntropy",
    "Loss",
    "SquaredError",
    "find_chain",
    "find_loss",
]

# Batches are gathered, mixed and scored in blocks of about so many numbers: enough to make the
# cost of these calls vanish, few enough to stay in the cache.
BLOCK_ELEMENTS = 2**18


class Loss(Protocol):
    """A loss whose gradient with respect to the network's output is known.

    The methods see the mixing of a whole block of batches at once, and then the outputs
    for one batch.
    """

    def prepare(self, y: Tensor, lam: Tensor, weight: Tensor | None, size: int) -> tuple[Tensor, ...]:
        """Return tensors of shape (m, ...) that hold all that is known before the outputs.

        Parameters
        ----------
        y : Tensor of shape (k, m, ...)
            Targets of the examples that are mixed, for the m rows of several batches.
        lam : Tensor of shape (k, m)
            Mixing weights.
        weight : Tensor of shape (m,) or None
            Weight of each virtual example.
        size : int
            Rows in each batch; divides m.
        """

    def compute_gradient(self, output: Tensor, *prepared: Tensor) -> Tensor:
        """Return the gradient of a batch's loss, shape (n, n_outputs)."""

    def compute_values(self, outputs: Tensor, *prepared: Tensor) -> Tensor:
        """Return what, summed over the m rows of one batch, is its loss; shape (m,)."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of logits against mixed classes; see ``mixed_cross_entropy``.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of each label that is spread over all classes.
    n_classes : int
        Number of classes.
    """

    n_classes: int
    label_smoothing: float = 0.0

    def prepare(self, y: Tensor, lam: Tensor, weight: Tensor | None, size: int) -> tuple[Tensor, ...]:
        """Return minus the soft labels, each with its row's share in the mean of its batch."""
        target = soft_targets(y, lam, self.n_classes)
        if self.label_smoothing:
            target.mul_(1 - self.label_smoothing).add_(self.label_smoothing / self.n_classes)
        target.mul_(-_get_shares(weight, size, lam).unsqueeze(1))
        return (target,)

    def compute_gradient(self, output: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``softmax(output) - target``, by the share; autograd's own kernel."""
        (target,) = prepared
        return torch._log_softmax_backward_data(target, output.log_softmax(1), 1, output.dtype)

    def compute_values(self, outputs: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``-sum_c target_c log softmax(output)_c`` by the share."""
        (target,) = prepared
        return (outputs.log_softmax(1) * target).sum(dim=1)


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Binary cross-entropy of logits against mixed indicators; see ``mixed_binary_cross_entropy``.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of each indicator that is replaced by 1/2.
    """

    label_smoothing: float = 0.0

    def prepare(self, y: Tensor, lam: Tensor, weight: Tensor | None, size: int) -> tuple[Tensor, ...]:
        """Return the mixed indicators, and what the loss of each row is divided by."""
        target = mix_targets(y, lam).to(lam.dtype)
        if self.label_smoothing:
            target = torch.lerp(target, torch.full_like(target, 0.5), self.label_smoothing)
        return target, _get_divisors(weight, size, target)

    def compute_gradient(self, output: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``(sigmoid(output) - target) / divisor``."""
        target, divisor = prepared
        return output.sigmoid().sub_(target).div_(divisor)

    def compute_values(self, outputs: Tensor, *prepared: Tensor) -> Tensor:
        """Return the cross-entropies over the divisor."""
        target, divisor = prepared
        losses = F.binary_cross_entropy_with_logits(outputs, target, reduction="none")
        return (losses / divisor).sum(dim=1)


@dataclass(frozen=True)
class SquaredError:
    """Squared error against mixed targets."""

    def prepare(self, y: Tensor, lam: Tensor, weight: Tensor | None, size: int) -> tuple[Tensor, ...]:
        """Return the mixed targets, and what twice the error of each row is multiplied by."""
        target = mix_targets(y, lam).to(lam.dtype)
        return target, 2 / _get_divisors(weight, size, target)

    def compute_gradient(self, output: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``2 (output - target) / divisor``."""
        target, factor = prepared
        return (output - target).mul_(factor)

    def compute_values(self, outputs: Tensor, *prepared: Tensor) -> Tensor:
        """Return the squared errors over the divisor."""
        target, factor = prepared
        return ((outputs - target).square() * factor).sum(dim=1) / 2


def _get_shares(weight: Tensor | None, size: int, like: Tensor) -> Tensor:
    """Return the share of each row in the mean of its batch, shape (m,)."""
    if weight is None:
        return like.new_ones(()).div(size).expand(like.shape[-1])
    by_batch = weight.view(-1, size)
    return (by_batch / by_batch.sum(dim=1, keepdim=True)).view(-1)


def _get_divisors(weight: Tensor | None, size: int, target: Tensor) -> Tensor:
    """Return what the losses of a row are divided by, shape (m, 1)."""
    m, n_outputs = target.shape
    if weight is None:
        return target.new_full((m, 1), float(size * n_outputs))
    by_batch = weight.view(-1, size)
    return (n_outputs * by_batch.sum(dim=1, keepdim=True) / by_batch).view(m, 1)


def find_loss(criterion: nn.Module, n_outputs: int, label_smoothing: float = 0.0) -> Loss | None:
    """Return the closed form of a criterion, or None where it has none here.

    Parameters
    ----------
    criterion : torch.nn.Module
        A candidate: torch's cross-entropy, binary cross-entropy with logits or squared
        error, without class weights, averaged over a batch.
    n_outputs : int
        Number of outputs of the network.
    label_smoothing : float, default=0.0
        Smoothing of binary labels; cross-entropy brings its own.

    Examples
    --------
    >>> from torch import nn
    >>> from sk_mixup.closed_form import find_loss
    >>> find_loss(nn.CrossEntropyLoss(label_smoothing=0.1), n_outputs=3)
    CrossEntropy(n_classes=3, label_smoothing=0.1)
    >>> find_loss(nn.L1Loss(), n_outputs=3) is None
    True
    """
    if getattr(criterion, "reduction", None) != "mean" or _is_hooked(criterion):
        return None
    if type(criterion) is nn.MSELoss:
        return SquaredError()
    if getattr(criterion, "weight", None) is not None or getattr(criterion, "pos_weight", None) is not None:
        return None
    if type(criterion) is nn.CrossEntropyLoss and criterion.ignore_index < 0:
        return CrossEntropy(n_outputs, criterion.label_smoothing)
    return BinaryCrossEntropy(label_smoothing) if type(criterion) is nn.BCEWithLogitsLoss else None


def find_chain(module: nn.Module, ndim: int = 2) -> list[nn.Linear] | None:
    """Return the linear layers of a plain multilayer perceptron, or None for another module.

    Parameters
    ----------
    module : torch.nn.Module
        A candidate: an :class:`~sk_mixup.modules.MLP` or an ``nn.Sequential``.
    ndim : int, default=2
        Number of axes of a batch of inputs.

    Returns
    -------
    layers : list of torch.nn.Linear or None
        The layers, where the module is linear layers with a ReLU between each two, after
        an ``nn.Flatten`` that is optional for two axes; where no layer is shared or hooked,
        and all weights are trained.

    Examples
    --------
    >>> from torch import nn
    >>> from sk_mixup.closed_form import find_chain
    >>> from sk_mixup.modules import MLP
    >>> [layer.out_features for layer in find_chain(MLP(4, 3))]
    [128, 128, 3]
    >>> find_chain(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))) is None
    True
    """
    container = module.layers if type(module) is MLP else module
    if type(container) is not nn.Sequential or any(map(_is_hooked, module.modules())):
        return None
    parts = list(container)
    if parts and type(parts[0]) is nn.Flatten and (parts[0].start_dim, parts[0].end_dim) == (1, -1):
        del parts[0]
    elif ndim != 2:
        return None
    layers = [part for part in parts[::2] if type(part) is nn.Linear]
    links = [part for part in parts[1::2] if type(part) is nn.ReLU]
    if len(layers) != len(links) + 1 or len(layers) + len(links) != len(parts):
        return None
    return layers if _is_trained_whole(module, layers) else None


def _is_hooked(module: nn.Module) -> bool:
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_compiled_call_impl",
    )
    return any(getattr(module, name, None) for name in hooks) or "forward" in vars(module)


def _is_trained_whole(module: nn.Module, layers: Sequence[nn.Linear]) -> bool:
    """Whether the parameters are those of the layers, all trained, none shared or hooked."""
    owned = [p for layer in layers for p in layer.parameters()]
    names = [id(p) for p in owned]
    if len(set(names)) != len(names) or set(names) != {id(p) for p in module.parameters()}:
        return False
    return all(
        type(p) is nn.Parameter and p.requires_grad and p.is_floating_point() and not p._backward_hooks
        for p in owned
    )


class ChainTrainer:
    """Trains a chain of linear layers, mixing whole blocks of batches at once.

    A step is the forward pass, the gradient of the loss in closed form, the chain rule and
    the optimizer's kernel: twenty-odd tensor operations on buffers that stay in place, the
    same ones that autograd would call, in the order in which it would call them.

    Parameters
    ----------
    layers : list of torch.nn.Linear
        The layers, from the input on, as :func:`find_chain` gives them.
    loss : Loss
        The loss of the last layer's output.
    optimizer : torch.optim.Optimizer
        Descends along the gradients, which are left in ``parameter.grad``.
    """

    def __init__(self, layers: Sequence[nn.Linear], loss: Loss, optimizer: torch.optim.Optimizer) -> None:
        self.loss = loss
        self.n_outputs = layers[-1].out_features
        self.width = max(layer.in_features for layer in layers[:1]) + 2 * self.n_outputs
        for layer in layers:
            for parameter in layer.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
        self.weights = [layer.weight.detach() for layer in layers]
        self.transposed = [weight.t() for weight in self.weights]
        self.biases = [None if layer.bias is None else layer.bias.detach() for layer in layers]
        self.weight_gradients = [layer.weight.grad for layer in layers]
        self.bias_gradients = [None if layer.bias is None else layer.bias.grad for layer in layers]
        self.update = FusedUpdate(optimizer)

    def run_epoch(self, batches: PlannedBatches, record: Callable[[Tensor, int], None]) -> None:
        """Train on the batches of a plan; nothing waits for the device.

        Parameters
        ----------
        batches : PlannedBatches
            The batches of one epoch.
        record : callable
            Called now and then with the losses of the latest batches, a tensor of shape
            (n_batches,), and the number of rows in each.
        """
        size = int(batches.plan.bounds[1])
        n_batches = max(1, BLOCK_ELEMENTS // (size * self.width))
        try:
            with torch.inference_mode():
                for block, size in batches.iterate_blocks(n_batches):
                    record(self._run_block(block, size), size)
        finally:
            self.update.close()

    def _run_block(self, block: Batch, size: int) -> Tensor:
        x = block.get_mixed_inputs().flatten(1)
        y, lam, weight = block.get_mixed_targets()
        prepared = self.loss.prepare(y, lam.to(x.dtype), weight, size)
        outputs = x.new_empty(len(x), self.n_outputs)
        parts = (x, outputs, *prepared)
        for x_batch, output, *target in zip(*(part.split(size) for part in parts), strict=True):
            self.step(x_batch, output, target)
        return self.loss.compute_values(outputs, *prepared).view(-1, size).sum(dim=1)

    def step(self, x: Tensor, output: Tensor, target: Sequence[Tensor]) -> None:
        """Do one step.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            The virtual examples.
        output : Tensor of shape (n, n_outputs)
            Where the output of the last layer is written.
        target : sequence of Tensor
            The batch's part of what the loss prepared.
        """
        hidden = [x]
        for weight, bias in zip(self.transposed[:-1], self.biases[:-1], strict=True):
            hidden.append(_apply_linear(hidden[-1], weight, bias).relu_())
        _apply_linear(hidden[-1], self.transposed[-1], self.biases[-1], out=output)
        gradient = self.loss.compute_gradient(output, *target)
        for k in reversed(range(len(hidden))):
            torch.mm(gradient.t(), hidden[k], out=self.weight_gradients[k])
            if self.bias_gradients[k] is not None:
                torch.sum(gradient, 0, out=self.bias_gradients[k])
            if k:
                gradient = torch.mm(gradient, self.weights[k])
                _threshold_backward(gradient, hidden[k], 0, grad_input=gradient)
        self.update()


_threshold_backward: Any = torch.ops.aten.threshold_backward.grad_input


def _apply_linear(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    return torch.mm(x, weight, out=out) if bias is None else torch.addmm(bias, x, weight, out=out)
