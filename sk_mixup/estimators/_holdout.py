"""Held-out rows: which, how many, and whether anyone looks at their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
import math
from typing import Literal

import numpy as np
from skorch.callbacks.scoring import ScoringBase
from skorch.dataset import ValidSplit
from skorch.utils import is_dataset
from torch.utils.data import Dataset, IterableDataset, Subset

from sk_mixup._skorch.dataset_items import refuse_loader
from sk_mixup._skorch.datasets import unwrap_subset
from sk_mixup._validation import naming
from sk_mixup.estimators._inputs import FoundTargets
from sk_mixup.estimators._targets import Targets

__all__ = [
    "EPOCHS_OF_FEW",
    "FEWEST_HELD_OUT",
    "HeldOutPart",
    "HoldOut",
    "Stopping",
    "count_held_out",
    "count_trainable",
    "divide_rows",
    "draw_held_out",
    "is_known_few",
    "may_stop_by",
    "watches_validation",
]

# The option `early_stopping`.
Stopping = bool | Literal["auto"]
# By fewer rows early stopping goes by chance, and so many epochs on all rows are better.
FEWEST_HELD_OUT, EPOCHS_OF_FEW = 10, 50


@dataclass(frozen=True)
class HoldOut:
    """Divides the rows of a fit into those that are trained on and those that are held out.

    Parameters
    ----------
    split : callable, 'auto' or None
        The option `train_split`.
    fraction : float
        The share that 'auto' holds out.
    seed : int
        Of the rows that it draws.
    stopping : bool or 'auto'
        Whether the training is to stop by them; 'auto' where they are enough to tell epochs apart.
    is_watched : bool
        Whether anyone else looks at their scores. Where nobody does, 'auto' holds out none.
    sampler : str, default=''
        The option of the training iterator that names rows by their numbers; '' for none.
    """

    split: Literal["auto"] | Callable[..., object] | None
    fraction: float
    seed: int
    stopping: Stopping
    is_watched: bool
    sampler: str = ""

    def divide(
        self,
        dataset: Dataset[object],
        y: np.ndarray | None,
        params: Mapping[str, object],
        targets: Targets,
    ) -> tuple[object, object]:
        """Return the training set and the validation set, which is None where no rows are held out.

        Parameters
        ----------
        dataset : Dataset
            All rows.
        y : ndarray or None
            Their codes, where they are known.
        params : mapping of str to object
            What the user's split is called with beside them, such as groups.
        targets : Targets
            What is known of the targets.
        """
        split = self._find_split(dataset, y, targets)
        if split is None:
            return dataset, None
        is_given = y is not None and not (split is self.split and isinstance(y, FoundTargets))
        with naming("train_split", split, "Use skorch.dataset.ValidSplit."):
            parts = split(dataset, y, **params) if is_given else split(dataset, **params)
        train, valid = _check_parts(parts)
        refuse_loader(valid, "train_split")
        if self.sampler and isinstance(train, Subset):
            _refuse_sampler(self.sampler)
        return unwrap_subset(train), unwrap_subset(valid)

    def _find_split(
        self, dataset: Dataset[object], y: np.ndarray | None, targets: Targets
    ) -> Callable[..., object] | None:
        if self.split != "auto":
            return self.split or None
        if isinstance(dataset, IterableDataset):
            return None
        n_samples = len(dataset)  # type: ignore[arg-type]
        held_out = range(math.ceil(n_samples * self.fraction))
        if not self.is_watched and not may_stop_by(held_out, self.stopping):
            return None
        n_valid = count_held_out(n_samples, self.fraction)
        stratified = targets.can_stratify(y, n_valid)
        split: Callable[..., object] = ValidSplit(
            self.fraction, stratified=stratified, random_state=self.seed
        )
        return split


@dataclass(frozen=True)
class HeldOutPart:
    """A ``train_split`` that holds out one part of rows that were divided beforehand: that of a number."""

    number: int

    def __call__(
        self, dataset: Dataset[object], y: object = None, *, held_out_by: np.ndarray
    ) -> tuple[Dataset[object], Dataset[object]]:
        """Return the rows of all other parts, and those of this one; `held_out_by` has the part of each."""
        is_own = held_out_by == self.number
        train, valid = np.flatnonzero(~is_own), np.flatnonzero(is_own)
        return Subset(dataset, train.tolist()), Subset(dataset, valid.tolist())


def divide_rows(keys: Sequence[np.ndarray], n_parts: int, generator: np.random.Generator) -> np.ndarray:
    """Deal rows out to parts at random, so that each part has its share of every class.

    Parameters
    ----------
    keys : sequence of ndarray of shape (n_samples,)
        What is to be shared out uniformly; the first counts most.
    n_parts : int
        Number of parts.
    generator : numpy.random.Generator
        Draws the order of rows that are alike.

    Returns
    -------
    part : ndarray of shape (n_samples,)
        From 0 to ``n_parts - 1``. The sizes of parts, and the numbers of rows that they have of a value of
        the first key, differ by one at most.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.estimators._holdout import divide_rows
    >>> y = np.array([0, 0, 0, 0, 1, 1])
    >>> np.bincount(divide_rows([y], 2, np.random.default_rng(0))[y == 1])
    array([1, 1])
    """
    order = _order_rows(keys, generator)
    part = np.empty(len(order), dtype=np.int64)
    part[order] = np.arange(len(order)) % n_parts
    return part


def draw_held_out(keys: Sequence[np.ndarray], n_valid: int, generator: np.random.Generator) -> np.ndarray:
    """Return which rows are held out: so many, drawn as :func:`divide_rows` deals rows out.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.estimators._holdout import draw_held_out
    >>> y = np.array([0, 0, 0, 0, 1, 1])
    >>> is_held_out = draw_held_out([y], 3, np.random.default_rng(0))
    >>> np.bincount(y[is_held_out])
    array([2, 1])
    """
    order = _order_rows(keys, generator)
    is_held_out = np.zeros(len(order), dtype=bool)
    # As far apart as they can be.
    is_held_out[order[(2 * np.arange(n_valid) + 1) * len(order) // (2 * n_valid)]] = True
    return is_held_out


def _order_rows(keys: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Return the rows in the order of the keys, the first of which counts most, else at random."""
    return np.lexsort((generator.permutation(len(keys[0])), *reversed(keys)))


