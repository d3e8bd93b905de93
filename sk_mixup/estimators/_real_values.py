"""Targets that are real values: what a regressor learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_array, column_or_1d
import torch
from torch import Tensor, nn

from sk_mixup._skorch.dataset_items import to_array
from sk_mixup._training.losses import VALUES, Loss, LossOptions, find_loss
from sk_mixup._training.mixed_targets import mix_columns
from sk_mixup.estimators._inputs import get_input_dtype, read_finite
from sk_mixup.estimators._links import keep, squash
from sk_mixup.estimators._members import average_members, spread_members
from sk_mixup.estimators._opaque_targets import OpaqueTargets
from sk_mixup.estimators._own_losses import is_own, warn_unless_by_rows
from sk_mixup.estimators._targets import TargetOptions, Targets

__all__ = ["RealValues"]


@dataclass(frozen=True, eq=False)
class RealValues(Targets):
    """One or several real values per row.

    Attributes
    ----------
    n_columns : int or None
        How many.
    is_flat : bool
        Whether y had one axis only.
    """

    criterion = nn.MSELoss
    n_columns: int | None = None
    is_flat: bool = True

    def takes(self, y: np.ndarray) -> bool:
        """Whether later targets are real values too, standardised or not."""
        return not OpaqueTargets.accepts(y)

    @classmethod
    @np.errstate(over="ignore", invalid="ignore")  # scikit-learn says which number is too large
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return finite numbers, a column of them as a vector."""
        if y.dtype.kind == "O" and any(np.ndim(value) for value in y.flat):
            raise TypeError(
                "y must hold as many real numbers in each row; got sequences of varying length. Pad them."
            )
        if y.dtype.kind in "mM":
            raise TypeError(
                f"y must hold real numbers; got values of dtype {y.dtype}. Convert them, such as to days."
            )
        if type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "fiu" and len(y):
            plain = read_finite(y)
            if plain is not None:
                return plain
        y = check_array(y, ensure_2d=False, dtype=get_input_dtype(), input_name="y")
        return column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    @classmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Remember the number of columns."""
        return cls(y[:1].size, y.ndim == 1)

    @property
    def n_outputs(self) -> int | None:
        """Number of columns."""
        return self.n_columns

    def describe(self) -> str:
        """Return in words what y must be."""
        return f"{self.n_columns} targets per row"

    def check_loss(self, criterion: nn.Module) -> None:
        """Raise if the criterion is for classes; several columns may be their probabilities."""
        super().check_loss(criterion)
        if self.is_flat and type(criterion) in (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss):
            raise ValueError(
                f"criterion must be a loss for real values; got {type(criterion).__name__}. Use "
                "criterion='auto', or MixupClassifier for classes."
            )

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the columns."""
        columns = y.reshape(len(y), -1)
        if columns.shape[1] != self.n_columns:
            raise ValueError(f"y must hold {self.describe()}, as in fit; got {columns.shape[1]}. Call fit.")
        return columns

    def encode_yielded(self, y: np.ndarray) -> np.ndarray:
        """Return the columns, of a floating dtype."""
        return self.encode(y.astype(get_input_dtype(), copy=False))

    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """Return values of the shape that y had; those of a wider head as they are."""
        return self._shape(to_array(codes))

    def _shape(self, values: np.ndarray) -> np.ndarray:
        return values.ravel() if self.is_flat and values.size == len(values) else values

    def check_has_classes(self) -> None:
        """Raise: there are no classes."""
        raise ValueError(
            "partners must not be drawn by class for regression; got a policy that looks at classes. "
            "Real-valued targets have none: use 'batch', 'neighbors' or 'kernel'."
        )

    def check_output(self, output: Tensor, criterion: nn.Module) -> None:
        """Raise unless there is an output for each column; a criterion of the user's own may take others."""
        if self.n_columns is None:
            return
        shape = (len(output), self.n_columns)
        if is_own(criterion) and not self.count_members(output) and output.shape[1:] not in ((), shape[1:]):
            warn_unless_by_rows(criterion, output, self.n_columns)
        self.align(output, output.new_zeros(shape), criterion, 0.0)

    def count_members(self, output: Tensor) -> int:
        """Return how many outputs of n_outputs numbers there are of a row."""
        return output.shape[1] if output.ndim == 3 and output.shape[2] == self.n_columns else 0

    def align(
        self, output: Tensor, y: Tensor, criterion: nn.Module, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Give output and target the shape (n, n_outputs); a criterion of torch's broadcasts nothing."""
        y = y.to(output.device, output.dtype).reshape(len(y), -1)
        if self.count_members(output):
            output, y = spread_members(output, y)
        if output.ndim > 1 and is_own(criterion):
            return output, y
        return _check_columns(output, tuple(y.shape)), y

    def mix(self, y: Tensor, lam: Tensor, output: Tensor) -> Tensor | None:
        """Return ``sum_k lam_k y_k``."""
        return mix_columns(y, lam.to(output.dtype) if isinstance(output, Tensor) else lam)

    def get_link(self, criterion: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
        """Return the link of a loss of shares or of counts, whose columns skorch would take for classes."""
        if isinstance(criterion, nn.BCEWithLogitsLoss):
            return squash
        if isinstance(criterion, nn.BCELoss):
            return keep
        return torch.exp if isinstance(criterion, nn.PoissonNLLLoss) and criterion.log_input else None

    def find_closed_form(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> Loss | None:
        """Return squared error, if that is the criterion."""
        loss = find_loss(criterion, LossOptions(self.n_columns or 0))
        return loss if loss is not None and loss.targets == VALUES else None

    def read(self, output: Tensor, link: Callable[[Tensor], Tensor], *, log: bool = False) -> Tensor:
        """Return what the link makes of the output, averaged over members."""
        values = link(output)
        return average_members(values, log=log) if self.count_members(values) else values

    def choose(self, values: np.ndarray) -> np.ndarray:
        """Return the columns that were predicted."""
        return values.reshape(len(values), -1) if values.ndim < 3 else values

    def present(self, values: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
        """Return predictions of the shape that y had."""
        return self._shape(values.astype(dtype, copy=False))

    def score(self, y: object, y_pred: np.ndarray, sample_weight: object = None) -> float:
        """Return R²."""
        return float(r2_score(y, y_pred, sample_weight=sample_weight))


def _check_columns(output: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the module's output with the axes of its targets, or raise if it has another shape."""
    aligned = output.unsqueeze(1) if output.ndim == 1 else output
    if tuple(aligned.shape) != shape:
        raise ValueError(
            f"module must return {shape[1]} outputs per row; got an output of shape "
            f"{tuple(output.shape)} for {shape[0]} rows. Set the width of its last layer to {shape[1]}."
        )
    return aligned
