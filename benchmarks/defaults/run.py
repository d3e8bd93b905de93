"""Claim: the defaults of ``MixupClassifier`` and ``MixupRegressor`` are good choices on small tables.

Not in the paper, which gives ten epochs and batch 16 for its tables (Table 4) and alpha in
[0.1, 0.4] for ImageNet (Section 3.1).

    python -m benchmarks defaults                     scikit-learn's tables, no network
    python -m benchmarks defaults --data-dir DIR      and all tables on which defaults may be chosen

One option at a time is changed from the defaults. All settings are fitted to the same few rows of a
table, as one stack, and scored on others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
import math
from typing import Annotated, Any
import warnings

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, StandardScaler
import torch

from benchmarks.data.frames import TUNE, Frame, load_frames
from benchmarks.defaults.summary import describe_finding, draw_levels, summarise, tabulate
from benchmarks.harness.command import BaseConfig, Command
from benchmarks.harness.experiment import run_experiment
from benchmarks.harness.fitting import compute_scores, derive_seed
from benchmarks.harness.rules import Count, Known, Several
from sk_mixup import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    MixupRegressor,
    fit_stacked,
)

__all__ = ["COMMAND", "FACTORS", "Config", "run"]

Level = Mapping[str, Any]
TABLES = TUNE["classification"] + TUNE["regression"]
# Ten thousand columns: hundreds of times the work of another table.
TOO_WIDE = ("arcene",)


def _stop_early(fraction: float, patience: int) -> Level:
    return {"early_stopping": True, "validation_fraction": fraction, "n_iter_no_change": patience}


def _decay(weight_decay: float) -> Level:
    return {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": weight_decay}


FACTORS: Mapping[str, Mapping[str, Level]] = {
    "schedule": {
        **{f"{n} epochs": {"early_stopping": False, "max_epochs": n} for n in (25, 50, 100, 200)},
        "a tenth held out": _stop_early(0.1, 20),
        "a tenth, patience 10": _stop_early(0.1, 10),
        "a tenth, patience 40": _stop_early(0.1, 40),
        "a fifth held out": _stop_early(0.2, 20),
    },
    "alpha": {f"{alpha:g}": {"alpha": alpha} for alpha in (0.0, 0.1, 0.4, 1.0)},
    "one weight for": {"a batch": {"lam_per": "batch"}},
    "lr": {f"{lr:g}": {"lr": lr} for lr in (3e-4, 3e-3)},
    "batch_size": {f"{size}": {"batch_size": size} for size in (16, 64)},
    "weight decay": {f"{weight:g}": _decay(weight) for weight in (0.1, 1.0)},
    "dropout": {f"{share:g}": {"module__dropout": share} for share in (0.1, 0.5)},
    "temperature": {"none": {"calibrate": False}},
    "hidden units": {"256, 256": {"module__hidden_layer_sizes": (256, 256)}},
}
# Options that regressors do not have.
OF_CLASSES = ("temperature",)


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the measurement behind the estimators' defaults."""

    datasets: Annotated[tuple[str, ...], Known(TABLES)] = ()
    """Tables to use; none for all at hand on which defaults may be chosen, but Arcene."""

    rows: tuple[Count, ...] = (50, 200)
    """Numbers of training rows; a table has at least a quarter more of them."""

    test_rows: Count = 500
    """Rows for testing at most."""

    factors: Annotated[tuple[str, ...], Known(tuple(FACTORS))] = tuple(FACTORS)
    """Options that are changed."""

    seeds_each: Several = 2
    """Repeats on each table, unless --seeds is given."""


PRESETS = {
    "cpu": Config(),
    "paper": Config(rows=(50, 100, 200, 500, 1000, 5000), seeds_each=10),
    "gpu": Config(device="cuda", n_jobs=1),
    "smoke": Config(datasets=("iris", "diabetes"), rows=(24,), factors=("alpha",), n_seeds=2, n_jobs=1),
}


def run(config: Config) -> int:
    """Measure, print a table, a plot's path and one sentence, and write the results."""
    return run_experiment(
        COMMAND,
        config,
        names=config.datasets,
        worker=fit_levels,
        make_tasks=partial(make_tasks, config),
        summarise=summarise,
        describe_finding=describe_finding,
        draw=draw_levels,
        protocol=describe_protocol(config),
        load=load_tuned,
    )


