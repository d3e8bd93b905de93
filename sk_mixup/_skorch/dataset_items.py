"""What a Dataset yields: pairs, as the net's iterator joins them, and all targets, read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized, ValuesView
from contextlib import suppress
from dataclasses import dataclass
from numbers import Number
from typing import Any, NoReturn, cast

import numpy as np
from skorch.dataset import ERROR_MSG_1_ITEM, ERROR_MSG_MORE_THAN_2_ITEMS
from skorch.dataset import Dataset as SkorchDataset
import torch
from torch import Tensor
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
)

from sk_mixup._data.storage import Rows, map_features
from sk_mixup._random import unseen_draws
from sk_mixup._tensors import to_host

__all__ = [
    "CODED",
    "ItemReader",
    "ReadBatches",
    "cast_floats",
    "check_one_target",
    "find_exact_targets",
    "holds_codes",
    "join_items",
    "keep_stream",
    "refuse_loader",
    "split_inputs",
    "split_pair",
    "to_array",
]

# The mark of a data set of the user's that was given codes in the place of labels.
CODED = "_sk_mixup_coded"
# Of a user's loader, what decides in which processes rows are read.
WORKERS = ("num_workers", "timeout", "worker_init_fn", "multiprocessing_context", "prefetch_factor")


def to_array(values: object) -> np.ndarray:
    """Return targets in whatever form as an array in host memory."""
    return np.asarray(to_host(values))


def cast_floats(x: object, dtype: torch.dtype) -> object:
    """Return inputs with those of a floating dtype in that of the module, and others as they are."""
    return map_features(lambda t: t.to(dtype) if isinstance(t, Tensor) and t.is_floating_point() else t, x)


def join_items(items: Sequence[object]) -> object:
    """Join items to a batch as torch does; a list of numbers is a row, not so many inputs.

    Raises
    ------
    ValueError
        If torch cannot: for images that were not made tensors, or rows of several shapes.
    """
    try:
        joined = default_collate(_copy_readonly(items))
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"X must be a Dataset whose items torch can join to batches; got {error}. Let it yield tensors "
            "of one shape (images by a transform such as torchvision's ToTensor), or join them by a "
            "`collate_fn` of the iterators."
        ) from error
    if not isinstance(joined, tuple | list):
        return joined
    return [_join_rows(*pair) for pair in zip(items[0], joined, strict=True)]  # type: ignore[call-overload]


def _join_rows(part: object, columns: object) -> object:
    """Return a part of the items as torch has joined it, with the rows of lists in one tensor."""
    if isinstance(part, Mapping) and isinstance(columns, Mapping):
        return {name: _join_rows(part[name], columns[name]) for name in columns}
    return torch.stack(columns, dim=1) if _is_row(part) and isinstance(columns, list) else columns


def _copy_readonly(items: Sequence[object]) -> list[object]:
    """Return items with copies of their arrays where the first may not be written to: torch would warn."""
    parts = items[0] if isinstance(items[0], tuple | list) else (items[0],)
    if not any(isinstance(part, np.ndarray) and not part.flags.writeable for part in parts):
        return list(items)
    is_pair = isinstance(items[0], tuple | list)
    return [tuple(map(_copy_array, item)) if is_pair else _copy_array(item) for item in items]  # type: ignore[call-overload]


def _copy_array(part: object) -> object:
    return part.copy() if isinstance(part, np.ndarray) else part


def _is_row(part: object) -> bool:
    return isinstance(part, list) and bool(part) and all(isinstance(value, Number) for value in part)


def split_pair(loaded: object) -> tuple[object, object]:
    """Return inputs and targets of a batch, or raise if it is no pair."""
    if isinstance(loaded, tuple | list) and len(loaded) == 2:
        return loaded[0], loaded[1]
    message = ""  # that of skorch, which its users know
    if isinstance(loaded, Mapping):
        found = f"dicts with the keys {', '.join(map(repr, loaded))}"
    elif isinstance(loaded, tuple | list):
        found = f"items of {len(loaded)} value{'s' if len(loaded) > 1 else ''}"
        message = ERROR_MSG_MORE_THAN_2_ITEMS.format(len(loaded)) if len(loaded) > 2 else ERROR_MSG_1_ITEM
    else:
        found, message = f"items that are one {type(loaded).__name__}", ERROR_MSG_1_ITEM
    rule = (
        f"X must be a Dataset of pairs (x, y); got {found}. Let it yield pairs, in which x may be a dict of "
        "the module's arguments, or make pairs of them by a `collate_fn` of the iterators."
    )
    error = ValueError(message or rule)
    if message:
        error.add_note(rule)
    raise error


def split_inputs(loaded: object) -> tuple[object, object]:
    """Return inputs and targets of a batch to predict; targets may be missing."""
    if isinstance(loaded, Tensor) and loaded.ndim > 1:
        return loaded, None
    return (loaded[0], None) if isinstance(loaded, tuple | list) and len(loaded) == 1 else split_pair(loaded)


def check_one_target(y: object, remedy: str = "override get_loss") -> None:
    """Raise if what torch joined of targets are several parts, which are no rows of one array."""
    if isinstance(y, Mapping):
        found = f"a dict with the keys {', '.join(map(repr, y))}"
    elif isinstance(y, tuple | list) and y and isinstance(y[0], Tensor):
        found = f"a tuple or list of {len(y)} value{'s' if len(y) > 1 else ''}"
    else:
        return
    raise ValueError(
        f"X must be a Dataset of pairs (x, y) in which y is a number, a string or one array; got {found}. "
        f"Return several values of a row as a tensor, or {remedy}."
    )


def refuse_loader(X: object, name: str = "X") -> None:
    """Raise if data are a loader, whose batches are for the net to draw, or rows of dicts but no Dataset."""
    if isinstance(X, DataLoader):
        raise TypeError(
            f"{name} must be arrays or a Dataset; got a DataLoader. Pass its `dataset` as X, and its options "
            "as batch_size=, iterator_train__num_workers= and the like."
        )
    if (keys := _list_columns(X)) is not None:
        raise TypeError(
            f"{name} must be arrays or a torch Dataset of pairs (x, y); got a {type(X).__name__} of dicts "
            f"with the keys {', '.join(map(repr, keys))}. Pass columns of it as the arrays X and y, or wrap "
            "it in a torch.utils.data.Dataset whose __getitem__ returns pairs."
        )


def _list_columns(X: object) -> list[object] | None:
    """Return the keys of the first row of rows that are dicts, as those of a Hugging Face dataset are."""
    is_array = isinstance(X, Dataset | Mapping) or hasattr(X, "__array__") or not hasattr(X, "__len__")
    if is_array or not hasattr(X, "__getitem__"):
        return None
    try:
        first = X[0]
    except Exception:  # of whatever kind: it is code of the user's, and the data are checked later
        return None
    return list(first) if isinstance(first, Mapping) else None


class ReadBatches:
    """What a loader yields, read as the net is trained on it.

    Parameters
    ----------
    loader : iterable
        The batches.
    read : callable
        Makes of each what the net takes.
    """

    def __init__(self, loader: Iterable[object], read: Callable[[object], object]) -> None:
        self.loader = loader
        self.read = read

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[object]:
        return map(self.read, self.loader)


def holds_codes(dataset: object) -> bool:
    """Whether a data set, or one that it is made of, holds targets that were encoded for the net."""
    parts, seen = [dataset], set()
    for part in parts:
        held = getattr(part, "__dict__", {})
        if isinstance(part, Rows) or CODED in held:
            return True
        seen.add(id(part))
        values = [inner for value in held.values() for inner in _list_held(value)]
        parts += [inner for inner in values if isinstance(inner, Dataset) and id(inner) not in seen]
    return False


def _list_held(value: object) -> list[object]:
    """Return a value, or the data sets in it, as in those that torch joins."""
    inner = value.values() if isinstance(value, Mapping) else value
    is_joined = isinstance(inner, list | tuple | ValuesView) and isinstance(next(iter(inner), None), Dataset)
    return list(cast(Iterable[object], inner)) if is_joined else [value]


def find_exact_targets(dataset: object) -> np.ndarray | None:
    """Return all targets of a data set of a type that yields what it holds; None for any other.

    Subclasses and other classes may yield something else than their attributes say.
    """
    kind = type(dataset)
    if isinstance(dataset, Rows):
        return to_array(dataset.get_targets())
    if isinstance(dataset, TensorDataset) and kind is TensorDataset and len(dataset.tensors) == 2:
        return to_array(dataset.tensors[1])
    if kind is SkorchDataset:
        y: Any = dataset.y  # type: ignore[attr-defined]
        is_one = y is not None and not isinstance(y, Mapping | tuple)
        return to_array(y) if is_one and len(y) == len(dataset) else None  # type: ignore[arg-type]
    if isinstance(dataset, Subset) and kind is Subset:
        targets = find_exact_targets(dataset.dataset)
        return None if targets is None else targets[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, ConcatDataset) and kind is ConcatDataset:
        parts = [find_exact_targets(part) for part in dataset.datasets]
        known = [part for part in parts if part is not None]
        return np.concatenate(known) if len(known) == len(parts) else None
    return None


@dataclass(frozen=True)
class ItemReader:
    """Reads a Dataset by the settings of the user's iterator, and draws on no global generator.

    Parameters
    ----------
    collate : callable
        Joins items to a batch.
    workers : mapping of str to object
        Options of the loader that say in which processes rows are read.
    """

    collate: Callable[[list[object]], object] = join_items
    workers: Mapping[str, object] | None = None

    @classmethod
    def of(cls, loader: object) -> ItemReader:
        """Return what reads as a loader does; by itself where it is of a class of the user's."""
        if not isinstance(loader, DataLoader):
            return cls()
        collate = join_items if loader.collate_fn is default_collate else loader.collate_fn
        return cls(collate, {name: getattr(loader, name) for name in WORKERS})

    def read_first(self, dataset: Dataset[object], n_copies: int = 1) -> tuple[object, object]:
        """Return a batch of copies of the first pair."""
        with unseen_draws():
            try:
                item = dataset.peek() if isinstance(dataset, ResumedStream) else _read_item(dataset)
            except (IndexError, StopIteration):
                _refuse_empty()
            return split_pair(self.collate([item] * n_copies))

    def find_targets(self, dataset: Dataset[object]) -> np.ndarray | None:
        """Return all targets of a data set whose type tells them."""
        return find_exact_targets(dataset) if self.collate is join_items else None

    def read_targets(self, dataset: Dataset[object]) -> tuple[np.ndarray, object]:
        """Return all targets of a map-style data set, by one pass where its type does not tell them.

        Then also the first inputs; else None.
        """
        found = self.find_targets(dataset)
        if found is not None:
            return found, None
        options: dict[str, Any] = {"generator": torch.Generator(), **(self.workers or {})}
        loader = DataLoader(dataset, batch_size=32, collate_fn=self.collate, **options)
        inputs, targets = None, []
        with unseen_draws():
            for x, y in map(split_pair, loader):
                inputs = x if inputs is None else inputs
                targets.append(np.atleast_1d(to_array(y)))
        return np.concatenate(targets), inputs


