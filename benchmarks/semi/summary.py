"""From records of the benchmark of few labels to tables, a plot and sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
import numpy as np

from benchmarks.data.tables import TABLE_TITLES
from benchmarks.harness.figures import make_figure, render_png, tidy
from benchmarks.harness.intervals import Interval, compute_corrected_interval
from benchmarks.semi.methods import METHODS

__all__ = ["describe_finding", "draw_errors", "summarise", "tabulate"]

SCALES = {"error": 100.0, "nll": 1.0}
DIGITS = {"error": 1, "nll": 3}
OURS = ("ict", "mixmatch")
RIVALS = ("self_training", "label_spreading")
COLORS = dict(zip(METHODS, ("#222222", "#8a8a8a", "#1b6ca8", "#c8553d", "#3c8d5a", "#8b5fbf"), strict=True))
WORDS = {-1: "clearly lower than", 0: "not clearly different from", 1: "clearly higher than"}

Group = dict[str, dict[str, np.ndarray]]


def summarise(records: Sequence[Mapping[str, Any]], *, test_ratio: float) -> list[dict[str, Any]]:
    """Return one flat row for each table, number of labels and method.

    Errors in per cent, NLL in nats; means with the ends of their 95 % intervals, and differences from ERM
    and from the better of scikit-learn's methods on the same splits.
    """
    keys = list(dict.fromkeys((record["dataset"], record["n_labels"]) for record in records))
    summary = []
    for dataset, n_labels in keys:
        chosen = [r for r in records if (r["dataset"], r["n_labels"]) == (dataset, n_labels)]
        group = _group_methods(chosen)
        for method in group:
            row = {"dataset": dataset, "n_labels": n_labels, "method": method}
            summary.append(row | _summarise_method(group, method, test_ratio))
    return summary


def _group_methods(records: Sequence[Mapping[str, Any]]) -> Group:
    """Return the values of each method in the order of the repeats."""
    names = [method for method in METHODS if any(record["method"] == method for record in records)]
    group: Group = {}
    for method in names:
        own = sorted((r for r in records if r["method"] == method), key=lambda record: record["repeat"])
        columns = ("error", "nll", "seconds", "chosen")
        group[method] = {column: np.array([r[column] for r in own], dtype=float) for column in columns}
        group[method]["error"] *= SCALES["error"]
    return group


def _summarise_method(group: Group, method: str, test_ratio: float) -> dict[str, Any]:
    own = group[method]
    rivals = [name for name in RIVALS if name in group]
    rival = min(rivals, key=lambda name: group[name]["error"].mean(), default=None)
    row: dict[str, Any] = {"n_repeats": len(own["error"]), "median_chosen": float(np.median(own["chosen"]))}
    for metric in SCALES:
        row |= _flatten(metric, compute_corrected_interval(own[metric], test_ratio))
        gap = own[metric] - group["erm"][metric]
        row |= _flatten(f"{metric}_diff", compute_corrected_interval(gap, test_ratio))
    row["rival"] = rival
    gap = own["error"] - (own if rival is None else group[rival])["error"]
    row |= _flatten("rival_diff", compute_corrected_interval(gap, test_ratio))
    return row | {"seconds": round(float(own["seconds"].mean()), 3)}


def _flatten(name: str, interval: Interval) -> dict[str, float]:
    ends = {"": interval.mean, "_low": interval.low, "_high": interval.high}
    return {f"{name}{suffix}": round(float(value), 5) for suffix, value in ends.items()}


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables, one for each table of data and number of labels."""
    tables: dict[str, list[dict[str, str]]] = {}
    for row in document["summary"]:
        title = f"{TABLE_TITLES[row['dataset']]}, {row['n_labels']} labels a class"
        tables.setdefault(title, []).append(_format_row(row))
    return tables


