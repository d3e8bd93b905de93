"""The tables that benchmarks learn from, whatever their origin."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import hashlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import sklearn
from sklearn import datasets

from benchmarks.data.uci_download import fetch_tables
from benchmarks.data.uci_files import UCI_SETS, find_missing, read_files
from benchmarks.harness.command import BaseConfig, UserError
from benchmarks.harness.rules import Known, Share, check_known

__all__ = [
    "EMBEDDED_NAMES",
    "TABLE_TITLES",
    "UCI_NAMES",
    "Table",
    "TableConfig",
    "TableNames",
    "check_names",
    "choose_smaller_tables",
    "load_tables",
    "needs_files",
    "refuse_empty",
]

EMBEDDED: Mapping[str, tuple[str, Callable[..., Any]]] = {
    "iris": ("Iris", datasets.load_iris),
    "wine": ("Wine", datasets.load_wine),
    "breast_cancer": ("Breast cancer", datasets.load_breast_cancer),
    "digits": ("Digits", datasets.load_digits),
}
EMBEDDED_NAMES = tuple(EMBEDDED)
UCI_NAMES = tuple(UCI_SETS)
TABLE_NAMES = tuple(dict.fromkeys(EMBEDDED_NAMES + UCI_NAMES))
TableNames = Annotated[tuple[str, ...], Known(TABLE_NAMES)]
# HTRU2 and Phishing Websites would take most of the time where every table has many fits, and a
# larger table tells methods apart least: everything overfits less there.
SMALLER_UCI_NAMES = ("abalone", "arcene", "arrhythmia", "phishing")
# What scikit-learn has; Iris is read from UCI's file where there is one.
BUNDLED = frozenset({"wine", "breast_cancer", "digits", "digit_images", "diabetes"})
TABLE_TITLES = {name: title for name, (title, _) in EMBEDDED.items()} | {
    name: uci_set.title for name, uci_set in UCI_SETS.items()
}


@dataclass(frozen=True)
class Table:
    """A learning problem."""

    name: str  # Key of ``TABLE_TITLES``
    X: np.ndarray  # Inputs: float64, NaN where a value is missing, or the bytes of images
    y: np.ndarray  # Labels, integers or strings; or real-valued targets, floats
    source: str  # Where the rows come from

    @property
    def size(self) -> int:
        """Numbers in the inputs."""
        return self.X.size

    def describe(self) -> dict[str, Any]:
        """Return name, size, origin and digest, ready for JSON."""
        digest = hashlib.sha256(np.ascontiguousarray(self.X).tobytes())
        digest.update("\n".join(map(str, self.y.tolist())).encode())
        is_real = self.y.dtype.kind == "f"
        return {
            "dataset": self.name,
            "n_samples": len(self.X),
            "n_features": int(self.X[0].size),
            "n_classes": None if is_real else int(np.unique(self.y).size),
            "source": self.source,
            "sha256": digest.hexdigest(),
        }


@dataclass(frozen=True, kw_only=True)
class TableConfig(BaseConfig):
    """Options of an experiment on tables, each split at random again and again."""

    datasets: TableNames = ()
    """Tables to use; none for all at hand."""

    test_size: Share = 0.2
    """Share of rows for testing."""

    def reads_files(self) -> bool:
        """Return whether a set of data comes from files."""
        return needs_files(self.datasets)

    @property
    def test_ratio(self) -> float:
        """Rows for testing over rows for training."""
        return self.test_size / (1 - self.test_size)


def check_names(names: Sequence[str], known: Sequence[str] = TABLE_NAMES) -> None:
    """Raise :class:`UserError` if a name is none of those known, of tables by default."""
    for name in names:
        check_known("--datasets", name, known)


def needs_files(names: Sequence[str]) -> bool:
    """Return whether one of the sets of data can come from files; without names all that are at hand do."""
    return not names or not BUNDLED.issuperset(names)


def refuse_empty(data_dir: Path | None, names: Sequence[str]) -> None:
    """Raise :class:`UserError` for a folder that was given, and holds none of these sets of data."""
    if data_dir is not None:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise UserError(
            f"--data-dir must hold files of {shown}; got '{data_dir}', which holds none of them. Leave it "
            "out for the sets that come with scikit-learn."
        )


def choose_smaller_tables(data_dir: Path | None, *, download: bool) -> tuple[str, ...]:
    """Return the bundled tables and, told where UCI's are, those of at most 5,000 rows."""
    return EMBEDDED_NAMES + (() if data_dir is None and not download else SMALLER_UCI_NAMES)


def load_tables(
    names: Sequence[str] = (), *, data_dir: Path | None = None, download: bool = False
) -> list[Table]:
    """Load the embedded tables, or the UCI sets when told where they are.

    With neither ``data_dir`` nor ``download`` all come from scikit-learn. Otherwise the paper's sets are
    UCI's own (Iris too: scikit-learn's differs in two rows), and others may be named.
    """
    if data_dir is None and not download:
        check_names(names, EMBEDDED_NAMES)
        return [_load_embedded(name) for name in names or EMBEDDED_NAMES]
    check_names(names)
    names = tuple(names or UCI_NAMES)
    wanted = [name for name in names if name in UCI_SETS]
    missing = find_missing(wanted, data_dir, download=download)
    arrays = fetch_tables(missing)
    arrays |= read_files([name for name in wanted if name not in missing], data_dir)
    return [Table(name, *arrays[name]) if name in arrays else _load_embedded(name) for name in names]


def _load_embedded(name: str) -> Table:
    X, y = EMBEDDED[name][1](return_X_y=True)
    return Table(name, X, y, f"scikit-learn {sklearn.__version__}")
