"""Warnings before harm: data and settings that are allowed, and with which a net learns little."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
import math
from typing import Any, Protocol, TypeGuard

import numpy as np
from scipy import sparse
from sklearn.utils import Tags
from skorch.dataset import Dataset as SkorchDataset
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from sk_mixup._skorch.datasets import is_mapped
from sk_mixup._tensors import to_host
from sk_mixup._warning import warn_user
from sk_mixup.estimators._holdout import FEWEST_HELD_OUT, HeldOutPart
from sk_mixup.estimators._inputs import is_mapping
from sk_mixup.stacking._reach import find_missed

__all__ = [
    "choose_rows",
    "explaining_columns",
    "find_categories",
    "warn_best_is_first",
    "warn_few_held_out",
    "warn_input",
    "warn_labels",
    "warn_out_of_reach",
]

# A standard deviation or a mean beyond it is far from that of standardised columns.
LARGEST_STD, LARGEST_MEAN = 30.0, 150.0
# Columns that move a row, all together, by less than that are too small to be seen.
SMALLEST = 0.1
# Fewer rows may be close together by chance.
FEWEST_ROWS = 20
# Of large arrays so many rows, or so many numbers, are looked at.
MOST_ROWS, MOST_NUMBERS = 1000, 2**18
# So many columns that seem far are looked at whole: a copy of all could be too large.
MOST_COLUMNS = 8
# Integers in a frame with so many values, without a gap from 0 or 1, look like codes of categories.
FEWEST_CODES, MOST_CODES = 3, 20

# What passes inputs on as they are; and what takes them as they are, so that their scale counts.
PASSES_ON = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout)
TAKES_PLAIN = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase)

MARKERS = ("unlabelled", "unlabeled", "unknown", "missing", "none", "nan", "n/a", "na", "?", "")


class Learner(Protocol):
    """An estimator, as far as advice is about it."""

    def __sklearn_tags__(self) -> Tags:
        """Return its tags."""


class Column(Protocol):
    """A column of a frame of pandas or polars."""

    dtype: object

    def __array__(self) -> np.ndarray:
        """Return its values."""

    def __getitem__(self, rows: slice) -> Column:
        """Return some of its rows."""


# -- X -----------------------------------------------------------------------------------


def warn_input(learner: Learner, module: nn.Module | None, given: object, X: object) -> None:
    """Warn of inputs far from unit scale, and of integers that look like codes of categories.

    Parameters
    ----------
    learner : estimator
        That is to be trained.
    module : Module or None
        What takes the inputs as floating numbers, if it is known.
    given : array-like or Dataset
        What the user gave.
    X : ndarray, sparse matrix, mapping, Dataset or None
        What was made of it; of a Dataset whose type does not tell its arrays, the first inputs.
    """
    owner = type(learner).__name__
    if _is_frame(given) and not _embeds(module):
        _warn_codes(given, owner)
    if not _takes_plain(module):
        return
    names = getattr(learner, "feature_names_in_", None)
    for label, part in _list_arrays(X):
        found = _find_far_column(part)
        if found is not None:
            column, mean, std = found
            where = _name_column(label, column, names)
            is_table = not (is_mapping(given) or isinstance(given, Dataset))
            warn_user(
                f"X must be near unit scale for a network to learn well; got mean {mean:.2g} and standard "
                f"deviation {std:.2g} in {where}. {_how_to_scale(part, owner if is_table else '')}"
            )
            return


def choose_rows(kept: np.ndarray, X: object) -> np.ndarray:
    """Return some of these rows of arrays, few enough to be copied."""
    width = max((math.prod(getattr(part, "shape", ())[1:]) for _, part in _list_arrays(X)), default=1)
    n_chosen = max(min(MOST_ROWS, MOST_NUMBERS // (8 * max(width, 1))), 8)
    return kept[:: -(-len(kept) // n_chosen)]


def _embeds(module: nn.Module | None) -> bool:
    """Whether codes of categories are what a module is made for."""
    parts = () if module is None else module.modules()
    return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in parts)


def _takes_plain(module: nn.Module | None) -> bool:
    """Whether the first layer takes inputs as they are; normalising and embedding layers do not."""
    for part in () if module is None else module.modules():
        if any(buffer is not None for buffer in part._buffers.values()):  # such as a mean to subtract
            return False
        if not part._modules and not isinstance(part, PASSES_ON):
            return isinstance(part, TAKES_PLAIN)
    return False


def _find_inputs(dataset: object) -> Iterator[object]:
    """Yield the inputs that data sets hold of types that yield what they hold."""
    kind = type(dataset)
    if isinstance(dataset, Subset) and kind is Subset:
        yield from _find_inputs(dataset.dataset)
    elif isinstance(dataset, ConcatDataset) and kind is ConcatDataset:
        for part in dataset.datasets:
            yield from _find_inputs(part)
    elif isinstance(dataset, TensorDataset) and kind is TensorDataset:
        yield dataset.tensors[0]
    elif kind is SkorchDataset:
        yield dataset.X  # type: ignore[attr-defined]
    elif not isinstance(dataset, Dataset):
        yield dataset


def _list_arrays(X: object) -> Iterator[tuple[str, np.ndarray | sparse.sparray]]:
    """Yield the arrays of numbers that there are without reading items of a Dataset, and their names."""
    for inputs in _find_inputs(X):
        parts: dict[str, object] = {"X": inputs}
        kinds = "fiu"  # integers become floats, but those of a mapping may be ids
        if is_mapping(inputs):
            parts, kinds = {f"X[{name!r}]": part for name, part in inputs.items()}, "f"
        for label, part in parts.items():
            values = part if sparse.issparse(part) else to_host(part)
            if sparse.issparse(values) or _is_real(values, kinds):
                yield label, values


def _is_real(part: object, kinds: str) -> TypeGuard[np.ndarray]:
    return isinstance(part, np.ndarray) and part.ndim > 1 and part.dtype.kind in kinds and part.size > 0


def _find_far_column(X: np.ndarray | sparse.sparray) -> tuple[int | None, float, float] | None:
    """Return the column that is farthest from unit scale, its mean and standard deviation; None for none."""
    n_rows, n_features = X.shape[0], math.prod(X.shape[1:])
    n_looked_at = max(min(MOST_ROWS, MOST_NUMBERS // max(n_features, 1)), 8)
    step = max(n_rows // n_looked_at, 1)
    columns = np.arange(n_features) if X.ndim == 2 else None
    far, mean, std = _measure(X[::step])
    if step > 1 and far.any() and columns is not None and not is_mapped(X):  # a sample may mislead
        how_far = np.where(far, np.maximum(np.abs(mean), std), -1.0)
        columns = np.argsort(-how_far, kind="stable")[: min(int(far.sum()), MOST_COLUMNS)]
        far, mean, std = _measure(X[:, columns], n_features)
    if not far.any():
        return None
    worst = int(np.argmax(np.where(far, np.maximum(np.abs(mean), std), -1.0)))
    return None if columns is None else int(columns[worst]), float(mean[worst]), float(std[worst])


def _measure(
    X: np.ndarray | sparse.sparray, n_features: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which columns are far from unit scale, their means and standard deviations."""
    if sparse.issparse(X):
        return _measure_sparse(X)
    width = X.shape[1] if n_features is None else n_features
    X = X if X.ndim == 2 else X.reshape(-1, 1)  # pixels and samples have one scale
    with np.errstate(over="ignore", invalid="ignore"):
        mean = X.mean(axis=0, dtype=np.float64)
        centred = X - mean
        std = np.sqrt(np.einsum("ij,ij->j", centred, centred) / len(X))
        reach = np.maximum(centred.max(axis=0), -centred.min(axis=0))
    is_small = (len(X) >= FEWEST_ROWS) & (std > 0) & (std * math.sqrt(width) < SMALLEST) & (reach < SMALLEST)
    is_small &= np.abs(mean) * 1e-6 < std  # else a constant, up to rounding
    return _is_large(mean, std) | is_small, mean, std