def load_tuned(names: tuple[str, ...], **options: Any) -> list[Frame]:
    """Load the tables that are named; without names all at hand on which defaults may be chosen."""
    frames = load_frames(names, **options)
    return frames if names else [frame for frame in frames if frame.name in set(TABLES) - set(TOO_WIDE)]


def make_tasks(config: Config, tables: list[Frame]) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`fit_levels` for each table, number of rows and repeat."""
    return {
        f"{table.name}/{n}/{repeat}": (config, table, n, repeat)
        for n in sorted(config.rows, reverse=True)
        for table in tables
        if len(table.X) >= 1.25 * n
        for repeat in range(config.n_seeds or config.seeds_each)
    }


def fit_levels(config: Config, table: Frame, n_rows: int, repeat: int) -> dict[str, Any]:
    """Fit all settings to the same rows of a table, as one stack, and score them on other rows."""
    seed = derive_seed(table.name, repeat)
    order = np.random.default_rng([seed, n_rows]).permutation(len(table.y))
    train, test = order[:n_rows], order[n_rows : n_rows + config.test_rows]
    prepare = make_preparation(table)
    X, X_test = prepare.fit_transform(table.X.iloc[train]), prepare.transform(table.X.iloc[test])
    y = table.y if table.is_real else LabelEncoder().fit_transform(table.y)
    options: dict[str, Any] = {"random_state": seed, "device": config.device}
    kind = MixupRegressor if table.is_real else MixupClassifier
    if not table.is_real:
        options["classes"] = np.unique(y).tolist()
    factors = [factor for factor in config.factors if not table.is_real or factor not in OF_CLASSES]
    names = [("", "default"), *((factor, level) for factor in factors for level in FACTORS[factor])]
    nets = [kind(**options, **(FACTORS[factor][level] if factor else {})) for factor, level in names]
    with warnings.catch_warnings():  # of the few rows that some are told to hold out
        warnings.simplefilter("ignore", UserWarning)
        fit_stacked([(net, X, y[train]) for net in nets], window=math.inf)
    several = MixupEnsembleRegressor if table.is_real else MixupEnsembleClassifier
    ensemble = several(kind(**options), random_state=seed).fit(X, y[train])
    scored = zip([*names, ("number of nets", "8")], [*nets, ensemble], strict=True)
    same = {"task": "regression" if table.is_real else "classification", "rows": n_rows, "repeat": repeat}
    return {
        "records": [
            {"dataset": table.name, "factor": factor, "level": level, **same, **score(net, X_test, y[test])}
            for (factor, level), net in scored
        ]
    }


def make_preparation(table: Frame) -> Any:
    """Return what makes numbers near unit scale of a table: categories one-hot, means for missing numbers."""
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    fill = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    return make_column_transformer((encode, table.categorical), remainder=fill)


def score(net: Any, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return loss and error: NLL and share of wrong labels, or mean squared error and its root."""
    if isinstance(net, MixupRegressor | MixupEnsembleRegressor):
        loss = float(np.mean((net.predict(X) - y) ** 2))
        return {"loss": loss, "error": loss**0.5}
    scores = compute_scores(net, X, y)
    return {"loss": round(scores.nll, 6), "error": round(scores.error, 6)}


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    return (
        "One option at a time is changed from the defaults of MixupClassifier and MixupRegressor; the last "
        "row is the ensemble of 8 nets of these defaults. Random rows of each table of at least 1.25 times "
        f"as many for training, at most {config.test_rows} others for testing; categories one-hot, means for "
        "missing numbers, standardised. All settings are fitted to the same rows with the same seeds. Only "
        "tables on which defaults may be chosen are used. The loss is the NLL of classes or the squared "
        "error, set against that of the defaults by the ratio of the means over repeats on each table; the "
        "error of classes by the difference, in points. Means and 95 % t-intervals are over tables. The rank "
        "(1 is best) is by loss among the levels of one option and its default."
    )


COMMAND = Command(
    name="defaults",
    order=13,
    paper="none; the choices behind the estimators' defaults",
    claim="early stopping and other options by number of rows, one at a time",
    presets=PRESETS,
    times={"cpu": "15 minutes of CPU time", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
)
