"""Adversarial examples of a torch module: FGSM, iterated FGSM and projected gradient descent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import math
from numbers import Real
import sys

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_regressor
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sk_mixup._tensors import to_host
from sk_mixup._validation import check_choice, check_integer, check_real
from sk_mixup.inspection._labels import encode_labels
from sk_mixup.inspection._logits import Logits, check_fitted

__all__ = ["ATTACKS", "Attacker", "Source", "find_columns", "predict_logits"]

ATTACKS = {"fgsm": "FGSM", "i-fgsm": "I-FGSM", "pgd": "PGD"}
# How far an attack could go in all its steps, in units of eps, if no step size is given.
REACHES = {"i-fgsm": 1.0, "pgd": 2.5}


class Source:
    """A differentiable model that makes the examples; `classes` label its columns if it knows none."""

    def __init__(
        self,
        name: str,
        model: object,
        X: NDArray[np.float32],
        y: np.ndarray,
        classes: Sequence[object] | np.ndarray | None,
    ) -> None:
        _check_differentiable(name, model)
        self.logits = Logits(model)
        self.device = self.logits.get_device_and_dtype()[0]
        probe = torch.tensor(X[:1], device=self.device)
        shape = tuple(self.logits.probe(name, probe, differentiable=True).shape)
        if len(shape) != 2:
            raise ValueError(
                f"{name} must return logits of one label per row, of shape (n, n_classes); got an output of "
                f"shape {shape} for one row. Give a classifier of one label per row."
            )
        columns = find_columns(getattr(model, "classes_", classes), shape[1])
        self.codes = encode_labels("y", y, columns)

    def find_ascent(self, x: Tensor, codes: Tensor) -> Tensor:
        """Return the sign of the gradient of the loss towards each input; 0 where it is NaN."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            # The sum leaves no trace of the batch's size.
            loss = cross_entropy(self.logits(x), codes, reduction="sum")
        return torch.autograd.grad(loss, x)[0].sign().nan_to_num(0.0)


@dataclass(frozen=True)
class Attacker:
    """An attack with its options; makes examples of any strength."""

    name: str
    n_steps: int
    step_size: float | None
    clip: tuple[float, float] | None
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        check_choice("attack", self.name, tuple(ATTACKS))
        check_integer("n_steps", self.n_steps, low=1, hint="The paper takes 10.")
        check_integer("batch_size", self.batch_size, low=1, hint="Give the rows to attack at a time.")
        if self.step_size is not None:
            hint = "Give None for the default of the attack."
            check_real("step_size", self.step_size, low=0, high=sys.float_info.max, above=True, hint=hint)
        if self.clip is not None:
            _check_clip(self.clip)

    def check_inputs(self, X: NDArray[np.float32]) -> None:
        """Raise if an input lies outside the range it is kept in."""
        if self.clip is None:
            return
        low, high = np.asarray(self.clip, dtype=np.float32)
        if not (X.min() >= low and X.max() <= high):
            raise ValueError(
                f"X must lie within clip; got values from {X.min():g} to {X.max():g} for clip={self.clip!r}. "
                "Give the range of the inputs as the module sees them."
            )

    def attack(self, source: Source, X: NDArray[np.float32], eps: float) -> NDArray[np.float32]:
        """Return an adversarial example for each row."""
        starts = X
        if self.name == "pgd":
            starts = X + np.random.RandomState(self.seed).uniform(-eps, eps, X.shape).astype(np.float32)
        batches = _split((X, starts, source.codes), self.batch_size, source.device)
        with torch.random.fork_rng(devices=[]):  # a module may draw
            moved = [self._move(source, x, start, codes, eps) for x, start, codes in batches]
        return torch.cat(moved).numpy(force=True)

    def _move(self, source: Source, x: Tensor, start: Tensor, codes: Tensor, eps: float) -> Tensor:
        """Take the steps from `start`; each ends in the ball round `x` and in the range of the inputs."""
        n_steps, length = self._plan_steps(eps)
        low, high = x - eps, x + eps
        if self.clip is not None:
            low, high = low.clamp(min=self.clip[0]), high.clamp(max=self.clip[1])
        moved = start.clamp(low, high)
        for _ in range(n_steps):
            moved = (moved + length * source.find_ascent(moved, codes)).clamp(low, high)
        return moved

    def _plan_steps(self, eps: float) -> tuple[int, float]:
        """Return how many steps to take, and of which length."""
        if self.name == "fgsm":
            return 1, eps
        length = REACHES[self.name] * eps / self.n_steps if self.step_size is None else self.step_size
        return self.n_steps, min(length, eps)


def predict_logits(logits: Logits, X: ArrayLike, batch_size: int) -> np.ndarray:
    """Return the logits of all rows."""
    device, dtype = logits.get_device_and_dtype()
    rows = np.asarray(X, dtype=np.float64 if dtype == torch.float64 else np.float32)
    with torch.no_grad():
        parts = [logits(part) for (part,) in _split((rows,), batch_size, device)]
    return torch.cat(parts).numpy(force=True)


def _split(
    arrays: Sequence[np.ndarray], batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, ...]]:
    """Yield copies of so many rows of each array on a device."""
    for start in range(0, len(arrays[0]), batch_size):
        yield tuple(torch.tensor(part[start : start + batch_size], device=device) for part in arrays)


def _check_differentiable(name: str, model: object) -> None:
    """Raise unless a model is a torch module, or has one that classifies."""
    module = model if isinstance(model, nn.Module) else getattr(model, "module_", None)
    regresses = hasattr(model, "__sklearn_tags__") and is_regressor(model)
    if isinstance(module, nn.Module) and not regresses:
        return
    check_fitted(name, model)
    remedy = "Give a torch module" + (", or a differentiable `source`." if name == "model" else ".")
    raise TypeError(
        f"{name} must be a torch module from inputs to logits, or a classifier with one as module_; got "
        f"{type(model).__name__}, which is not differentiable. {remedy}"
    )


def find_columns(classes: Sequence[object] | np.ndarray | None, n_classes: int) -> np.ndarray:
    """Return the label of each column; the labels of nets of skorch's own are columns."""
    is_of_columns = classes is None or len(classes) != n_classes
    return np.arange(n_classes) if is_of_columns else np.asarray(to_host(classes))


def _check_clip(clip: object) -> None:
    hint = "Give (0, 1) for scaled pixels, None for inputs without bounds."
    if not isinstance(clip, tuple | list) or len(clip) != 2 or not all(isinstance(end, Real) for end in clip):
        raise TypeError(f"clip must be a pair of numbers (low, high) or None; got {clip!r}. {hint}")
    if not -math.inf < clip[0] < clip[1] < math.inf:
        raise ValueError(f"clip must be finite, low below high; got {clip!r}. {hint}")
