"""From records of the measurement of defaults to a table, claims and a plot."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
import numpy as np
from scipy.stats import rankdata

from benchmarks.harness.figures import BETTER, WORSE, draw_intervals, make_figure, render_png
from benchmarks.harness.paired_differences import (
    Metric,
    compare_pairs,
    format_difference,
    group_records,
    read_interval,
)

__all__ = ["describe_finding", "draw_levels", "summarise", "tabulate"]

Level = Mapping[str, Any]
METRICS = ("nll", "error", "seconds")
CLAIM = "{factor}: the lowest NLL is that of {level}, {nll_change:+.1f} % against the base point."


def summarise(
    records: Sequence[Mapping[str, Any]], *, levels: Mapping[str, Sequence[Level]]
) -> list[dict[str, Any]]:
    """Return one flat row for each level of each factor.

    Relative NLL in per cent of the base point's, difference of the error in percentage points, mean rank,
    mean NLL and error over tables, relative fitting time.
    """
    tables = list(dict.fromkeys(record["dataset"] for record in records))
    summary = []
    for factor, settings in levels.items():
        means = _average(records, tables, settings)
        # make_levels appends the base to the levels that lack it, so it is in every factor.
        base = means[_find_base(levels, settings)]
        ranks = rankdata(means[:, :, 0], axis=0)
        for level, values, rank in zip(settings, means, ranks, strict=True):
            row = {"factor": factor, "level": str(level[factor]), "n_tables": len(tables)}
            summary.append(row | _compare(values, base) | {"rank": round(float(rank.mean()), 2)})
    return summary


def _average(
    records: Sequence[Mapping[str, Any]], tables: Sequence[str], settings: Sequence[Level]
) -> np.ndarray:
    """Return means over repeats: ndarray of shape (n_levels, n_tables, n_metrics)."""
    groups: dict[tuple[Any, ...], list[list[float]]] = {}
    for record in records:
        key = (record["dataset"], *(record[option] for option in settings[0]))
        groups.setdefault(key, []).append([record[metric] for metric in METRICS])
    return np.array(
        [[np.mean(groups[(table, *level.values())], axis=0) for table in tables] for level in settings]
    )


def _find_base(levels: Mapping[str, Sequence[Level]], settings: Sequence[Level]) -> int:
    """Return the place of the setting that all factors share."""
    return next(
        place for place, level in enumerate(settings) if all(level in others for others in levels.values())
    )


def _compare(values: np.ndarray, base: np.ndarray) -> dict[str, Any]:
    """Return the means of one level and its distance from the base point, over tables."""
    return {
        "base": bool(np.array_equal(values, base)),
        **compare_pairs("nll", values[:, 0], base[:, 0], metric=Metric(change="ratio")),
        **compare_pairs("error", values[:, 1], base[:, 1], metric=Metric(100.0)),
        "time_ratio": round(float(np.exp(np.log(values[:, 2] / base[:, 2]).mean())), 4),
    }


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed table."""
    return {"Against the base point": [_format_row(row) for row in document["summary"]]}


def _format_row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "option": row["factor"],
        "level": row["level"] + (" (base)" if row["base"] else ""),
        "NLL against base, %": format_difference(read_interval(row, "nll_change"), 1),
        "error against base, points": format_difference(read_interval(row, "error_diff"), 2),
        "mean NLL": f"{row['nll']:.3f}",
        "mean error %": f"{row['error']:.2f}",
        "rank by NLL": f"{row['rank']:.1f}",
        "time": f"{row['time_ratio']:.2f}x",
        "tables": str(row["n_tables"]),
    }


def describe_finding(summary: Sequence[Mapping[str, Any]]) -> str:
    """Return the best level of each factor."""
    groups = group_records(summary, "factor").values()
    return "\n".join(CLAIM.format(**min(rows, key=lambda row: row["nll_change"])) for rows in groups)


def draw_levels(summary: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the change of NLL and error from the base point: a row a level."""
    figure = make_figure(1.2 + 0.27 * len(summary))
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_panel(left, summary, "nll_change")
    _draw_panel(right, summary, "error_diff")
    left.set_xlabel("test NLL against the base point, %")
    right.set_xlabel("test error against the base point, points")
    labels = [f"{row['factor']} = {row['level']}" for row in summary]
    left.set_yticks(range(len(summary)), labels)
    figure.suptitle("One option changed at a time; left is better; red is the base point")
    return render_png(figure)


def _draw_panel(ax: Axes, summary: Sequence[Mapping[str, Any]], name: str) -> None:
    intervals = [read_interval(row, name) for row in summary]
    draw_intervals(ax, intervals, [WORSE if row["base"] else BETTER for row in summary])
    for place, row in enumerate(summary):
        if place and row["factor"] != summary[place - 1]["factor"]:
            ax.axhline(place - 0.5, color="#bbbbbb", linewidth=0.7)
