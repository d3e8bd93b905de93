"""What a policy of mixing may ask about a data set, and where it is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
import copy
from typing import Any, Protocol

import numpy as np
from scipy import sparse
from skorch.dataset import get_len
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from sk_mixup._data.storage import Rows, SparseRows
from sk_mixup._data.virtual_examples import find_layers
from sk_mixup._random import unseen_draws
from sk_mixup._skorch.dataset_items import find_exact_targets, to_array
from sk_mixup._skorch.loading import Loading
from sk_mixup.mixing import RowFacts
from sk_mixup.mixing.plan import INPUT

__all__ = ["check_distances", "find_net_layers", "make_facts", "number_classes"]

EXAMPLE, TARGET = 0, 1  # the parts of what a data set yields


class MixedNet(Protocol):
    """A net that is asked about its inputs, targets and layers."""

    augment: Callable[[object], object] | None

    def _get_class_codes(self, targets: np.ndarray | None) -> np.ndarray: ...

    def _get_real_targets(self, targets: np.ndarray | None) -> np.ndarray: ...

    def _find_layers(self, wanted: str | tuple[str, ...]) -> tuple[str, ...]: ...


def make_facts(
    net: MixedNet, dataset: Dataset[object], labels: object, whole: object, loading: Loading
) -> RowFacts:
    """Return what a policy may ask about the rows of a training set, which are served by `loading`.

    `labels` are targets that the data set does not hold itself, those of `whole`, which it was split off.
    """
    is_stream = loading.orders_rows or isinstance(dataset, IterableDataset)
    return RowFacts(
        labels=lambda: net._get_class_codes(_get_all_targets(dataset, labels, whole)),
        targets=lambda: net._get_real_targets(_get_all_targets(dataset, labels, whole, as_given=True)),
        inputs=lambda: _get_inputs(dataset),
        shape=lambda: _find_shape_in(net, dataset) if is_stream else _find_mixed_shape(net, dataset, loading),
        layers=net._find_layers,
        column_names=getattr(net, "feature_names_in_", None),
        is_category=getattr(net, "_is_category", None),
        is_dense=lambda: getattr(net, "_dense", False) or len(_find_shape(dataset, TARGET) or ()) > 1,
        is_stream=is_stream,
    )


def find_net_layers(net: object, wanted: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the layers of a net's module that may be mixed at, or raise where none can be found."""
    if set(wanted) == {INPUT}:
        return (INPUT,)
    if getattr(net, "compile", False):
        raise ValueError(
            "compile must be False where hidden layers are mixed; got True. Remove the argument."
        )
    if "module_" not in vars(net):
        raise ValueError(
            "vicinity must mix inputs alone in a net without module_, where hidden layers are sought; "
            f"got layers {wanted!r}. Give the module that name in initialize_module."
        )
    module = vars(net)["module_"]
    is_compiled = hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
    if is_compiled or isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            "module must not be compiled or scripted where hidden layers are mixed; got a "
            f"{type(module).__name__}, which may pass over hooks. Give the module as it was before."
        )
    return find_layers(module, wanted)


def number_classes(targets: np.ndarray | None) -> np.ndarray:
    """Return one class per row; rows of several labels belong together if all agree."""
    if targets is None:
        raise ValueError(
            "partners='same_class' must know the class of each row; got a Dataset without one label per "
            "row. Pass arrays instead."
        )
    return np.unique(targets, axis=0, return_inverse=True)[1].ravel()


def check_distances(targets: np.ndarray | None) -> np.ndarray:
    """Return targets between which there is a distance, or raise."""
    if targets is None or targets.dtype.kind != "f":
        raise ValueError(
            "partners='kernel' must be drawn from real-valued targets; got "
            f"{'none' if targets is None else f'targets of dtype {targets.dtype}'}. Use 'batch', say."
        )
    return targets


def _get_all_targets(
    dataset: object, labels: object, whole: object, *, as_given: bool = False
) -> np.ndarray | None:
    """Return the targets of all rows, codes or as the user gave them; None if they are not at hand."""
    if isinstance(dataset, Rows):
        return to_array(dataset.y if as_given else dataset.get_targets())
    if isinstance(dataset, IterableDataset):
        return None
    if labels is None:
        return find_exact_targets(dataset)
    targets = _take_rows(to_array(labels), dataset, whole)
    return targets if targets.shape[:1] == (get_len(dataset),) else None


def _take_rows(labels: np.ndarray, dataset: object, whole: object) -> np.ndarray:
    """Return the labels of the rows that a split has left of a whole data set, given those of all."""
    if dataset is whole or not isinstance(dataset, Subset):
        return labels
    return _take_rows(labels, dataset.dataset, whole)[np.asarray(dataset.indices)]


def _find_shape_in(net: MixedNet, dataset: object) -> tuple[int, ...] | None:
    """Return the shape of one example, before it is augmented."""
    seen: tuple[int, ...] | None = vars(net).get("_shape_in")  # of a batch, as `collate_fn` has made it
    return (None if isinstance(dataset, Rows) else seen) or _find_shape(dataset, EXAMPLE) or seen


def _find_mixed_shape(net: MixedNet, dataset: Dataset[object], loading: Loading) -> tuple[int, ...] | None:
    """Return the shape of one example as it is mixed: joined to batches, and augmented."""
    if net.augment is None and (isinstance(dataset, Rows) or "_shape_in" in vars(net)):
        return _find_shape_in(net, dataset)
    x = loading.peek(dataset)
    if net.augment is not None:
        # A copy, for it may count its calls; an error of the user's code comes again in training.
        with unseen_draws(), suppress(Exception):
            x = copy.deepcopy(net.augment)(x)
    return tuple(x.shape[1:]) if isinstance(x, Tensor) else None


def _find_shape(dataset: Any, part: int) -> tuple[int, ...] | None:
    """Return the shape of one example or of its target, where it can be known without a batch."""
    if isinstance(dataset, IterableDataset):
        return None
    if isinstance(dataset, Rows):
        values = (dataset.x, dataset.targets)[part]
    else:
        with unseen_draws():
            item = dataset[0]
        values = item[part] if isinstance(item, tuple | list) else None  # else only its loader knows
    shape = getattr(values, "shape", None)
    if shape is None:
        return None
    return tuple(shape[1:] if isinstance(dataset, Rows) else shape)


def _check_inputs(x: Any) -> Any:
    """Return examples in which neighbours can be looked for, or raise."""
    if isinstance(x, Dataset) or (isinstance(x, Mapping) and not sparse.issparse(x)):
        raise ValueError(
            f"X must be one array to look for neighbours; got {type(x).__name__}. Pass an array, or choose "
            "other partners."
        )
    return x


def _get_inputs(dataset: Any) -> Any:
    """Return the examples as an array or a sparse matrix, to look for neighbours."""
    x = _check_inputs(dataset.x if isinstance(dataset, Rows) else dataset)
    if isinstance(x, SparseRows):
        x = x.to_matrix()
    values = to_array(x) if isinstance(x, Tensor) else getattr(x, "array", x)
    return values if dataset.index is None else values[dataset.index]
