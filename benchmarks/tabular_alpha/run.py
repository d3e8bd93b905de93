"""Claim: mixup pays on tables with few rows and with wrong labels; which alpha, by rows and share of them.

Not in the paper, whose section 3.4 replaces labels of images.

    python -m benchmarks tabular-alpha                  scikit-learn's four tables, no network
    python -m benchmarks tabular-alpha --data-dir DIR   the tables named in TUNE of benchmarks/data/frames.py

All nets of a table, a number of rows and a repeat see the same rows and are trained as one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from benchmarks.data.frames import FRAME_NAMES, TUNE, Frame, load_frames
from benchmarks.data.tables import EMBEDDED_NAMES
from benchmarks.harness.command import BaseConfig, Command
from benchmarks.harness.experiment import run_experiment
from benchmarks.harness.figures import add_legend, list_shades, make_figure, tidy
from benchmarks.harness.fitting import compute_scores, derive_seed
from benchmarks.harness.paired_differences import (
    Metric,
    format_difference,
    group_records,
    read_interval,
    summarise_pairs,
)
from benchmarks.harness.rules import NOT_EMPTY, Count, Known, Within
from benchmarks.tabular.contenders import list_packages, prepare
from benchmarks.tabular.run import spoil_labels
from sk_mixup import MixupClassifier, fit_stacked

__all__ = ["COMMAND", "Config", "run"]

Row = Mapping[str, Any]
AXES = {
    "nll_diff": "test NLL against alpha=0,\nnats",
    "error_diff": "test error against alpha=0,\npoints",
}
# Differences, not ratios: without wrong labels the NLL of some tables is next to nothing.
METRICS = {"nll": Metric(), "error": Metric(scale=100)}
FEWEST_TEST_ROWS = 50


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the measurement of alpha."""

    datasets: Annotated[tuple[str, ...], Known(FRAME_NAMES)] = ()
    """Tables to use; none for those on which defaults are chosen, or scikit-learn's."""

    rows: Annotated[tuple[Count, ...], NOT_EMPTY] = (100, 300, 1000)
    """Numbers of training rows; a table takes part in those that leave 50 rows for testing."""

    noise: Annotated[tuple[float, ...], Within(0, 1), NOT_EMPTY] = (0, 0.1, 0.2, 0.4)
    """Shares of the training labels that are wrong."""

    alphas: Annotated[tuple[float, ...], Within(0), NOT_EMPTY] = (0.1, 0.2, 0.5, 1, 2)
    """Values of alpha that are compared with 0."""

    max_epochs: Count = 200
    """Most epochs of a fit; the estimator's default."""

    test_rows: Count = 2000
    """Most rows for testing."""

    seeds_each: Count = 3
    """Repeats on each table, unless --seeds is given."""

    def choose_names(self) -> tuple[str, ...]:
        """Return the tables to load."""
        is_embedded = self.data_dir is None and not self.download
        return self.datasets or (EMBEDDED_NAMES if is_embedded else TUNE["classification"])


PRESETS = {
    "cpu": Config(),
    "smoke": Config(
        datasets=("iris",), rows=(50,), noise=(0, 0.4), alphas=(1,), max_epochs=3, n_seeds=2, n_jobs=1
    ),
}


def run(config: Config) -> int:
    """Measure, print tables and write the results."""
    return run_experiment(
        COMMAND,
        config,
        names=config.choose_names(),
        worker=compare,
        make_tasks=partial(make_tasks, config),
        summarise=summarise,
        protocol=(
            "MixupClassifier at its defaults behind skrub's tabular_pipeline (without skrub medians, one-hot "
            f"codes, standardisation), at most {config.max_epochs} epochs. Training rows are drawn at "
            f"random, of the others at most {config.test_rows} are for testing; wrong labels are another "
            "class's, each as likely. Changes are from alpha=0 on the same rows with the same labels, means "
            "over the tables: NLL in nats, error in points; with Student's 95 % intervals over the tables."
        ),
        load=load_frames,
        libraries=list_packages(()),
    )


