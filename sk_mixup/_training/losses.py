"""Losses of mixed targets, each with its gradient in closed form: one class for both ways of training.

An epoch without autograd calls :meth:`Loss.prepare` for a block of batches, :meth:`Loss.compute_gradient`
for each batch, and :meth:`Loss.compute_values` for the block; a single step calls :meth:`Loss.apply`,
which autograd differentiates by the same two methods. So both compute the same numbers.

To add a loss, write a frozen dataclass that derives from :class:`Loss`, and enter in
:data:`CLOSED_FORMS` what builds it from a criterion::

    CLOSED_FORMS[nn.HuberLoss] = lambda criterion, options: Huber(criterion.delta)

Nothing else needs to change: the estimator whose kind of targets is the loss's takes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from sk_mixup._tensors import send
from sk_mixup._training.averages import (
    IGNORED,
    divide_safely,
    get_binary_entropy,
    get_divisors,
    limit_logarithms,
    sum_batches,
)
from sk_mixup._training.mixed_targets import mix_columns, smooth_targets
from sk_mixup._training.module_structure import is_hooked
from sk_mixup.mixing.functional import soft_targets

__all__ = [
    "CLOSED_FORMS",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "JointLoss",
    "Loss",
    "LossOptions",
    "SoftCrossEntropy",
    "SquaredError",
    "find_loss",
]

CLASSES, DISTRIBUTIONS, INDICATORS, VALUES = "classes", "distributions", "indicators", "values"


class Loss(ABC):
    """A loss of mixed targets, averaged over the weighted rows of a batch.

    What is known of a block of batches before the outputs is prepared at once; the gradient is
    then computed batch by batch. Where several nets are trained as one, the outputs, and all
    that goes with them, have an axis more in front: that of the nets.

    Attributes
    ----------
    targets : {'classes', 'distributions', 'indicators', 'values'}
        What the targets are: a class code a row, a probability of each class, 0 or 1 for each
        output, or real values.
    class_weight : Tensor of shape (n_classes,) or None
        Weight of each class, where the loss has one.
    rowwise : tuple of str
        The fields that :meth:`prepare` takes for each row, too: a tensor with a line for each.
    """

    targets: ClassVar[str] = VALUES
    rowwise: ClassVar[tuple[str, ...]] = ()
    class_weight: Tensor | None = None

    @abstractmethod
    def make_targets(self, y: Tensor, lam: Tensor, divisor: Tensor) -> tuple[Tensor, ...]:
        """Return tensors of shape (m, ...) that hold all that is known before the outputs.

        Parameters
        ----------
        y : Tensor of shape (k, m, ...)
            Targets of the examples that are mixed, for the m rows of several batches.
        lam : Tensor of shape (k, m)
            Mixing weights.
        divisor : Tensor of shape () or (m, 1)
            What the loss of each row is divided by in the mean of its batch; see
            :func:`get_divisors`.
        """

    @abstractmethod
    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the gradient of a batch's loss, shape (n, n_outputs).

        What the values of the loss are computed from is written to `kept`, a tensor of
        that shape.
        """

    @abstractmethod
    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return what, summed over the m rows of one batch, is its loss; shape (m,)."""

    def prepare(
        self, y: Tensor, lam: Tensor, weight: Tensor | None, sizes: Sequence[int]
    ) -> tuple[Tensor, ...]:
        """Return what :meth:`make_targets` does, for weighted rows of several batches.

        Parameters
        ----------
        y, lam
            As in :meth:`make_targets`.
        weight : Tensor of shape (m,) or None
            Weight of each row; None means 1.
        sizes : sequence of int
            Rows in each batch, m in all; only the last may differ from the others.
        """
        lam, weight = self.weigh(y, lam, weight)
        return self.make_targets(y, lam, get_divisors(weight, sizes, lam))

    def weigh(self, y: Tensor, lam: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the shares of the targets in each row, which sum to 1, and what the row counts with them."""
        return lam, weight

    def describe(self) -> Hashable:
        """Return what losses share whose prepared tensors can be stacked."""
        return type(self)

    def describe_joint(self) -> Hashable:
        """Return what losses share that can prepare the rows of several nets by one call."""
        if not is_dataclass(self):
            return self
        others = {each.name: getattr(self, each.name) for each in fields(self)}
        own = tuple(
            (name, id(value) if isinstance(value, Tensor) else value)
            for name, value in others.items()
            if name not in self.rowwise
        )
        return type(self), own, self.class_weight is None

    def as_descended(self) -> Loss:
        """Return the loss whose value goes with the gradient."""
        return self

    def accepts(self, output: object, y: Tensor) -> bool:
        """Whether `output` is a tensor of floats, with a column for each column of `y`."""
        return _has_shape(output, (y.shape[1], y[0, :1].numel()))

    def apply(self, output: Tensor, y: Tensor, lam: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss of one batch, for autograd to differentiate once.

        Parameters
        ----------
        output : Tensor of shape (n, n_outputs)
            Output of the network; that of half precision is computed with in float32.
        y : Tensor of shape (k, n, ...)
            Targets of the examples that are mixed.
        lam : Tensor of shape (k, n)
            Mixing weights; each column sums to 1.
        weight : Tensor of shape (n,), default=None
            Weight of each row; None means 1.

        Returns
        -------
        loss : Tensor of shape ()

        Examples
        --------
        >>> import torch
        >>> from sk_mixup._training.losses import CrossEntropy
        >>> logits = torch.zeros(1, 2, requires_grad=True)
        >>> loss = CrossEntropy(2).apply(logits, torch.tensor([[0], [1]]), torch.tensor([[0.3], [0.7]]))
        >>> loss.backward()
        >>> logits.grad
        tensor([[ 0.2000, -0.2000]])
        """
        return _Differentiable.apply(output, self, y, lam, weight)  # type: ignore[no-untyped-call]


class JointLoss:
    """Prepares rows of several nets at once, whose losses are of one :meth:`Loss.describe_joint`.

    Parameters
    ----------
    losses : sequence of Loss
        The loss of each net.
    device, dtype
        Where rows are prepared, and the floating dtype of the targets.
    """

    def __init__(self, losses: Sequence[Loss], device: torch.device, dtype: torch.dtype) -> None:
        self.first = losses[0]
        self.tables = dict[str, Tensor]()
        for name in self.first.rowwise:
            values = [getattr(loss, name) for loss in losses]
            if isinstance(values[0], Tensor):
                self.tables[name] = torch.stack(values)
            elif any(value != values[0] for value in values):
                table = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
                self.tables[name] = send(table, device, dtype)

    def choose(self, net: Tensor) -> Loss:
        """Return the loss of rows, which belong to the nets of these numbers."""
        if not self.tables:
            return self.first
        own: Any = self.first  # a dataclass
        return replace(own, **{name: table.index_select(0, net) for name, table in self.tables.items()})


class _Differentiable(torch.autograd.Function):
    """The value of a loss; its gradient is computed with it."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, loss: Loss, y: Tensor, lam: Tensor, weight: Tensor | None
    ) -> Tensor:
        values = output.to(torch.promote_types(output.dtype, torch.float32))
        sizes, kept = [len(values)], torch.empty_like(values)
        prepared = loss.prepare(y, lam.to(values.dtype), weight, sizes)
        ctx.save_for_backward(loss.compute_gradient(values, kept, *prepared))
        ctx.dtype = output.dtype
        return sum_batches(loss.compute_values(kept, *prepared), sizes)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        # float16 holds a small gradient only once it is scaled.
        return (gradient * scale).to(ctx.dtype), None, None, None, None


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy of logits against mixed classes, minus an entropy bonus.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    label_smoothing : float, default=0.0
        Share of each label that is spread over all classes, in [0, 1] (Szegedy et al. 2016).
    confidence_penalty : float, default=0.0
        Weight of the entropy bonus; see :func:`average_entropy`.
    class_weight : Tensor of shape (n_classes,), default=None
        Weight of each class, by which the losses towards it are multiplied, and which torch's mean
        is divided by; None means 1.
    """

    targets: ClassVar[str] = CLASSES
    rowwise: ClassVar[tuple[str, ...]] = ("label_smoothing", "confidence_penalty", "class_weight")
    n_classes: int
    label_smoothing: float | Tensor = 0.0
    confidence_penalty: float | Tensor = 0.0
    class_weight: Tensor | None = field(default=None, compare=False, repr=False)

    def make_targets(self, y: Tensor, lam: Tensor, divisor: Tensor) -> tuple[Tensor, ...]:
        """Return minus the soft labels by each row's share in the mean of its batch; the entropy's weight."""
        target = smooth_targets(self.mix(y, lam), self.label_smoothing, self.n_classes)
        target.mul_(-divisor.reciprocal())
        return (target, *_weigh_entropy(self.confidence_penalty, divisor, len(target)))

    def mix(self, y: Tensor, lam: Tensor) -> Tensor:
        """Return the soft labels of virtual examples, a new tensor."""
        return soft_targets(y, lam, self.n_classes)

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``p - target`` with a softmax p; minus the entropy H has the gradient ``p (log p + H)``."""
        target, *penalty = prepared
        torch.log_softmax(output, -1, out=kept)
        gradient = torch._log_softmax_backward_data(target, kept, -1, output.dtype)
        for weight in penalty:
            p, log_p = kept.exp(), limit_logarithms(kept)
            entropy = -(p * log_p).sum(dim=-1, keepdim=True)
            gradient.addcmul_(p * (log_p + entropy), weight)
        return gradient

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``-sum_c target_c log softmax(output)_c`` by the share, minus the weighted entropies."""
        target, *penalty = prepared
        # A class whose logit is minus infinity costs nothing where it is not the target.
        values = torch.where(target == 0, 0.0, kept * target).sum(dim=-1)
        for weight in penalty:
            values += (kept.exp() * limit_logarithms(kept) * weight).sum(dim=-1)
        return values

    def weigh(self, y: Tensor, lam: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return λ times the weights of the classes over their sum, and the row's weight times that sum."""
        if self.class_weight is None:
            return lam, weight
        weights = self.class_weight
        of_targets = weights[y] if weights.ndim == 1 else weights.gather(1, y.t()).t()
        share = lam * of_targets.to(lam.dtype)
        counts = share.sum(dim=0)
        return divide_safely(share, counts), counts if weight is None else weight * counts

    def describe(self) -> Hashable:
        """Return what losses share whose prepared tensors can be stacked."""
        return type(self), bool(self.confidence_penalty > 0)

    def accepts(self, output: object, y: Tensor) -> bool:
        """Whether `output` is a tensor of floats, with a column for each class, and `y` holds codes."""
        return y.ndim == 2 and y.dtype == torch.int64 and _has_shape(output, (y.shape[1], self.n_classes))


