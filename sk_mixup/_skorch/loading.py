"""How the rows of an epoch are served: by its plan, or in the order of an iterator of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
import inspect
from typing import Any, TypeVar

import numpy as np
from skorch.dataset import get_len
from skorch.utils import to_tensor
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sk_mixup._data.batches import PlannedBatches, RowSlices, SentPlan, is_pair, join_features
from sk_mixup._data.planned_loader import PlannedLoader
from sk_mixup._data.storage import Rows
from sk_mixup._random import draw_seed
from sk_mixup._skorch.dataset_items import ItemReader, check_one_target, join_items, split_pair
from sk_mixup._skorch.datasets import refuse_weights
from sk_mixup._skorch.processes import Processes
from sk_mixup._validation import naming
from sk_mixup.mixing import ERM, RowFacts, Vicinity

__all__ = ["SAMPLERS", "FitLoaders", "Loading", "is_made_by_net", "keeping_loaders", "make_iterator"]

# What our own iterators understand of a DataLoader's options; the rest needs a DataLoader.
PLAN_OPTIONS = {"batch_size", "shuffle", "drop_last", "generator"}
# Options that name rows; that they are there changes what others mean. Their default is None.
SAMPLERS = ("sampler", "batch_sampler")
WORKER_OPTIONS = {"num_workers", "pin_memory", "persistent_workers", "prefetch_factor", "timeout"}


L = TypeVar("L")


class NetGenerator(torch.Generator):
    """What a loader draws from that was given no generator: each epoch seeds it anew."""


class NetLoader(DataLoader[Any]):
    """A loader that a net has made by its own options: in training the order of rows is the plan's."""


def is_made_by_net(loader: object, dataset: object) -> bool:
    """Whether a net has made this loader of a data set, and no `get_iterator` of the user's."""
    if isinstance(loader, RowSlices):
        return loader.rows is dataset
    return isinstance(loader, NetLoader) and loader.dataset is dataset


