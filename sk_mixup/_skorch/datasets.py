"""Where the rows that a net trains on are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
import inspect
import math
from typing import Any, Self, TypeGuard

import numpy as np
from scipy import sparse
from skorch.dataset import Dataset as SkorchDataset
from skorch.utils import multi_indexing
import torch
from torch import Tensor
from torch.utils.data import Subset

from sk_mixup._data.storage import Features, HostRows, Rows, SparseRows, map_features
from sk_mixup._tensors import send_whole, view_tensor
from sk_mixup._warning import warn_user

__all__ = [
    "STORAGES",
    "Placement",
    "check_keeps_weights",
    "check_lengths",
    "check_takes_weights",
    "is_mapped",
    "is_whole",
    "refuse_weights",
    "scale_weights",
    "unwrap_subset",
]

STORAGES = ("auto", "device", "host")


class SkorchRows(Rows, SkorchDataset):
    """:class:`Rows` that skorch's users know for a data set of arrays.

    A split of theirs may make another, as ``type(dataset)(X, y)``: that is one of skorch's, which holds what
    it is given. Ours are made by :meth:`keep`.
    """

    given: Any

    def __new__(cls, *args: object, **kwargs: object) -> object:  # type: ignore[misc]
        """Return a data set of skorch's, or without arguments an empty one of ours, as copies begin."""
        return SkorchDataset(*args, **kwargs) if args or kwargs else super().__new__(cls)

    @classmethod
    def keep(cls, given: object, x: Features, y: Tensor, weight: Tensor | None = None) -> Self:
        """Return a set of examples, with the form in which they were given."""
        rows = super().__new__(cls)
        Rows.__init__(rows, x, y, weight)
        rows.given = given
        return rows

    @property
    def X(self) -> object:  # type: ignore[override]  # noqa: N802
        """The examples of the set, as they were given."""
        return self.given if self.index is None else multi_indexing(self.given, self.index)


@dataclass(frozen=True)
class Placement:
    """Where whole arrays are kept in training and prediction.

    Parameters
    ----------
    kind : {'auto', 'device', 'host'}
        'auto' keeps on the device what fits into half of its free memory and is not
        memory-mapped.
    device : torch.device
        Where the module is.
    dtype : torch.dtype
        Floating dtype of the module's weights, and so of the rows.
    channels_last : bool, default=False
        Whether images are laid out with their channels last.
    casts_integers : bool, default=False
        Whether integers in host memory become floating numbers.
    """

    kind: str
    device: torch.device
    dtype: torch.dtype
    channels_last: bool = False
    casts_integers: bool = False

    def make_rows(self, X: Any, y: np.ndarray | Tensor, weight: np.ndarray | None = None) -> SkorchRows:
        """Return arrays as a data set of whole tensors."""
        if sparse.issparse(X):
            x: Any = SparseRows(X, self.device, self.dtype)
        elif self._choose(X) == "host":
            cast = self.casts_integers and not isinstance(X, Mapping)
            x = map_features(lambda values: self._keep_on_host(values, cast=cast), X)
        else:
            x = map_features(self._keep_on_device, X)
        weights = None if weight is None else send_whole(view_tensor(weight), self.device, self.dtype)
        return SkorchRows.keep(X, x, self._keep_targets(y), weights)

    def check_room(self, X: Any) -> None:
        """Raise if arrays must be kept on the device but are too large for it.

        Raises
        ------
        ValueError
            If the kind is 'device' and `X` is larger than half of the free memory.
        """
        if self.kind == "device" and _is_dense(X) and not self._has_room(X):
            needed, room = self._count_bytes(X) / 2**30, find_room(self.device) or 0
            raise ValueError(
                f"storage must be 'auto' or 'host' for data larger than half of the device's free memory; "
                f"got 'device' for {needed:.2f} GiB where half is {room / 2**30:.2f} GiB. Use 'auto'."
            )

    def warn_streaming(self, dataset: object) -> None:
        """Say once a fit that the data do not fit on the device."""
        if self.kind != "auto" or not isinstance(dataset, Rows):
            return
        kept = [part.array for part in _list_arrays(dataset.x) if isinstance(part, HostRows)]
        if kept and not any(map(is_mapped, kept)):
            warn_user(
                "X does not fit into half of the device's free memory: its batches are sent from host memory "
                "one by one. Set storage='host' to choose this yourself.",
            )

    def _choose(self, X: Any) -> str:
        """Return where arrays are kept: 'device' or 'host'."""
        if self.kind == "host" or (self.kind == "auto" and any(map(is_mapped, _list_arrays(X)))):
            return "host"
        return "device" if self._has_room(X) else "host"

    def _has_room(self, X: Any) -> bool:
        room = find_room(self.device)
        return room is None or self._count_bytes(X) <= room

    def _count_bytes(self, X: Any) -> int:
        """Return what arrays take on the device, those that are there already left out."""
        there = [isinstance(array, Tensor) and array.device.type != "cpu" for array in _list_arrays(X)]
        sizes = [math.prod(array.shape) * self._count_item_bytes(array) for array in _list_arrays(X)]
        return sum(size for size, is_there in zip(sizes, there, strict=True) if not is_there)

    def _count_item_bytes(self, values: np.ndarray | Tensor) -> int:
        """Return what a number takes: a floating one, which integers may become, that of the module's."""
        is_real = values.is_floating_point() if isinstance(values, Tensor) else values.dtype.kind == "f"
        return self.dtype.itemsize if is_real else max(self.dtype.itemsize, values.dtype.itemsize)

    def _keep_on_host(self, values: np.ndarray | Tensor, *, cast: bool) -> HostRows:
        if isinstance(values, Tensor):
            values = values.float() if values.dtype == torch.bfloat16 else values  # numpy knows none
            values = values.numpy(force=True)
        dtype = self.dtype if cast or values.dtype.kind == "f" else None
        return HostRows(values, self.device, dtype, self._get_memory_format(values))

    def _keep_on_device(self, values: np.ndarray | Tensor) -> Tensor:
        """Move values to the device, floating ones in the dtype of the module."""
        rows = view_tensor(values)
        dtype = self.dtype if rows.is_floating_point() else rows.dtype
        return send_whole(rows, self.device, dtype, self._get_memory_format(rows))

    def _keep_targets(self, values: np.ndarray | Tensor) -> Tensor:
        """Move targets to the device: on the CPU as they are, elsewhere no wider than the loss takes them."""
        y = view_tensor(values)
        narrow = y.dtype == torch.float64 and self.device.type != "cpu"
        return send_whole(
            y, self.device, torch.promote_types(self.dtype, torch.float32) if narrow else y.dtype
        )

    def _get_memory_format(self, values: np.ndarray | Tensor) -> torch.memory_format:
        images = self.channels_last and values.ndim == 4
        return torch.channels_last if images else torch.contiguous_format


