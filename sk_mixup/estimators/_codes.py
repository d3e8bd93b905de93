"""Targets become what a net is trained on: those of arrays at once, those of Datasets batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from sk_mixup._data.batches import Batch, is_pair
from sk_mixup._skorch.dataset_items import ItemReader, check_one_target, join_items, to_array
from sk_mixup.estimators._inputs import FoundTargets
from sk_mixup.estimators._labels import as_target_array
from sk_mixup.estimators._opaque_targets import OpaqueTargets
from sk_mixup.estimators._targets import TargetOptions, Targets, check_length

__all__ = ["PairEncoder", "TargetLearner"]


@dataclass(frozen=True)
class TargetLearner:
    """Checks the targets of a fit: learns what is to be known of the first, and holds later ones to it.

    Parameters
    ----------
    kinds : tuple of type
        The kinds that are taken, :class:`OpaqueTargets` among them for a loss of the user's own.
    options : TargetOptions
        What is said of the targets.
    known : Targets
        What is known of them.
    reset : bool
        Whether that is learned anew.
    must_be_told : bool
        Whether an endless stream cannot be looked through for what is to be known.
    """

    kinds: tuple[type[Targets], ...]
    options: TargetOptions
    known: Targets
    reset: bool
    must_be_told: bool

    def encode(self, y: object, n_samples: int) -> tuple[Targets, np.ndarray]:
        """Return what is known of the targets of arrays, and their codes."""
        targets, checked = self._check(as_target_array(y), n_samples)
        return targets, targets.encode(checked)

    def encode_dataset(
        self, dataset: Dataset[object], reader: ItemReader, first: object
    ) -> tuple[Targets, FoundTargets | None]:
        """Return what is known of the targets that a Dataset yields, and their codes where all are at hand.

        Parameters
        ----------
        dataset : Dataset
            Its targets are read once where they must be known and its type does not tell them.
        reader : ItemReader
            Reads it as the training iterator does.
        first : object
            The first target, as a batch.
        """
        is_opaque = OpaqueTargets in self.kinds
        if reader.collate is join_items and not is_opaque:
            check_one_target(first)
        yielded = to_array(first)
        if is_opaque and OpaqueTargets.accepts_yielded(yielded):
            return OpaqueTargets(), None
        found, inputs = self._find_all(dataset, reader)
        y = yielded if found is None else found
        if y.ndim == 2 and y.shape[1] == 1:  # as torch users write single targets
            y = y[:, 0]
        options = replace(self.options, is_whole=found is not None)
        targets, y = replace(self, options=options)._check(y, len(y))
        codes = targets.encode_yielded(y)
        if found is None:
            return targets, None
        read = codes.view(FoundTargets)
        read.inputs = inputs
        return targets, read

    def _find_all(self, dataset: Dataset[object], reader: ItemReader) -> tuple[np.ndarray | None, object]:
        """Return all targets of a Dataset where they are at hand, or must be read; and the first inputs."""
        must_read = self.reset and self.options.classes is None
        if not isinstance(dataset, IterableDataset):
            return reader.read_targets(dataset) if must_read else (reader.find_targets(dataset), None)
        if must_read and self.must_be_told:
            raise ValueError(
                "classes must be given for an IterableDataset; got None. Name all labels that it yields."
            )
        return None, None

    def _check(self, y: np.ndarray, n_samples: int) -> tuple[Targets, np.ndarray]:
        """Return what is known of targets, and the targets, checked."""
        is_known = not self.reset and self.known.takes(y)
        kind = type(self.known) if is_known else next(kind for kind in self.kinds if kind.accepts(y))
        y = kind.check(y)
        check_length(y, n_samples)
        if self.reset:
            return kind.learn(y, self.options), y
        if kind is not type(self.known):
            raise ValueError(
                f"y must be {self.known.describe()}, as in fit; got an array of shape {y.shape}. Call fit."
            )
        return self.known, y


@dataclass(frozen=True)
class PairEncoder:
    """Makes of the pairs that a Dataset yields what a net is trained on.

    Parameters
    ----------
    targets : Targets or None
        What is known of the targets; None leaves them as they are.
    cast : callable
        Brings a pair into the dtype of the module, and leaves alone what is none.
    by_class : Tensor of shape (n_classes,) or None
        The weight of each class.
    """

    targets: Targets | None
    cast: Callable[[object], object]
    by_class: Tensor | None

    def __call__(self, loaded: object) -> object:
        """Return a pair with codes in the place of labels, and with the weights of its classes."""
        if self.targets is not None and isinstance(loaded, tuple | list) and len(loaded) == 2:
            loaded = (loaded[0], self.targets.encode_batch(loaded[1]))
        pair = self.cast(loaded)
        if self.by_class is None or not is_pair(pair):
            return pair
        return Batch(pair[0], pair[1], self.by_class[pair[1].cpu()])
