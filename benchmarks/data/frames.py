"""Tables as data frames: columns of categories, missing values, and which tables choose a default.

``DIR/tables`` (or DIR) holds ``NAME.csv``, a header and the last column ``target``, and ``tables.json``,
which tells each one's task and its columns of categories; the UCI sets and scikit-learn's are read as
everywhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from sklearn.datasets import load_diabetes

from benchmarks.data.tables import EMBEDDED_NAMES, check_names, load_tables, refuse_empty
from benchmarks.data.uci_download import fetch_tables
from benchmarks.data.uci_files import SETS, find_missing, read_files
from benchmarks.harness.command import UserError

__all__ = ["BUNDLED_FRAMES", "FRAME_NAMES", "REPORT", "TUNE", "Frame", "find_tables", "load_frames"]


def _list_names(**names: str) -> dict[str, tuple[str, ...]]:
    return {task: tuple(text.split()) for task, text in names.items()}


# Defaults may be chosen on these only: those on which earlier ones were chosen, and their relatives.
TUNE = _list_names(
    classification="abalone anneal arcene arrhythmia banknote breast_cancer colic digits eucalyptus iris "
    "kr-vs-kp nursery phishing wine wine-quality-red",  # not optdigits, of which digits is a part
    regression="airfoil auto-mpg cpu-small diabetes puma8nh",
)
# Looked at once everything is chosen.
REPORT = _list_names(
    classification="balance-scale car credit-approval cylinder-bands dermatology htru2 hypothyroid "
    "mammography pendigits phishing_websites segment soybean spambase splice",  # sick: hypothyroid's rows
    regression="auto-price elevators house8l pol stock",
)
FRAME_NAMES = tuple(name for part in (REPORT, TUNE) for names in part.values() for name in names)
BUNDLED_FRAMES = (*EMBEDDED_NAMES, "diabetes")
SEXES = np.array(["F", "I", "M"])


@dataclass(frozen=True)
class Frame:
    """A learning problem as a data scientist gets it."""

    name: str  # One of ``FRAME_NAMES``
    X: pd.DataFrame  # float64, or of dtype category with strings; NaN where a value is missing
    y: np.ndarray  # Labels, integers or strings; or real-valued targets, floats
    source: str  # Where the rows come from

    @property
    def size(self) -> int:
        """Numbers in the inputs."""
        return int(self.X.size)

    @property
    def is_real(self) -> bool:
        """Whether the targets are real-valued."""
        return self.y.dtype.kind == "f"

    @property
    def categorical(self) -> list[str]:
        """Names of the columns of categories."""
        return list(self.X.columns[self.X.dtypes == "category"])

    def describe(self) -> dict[str, Any]:
        """Return name, task, size, origin and digest, ready for JSON."""
        content = self.X.assign(target=self.y).to_csv(index=False)
        return {
            "dataset": self.name,
            "n_samples": len(self.X),
            "n_features": self.X.shape[1],
            "n_categorical": len(self.categorical),
            "n_missing": int(self.X.isna().to_numpy().sum()),
            "n_classes": None if self.is_real else int(np.unique(self.y).size),
            "source": self.source,
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
        }


def load_frames(
    names: Sequence[str] = (), *, data_dir: Path | None = None, download: bool = False
) -> list[Frame]:
    """Load tables; without names scikit-learn's or, told where files are, all at hand."""
    check_names(names, FRAME_NAMES)
    tables = find_tables(data_dir)
    if not names:
        at_hand = tables.keys() | set(BUNDLED_FRAMES)
        names = [
            name for name in FRAME_NAMES if name in at_hand or _is_at_hand(name, data_dir, download=download)
        ]
        if set(names) <= set(BUNDLED_FRAMES):
            refuse_empty(data_dir, [name for name in FRAME_NAMES if name not in BUNDLED_FRAMES])
    return [
        _read_csv(name, *tables[name]) if name in tables else _wrap(name, data_dir, download=download)
        for name in names
    ]


def find_tables(data_dir: Path | None) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    """Return file and facts of each table that ``tables.json`` describes, in the folder or its ``tables``."""
    folders = () if data_dir is None else (data_dir / "tables", data_dir)
    folder = next((folder for folder in folders if (folder / "tables.json").is_file()), None)
    if folder is None:
        return {}
    described = json.loads((folder / "tables.json").read_text(encoding="utf-8"))
    files = {name: (folder / f"{name}.csv", facts) for name, facts in described.items()}
    return {name: found for name, found in files.items() if found[0].is_file()}


def _is_at_hand(name: str, data_dir: Path | None, *, download: bool) -> bool:
    if name not in SETS or (data_dir is None and not download):
        return False
    # With download=True nothing is raised for a file that is not there.
    return download or not find_missing([name], data_dir, download=True)


def _read_csv(name: str, path: Path, facts: Mapping[str, Any]) -> Frame:
    # Only an empty cell is missing: "None" and "NA" are categories.
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    X, y, categorical = frame.drop(columns="target"), frame["target"], set(facts["categorical"])
    X = X.astype({column: "category" if column in categorical else np.float64 for column in X})
    is_real = facts["task"] == "regression"
    return Frame(name, X, y.to_numpy(np.float64 if is_real else np.str_), "shared tables")


def _wrap(name: str, data_dir: Path | None, *, download: bool) -> Frame:
    """Return one of UCI's sets, or of scikit-learn's, as a frame."""
    if name == "diabetes":
        X, targets = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
        source = f"scikit-learn {sklearn.__version__}"
        return Frame(name, X.astype(np.float64), targets.to_numpy(np.float64), source)
    if name == "airfoil":
        missing = find_missing([name], data_dir, download=download)
        values, targets, source = (fetch_tables(missing) or read_files([name], data_dir))[name]
        return Frame(name, _name_columns(values), targets.astype(np.float64), source)
    if name not in SETS and name not in BUNDLED_FRAMES:
        raise UserError(f"--data-dir must hold 'tables/{name}.csv' and 'tables/tables.json'; got {data_dir}.")
    if not _is_at_hand(name, data_dir, download=download) and name in BUNDLED_FRAMES:
        data_dir = None  # Iris, where UCI's file is not there
    (table,) = load_tables([name], data_dir=data_dir, download=download)
    X = _name_columns(table.X)
    if name == "abalone":
        X = X.iloc[:, 3:].assign(sex=pd.Categorical(SEXES[table.X[:, :3].argmax(axis=1)]))
    return Frame(name, X, table.y.astype(np.str_) if table.y.dtype == object else table.y, table.source)


def _name_columns(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, columns=[f"x{place}" for place in range(values.shape[1])], dtype=np.float64)
