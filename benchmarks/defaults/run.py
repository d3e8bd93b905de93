"""Claim: the defaults of ``MixupClassifier`` and ``MixupRegressor`` are good choices on small tables.

Not in the paper, which gives ten epochs and batch 16 for its tables (Table 4) and alpha in
[0.1, 0.4] for ImageNet (Section 3.1).

    python -m benchmarks defaults                     scikit-learn's tables, no network
    python -m benchmarks defaults --data-dir DIR      and all tables on which defaults may be chosen

One option at a time is changed from the defaults. All settings are fitted to the same few rows of a
table, as one stack, and scored on others.
"""

from dataclasses import dataclass
from functools import partial
import math
from typing import Annotated, Any
import warnings

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelEncoder,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)

from benchmarks.data.frames import TUNE, Frame, load_frames
from benchmarks.defaults.levels import FACTORS, OF_CLASSES, SCALING, clip_smoothly
from benchmarks.defaults.summary import draw_levels, summarise, tabulate
from benchmarks.harness.command import BaseConfig, Command
from benchmarks.harness.experiment import run_experiment
from benchmarks.harness.fitting import compute_scores, derive_seed
from benchmarks.harness.rules import NOT_EMPTY, Count, Known, Several
from sk_mixup import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    MixupRegressor,
    fit_stacked,
)

__all__ = ["COMMAND", "Config", "run"]

TABLES = TUNE["classification"] + TUNE["regression"]
# Ten thousand columns: hundreds of times the work of another table.
TOO_WIDE = ("arcene",)


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the measurement behind the estimators' defaults."""

    datasets: Annotated[tuple[str, ...], Known(TABLES)] = ()
    """Tables to use; none for all at hand on which defaults may be chosen, but Arcene."""

    rows: Annotated[tuple[Count, ...], NOT_EMPTY] = (50, 200, 1000, 5000)
    """Numbers of training rows; a table has at least a quarter more of them."""

    many_rows: Count = 1000
    """From so many training rows on only ``factors_of_many`` are changed."""

    factors_of_many: Annotated[tuple[str, ...], Known(tuple(FACTORS))] = ("schedule", "alpha")
    """Options that are changed with many rows."""

    test_rows: Count = 500
    """Rows for testing at most."""

    factors: Annotated[tuple[str, ...], Known(tuple(FACTORS)), NOT_EMPTY] = tuple(FACTORS)
    """Options that are changed."""

    seeds_each: Several = 2
    """Repeats on each table, unless --seeds is given."""


PRESETS = {
    "cpu": Config(),
    "paper": Config(rows=(50, 100, 200, 500, 1000, 5000, 20_000), many_rows=10_000, seeds_each=10),
    "gpu": Config(device="cuda", n_jobs=1),
    "smoke": Config(datasets=("iris", "diabetes"), rows=(24,), factors=("alpha",), n_seeds=2, n_jobs=1),
}


def run(config: Config) -> int:
    """Measure, print tables and write the results."""
    return run_experiment(
        COMMAND,
        config,
        names=config.datasets,
        worker=fit_levels,
        make_tasks=partial(make_tasks, config),
        summarise=summarise,
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
    scaled = {is_robust: _scale(table, train, test, is_robust=is_robust) for is_robust in (False, True)}
    y = table.y if table.is_real else LabelEncoder().fit_transform(table.y)
    options: dict[str, Any] = {"random_state": seed, "device": config.device}
    kind = MixupRegressor if table.is_real else MixupClassifier
    if not table.is_real:
        options["classes"] = np.unique(y).tolist()
    wanted = config.factors if n_rows < config.many_rows else config.factors_of_many
    factors = [factor for factor in wanted if not table.is_real or factor not in OF_CLASSES]
    names = [("", "default"), *((factor, level) for factor in factors for level in FACTORS[factor])]
    nets = [kind(**options, **(FACTORS[factor][level] if factor else {})) for factor, level in names]
    with warnings.catch_warnings():  # of the few rows that some are told to hold out
        warnings.simplefilter("ignore", UserWarning)
        inputs = [scaled[factor == SCALING] for factor, _ in names]
        fit_stacked([(net, X, y[train]) for net, (X, _) in zip(nets, inputs, strict=True)], window=math.inf)
    several = MixupEnsembleRegressor if table.is_real else MixupEnsembleClassifier
    ensemble = several(kind(**options), random_state=seed).fit(scaled[False][0], y[train])
    scored = zip(
        [*names, ("number of nets", "8")],
        [*nets, ensemble],
        [X_test for _, X_test in [*inputs, scaled[False]]],
        strict=True,
    )
    same = {"task": "regression" if table.is_real else "classification", "rows": n_rows, "repeat": repeat}
    return {
        "records": [
            {"dataset": table.name, "factor": factor, "level": level, **same, **score(net, X_test, y[test])}
            for (factor, level), net, X_test in scored
        ]
    }


def _scale(table: Frame, train: np.ndarray, test: np.ndarray, *, is_robust: bool) -> tuple[Any, Any]:
    prepare = make_preparation(table, is_robust=is_robust)
    return prepare.fit_transform(table.X.iloc[train]), prepare.transform(table.X.iloc[test])


def make_preparation(table: Frame, *, is_robust: bool = False) -> Any:
    """Return what makes numbers near unit scale of a table: categories one-hot, means for missing numbers."""
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    robust = (RobustScaler(), FunctionTransformer(clip_smoothly))
    scale = robust if is_robust else (StandardScaler(),)
    fill = make_pipeline(SimpleImputer(keep_empty_features=True), *scale)
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
        f"missing numbers, standardised. From {config.many_rows} training rows on only "
        f"{' and '.join(config.factors_of_many)} are changed. Robust scaling: by the median and the "
        "quartiles, then x / sqrt(1 + (x / 3)^2). The mean of later weights is over the later half of the "
        "epochs. All settings are fitted to the same rows with the same seeds. Only tables on which "
        "defaults may be chosen are used. The loss is the NLL of classes or the squared error, means over "
        "repeats; set against that of the defaults, the NLL in per cent of its mean over all tables, the "
        "squared error by its ratio on each table (geometric mean), the error of classes in points. "
        "Means and 95 % t-intervals are over tables. The rank (1 is best) is by loss among the levels of one "
        "option and its default."
    )


COMMAND = Command(
    name="defaults",
    order=13,
    paper="none; the choices behind the estimators' defaults",
    claim="early stopping and other options by number of rows, one at a time",
    presets=PRESETS,
    times={"cpu": "17 minutes of CPU time", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    draw=draw_levels,
)
