"""From records of the measurement of defaults to a table, claims and a plot."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.harness.figures import make_grid, render_png
from benchmarks.harness.paired_differences import (
    Metric,
    compare_pairs,
    format_difference,
    group_records,
    read_interval,
)

__all__ = ["describe_finding", "draw_levels", "summarise", "tabulate"]

Row = Mapping[str, Any]
DEFAULT = ("", "default")
CLAIM = (
    "{task}, {rows} rows: of single nets the lowest loss is that of {factor} {level}, {loss_change:+.1f} %."
)


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each level of each factor, task and number of training rows.

    Change of the loss in per cent of the default's, difference of the error in percentage points, mean rank,
    mean loss and error over tables.
    """
    return [
        {"task": task, "rows": n_rows} | row
        for (task, n_rows), group in sorted(group_records(records, "task", "rows").items())
        for row in _compare_levels(group)
    ]


def _compare_levels(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows of one number of training rows."""
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
                summary.append(row | _compare(means[name], means[DEFAULT]) | {"rank": round(float(rank), 2)})
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


def _compare(values: np.ndarray, base: np.ndarray) -> dict[str, float]:
    """Return the means of one level and its distance from the defaults, over tables."""
    return {
        **compare_pairs("loss", values[:, 0], base[:, 0], metric=Metric(change="ratio")),
        **compare_pairs("error", values[:, 1], base[:, 1], metric=Metric(100.0)),
    }


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables, one for each task and number of rows."""
    tables: dict[str, list[dict[str, str]]] = {}
    for row in document["summary"]:
        title = f"{row['task'].capitalize()}, {row['rows']} rows of {row['n_tables']} tables"
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


def describe_finding(summary: Sequence[Row]) -> str:
    """Return the best single change for each task and number of rows."""
    single = [row for row in summary if row["factor"] != "number of nets"]
    groups = group_records(single, "task", "rows").values()
    best = (min(group, key=lambda row: row["loss_change"]) for group in groups)
    return "\n".join(CLAIM.format(**{**row, "factor": row["factor"] or "all"}) for row in best)


def draw_levels(summary: Sequence[Row]) -> bytes:
    """Draw the change of the NLL of classes by the number of rows: a panel an option."""
    changed = [row for row in summary if row["factor"] and row["task"] == summary[0]["task"]]
    factors = group_records(changed, "factor")
    figure, axes = make_grid(len(factors), 3)
    for ax, ((factor,), rows) in zip(axes, factors.items(), strict=True):
        for (level,), points in group_records(rows, "level").items():
            values = [row["loss_change"] for row in points]
            ax.plot([row["rows"] for row in points], values, marker="o", label=level)
        ax.axhline(0, color="#bbbbbb", linewidth=0.7)
        ax.set_xscale("log")
        sizes = sorted({row["rows"] for row in rows})
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.minorticks_off()
        ax.set_title(factor)
        ax.legend(fontsize="x-small")
    axes[0].set_ylabel("loss against the default, %")
    figure.supxlabel("training rows")
    return render_png(figure)
