"""The rows of a training or validation set: on the device, in host memory, in a file, or sparse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import copy
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import Dataset

from sk_mixup._tensors import gather_rows, send, send_whole

__all__ = [
    "ALIGNMENT",
    "Features",
    "HostRows",
    "Rows",
    "SparseRows",
    "Storage",
    "align",
    "map_features",
    "split_padded",
]

ALIGNMENT = 64

Index = int | Sequence[int] | NDArray[np.int64] | Tensor
A = TypeVar("A")
B = TypeVar("B")


class Storage(Protocol):
    """Rows that are kept anywhere; those of a batch are put on the device.

    A new kind of storage is a class like this, whatever it reads from: :class:`Rows` takes it
    in the place of a tensor.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all rows, (n_samples, *features)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Index) -> Tensor:
        """Return the rows at `index`, a new tensor on the device, or a single one."""


Features = Tensor | Storage | Mapping[str, Tensor | Storage]


@overload
def map_features(function: Callable[[A], B], x: Mapping[str, A]) -> dict[str, B]: ...
@overload
def map_features(function: Callable[[A], B], x: A) -> B: ...
def map_features(function: Callable[[A], B], x: A | Mapping[str, A]) -> B | dict[str, B]:
    """Apply `function` to a tensor, or to each tensor of a mapping or a list."""
    if isinstance(x, Mapping):
        return {name: function(value) for name, value in x.items()}
    if isinstance(x, list | tuple) and not isinstance(x, PackedSequence):  # of a Dataset; never whole arrays
        return [function(value) for value in x]  # type: ignore[return-value]
    return function(x)


def align(x: Tensor) -> Tensor:
    """Return `x` where it begins on a boundary of 64 bytes, or else a copy that does.

    Matrix products round differently by where in memory their factors begin, and what torch
    allocates begins there.
    """
    return x if x.data_ptr() % ALIGNMENT == 0 else x.clone()


