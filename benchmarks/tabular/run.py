"""Claim: on tables the probabilities of mixed nets are better than those of what is usually picked.

Not in the paper. Every contender has its own defaults and its documentation's preprocessing.

    python -m benchmarks tabular                     scikit-learn's five tables, no network
    python -m benchmarks tabular --data-dir DIR      the tables named in REPORT of benchmarks/data/frames.py,
                                                     as DIR/tables/NAME.csv with tables.json, and UCI's files

A contender, table and repeat is a task of its own, kept in a journal in the folder of the results: a
later run with more tables, contenders or repeats measures only what is missing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
import time
from typing import Annotated, Any
import warnings

import numpy as np
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits
import torch

from benchmarks.data.frames import BUNDLED_FRAMES, FRAME_NAMES, REPORT, Frame, load_frames
from benchmarks.harness.command import BaseConfig, Command, UserError
from benchmarks.harness.experiment import (
    KEPT,
    conclude,
    find_shared,
    list_records,
    make_stem,
    name_run,
    refuse_less,
)
from benchmarks.harness.fitting import CLIP, derive_seed, make_folds
from benchmarks.harness.journal import Journal
from benchmarks.harness.rules import Count, Known, Several, Within
from benchmarks.harness.runner import run_tasks
from benchmarks.tabular.contenders import (
    CONTENDERS,
    SLOW_FOR_CATBOOST,
    Job,
    find_missing_contenders,
    list_packages,
)
from benchmarks.tabular.summary import draw_ranks, summarise, tabulate
from sk_mixup.inspection import reliability_curve

__all__ = ["COMMAND", "Config", "run"]

Names = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the comparison on tables."""

    datasets: Annotated[Names, Known(FRAME_NAMES)] = ()
    """Tables to use; none for those to report on that are at hand, or scikit-learn's."""

    contenders: Annotated[Names, Known(CONTENDERS)] = tuple(CONTENDERS)
    """Models to compare; those that are not installed are left out."""

    noise: Annotated[tuple[float, ...], Within(0, 1)] = (0, 0.2)
    """Shares of the training labels that are wrong."""

    n_folds: Several = 3
    """Folds of each repeat."""

    threads: Count = 1
    """Threads of every contender."""

    large_rows: Count = 5000
    """Rows above which a table is large."""

    slow_rows: Count = 1000
    """Rows above which a table is left out for the slow contenders."""

    measured_only: bool = False
    """Measure nothing; show what the journal in the folder of the results holds."""

    seeds_small: Count = 5
    """Repeats on a small table."""

    seeds_large: Count = 1
    """Repeats on a large table."""

    seeds_slow: Count = 1
    """Repeats of the slow contenders, and of all on wrong labels."""

    def choose_names(self) -> Names:
        """Return the tables to load."""
        if self.datasets or (self.data_dir is None and not self.download):
            return self.datasets or BUNDLED_FRAMES
        return tuple(name for names in REPORT.values() for name in names)

    def count_repeats(self, table: Frame, contender: str, noise: float) -> int:
        """Return the repeats of a contender on a table: 0 where it is left out."""
        is_slow, n_rows = CONTENDERS[contender].is_slow, len(table.X)
        is_left_out = table.name in CONTENDERS[contender].left_out or (is_slow and n_rows > self.slow_rows)
        if is_left_out or (noise and (is_slow or table.is_real)):
            return 0
        n_repeats = self.n_seeds or (self.seeds_large if n_rows > self.large_rows else self.seeds_small)
        return min(n_repeats, self.seeds_slow) if is_slow or noise else n_repeats


PRESETS = {
    "cpu": Config(),
    "smoke": Config(
        datasets=("iris", "diabetes"),
        contenders=("linear", "alpha=0", "mixup", "ensemble of 8"),
        n_folds=2,
        noise=(0,),
        n_jobs=1,
        seeds_small=1,
    ),
}


