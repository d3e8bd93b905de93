"""The classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset
from skorch.utils import is_dataset, to_numpy
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sk_mixup._checks import check_real
from sk_mixup._estimator import MixupEstimatorMixin, find_targets
from sk_mixup.losses import mixed_binary_cross_entropy, mixed_cross_entropy
from sk_mixup.modules import MLP

__all__ = ["MixupClassifier"]


class MixupClassifier(MixupEstimatorMixin, NeuralNetClassifier):
    """Neural-network classifier trained on convex combinations of examples."""

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
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        early_stopping: bool = False,
        n_iter_no_change: int = 10,
        validation_fraction: float = 0.1,
        lr: float = 1e-3,
        max_epochs: int = 100,
        batch_size: int = 32,
        optimizer: Any = torch.optim.Adam,
        criterion: Any = "auto",
        train_split: Any = "auto",
        callbacks: Any = None,
        classes: Sequence[Any] | None = None,
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

    def check_options(self) -> None:
        """Raise if an option breaks its rule; the message names it."""
        super().check_options()
        hint = "Use 0 for hard labels."
        check_real("label_smoothing", self.label_smoothing, low=0.0, high=1.0, hint=hint)

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels seen in fit; column j of ``predict_proba`` is ``classes_[j]``."""
        if not hasattr(self, "classes_inferred_"):
            raise AttributeError(f"{type(self).__name__} has no classes_ before it is fitted.")
        return self.classes_inferred_

    # -- targets ---------------------------------------------------------------------

    def check_data(self, X: Any, y: Any) -> None:
        """Do nothing: data was checked at the edge."""

    def _encode_targets(self, y: Any, n_samples: int, *, reset: bool, classes: Any = None) -> NDArray[Any]:
        y = self._check_targets(y, n_samples)
        multilabel = y.ndim == 2
        if reset:
            self._multilabel = multilabel
            self._set_classes(np.arange(y.shape[1]) if multilabel else y, classes)
        elif multilabel != self._multilabel or (multilabel and y.shape[1] != self._n_outputs):
            raise ValueError("y must be of the kind seen in fit; got labels of another shape. Call fit.")
        if multilabel:
            return y.astype(self._get_input_dtype())
        return self._encode_labels(y)

    def _check_targets(self, y: Any, n_samples: int) -> NDArray[Any]:
        y = y.toarray() if hasattr(y, "toarray") else _to_array(y)
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind == "multiclass-multioutput":
            raise ValueError(
                f"y must be labels of shape (n_samples,) or 0-1 indicators of shape (n_samples, n_labels); "
                f"got several columns of classes, of shape {y.shape}. Use sklearn.multioutput."
            )
        if kind != "multilabel-indicator":
            y = column_or_1d(y, warn=True)
        if len(y) != n_samples:
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: {[n_samples, len(y)]}. y must "
                "hold one target per row of X."
            )
        return y

    def _set_classes(self, labels: NDArray[Any], classes: Any) -> None:
        given = self.classes if classes is None else classes
        known = np.unique(labels) if given is None or len(given) == 0 else np.unique(given)
        if len(known) < 2 and not self._multilabel:
            raise ValueError(
                f"y must hold at least two classes; got one class, {known[0]!r}. Add examples of another, or "
                "give `classes`."
            )
        self.classes_inferred_ = known
        self._n_outputs = len(known)

    def _encode_labels(self, y: NDArray[Any]) -> NDArray[np.int64]:
        classes = self.classes_
        codes = np.searchsorted(classes, y)
        codes = np.minimum(codes, len(classes) - 1)
        unknown = classes[codes] != y
        if np.any(unknown):
            raise ValueError(
                f"y must hold labels among the classes {list(classes)}; got {y[unknown][0]!r}. Call fit with "
                "all labels, or name them in `classes`."
            )
        return codes.astype(np.int64)

    def _decode_targets(self, targets: Tensor) -> NDArray[Any]:
        codes = to_numpy(targets)
        return codes if self._multilabel else self.classes_[codes]

    def _read_dataset_targets(self, dataset: Any, y: Any, classes: Any) -> None:
        """Find the classes of a Dataset, whose targets are codes 0, 1, ... or indicators."""
        given = self.classes if classes is None else classes
        targets = np.asarray(find_targets(dataset, y) if given is None else [])
        self._multilabel = targets.ndim == 2
        if self._multilabel:
            given = np.arange(targets.shape[1])
        elif given is None:
            given = np.arange(_check_codes(targets).max() + 1)
        self.classes_inferred_ = np.asarray(given)
        self._n_outputs = len(self.classes_inferred_)

    def _encode_dataset_targets(self, y: Any) -> Any:
        return to_numpy(y)

    def _get_weights(self, y: NDArray[Any], sample_weight: Any) -> NDArray[np.float64] | None:
        weight = super()._get_weights(y, sample_weight)
        if self.class_weight is None:
            return weight
        if self._multilabel:
            raise ValueError(
                f"class_weight must be None for several labels per row; got {self.class_weight!r}. Use "
                "sample_weight."
            )
        by_class = compute_sample_weight(self.class_weight, self.classes_[y])
        return by_class if weight is None else by_class * weight

    def _can_stratify(self, y: Any, n_valid: int) -> bool:
        if y is None or np.ndim(y) != 1:
            return False
        counts = np.unique(y, return_counts=True)[1]
        return counts.min() >= 2 and len(counts) <= min(n_valid, len(y) - n_valid)

    # -- loss and link -----------------------------------------------------------------

    def initialize_criterion(self) -> Any:
        """Build the criterion; 'auto' follows the kind of the targets."""
        kwargs = self.get_params_for("criterion")
        criterion = self.criterion
        if isinstance(criterion, str):
            criterion = nn.BCEWithLogitsLoss if vars(self).get("_multilabel") else nn.CrossEntropyLoss
        if inspect.isclass(criterion) and issubclass(criterion, nn.CrossEntropyLoss) and self.label_smoothing:
            kwargs = {"label_smoothing": self.label_smoothing, **kwargs}
        self.criterion_ = self.initialized_instance(criterion, kwargs)
        if self.label_smoothing and not isinstance(
            self.criterion_, nn.CrossEntropyLoss | nn.BCEWithLogitsLoss
        ):
            raise ValueError(
                f"label_smoothing must be 0 for criterion {type(self.criterion_).__name__}; got "
                f"{self.label_smoothing!r}. Use criterion='auto', or smooth inside the criterion."
            )
        return self

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """Return the loss of plain targets; see ``skorch.NeuralNetClassifier``."""
        self._check_output(y_pred)
        if isinstance(self.criterion_, nn.BCEWithLogitsLoss):
            y_true = y_true.to(y_pred.dtype).reshape(y_pred.shape)
            y_true = torch.lerp(y_true, torch.full_like(y_true, 0.5), self.label_smoothing)
        return super().get_loss(y_pred, y_true, X=X, training=training)

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
        """Return the loss of mixed targets, as one cross-entropy where that can be done."""
        self._check_output(y_pred)
        criterion = self.criterion_
        if type(criterion) is nn.CrossEntropyLoss and y_pred.ndim == 2:
            if criterion.weight is not None:
                weight = criterion.weight[y] if weight is None else weight * criterion.weight[y]
            return mixed_cross_entropy(y_pred, y, lam, weight, criterion.label_smoothing)
        if type(criterion) is nn.BCEWithLogitsLoss and criterion.weight is criterion.pos_weight is None:
            targets = y.to(y_pred.dtype).reshape(len(y), *y_pred.shape)
            if y_pred.ndim == 1:
                y_pred, targets = y_pred.unsqueeze(1), targets.unsqueeze(2)
            return mixed_binary_cross_entropy(y_pred, targets, lam, weight, self.label_smoothing)
        return super().get_mixed_loss(y_pred, y, lam, weight, x=x, training=training)

    def _check_output(self, y_pred: Any) -> None:
        if not isinstance(y_pred, Tensor) or y_pred.ndim > 2:
            return
        n_outputs = getattr(self, "_n_outputs", None)
        width = y_pred.shape[1] if y_pred.ndim == 2 else 1
        one_logit = isinstance(self.criterion_, nn.BCEWithLogitsLoss) and not self._multilabel
        expected = 1 if one_logit else n_outputs
        if expected is not None and width != expected:
            raise ValueError(
                f"module must return {expected} logits per row, for classes {list(self.classes_)}; got an "
                f"output of shape {tuple(y_pred.shape)}. Set the width of its last layer to {expected}."
            )

    def _get_predict_nonlinearity(self) -> Any:
        if self.predict_nonlinearity == "auto" and isinstance(self.criterion_, nn.BCEWithLogitsLoss):
            return torch.sigmoid if vars(self).get("_multilabel") else _sigmoid_columns
        return super()._get_predict_nonlinearity()

    # -- prediction --------------------------------------------------------------------

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Column j belongs to ``classes_[j]``. For several labels per row, the
            probability of each label; those do not add up to 1.
        """
        check_is_fitted(self)
        return super().predict_proba(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the label of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels; 0-1 indicators for several labels per row. For a Dataset, whose
            targets are codes, the codes.
        """
        proba = self.predict_proba(X)
        if self._multilabel:
            return (proba > 0.5).astype(np.int64)
        codes = proba.argmax(axis=1)
        return codes if is_dataset(X) else self.classes_[codes]

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _sigmoid_columns(logits: Tensor) -> Tensor:
    """Turn one logit per row into the probabilities of both classes."""
    positive = torch.sigmoid(logits.reshape(-1))
    return torch.stack([1 - positive, positive], dim=1)


def _to_array(y: Any) -> NDArray[Any]:
    return to_numpy(y) if isinstance(y, Tensor) else np.asarray(y)


def _check_codes(targets: NDArray[Any]) -> NDArray[Any]:
    if not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0:
        raise ValueError(
            f"the targets of a Dataset must be class codes 0, 1, 2, ...; got {targets[:3].tolist()}. Encode "
            "the labels, or pass arrays."
        )
    return targets
