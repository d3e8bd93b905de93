"""Which columns of a table are one feature, which hold categories, and what they say of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from joblib import parallel_config
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sk_mixup._validation import did_you_mean

__all__ = ["Categorical", "Columns", "check_categorical", "find_columns", "measure_information"]

# A column by its position or name, or the one-hot columns of one category; or a mask of all columns.
Entry = int | str | tuple[int | str, ...]
Named = tuple[Entry, ...]
Categorical = Literal["auto"] | Named
# Mutual information is measured on at most so many rows.
MOST_ROWS = 5000
# What scikit-learn's estimate needs: more rows than its neighbours.
FEWEST_ROWS = 5
# So many rows of a table are compared at once.
CHUNK = 2**14


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are one feature: a number, or a category in one or several columns.

    Attributes
    ----------
    feature : ndarray of shape (n_columns,), dtype int64
        The feature of each column; categories come first.
    n_features : int
        How many features there are.
    n_categories : int
        How many of them are categories.
    """

    feature: NDArray[np.int64]
    n_features: int
    n_categories: int


def check_categorical(value: object) -> Categorical:
    """Return which columns a user says are categories, in a form that can be hashed, or raise.

    Raises
    ------
    TypeError, ValueError
        If it is neither 'auto' nor a sequence of columns.
    """
    if isinstance(value, str) and value == "auto":
        return "auto"
    entries = _read_entries(value)
    kinds = {isinstance(entry, bool) for entry in entries or ()}
    if entries is None or len(kinds) > 1:
        raise (ValueError if isinstance(value, str) else TypeError)(
            "categorical_features must be 'auto', a mask of booleans, or a sequence of columns; got "
            f"{value!r}. Give positions or names, those of the one-hot columns of one category as a tuple, "
            "such as (0, 3, (4, 5, 6)), or () for none."
        )
    return entries


def _read_entries(value: object, *, nested: bool = True) -> tuple[Entry, ...] | None:
    """Return the columns that a sequence names, or None if it names none."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, tuple | list | range):
        return None
    entries: list[Entry] = []
    for each in value:
        if isinstance(each, str) or (nested and isinstance(each, bool | np.bool_)):
            entries.append(each if isinstance(each, str) else bool(each))
        elif isinstance(each, Integral) and not isinstance(each, bool):
            entries.append(int(each))
        elif nested and (inner := _read_entries(each, nested=False)):
            entries.append(inner)  # type: ignore[arg-type]  # one level deep
        else:
            return None
    return tuple(entries)


def find_columns(categorical: Named, n_columns: int, names: Sequence[str] | None) -> Columns:
    """Return the features of a table of which the user has named the categories.

    Raises
    ------
    ValueError
        If a column is not there, or is named twice.
    """
    if categorical and isinstance(categorical[0], bool):
        if len(categorical) != n_columns:
            raise ValueError(
                f"categorical_features must be a mask of all columns of X; got {len(categorical)} booleans "
                f"for {n_columns} columns. Give one for each."
            )
        categorical = tuple(np.flatnonzero(categorical).tolist())
    groups = [
        [_locate(name, n_columns, names) for name in (entry if isinstance(entry, tuple) else (entry,))]
        for entry in categorical
    ]
    _, counts = np.unique([column for group in groups for column in group], return_counts=True)
    if np.any(counts > 1):
        raise ValueError(
            f"categorical_features must name each column once; got {categorical!r}. Leave out what is there "
            "twice."
        )
    return _number(groups, n_columns)


def _locate(name: int | str, n_columns: int, names: Sequence[str] | None) -> int:
    """Return the position of a column."""
    known = [] if names is None else list(names)
    if isinstance(name, str) and name in known:
        return known.index(name)
    if not isinstance(name, str) and 0 <= name < n_columns:
        return name
    if not isinstance(name, str):
        rule, hint = f"lie in [0, {n_columns})", "Give positions in X."
    elif names is None:
        rule, hint = "be positions where X has no names of columns", "Give positions, or X as a data frame."
    else:
        rule, hint = "name columns of X", did_you_mean(name, known) or "Give names as they are in X."
    raise ValueError(f"categorical_features must {rule}; got {name!r}. {hint}")


def _number(groups: Sequence[Sequence[int]], n_columns: int) -> Columns:
    """Return the features of a table: groups of columns first, then every other column."""
    feature = np.full(n_columns, -1)
    for number, group in enumerate(groups):
        feature[list(group)] = number
    others = np.flatnonzero(feature < 0)
    n_features = len(groups) + len(others)
    feature[others] = np.arange(len(groups), n_features)
    return Columns(feature, n_features, len(groups))


def detect_columns(table: np.ndarray | sparse.csc_matrix, is_category: NDArray[np.bool_] | None) -> Columns:
    """Return the features of a table by its values.

    Columns of at most two values are categories, and so are those of `is_category`. Adjacent columns of two
    values are one category as long as no row has the larger value in two of them: one-hot columns, scaled or
    not; once each row has it in one, the next category begins.
    """
    high, is_binary = _find_binary(table)
    given = np.zeros_like(is_binary) if is_category is None else is_category
    groups = [[column] for column in np.flatnonzero(given).tolist()]
    last, taken = -2, np.empty(0)
    for column in np.flatnonzero(is_binary & ~given).tolist():
        own = _take(table, [column])[:, 0] == high[column]
        own &= not own.all()  # a constant is high nowhere
        if column == last + 1 and not taken.all() and not np.any(taken & own):
            groups[-1].append(column)
            taken = taken | own
        else:
            groups.append([column])
            taken = own
        last = column
    return _number(groups, table.shape[1])


def _take(table: np.ndarray | sparse.csc_matrix, columns: Sequence[int] | NDArray[np.int64]) -> np.ndarray:
    part = table[:, columns]
    return part.toarray() if hasattr(part, "toarray") else part


def _find_binary(table: np.ndarray | sparse.csc_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest value of each column, and whether it has at most two values."""
    low, high = table.min(axis=0), table.max(axis=0)
    if hasattr(table, "indptr"):
        low, high, counts = low.toarray().ravel(), high.toarray().ravel(), np.diff(table.indptr)
        column = np.repeat(np.arange(len(counts)), counts)
        differs = (table.data != low[column]) & (table.data != high[column])
        differs_zero = (counts < table.shape[0]) & (low != 0) & (high != 0)
        return high, ~differs_zero & (np.bincount(column[differs], minlength=len(counts)) == 0)
    is_binary = np.ones(table.shape[1], dtype=bool)
    for start in range(0, len(table), CHUNK):
        part = table[start : start + CHUNK, is_binary]
        is_binary[is_binary] = np.all((part == low[is_binary]) | (part == high[is_binary]), axis=0)
    return high, is_binary