def split_padded(rows: Tensor, size: int) -> list[Tensor]:
    """Return blocks of `size` rows, aligned, the last padded with copies of its last row.

    All are copies, for a module may work in place.
    """
    n_whole = len(rows) // size * size
    blocks = [rows[start : start + size].clone() for start in range(0, n_whole, size)]
    if n_whole < len(rows):
        last = rows[n_whole:]
        blocks.append(torch.cat([last, last[-1:].expand(size - len(last), *last.shape[1:])]))
    return blocks


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

    def __init__(self, matrix: sparse.spmatrix, device: torch.device, dtype: torch.dtype) -> None:
        rows = sparse.csr_matrix(matrix)
        if not rows.has_canonical_format:
            rows = rows.copy()  # the matrix may be the user's own
            rows.sum_duplicates()
        self.shape = rows.shape
        self.ndim = 2
        self.values = send_whole(torch.as_tensor(rows.data), device, dtype)
        self.columns = torch.as_tensor(rows.indices.astype(np.int64), device=device)
        self.starts = rows.indptr.astype(np.int64)

    def __len__(self) -> int:
        return int(self.shape[0])

    def to_matrix(self) -> sparse.csr_matrix:
        """Return the rows as a scipy sparse matrix in host memory."""
        parts = self.values.numpy(force=True), self.columns.numpy(force=True), self.starts
        return sparse.csr_matrix(parts, shape=self.shape)

    def __getitem__(self, index: Index) -> Tensor:
        """Return the rows at `index` as a dense tensor of shape (len(index), n_features)."""
        rows = np.atleast_1d(np.asarray(index, dtype=np.int64))
        lengths = self.starts[rows + 1] - self.starts[rows]
        place = np.repeat(np.arange(len(rows)), lengths)
        # Entry e of row r stands at starts[r] + e.
        entry = np.arange(len(place)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        entry += np.repeat(self.starts[rows], lengths)
        on_device = send(np.stack([place, entry]), self.values.device)
        dense = self.values.new_zeros(len(rows), self.shape[1])
        dense[on_device[0], self.columns[on_device[1]]] = self.values[on_device[1]]
        return dense if np.ndim(index) else dense[0]


class HostRows:
    """Rows in host memory or in a memory-mapped file; each batch is sent to the device.

    Parameters
    ----------
    array : ndarray of shape (n_samples, *features)
        The rows; never written to.
    device : torch.device
        Where the batches go.
    dtype : torch.dtype or None
        Dtype of the batches; None keeps that of the array.
    memory_format : torch.memory_format, default=torch.contiguous_format
        Of the batches.
    """

    def __init__(
        self,
        array: np.ndarray,
        device: torch.device,
        dtype: torch.dtype | None,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.array = array
        self.device = device
        self.dtype = dtype
        self.memory_format = memory_format

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def ndim(self) -> int:
        """Number of axes of the array."""
        return self.array.ndim

    def __len__(self) -> int:
        return len(self.array)

    def _take(self, index: Index) -> np.ndarray:
        # np.take is the faster, but copies all of an array that is not laid out row by row.
        if self.array.flags.c_contiguous and self.array.flags.aligned:
            return np.take(self.array, index, axis=0)
        return self.array[np.asarray(index)]

    def __getitem__(self, index: Index) -> Tensor:
        """Return the rows at `index`, a tensor of its own on the device."""
        rows = send(_to_plain(self._take(index)), self.device, self.dtype)
        return rows.contiguous(memory_format=self.memory_format) if np.ndim(index) else rows


def _to_plain(values: np.ndarray) -> np.ndarray:
    """Return numbers that torch takes: of the machine's byte order, of 64 bits at most."""
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        return values.astype(np.float64)
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


class Rows(Dataset[tuple[Features, Tensor]]):
    """A training or validation set of arrays.

    Parameters
    ----------
    x : Tensor or Storage of shape (n_samples, *features), or a mapping of such
        The examples.
    y : Tensor of shape (n_samples, ...)
        Class codes (int64) or real targets, on the device.
    weight : Tensor of shape (n_samples,), default=None
        Weight of each row; None means 1.
    decode : callable, default=None
        Turns targets into what ``predict`` returns, such as codes into labels.
    index : ndarray of shape (n_rows,), dtype int64, default=None
        The rows that belong to the set; None means all. The tensors are shared.
    """

    def __init__(
        self,
        x: Features,
        y: Tensor,
        weight: Tensor | None = None,
        *,
        decode: Callable[[Tensor], np.ndarray] | None = None,
        index: NDArray[np.int64] | None = None,
    ) -> None:
        self.x: Any = x  # one tensor or storage in all that is read of it, but for a mapping
        self.targets = y
        self.weight = weight
        self.decode = decode
        self.index = index
        parts = list(x.values()) if isinstance(x, Mapping) else [x]
        self.on_device = all(isinstance(part, Tensor) for part in parts)

    def __len__(self) -> int:
        return len(self.targets) if self.index is None else len(self.index)

    @property
    def indices(self) -> NDArray[np.int64]:
        """The numbers of the rows among all, as a subset of torch's has them."""
        return np.arange(len(self.targets)) if self.index is None else self.index

    def __getitem__(self, row: Index) -> tuple[Any, Tensor]:
        place = row if self.index is None else self.index[row]
        return map_features(lambda t: t[place], self.x), self.targets[place]

    # skorch's helpers look for a data set's content under the names X and y.
    @property
    def X(self) -> Tensor | dict[str, Tensor]:  # noqa: N802
        """The examples of the set."""
        return self.take(np.arange(len(self)))[0]

    @property
    def y(self) -> np.ndarray | Tensor:
        """The targets of the set, as the user gave them."""
        targets = self.get_targets()
        return targets if self.decode is None else self.decode(targets)

    def get_targets(self) -> Tensor:
        """Return the targets of the set: codes or real values."""
        return self.targets if self.index is None else self.targets[torch.as_tensor(self.index)]

    def locate(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where rows of the set stand in the tensors."""
        return rows if self.index is None else self.index[rows]

    def stage(self, located: NDArray[np.int64]) -> NDArray[np.int64] | Tensor:
        """Return located rows in the form in which :meth:`load` takes them fastest."""
        return send(located, self.targets.device) if self.on_device else located

    def load(self, staged: NDArray[np.int64] | Tensor) -> tuple[Any, Tensor, Tensor | None]:
        """Return examples, targets and weights of rows that were located and staged."""
        index = send(staged, self.targets.device)
        x = map_features(lambda t: gather_rows(t, index) if isinstance(t, Tensor) else t[staged], self.x)
        weight = None if self.weight is None else self.weight.index_select(0, index)
        return x, self.targets.index_select(0, index), weight

    def take(self, rows: NDArray[np.int64]) -> tuple[Any, Tensor, Tensor | None]:
        """Return examples, targets and weights of the given rows."""
        return self.load(self.stage(self.locate(rows)))

    def slice(self, start: int, stop: int) -> tuple[Any, Tensor, Tensor | None]:
        """Return examples, targets and weights of the rows from `start` to `stop`.

        The examples are copies, for a module may work in place.
        """
        if self.index is not None or not self.on_device:
            return self.take(np.arange(start, stop))
        weight = None if self.weight is None else self.weight[start:stop]
        return map_features(lambda t: t[start:stop].clone(), self.x), self.targets[start:stop], weight

    def subset(self, rows: NDArray[np.int64]) -> Rows:
        """Return the given rows as a set of their own that shares the tensors."""
        part = copy.copy(self)
        part.index = self.locate(np.asarray(rows))
        return part
