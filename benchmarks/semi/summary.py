"""From records of the benchmark of few labels to tables and a plot."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from benchmarks.data.tables import TABLE_TITLES
from benchmarks.harness.figures import BASELINES, ERM, MIXUP, VICINITIES, add_legend, make_figure, tidy
from benchmarks.harness.intervals import compute_corrected_interval
from benchmarks.harness.paired_differences import (
    MakeInterval,
    Metric,
    fill_columns,
    format_difference,
    format_mean,
    group_records,
    read_interval,
    summarise_pairs,
)
from benchmarks.semi.methods import METHODS

__all__ = ["draw_errors", "summarise", "tabulate"]

METRICS = {"error": Metric(100.0), "nll": Metric()}
BASELINE = "erm"
DIGITS = {"error": 1, "nll": 3}
RIVALS = ("self_training", "label_spreading")
AXES = {"error": "test error, %", "nll": "test NLL, nats"}
STYLES = {
    "erm": (ERM, "o"),
    "mixup": (MIXUP, "o"),
    "ict": (VICINITIES[0], "s"),
    "mixmatch": (VICINITIES[1], "D"),
    "self_training": (BASELINES[0], "^"),
    "label_spreading": (BASELINES[1], "v"),
}
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
        **_format_rival(row),
        "test NLL": format_mean(row, "nll", DIGITS["nll"]),
        "NLL against ERM": _format_difference(row, "nll"),
        "chosen, median": f"{method.option} {row['median_chosen']:g}",
        "seconds": f"{row['seconds']:.1f}",
    }


def _format_difference(row: Row, metric: str) -> str:
    if row["method"] == BASELINE:
        return ""
    return format_difference(read_interval(row, f"{metric}_diff"), DIGITS[metric])


def _format_rival(row: Row) -> dict[str, str]:
    """Return the difference in error from the better of scikit-learn's methods, if one was run."""
    if row["rival"] is None:
        return {}
    difference = format_difference(read_interval(row, "rival_diff"), DIGITS["error"])
    title = f"against {METHODS[row['rival']].title}"
    return {title: "" if row["method"] == row["rival"] else difference}


def draw_errors(document: Row) -> Figure:
    """Draw error and NLL with their intervals by the number of labels: a row a table, a column a metric."""
    summary = document["summary"]
    names = list(dict.fromkeys(row["dataset"] for row in summary))
    figure = make_figure(0.8 + 2.7 * len(names))
    axes = figure.subplots(len(names), len(METRICS), squeeze=False)
    for line, name in zip(axes, names, strict=True):
        rows = [row for row in summary if row["dataset"] == name]
        for ax, metric in zip(line, METRICS, strict=True):
            _draw_panel(ax, rows, metric)
            ax.set_title(TABLE_TITLES[name])
    add_legend(figure, axes[0, 0])
    return figure


def _draw_panel(ax: Axes, rows: Sequence[Row], metric: str) -> None:
    numbers = list(dict.fromkeys(row["n_labels"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for place, method in enumerate(methods):
        own = [row for row in rows if row["method"] == method]
        x = [numbers.index(row["n_labels"]) + 0.12 * (place - (len(methods) - 1) / 2) for row in own]
        means = [row[metric] for row in own]
        halves = [(row[f"{metric}_high"] - row[f"{metric}_low"]) / 2 for row in own]
        color, marker = STYLES[method]
        title = METHODS[method].title
        ax.errorbar(x, means, yerr=halves, fmt=marker, color=color, label=title, markersize=5, capsize=2)
    ax.set_xticks(range(len(numbers)), [str(n) for n in numbers])
    ax.set(xlabel="labels a class", ylabel=AXES[metric])
    ax.set_ylim(bottom=0)
    tidy(ax, "y")
