"""From records of the comparison on real-valued targets to tables, a plot and a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.harness.figures import draw_intervals, make_figure, make_legend, pick_color, render_png
from benchmarks.harness.intervals import compute_corrected_interval, count_wins
from benchmarks.harness.paired_differences import (
    count_signs,
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
)
from benchmarks.regression.data import REGRESSION_TITLES

__all__ = ["PUBLISHED", "describe_finding", "draw_changes", "summarise", "tabulate"]

BASELINE = "ERM"
METRICS = {"rmse": "RMSE", "mape": "MAPE, %"}
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


def summarise(records: Sequence[Mapping[str, Any]], *, test_ratio: float) -> list[dict[str, Any]]:
    """Return one flat row for each table and method.

    RMSE in the targets' unit, MAPE in per cent, changes in per cent of ERM's mean; every mean with the ends
    of its 95 % interval. Medians of what was chosen.
    """
    groups = group_records(records, "dataset", "method")
    return [
        _summarise_method(dataset, method, group, groups[dataset, BASELINE], test_ratio)
        for (dataset, method), group in groups.items()
    ]


def _summarise_method(
    dataset: str,
    method: str,
    group: Sequence[Mapping[str, Any]],
    baseline: Sequence[Mapping[str, Any]],
    test_ratio: float,
) -> dict[str, Any]:
    row: dict[str, Any] = {"dataset": dataset, "method": method, "n_repeats": len(group)}
    for option in ("lr", "alpha", "bandwidth"):
        chosen = [record[option] for record in group]
        row[f"median_{option}"] = None if None in chosen else float(np.median(chosen))
    published = PUBLISHED.get((dataset, method), (None, None))
    for metric, figure in zip(METRICS, published, strict=True):
        values, others = (np.array([record[metric] for record in part]) for part in (group, baseline))
        change = 100 * (values - others) / others.mean()
        row |= flatten_interval(metric, compute_corrected_interval(values, test_ratio))
        row |= flatten_interval(f"{metric}_change", compute_corrected_interval(change, test_ratio))
        row |= {f"{metric}_wins": round(count_wins(change), 3), f"published_{metric}": figure}
    return row


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables, one for each metric."""
    summary = document["summary"]
    return {
        f"Test {title}": [_format_row(row, metric) for row in summary] + _list_missing(summary, metric)
        for metric, title in METRICS.items()
    }


def _format_row(row: Mapping[str, Any], metric: str) -> dict[str, str]:
    is_baseline = row["method"] == BASELINE
    change = format_difference(read_interval(row, f"{metric}_change"), 1)
    chosen = {"lr": "lr", "alpha": "alpha", "bandwidth": "h"}
    return {
        "data": row["dataset"],
        "method": row["method"],
        "n": str(row["n_repeats"]),
        "ours": format_mean(row, metric, 3),
        "against ERM, %": "" if is_baseline else change,
        "wins": "" if is_baseline else f"{row[f'{metric}_wins']:.0%}",
        "median choice": ", ".join(
            f"{short} {row[f'median_{option}']:g}"
            for option, short in chosen.items()
            if row[f"median_{option}"] is not None
        ),
        "published": _format_published(row[f"published_{metric}"]),
    }


def _list_missing(summary: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, str]]:
    """Return rows with the published figures of sets that were not run."""
    done = {row["dataset"] for row in summary}
    place = list(METRICS).index(metric)
    return [
        {
            "data": dataset,
            "method": method,
            "n": "",
            "ours": NOT_RUN,
            "against ERM, %": "",
            "wins": "",
            "median choice": "",
            "published": _format_published(figures[place]),
        }
        for (dataset, method), figures in PUBLISHED.items()
        if dataset not in done
    ]


def _format_published(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.3f}"


def describe_finding(summary: Sequence[Mapping[str, Any]]) -> str:
    """Return one sentence: on how many tables each method is better than ERM, and on how many worse."""
    parts = []
    for (method,), rows in group_records(summary, "method").items():
        if method != BASELINE:
            lower, higher = count_signs(rows, "rmse_change")
            parts.append(f"{method}'s is lower on {lower} and higher on {higher} of {len(rows)}")
    return (
        f"Test RMSE against ERM's, by tables: {'; '.join(parts)} (counted where the 95 % interval of the "
        "difference excludes 0)."
    )


def draw_changes(summary: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw each method's change from ERM with its 95 % interval: a column a metric, a row a table."""
    groups = group_records([row for row in summary if row["method"] != BASELINE], "dataset")
    figure = make_figure(1.3 + 1.2 * len(groups))
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
    return render_png(figure)
