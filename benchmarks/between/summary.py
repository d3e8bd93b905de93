"""From records of the comparison between examples to tables, claims and a plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.artist import getp
from matplotlib.axes import Axes
import numpy as np
from numpy.typing import NDArray

from benchmarks.data.small_images import IMAGE_TITLES
from benchmarks.data.tables import TABLE_TITLES
from benchmarks.harness.figures import add_legend, make_figure, render_png, tidy
from benchmarks.harness.intervals import compute_corrected_interval
from benchmarks.harness.paired_differences import (
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    judge_difference,
    read_interval,
)
from sk_mixup.inspection.between import BetweenDisplay

__all__ = ["BASELINE", "describe_finding", "draw_curves", "summarise", "tabulate"]

Row = Mapping[str, Any]
Cells = Mapping[tuple[str, float | None], Row]
BASELINE = "ERM"
TITLES = TABLE_TITLES | IMAGE_TITLES
SCALES = {"error": 100.0, "nll": 1.0}
CURVES = {"miss": 100.0, "logit_gradient": 1.0, "proba_gradient": 1.0}
# What the tables show: quantity, λ (None for no λ or for the mean over all), title, digits.
COLUMNS: tuple[tuple[str, float | None, str, int], ...] = (
    ("error", None, "test error, %", 1),
    ("nll", None, "test NLL", 3),
    ("miss", 0.5, "misses at λ = ½, %", 1),
    ("miss_mean", None, "misses, %", 1),
    ("logit_gradient", 0.5, "logits' gradient at ½", 2),
    ("logit_gradient_mean", None, "logits' gradient", 2),
    ("proba_gradient", 0.5, "probabilities' gradient at ½", 3),
    ("proba_gradient_mean", None, "probabilities' gradient", 3),
)
CLAIMED = ("error", "miss", "miss_mean", "logit_gradient_mean", "proba_gradient", "proba_gradient_mean")
CLAIM = "{data}; {title}: ERM {erm:.{digits}f}, {method} {mixed:.{digits}f}, {verdict}."
STYLE = ("color", "marker", "linestyle", "markersize", "linewidth")


def summarise(records: Sequence[Row], *, test_ratio: float) -> list[dict[str, Any]]:
    """Return one flat row for each set of data, method, quantity and λ.

    ``value`` and ``diff``, its paired difference from ERM, with the ends of their 95 % intervals. Errors
    and misses are in per cent. ``<quantity>_mean`` is the mean over λ in [0, 1] by the trapezoidal rule; it
    and the scores have no ``lam``.
    """
    groups = group_records(records, "dataset", "method")
    summary: list[dict[str, Any]] = []
    for (dataset, method), group in groups.items():
        ratio = 0.0 if dataset == "cifar10" else test_ratio
        values, others = (_collect_values(part) for part in (group, groups[dataset, BASELINE]))
        for (quantity, lam), column in values.items():
            row = {"dataset": dataset, "method": method, "quantity": quantity, "lam": lam}
            row |= {"n_repeats": len(group)}
            row |= flatten_interval("value", compute_corrected_interval(column, ratio))
            gap = column - others[quantity, lam]
            summary.append(row | flatten_interval("diff", compute_corrected_interval(gap, ratio)))
    return summary


def _collect_values(group: Sequence[Row]) -> dict[tuple[str, float | None], NDArray[Any]]:
    """Return the values of the repeats, in their order, by quantity and λ."""
    group = sorted(group, key=lambda record: record["repeat"])
    lam = np.array(group[0]["lam"])
    values: dict[tuple[str, float | None], NDArray[Any]] = {
        (metric, None): scale * np.array([record[metric] for record in group])
        for metric, scale in SCALES.items()
    }
    for name, scale in CURVES.items():
        curves = scale * np.array([record[name] for record in group])
        values[f"{name}_mean", None] = np.trapezoid(curves, lam, axis=1)
        values |= {(name, float(weight)): curves[:, place] for place, weight in enumerate(lam)}
    return values


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables, two for each set of data: means, and differences from ERM."""
    tables = {}
    for dataset, methods in _index_rows(document["summary"]).items():
        title, mixed = TITLES[dataset], {name: methods[name] for name in methods if name != BASELINE}
        tables[f"{title}; without λ, the mean over λ"] = _format_rows(methods, _format_value)
        tables[f"{title}, minus ERM"] = _format_rows(mixed, _format_gap)
    return {title: rows for title, rows in tables.items() if rows}


