"""Adversarial examples of a torch module, made by the Adversarial Robustness Toolbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
import logging.config
import math
from numbers import Real
import sys
from typing import Any
from unittest import mock
import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_regressor
import torch
from torch import nn

from sk_mixup._validation import check_choice, check_integer, check_real
from sk_mixup.inspection._logits import Logits, check_fitted, encode_labels
from sk_mixup.inspection._plotting import require

__all__ = ["ATTACKS", "Attacker", "Source", "find_columns", "predict_logits"]

ATTACKS = {"fgsm": "FGSM", "i-fgsm": "I-FGSM", "pgd": "PGD"}


class Source:
    """A differentiable model that makes the examples.

    Parameters
    ----------
    name : str
        ``"model"`` or ``"source"``, for messages.
    model : torch.nn.Module or estimator
        The model.
    X : ndarray of shape (n_samples, *features)
        Examples.
    y : ndarray of shape (n_samples,)
        Labels.
    classes : sequence or None
        Labels of the columns, where the model itself knows none.
    """

    def __init__(self, name: str, model: Any, X: NDArray[np.float32], y: NDArray[Any], classes: Any) -> None:
        _check_differentiable(name, model)
        self.logits = Logits(model)
        self.device = self.logits.get_device_and_dtype()[0]
        self.shape = X.shape[1:]
        probe = torch.tensor(X[:1], device=self.device)
        shape = tuple(self.logits.probe(name, probe, differentiable=True).shape)
        if len(shape) != 2:
            raise ValueError(
                f"{name} must return logits of one label per row, of shape (n, n_classes); got an output of "
                f"shape {shape} for one row. Give a classifier of one label per row."
            )
        self.n_classes = shape[1]
        columns = find_columns(getattr(model, "classes_", classes), self.n_classes)
        self.codes = encode_labels("y", y, columns)

    def get_targets(self) -> NDArray[np.float32]:
        """Return the one-hot labels."""
        return np.eye(self.n_classes, dtype=np.float32)[self.codes]

    def on_device(self) -> Any:
        """Make the model's device the current one, which the library takes."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()


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
        with source.on_device(), _own_draws(self.seed):
            examples: NDArray[np.float32] = self._build(source, eps).generate(x=X, y=source.get_targets())
        return examples

    def _build(self, source: Source, eps: float) -> Any:
        """Build the attack of the library; the sum of the losses leaves no trace of the batch's size."""
        estimators, evasion = _import_library()
        clip = None if self.clip is None else tuple(np.float32(value) for value in self.clip)
        classifier = estimators.PyTorchClassifier(
            model=source.logits,
            loss=nn.CrossEntropyLoss(reduction="sum"),
            input_shape=source.shape,
            nb_classes=source.n_classes,
            clip_values=clip,
            device_type="gpu" if source.device.type == "cuda" else "cpu",
        )
        options = {"estimator": classifier, "eps": eps, "batch_size": self.batch_size}
        if self.name == "fgsm":
            return evasion.FastGradientMethod(**options, eps_step=eps)
        factor = 1.0 if self.name == "i-fgsm" else 2.5
        step_size = factor * eps / self.n_steps if self.step_size is None else self.step_size
        options |= {"eps_step": min(step_size, eps), "max_iter": self.n_steps, "verbose": False}
        if self.name == "i-fgsm":
            return evasion.BasicIterativeMethod(**options)
        return evasion.ProjectedGradientDescent(**options, num_random_init=1)


def predict_logits(logits: Logits, X: NDArray[Any], batch_size: int) -> NDArray[Any]:
    """Return the logits of all rows."""
    device = logits.get_device_and_dtype()[0]
    rows = torch.as_tensor(np.ascontiguousarray(X, dtype=np.float32))
    with torch.no_grad():
        parts = [logits(part.to(device)) for part in torch.split(rows, batch_size)]
    return torch.cat(parts).numpy(force=True)


def _check_differentiable(name: str, model: Any) -> None:
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


def find_columns(classes: Any, n_classes: int) -> NDArray[Any]:
    """Return the label of each column; the labels of nets of skorch's own are columns."""
    return np.arange(n_classes) if classes is None or len(classes) != n_classes else np.asarray(classes)


def _check_clip(clip: Any) -> None:
    hint = "Give (0, 1) for scaled pixels, None for inputs without bounds."
    if not isinstance(clip, tuple | list) or len(clip) != 2 or not all(isinstance(end, Real) for end in clip):
        raise TypeError(f"clip must be a pair of numbers (low, high) or None; got {clip!r}. {hint}")
    if not -math.inf < clip[0] < clip[1] < math.inf:
        raise ValueError(f"clip must be finite, low below high; got {clip!r}. {hint}")


@contextmanager
def _own_draws(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which the library draws on, and put all back afterwards."""
    before = np.random.get_state()  # noqa: NPY002 - the library draws on it
    with torch.random.fork_rng(devices=[]):
        np.random.seed(seed)  # noqa: NPY002 - the library draws on it
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002 - the library draws on it


def _import_library() -> tuple[Any, Any]:
    """Import the attacks; on its first import the library would set up the loggers of the whole process."""
    quiet = warnings.catch_warnings(action="ignore"), mock.patch.object(logging.config, "dictConfig")
    with ExitStack() as stack:
        for context in () if "art" in sys.modules else quiet:
            stack.enter_context(context)
        return (
            require("art.estimators.classification", "robustness_curve"),
            require("art.attacks.evasion", "robustness_curve"),
        )