def _format_row(row: Mapping[str, Any]) -> dict[str, str]:
    method = METHODS[row["method"]]
    return {
        "method": method.title,
        "n": str(row["n_repeats"]),
        "test error, %": _format_mean(row, "error"),
        "against ERM": _format_difference(row, "error"),
        "test NLL": _format_mean(row, "nll"),
        "NLL against ERM": _format_difference(row, "nll"),
        "chosen, median": f"{method.option} {row['median_chosen']:g}",
        "seconds": f"{row['seconds']:.1f}",
    }


def _format_mean(row: Mapping[str, Any], metric: str) -> str:
    half = (row[f"{metric}_high"] - row[f"{metric}_low"]) / 2
    return f"{row[metric]:.{DIGITS[metric]}f} ± {half:.{DIGITS[metric]}f}"


def _format_difference(row: Mapping[str, Any], metric: str) -> str:
    if row["method"] == "erm":
        return ""
    mean, low, high = (row[f"{metric}_diff{end}"] for end in ("", "_low", "_high"))
    digits = DIGITS[metric]
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def describe_finding(summary: Sequence[Mapping[str, Any]]) -> str:
    """Return, for each number of labels, which method was best and what ours did against the others."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in summary:
        groups.setdefault((row["dataset"], row["n_labels"]), []).append(row)
    return " ".join(_describe_group(*key, rows) for key, rows in groups.items())


def _describe_group(dataset: str, n_labels: int, rows: Sequence[Mapping[str, Any]]) -> str:
    best = min(rows, key=lambda row: row["error"])
    parts = [
        f"{TABLE_TITLES[dataset]} with {n_labels} labels a class: {METHODS[best['method']].title} has the "
        f"lowest mean test error, {best['error']:.1f} %"
    ]
    parts += [_describe_method(row) for row in rows if row["method"] in OURS]
    return f"{'; '.join(parts)}."


def _describe_method(row: Mapping[str, Any]) -> str:
    text = f"{METHODS[row['method']].title}'s is {WORDS[_find_sign(row, 'error_diff')]} ERM's"
    if row["rival"] is None:
        return text
    return f"{text} and {WORDS[_find_sign(row, 'rival_diff')]} that of {METHODS[row['rival']].title}"


def _find_sign(row: Mapping[str, Any], name: str) -> int:
    return Interval(row[name], row[f"{name}_low"], row[f"{name}_high"]).find_sign()


def draw_errors(summary: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw error and NLL with their intervals by the number of labels: a row a table, a column a metric."""
    names = list(dict.fromkeys(row["dataset"] for row in summary))
    figure = make_figure(1.0 + 3.2 * len(names))
    axes = figure.subplots(len(names), len(SCALES), squeeze=False)
    for line, name in zip(axes, names, strict=True):
        rows = [row for row in summary if row["dataset"] == name]
        for ax, metric in zip(line, SCALES, strict=True):
            _draw_panel(ax, rows, metric)
        line[0].set_title(TABLE_TITLES[name], loc="left", fontweight="bold")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(METHODS), frameon=False)
    return render_png(figure)


def _draw_panel(ax: Axes, rows: Sequence[Mapping[str, Any]], metric: str) -> None:
    numbers = list(dict.fromkeys(row["n_labels"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for place, method in enumerate(methods):
        own = [row for row in rows if row["method"] == method]
        x = [numbers.index(row["n_labels"]) + 0.12 * (place - (len(methods) - 1) / 2) for row in own]
        means = [row[metric] for row in own]
        halves = [(row[f"{metric}_high"] - row[f"{metric}_low"]) / 2 for row in own]
        ax.errorbar(
            x, means, yerr=halves, fmt="o", color=COLORS[method], label=METHODS[method].title, capsize=2
        )
    ax.set_xticks(range(len(numbers)), [str(n) for n in numbers])
    ax.set_xlabel("labels a class")
    ax.set_ylabel("test error, %" if metric == "error" else "test NLL, nats")
    ax.set_ylim(bottom=0)
    tidy(ax, "y")
