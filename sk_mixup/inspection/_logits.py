"""What the measurements ask of a model: classes, labels, logits that can be differentiated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import copy
from typing import Any, Protocol

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
import torch
from torch import Tensor, nn

from sk_mixup._tensors import to_double, to_host

__all__ = [
    "Classifier",
    "Logits",
    "as_frame_of",
    "check_classifier",
    "check_fitted",
    "check_one_label",
    "find_slopes",
    "kept_mode",
    "read_numbers",
    "take_last_step",
]


# Of soft labels, which outputs are near to.
OF_DISTANCES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
# Computed in by a module only; what is measured is float32 at least.
HALF = (torch.bfloat16, torch.float16)


class Classifier(Protocol):
    """What is asked of an estimator."""

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of each row."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class for each row."""


class Logits(nn.Module):
    """Logits of all classes, from what a model's module returns.

    It computes on a copy in eval mode, so that mode, gradients and hooks of the model's own stay as they
    are. The module of an estimator whose criterion is ``NLLLoss`` or ``BCELoss`` returns probabilities, as
    in skorch, and by a distance from soft labels shares: of the second the logit is taken, of the others
    the logarithm.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        module = model if isinstance(model, nn.Module) else model.module_
        # Compiled modules keep the plain one.
        with torch.no_grad():  # else the weights of a scripted one would be results of a computation
            self.module = copy.deepcopy(getattr(module, "_orig_mod", module)).eval()
        for weight in self.module.parameters():
            weight.requires_grad = False
        criterion = getattr(model, "criterion_", None)
        criterion = getattr(criterion, "_orig_mod", criterion)
        parts = criterion.modules() if isinstance(criterion, nn.Module) else ()
        self.is_near_shares = isinstance(criterion, OF_DISTANCES)
        self.takes_log = self.is_near_shares or isinstance(criterion, nn.NLLLoss)
        self.takes_logit = any(isinstance(part, nn.BCELoss) for part in parts)
        self.is_by_column = self.takes_logit or isinstance(criterion, nn.BCEWithLogitsLoss)
        self.temperature = getattr(model, "temperature_", 1.0)

    def get_device_and_dtype(self) -> tuple[torch.device, torch.dtype | None]:
        """Return those of the weights; the CPU and None without weights."""
        floats = [p for p in self.module.parameters() if p.is_floating_point()]
        return (floats[0].device, floats[0].dtype) if floats else (torch.device("cpu"), None)

    def forward(self, x: Tensor) -> Any:
        """Return logits of shape (n, n_classes); one logit z a row stands for (0, z)."""
        output = self._compute(x)
        return _as_columns(output) if isinstance(output, Tensor) else output

    def compute_probabilities(self, x: Tensor) -> object:
        """Return the probabilities of the classes at the model's temperature, in double precision."""
        output = self._compute(x)
        if not isinstance(output, Tensor):
            return output
        scaled = to_double(output) / self.temperature
        columns = _as_columns(scaled)
        return scaled.sigmoid() if self.is_by_column and columns is scaled else columns.softmax(dim=1)

    def _compute(self, x: Tensor) -> object:
        """Return what the module does, as logits; of several outputs the first, as in skorch."""
        device, dtype = self.get_device_and_dtype()
        output = self.module(x.to(device=device, dtype=dtype).clone())  # which it may change in place
        output = output[0] if isinstance(output, tuple) else output
        if not isinstance(output, Tensor):
            return output
        output = output.float() if output.dtype in HALF else output
        if self.is_near_shares:  # of soft labels
            shares = output.clamp_min(0)
            output = shares / shares.sum(dim=1, keepdim=True).clamp_min(torch.finfo(output.dtype).tiny)
        if self.takes_log:
            return torch.log(output + torch.finfo(output.dtype).eps)
        return torch.logit(output, eps=torch.finfo(output.dtype).eps) if self.takes_logit else output

    def probe(self, name: str, x: Tensor, *, differentiable: bool) -> Any:
        """Return the output for some rows, or raise if there is none, or no gradient where it is needed."""
        x = x.detach().requires_grad_(differentiable)
        try:
            with torch.set_grad_enabled(differentiable):
                output = self(x)
                total = output.sum() if isinstance(output, Tensor) else None
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{name} must take rows of X as floats; got rows of shape {tuple(x.shape[1:])} and, from its "
                f"forward, '{reason}'. Give X as the module sees it."
            ) from error
        if differentiable and total is not None and find_slopes(total, x) is None:
            raise ValueError(
                f"{name} must be differentiable with respect to its input; got an output without a gradient "
                "towards it. Remove detach, no_grad or integers from its forward."
            )
        return output


