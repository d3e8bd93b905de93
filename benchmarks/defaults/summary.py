"""From records of the measurement of defaults to a table and a plot."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
from scipy.stats import rankdata

from benchmarks.harness.figures import add_legend, list_shades, make_figure, tidy
from benchmarks.harness.paired_differences import (
    Metric,
    compare_pairs,
    format_difference,
    group_records,
    read_interval,
)

__all__ = ["draw_levels", "summarise", "tabulate"]

Row = Mapping[str, Any]
DEFAULT = ("", "default")
# Means of fewer tables are in the tables only.
FEWEST_TABLES = 3
LOSSES = {"classification": "NLL", "regression": "squared error"}


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each level of each factor, task and number of training rows.

    Change of the loss in per cent of the default's, difference of the error in percentage points, mean rank,
    mean loss and error over tables.
    """
    return [
        {"task": task, "rows": n_rows} | row
        for (task, n_rows), group in sorted(group_records(records, "task", "rows").items())
        for row in _compare_levels(task, group)
    ]


def _compare_levels(task: str, records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows of one task and number of training rows."""
    means = _average(records)
    factors: dict[str, list[tuple[str, str]]] = {}
    for factor, level in means:
        factors.setdefault(factor, []).append((factor, level))
    summary = []
    for factor, settings in factors.items():
        levels = list(dict.fromkeys([DEFAULT, *settings]))
        ranks = rankdata([means[name][:, 0] for name in levels], axis=0).mean(axis=1)
        for name, rank in zip(levels, ranks, strict=True):
            if name[0] == factor:
                row = {"factor": factor, "level": name[1], "n_tables": len(means[name])}
                summary.append(
                    row | _compare(task, means[name], means[DEFAULT]) | {"rank": round(float(rank), 2)}
                )
    return summary


def _average(records: Sequence[Row]) -> dict[tuple[str, str], np.ndarray]:
    """Return means over repeats by setting: ndarrays of shape (n_tables, 2), of loss and error."""
    tables = list(dict.fromkeys(record["dataset"] for record in records))
    groups: dict[tuple[str, str], dict[str, list[list[float]]]] = {}
    for record in records:
        by_table = groups.setdefault((record["factor"], record["level"]), {})
        by_table.setdefault(record["dataset"], []).append([record["loss"], record["error"]])
    return {
        name: np.array([np.mean(by_table[table], axis=0) for table in tables])
        for name, by_table in groups.items()
    }


def _compare(task: str, values: np.ndarray, base: np.ndarray) -> dict[str, float]:
    """Return the means of one level and its distance from the defaults, over tables."""
    # Squared errors are in the units of a table; the NLL of some tables is next to nothing.
    change = "ratio" if task == "regression" else "per cent"
    return {
        **compare_pairs("loss", values[:, 0], base[:, 0], metric=Metric(change=change)),
        **compare_pairs("error", values[:, 1], base[:, 1], metric=Metric(100.0)),
    }


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables, one for each task and number of rows."""
    tables: dict[str, list[dict[str, str]]] = {}
    for row in document["summary"]:
        of_tables = f"{row['n_tables']} table{'s' * (row['n_tables'] > 1)}"
        title = f"{row['task'].capitalize()}, {row['rows']} rows of {of_tables}"
        tables.setdefault(title, []).append(_format_row(row))
    return tables


def _format_row(row: Row) -> dict[str, str]:
    cells = {
        "option": row["factor"] or "all",
        "level": row["level"],
        "loss against default, %": format_difference(read_interval(row, "loss_change"), 1),
        "rank": f"{row['rank']:.1f}",
    }
    if row["task"] == "regression":
        return cells
    difference = format_difference(read_interval(row, "error_diff"), 2)
    errors = {"error against default, points": difference, "mean error %": f"{row['error']:.2f}"}
    return cells | {"mean NLL": f"{row['loss']:.3f}"} | errors


def draw_levels(document: Row) -> Figure:
    """Draw changes of the loss with their 95 % intervals: a column a task, a line a level."""
    every = [row for row in document["summary"] if row["factor"]]
    changed = [row for row in every if row["n_tables"] >= FEWEST_TABLES] or every
    levels = list(group_records(changed, "factor", "level"))
    tasks = group_records(changed, "task")
    sizes = sorted({row["rows"] for row in changed})
    figure = make_figure(1.1 + 0.22 * len(levels))
    axes = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for ax, ((task,), rows) in zip(axes, tasks.items(), strict=True):
        _draw_task(ax, rows, levels, sizes)
        ax.set_title(f"{task.capitalize()}: {LOSSES[task]}")
        ax.set_xlabel("against the default, %; left is better")
    names = [f"{factor}: {level}" for factor, level in levels]
    axes[0].set_yticks(range(len(levels)), names)
    axes[0].set_ylim(len(levels) - 0.4, -0.6)
    add_legend(figure, axes[0])
    return figure


def _draw_task(
    ax: Axes, rows: Sequence[Row], levels: Sequence[tuple[str, str]], sizes: Sequence[int]
) -> None:
    step = 0.6 / len(sizes)
    for (size,), points in group_records(rows, "rows").items():
        place = sizes.index(size)
        color = list_shades(len(sizes))[place]
        y = [
            levels.index((row["factor"], row["level"])) + step * (place - (len(sizes) - 1) / 2)
            for row in points
        ]
        low, high = ([row[f"loss_change{end}"] for row in points] for end in ("_low", "_high"))
        ax.hlines(y, low, high, color=color, linewidth=1.6)
        means = [row["loss_change"] for row in points]
        ax.plot(means, y, "o", color=color, markersize=4, label=f"{size:,} training rows")
    # Wide intervals run out of the panel, lest all means lie close together.
    limit = 2.5 * max(abs(row["loss_change"]) for row in rows)
    left, right = ax.get_xlim()
    if limit:
        ax.set_xlim(max(left, -limit), min(right, limit))
    for place in range(1, len(levels)):
        if levels[place][0] != levels[place - 1][0]:
            ax.axhline(place - 0.5, color="#bbbbbb", linewidth=0.7)
    ax.axvline(0, color="black", linewidth=0.8)
    tidy(ax, "x")
    ax.tick_params(axis="y", length=0)
