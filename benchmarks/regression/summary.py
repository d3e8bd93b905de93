"""From records of the comparison on real-valued targets to tables and a plot."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from benchmarks.harness.figures import draw_intervals, make_figure, make_legend, pick_color
from benchmarks.harness.intervals import compute_corrected_interval
from benchmarks.harness.paired_differences import (
    Metric,
    format_difference,
    format_mean,
    group_records,
    read_interval,
    summarise_pairs,
)
from benchmarks.regression.data import REGRESSION_TITLES

__all__ = ["PUBLISHED", "draw_changes", "summarise", "tabulate"]

Row = Mapping[str, Any]
BASELINE = "ERM"
METRICS = {"rmse": "RMSE", "mape": "MAPE, %"}
OPTIONS = {"lr": "lr", "alpha": "alpha", "bandwidth": "h"}
# RMSE and MAPE in % of C-Mixup's authors, as quoted in arXiv 2506.06853.
PUBLISHED = {
    ("airfoil", "ERM"): (2.901, 1.753),
    ("airfoil", "mixup"): (3.730, 2.327),
    ("airfoil", "C-Mixup"): (2.717, 1.610),
    ("no2", "ERM"): (0.537, 13.615),
    ("no2", "mixup"): (0.528, 13.534),
    ("no2", "C-Mixup"): (0.509, 12.998),
}
NOT_RUN = "not run"


def summarise(records: Sequence[Row], *, test_ratio: float) -> list[dict[str, Any]]:
    """Return one flat row for each table and method.

    RMSE in the targets' unit, MAPE in per cent, changes in per cent of ERM's mean; every mean with the ends
    of its 95 % interval. Medians of what was chosen.
    """
    return summarise_pairs(
        records,
        dict.fromkeys(METRICS, Metric(change="per cent")),
        by=["dataset"],
        baseline=BASELINE,
        interval=partial(compute_corrected_interval, test_ratio=test_ratio),
        describe=_describe_method,
    )


def _describe_method(group: Sequence[Row]) -> dict[str, Any]:
    """Return the medians of what was chosen, and the published figures."""
    row: dict[str, Any] = {}
    for option in OPTIONS:
        chosen = [record[option] for record in group]
        row[f"median_{option}"] = None if None in chosen else float(np.median(chosen))
    published = PUBLISHED.get((group[0]["dataset"], group[0]["method"]), (None, None))
    return row | {f"published_{metric}": figure for metric, figure in zip(METRICS, published, strict=True)}


def tabulate(document: Row) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables, one for each metric."""
    summary = document["summary"]
    return {
        f"Test {title}": [_format_row(row, metric) for row in summary] + _list_missing(summary, metric)
        for metric, title in METRICS.items()
    }


def _format_row(row: Row, metric: str) -> dict[str, str]:
    is_baseline = row["method"] == BASELINE
    change = format_difference(read_interval(row, f"{metric}_change"), 1)
    return {
        "data": row["dataset"],
        "method": row["method"],
        "n": str(row["n_repeats"]),
        "ours": format_mean(row, metric, 3),
        "against ERM, %": "" if is_baseline else change,
        "wins": "" if is_baseline else f"{row[f'{metric}_wins']:.0%}",
        "median choice": ", ".join(
            f"{short} {row[f'median_{option}']:g}"
            for option, short in OPTIONS.items()
            if row[f"median_{option}"] is not None
        ),
        "published": _format_published(row[f"published_{metric}"]),
    }


def _list_missing(summary: Sequence[Row], metric: str) -> list[dict[str, str]]:
    """Return rows with the published figures of sets that were not run."""
    done = {row["dataset"] for row in summary}
    place = list(METRICS).index(metric)
    empty = dict.fromkeys(("against ERM, %", "wins", "median choice"), "")
    return [
        {"data": dataset, "method": method, "n": "", "ours": NOT_RUN}
        | empty
        | {"published": _format_published(figures[place])}
        for (dataset, method), figures in PUBLISHED.items()
        if dataset not in done
    ]


def _format_published(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.3f}"


def draw_changes(document: Row) -> Figure:
    """Draw each method's change from ERM with its 95 % interval: a column a metric, a row a table."""
    groups = group_records([row for row in document["summary"] if row["method"] != BASELINE], "dataset")
    figure = make_figure(0.9 + 0.95 * len(groups))
    axes = figure.subplots(len(groups), len(METRICS), squeeze=False, sharex="col")
    for line, ((dataset,), rows) in zip(axes, groups.items(), strict=True):
        for ax, metric in zip(line, METRICS, strict=True):
            intervals = [read_interval(row, f"{metric}_change") for row in rows]
            draw_intervals(ax, intervals, [pick_color(interval) for interval in intervals])
            ax.set_yticks(range(len(rows)), [row["method"] for row in rows])
        line[0].set_title(REGRESSION_TITLES[dataset], loc="left", fontweight="bold")
        line[1].set_yticklabels([])
    for ax, metric in zip(axes[-1], METRICS, strict=True):
        ax.set_xlabel(f"test {metric.upper()} against ERM, %")
    legend = make_legend("better than ERM", "worse than ERM")
    figure.legend(handles=legend, loc="outside lower center", ncols=3, frameon=False)
    return figure