def _read_item(dataset: Dataset[object]) -> object:
    return next(iter(dataset)) if isinstance(dataset, IterableDataset) else dataset[0]


class ResumedStream(IterableDataset[object]):
    """A stream that is looked at without a loss: its first pass goes on with the iterator that was begun.

    Parameters
    ----------
    dataset : IterableDataset
        The stream, which may hand the same iterator out again, as one that reads from a queue does.
    """

    def __init__(self, dataset: IterableDataset[object]) -> None:
        self.dataset = dataset
        self.begun: Iterator[object] | None = iter(dataset)
        self.seen: list[object] = []

    def __getattr__(self, name: str) -> object:
        if "dataset" not in vars(self):  # a copy that is being made
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getstate__(self) -> dict[str, object]:
        return {"dataset": self.dataset, "begun": None, "seen": []}  # an iterator cannot be copied

    def __iter__(self) -> Iterator[object]:
        rest, self.begun = self.begun, None
        return iter(self.dataset) if rest is None else self._go_on(rest)

    def _go_on(self, rest: Iterator[object]) -> Iterator[object]:
        yield from self.seen
        with suppress(StopIteration):
            while True:  # a loop over `rest` would ask for its iterator, and so might begin it anew
                yield next(rest)

    def peek(self) -> object:
        """Return the first example."""
        if not self.seen and self.begun is not None:
            self.seen.append(next(self.begun))
        return self.seen[0]


class SizedStream(ResumedStream):
    """One whose length is known."""

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]


def keep_stream(dataset: Dataset[object], n_workers: int) -> Dataset[object]:
    """Return a stream that hands the same iterator out again so that it can be looked at; others as they are.

    Those that workers read are begun in each. A generator is taken for one that is begun anew: if it reads
    from a source that all passes share, that loses what was looked at.
    """
    if n_workers or not isinstance(dataset, IterableDataset) or isinstance(dataset, ResumedStream):
        return dataset
    with unseen_draws():
        if iter(dataset) is not iter(dataset):
            return dataset
        return SizedStream(dataset) if isinstance(dataset, Sized) else ResumedStream(dataset)


def _refuse_empty() -> NoReturn:
    raise ValueError("X must hold at least one pair; got an empty Dataset. Give it rows.") from None
