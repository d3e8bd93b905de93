"""The regressor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d
from skorch import NeuralNetRegressor
from skorch.dataset import Dataset
from skorch.utils import is_dataset, to_numpy
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sk_mixup._estimator import MixupEstimatorMixin, first_pair
from sk_mixup.losses import average_rows, mix_targets
from sk_mixup.modules import MLP

__all__ = ["MixupRegressor"]


class MixupRegressor(MixupEstimatorMixin, NeuralNetRegressor):
    """Neural-network regressor."""

    def __init__(
        self,
        module: Any = MLP,
        *,
        alpha: float = 1.0,
        lam_per: str = "example",
        n_mixed: int = 2,
        partners: str = "batch",
        warmup_epochs: int = 0,
        cooldown_epochs: int = 0,
        augment: Callable[[Tensor], Tensor] | None = None,
        early_stopping: bool = False,
        n_iter_no_change: int = 10,
        validation_fraction: float = 0.1,
        lr: float = 1e-3,
        max_epochs: int = 100,
        batch_size: int = 32,
        optimizer: Any = torch.optim.Adam,
        criterion: Any = nn.MSELoss,
        train_split: Any = "auto",
        callbacks: Any = None,
        iterator_train: Any = DataLoader,
        iterator_valid: Any = DataLoader,
        dataset: Any = Dataset,
        predict_nonlinearity: Any = "auto",
        warm_start: bool = False,
        verbose: int = 0,
        device: str = "cpu",
        compile: bool = False,
        autocast: str | None = None,
        use_caching: Any = "auto",
        torch_load_kwargs: dict[str, Any] | None = None,
        random_state: Any = None,
        **kwargs: Any,
    ) -> None:
        self._store_options(locals())

    def check_data(self, X: Any, y: Any) -> None:
        """Do nothing: data was checked at the edge."""

    def _encode_targets(self, y: Any, n_samples: int, *, reset: bool, classes: Any = None) -> NDArray[Any]:
        y = to_numpy(y) if isinstance(y, Tensor) else y
        y = check_array(y, ensure_2d=False, dtype=self._get_input_dtype(), input_name="y")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if len(y) != n_samples:
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: {[n_samples, len(y)]}. y must "
                "hold one target per row of X."
            )
        columns = y.reshape(len(y), -1)
        if reset:
            self._flat_targets = y.ndim == 1
            self._n_outputs = columns.shape[1]
        elif columns.shape[1] != self._n_outputs:
            raise ValueError(
                f"y must hold {self._n_outputs} targets per row, as in fit; got {columns.shape[1]}. Call fit."
            )
        return columns

    def _decode_targets(self, targets: Any) -> NDArray[Any]:
        values = to_numpy(targets)
        return values.ravel() if self._flat_targets else values

    def _read_dataset_targets(self, dataset: Any, y: Any, classes: Any) -> None:
        target = torch.as_tensor(first_pair(dataset)[1])
        self._flat_targets = target.ndim == 0
        self._n_outputs = max(1, target.numel())

    def _encode_dataset_targets(self, y: Any) -> Any:
        return to_numpy(y)

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """Return the loss of plain targets; shapes must agree, nothing is broadcast."""
        y_pred, y_true = self._align(y_pred, y_true)
        return super().get_loss(y_pred, y_true, X=X, training=training)

    def _align(self, y_pred: Any, y_true: Tensor) -> tuple[Tensor, Tensor]:
        """Give prediction and target the shape (n, n_outputs)."""
        y_true = y_true.to(y_pred.device, y_pred.dtype).reshape(len(y_true), -1)
        aligned = y_pred.unsqueeze(1) if y_pred.ndim == 1 else y_pred
        if aligned.shape != y_true.shape:
            raise ValueError(
                f"module must return {y_true.shape[1]} outputs per row; got an output of shape "
                f"{tuple(y_pred.shape)} for {len(y_true)} rows. Set the width of its last layer to "
                f"{y_true.shape[1]}."
            )
        return aligned, y_true

    def get_mixed_loss(
        self,
        y_pred: Any,
        y: Tensor,
        lam: Tensor,
        weight: Tensor | None = None,
        *,
        x: Any = None,
        training: bool = False,
    ) -> Tensor:
        """Return the loss against the mixed targets ``sum_k lam_k y_k``."""
        y = y.reshape(*lam.shape, -1).to(y_pred.dtype)
        target, row_weight = mix_targets(y, lam.to(y_pred.dtype), weight)
        if row_weight is None:
            return self.get_loss(y_pred, target, X=x, training=training)
        losses = self.get_row_losses(y_pred, target, x=x, training=training)
        return average_rows(losses, row_weight)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the targets of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Of the shape that `y` had in fit; of shape (n_samples, n_outputs) for a
            Dataset. Of dtype float32 for `X` of that dtype, else float64.
        """
        check_is_fitted(self)
        link = self._get_predict_nonlinearity()
        values = np.concatenate([to_numpy(link(_first(output))) for output in self.forward_iter(X)])
        values = values.reshape(len(values), -1)
        if is_dataset(X):
            return values
        dtype = np.float32 if getattr(X, "dtype", None) in (np.float32, torch.float32) else np.float64
        return self._decode_targets(values.astype(dtype, copy=False))

    @property
    def predict_proba(self) -> Any:
        """Not for regressors, though skorch's nets have it."""
        raise AttributeError(f"{type(self).__name__} has no predict_proba; use predict.")

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags


def _first(output: Any) -> Any:
    """Return the first output of a module that returns several."""
    return output[0] if isinstance(output, tuple) else output