def is_mapped(values: object) -> bool:
    """Whether an array lies in a memory-mapped file."""
    while isinstance(values, np.ndarray):
        if isinstance(values, np.memmap):
            return True
        values = values.base
    return False


def find_room(device: torch.device) -> int | None:
    """Return how many bytes of data a device may hold: half of what is free; None for no limit."""
    if device.type != "cuda":
        return None
    cuda: Any = torch.cuda  # its functions carry no types
    unused = cuda.memory_reserved(device) - cuda.memory_allocated(device)
    return int(cuda.mem_get_info(device)[0] + unused) // 2


def refuse_weights(weight: object, option: str) -> None:
    """Raise where there are weights of rows but an option serves them without."""
    if weight is not None:
        raise ValueError(
            f"{option} must be left at its default for sample_weight or class_weight; got another. Remove "
            "the weights, or weigh inside the criterion."
        )


def scale_weights(weight: np.ndarray | None) -> tuple[np.ndarray | None, float]:
    """Return weights over the mean of those above 0, for their products not to overflow; and that mean."""
    if weight is None:
        return None, 1.0
    weight = np.asarray(weight, dtype=np.float64)
    mean = float(np.mean(weight[weight > 0])) if np.any(weight > 0) else 1.0
    return weight / mean, mean


def _is_mapping(X: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(X, Mapping) and not sparse.issparse(X)


def _list_arrays(X: Any) -> list[Any]:
    return list(X.values()) if _is_mapping(X) else [X]


def _is_numeric(values: object) -> bool:
    return isinstance(values, Tensor) or (isinstance(values, np.ndarray) and values.dtype.kind in "biufc")


def _is_dense(X: Any) -> bool:
    return all(map(_is_numeric, _list_arrays(X)))


def is_whole(X: Any, y: object) -> bool:
    """Whether examples and targets are arrays of numbers, which can be kept as whole tensors."""
    return (sparse.issparse(X) or _is_dense(X)) and _is_numeric(y)


def check_lengths(X: object, y: Sized) -> None:
    """Raise unless the arrays of a mapping have as many rows, and there is a target for each."""
    parts: Mapping[str, Any] = X if _is_mapping(X) else {"": X}
    sizes = {name: array.shape[0] for name, array in parts.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"X must be a mapping of arrays of as many rows; got {sizes}. Give each row to all.")
    n_rows = next(iter(sizes.values()), len(y))
    if len(y) != n_rows:
        raise ValueError(
            f"y must hold a target for each row of X; got {len(y)} for {n_rows} rows. Give as many."
        )


def unwrap_subset(dataset: Any) -> Any:
    """Turn a subset of whole tensors, or of such a subset, into whole tensors again.

    A class of the user's may yield something else than its rows.
    """
    if type(dataset) is not Subset:
        return dataset
    whole = unwrap_subset(dataset.dataset)
    return whole.subset(np.asarray(dataset.indices)) if isinstance(whole, Rows) else dataset


def check_takes_weights(get_dataset: Callable[..., object]) -> None:
    """Raise if a `get_dataset` of the user's, with skorch's arguments, would lose the weights of rows."""
    try:
        inspect.signature(get_dataset).bind(None, None, sample_weight=None)
    except TypeError:
        refuse_weights(True, "get_dataset")


def check_keeps_weights(train: object, weight: np.ndarray | None) -> None:
    """Raise where a split has built a training set anew, which knows nothing of the weights of rows."""
    if weight is not None and not isinstance(train, Rows):
        raise ValueError(
            "train_split must return a subset of the data set it is given where rows have weights, by "
            f"sample_weight or class_weight; got a {type(train).__name__}. Return "
            "torch.utils.data.Subset(dataset, rows), or remove the weights."
        )
