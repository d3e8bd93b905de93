"""By what a loss of the user's own divides the losses of a batch: it is tried, once a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import copy
from enum import Enum
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from sk_mixup._data.batches import Batch
from sk_mixup._random import unseen_torch_draws
from sk_mixup._skorch.precision import HALF
from sk_mixup._training.averages import COUNTED, IGNORED
from sk_mixup._warning import warn_user

__all__ = ["Divisor", "count_by", "find_divisor", "is_own_loss", "learn_divisor", "using_criterion"]

LOSSES_OF_TORCH = nn.modules.loss.__name__


class Divisor(Enum):
    """By what the losses of a batch are divided."""

    WEIGHTS = "the weights of the classes of the targets that are not ignored"
    TARGETS = "the number of targets that are not ignored"
    LOSSES = "the number of losses"
    ROWS = "the number of rows"
    ONE = "nothing: they are summed"

    @property
    def reduction(self) -> str:
        """The name that torch has for it."""
        return {Divisor.ROWS: "batchmean", Divisor.ONE: "sum"}.get(self, "mean")


class LossNet(Protocol):
    """A net whose losses may be the user's own."""

    @property
    def _bare_criterion(self) -> object: ...

    def get_loss(self, y_pred: object, y_true: object, X: object = None, training: bool = False) -> Tensor:
        """Return the loss of a batch."""

    def is_overridden(self, method: str) -> bool:
        """Whether a method is the user's own."""


def learn_divisor(net: LossNet, y_pred: object, batch: Batch, x: object, training: bool) -> None:
    """Let a net know by what its loss divides, once it matters; None for a loss of torch's.

    A loss of the user's own that cannot be tried counts as torch's if it is derived from it, and as the mean
    of all losses otherwise.
    """
    criterion, is_replaced, y = net._bare_criterion, net.is_overridden("get_loss"), batch.targets
    found: Divisor | None = Divisor.LOSSES
    if not is_replaced and (criterion is None or not is_own_loss(criterion)):
        found = None
    elif hasattr(criterion, "reduction") and isinstance(y, Tensor):
        # A plain training step takes the loss as it is, but for maps, of which some pixels are left out; to
        # look for ignored targets would wait for the device.
        is_even = batch.lam is None and batch.weight is None and getattr(criterion, "weight", None) is None
        is_map = y.ndim > 1 and not y.is_floating_point()
        if is_even and not is_map and (training or not _holds_ignored(criterion, y)):
            return
        output = y_pred.float() if isinstance(y_pred, Tensor) and y_pred.dtype in HALF else y_pred

        def ask(asked: nn.Module, targets: Tensor) -> Tensor:
            with using_criterion(net, asked):
                return net.get_loss(output, targets, X=x, training=training)

        found = find_divisor(ask, cast(nn.Module, criterion), batch.get_mixed_targets()[0][0])
        if found is None and (is_replaced or not isinstance(criterion, COUNTED)):
            found = Divisor.LOSSES
            own = getattr(criterion, "weight", None) is not None or criterion.reduction != "mean"
            if is_replaced and (own or _holds_ignored(criterion, y)):
                warn_user(
                    "get_loss must divide the losses of rows as the criterion does, by weights of classes, "
                    "targets that are not ignored, or nothing, for a mixed loss to be averaged like a plain "
                    "one; got none of these. Weights count as 1 here, and rows are averaged: add what does "
                    "not depend on y_true in get_batch_loss, or leave the criterion its mean."
                )
    net.__dict__["_divisor"] = found


@contextmanager
def using_criterion(net: object, criterion: object) -> Iterator[None]:
    """Let another criterion stand for that of a net; for none, where it has other names."""
    own = net.__dict__.get("criterion_")
    if criterion is own:
        yield
        return
    net.__dict__["criterion_"] = criterion
    try:
        yield
    finally:
        net.__dict__["criterion_"] = own


def is_own_loss(criterion: object) -> bool:
    """Whether a criterion computes its loss in another way than torch's do."""
    forward = getattr(type(criterion), "forward", None)
    is_patched = "forward" in getattr(criterion, "__dict__", ())
    return is_patched or getattr(forward, "__module__", "") != LOSSES_OF_TORCH


