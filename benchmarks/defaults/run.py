"""Claim: the defaults of ``MixupClassifier`` are good choices on public tables.

Not in the paper, which gives ten epochs and batch 16 for its tables (Table 4) and alpha in
[0.1, 0.4] for ImageNet (Section 3.1).

    python -m benchmarks defaults                     scikit-learn's four UCI sets, no network
    python -m benchmarks defaults --data-dir DIR      and the paper's sets of at most 5,000 rows

One option at a time is changed from a base point; all levels are fitted to the same splits with
the same seeds.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.data.tables import Table, TableConfig, TableNames, choose_smaller_tables, load_tables
from benchmarks.defaults.summary import describe_finding, draw_levels, summarise, tabulate
from benchmarks.harness.command import Command, UserError
from benchmarks.harness.experiment import run_experiment
from benchmarks.harness.fitting import compute_scores, derive_seed, make_net, measure_time, split_rows
from benchmarks.harness.rules import NotNegative, Several

__all__ = ["COMMAND", "Config", "parse_schedule", "run"]

Level = dict[str, Any]


def parse_schedule(text: str) -> dict[str, Any]:
    """Return the classifier's options of one way to end the training.

    Examples
    --------
    >>> from benchmarks.defaults.run import parse_schedule
    >>> parse_schedule("50")
    {'early_stopping': False, 'max_epochs': 50}
    """
    try:
        if not text.startswith("early-"):
            return {"early_stopping": False, "max_epochs": int(text)}
        _, fraction, patience = text.split("-")
        return {
            "early_stopping": True,
            "max_epochs": 200,
            "validation_fraction": float(fraction),
            "n_iter_no_change": int(patience),
        }
    except ValueError:
        raise UserError(
            "a schedule must be a number of epochs or early-<fraction>-<patience>; "
            f"got {text!r}. Use 100 or early-0.2-10."
        ) from None


@dataclass(frozen=True, kw_only=True)
class Config(TableConfig):
    """Options of the measurement behind the estimator's defaults."""

    datasets: TableNames = ()
    """Tables to use; none for all at hand (of UCI's, those of at most 5,000 rows)."""

    base_alpha: NotNegative = 0.2
    """Alpha of the base point."""

    base_schedule: str = "early-0.2-10"
    """Schedule of the base point: a number of epochs, or early-<fraction>-<patience>."""

    base_batch_size: int = 32
    """Batch size of the base point."""

    base_lam_per: str = "example"
    """Whether the base point draws one weight per example or per batch."""

    alphas: tuple[NotNegative, ...] = (0, 0.1, 0.2, 0.4, 1.0)
    """Levels of alpha; 0 is ERM."""

    schedules: tuple[str, ...] = (
        "50",
        "100",
        "200",
        "early-0.1-10",
        "early-0.1-20",
        "early-0.2-10",
        "early-0.2-20",
    )
    """Levels of the schedule."""

    batch_sizes: tuple[int, ...] = (16, 32, 64, 128)
    """Levels of the batch size."""

    lam_pers: tuple[str, ...] = ("example", "batch")
    """Levels of the weight's scope."""

    seeds_each: Several = 10
    """Repeats on each table, unless --seeds is given."""

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        for schedule in (self.base_schedule, *self.schedules):
            parse_schedule(schedule)

    def make_levels(self) -> dict[str, list[Level]]:
        """Return every factor's levels, each a whole setting of the four options."""
        base = {
            "alpha": self.base_alpha,
            "schedule": self.base_schedule,
            "batch_size": self.base_batch_size,
            "lam_per": self.base_lam_per,
        }
        choices: dict[str, tuple[Any, ...]] = {
            "alpha": self.alphas,
            "schedule": self.schedules,
            "batch_size": self.batch_sizes,
            "lam_per": self.lam_pers,
        }
        return {
            factor: [base | {factor: value} for value in dict.fromkeys((*values, base[factor]))]
            for factor, values in choices.items()
        }


PRESETS = {
    "cpu": Config(),
    "paper": Config(seeds_each=50),
    "gpu": Config(device="cuda", n_jobs=4),
    "smoke": Config(
        datasets=("iris",),
        n_seeds=2,
        n_jobs=1,
        alphas=(0, 0.2),
        base_schedule="3",
        schedules=("3", "early-0.2-2"),
        batch_sizes=(32, 64),
    ),
}


def run(config: Config) -> int:
    """Measure, print a table, a plot's path and one sentence, and write the results."""
    return run_experiment(
        COMMAND,
        config,
        names=choose_names(config),
        worker=fit_once,
        make_tasks=partial(make_tasks, config),
        summarise=partial(summarise, levels=config.make_levels()),
        describe_finding=describe_finding,
        draw=draw_levels,
        protocol=describe_protocol(config),
        load=load_tables,
    )


def choose_names(config: Config) -> tuple[str, ...]:
    """Return the tables asked for; without names the bundled ones and UCI's smaller ones."""
    return config.datasets or choose_smaller_tables(config.data_dir, download=config.download)


def make_tasks(config: Config, tables: list[Table]) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`fit_once` for each table, distinct setting and repeat."""
    settings = {name_level(level): level for levels in config.make_levels().values() for level in levels}
    return {
        f"{table.name}/{name}/{repeat}": (config, table, level, repeat)
        for table in tables
        for name, level in settings.items()
        for repeat in range(config.n_seeds or config.seeds_each)
    }


def name_level(level: Level) -> str:
    """Return a setting in one word, such as "alpha=0.2,schedule=50,…"."""
    return ",".join(f"{key}={value}" for key, value in level.items())


def fit_once(config: Config, table: Table, level: Level, repeat: int) -> dict[str, Any]:
    """Fit one setting to one split and score it on the test rows.

    The setting, test error in [0, 1], test NLL in nats, seconds of the fit.
    """
    seed = derive_seed(table.name, repeat)
    train, test = split_rows(table.y, config.test_size, seed)
    options = {key: value for key, value in level.items() if key != "schedule"}
    options |= parse_schedule(level["schedule"]) | {"device": config.device, "random_state": seed}
    net = make_net(table.X, classes=np.unique(table.y).tolist(), **options)
    with measure_time() as watch:
        net.fit(table.X[train], table.y[train])
    scores = compute_scores(net, table.X[test], table.y[test])
    return {
        "dataset": table.name,
        **level,
        "repeat": repeat,
        "error": round(scores.error, 6),
        "nll": round(scores.nll, 6),
        "seconds": round(watch.seconds, 3),
    }


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    return (
        "One option at a time is changed from the base point "
        f"alpha={config.base_alpha:g}, schedule={config.base_schedule}, "
        f"batch_size={config.base_batch_size}, lam_per={config.base_lam_per}; all other options "
        "are the estimator's defaults. A schedule is a number of epochs on all training rows, or "
        "early-<share of rows held out>-<patience> with at most 200 epochs. Standardised inputs, "
        f"random {1 - config.test_size:.0%}/{config.test_size:.0%} splits, every level on the "
        "same splits with the same seeds. A level's NLL is compared by the ratio of its mean to "
        "the base point's on each table, its error by the difference; means and 95 % t-intervals "
        "are over tables. The rank (1 is best) is by mean NLL among the levels of one factor."
    )


COMMAND = Command(
    name="defaults",
    order=13,
    paper="none; the choices behind the estimator's defaults",
    claim="alpha, epochs, batch size and weight per example or batch, one at a time",
    presets=PRESETS,
    times={"cpu": "25 minutes of CPU time", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
)
