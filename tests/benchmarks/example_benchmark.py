"""Claim: mixup lowers the test error of a small net on Iris."""

from dataclasses import dataclass
from typing import Any

from benchmarks.data.tables import Table, load_tables
from benchmarks.harness.command import BaseConfig, Command
from benchmarks.harness.experiment import run_experiment
from benchmarks.harness.figures import draw_column
from benchmarks.harness.fitting import compute_scores, derive_seed, make_net, split_rows
from benchmarks.harness.paired_differences import Metric, format_mean, summarise_pairs

METRICS = {"error": Metric(scale=100)}
DRAW = draw_column("error_diff", "method")


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    max_epochs: int = 30
    """Epochs of each fit: every field is an option, and its text stands in --help."""
    seeds_each: int = 10
    """Repeats; --seeds takes the place of all fields that begin with seeds_."""


def run(config: Config) -> int:
    def make_tasks(tables: list[Table]) -> dict[str, tuple[Any, ...]]:
        repeats = range(config.n_seeds or config.seeds_each)
        return {f"{table.name}/{repeat}": (config, table, repeat) for table in tables for repeat in repeats}

    return run_experiment(
        COMMAND,
        config,
        names=["iris"],
        load=load_tables,
        make_tasks=make_tasks,
        worker=compare,
        summarise=lambda found: summarise_pairs(found, METRICS, by=["dataset"], baseline="ERM"),
        protocol=f"{config.max_epochs} epochs, random splits of 80 % and 20 %.",
    )


def compare(config: Config, table: Table, repeat: int) -> dict[str, Any]:
    seed, records = derive_seed(table.name, repeat), []
    train, test = split_rows(table.y, 0.2, seed)
    for method, alpha in {"ERM": 0.0, "mixup": 0.4}.items():
        net = make_net(table.X, alpha=alpha, max_epochs=config.max_epochs, random_state=seed)
        error = compute_scores(net.fit(table.X[train], table.y[train]), table.X[test], table.y[test]).error
        records.append({"dataset": table.name, "method": method, "repeat": repeat, "error": error})
    return {"records": records}


def tabulate(document: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    return {"Error, %": [{row["method"]: format_mean(row, "error", 1) for row in document["summary"]}]}


PRESETS = {"cpu": Config(), "smoke": Config(n_seeds=2, max_epochs=2, n_jobs=1)}
COMMAND = Command("iris-error", "none", "test error of mixup on Iris", PRESETS, run, tabulate, DRAW)
