"""What a net trains on: data sets, splits, and the batches of an epoch's plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import inspect
import math
from typing import Any
import warnings

import numpy as np
from scipy import sparse
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import get_len, unpack_data
from skorch.utils import is_dataset, to_tensor
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from sk_mixup._data.batches import Batch, PlannedBatches, PlannedLoader, RowSlices, SentPlan, join_features
from sk_mixup._data.storage import HostRows, Rows, SparseRows, map_features
from sk_mixup._data.virtual_examples import find_layers
from sk_mixup._random import draw_seed
from sk_mixup._skorch.step import NetBase
from sk_mixup.mixing import RowFacts, Vicinity
from sk_mixup.mixing.plan import INPUT, Plan

__all__ = ["STORAGES", "FeedMixin", "is_mapped", "unwrap_subset"]

# What our own iterators understand of a DataLoader's options; the rest needs a DataLoader.
PLAN_OPTIONS = {"batch_size", "shuffle", "drop_last"}
WORKER_OPTIONS = {"num_workers", "pin_memory", "persistent_workers", "prefetch_factor", "timeout"}
STORAGES = ("auto", "device", "host")


class FeedMixin(NetBase):
    """Serves whole arrays where it can, and a data loader that follows the plan where not."""

    casts_integers = False

    def get_dataset(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return the data as whole tensors on the device where that can be done."""
        plain = self.dataset is SkorchDataset and not self.get_params_for("dataset")
        if is_dataset(X) or not plain or not _is_whole(X) or not isinstance(y, np.ndarray | Tensor):
            _refuse_weights(sample_weight, "dataset")
            return super().get_dataset(X, y)
        device = self._torch_device
        if sparse.issparse(X):
            x: Any = SparseRows(X, device, self.float_dtype)
        elif self._choose_storage(X) == "host":
            x = map_features(lambda t: self._keep_on_host(t, device, cast=not isinstance(X, Mapping)), X)
        else:
            x = map_features(lambda t: self._keep_on_device(t, device), X)
        weight = None
        if sample_weight is not None:
            weight = _as_tensor(sample_weight, device, self.float_dtype)
        return SkorchRows(x, _to_device(y, device), weight)

    def check_room(self, X: Any) -> None:
        """Raise if arrays must be kept on the device but are too large for it.

        Raises
        ------
        ValueError
            If ``storage='device'`` and `X` is larger than half of the free memory.
        """
        if self.storage == "device" and _is_dense(X) and not self._has_room(X):
            needed, room = self._count_bytes(X) / 2**30, find_room(self._torch_device) or 0
            raise ValueError(
                f"storage must be 'auto' or 'host' for data larger than half of the device's free memory; "
                f"got 'device' for {needed:.2f} GiB where half is {room / 2**30:.2f} GiB. Use 'auto'."
            )

    def _choose_storage(self, X: Any) -> str:
        """Return where arrays are kept: 'device' or 'host'."""
        if self.storage == "host" or (self.storage == "auto" and any(map(is_mapped, _list_arrays(X)))):
            return "host"
        return "device" if self._has_room(X) else "host"

    def _has_room(self, X: Any) -> bool:
        room = find_room(self._torch_device)
        return room is None or self._count_bytes(X) <= room

    def _count_bytes(self, X: Any) -> int:
        """Return what arrays take on the device, those that are there already left out."""
        itemsize = torch.finfo(torch.get_default_dtype()).bits // 8
        there = [isinstance(array, Tensor) and array.device.type != "cpu" for array in _list_arrays(X)]
        sizes = [math.prod(array.shape) * itemsize for array in _list_arrays(X)]
        return sum(size for size, is_there in zip(sizes, there, strict=True) if not is_there)

    def _keep_on_host(self, values: Any, device: torch.device, *, cast: bool) -> HostRows:
        if isinstance(values, Tensor):
            values = values.float() if values.dtype == torch.bfloat16 else values  # numpy knows none
            values = values.numpy(force=True)
        array = values
        cast = array.dtype.kind == "f" or (cast and self.casts_integers)
        dtype = self.float_dtype if cast else None
        return HostRows(array, device, dtype, self._get_memory_format(array))

    def _keep_on_device(self, values: Any, device: torch.device) -> Tensor:
        tensor = _as_tensor(values, device, self.float_dtype)
        return tensor.contiguous(memory_format=self._get_memory_format(tensor))

    def _get_memory_format(self, values: Any) -> torch.memory_format:
        images = self.channels_last and values.ndim == 4
        return torch.channels_last if images else torch.contiguous_format

    def _report_streaming(self, dataset: Any) -> None:
        """Say once a fit that the data do not fit on the device."""
        if self.storage != "auto" or not isinstance(dataset, Rows):
            return
        kept = [part.array for part in _list_arrays(dataset.x) if isinstance(part, HostRows)]
        if kept and not any(map(is_mapped, kept)):
            warnings.warn(
                "X does not fit into half of the device's free memory: its batches are sent from host memory "
                "one by one. Set storage='host' to choose this yourself.",
                UserWarning,
                stacklevel=2,
            )

    @property
    def float_dtype(self) -> torch.dtype:
        """The floating dtype of the module's parameters."""
        parameters = self.module_.parameters() if hasattr(self.module_, "parameters") else ()
        dtypes = (p.dtype for p in parameters if p.is_floating_point())
        return next(dtypes, torch.get_default_dtype())

    def get_split_datasets(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> Any:
        """Return the training and the validation set; see ``skorch.NeuralNet``."""
        self.check_room(X)
        dataset = self.get_dataset(X, y, sample_weight)
        self._report_streaming(dataset)
        if not self.train_split:
            return dataset, None
        args = (dataset,) if y is None else (dataset, y)
        train, valid = self.train_split(*args, **params)
        return unwrap_subset(train), unwrap_subset(valid)

    def forward_iter(self, X: Any, training: bool = False, device: str = "cpu") -> Iterator[Any]:
        """Yield the module's outputs batch by batch; see ``skorch.NeuralNet``."""
        if not is_dataset(X) and _is_whole(X):
            X = self.get_dataset(X, np.zeros(get_len(X), dtype=np.int64))
        yield from super().forward_iter(X, training=training, device=device)

    def get_facts(self, dataset: Any, labels: Any = None) -> RowFacts:
        """Return what a policy may ask about the rows of a training set.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
            The training set.
        labels : ndarray, default=None
            Targets of a data set that does not hold them itself.

        Returns
        -------
        facts : RowFacts
            What it holds is found when it is first asked for.
        """
        is_stream = isinstance(dataset, IterableDataset) or self._orders_rows_itself()
        return RowFacts(
            labels=lambda: self._get_class_codes(_get_all_targets(dataset, labels)),
            targets=lambda: self._get_real_targets(_get_all_targets(dataset, labels)),
            inputs=lambda: _get_inputs(dataset),
            shape=_find_shape(dataset) or vars(self).get("_shape_in"),
            layers=self._find_layers,
            is_dense=getattr(self, "_dense", False),
            is_stream=is_stream,
        )

    def _find_layers(self, wanted: Any) -> tuple[str, ...]:
        if getattr(self, "compile", False) and set(wanted) != {INPUT}:
            raise ValueError("compile must be False where hidden layers are mixed; got True. Drop it.")
        return find_layers(self.module_, wanted)

    def _get_class_codes(self, targets: Any) -> Any:
        """Return one class per row; rows of several labels belong together if all agree."""
        if targets is None:
            raise ValueError(
                "partners='same_class' must know the class of each row; got a Dataset without one label per "
                "row. Pass arrays instead."
            )
        return np.unique(targets, axis=0, return_inverse=True)[1].ravel()

    def _get_real_targets(self, targets: Any) -> Any:
        """Return targets between which there is a distance, or raise."""
        if targets is None or targets.dtype.kind != "f":
            raise ValueError(
                "partners='kernel' must be drawn from real-valued targets; got "
                f"{'none' if targets is None else f'targets of dtype {targets.dtype}'}. Use 'batch', say."
            )
        return targets

    def _orders_rows_itself(self) -> bool:
        """Whether the training iterator has an order of its own."""
        options = self.get_params_for("iterator_train").keys()
        custom = (options - PLAN_OPTIONS - WORKER_OPTIONS) & {"sampler", "batch_sampler"}
        return self.iterator_train is not DataLoader or bool(custom)

    def get_training_batches(self, dataset: Any, policy: Vicinity, facts: RowFacts | None = None) -> Any:
        """Return the batches of one training epoch, drawn from its plan.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
            The training set.
        policy : Vicinity
            What draws the plan.
        facts : RowFacts, default=None
            What is known of the rows; None to find it anew.

        Returns
        -------
        batches : iterable of Batch
        """
        facts = self.get_facts(dataset) if facts is None else facts
        options = self.get_params_for("iterator_train")
        generator = self.generator_.spawn(1)[0]
        loader_only = options.keys() - PLAN_OPTIONS - WORKER_OPTIONS
        custom = self._orders_rows_itself()
        if custom or loader_only:
            _refuse_weights(getattr(dataset, "weight", None), "iterator_train")
        if custom or isinstance(dataset, IterableDataset):
            return self._mix_loaded(self.get_iterator(dataset, training=True), policy, generator)
        plan = self._draw_plan(
            policy,
            generator,
            get_len(dataset),
            options.get("batch_size", self.batch_size),
            facts=facts,
            shuffle=options.get("shuffle", True) is not False,
            drop_last=bool(options.get("drop_last", False)),
        )
        if isinstance(dataset, Rows) and not loader_only:
            return PlannedBatches(dataset, plan, self.float_dtype)
        options = {key: value for key, value in options.items() if key not in PLAN_OPTIONS}
        batches = PlannedLoader(dataset, plan, self._torch_device, self.float_dtype, **options)
        # The seed of the loader's workers; without one, each epoch would have the same.
        batches.loader.generator.manual_seed(draw_seed(self._spawn_own(generator)))
        return batches

    def _draw_plan(
        self, policy: Vicinity, generator: np.random.Generator, n_samples: int, size: int, **options: Any
    ) -> Plan:
        """Draw the plan of an epoch; see :meth:`Vicinity.__call__`."""
        return policy(generator, n_samples, size, **options)

    def _spawn_own(self, generator: np.random.Generator) -> np.random.Generator:
        """Return a stream of this process's own, a child of what all processes draw alike."""
        return generator.spawn(1)[0]

    def _mix_loaded(self, iterator: Any, policy: Vicinity, generator: np.random.Generator) -> Iterator[Batch]:
        """Draw the plan batch by batch, for an iterator whose order is not ours."""
        for loaded in _join_single_rows(iterator):
            x, y = (to_tensor(part, self._torch_device) for part in loaded)
            shape = tuple(x.shape[1:]) if isinstance(x, Tensor) else None
            dense = getattr(self, "_dense", False)
            facts = RowFacts(shape=shape, layers=self._find_layers, is_dense=dense, is_stream=True)
            policy.check(facts)
            plan = policy(generator, get_len(y), -1, facts=facts, shuffle=False)
            yield SentPlan(plan, y.device, self.float_dtype).make_batch(x, y, None, 0, 1)

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the batches of a data set, in order; see ``skorch.NeuralNet``."""
        name = "iterator_train" if training else "iterator_valid"
        options = self.get_params_for(name)
        size = options.get("batch_size", self.batch_size)
        iterator = getattr(self, name)
        if iterator is DataLoader and isinstance(dataset, Rows) and not options.keys() - PLAN_OPTIONS:
            return RowSlices(dataset, len(dataset) if size == -1 else size)
        if inspect.isclass(iterator) and issubclass(iterator, DataLoader):
            options.setdefault("generator", torch.Generator())
        options["batch_size"] = get_len(dataset) if size == -1 else size
        if options.keys() & {"batch_sampler"}:
            del options["batch_size"]
        return iterator(dataset, **options)


def _join_single_rows(iterator: Any) -> Iterator[tuple[Any, Any]]:
    """Join a batch of one row to the batch before it; alone it has no partner."""
    held: Any = None
    for loaded in iterator:
        x, y = unpack_data(loaded)
        if held is not None and get_len(y) == 1:
            held = (join_features(held[0], x), torch.cat([held[1], y]))
            continue
        if held is not None:
            yield held
        held = (x, y)
    if held is not None:
        yield held


def is_mapped(values: Any) -> bool:
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


def _refuse_weights(weight: Any, option: str) -> None:
    """Raise rather than train without the weights: only whole tensors carry them."""
    if weight is not None:
        raise ValueError(
            f"{option} must be left at its default for sample_weight or class_weight; got another. Drop the "
            "weights, or weigh inside the criterion."
        )


def _list_arrays(X: Any) -> list[Any]:
    return list(X.values()) if isinstance(X, Mapping) and not sparse.issparse(X) else [X]


def _is_dense(X: Any) -> bool:
    return all(isinstance(values, np.ndarray | Tensor) for values in _list_arrays(X))


def _is_whole(X: Any) -> bool:
    return sparse.issparse(X) or _is_dense(X)


class SkorchRows(Rows, SkorchDataset):
    """:class:`Rows` that skorch's scoring callbacks know for a data set of arrays."""


def _to_device(values: Any, device: torch.device) -> Tensor:
    """Move values to the device; torch takes neither read-only nor reversed arrays."""
    if isinstance(values, np.ndarray):
        values = np.require(values, requirements=["C", "W"])
    return torch.as_tensor(values, device=device)


def _as_tensor(values: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Move values to the device, floating ones in the dtype of the module."""
    tensor = _to_device(values, device)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def unwrap_subset(dataset: Any) -> Any:
    """Turn a subset of whole tensors into whole tensors again."""
    if isinstance(dataset, Subset) and isinstance(dataset.dataset, Rows):
        return dataset.dataset.subset(np.asarray(dataset.indices))
    return dataset


def _get_all_targets(dataset: Any, labels: Any) -> Any:
    """Return the targets of all rows, an array; None if they are not at hand."""
    if isinstance(dataset, Rows):
        targets: Any = dataset.get_targets()
    elif isinstance(dataset, Subset) and labels is not None:
        targets = labels[np.asarray(dataset.indices)]
    else:
        targets = labels
    if targets is None or isinstance(dataset, IterableDataset) or len(targets) != get_len(dataset):
        return None
    return targets.numpy(force=True) if isinstance(targets, Tensor) else np.asarray(targets)


def _find_shape(dataset: Any) -> tuple[int, ...] | None:
    """Return the shape of one example, where it can be known without a batch."""
    if isinstance(dataset, IterableDataset):
        return None
    x = dataset.x if isinstance(dataset, Rows) else unpack_data(dataset[0])[0]
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


def _get_inputs(dataset: Any) -> Any:
    """Return the examples as an array or a sparse matrix, to look for neighbours."""
    x = check_inputs(dataset.x if isinstance(dataset, Rows) else dataset)
    if isinstance(x, SparseRows):
        x = x.to_matrix()
    values = x.numpy(force=True) if isinstance(x, Tensor) else getattr(x, "array", x)
    return values if dataset.index is None else values[dataset.index]
