"""Steps in float16: losses are scaled, for small gradients would be rounded to 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import inspect
from typing import NoReturn

import torch
from torch import Tensor

__all__ = ["LossScaler", "check_optimizers"]

Optimizers = Sequence[torch.optim.Optimizer]


class LossScaler(torch.amp.GradScaler):
    """Scales losses, and takes gradients back to their true size before anyone looks at them.

    A step whose gradients overflow is left out, and later losses are scaled less.
    """

    # Whether there are gradients that no optimizer has stepped by.
    has_gradients = False

    def descend(self, loss: Tensor, optimizers: Optimizers) -> None:
        """Compute the gradients of a loss."""
        if self.has_gradients:
            _refuse("where a step of your own leaves out super()._step_optimizer or sums gradients")
        torch.autograd.backward(self.scale(loss))
        for optimizer in optimizers:
            self.unscale_(optimizer)
        self.has_gradients = True

    def step_each(self, optimizers: Optimizers, step_fn: Callable[[], object] | None) -> None:
        """Step with each optimizer, by gradients that `step_fn` computes for it, or by those at hand."""
        for optimizer in optimizers:
            if step_fn is not None:
                self.end_step()
                step_fn()
            if not self.has_gradients:
                _refuse("where train_step_single computes gradients by itself, and not by super()")
            self.step(optimizer)
        self.end_step()

    def end_step(self) -> None:
        """Do without the gradients at hand: they were used, or the step was interrupted."""
        if self.has_gradients:
            self.update()
        self.has_gradients = False


def check_optimizers(optimizers: Optimizers) -> None:
    """Raise unless optimizers step by one gradient, whose loss can be scaled."""
    for optimizer in optimizers:
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            _refuse(f"with {type(optimizer).__name__}, which computes gradients several times a step")


def _refuse(case: str) -> NoReturn:
    raise ValueError(
        f"autocast must be None or 'bfloat16' {case}; got 'float16', which scales the loss of each step. "
        "Use 'bfloat16'."
    )