def find_divisor(
    ask: Callable[[nn.Module, Tensor], Tensor], criterion: nn.Module, y: Tensor
) -> Divisor | None:
    """Compare the loss of a batch with the losses of its rows, as a criterion of reduction 'none' gives them.

    Parameters
    ----------
    ask : callable
        Returns the loss of the batch by a criterion towards other targets.
    criterion : torch.nn.Module
        The criterion, which has a `reduction`. A copy is asked, for it may count its calls.
    y : Tensor of shape (n, ...)
        The targets of the batch.

    Returns
    -------
    divisor : Divisor or None
        None where it cannot be tried, or is none of these.
    """
    for targets in _list_targets(criterion, y):
        try:
            with unseen_torch_draws(), torch.no_grad():
                whole, losses = _ask_twice(ask, _copy(criterion), targets)
        except Exception:  # of whatever kind: it is code of the user's
            continue
        for divisor, size in _list_sizes(criterion, targets, losses):
            if whole.numel() == 1 and torch.allclose(whole, (losses.sum() / size).float(), rtol=1e-3):
                return divisor
    return None


def count_by(divisor: Divisor, criterion: object, y: Tensor) -> Tensor | None:
    """Return what the loss of each target counts in a mean; None where all count 1."""
    if divisor not in (Divisor.WEIGHTS, Divisor.TARGETS) or y.is_floating_point():
        return None
    counted = y != getattr(criterion, "ignore_index", IGNORED)
    weight = getattr(criterion, "weight", None)
    if divisor is Divisor.TARGETS or weight is None:
        return counted
    return torch.where(counted.to(weight.device), weight[torch.where(counted, y, 0).to(weight.device)], 0.0)


def _holds_ignored(criterion: object, y: Tensor) -> bool:
    """Whether some targets of a batch are ignored."""
    return not y.is_floating_point() and bool((y == getattr(criterion, "ignore_index", IGNORED)).any())


def _copy(criterion: nn.Module) -> nn.Module:
    """Return a copy, of half precision in single, in which sums can be told apart."""
    try:
        copied = copy.deepcopy(criterion)
    except Exception:  # it holds what cannot be copied, and is asked itself
        return criterion
    is_module = isinstance(copied, nn.Module)  # or any callable that has a `reduction`
    numbers = (*copied.parameters(), *copied.buffers()) if is_module else ()
    return copied.float() if any(value.dtype in HALF for value in numbers) else copied


def _ask_twice(
    ask: Callable[[nn.Module, Tensor], Tensor], criterion: nn.Module, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss of a batch, and those of its rows."""
    whole, reduction = ask(criterion, y), criterion.reduction
    criterion.reduction = "none"  # type: ignore[assignment]
    try:
        return whole.float(), ask(criterion, y).float()
    finally:
        criterion.reduction = reduction


def _list_targets(criterion: object, y: Tensor) -> Iterator[Tensor]:
    """Yield targets of which some are ignored, and those given, for a loss that knows of no such thing.

    A GPU takes no target that a loss cannot look up: what it asserts ends all that is computed there.
    """
    if not y.is_floating_point() and y.numel() > 1 and y.device.type != "cuda":
        some, weight = y.clone(), getattr(criterion, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 1:  # of all classes
            some = (torch.arange(y.numel(), device=y.device) % len(weight)).reshape(y.shape).to(y.dtype)
        some.view(-1)[::4] = getattr(criterion, "ignore_index", IGNORED)
        yield some
    yield y


def _list_sizes(criterion: object, y: Tensor, losses: Tensor) -> list[tuple[Divisor, Tensor | float]]:
    """Return what may divide the losses; of equal ones the first is what the criterion has an option for."""
    sizes: list[tuple[Divisor, Tensor | float]] = []
    for divisor in (Divisor.WEIGHTS, Divisor.TARGETS):
        weighs = getattr(criterion, "weight", None) is not None or divisor is Divisor.TARGETS
        counts = count_by(divisor, criterion, y) if weighs and losses.shape == y.shape else None
        if counts is not None:
            sizes.append((divisor, counts.sum()))
    sizes += [(Divisor.LOSSES, losses.numel()), (Divisor.ROWS, len(y)), (Divisor.ONE, 1.0)]
    own = getattr(criterion, "reduction", "mean")
    return sorted(sizes, key=lambda found: found[0].reduction != own)
