"""Whole tensors on the device, served in batches that follow a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sk_mixup.mixing.plan import Plan, PlannedBatch

__all__ = [
    "Batch",
    "PlannedBatches",
    "PlannedLoader",
    "RowSlices",
    "Rows",
    "SparseRows",
    "join_features",
    "make_batch",
    "map_features",
]

Features = Tensor | Mapping[str, Tensor]


class Batch(tuple[Any, Tensor]):
    """A mini-batch: a pair (x, y) of its own examples, and what they are mixed with.

    It unpacks as ``x, y = batch``, so code that knows nothing of mixing sees an ordinary
    batch of clean examples.

    Parameters
    ----------
    x : Tensor of shape (m, *features), or a mapping of such
        All rows that were loaded; the batch's own n examples come first.
    y : Tensor of shape (m, ...)
        Their targets.
    weight : Tensor of shape (m,) or None
        Their weights.
    position : Tensor of shape (k, n), dtype int64, or None
        Which loaded rows go into each virtual example; None for plain training.
    lam : Tensor of shape (k, n) or None
        The mixing weights; None for plain training.
    """

    loaded: Any
    targets: Tensor
    weight: Tensor | None
    position: Tensor | None
    lam: Tensor | None

    def __new__(
        cls,
        x: Features,
        y: Tensor,
        weight: Tensor | None = None,
        position: Tensor | None = None,
        lam: Tensor | None = None,
    ) -> Batch:
        """Build the pair of clean examples and remember the rest."""
        n = len(y) if position is None else position.shape[1]
        clean = (x, y) if n == len(y) else (map_features(lambda t: t[:n], x), y[:n])
        batch = super().__new__(cls, clean)
        batch.loaded, batch.targets, batch.weight = x, y, weight
        batch.position, batch.lam = position, lam
        return batch

    def get_mixed_targets(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return targets and mixing weights of the examples that are mixed, and their weight.

        Returns
        -------
        y : Tensor of shape (k, n, ...)
            Targets; k is 1 for a batch that is not mixed.
        lam : Tensor of shape (k, n)
            Mixing weights; ones for a batch that is not mixed.
        weight : Tensor of shape (n,) or None
            Weight of each virtual example: the product of its examples' weights.
        """
        if self.position is None or self.lam is None:
            dtype = None if self.weight is None else self.weight.dtype
            lam = torch.ones(1, len(self.targets), dtype=dtype, device=self.targets.device)
            return self.targets.unsqueeze(0), lam, self.weight
        weight = None if self.weight is None else self.weight[self.position].prod(dim=0)
        return self.targets[self.position], self.lam, weight


def map_features(function: Any, x: Any) -> Any:
    """Apply `function` to a tensor, or to each tensor of a mapping."""
    if isinstance(x, Mapping):
        return {name: function(value) for name, value in x.items()}
    return function(x)


def join_features(x: Any, other: Any) -> Any:
    """Join the rows of two tensors, or of the tensors of two mappings."""
    if isinstance(x, Mapping):
        return {name: torch.cat([value, other[name]]) for name, value in x.items()}
    return torch.cat([x, other])