def measure_information(
    table: np.ndarray | sparse.csc_matrix, columns: Columns, target: np.ndarray, *, is_class: bool
) -> NDArray[np.float64]:
    """Return the mutual information of each feature with the target, in nats, as scikit-learn estimates it.

    Parameters
    ----------
    table : ndarray or sparse matrix of shape (n_samples, n_columns)
        The examples; 5,000 of them, evenly spaced, if there are more.
    columns : Columns
        Its features. A category in several columns is one discrete variable.
    target : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        Class of each row, or real values, of which the mean over the outputs counts.
    is_class : bool
        Which of both.

    Returns
    -------
    information : ndarray of shape (n_features,)
        Ones where no feature says anything, or there are too few rows to tell.
    """
    n = table.shape[0]
    information = np.zeros(columns.n_features)
    if n >= FEWEST_ROWS:
        rows = np.arange(n) if n <= MOST_ROWS else np.linspace(0, n - 1, MOST_ROWS).astype(np.int64)
        codes = np.unique(target, return_inverse=True)[1] if is_class else target
        part, outputs = table[rows], codes.reshape(n, -1)[rows].T
        order = np.argsort(columns.feature, kind="stable")
        for number, group in enumerate(np.split(order, np.cumsum(np.bincount(columns.feature))[:-1])):
            values, is_category = _take(part, group), number < columns.n_categories
            if is_category:
                values = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1, 1)
            information[number] = np.mean([_measure(values, y, is_category, is_class) for y in outputs])
    return information if information.any() else np.ones(columns.n_features)


def _measure(values: np.ndarray, target: np.ndarray, is_category: bool, is_class: bool) -> float:
    if not np.ptp(values):
        return 0.0  # an estimate of the noise that scikit-learn adds
    if is_category != is_class and len(np.unique(values if is_category else target)) == len(values):
        return 0.0  # no two rows to compare the numbers of
    # Few need it, and it loads much of scikit-learn.
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
    from sklearn.metrics import mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    if is_category and is_class:  # counted here: for many categories scikit-learn 1.7 would warn
        counts = contingency_matrix(values[:, 0], target)
        return max(0.0, float(mutual_info_score(values[:, 0], target, contingency=counts)))
    measure = mutual_info_classif if is_class else mutual_info_regression
    with parallel_config("sequential"):  # else neighbours are sought in as many parts as nets are stacked
        return float(measure(values, target, discrete_features=is_category, random_state=0)[0])