def make_tasks(config: Config, tables: list[Frame]) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`compare` for each table, number of rows and repeat."""
    return {
        f"{table.name}/{n_rows}/{repeat}": (config, table, n_rows, repeat)
        for table in tables
        for n_rows in config.rows
        if len(table.X) >= n_rows + FEWEST_TEST_ROWS
        for repeat in range(config.n_seeds or config.seeds_each)
    }


def compare(config: Config, table: Frame, n_rows: int, repeat: int) -> dict[str, Any]:
    """Fit every alpha to every share of wrong labels, all nets as one, and score them on the other rows."""
    seed = derive_seed(table.name, repeat)
    codes = np.unique(table.y, return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(codes.size)
    train, test = order[:n_rows], order[n_rows:][: config.test_rows]
    options = {"classes": np.unique(codes).tolist(), "max_epochs": config.max_epochs, "random_state": seed}
    scale = prepare(MixupClassifier())[:-1].fit(table.X.iloc[train])
    X, X_test = (np.asarray(scale.transform(table.X.iloc[rows]), np.float32) for rows in (train, test))
    cases = [(noise, alpha) for noise in config.noise for alpha in (0, *config.alphas)]
    nets = fit_stacked(
        (MixupClassifier(alpha=alpha, **options), X, spoil_labels(codes, train, noise, seed)[train])
        for noise, alpha in cases
    )
    records = []
    for (noise, alpha), net in zip(cases, nets, strict=True):
        scores = compute_scores(net, X_test, codes[test])
        record = {"dataset": table.name, "rows": n_rows, "noise": noise, "alpha": alpha, "repeat": repeat}
        records.append(record | {"nll": round(scores.nll, 6), "error": round(scores.error, 6)})
    return {"records": records}


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a row for each number of rows, share of wrong labels and alpha: means of the tables' means."""
    keys = ("rows", "noise", "alpha", "dataset")
    means = [
        dict(zip(keys, key, strict=True))
        | {name: float(np.mean([r[name] for r in group])) for name in METRICS}
        for key, group in sorted(group_records(records, *keys).items())
    ]
    return summarise_pairs(means, METRICS, by=keys[:2], baseline=0, contender="alpha", pair="dataset")


def tabulate(document: Row) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: changes from alpha=0, a column an alpha."""
    return {
        f"{title} against alpha=0": [
            {"rows": str(rows), "wrong labels": f"{noise:.0%}", "tables": str(group[0]["n_repeats"])}
            | {
                f"alpha {row['alpha']:g}": format_difference(read_interval(row, name), digits)
                for row in group
                if row["alpha"]
            }
            for (rows, noise), group in group_records(document["summary"], "rows", "noise").items()
        ]
        for title, name, digits in (
            ("Test NLL, nats,", "nll_diff", 3),
            ("Test error, points,", "error_diff", 1),
        )
    }


def draw_alphas(document: Row) -> Figure:
    """Draw changes from alpha=0: a column a number of rows, a line a share of wrong labels."""
    groups = group_records(document["summary"], "rows")
    figure = make_figure(0.9 + 2.1 * len(AXES))
    axes = figure.subplots(len(AXES), len(groups), squeeze=False, sharex="col", sharey="row")
    for column, ((n_rows,), rows) in zip(axes.T, groups.items(), strict=True):
        for ax, name in zip(column, AXES, strict=True):
            _draw_panel(ax, rows, name)
        column[0].set_title(f"{n_rows:,} training rows\n({rows[0]['n_repeats']} tables)")
        column[-1].set_xlabel("alpha")
    for ax, label in zip(axes[:, 0], AXES.values(), strict=True):
        ax.set_ylabel(label)
    figure.suptitle(
        "Which alpha, by rows and share of wrong labels? Ring: the best of a line; band: 95 % interval"
    )
    add_legend(figure, axes[0, 0])
    return figure


def _draw_panel(ax: Axes, rows: Sequence[Row], name: str) -> None:
    lines = group_records(rows, "noise")
    for ((noise,), line), color in zip(lines.items(), list_shades(len(lines)), strict=True):
        middle, low, high = ([row[f"{name}{end}"] for row in line] for end in ("", "_low", "_high"))
        ax.plot(middle, "o-", color=color, markersize=3.5, label=f"{noise:.0%} wrong labels")
        ax.fill_between(range(len(line)), low, high, color=color, alpha=0.12, linewidth=0)
        best = int(np.argmin(middle))
        ax.plot(best, middle[best], "o", mfc="none", mec=color, mew=1.4, markersize=9)
    ax.set_xticks(range(len(line)), [f"{row['alpha']:g}" for row in line])
    ax.axhline(0, color="black", linewidth=0.8)
    tidy(ax)


COMMAND = Command(
    name="tabular-alpha",
    order=8,
    paper="none; section 3.4 for wrong labels",
    claim="which alpha for a table: rows x wrong labels x alpha, against alpha=0",
    presets=PRESETS,
    times={"cpu": "13 minutes of CPU time", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    draw=draw_alphas,
)