def _index_rows(summary: Sequence[Row]) -> dict[str, dict[str, dict[tuple[str, float | None], Row]]]:
    """Return the rows by set of data, method, and quantity with λ."""
    found: dict[str, dict[str, dict[tuple[str, float | None], Row]]] = {}
    for row in summary:
        cells = found.setdefault(row["dataset"], {}).setdefault(row["method"], {})
        cells[row["quantity"], row["lam"]] = row
    return found


def _format_rows(
    methods: Mapping[str, Cells], format_cell: Callable[[Row, int], str]
) -> list[dict[str, str]]:
    return [
        {"method": method, "n": str(cells["error", None]["n_repeats"])}
        | {title: format_cell(cells[quantity, lam], digits) for quantity, lam, title, digits in COLUMNS}
        for method, cells in methods.items()
    ]


def _format_value(cell: Row, digits: int) -> str:
    return format_mean(cell, "value", digits)


def _format_gap(cell: Row, digits: int) -> str:
    return format_difference(read_interval(cell, "diff"), digits)


def describe_finding(summary: Sequence[Row]) -> str:
    """Return what the strongest mixing changes, for better and for worse: a claim for each quantity."""
    claims = []
    for dataset, methods in _index_rows(summary).items():
        baseline, (method, mixed) = methods[BASELINE], list(methods.items())[-1]
        claims += [
            CLAIM.format(
                data=TITLES[dataset],
                title=title,
                digits=digits,
                erm=baseline[quantity, lam]["value"],
                mixed=mixed[quantity, lam]["value"],
                method=method,
                verdict=judge_difference(mixed[quantity, lam], "diff"),
            )
            for quantity, lam, title, digits in COLUMNS
            if quantity in CLAIMED
        ]
    return "\n".join(claims)


def draw_curves(summary: Sequence[Row]) -> bytes:
    """Draw misses and gradient norms over λ with their 95 % intervals: a row a set of data."""
    datasets = _index_rows(summary)
    figure = make_figure(0.6 + 3.1 * len(datasets))
    axes = figure.subplots(len(datasets), len(CURVES), squeeze=False)
    for line, (dataset, methods) in zip(axes, datasets.items(), strict=True):
        _draw_line(line, methods)
        line[0].set_title(TITLES[dataset], loc="left", fontweight="bold")
    add_legend(figure, axes[0, 0])
    return render_png(figure)


def _draw_line(axes: Sequence[Axes], methods: Mapping[str, Cells]) -> None:
    """Draw the curves of one set of data, an axes for each."""
    curves = {name: _stack_curves(methods, name) for name in CURVES}
    lam = np.array([row["lam"] for row in _list_curve(methods[BASELINE], "miss")])
    display = BetweenDisplay(
        lam=lam,
        miss_rates=curves["miss"][0] / CURVES["miss"],
        gradient_norms=curves["logit_gradient"][0],
        names=list(methods),
    ).plot(ax=axes[:2])
    styles = display.lines_[0]
    for style, curve in zip(styles, curves["proba_gradient"][0], strict=True):
        axes[2].plot(lam, curve, **{name: getp(style, name) for name in STYLE})
    for ax, (_, lows, highs) in zip(axes, curves.values(), strict=True):
        for style, low, high in zip(styles, lows, highs, strict=True):
            ax.fill_between(lam, low, high, color=style.get_color(), alpha=0.2, linewidth=0)
        ax.autoscale(axis="y")  # for the intervals
        ax.set_ylim(bottom=0)
        tidy(ax, "y")
    axes[2].set_xlabel(axes[0].get_xlabel())
    axes[1].set_ylabel("Mean gradient norm, logits")
    axes[2].set_ylabel("Mean gradient norm, probabilities")
    legend = axes[0].get_legend()
    assert legend is not None, "BetweenDisplay makes one; here one below serves all panels"
    legend.remove()


def _stack_curves(methods: Mapping[str, Cells], quantity: str) -> NDArray[Any]:
    """Return means, lower and upper ends, each of shape (n_methods, n_points)."""
    rows = [_list_curve(cells, quantity) for cells in methods.values()]
    ends = ("value", "value_low", "value_high")
    return np.array([[[row[end] for row in line] for line in rows] for end in ends])


def _list_curve(cells: Cells, quantity: str) -> list[Row]:
    """Return the rows of a quantity in the order of λ."""
    found = [row for (name, _), row in cells.items() if name == quantity]
    return sorted(found, key=lambda row: float(row["lam"]))