def _measure_sparse(X: sparse.sparray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    X = X.astype(np.float64)
    mean = np.asarray(X.mean(axis=0)).ravel()
    square = np.asarray(X.multiply(X).mean(axis=0)).ravel()
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return _is_large(mean, std), mean, std


def _is_large(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    return (np.abs(mean) > LARGEST_MEAN) | (std > LARGEST_STD)


def _name_column(label: str, column: int | None, names: np.ndarray | None) -> str:
    if column is None:
        return label
    return f"column {column if names is None else names[column]!r} of {label}"


def _how_to_scale(part: np.ndarray | sparse.sparray, owner: str) -> str:
    """Say what to do; a Dataset or a mapping, for which `owner` is '', is no table that a pipeline takes."""
    scaler = f"StandardScaler({'with_mean=False' if sparse.issparse(part) else ''})"
    if part.ndim > 2:
        return "Use (X - X.mean()) / X.std(), or X / 255 for pixels."
    if not owner:
        return f"Scale the arrays beforehand, such as by {scaler}.fit_transform."
    return f"Use make_pipeline({scaler}, {owner}(...))."


# -- frames ------------------------------------------------------------------------------


def _is_frame(X: object) -> bool:
    return hasattr(X, "columns") and hasattr(X, "dtypes") and hasattr(X, "__len__")  # a lazy one has no rows


def _list_columns(frame: object, is_wanted: Callable[[str], bool] = bool) -> list[tuple[object, Column]]:
    """Return the names and the columns of a frame of pandas or polars whose dtype is wanted."""
    X: Any = frame
    dtypes = list(X.dtypes)
    kinds = {dtype for dtype in set(dtypes) if is_wanted(str(dtype).lower())}
    wanted = [j for j, dtype in enumerate(dtypes) if dtype in kinds]
    return [(X.columns[j], X.iloc[:, j] if hasattr(X, "iloc") else X[X.columns[j]]) for j in wanted]


def find_categories(X: object) -> np.ndarray | None:
    """Return which columns of a frame of pandas or polars are of a categorical dtype; None for no frame."""
    if not _is_frame(X):
        return None
    frame: Any = X
    return np.array([str(dtype).lower().startswith(("categor", "enum")) for dtype in frame.dtypes])


def _warn_codes(X: object, owner: str) -> None:
    found = [name for name, column in _list_columns(X, _may_be_codes) if _looks_coded(column)]
    if found:
        warn_user(
            "X must hold quantities, not codes of categories; got whole numbers of few values in "
            f"{_join(found)}. If they are categories, use make_pipeline(make_column_transformer(("
            "OneHotEncoder("
            f"handle_unknown='ignore'), {found[:5]}), remainder=StandardScaler()), {owner}(...)); if they "
            "are counts or grades, StandardScaler makes them floats."
        )


def _may_be_codes(dtype: str) -> bool:
    return dtype == "category" or dtype.lstrip("u").startswith("int")


def _looks_coded(column: Column) -> bool:
    try:
        values = np.unique(np.asarray(column[:MOST_ROWS]))
    except TypeError:  # values that have no order
        return False
    if not FEWEST_CODES <= len(values) <= MOST_CODES or values.dtype.kind not in "iu":
        return False
    is_dense = values[0] in (0, 1) and values[-1] - values[0] == len(values) - 1
    return str(column.dtype) == "category" or (is_dense and len(np.asarray(column)) >= 5 * len(values))


def _join(names: Sequence[object]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ("column " if len(names) == 1 else "columns ") + ", ".join(map(repr, names[:5])) + more


@contextmanager
def explaining_columns(X: object, owner: str) -> Iterator[None]:
    """Name the columns of a table that hold no numbers, or not everywhere, where it is refused."""
    try:
        yield
    except (TypeError, ValueError) as error:
        columns = _list_columns_of_any(X)
        words = [name for name, column in columns if not _is_numeric(column)]
        gaps = [name for name, column in columns if name not in words and _has_gap(column)]
        reason = str(error).strip().splitlines()[0].partition(". ")[0].rstrip(".") if str(error) else ""
        scaler = "StandardScaler(with_mean=False)" if sparse.issparse(X) else "StandardScaler()"
        if words:
            rest = f"make_pipeline(SimpleImputer(), {scaler})" if gaps else scaler
            skrub = f", or skrub.tabular_pipeline({owner}())" if _is_frame(X) else ""
            raise ValueError(
                f"X must hold numbers only; got text, dates or categories in {_join(words)} ({reason}). Use "
                "make_pipeline(make_column_transformer((OneHotEncoder(handle_unknown='ignore'), "
                f"{words[:5]}), remainder={rest}), {owner}(...)){skrub}."
            ) from error
        if gaps and "NaN" in reason:
            raise ValueError(
                f"X must hold no missing values; got some in {_join(gaps)}: {reason}. Use "
                f"make_pipeline(SimpleImputer(), {scaler}, {owner}(...))."
            ) from error
        raise


def _list_columns_of_any(X: object) -> list[tuple[object, Column]]:
    """Return the columns of a frame, an array, lists or a sparse matrix, with their names or numbers."""
    if _is_frame(X):
        return _list_columns(X)
    table: Any = X
    if hasattr(X, "column_names"):  # a table of pyarrow
        return list(zip(table.column_names, table.itercolumns(), strict=True))
    if sparse.issparse(X):
        entries = table.tocoo()
        held = [
            (j, entries.data[entries.col == j]) for j in np.unique(entries.col[entries.data != entries.data])
        ]
        return [(int(j), values) for j, values in held]
    try:
        rows = np.asarray(X, dtype=object) if isinstance(X, list | tuple) else np.asarray(to_host(X))
    except (TypeError, ValueError):  # rows of several lengths
        return []
    is_table = rows.ndim == 2 and rows.dtype.kind in "fOUS"
    return list(enumerate(rows.T)) if is_table else []


def _find_gaps(column: Column) -> np.ndarray:
    find = getattr(column, "isna", None) or getattr(column, "is_null", None)
    values = np.asarray(column)
    return np.asarray(find(), dtype=bool) if find is not None else (values != values) | (values == None)  # noqa: E711


def _has_gap(column: Column) -> bool:
    values = np.asarray(column)
    is_nan = values.dtype.kind == "f" and bool(np.isnan(values).any())
    return is_nan or bool(_find_gaps(column).any())


def _is_numeric(column: Column) -> bool:
    values = np.asarray(column)
    if values.dtype.kind in "biuf":
        return True
    if values.dtype.kind in "mM":
        return False
    if any(hasattr(value, "__len__") and not isinstance(value, str | bytes) for value in values):
        return True  # a dict in a cell is no word: the error as it is says more
    try:
        values[~_find_gaps(column)].astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True


# -- early stopping ----------------------------------------------------------------------


def warn_few_held_out(valid: object, n_trained: int, split: object) -> None:
    """Warn if early stopping looks at fewer rows than can tell epochs apart."""
    is_part = isinstance(split, HeldOutPart)  # of a member of an ensemble
    if is_part or not isinstance(valid, Sized) or len(valid) >= FEWEST_HELD_OUT:
        return
    n_samples = len(valid) + n_trained
    share = math.ceil(100 * FEWEST_HELD_OUT / n_samples) / 100
    enlarge = f"validation_fraction={share:g}" if split == "auto" else "a larger part in train_split"
    use = "early_stopping='auto'" + (f" or {enlarge}" if share <= 0.4 else "")
    name = "validation_fraction" if split == "auto" else "train_split"
    warn_user(
        f"{name} must hold out about {FEWEST_HELD_OUT} rows or more, or early stopping goes by chance; got "
        f"{len(valid)} of {n_samples} rows. Use {use}."
    )


def warn_best_is_first(losses: Sequence[float], lr: float, patience: int) -> None:
    """Warn if held-out rows were predicted best after the first epoch, and patience ran out."""
    if len(losses) > patience and int(np.argmin(losses)) == 0:
        warn_user(
            "early_stopping must find a best epoch after the first to be of use; got the best held-out loss "
            f"in the first of {len(losses)} epochs, whose weights are kept. Use a smaller lr (now {lr:g}), "
            "such as lr=1e-4, or early_stopping=False."
        )


# -- targets and threads -----------------------------------------------------------------


def warn_labels(classes: np.ndarray, n_unlabeled: int, owner: str) -> None:
    """Warn if labels are words for unknown ones, or no row is unlabelled."""
    words = [name for name in np.asarray(to_host(classes)).tolist() if _is_marker(name)]
    if words:
        warn_user(
            f"y must mark unlabelled rows by -1; got {words[0]!r}, which became a class. Use "
            f"y = np.where(y == {words[0]!r}, -1, np.asarray(y, dtype=object)), or name every class in "
            "`classes`."
        )
    elif not n_unlabeled:
        warn_user(
            f"y must mark unlabelled rows by -1 for {owner} to learn from them; got no -1, so all rows serve "
            "as labelled and unlabelled ones. Use y[is_unlabelled] = -1, or MixupClassifier."
        )


def _is_marker(label: object) -> bool:
    word = label.decode(errors="replace") if isinstance(label, bytes) else label
    return word is None or (isinstance(word, str) and word.strip().lower() in MARKERS)


def warn_out_of_reach() -> None:
    """Warn if a block of ``stacked()`` is open that trains this fit by itself, in a thread or process."""
    missed = find_missed()
    if missed is not None:
        warn_user(
            f"stacked() must be entered in the thread that fits; got a fit in another {missed} while such a "
            "block is open, so it is trained by itself. Use joblib.Parallel()(delayed(fit)(...)), "
            "fit_stacked(jobs) or a search of scikit-learn in the block, in place of n_jobs or an executor "
            "of another library."
        )