def run(config: Config) -> int:
    """Measure what is missing, print tables and write the results."""
    missing = find_missing_contenders()
    names = [name for name in config.contenders if name not in missing]
    tables = load_frames(config.choose_names(), data_dir=config.data_dir, download=config.download)
    stem = make_stem(COMMAND.name, config, embedded=config.data_dir is None and not config.download)
    libraries = list_packages(name for name in CONTENDERS if name not in missing)
    # A record depends on none of these.
    alike = replace(config, datasets=(), contenders=(), noise=(), large_rows=1, slow_rows=1)
    path = name_run(stem, alike, seeds=(0,), libraries=libraries).with_suffix(".jsonl")
    path = path.parent / KEPT / path.name
    journal = Journal(path, kept=path, shared=find_shared(path.with_suffix(""), config))
    tasks = make_tasks(config, tables, names)
    if config.measured_only:
        tasks = {key: tasks[key] for key in journal.read() if key in tasks}
    if not tasks:
        raise UserError(f"--contenders must name one that can be run; got {', '.join(config.contenders)}.")
    refuse_less(
        stem,
        config,
        dataset=[table.name for _, table, *_ in tasks.values()],
        contender=[name for *_, name, _, _ in tasks.values()],
    )
    groups = run_tasks(compare, tasks, journal, n_jobs=config.n_jobs, label=COMMAND.name, until=config.end)
    return conclude(
        COMMAND,
        config,
        stem,
        journal,
        list_records(groups),
        data=[table.describe() for table in tables],
        protocol=describe_protocol(
            config, {name: missing[name] for name in config.contenders if name in missing}
        ),
        summarise=partial(summarise, test_ratio=1 / (config.n_folds - 1)),
        is_complete=not config.measured_only,
    )


def make_tasks(config: Config, tables: list[Frame], names: list[str]) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`compare` by contender, table, noise and repeat.

    The first repeat comes first, of it the small tables, of these the quick contenders.
    """
    digests = {table.name: table.describe()["sha256"][:12] for table in tables}
    cells = [
        (repeat, len(table.X) > config.large_rows, CONTENDERS[name].is_slow, noise, table, name)
        for table in sorted(tables, key=lambda table: table.size)
        for name in names
        for noise in config.noise
        for repeat in range(config.count_repeats(table, name, noise))
    ]
    cells.sort(key=lambda cell: cell[:4])
    return {
        f"{table.name}/{digests[table.name]}/{name}/{noise:g}/{repeat}": (
            config,
            table,
            name,
            noise,
            repeat,
        )
        for repeat, _, _, noise, table, name in cells
    }


def compare(config: Config, table: Frame, name: str, noise: float, repeat: int) -> dict[str, Any]:
    """Fit a contender to each training part of one cross-validation and score it on the other rows."""
    seed = derive_seed(table.name, repeat)
    y = table.y if table.is_real else np.unique(table.y, return_inverse=True)[1]
    folds = make_folds(np.arange(len(y)) if table.is_real else y, config.n_folds, seed)
    records = []
    for fold, (train, test) in enumerate(folds):
        model = CONTENDERS[name].make(Job(table.X, table.is_real, seed + fold, config.threads))
        labels = spoil_labels(y, train, noise, seed) if noise else y
        with _limited(config.threads):
            start = time.process_time()
            model.fit(table.X.iloc[train], labels[train])
            fitted = time.process_time()
            predicted = predict(model, table.X.iloc[test], table.is_real)
            ended = time.process_time()
        scores = (score_targets if table.is_real else score_labels)(model, predicted, y, test)
        scores |= {"fit_seconds": fitted - start, "predict_seconds": ended - fitted}
        record = {
            "dataset": table.name,
            "task": "regression" if table.is_real else "classification",
            "noise": noise,
            "contender": name,
            "repeat": repeat,
            "fold": fold,
        }
        records.append(record | {metric: round(value, 6) for metric, value in scores.items()})
    return {"records": records}


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """Let everything in the block use so many threads, and warn of nothing."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(n_threads)