class SparseRows:
    """Rows of a sparse matrix, on the device; each batch is made dense there.

    Parameters
    ----------
    matrix : scipy sparse matrix of shape (n_samples, n_features)
        The rows.
    device : torch.device
        Where the rows are kept.
    dtype : torch.dtype
        Floating dtype of the values.
    """

    def __init__(self, matrix: Any, device: torch.device, dtype: torch.dtype) -> None:
        rows = sparse.csr_matrix(matrix)
        if not rows.has_canonical_format:
            rows = rows.copy()  # the matrix may be the user's own
            rows.sum_duplicates()
        self.shape = rows.shape
        self.values = torch.as_tensor(rows.data, dtype=dtype, device=device)
        self.columns = torch.as_tensor(rows.indices.astype(np.int64), device=device)
        self.starts = rows.indptr.astype(np.int64)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> Tensor:
        """Return the rows at `index` as a dense tensor of shape (len(index), n_features)."""
        rows = np.atleast_1d(np.asarray(index, dtype=np.int64))
        lengths = self.starts[rows + 1] - self.starts[rows]
        place = np.repeat(np.arange(len(rows)), lengths)
        # Entry e of row r stands at starts[r] + e.
        entry = np.arange(len(place)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        entry += np.repeat(self.starts[rows], lengths)
        on_device = torch.as_tensor(np.stack([place, entry]), device=self.values.device)
        dense = self.values.new_zeros(len(rows), self.shape[1])
        dense[on_device[0], self.columns[on_device[1]]] = self.values[on_device[1]]
        return dense if np.ndim(index) else dense[0]


class Rows(Dataset[Any]):
    """A training or validation set, whole, on the device.

    Parameters
    ----------
    x : Tensor or SparseRows of shape (n_samples, *features), or a mapping of tensors
        The examples.
    y : Tensor of shape (n_samples, ...)
        Class codes (int64) or real targets.
    weight : Tensor of shape (n_samples,), default=None
        Weight of each row; None means 1.
    decode : callable, default=None
        Turns targets into what ``predict`` returns, such as codes into labels.
    index : ndarray of shape (n_rows,), dtype int64, default=None
        The rows that belong to the set; None means all. The tensors are shared.
    """

    def __init__(
        self,
        x: Any,
        y: Tensor,
        weight: Tensor | None = None,
        *,
        decode: Callable[[Tensor], Any] | None = None,
        index: NDArray[np.int64] | None = None,
    ) -> None:
        self.x = x
        self.targets = y
        self.weight = weight
        self.decode = decode
        self.index = index

    def __len__(self) -> int:
        return len(self.targets) if self.index is None else len(self.index)

    def __getitem__(self, row: Any) -> tuple[Any, Tensor]:
        place = row if self.index is None else self.index[row]
        return map_features(lambda t: t[place], self.x), self.targets[place]

    # skorch's helpers look for a data set's content under the names X and y.
    @property
    def X(self) -> Any:  # noqa: N802
        """The examples of the set."""
        return self.take(np.arange(len(self)))[0]

    @property
    def y(self) -> Any:
        """The targets of the set, as the user gave them."""
        targets = self.get_targets()
        return targets if self.decode is None else self.decode(targets)

    def get_targets(self) -> Tensor:
        """Return the targets of the set: codes or real values."""
        return self.targets if self.index is None else self.targets[torch.as_tensor(self.index)]

    def take(self, rows: NDArray[np.int64]) -> tuple[Any, Tensor, Tensor | None]:
        """Return examples, targets and weights of the given rows."""
        rows = rows if self.index is None else self.index[rows]
        index = torch.as_tensor(rows, device=self.targets.device)
        if isinstance(self.x, SparseRows):
            x: Any = self.x[rows]
        else:
            x = map_features(lambda t: t.index_select(0, index), self.x)
        weight = None if self.weight is None else self.weight.index_select(0, index)
        return x, self.targets.index_select(0, index), weight

    def subset(self, rows: NDArray[np.int64]) -> Rows:
        """Return the given rows as a set of their own that shares the tensors."""
        index = rows if self.index is None else self.index[rows]
        return type(self)(self.x, self.targets, self.weight, decode=self.decode, index=index)


class RowSlices:
    """The batches of whole tensors in order, for validation and prediction.

    Parameters
    ----------
    rows : Rows
        The set.
    batch_size : int
        Rows in a batch.
    """

    def __init__(self, rows: Rows, batch_size: int) -> None:
        self.rows = rows
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.rows), self.batch_size):
            stop = min(start + self.batch_size, len(self.rows))
            yield Batch(*self.rows.take(np.arange(start, stop)))


class PlannedBatches:
    """The batches of one epoch, cut from whole tensors.

    Parameters
    ----------
    rows : Rows
        The training set.
    plan : Plan
        What the epoch does.
    dtype : torch.dtype
        Floating dtype of the mixing weights.
    """

    def __init__(self, rows: Rows, plan: Plan, dtype: torch.dtype) -> None:
        self.rows = rows
        self.plan = plan
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        for planned in self.plan:
            yield make_batch(*self.rows.take(planned.rows), planned, self.dtype)


class PlannedLoader:
    """The batches of one epoch, loaded row by row from a map-style data set.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Pairs (x, y), one row at a time.
    plan : Plan
        What the epoch does.
    device : torch.device
        Where the batches go.
    dtype : torch.dtype
        Floating dtype of the mixing weights.
    **kwargs : dict
        Options of :class:`torch.utils.data.DataLoader`, such as ``num_workers``.
    """

    def __init__(
        self, dataset: Dataset[Any], plan: Plan, device: torch.device, dtype: torch.dtype, **kwargs: Any
    ) -> None:
        self.plan = list(plan)
        self.device = device
        self.dtype = dtype
        # A generator of its own keeps the loader from drawing on torch's global one.
        self.loader = DataLoader(
            dataset,
            batch_sampler=[batch.rows.tolist() for batch in self.plan],
            generator=torch.Generator(),
            **kwargs,
        )

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        for (x, y), planned in zip(self.loader, self.plan, strict=True):
            x = map_features(lambda t: t.to(self.device, non_blocking=True), x)
            yield make_batch(x, y.to(self.device, non_blocking=True), None, planned, self.dtype)


def make_batch(x: Any, y: Tensor, weight: Tensor | None, planned: PlannedBatch, dtype: torch.dtype) -> Batch:
    """Join loaded rows with their part of the plan."""
    if planned.lam is None:
        return Batch(x, y, weight)
    position = torch.as_tensor(planned.position, device=y.device)
    lam = torch.as_tensor(planned.lam, dtype=dtype, device=y.device)
    return Batch(x, y, weight, position, lam)
