"""Labels of a classifier: codes inside, labels at the edge."""

from __future__ import annotations

from collections.abc import Mapping
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import assert_all_finite, column_or_1d
from skorch.utils import to_numpy
from torch import Tensor

from sk_mixup._validation import check_choice, check_real
from sk_mixup.estimators._base import MixupEstimatorMixin, find_targets, first_pair

__all__ = ["IGNORED", "LabelsMixin"]

# The code of a pixel without a label; torch's default `ignore_index`.
IGNORED = -100


class LabelsMixin(MixupEstimatorMixin):
    """Turns labels into class codes or indicators, and back; finds the classes of a Dataset."""

    # A label per pixel; and whether such labels are codes of ours, not a Dataset's own.
    _dense = False
    _encodes_dense = False

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels seen in fit; column j of ``predict_proba`` is ``classes_[j]``."""
        if not hasattr(self, "classes_inferred_"):
            raise AttributeError(f"{type(self).__name__} has no classes_ before it is fitted.")
        return self.classes_inferred_

    def check_data(self, X: Any, y: Any) -> None:
        """Do nothing: data was checked at the edge."""

    def _encode_targets(self, y: Any, n_samples: int, *, reset: bool, classes: Any = None) -> NDArray[Any]:
        y = self._check_targets(y, n_samples)
        multilabel, dense = y.ndim == 2, y.ndim > 2
        if reset:
            self._multilabel, self._dense, self._encodes_dense = multilabel, dense, dense
            self._set_classes(np.arange(y.shape[1]) if multilabel else self._list_labels(y), classes)
        elif (multilabel, dense) != (self._multilabel, self._dense) or (
            multilabel and y.shape[1] != self._n_outputs
        ):
            raise ValueError(
                f"y must be {self._describe_targets()}, as in fit; got an array of shape {y.shape}. Call fit."
            )
        if multilabel:
            return y.astype(self._get_input_dtype())
        return self._encode_dense(y) if dense else self._encode_labels(y)

    def _describe_targets(self) -> str:
        if self._dense:
            return "a label per pixel"
        return f"indicators of {self._n_outputs} labels" if self._multilabel else "one label per row"

    @property
    def _ignored(self) -> int:
        """The label of pixels that have none, as the user writes it."""
        return int(self.get_params_for("criterion").get("ignore_index", IGNORED))

    def _list_labels(self, y: NDArray[Any]) -> NDArray[Any]:
        """Return the labels in y; of dense ones without that of ignored pixels."""
        if y.ndim == 1:
            return y
        labels = np.unique(y)
        return labels[labels != self._ignored]

    def _encode_dense(self, y: NDArray[Any]) -> NDArray[np.int64]:
        codes = np.full(y.shape, IGNORED, dtype=np.int64)
        labelled = y != self._ignored
        codes[labelled] = self._encode_labels(y[labelled])
        return codes

    def _get_class_codes(self, targets: Any) -> Any:
        if self._dense:
            raise ValueError(
                "partners must not be drawn by class for a label per pixel; got a policy that looks at "
                "classes. Use 'batch' or 'dataset'."
            )
        return super()._get_class_codes(targets)

    def _get_real_targets(self, targets: Any) -> Any:
        raise ValueError(
            "partners must be drawn without a kernel for classes; got 'kernel', which is for real-valued "
            "targets (C-Mixup). Use 'batch', 'same_class' or 'neighbors'."
        )

    def _check_targets(self, y: Any, n_samples: int) -> NDArray[Any]:
        y = y.toarray() if hasattr(y, "toarray") else _to_array(y)
        if y.ndim > 2:
            return _check_dense(y, n_samples)
        if y.dtype.kind == "f":
            assert_all_finite(y, input_name="y")
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
                f"y must hold at least two classes; got one class, {known.tolist()[0]!r}. Add examples of "
                "another, or give `classes`."
            )
        self.classes_inferred_ = known
        self._n_outputs = len(known)

    def _encode_labels(self, y: NDArray[Any]) -> NDArray[np.int64]:
        classes = self.classes_
        codes = np.searchsorted(classes, y)
        np.minimum(codes, len(classes) - 1, out=codes)
        unknown = classes[codes] != y
        if np.any(unknown):
            raise ValueError(
                f"y must hold labels among the classes {classes.tolist()}; got {y[unknown].tolist()[0]!r}. "
                "Call fit with all labels, or name them in `classes`."
            )
        return codes.astype(np.int64, copy=False)

    def _decode_targets(self, targets: Tensor) -> NDArray[Any]:
        codes = to_numpy(targets)
        if self._dense:
            return np.where(codes == IGNORED, self._ignored, self.classes_[np.maximum(codes, 0)])
        return codes if self._multilabel else self.classes_[codes]

    def _read_dataset_targets(self, dataset: Any, y: Any, classes: Any) -> Any:
        """Find the classes of a Dataset, whose targets are codes 0, 1, ... or indicators.

        Returns all targets where they had to be looked at, else what was given.
        """
        given = self.classes if classes is None else classes
        targets = y if given is not None else np.asarray(find_targets(dataset, y))
        self._dense, self._encodes_dense = np.ndim(first_pair(dataset)[1]) > 1, False
        self._multilabel = np.ndim(targets) == 2 and not self._dense
        if self._dense and given is None:
            given = np.arange(_check_codes(self._list_labels(targets)).max() + 1)
        elif self._multilabel:
            given = np.arange(np.shape(targets)[1])
        elif given is None:
            given = np.arange(_check_codes(targets).max() + 1)
        self.classes_inferred_ = np.asarray(given)
        self._n_outputs = len(self.classes_inferred_)
        return targets

    def _get_weights(self, y: NDArray[Any], sample_weight: Any) -> NDArray[np.float64] | None:
        weight = super()._get_weights(y, sample_weight)
        if self.class_weight is None:
            return weight
        if self._multilabel or self._dense:
            raise ValueError(
                f"class_weight must be None for several labels per row; got {self.class_weight!r}. Use "
                f"{'criterion__weight' if self._dense else 'sample_weight'}."
            )
        self._check_class_weight()
        by_class = compute_sample_weight(self.class_weight, self.classes_[y])
        return by_class if weight is None else by_class * weight

    def _check_class_weight(self) -> None:
        given = self.class_weight
        if not isinstance(given, Mapping):
            check_choice("class_weight", given, ("balanced",))
            return
        classes = self.classes_.tolist()
        unknown = [label for label in given if label not in classes]
        if unknown:
            raise ValueError(
                f"class_weight must name classes among {classes}; got {unknown[0]!r}. Use the labels in y."
            )
        for label, weight in given.items():
            hint = f"It stands for class {label!r}; 0 leaves the class out."
            check_real("class_weight", weight, low=0.0, high=sys.float_info.max, hint=hint)
        if not any(given.get(label, 1) for label in classes):
            raise ValueError(
                "class_weight must leave a class with a weight above 0; got only zeros. Drop it."
            )

    def _check_dataset(self, dataset: Any, y: Any, *, reset: bool, classes: Any) -> Any:
        if self.class_weight is not None:
            raise ValueError(
                f"class_weight must be None for a Dataset; got {self.class_weight!r}. Pass X and y as arrays."
            )
        return super()._check_dataset(dataset, y, reset=reset, classes=classes)

    def _can_stratify(self, y: Any, n_valid: int) -> bool:
        if y is None or np.ndim(y) != 1:
            return False
        counts = np.unique(y, return_counts=True)[1]
        return counts.min() >= 2 and len(counts) <= min(n_valid, len(y) - n_valid)


def _to_array(y: Any) -> NDArray[Any]:
    return to_numpy(y) if isinstance(y, Tensor) else np.asarray(y)


def _check_dense(y: NDArray[Any], n_samples: int) -> NDArray[Any]:
    """Check labels of pixels."""
    if y.dtype.kind not in "iub":
        raise ValueError(
            f"y must hold integer labels where it has one per pixel; got an array of shape {y.shape} and "
            f"dtype {y.dtype}. Encode the labels as integers."
        )
    if len(y) != n_samples:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {[n_samples, len(y)]}. y must hold "
            "one label map per example of X."
        )
    return y


def _check_codes(targets: NDArray[Any]) -> NDArray[Any]:
    if not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0:
        raise ValueError(
            f"the targets of a Dataset must be class codes 0, 1, 2, ...; got {targets[:3].tolist()}. Encode "
            "the labels, or pass arrays."
        )
    return targets
