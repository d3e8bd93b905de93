"""What is to be learned from a frame, and what its user should know of it."""

from __future__ import annotations

from dataclasses import dataclass, field
import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sk_mixup._compare.errors import UserError, require
from sk_mixup._validation import did_you_mean

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["FEWEST_ROWS", "Problem", "make_problem"]

# Whole numbers of so few values are taken for classes, where each occurs so often on average.
MOST_CODES, FEWEST_EACH = 20, 5
FEWEST_ROWS = 30
# Of a class: then two folds leave two to train on, which are parted once more to choose alpha.
FEWEST_OF_CLASS = 4
LARGEST = float(np.finfo(np.float32).max)  # that a net can be given
NUMBER = re.compile(r"[+-]?\d*\.?\d+([eE][+-]?\d+)?")


@dataclass
class Problem:
    """Rows and what is to be told from them."""

    X: DataFrame
    y: NDArray[np.generic]
    """Codes of classes, or real values."""
    is_classification: bool
    notes: list[str] = field(default_factory=list)
    """What was done with the table, and what looks wrong in it."""

    def describe(self) -> str:
        """Say how large it is, and of what kind."""
        size = f"{len(self.y)} rows, {self.X.shape[1]} columns"
        if self.is_classification:
            return f"classification of {size} into {len(np.unique(self.y))} classes"
        return f"regression of {size}"


def make_problem(
    frame: DataFrame, target: str, *, task: str | None, most_rows: int, n_folds: int, seed: int
) -> Problem:
    """Take the target from a frame, and leave out what cannot be learned from.

    Parameters
    ----------
    frame : DataFrame
        The table.
    target : str
        Name of the column to predict.
    task : {'classification', 'regression'} or None
        None guesses: text and truth values are classes, and so are whole numbers of few values.
    most_rows : int
        Of more rows so many are drawn.
    n_folds : int
        Classes of fewer rows, or of fewer than 4, are left out.
    seed : int
        Of the draw.

    Raises
    ------
    UserError
        If there is nothing to learn.
    """
    values = _take_target(frame, target)
    notes: list[str] = []
    known = values.notna().to_numpy()
    if not known.any():
        raise UserError(
            f"--target must name a column with values; got {target!r}, which is empty. Name another."
        )
    if not known.all():
        notes.append(f"{int((~known).sum())} of {len(known)} rows are left out: their {target!r} is missing.")
    X, values = frame.drop(columns=target)[known], values[known]
    _refuse_dates(values)
    is_classification = _guess(values) if task is None else task == "classification"
    y = _encode_classes(values) if is_classification else _read_values(values)
    if len(y) > most_rows:
        notes.append(f"{most_rows} of {len(y)} rows are used, drawn at random; --rows {len(y)} uses all.")
        drawn = np.sort(np.random.default_rng(seed).choice(len(y), most_rows, replace=False))
        X, y = X.iloc[drawn], y[drawn]
    if is_classification:
        kept = _find_frequent(y, max(n_folds, FEWEST_OF_CLASS), notes)
        X, y = X[kept], y[kept]
    X = _drop_columns(X.reset_index(drop=True), notes)
    for name in X.select_dtypes("number"):
        numbers = X[name].to_numpy(np.float64, na_value=np.nan)
        _check_sizes("FILE", name, numbers, "Leave the field empty if it is missing, or scale the column.")
    if len(y) < FEWEST_ROWS:
        hint = "Use more --rows." if len(values) > most_rows else "Give more."
        raise UserError(f"FILE must hold at least {FEWEST_ROWS} rows to learn from; got {len(y)}. {hint}")
    if n_folds > len(y):
        raise UserError(f"--folds must be at most the {len(y)} rows; got {n_folds}. Use --folds 5.")
    notes += _find_copies(X, y, is_classification, target)
    return Problem(X, y, is_classification, notes)


def _take_target(frame: DataFrame, target: str) -> Series:
    names = list(frame.columns)
    if target not in names:
        shown = ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
        hint = did_you_mean(target, names) or "Name one of them."
        if all(NUMBER.fullmatch(name.strip()) for name in names):
            hint = "Its first line holds numbers: add a header."
        raise UserError(f"--target must be a column of FILE, {shown}; got {target!r}. {hint}")
    if len(names) == 1:
        raise UserError(f"FILE must hold columns besides the target; got only {target!r}. Add features.")
    return frame[target]


# -- the target --------------------------------------------------------------------------


def _refuse_dates(values: Series) -> None:
    """Raise for points in time and spans: their numbers depend on the unit that they are stored in."""
    kind = require("pandas").api.types.infer_dtype(values)
    if kind.startswith(("date", "time", "period")):
        what = "durations" if kind.startswith("timedelta") else "dates or times"
        raise UserError(
            f"--target must name classes or numbers; got {what} in {values.name!r}. Name another, or store a "
            "number, such as days."
        )