class FitLoaders:
    """The loaders of a fit, each made once, as skorch does: their workers may go on from epoch to epoch."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, str], tuple[object, Any]] = {}

    def get(self, dataset: object, name: str, make: Callable[[], L]) -> L:
        """Return the loader of that name for a data set, made anew if there is none yet."""
        if (id(dataset), name) in self._made:
            made: L = self._made[id(dataset), name][1]
            return made
        loader = make()
        if not isinstance(loader, Iterator):  # which is at its end after an epoch
            self._made[id(dataset), name] = dataset, loader  # no other data set has that id then
        return loader

    def __reduce__(self) -> tuple[type[FitLoaders], tuple[()]]:
        return FitLoaders, ()  # a net that is saved within a fit leaves its workers behind


@contextmanager
def keeping_loaders(net: object) -> Iterator[None]:
    """Let a net keep the loaders that it makes inside."""
    vars(net)["_fit_loaders"] = FitLoaders()
    try:
        yield
    finally:
        vars(net).pop("_fit_loaders", None)


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
    loaders : FitLoaders
        What was made in earlier epochs.
    own : iterable or None
        What a `get_iterator` of the user's has made, whose order holds.
    """

    iterator: Callable[..., Iterable[Any]]
    options: Mapping[str, Any]
    batch_size: int
    device: torch.device
    dtype: torch.dtype
    read: Callable[[object], object]
    loaders: FitLoaders = field(default_factory=FitLoaders)
    own: Iterable[Any] | None = None

    @property
    def orders_rows(self) -> bool:
        """Whether the iterator has an order of its own."""
        by_options = self.iterator is not DataLoader or not self._extras.isdisjoint(SAMPLERS)
        return by_options or self.own is not None

    @property
    def _extras(self) -> set[str]:
        return set(self.options.keys() - PLAN_OPTIONS - WORKER_OPTIONS)

    def _refuse_weights(self, dataset: object) -> None:
        """Raise rather than train without the weights: only whole tensors carry them."""
        if self.orders_rows or self._extras:
            option = "iterator_train" if self.own is None else "get_iterator"
            refuse_weights(getattr(dataset, "weight", None), option)

    def peek(self, dataset: Dataset[object]) -> object:
        """Return inputs of a batch as they are read; of a Dataset the first row, as often as it has rows."""
        size: Any = self.options.get("batch_size", self.batch_size)
        n_rows = get_len(dataset) if size in (-1, None) else min(get_len(dataset), size)
        if isinstance(dataset, Rows):
            return dataset.take(np.arange(n_rows))[0]
        reader = ItemReader(self.options.get("collate_fn", join_items))
        return to_tensor(split_pair(self.read(reader.read_first(dataset, n_rows)))[0], self.device)

    def draw_epoch(
        self,
        dataset: Dataset[Any],
        policy: Vicinity,
        facts: RowFacts,
        generator: np.random.Generator,
        processes: Processes,
        get_iterator: Callable[..., Iterable[object]],
    ) -> Iterable[object]:
        """Return the batches of an epoch, whose plan is drawn by a policy.

        `generator` is the epoch's own; `get_iterator` is the net's, for an order that is not ours.
        """
        self._refuse_weights(dataset)
        if not self.orders_rows and not isinstance(dataset, IterableDataset):
            return self._plan_epoch(dataset, policy, facts, generator, processes)
        of_process = generator if processes.n_processes == 1 else processes.spawn(generator)
        loader: Any = self.own
        if loader is None:
            loader = self.loaders.get(dataset, "train", lambda: get_iterator(dataset, training=True))
        if isinstance(getattr(loader, "generator", None), NetGenerator):
            loader.generator.manual_seed(draw_seed(generator.spawn(1)[0]))  # alike in all processes
        return self._mix_loaded(processes.shard(loader), policy, facts, of_process)

    def _plan_epoch(
        self,
        dataset: Dataset[Any],
        policy: Vicinity,
        facts: RowFacts,
        generator: np.random.Generator,
        processes: Processes,
    ) -> PlannedBatches | PlannedLoader:
        """Draw the plan of an epoch and return its batches."""
        if (own := self.options.get("generator")) is not None:
            generator = np.random.default_rng(_draw_seed_of_torch(own))
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
        loader = self.loaders.get(dataset, "planned", lambda: self._make_loader(dataset))
        # The seed of its workers; without one, each epoch would have the same.
        loader.generator.manual_seed(draw_seed(processes.spawn(generator)))
        read = self.read if plan.is_plain else self._read_to_mix
        return PlannedLoader(loader, plan, self.device, self.dtype, read)

    def _read_to_mix(self, loaded: object) -> Any:
        """Return a pair whose targets can be mixed, or raise."""
        x, y = split_pair(self.read(loaded))
        check_one_target(y, "leave rows unmixed, by alpha=0 and no vicinity")
        return x, y

    def _make_loader(self, dataset: Dataset[object]) -> DataLoader[object]:
        """Return a loader that waits for the rows of a plan."""
        options = {key: value for key, value in self.options.items() if key not in PLAN_OPTIONS}
        options.setdefault("collate_fn", join_items)
        # A generator of its own keeps it from drawing on torch's global one.
        return DataLoader(dataset, batch_sampler=[], generator=torch.Generator(), **options)

    def _mix_loaded(
        self, iterator: Iterable[Any], policy: Vicinity, facts: RowFacts, generator: np.random.Generator
    ) -> Iterator[Any]:
        """Draw the plan batch by batch, for an iterator whose order is not ours."""
        if isinstance(policy, ERM):  # what is no pair is for a step of the user's own
            yield from _join_last_row(map(self.read, iterator), _count_batches(iterator))
            return
        for loaded in _join_last_row(map(self._read_to_mix, iterator), _count_batches(iterator)):
            x, y = (to_tensor(part, self.device) for part in loaded)
            shape = tuple(x.shape[1:]) if isinstance(x, Tensor) else None
            of_batch = facts.of_batch(shape, is_dense=y.ndim > 2)
            policy.check(of_batch)
            plan = policy(generator, get_len(y), -1, facts=of_batch, shuffle=False)
            yield SentPlan(plan, y.device, self.dtype).make_batch(x, y, None, 0, 1)