@dataclass(frozen=True)
class SoftCrossEntropy(CrossEntropy):
    """Cross-entropy of logits against mixed distributions over the classes."""

    targets: ClassVar[str] = DISTRIBUTIONS

    def mix(self, y: Tensor, lam: Tensor) -> Tensor:
        """Return the mixed distributions, a new tensor."""
        return mix_columns(y, lam)

    def accepts(self, output: object, y: Tensor) -> bool:
        """Whether `output` is a tensor of floats, with a column for each column of `y`."""
        return Loss.accepts(self, output, y)


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Binary cross-entropy of logits against mixed indicators, minus an entropy bonus.

    Averaged over rows and outputs.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        Share of each indicator that is replaced by 1/2, in [0, 1].
    confidence_penalty : float, default=0.0
        Weight of the entropy bonus; see :func:`average_entropy`.
    """

    targets: ClassVar[str] = INDICATORS
    rowwise: ClassVar[tuple[str, ...]] = ("label_smoothing", "confidence_penalty")
    label_smoothing: float | Tensor = 0.0
    confidence_penalty: float | Tensor = 0.0

    def make_targets(self, y: Tensor, lam: Tensor, divisor: Tensor) -> tuple[Tensor, ...]:
        """Return the mixed indicators, what the loss of each row is divided by, and the entropy's weight."""
        target = smooth_targets(mix_columns(y, lam), self.label_smoothing, 2)
        divisor = (divisor * target.shape[1]).expand(len(target), 1)
        return (target, divisor, *_weigh_entropy(self.confidence_penalty, divisor, len(target)))

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``p - target`` with a sigmoid p; minus the entropy has ``p (1 - p) output``."""
        target, divisor, *penalty = prepared
        kept.copy_(output)
        p = output.sigmoid()
        gradient = p.sub(target).div_(divisor)
        for weight in penalty:
            gradient.addcmul_(p * (1 - p) * output, weight)
        return gradient

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the cross-entropies over the divisor, minus the weighted entropies."""
        target, divisor, *penalty = prepared
        losses = F.binary_cross_entropy_with_logits(kept, target, reduction="none")
        values = (losses / divisor).sum(dim=-1)
        for weight in penalty:
            values -= (get_binary_entropy(kept) * weight).sum(dim=-1)
        return values

    def describe(self) -> Hashable:
        """Return what losses share whose prepared tensors can be stacked."""
        return type(self), bool(self.confidence_penalty > 0)


