"""From records of training on corrupted labels to tables and a figure."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import matplotlib
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import StrMethodFormatter
import numpy as np

from benchmarks.corrupted_tables.methods import BASELINE, FAMILIES, PUBLISHED, find_family
from benchmarks.data.tables import TABLE_TITLES
from benchmarks.harness.figures import add_legend, draw_intervals, make_figure, tidy
from benchmarks.harness.intervals import Interval, compute_corrected_interval, compute_t_interval
from benchmarks.harness.paired_differences import (
    Metric,
    count_signs,
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
    summarise_pairs,
)

__all__ = [
    "aggregate_tables",
    "draw_errors",
    "group_families",
    "make_styles",
    "summarise",
    "tabulate",
]

Row = Mapping[str, Any]
METRICS = ("test_error_best", "test_error_last", "train_error_true", "train_error_corrupted")
COMPARED = METRICS[:2]
CURVES = {
    "test_error_curve": "test error, %",
    "train_error_true_curve": "training error,\ntrue labels, %",
    "train_error_corrupted_curve": "training error,\ncorrupted labels, %",
}
MAPS = dict(zip(FAMILIES, ("Greys", "Oranges", "Purples", "Blues"), strict=True))
MARKERS = ("o", "s", "^", "D", "v")
DASHES = dict(zip(FAMILIES, ("-", "--", ":", "-"), strict=True))


def summarise(
    records: Sequence[Row], *, test_ratio: float, epochs: Sequence[int] = ()
) -> list[dict[str, Any]]:
    """Return one flat row for each table, share of noise and method.

    Errors in per cent with the ends of their 95 % intervals; ``<metric>_diff`` is the difference from ERM
    in points, paired by split. Curves are means over the repeats, for the table whose records have them.
    """
    return summarise_pairs(
        records,
        dict.fromkeys(METRICS, Metric(100.0)),
        by=("dataset", "noise"),
        baseline=BASELINE,
        interval=partial(compute_corrected_interval, test_ratio=test_ratio),
        describe=partial(_describe_method, epochs=list(epochs)),
    )


def _describe_method(own: Sequence[Row], epochs: list[int]) -> dict[str, Any]:
    return {
        "median_best_epoch": float(np.median([record["best_epoch"] for record in own])),
        "seconds": round(float(np.mean([record["seconds"] for record in own])), 3),
        "curve_epochs": None if own[0]["test_error_curve"] is None else epochs,
        **{name: _average_curves([record[name] for record in own]) for name in CURVES},
    }


def _average_curves(curves: Sequence[Sequence[int] | None]) -> list[float] | None:
    """Return the mean of curves in thousandths, in per cent."""
    if curves[0] is None:
        return None
    return [round(float(value), 2) for value in np.mean(np.array(curves, dtype=float), axis=0) / 10]


def aggregate_tables(summary: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one row for each share of noise and method, over all tables.

    Mean differences from ERM with Student's interval over tables (of one table, its own), on how many
    tables each difference is clearly below and above 0, and mean training errors.
    """
    groups = group_records(summary, "noise", "method")
    return [_aggregate_method(noise, method, rows) for (noise, method), rows in groups.items()]


def _aggregate_method(noise: float, method: str, rows: Sequence[Row]) -> dict[str, Any]:
    row: dict[str, Any] = {"noise": noise, "method": method, "n_tables": len(rows)}
    for metric in COMPARED:
        name = f"{metric}_diff"
        means = [part[name] for part in rows]
        interval = compute_t_interval(means) if len(rows) > 1 else read_interval(rows[0], name)
        row |= flatten_interval(name, interval)
        row[f"{metric}_lower"], row[f"{metric}_higher"] = count_signs(rows, name)
    return row | {name: float(np.mean([part[name] for part in rows])) for name in METRICS}


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: over all tables of data, then one for each."""
    summary = document["summary"]
    rows = aggregate_tables(summary)
    count = rows[0]["n_tables"]
    over = f"Mean over {count} tables" if count > 1 else "Mean over 1 table"
    tables = {f"{over}; differences from ERM in points, negative is better": list(map(_format_over, rows))}
    for (dataset,), part in group_records(summary, "dataset").items():
        tables[f"{TABLE_TITLES[dataset]}, errors in %"] = list(map(_format_row, part))
    return tables


def _format_over(row: Row) -> dict[str, str]:
    is_baseline = row["method"] == BASELINE
    cells = _format_head(row)
    for metric, title in zip(COMPARED, ("best", "last"), strict=True):
        change = format_difference(read_interval(row, f"{metric}_diff"), 1)
        cells[f"{title} test error"] = f"{row[metric]:.1f}"
        cells[f"{title}, against ERM"] = "" if is_baseline else change
    counts = f"{row['test_error_last_lower']} / {row['test_error_last_higher']}"
    cells["last clearly lower / higher on"] = "" if is_baseline else counts
    cells["train, true / corrupted"] = f"{row['train_error_true']:.1f} / {row['train_error_corrupted']:.1f}"
    best, last, true, corrupted = PUBLISHED.get((row["noise"], row["method"]), (None,) * 4)
    cells["Table 2: best / last"] = "" if best is None else f"{best} / {last}"
    cells["Table 2: train"] = "" if true is None else f"{true} / {corrupted}"
    return cells


def _format_row(row: Row) -> dict[str, str]:
    change = format_difference(read_interval(row, "test_error_last_diff"), 1)
    return {
        **_format_head(row),
        "n": str(row["n_repeats"]),
        "best test error": format_mean(row, "test_error_best", 1),
        "last test error": format_mean(row, "test_error_last", 1),
        "last, against ERM": "" if row["method"] == BASELINE else change,
        "train, true labels": format_mean(row, "train_error_true", 1),
        "train, corrupted labels": format_mean(row, "train_error_corrupted", 1),
    }


def _format_head(row: Row) -> dict[str, str]:
    return {"replaced": f"{100 * row['noise']:g} %", "method": row["method"]}


def group_families(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each method, all options together."""
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(find_family(row["method"]), []).append(row)
    return families


