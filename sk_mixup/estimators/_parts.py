"""The rows that each member of an ensemble holds out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GroupKFold
from sklearn.utils.validation import check_consistent_length

from sk_mixup._random import draw_seed
from sk_mixup.estimators._holdout import count_held_out, divide_rows, draw_held_out
from sk_mixup.estimators._labels import as_target_array

__all__ = ["Parts", "find_weightless"]


@dataclass(frozen=True)
class Parts:
    """Divides rows among members, of which each holds out a part of its own.

    Parameters
    ----------
    n_members : int
        How many there are. Several hold out all rows; a single one what a net by itself would.
    fraction : float
        The share that a net by itself holds out, in (0, 1).
    generator : numpy.random.Generator
        Draws the rows.
    """

    n_members: int
    fraction: float
    generator: np.random.Generator

    def draw(self, y: object, counts: np.ndarray, groups: object) -> np.ndarray:
        """Return the number of the member that holds out each row, from 0; `n_members` for none.

        Parameters
        ----------
        y : array-like of shape (n_samples, ...) or None
            Targets; each class is shared out uniformly.
        counts : ndarray of shape (n_samples,)
            Whether a row has a weight above 0. No member trains on the others.
        groups : array-like of shape (n_samples,) or None
            What is held out together; classes are then not looked at.
        """
        if groups is not None:
            return self._draw_groups(_check_groups(groups, len(counts)), counts)
        keys = [np.zeros(len(counts)), *_find_keys(y, counts)]
        if self.n_members > 1:
            return self._divide([~counts, *keys], int(counts.sum()))
        n_valid = count_held_out(int(counts.sum()), self.fraction)
        part = np.zeros(len(counts), dtype=np.int64)
        part[counts] = ~draw_held_out([key[counts] for key in keys], n_valid, self.generator)
        return part

    def _divide(self, keys: list[np.ndarray], n_counted: int) -> np.ndarray:
        if n_counted < self.n_members:
            raise ValueError(
                "n_members must be at most the number of rows with a weight, as each is held out by one "
                f"member; got {self.n_members} members for n_samples={n_counted}. Lower it, or set "
                "estimator__early_stopping=False."
            )
        return divide_rows(keys, self.n_members, self.generator)

    def _draw_groups(self, groups: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Share out the groups that hold a row with a weight; the others are held out by none."""
        labels, number = np.unique(groups, return_inverse=True)
        is_counted = np.bincount(number, weights=counts, minlength=len(labels)) > 0
        n_counted, holder = int(is_counted.sum()), np.full(len(labels), self.n_members)
        if self.n_members == 1:
            n_valid = count_held_out(n_counted, self.fraction, "groups")
            holder[is_counted] = ~draw_held_out([np.zeros(n_counted)], n_valid, self.generator)
            return np.asarray(holder[number])
        if n_counted < self.n_members:
            raise ValueError(
                f"n_members must be at most the number of groups with a weight, each held out by one member; "
                f"got {self.n_members} for {n_counted} groups. Lower it, or leave groups out."
            )
        counted = groups[counts]
        folds = GroupKFold(self.n_members, shuffle=True, random_state=draw_seed(self.generator))
        for member, (_, held_out) in enumerate(folds.split(counted, groups=counted)):
            holder[number[counts][held_out]] = member
        return np.asarray(holder[number])


def find_weightless(y: object, class_weight: object, n_samples: int) -> np.ndarray:
    """Return which rows are of a class that weighs 0."""
    weights = class_weight if isinstance(class_weight, Mapping) else {}
    of_none = [label for label, weight in weights.items() if weight == 0]
    if not of_none or y is None:
        return np.zeros(n_samples, dtype=bool)
    labels = as_target_array(y)
    is_flat = labels.size == n_samples
    return np.array([is_flat and label in of_none for label in labels.reshape(n_samples, -1)[:, 0].tolist()])


def _check_groups(groups: object, n_samples: int) -> np.ndarray:
    labels = as_target_array(groups, "groups")
    if labels.shape != (n_samples,):
        raise ValueError(
            f"groups must hold one group per row; got shape {labels.shape} for {n_samples} rows. Give an "
            f"array of shape ({n_samples},)."
        )
    return labels


def _find_keys(y: object, counts: np.ndarray) -> list[np.ndarray]:
    """Return what is to be shared out uniformly: the labels, where there are any."""
    if y is None:
        return []
    targets = as_target_array(y)
    check_consistent_length(targets, counts)
    return [_number_labels(targets)]


def _number_labels(y: np.ndarray) -> np.ndarray:
    """Return a number for each row: that of its label, or labels; of soft ones, of the most probable."""
    is_column = y.ndim == 1 or y.shape[1:] == (1,)
    if y.ndim > 2:
        return np.zeros(len(y), dtype=np.int64)
    if not is_column and y.dtype.kind == "f":
        return np.asarray(y.argmax(axis=1))
    try:
        axis = None if is_column else 0
        return np.unique(y, axis=axis, return_inverse=True)[1].ravel()
    except TypeError:  # labels that have no order are refused by the members
        return np.zeros(len(y), dtype=np.int64)