def spoil_labels(codes: np.ndarray, train: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Return codes of classes, a share of those of the training rows replaced by another class's."""
    generator, n_classes = np.random.default_rng(seed), int(codes.max()) + 1
    rows = generator.permutation(train)[: round(noise * train.size)]
    spoiled = codes.copy()
    spoiled[rows] = (codes[rows] + generator.integers(1, n_classes, rows.size)) % n_classes
    return spoiled


def predict(model: BaseEstimator, X: Any, is_real: bool) -> np.ndarray:
    """Return probabilities, or predicted targets of one column."""
    predicted = model.predict(X) if is_real else model.predict_proba(X)
    return np.asarray(predicted, dtype=np.float64).reshape(len(X), -1)


def score_labels(model: Any, predicted: np.ndarray, y: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Return error, NLL, Brier score and calibration error; a class that was not learnt has probability 0."""
    probabilities = np.zeros((test.size, int(y.max()) + 1))
    probabilities[:, np.asarray(model.classes_, dtype=int).ravel()] = predicted
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    curve = reliability_curve(y[test], probabilities, labels=np.arange(probabilities.shape[1]))
    likelihood = np.clip(probabilities[np.arange(test.size), y[test]], CLIP, 1)
    return {
        "error": curve.error,
        "nll": float(-np.log(likelihood).mean()),
        "brier": curve.brier,
        "ece": curve.ece,
    }


def score_targets(_: Any, predicted: np.ndarray, y: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Return RMSE and mean absolute error (the CRPS of a point) in standard deviations of the targets."""
    residuals = (predicted[:, 0] - y[test]) / y.std()
    return {"rmse": float(np.sqrt(np.mean(residuals**2))), "mae": float(np.abs(residuals).mean())}


def describe_protocol(config: Config, missing: dict[str, str]) -> str:
    """Return what was done, in words, to stand before the numbers."""
    used = ", ".join(list_packages(name for name in config.contenders if name not in missing))
    left_out = "".join(f" {name} was not run ({package} is not here)." for name, package in missing.items())
    return (
        "Every contender at its own defaults. Behind skrub's tabular_pipeline, which encodes, imputes and "
        "scales (without skrub medians, one-hot codes, standardisation): linear (logistic or ridge "
        "regression), scikit-learn's MLP (targets standardised), ours; behind skrub's for trees: forest, "
        "HistGradientBoosting; on the categories themselves CatBoost, LightGBM, and, medians for missing "
        "numbers RealMLP-TD-S and TabM-D of pytabkit. TabM's module is trained with mixup, AdamW and batches "
        "of 256, without temperature. "
        f"{config.n_folds} folds, repeated at most {config.seeds_small} times on tables of at most "
        f"{config.large_rows} rows, {config.seeds_large} on larger ones; {config.seeds_slow} for the slow "
        f"contenders (RealMLP and TabM, on at most {config.slow_rows} rows) and for all on wrong labels. "
        f"CatBoost was not run on {', '.join(SLOW_FOR_CATBOOST)}, where a fit takes minutes. "
        "Means and ranks are over the folds that all contenders of a table share. Wrong labels are another "
        "class's, each as likely. NLL in nats, probabilities clipped at 1e-12; RMSE and mean absolute error "
        "(the CRPS of a point) in standard deviations of the table's targets. Seconds are of CPU time, "
        f"threads of each: {config.threads}. Differences have 95 % intervals of the corrected resampled "
        f"t-test (Nadeau and Bengio 2003).{left_out} TabPFN leads small tables in TabArena and was not run: "
        f"its weights are not to be had here. Packages: {used or 'none'}."
    )


COMMAND = Command(
    name="tabular",
    order=8,
    paper="none",
    claim="mixed nets and their ensembles against what is picked for a table: error, NLL, calibration, time",
    presets=PRESETS,
    times={"cpu": "two and a half hours of CPU time with all contenders", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    draw=draw_ranks,
    more_seeds="More tables, contenders and --seeds go on from a finished run, whose journal stays.",
    note="Ranks: Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006.",
)