def draw_errors(document: Mapping[str, Any]) -> Figure:
    """Draw the errors over epochs on one table, then the last test error against ERM over all tables."""
    summary = document["summary"]
    methods = list(dict.fromkeys(row["method"] for row in summary))
    styles = make_styles(methods)
    curves = group_records([row for row in summary if row["curve_epochs"]], "noise")
    figure = make_figure(7.2 + 0.2 * len(methods))
    upper, lower = np.ravel(
        np.asarray(figure.subfigures(2, 1, height_ratios=[6.0, 1.2 + 0.2 * len(methods)]))
    )
    _draw_curves(upper, list(curves.values()), styles)
    _draw_differences(lower, aggregate_tables(summary), styles)
    return figure


def make_styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return how the line of each method looks."""
    families = group_families([{"method": name} for name in methods])
    styles = {}
    for family, rows in families.items():
        shades = np.linspace(0.45, 1.0, len(rows)) if len(rows) > 1 else [1.0]
        for shade, marker, row in zip(shades, cycle(MARKERS), rows, strict=False):
            color = matplotlib.colormaps[MAPS[family]](shade)
            styles[row["method"]] = {"color": color, "linestyle": DASHES[family], "marker": marker}
    return styles


def _draw_curves(
    figure: SubFigure, columns: Sequence[Sequence[Row]], styles: Mapping[str, dict[str, Any]]
) -> None:
    axes = figure.subplots(len(CURVES), len(columns), squeeze=False, sharex=True, sharey="row")
    for line, (name, title) in zip(axes, CURVES.items(), strict=True):
        for ax, rows in zip(line, columns, strict=True):
            for row in rows:
                looks = styles[row["method"]] | {"markersize": 4, "markevery": 3, "linewidth": 1.3}
                ax.plot(row["curve_epochs"], row[name], label=row["method"], **looks)
            tidy(ax)
        line[0].set_ylabel(title)
        line[0].set_ylim(0, 100 if name.startswith("train_error_corrupted") else None)
    for ax, rows in zip(axes[0], columns, strict=True):
        ax.set_title(f"{100 * rows[0]['noise']:g} % replaced")
    for ax in axes[-1]:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.set_xlabel("epoch")
    figure.suptitle(f"{TABLE_TITLES[columns[0][0]['dataset']]}, mean over repeats")
    add_legend(figure, axes[0, 0], 5)


def _draw_differences(figure: SubFigure, rows: Sequence[Row], styles: Mapping[str, dict[str, Any]]) -> None:
    groups = group_records([row for row in rows if row["method"] != BASELINE], "noise")
    axes = figure.subplots(1, len(groups), squeeze=False, sharex=True, sharey=True)[0]
    for ax, ((noise,), part) in zip(axes, groups.items(), strict=True):
        ax.set_title(f"{100 * noise:g} % replaced")
        intervals: list[Interval] = [read_interval(row, "test_error_last_diff") for row in part]
        draw_intervals(ax, intervals, [styles[row["method"]]["color"] for row in part])
        ax.set_yticks(range(len(part)), [row["method"] for row in part])
        ax.set_xlabel("points; left is better")
    n_tables = rows[0]["n_tables"]
    over = f"mean over {n_tables} tables" if n_tables > 1 else "on 1 table"
    figure.suptitle(f"Last test error against ERM, {over}, 95 % interval")