@dataclass(frozen=True)
class SquaredError(Loss):
    """Squared error against mixed targets, averaged over rows and outputs.

    Parameters
    ----------
    units : tuple of float, default=None
        What the errors of each output are multiplied by in the values of the loss, not in its gradient;
        None means 1.
    """

    rowwise: ClassVar[tuple[str, ...]] = ("units",)
    units: tuple[float, ...] | Tensor | None = None

    def make_targets(self, y: Tensor, lam: Tensor, divisor: Tensor) -> tuple[Tensor, ...]:
        """Return the mixed targets, what twice the error of each row is multiplied by, and the units."""
        target = mix_columns(y, lam)
        factor = (2 / (divisor * target.shape[1])).expand(len(target), 1)
        if self.units is None:
            return target, factor
        units = self.units
        if not isinstance(units, Tensor):
            units = send(np.asarray(units), target.device, target.dtype)
        return target, factor, units.expand_as(target)

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return ``2 (output - target) / divisor``."""
        target, factor, *_ = prepared
        kept.copy_(output)
        return (output - target).mul_(factor)

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        """Return the squared errors, in their units, over the divisor."""
        target, factor, *units = prepared
        errors = kept - target
        for unit in units:
            errors *= unit
        return (errors.square() * factor).sum(dim=-1) / 2

    def describe(self) -> Hashable:
        """Return what losses share whose prepared tensors can be stacked."""
        return type(self), self.units is None

    def as_descended(self) -> Loss:
        """Return the loss whose errors all count alike."""
        return SquaredError()


@dataclass(frozen=True)
class LossOptions:
    """What a criterion does not know of its loss.

    Parameters
    ----------
    n_outputs : int
        Number of outputs of the network.
    label_smoothing : float, default=0.0
        Smoothing of indicators; cross-entropy brings its own.
    confidence_penalty : float, default=0.0
        Weight of the entropy bonus subtracted from the cross-entropy.
    """

    n_outputs: int
    label_smoothing: float = 0.0
    confidence_penalty: float = 0.0


def _make_cross_entropy(criterion: nn.CrossEntropyLoss, options: LossOptions) -> Loss | None:
    if criterion.ignore_index != IGNORED:
        return None
    # torch smooths by the classes' weights, which an entropy does not have.
    if criterion.weight is not None and (criterion.label_smoothing or options.confidence_penalty):
        return None
    smoothing = criterion.label_smoothing
    return CrossEntropy(options.n_outputs, smoothing, options.confidence_penalty, criterion.weight)


def _make_binary_cross_entropy(criterion: nn.BCEWithLogitsLoss, options: LossOptions) -> Loss | None:
    if criterion.weight is not None or criterion.pos_weight is not None:
        return None
    return BinaryCrossEntropy(options.label_smoothing, options.confidence_penalty)


# By the type of the criterion, what builds its closed form, or returns None for options without one.
CLOSED_FORMS: dict[type[nn.Module], Callable[[Any, LossOptions], Loss | None]] = {
    nn.CrossEntropyLoss: _make_cross_entropy,
    nn.BCEWithLogitsLoss: _make_binary_cross_entropy,
    nn.MSELoss: lambda criterion, options: SquaredError(),
}


def find_loss(criterion: nn.Module, options: LossOptions) -> Loss | None:
    """Return the closed form of a criterion, or None where it has none here.

    Parameters
    ----------
    criterion : torch.nn.Module
        A candidate, averaged over a batch.
    options : LossOptions
        What the criterion does not know.

    Examples
    --------
    >>> from torch import nn
    >>> from sk_mixup._training.losses import LossOptions, find_loss
    >>> find_loss(nn.CrossEntropyLoss(label_smoothing=0.1), LossOptions(n_outputs=3))
    CrossEntropy(n_classes=3, label_smoothing=0.1, confidence_penalty=0.0)
    >>> find_loss(nn.L1Loss(), LossOptions(n_outputs=3)) is None
    True
    """
    make_loss = CLOSED_FORMS.get(type(criterion))
    if make_loss is None or getattr(criterion, "reduction", None) != "mean" or is_hooked(criterion):
        return None
    return make_loss(criterion, options)


def _has_shape(output: object, shape: tuple[int, ...]) -> bool:
    return isinstance(output, Tensor) and output.shape == shape and output.is_floating_point()


def _weigh_entropy(penalty: float | Tensor, divisor: Tensor, n_rows: int) -> tuple[Tensor, ...]:
    """Return the weight of each row's entropy, or nothing for no penalty."""
    has_none = isinstance(penalty, float | int) and penalty == 0
    return () if has_none else ((penalty / divisor).expand(n_rows, 1),)
