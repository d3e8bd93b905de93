"""Splits, estimators and scores that the benchmarks on tables share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import time
from typing import Any
import zlib

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier

__all__ = [
    "CLIP",
    "Scores",
    "Stopwatch",
    "compute_scores",
    "count_batches",
    "derive_seed",
    "make_folds",
    "make_net",
    "measure_time",
    "score_log_likelihood",
    "split_rows",
]

# -log(1e-12) = 27.6: what one certain and wrong prediction costs. float32 probabilities can be
# exactly 0, and one infinite row would hide all others.
CLIP = 1e-12


@dataclass(frozen=True)
class Scores:
    """What is measured on the test rows: both smaller is better."""

    error: float
    nll: float


class Stopwatch:
    """Seconds spent in a ``with`` block."""

    seconds = 0.0


@contextmanager
def measure_time() -> Iterator[Stopwatch]:
    """Give a :class:`Stopwatch` that holds the block's seconds when it has ended."""
    watch = Stopwatch()
    start = time.perf_counter()
    yield watch
    watch.seconds = time.perf_counter() - start


def derive_seed(name: str, repeat: int) -> int:
    """Return the seed of a repeat on the table `name`, in [0, 2**31): the same in every run and process."""
    sequence = np.random.SeedSequence([zlib.crc32(name.encode()), repeat])
    return int(sequence.generate_state(1)[0]) % 2**31


def count_batches(n_samples: int, batch_size: int) -> int:
    """Return the batches of an epoch."""
    return -(-n_samples // batch_size)


def split_rows(
    y: np.ndarray, test_size: float, seed: int, *, by_class: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers for training and testing, drawn by class if every class has two members."""
    stratify = y if by_class and np.unique(y, return_counts=True)[1].min() >= 2 else None
    train, test = train_test_split(
        np.arange(y.size), test_size=test_size, random_state=seed, stratify=stratify
    )
    return train, test


def make_folds(y: np.ndarray, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return row numbers for fitting and scoring, by class where every class has a row for each fold."""
    counts = np.unique(y, return_counts=True)[1]
    kind = StratifiedKFold if counts.min() >= n_folds else KFold
    return list(kind(n_folds, shuffle=True, random_state=seed).split(y, y))


def make_net(X: np.ndarray, **options: Any) -> Pipeline:
    """Return a pipeline: median imputation if `X` lacks values, standardisation, the classifier."""
    impute = [SimpleImputer(strategy="median", keep_empty_features=True)]
    steps = impute if np.isnan(X).any() else []
    return make_pipeline(*steps, StandardScaler(), MixupClassifier(verbose=0, **options))


def compute_scores(net: Pipeline, X: np.ndarray, y: np.ndarray) -> Scores:
    """Return test error in [0, 1], and mean NLL in nats of probabilities clipped at 1e-12.

    A label that the net has no output for counts as probability 0.
    """
    probabilities = np.asarray(net.predict_proba(X), dtype=np.float64)
    match = np.asarray(y)[:, None] == np.asarray(net.classes_)[None, :]
    likelihood = np.clip((probabilities * match).sum(axis=1), CLIP, 1.0)
    right = match[np.arange(len(match)), probabilities.argmax(axis=1)]
    return Scores(error=float(1 - right.mean()), nll=float(-np.log(likelihood).mean()))


def score_log_likelihood(net: Pipeline, X: np.ndarray, y: np.ndarray) -> float:
    """Return minus the NLL of :func:`compute_scores`: a scorer for ``GridSearchCV``."""
    return -compute_scores(net, X, y).nll
