"""From records of the benchmark of few labels to tables, claims and a plot."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
import numpy as np

from benchmarks.data.tables import TABLE_TITLES
from benchmarks.harness.figures import add_legend, make_figure, render_png, tidy
from benchmarks.harness.intervals import compute_corrected_interval
from benchmarks.harness.paired_differences import (
    MakeInterval,
    Metric,
    fill_columns,
    format_difference,
    format_mean,
    group_records,
    judge_difference,
    read_interval,
    summarise_pairs,
)
from benchmarks.semi.methods import METHODS

__all__ = ["describe_finding", "draw_errors", "summarise", "tabulate"]

METRICS = {"error": Metric(100.0), "nll": Metric()}
BASELINE = "erm"
DIGITS = {"error": 1, "nll": 3}
OURS = ("ict", "mixmatch")
RIVALS = ("self_training", "label_spreading")
COLORS = dict(zip(METHODS, ("#222222", "#8a8a8a", "#1b6ca8", "#c8553d", "#3c8d5a", "#8b5fbf"), strict=True))
BEST = "{where}: the lowest mean test error is that of {method}, {error:.1f} %."
CLAIM = "{where}, test error of {method}, {error:.1f} %: against {other} {verdict}."

ENDS = ("", "_low", "_high")
Row = Mapping[str, Any]


def summarise(records: Sequence[Row], *, test_ratio: float) -> list[dict[str, Any]]:
    """Return one flat row for each table, number of labels and method.

    Errors in per cent, NLL in nats; means with the ends of their 95 % intervals, and differences from ERM
    and, as ``rival_diff``, from the better of scikit-learn's methods on the same splits.
    """
    interval = partial(compute_corrected_interval, test_ratio=test_ratio)
    groups = group_records(records, "dataset", "n_labels").values()
    return fill_columns([row for group in groups for row in _compare_methods(group, interval)])


def _compare_methods(group: Sequence[Row], interval: MakeInterval) -> list[dict[str, Any]]:
    """Return the rows of one table and number of labels."""
    compare = partial(summarise_pairs, group, METRICS, by=("dataset", "n_labels"), interval=interval)
    rows = compare(baseline=BASELINE, describe=_describe_method)
    rivals = [row for row in rows if row["method"] in RIVALS]
    if not rivals:
        return [row | {"rival": None} for row in rows]
    rival = min(rivals, key=lambda row: row["error"])["method"]
    return [
        row | {"rival": rival, **{f"rival_diff{end}": other[f"error_diff{end}"] for end in ENDS}}
        for row, other in zip(rows, compare(baseline=rival), strict=True)
    ]


def _describe_method(own: Sequence[Row]) -> dict[str, Any]:
    return {
        "median_chosen": float(np.median([record["chosen"] for record in own])),
        "seconds": round(float(np.mean([record["seconds"] for record in own])), 3),
    }


def _name_place(row: Row) -> str:
    return f"{TABLE_TITLES[row['dataset']]}, {row['n_labels']} labels a class"


def tabulate(document: Row) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables, one for each table of data and number of labels."""
    tables: dict[str, list[dict[str, str]]] = {}
    for row in document["summary"]:
        tables.setdefault(_name_place(row), []).append(_format_row(row))
    return tables


def _format_row(row: Row) -> dict[str, str]:
    method = METHODS[row["method"]]
    return {
        "method": method.title,
        "n": str(row["n_repeats"]),
        "test error, %": format_mean(row, "error", DIGITS["error"]),
        "against ERM": _format_difference(row, "error"),
        "test NLL": format_mean(row, "nll", DIGITS["nll"]),
        "NLL against ERM": _format_difference(row, "nll"),
        "chosen, median": f"{method.option} {row['median_chosen']:g}",
        "seconds": f"{row['seconds']:.1f}",
    }


def _format_difference(row: Row, metric: str) -> str:
    if row["method"] == BASELINE:
        return ""
    return format_difference(read_interval(row, f"{metric}_diff"), DIGITS[metric])


def describe_finding(summary: Sequence[Row]) -> str:
    """Return, for each number of labels, which method was best and what ours did against the others."""
    claims = []
    for rows in group_records(summary, "dataset", "n_labels").values():
        best = min(rows, key=lambda row: row["error"])
        claims.append(_fill(BEST, best))
        for row in (row for row in rows if row["method"] in OURS):
            claims.append(_fill(CLAIM, row, other="ERM", verdict=judge_difference(row, "error_diff")))
            if row["rival"] is not None:
                other = METHODS[row["rival"]].title
                claims.append(_fill(CLAIM, row, other=other, verdict=judge_difference(row, "rival_diff")))
    return "\n".join(claims)


def _fill(template: str, row: Row, **words: str) -> str:
    method = METHODS[row["method"]].title
    return template.format(where=_name_place(row), method=method, error=row["error"], **words)


def draw_errors(summary: Sequence[Row]) -> bytes:
    """Draw error and NLL with their intervals by the number of labels: a row a table, a column a metric."""
    names = list(dict.fromkeys(row["dataset"] for row in summary))
    figure = make_figure(1.0 + 3.2 * len(names))
    axes = figure.subplots(len(names), len(METRICS), squeeze=False)
    for line, name in zip(axes, names, strict=True):
        rows = [row for row in summary if row["dataset"] == name]
        for ax, metric in zip(line, METRICS, strict=True):
            _draw_panel(ax, rows, metric)
        line[0].set_title(TABLE_TITLES[name], loc="left", fontweight="bold")
    add_legend(figure, axes[0, 0], len(METHODS))
    return render_png(figure)


def _draw_panel(ax: Axes, rows: Sequence[Row], metric: str) -> None:
    numbers = list(dict.fromkeys(row["n_labels"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for place, method in enumerate(methods):
        own = [row for row in rows if row["method"] == method]
        x = [numbers.index(row["n_labels"]) + 0.12 * (place - (len(methods) - 1) / 2) for row in own]
        means = [row[metric] for row in own]
        halves = [(row[f"{metric}_high"] - row[f"{metric}_low"]) / 2 for row in own]
        label, color = METHODS[method].title, COLORS[method]
        ax.errorbar(x, means, yerr=halves, fmt="o", color=color, label=label, capsize=2)
    ax.set_xticks(range(len(numbers)), [str(n) for n in numbers])
    ax.set_xlabel("labels a class")
    ax.set_ylabel("test error, %" if metric == "error" else "test NLL, nats")
    ax.set_ylim(bottom=0)
    tidy(ax, "y")