def may_stop_by(valid: object, stopping: Stopping) -> bool:
    """Whether held-out rows, if there are any, are to tell when to stop; 'auto' asks how many there are."""
    if valid is None or stopping != "auto":
        return valid is not None and bool(stopping)
    return not isinstance(valid, Sized) or len(valid) >= FEWEST_HELD_OUT


def is_known_few(train: object, valid: object, split: object) -> bool:
    """Whether it is known that the rows are too few to stop by, and not that none were to be held out."""
    if valid is None:
        return split == "auto" and isinstance(train, Sized)
    return not may_stop_by(valid, "auto")


def count_held_out(n_samples: int, validation_fraction: float, units: str = "rows") -> int:
    """Return how many rows, or other units, are held out, or raise if none is left to train on."""
    n_valid = math.ceil(n_samples * validation_fraction)
    if n_valid >= n_samples:
        raise ValueError(
            f"validation_fraction must leave {units} to train on; got {validation_fraction!r} for "
            f"{n_samples} {units}. Lower it, or set early_stopping=False."
        )
    return n_valid


def count_trainable(X: object, codes: object, weight: np.ndarray | None, targets: Targets) -> int:
    """Return how many rows may be held out: of arrays those with a label, and a weight above 0."""
    if is_dataset(X):
        return len(X)  # type: ignore[arg-type]
    trainable = targets.find_trainable(np.asarray(codes))
    return int(np.sum(trainable if weight is None else trainable & (weight > 0)))


def watches_validation(callbacks: Iterable[tuple[str, object]], default: Mapping[str, object]) -> bool:
    """Whether a callback that is no default one looks at held-out scores."""
    return any(
        str(getattr(callback, "monitor", "")).startswith("valid")
        or (isinstance(callback, ScoringBase) and not callback.on_train)
        for name, callback in callbacks
        if name not in default
    )


def _refuse_sampler(name: str) -> None:
    """Raise: the numbers of all rows, as a sampler gives them, are not those of the rows that are left."""
    raise ValueError(
        f"iterator_train__{name} must not be given where rows of X are held out, which changes the numbers "
        "of the others; got one. Set early_stopping=False or train_split=None, or hold rows out beforehand: "
        "train_split=skorch.helper.predefined_split(valid_dataset)."
    )


def _check_parts(parts: object) -> tuple[object, object]:
    """Return what a split of the user's made of the training set: two data sets, the second perhaps None."""
    given = parts if isinstance(parts, tuple | list) and len(parts) == 2 else [parts]
    if len(given) == 2 and all(
        part is None or hasattr(part, "__getitem__") or hasattr(part, "__iter__") for part in given
    ):
        return given[0], given[1]
    kinds = ", ".join(type(part).__name__ for part in given)
    raise TypeError(
        f"train_split must return two Datasets, of training and of validation; got {kinds}. Use "
        "skorch.dataset.ValidSplit, or skorch.helper.predefined_split."
    )
