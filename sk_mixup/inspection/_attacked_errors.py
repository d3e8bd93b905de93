"""The error of models on adversarial examples of given strengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array
from torch import nn

from sk_mixup._tensors import to_host
from sk_mixup._validation import check_integer
from sk_mixup.inspection._attacks import Attacker, Source, find_columns, predict_logits
from sk_mixup.inspection._labels import check_same_kind, encode_labels
from sk_mixup.inspection._logits import (
    Classifier,
    Logits,
    as_frame_of,
    check_fitted,
    check_one_label,
    kept_mode,
    take_last_step,
)

__all__ = ["Examples", "measure_errors"]


def measure_errors(
    models: Sequence[object],
    X: ArrayLike,
    y: ArrayLike,
    attacker: Attacker,
    *,
    eps: NDArray[np.float64],
    source: object,
    top_k: int,
) -> NDArray[np.float64]:
    """Return the error of each model at each strength."""
    if source is None:
        ends = [take_last_step(model, X) for model in models]
        scorers = [_Scorer(model, top_k, attacker.batch_size) for model, _ in ends]
        examples = [Examples("model", model, rows, y, attacker) for model, rows in ends]
    else:
        scorers = [_Scorer(model, top_k, attacker.batch_size) for model in models]
        classes = next((m.classes_ for m in models if hasattr(m, "classes_")), None)
        examples = [Examples("source", source, X, y, attacker, classes)]
        for model in models:
            check_one_label("model", model, examples[0].get_row())
    errors = np.empty((len(models), len(eps)))
    for k, strength in enumerate(eps.tolist()):
        made = [each.make(strength) for each in examples] * (1 if source is None else len(models))
        errors[:, k] = [
            scorer.compute_error(rows, examples[0].labels) for scorer, rows in zip(scorers, made, strict=True)
        ]
    return errors


class Examples:
    """The rows that an attack makes of X, at any strength."""

    def __init__(
        self,
        name: str,
        model: object,
        X: ArrayLike,
        y: ArrayLike,
        attacker: Attacker,
        classes: Sequence[object] | np.ndarray | None = None,
    ) -> None:
        self.X, self.attacker = to_host(X), attacker
        self.rows, self.labels = _check_data(self.X, y)
        attacker.check_inputs(self.rows)
        self.source = Source(name, model, self.rows, self.labels, classes)
        check_one_label(name, model, self.get_row())

    def get_row(self) -> object:
        """Return the first of the inputs."""
        return as_frame_of(self.X, self.rows[:1])

    def make(self, strength: float) -> object:
        """Return the moved rows; the inputs as they are, in float64 too, give the clean error."""
        return as_frame_of(self.X, self.move(strength)) if strength else self.X

    def move(self, strength: float) -> NDArray[np.float32]:
        """Return the moved rows as an array."""
        return self.attacker.attack(self.source, self.rows, strength)


class _Scorer:
    """Computes the error of a model."""

    def __init__(self, model: object, top_k: int, batch_size: int) -> None:
        self.top_k = check_integer("top_k", top_k, low=1, hint="Use 1 for the usual error.")
        self.model = cast(Classifier | nn.Module, model)
        self.batch_size = batch_size
        needed = "predict" if top_k == 1 else "predict_proba"
        if isinstance(model, nn.Module):
            self.logits = Logits(model)
        elif not hasattr(model, needed):
            raise TypeError(
                f"model must have {needed} for top_k={top_k}; got {type(model).__name__}. Give a classifier "
                "or a torch module."
            )
        else:
            check_fitted("model", model)

    def compute_error(self, X: Any, y: np.ndarray) -> float:
        """Return the share of rows whose label is not among the `top_k` most probable."""
        if isinstance(self.model, nn.Module):
            return self._compute_from(predict_logits(self.logits, np.asarray(X), self.batch_size), y, None)
        with kept_mode(self.model):
            if self.top_k == 1:
                return self._compare(np.asarray(self.model.predict(X)), y)
            return self._compute_from(self.model.predict_proba(X), y, getattr(self.model, "classes_", None))

    def _compare(self, predicted: np.ndarray, y: np.ndarray) -> float:
        check_same_kind("y", y, "predict of the model", predicted)
        classes = np.asarray(to_host(getattr(self.model, "classes_", ())))
        if len(classes) and np.all(np.isin(predicted, classes)):  # nets of skorch may predict columns
            encode_labels("y", y, classes)
        return float(np.mean(predicted != y))

    def _compute_from(self, scores: np.ndarray, y: np.ndarray, classes: Any) -> float:
        n_classes = scores.shape[1]
        if self.top_k >= n_classes:
            raise ValueError(
                f"top_k must be less than the number of classes; got {self.top_k} for {n_classes}. Use 1."
            )
        codes = encode_labels("y", y, find_columns(classes, n_classes))
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self.top_k]
        return float(np.mean(np.all(best != codes[:, None], axis=1)))


def _check_data(X: object, y: ArrayLike) -> tuple[NDArray[np.float32], np.ndarray]:
    rows = check_array(X, dtype=np.float32, allow_nd=True, input_name="X")
    labels = np.asarray(to_host(y))
    if labels.shape != rows.shape[:1]:
        raise ValueError(
            f"y must hold one label per row of X; got shape {labels.shape} for {len(rows)} rows. Give the "
            "labels of these rows."
        )
    return rows, labels
