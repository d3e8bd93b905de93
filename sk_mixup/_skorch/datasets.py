"""What a net trains on: where rows are kept, and the batches of an epoch's plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
import math
from typing import Any
import warnings

import numpy as np
from scipy import sparse
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import get_len, unpack_data
from skorch.utils import to_tensor
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from sk_mixup._data.batches import PlannedBatches, PlannedLoader, SentPlan, is_pair, join_features
from sk_mixup._data.storage import HostRows, Rows, SparseRows, map_features
from sk_mixup._random import draw_seed, unseen_draws
from sk_mixup._skorch.dataset_items import join_items
from sk_mixup._skorch.processes import Processes
from sk_mixup.mixing import ERM, RowFacts, Vicinity

__all__ = [
    "STORAGES",
    "Loading",
    "Placement",
    "check_inputs",
    "find_shape",
    "get_all_targets",
    "get_inputs",
    "is_mapped",
    "is_whole",
    "refuse_weights",
    "unwrap_subset",
]

# What our own iterators understand of a DataLoader's options; the rest needs a DataLoader.
PLAN_OPTIONS = {"batch_size", "shuffle", "drop_last"}
WORKER_OPTIONS = {"num_workers", "pin_memory", "persistent_workers", "prefetch_factor", "timeout"}
STORAGES = ("auto", "device", "host")


class SkorchRows(Rows, SkorchDataset):
    """:class:`Rows` that skorch's scoring callbacks know for a data set of arrays."""


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
        weights = None if weight is None else self._as_tensor(weight)
        return SkorchRows(x, _to_device(y, self.device), weights)

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
            warnings.warn(
                "X does not fit into half of the device's free memory: its batches are sent from host memory "
                "one by one. Set storage='host' to choose this yourself.",
                UserWarning,
                stacklevel=2,
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
        itemsize = torch.finfo(torch.get_default_dtype()).bits // 8
        there = [isinstance(array, Tensor) and array.device.type != "cpu" for array in _list_arrays(X)]
        sizes = [math.prod(array.shape) * itemsize for array in _list_arrays(X)]
        return sum(size for size, is_there in zip(sizes, there, strict=True) if not is_there)

    def _keep_on_host(self, values: np.ndarray | Tensor, *, cast: bool) -> HostRows:
        if isinstance(values, Tensor):
            values = values.float() if values.dtype == torch.bfloat16 else values  # numpy knows none
            values = values.numpy(force=True)
        dtype = self.dtype if cast or values.dtype.kind == "f" else None
        return HostRows(values, self.device, dtype, self._get_memory_format(values))

    def _keep_on_device(self, values: np.ndarray | Tensor) -> Tensor:
        tensor = self._as_tensor(values)
        return tensor.contiguous(memory_format=self._get_memory_format(tensor))

    def _as_tensor(self, values: np.ndarray | Tensor) -> Tensor:
        """Move values to the device, floating ones in the dtype of the module."""
        tensor = _to_device(values, self.device)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _get_memory_format(self, values: np.ndarray | Tensor) -> torch.memory_format:
        images = self.channels_last and values.ndim == 4
        return torch.channels_last if images else torch.contiguous_format


@dataclass(frozen=True)
class Loading:
    """How a net's iterator serves the rows of a training epoch.

    Parameters
    ----------
    iterator : callable
        The net's ``iterator_train``.
    options : mapping of str to object
        Its options.
    batch_size : int
        The net's, for want of an option of that name.
    device : torch.device
        Where the batches go.
    dtype : torch.dtype
        Floating dtype of the mixing weights.
    read : callable
        Makes of what is loaded the examples and targets that the net is trained on.
    """

    iterator: Callable[..., Iterable[Any]]
    options: Mapping[str, Any]
    batch_size: int
    device: torch.device
    dtype: torch.dtype
    read: Callable[[object], object]

    @property
    def orders_rows(self) -> bool:
        """Whether the iterator has an order of its own."""
        return self.iterator is not DataLoader or bool(self._extras & {"sampler", "batch_sampler"})

    @property
    def _extras(self) -> set[str]:
        return set(self.options.keys() - PLAN_OPTIONS - WORKER_OPTIONS)

    def refuse_weights(self, dataset: object) -> None:
        """Raise rather than train without the weights: only whole tensors carry them."""
        if self.orders_rows or self._extras:
            refuse_weights(getattr(dataset, "weight", None), "iterator_train")

    def plan_epoch(
        self,
        dataset: Dataset[Any],
        policy: Vicinity,
        facts: RowFacts,
        generator: np.random.Generator,
        processes: Processes,
    ) -> PlannedBatches | PlannedLoader:
        """Draw the plan of an epoch and return its batches."""
        plan = processes.draw_plan(
            policy,
            generator,
            get_len(dataset),
            self.options.get("batch_size", self.batch_size),
            facts=facts,
            shuffle=self.options.get("shuffle", True) is not False,
            drop_last=bool(self.options.get("drop_last", False)),
        )
        if isinstance(dataset, Rows) and not self._extras:
            return PlannedBatches(dataset, plan, self.dtype)
        options = {key: value for key, value in self.options.items() if key not in PLAN_OPTIONS}
        options.setdefault("collate_fn", join_items)
        batches = PlannedLoader(dataset, plan, self.device, self.dtype, self.read, **options)
        # The seed of the loader's workers; without one, each epoch would have the same.
        batches.loader.generator.manual_seed(draw_seed(processes.spawn(generator)))
        return batches

    def mix_loaded(
        self, iterator: Iterable[Any], policy: Vicinity, facts: RowFacts, generator: np.random.Generator
    ) -> Iterator[Any]:
        """Draw the plan batch by batch, for an iterator whose order is not ours."""
        batches = map(self.read, iterator)
        if isinstance(policy, ERM):  # what is no pair is for a step of the user's own
            yield from _join_single_rows(batches)
            return
        for loaded in _join_single_rows(map(unpack_data, batches)):
            x, y = (to_tensor(part, self.device) for part in loaded)
            shape = tuple(x.shape[1:]) if isinstance(x, Tensor) else None
            of_batch = facts.of_batch(shape)
            policy.check(of_batch)
            plan = policy(generator, get_len(y), -1, facts=of_batch, shuffle=False)
            yield SentPlan(plan, y.device, self.dtype).make_batch(x, y, None, 0, 1)


def _join_single_rows(iterator: Iterable[Any]) -> Iterator[Any]:
    """Join a batch of one row to the batch before it; by itself it has no partner."""
    held: Any = None
    for loaded in iterator:
        if held is not None and is_pair(loaded) and get_len(loaded[1]) == 1:
            held = (join_features(held[0], loaded[0]), torch.cat([held[1], loaded[1]]))
            continue
        if held is not None:
            yield held
        held = loaded if is_pair(loaded) else None
        if held is None:
            yield loaded
    if held is not None:
        yield held


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


def _list_arrays(X: Any) -> list[Any]:
    return list(X.values()) if isinstance(X, Mapping) and not sparse.issparse(X) else [X]


def _is_numeric(values: object) -> bool:
    return isinstance(values, Tensor) or (isinstance(values, np.ndarray) and values.dtype.kind in "biufc")


def _is_dense(X: Any) -> bool:
    return all(map(_is_numeric, _list_arrays(X)))


def is_whole(X: Any, y: object) -> bool:
    """Whether examples and targets are arrays of numbers, which can be kept as whole tensors."""
    return (sparse.issparse(X) or _is_dense(X)) and _is_numeric(y)


def _to_device(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Move values to the device; torch takes neither read-only nor reversed arrays."""
    if isinstance(values, np.ndarray):
        values = np.require(values, requirements=["C", "W"])
    return torch.as_tensor(values, device=device)


def unwrap_subset(dataset: Any) -> Any:
    """Turn a subset of whole tensors into whole tensors again."""
    if isinstance(dataset, Subset) and isinstance(dataset.dataset, Rows):
        return dataset.dataset.subset(np.asarray(dataset.indices))
    return dataset


def get_all_targets(dataset: Any, labels: Any) -> np.ndarray | None:
    """Return the targets of all rows; None if they are not at hand."""
    if isinstance(dataset, Rows):
        targets: Any = dataset.get_targets()
    elif isinstance(dataset, Subset) and labels is not None:
        targets = labels[np.asarray(dataset.indices)]
    else:
        targets = labels
    if targets is None or isinstance(dataset, IterableDataset) or len(targets) != get_len(dataset):
        return None
    return targets.numpy(force=True) if isinstance(targets, Tensor) else np.asarray(targets)


def find_shape(dataset: Any) -> tuple[int, ...] | None:
    """Return the shape of one example, where it can be known without a batch."""
    if isinstance(dataset, IterableDataset):
        return None
    if isinstance(dataset, Rows):
        x = dataset.x
    else:
        with unseen_draws():
            item = dataset[0]
        x = item[0] if isinstance(item, tuple | list) else None  # else only its loader knows
    shape = getattr(x, "shape", None)
    if shape is None:
        return None
    return tuple(shape[1:] if isinstance(dataset, Rows) else shape)


def check_inputs(x: Any) -> Any:
    """Return examples in which neighbours can be looked for, or raise."""
    if isinstance(x, Dataset) or (isinstance(x, Mapping) and not sparse.issparse(x)):
        raise ValueError(
            f"X must be one array to look for neighbours; got {type(x).__name__}. Pass an array, or choose "
            "other partners."
        )
    return x


def get_inputs(dataset: Any) -> Any:
    """Return the examples as an array or a sparse matrix, to look for neighbours."""
    x = check_inputs(dataset.x if isinstance(dataset, Rows) else dataset)
    if isinstance(x, SparseRows):
        x = x.to_matrix()
    values = x.numpy(force=True) if isinstance(x, Tensor) else getattr(x, "array", x)
    return values if dataset.index is None else values[dataset.index]