def _guess(values: Series) -> bool:
    """Whether values are classes."""
    types = require("pandas").api.types
    if types.is_bool_dtype(values) or not types.is_numeric_dtype(values):
        return True
    numbers = values.to_numpy(dtype=np.float64)
    n_values = len(np.unique(numbers))
    return bool(np.all(np.floor(numbers) == numbers)) and n_values <= min(
        MOST_CODES, len(numbers) / FEWEST_EACH
    )


def _encode_classes(values: Series) -> NDArray[np.generic]:
    codes, classes = require("pandas").factorize(values)
    if len(classes) == 1:
        raise UserError(
            f"--target must hold at least 2 classes; got {str(classes[0])!r} in all {len(codes)} rows of "
            f"{values.name!r}. Name another column, or add rows."
        )
    if len(classes) > len(codes) / 2:
        raise UserError(
            f"--target must hold classes that occur again; got {len(classes)} in {len(codes)} rows of "
            f"{values.name!r}. Name another column, or use --task regression for numbers."
        )
    return np.asarray(codes)


def _read_values(values: Series) -> NDArray[np.generic]:
    try:
        numbers = values.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"--target must hold numbers for --task regression; got {values.iloc[0]!r} in {values.name!r}. "
            "Write numbers as 1234.5, or use --task classification for names of classes."
        ) from error
    _check_sizes("--target", values.name, numbers, "Remove such rows, or scale the column.")
    if np.all(numbers == numbers[0]):
        raise UserError(
            f"--target must hold at least 2 values; got {numbers[0]:g} in all {len(numbers)} rows of "
            f"{values.name!r}. Name another column."
        )
    return numbers


def _check_sizes(owner: str, name: object, numbers: NDArray[np.float64], hint: str) -> None:
    """Raise unless all numbers of a column can be given to a net; those that are missing are."""
    too_large = numbers[np.abs(numbers) > LARGEST]
    if too_large.size:
        raise UserError(
            f"{owner} must hold finite numbers, of at most {LARGEST:.1e}; got {too_large[0]:g} in {name!r}. "
            f"{hint}"
        )


def _find_frequent(y: NDArray[np.generic], fewest: int, notes: list[str]) -> NDArray[np.bool_]:
    """Return which rows are of classes that hold enough."""
    classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    is_rare = counts < fewest
    if is_rare.any():
        left_out = f"{int(is_rare.sum())} of {len(classes)} classes, {int(counts[is_rare].sum())} rows"
        notes.append(f"{left_out}, are left out: fewer than {fewest} rows each are too few for the folds.")
    if (~is_rare).sum() < 2:
        raise UserError(
            f"--target must hold at least 2 classes of {fewest} rows or more; got {int((~is_rare).sum())}. "
            + ("Use fewer --folds, or add rows." if fewest > FEWEST_OF_CLASS else "Add rows.")
        )
    return np.asarray(~is_rare[codes])


# -- the columns -------------------------------------------------------------------------


def _drop_columns(X: DataFrame, notes: list[str]) -> DataFrame:
    """Leave out columns without values, and numbers of rows that were saved with them."""
    empty = [name for name in X if X[name].isna().all()]
    if empty:
        notes.append(f"{_list(empty)} left out: no value is there.")
    first = X.columns[0]
    is_nameless = str(first).startswith("Unnamed:") and first not in empty
    counts = X[first].dtype.kind in "iu" or X[first].is_monotonic_increasing  # in whatever order they are
    if is_nameless and X[first].is_unique and counts:
        notes.append("the first column has no name and counts the rows: it is left out.")
        empty.append(first)
    if len(empty) == X.shape[1]:
        raise UserError("FILE must hold values in columns besides the target; got none. Add features.")
    return X.drop(columns=empty)


def _find_copies(X: DataFrame, y: NDArray[np.generic], is_classification: bool, target: str) -> list[str]:
    """Return warnings of columns that tell the target."""
    is_copy = _has_same_classes if is_classification else _is_line_of
    copies = [name for name in X if is_copy(X[name], y)]
    if not copies:
        return []
    return [f"WARNING: {_list(copies)} the same as {target!r}: remove what is not known before it."]


def _has_same_classes(column: Series, y: NDArray[np.generic]) -> bool:
    codes, values = require("pandas").factorize(column)
    n_classes = len(np.unique(y))
    return len(values) == n_classes and len(np.unique(np.stack([codes, y]), axis=1).T) == n_classes


def _is_line_of(column: Series, y: NDArray[np.generic]) -> bool:
    if not require("pandas").api.types.is_numeric_dtype(column):
        return False
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(values)
    if known.sum() < FEWEST_ROWS or np.ptp(values[known]) == 0 or np.ptp(y[known]) == 0:
        return False
    return bool(abs(np.corrcoef(values[known], y[known])[0, 1]) > 1 - 1e-9)


def _list(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"column {shown} is" if len(names) == 1 else f"columns {shown} are"
