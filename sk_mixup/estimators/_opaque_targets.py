"""Targets of which nothing is known but that a loss of the user's own takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import Tensor, nn

from sk_mixup._skorch.dataset_items import to_array
from sk_mixup.estimators._targets import TargetOptions, Targets

__all__ = ["OpaqueTargets"]


@dataclass(frozen=True, eq=False)
class OpaqueTargets(Targets):
    """Targets that a loss of the user's own alone understands, such as sequences of varying length."""

    criterion = nn.MSELoss

    @classmethod
    def accepts(cls, y: np.ndarray) -> bool:
        """Whether an array holds sequences, or more than two axes of real numbers."""
        is_ragged = y.dtype.kind == "O" and y.size > 0 and np.ndim(y.flat[0]) > 0
        return is_ragged or (y.ndim > 2 and y.dtype.kind == "f")

    @classmethod
    def accepts_yielded(cls, y: np.ndarray) -> bool:
        """Whether the first targets of a Dataset are no labels: real values, more than one, or objects."""
        return (y.ndim > 1 and y.dtype.kind == "f") or y.dtype.kind == "O"

    @classmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return y."""
        return y

    @classmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Remember nothing."""
        return cls()

    @property
    def n_outputs(self) -> None:
        """None: the module is what it is given as."""
        return

    def describe(self) -> str:
        """Return in words what y must be."""
        return "what get_loss takes"

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return y."""
        return y

    def encode_batch(self, y: object) -> object:
        """Return y."""
        return y

    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """Return what was predicted."""
        return to_array(codes)

    def score(self, y: object, y_pred: np.ndarray, sample_weight: object = None) -> float:
        """Raise: nothing is known of these targets."""
        raise TypeError(
            "score must be overridden where get_loss is, for such y. Give the net a method `score`."
        )
