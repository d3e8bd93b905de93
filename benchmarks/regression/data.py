"""The tables with real-valued targets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sklearn
from sklearn.datasets import load_diabetes

from benchmarks.data.tables import Table, check_names, refuse_empty
from benchmarks.data.uci_download import fetch_tables
from benchmarks.data.uci_files import REGRESSION_SETS, SETS, find_missing, read_files

__all__ = ["REGRESSION_NAMES", "REGRESSION_TITLES", "choose_names", "load_regression_tables"]

EMBEDDED = "diabetes"
REGRESSION_TITLES = {EMBEDDED: "Diabetes", "abalone": "Abalone, rings"} | {
    name: item.title for name, item in REGRESSION_SETS.items()
}
REGRESSION_NAMES = tuple(REGRESSION_TITLES)


def choose_names(names: Sequence[str], data_dir: Path | None, *, download: bool) -> tuple[str, ...]:
    """Return the tables asked for; without names those at hand."""
    if names or (data_dir is None and not download):
        return tuple(names) or (EMBEDDED,)
    found = tuple(name for name in REGRESSION_NAMES if _is_at_hand(name, data_dir, download))
    if found == (EMBEDDED,):
        refuse_empty(data_dir, [name for name in REGRESSION_NAMES if name != EMBEDDED])
    return found


def _is_at_hand(name: str, data_dir: Path | None, download: bool) -> bool:
    if name == EMBEDDED:
        return True
    # With download=True nothing is raised for a file that is not there.
    return not find_missing([name], data_dir, download=True) or (download and SETS[name].uci_id is not None)


def load_regression_tables(
    names: Sequence[str], *, data_dir: Path | None = None, download: bool = False
) -> list[Table]:
    """Load tables with real-valued targets."""
    check_names(names, REGRESSION_NAMES)
    wanted = [name for name in names if name != EMBEDDED]
    missing = find_missing(wanted, data_dir, download=download)
    arrays = fetch_tables(missing) | read_files([name for name in wanted if name not in missing], data_dir)
    if EMBEDDED in names:
        X, y = load_diabetes(return_X_y=True)
        arrays[EMBEDDED] = X, y, f"scikit-learn {sklearn.__version__}"
    return [
        Table(name, X, np.asarray(y, dtype=np.float64), source)
        for name, (X, y, source) in ((name, arrays[name]) for name in names)
    ]