def make_iterator(
    name: str,
    iterator: Callable[..., Iterable[object]],
    dataset: Any,
    options: dict[str, Any],
    batch_size: int,
) -> Iterable[object]:
    """Return the batches of a data set as a net's iterator serves them; its options are changed."""
    size: Any = options.get("batch_size", batch_size)
    # In training a wrapper of the user's may take the batches as they come.
    is_in_order = name == "iterator_valid" or not any(map(options.get, ("shuffle", "drop_last", "generator")))
    is_plain = iterator is DataLoader and isinstance(dataset, Rows) and not options.keys() - PLAN_OPTIONS
    if is_plain and is_in_order:
        return RowSlices(dataset, len(dataset) if size == -1 else size)
    is_loader = inspect.isclass(iterator) and issubclass(iterator, DataLoader)
    if is_loader and _takes_generator(iterator):
        options.setdefault("generator", NetGenerator())
    if iterator is DataLoader:
        options.setdefault("collate_fn", join_items)
    options["batch_size"] = get_len(dataset) if size == -1 else size
    if "batch_sampler" in options:
        del options["batch_size"]
    make = NetLoader if iterator is DataLoader else iterator
    with naming(name, iterator, "Use torch.utils.data.DataLoader."):
        loader: Any = make(dataset, **options)
    if is_loader and "generator" not in options and loader.generator is None:
        loader.generator = NetGenerator()  # else it would draw seeds of workers from torch's global one
    return loader


def _takes_generator(iterator: Callable[..., object]) -> bool:
    parameters = inspect.signature(iterator).parameters.values()
    return any(part.name == "generator" or part.kind is part.VAR_KEYWORD for part in parameters)


def _draw_seed_of_torch(generator: object) -> int:
    """Draw a seed from a generator of the user's own, which decides all that an epoch draws."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"iterator_train__generator must be a torch.Generator or None; got {generator!r}. Set "
            "random_state for an order that can be repeated."
        )
    return int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))


def _count_batches(iterator: Iterable[object]) -> int | None:
    """Return how many batches an iterator says it has; None where it does not know."""
    try:
        return len(iterator)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def _join_last_row(batches: Iterable[Any], n_batches: int | None) -> Iterator[Any]:
    """Join a last batch of one row to a larger one before it, as `batch_bounds` does.

    Alone it has no partner, and batch normalisation cannot take it. A batch that waits for the next is kept
    in a copy, as its loader may fill one buffer again and again; of so many only the last but one waits.
    """
    held: list[Any] = []  # a batch, and a single row that came after it
    for number, loaded in enumerate(batches, 1):
        if len(held) == 2 or not _has_one_row(loaded):
            yield from held
            held = []
        if not held and n_batches is not None and number < n_batches - 1:
            yield loaded
        else:
            held.append(_keep(loaded))
    if len(held) == 2 and not _has_one_row(held[0]) and _list_shapes(held[0]) == _list_shapes(held[1]):
        held = [join_features(*held)]
    yield from held


def _keep(loaded: object) -> object:
    """Return a batch that stays as it is while the next is loaded."""
    if isinstance(loaded, Tensor):
        return loaded.clone()
    if type(loaded) is tuple:
        return tuple(map(_keep, loaded))
    if type(loaded) is list:
        return [_keep(part) for part in loaded]
    if isinstance(loaded, Mapping):
        return {name: _keep(part) for name, part in loaded.items()}
    return loaded.copy() if isinstance(loaded, np.ndarray) else loaded


def _has_one_row(loaded: object) -> bool:
    return is_pair(loaded) and loaded[1].shape[:1] == (1,)


def _list_shapes(loaded: object) -> object:
    """Return the shape of a row, of each part; what is no tensor is like nothing else."""
    if isinstance(loaded, Mapping):
        return {name: _list_shapes(part) for name, part in loaded.items()}
    if isinstance(loaded, tuple | list):
        return [_list_shapes(part) for part in loaded]
    return loaded.shape[1:] if isinstance(loaded, Tensor) else object()
