"""From records of the comparison between examples to tables, a plot and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import getp
from matplotlib.axes import Axes
import numpy as np
from numpy.typing import NDArray

from benchmarks.data.small_images import IMAGE_TITLES
from benchmarks.data.tables import TABLE_TITLES
from benchmarks.harness.figures import make_figure, render_png, tidy
from benchmarks.harness.intervals import compute_corrected_interval
from benchmarks.harness.paired_differences import (
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
)
from sk_mixup.inspection.between import BetweenDisplay

__all__ = ["BASELINE", "describe_finding", "draw_curves", "summarise", "tabulate"]

Row = Mapping[str, Any]
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
SENTENCE = ("error", "miss", "miss_mean", "logit_gradient_mean", "proba_gradient", "proba_gradient_mean")
STYLE = ("color", "marker", "linestyle", "markersize", "linewidth")
WORDS = {-1: "clearly lower", 0: "not clearly different", 1: "clearly higher"}


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
        title = TITLES[dataset]
        tables[f"{title}; without λ, the mean over λ"] = [
            _format_row(method, cells, is_difference=False) for method, cells in methods.items()
        ]
        differences = [
            _format_row(method, cells, is_difference=True)
            for method, cells in methods.items()
            if method != BASELINE
        ]
        if differences:
            tables[f"{title}, minus ERM"] = differences
    return tables


def _index_rows(summary: Sequence[Row]) -> dict[str, dict[str, dict[tuple[str, float | None], Row]]]:
    """Return the rows by set of data, method, and quantity with λ."""
    found: dict[str, dict[str, dict[tuple[str, float | None], Row]]] = {}
    for row in summary:
        cells = found.setdefault(row["dataset"], {}).setdefault(row["method"], {})
        cells[row["quantity"], row["lam"]] = row
    return found


def _format_row(
    method: str, cells: Mapping[tuple[str, float | None], Row], *, is_difference: bool
) -> dict[str, str]:
    row = {"method": method, "n": str(cells["error", None]["n_repeats"])}
    for quantity, lam, title, digits in COLUMNS:
        cell = cells[quantity, lam]
        if is_difference:
            row[title] = format_difference(read_interval(cell, "diff"), digits)
        else:
            row[title] = format_mean(cell, "value", digits)
    return row


def describe_finding(summary: Sequence[Row]) -> str:
    """Return one sentence: what the strongest mixing changes, for better and for worse."""
    parts = []
    for dataset, methods in _index_rows(summary).items():
        *_, strongest = methods
        changes = [
            _describe_change(methods[BASELINE], methods[strongest], *column)
            for column in COLUMNS
            if column[0] in SENTENCE
        ]
        parts.append(f"{TITLES[dataset]}, from {BASELINE} to {strongest}: {', '.join(changes)}")
    return (
        f"{'; '.join(parts)} (means over λ where none is named; clear where the 95 % interval of the "
        "difference excludes 0)."
    )


def _describe_change(
    baseline: Mapping[tuple[str, float | None], Row],
    mixed: Mapping[tuple[str, float | None], Row],
    quantity: str,
    lam: float | None,
    title: str,
    digits: int,
) -> str:
    before, after = (cells[quantity, lam] for cells in (baseline, mixed))
    values = f"{before['value']:.{digits}f} → {after['value']:.{digits}f}"
    name, _, unit = title.partition(", ")
    return f"{name} {values}{f' {unit}' if unit else ''} ({WORDS[read_interval(after, 'diff').find_sign()]})"


def draw_curves(summary: Sequence[Row]) -> bytes:
    """Draw misses and gradient norms over λ with their 95 % intervals: a row a set of data."""
    datasets = _index_rows(summary)
    figure = make_figure(0.6 + 3.1 * len(datasets))
    axes = figure.subplots(len(datasets), len(CURVES), squeeze=False)
    for line, (dataset, methods) in zip(axes, datasets.items(), strict=True):
        _draw_line(line, methods)
        line[0].set_title(TITLES[dataset], loc="left", fontweight="bold")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return render_png(figure)


def _draw_line(axes: Sequence[Axes], methods: Mapping[str, Mapping[tuple[str, float | None], Row]]) -> None:
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
        _finish_panel(ax)
    axes[2].set_xlabel(axes[0].get_xlabel())
    axes[1].set_ylabel("Mean gradient norm, logits")
    axes[2].set_ylabel("Mean gradient norm, probabilities")
    legend = axes[0].get_legend()
    assert legend is not None, "BetweenDisplay makes one; here one below serves all panels"
    legend.remove()


def _finish_panel(ax: Axes) -> None:
    ax.autoscale(axis="y")  # for the intervals
    ax.set_ylim(bottom=0)
    tidy(ax, "y")


def _stack_curves(
    methods: Mapping[str, Mapping[tuple[str, float | None], Row]], quantity: str
) -> NDArray[Any]:
    """Return means, lower and upper ends, each of shape (n_methods, n_points)."""
    rows = [_list_curve(cells, quantity) for cells in methods.values()]
    ends = ("value", "value_low", "value_high")
    return np.array([[[row[end] for row in line] for line in rows] for end in ends])


def _list_curve(cells: Mapping[tuple[str, float | None], Row], quantity: str) -> list[Row]:
    """Return the rows of a quantity in the order of λ."""
    found = [row for (name, _), row in cells.items() if name == quantity]
    return sorted(found, key=lambda row: float(row["lam"]))