def _as_columns(output: Tensor) -> Tensor:
    """Return logits as they are, but for one z a row (0, z)."""
    if output.ndim == 1 or output.shape[1:] == (1,):
        logit = output.reshape(-1, 1)
        return torch.cat([torch.zeros_like(logit), logit], dim=1)
    return output


def find_slopes(total: Tensor, x: Tensor) -> Tensor | None:
    """Return the gradient of `total` towards `x`, or None if there is none; the graph is kept."""
    if not total.requires_grad:
        return None
    return torch.autograd.grad(total, x, retain_graph=True, allow_unused=True)[0]


def read_numbers(data: object) -> object:
    """Return a frame of pandas with numbers that may be missing as an array, with NaN for these."""
    is_frame = hasattr(data, "iloc") and np.asarray(data).dtype.kind == "O"
    if is_frame and {dtype.kind for dtype in np.ravel(getattr(data, "dtypes", ()))} <= set("fiub"):
        numbers: np.ndarray = data.to_numpy(np.float64, na_value=np.nan)  # type: ignore[attr-defined]
        return numbers
    return data


def as_frame_of(X: Any, values: np.ndarray) -> Any:
    """Return values as a frame with the columns of X where X is one of pandas or polars."""
    if not hasattr(X, "columns") or not hasattr(X, "dtypes"):
        return values
    return type(X)(values, **{"columns" if hasattr(X, "iloc") else "schema": X.columns})


@contextmanager
def kept_mode(model: object) -> Iterator[None]:
    """Leave modules in their mode and torch's generator as it was; prediction by skorch changes both."""
    module = getattr(model, "module_", None)
    modes = [(part, part.training) for part in module.modules()] if isinstance(module, nn.Module) else []
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for part, training in modes:
            part.training = training


def take_last_step(model: Any, X: object) -> tuple[Any, Any]:
    """Return the net at the end of searches and pipelines, and the rows as it is given them."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif isinstance(model, Pipeline):
            check_is_fitted(model)
            model, X = model.steps[-1][1], model[:-1].transform(X) if len(model) > 1 else X
        else:
            return model, X


def check_fitted(name: str, model: object) -> None:
    """Raise if an estimator is not fitted."""
    if hasattr(model, "fit"):
        check_is_fitted(model)
    if not getattr(model, "initialized_", True):  # a net of skorch
        raise NotFittedError(f"{name} must be fitted; got a {type(model).__name__} that is not. Call fit.")


def check_classifier(name: str, model: object) -> np.ndarray:
    """Return the labels of a fitted classifier, or raise if it is not one."""
    if not hasattr(model, "predict_proba"):
        raise TypeError(f"{name} must be a classifier with predict_proba; got {model!r}. Give one.")
    check_fitted(name, model)
    classes = getattr(model, "classes_", None)
    if classes is None:
        raise NotFittedError(f"{name} must be fitted; got {model!r}, without classes_. Call fit first.")
    if isinstance(classes, list) or np.ndim(classes) != 1 or len(classes) < 2:
        found = f"{name} must predict one label of at least 2 classes per row; got classes_ {classes!r}"
        raise ValueError(f"{found}. Fit it on rows of more classes.")
    return np.asarray(to_host(classes))


def check_one_label(name: str, model: object, row: object) -> None:
    """Raise if an estimator predicts anything but one label of a row."""
    predict = getattr(model, "predict", None)
    if isinstance(model, nn.Module) or predict is None:
        return
    with kept_mode(model):
        shape = np.asarray(to_host(predict(row))).shape
    if shape != (1,):
        raise ValueError(
            f"{name} must predict one label per row; got a {type(model).__name__} that predicts an array of "
            f"shape {shape} for one row. Give a classifier of one label per row, or a module of its logits."
        )
