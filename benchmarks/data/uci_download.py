"""Fetch the UCI sets from the network, once: cached, checksummed, nothing unpacked to disk.

ucimlrepo serves all of them but Arcene, which comes from OpenML through scikit-learn (it compares
the file with OpenML's MD5). Neither hands over an archive: what is stored is our own array file,
read back without pickle.
"""

from collections.abc import Mapping, Sequence
import hashlib
import io
from pathlib import Path
import sys

import numpy as np
import pandas as pd
from sklearn.datasets import fetch_openml, get_data_home

from benchmarks.data.uci_files import SETS, Arrays, SourcedArrays, encode_abalone
from benchmarks.harness.command import UserError
from benchmarks.harness.results import write_bytes

__all__ = ["CONTENT_DIGESTS", "compute_content_digest", "fetch_tables"]

OPENML_IDS = {"arcene": 1458}

# compute_content_digest of the tables in UCI's own files.
CONTENT_DIGESTS: Mapping[str, str] = {
    "airfoil": "271ffe086832e7ac88bf04235e58b8e0e57c7dc7b0e9af2824f81efc047770cd",
    "abalone": "9b4f00c48680604b7eb230ac95d45a189cf98bf33d328e131c5b4160aa3c009b",
    "arcene": "3c429b117f4797293896ea4477bfa3f21d18b732ef0ba360855ea5d5ab67cc97",
    "arrhythmia": "eae8a030fcc2b231812c37a14b574644adc3ec5cbab3bca07ebc8a3457b1ba65",
    "htru2": "8c586c76be030c43c1529cac7b6d2540ceda52e645c28e3e39e6c51eeee51c2e",
    "iris": "b0a29b622b92479cde4d258e6e0818278e6d57607bab7f2053d33012db7ad90f",
    "phishing": "43cc40370f0678a05448570571ab0412cff79cd1316f6ae44fe825596eb7853a",
    "phishing_websites": "b6d0836dc3280dbcbe2b409b89866c0f8eec3a47fb44f77b81d0ca9801757aba",
}


def fetch_tables(names: Sequence[str]) -> dict[str, SourcedArrays]:
    """Return sets from the cache, or from the network."""
    return {name: _fetch_cached(name) for name in names}


def compute_content_digest(X: np.ndarray, y: np.ndarray) -> str:
    """Return a digest of a table that ignores the order of rows and the names of labels."""
    codes = np.unique(y, return_inverse=True)[1]
    # Adding 0 turns -0 into 0, which differ in their bytes.
    rows = np.column_stack([codes, X]).astype(np.float32) + np.float32(0)
    rows = rows[np.lexsort(np.nan_to_num(rows, nan=-1e30).T[::-1])]
    return hashlib.sha256(np.where(np.isnan(rows), np.float32(-1e30), rows).tobytes()).hexdigest()


def _fetch_cached(name: str) -> SourcedArrays:
    path = Path(get_data_home()) / "sk_mixup" / f"{name}.npz"
    if not path.exists():
        _store(path, *_fetch(name))
    X, y = _load(path)
    return X, y, _name_source(name, X, y)


def _store(path: Path, X: np.ndarray, y: np.ndarray) -> None:
    """Write the arrays, and beside them the checksum that every later run compares."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, X=X, y=y)
    content = buffer.getvalue()
    write_bytes(_find_checksum_path(path), f"{hashlib.sha256(content).hexdigest()}\n".encode())
    write_bytes(path, content)


def _load(path: Path) -> Arrays:
    content = path.read_bytes()
    recorded = _find_checksum_path(path)
    expected = recorded.read_text().strip() if recorded.exists() else "none"
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(
            f"'{path}' must have the SHA-256 recorded when it was fetched; it changed since. "
            "Delete it and run again with --download."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return arrays["X"], arrays["y"]


def _find_checksum_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _fetch(name: str) -> Arrays:
    """Fetch one set and check its size."""
    if name not in OPENML_IDS and SETS[name].uci_id is None:
        raise UserError(
            f"--download must leave {name} out, whose checksum is not known. Put {SETS[name].files[0]} from "
            f"{SETS[name].url} in a folder and use --data-dir."
        )
    print(f"Fetching {SETS[name].title} …", file=sys.stderr)
    fetch = _fetch_openml if name in OPENML_IDS else _fetch_ucimlrepo
    try:
        features, labels = fetch(name)
    except ImportError:
        raise UserError(
            "--download must find the package ucimlrepo. Run pip install '.[benchmarks]'."
        ) from None
    except Exception as error:
        # Each library has its own errors for a network that fails, from URLError to KeyError.
        raise UserError(_explain_failure(name, error)) from error
    X = encode_abalone(features) if name == "abalone" else features.to_numpy(np.float64)
    y = labels.to_numpy().ravel()
    y = y.astype(str) if y.dtype == object else y
    found = (*X.shape, np.unique(y).size)
    if found != SETS[name].shape:
        raise UserError(
            f"{name} must have {SETS[name].shape} rows, features and classes; got {found} "
            "from the network. Put UCI's own files in a folder and use --data-dir."
        )
    return X, y


def _explain_failure(name: str, error: Exception) -> str:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return (
        f"--download must reach the network for {name}; got {reason}. Try again, or put "
        f"{', '.join(SETS[name].files)} from {SETS[name].get_url()} in a folder and use --data-dir."
    )


def _fetch_ucimlrepo(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    from ucimlrepo import fetch_ucirepo

    data = fetch_ucirepo(id=SETS[name].uci_id).data
    return data.features, data.targets


def _fetch_openml(name: str) -> tuple[pd.DataFrame, pd.Series]:
    bunch = fetch_openml(data_id=OPENML_IDS[name], as_frame=True, parser="auto")
    return bunch.data, bunch.target


def _name_source(name: str, X: np.ndarray, y: np.ndarray) -> str:
    origin = "OpenML" if name in OPENML_IDS else "ucimlrepo"
    if compute_content_digest(X, y) == CONTENT_DIGESTS[name]:
        return f"{origin}, the same rows as UCI's files"
    return f"{origin}, not the same rows as UCI's files"
