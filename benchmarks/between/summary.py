"""From records of the comparison between examples to tables, comparisons with the paper and a plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
from numpy.typing import NDArray

from benchmarks.data.small_images import IMAGE_TITLES
from benchmarks.data.tables import TABLE_TITLES
from benchmarks.harness.claims import Comparison
from benchmarks.harness.figures import ERM, MIXUP, add_legend, make_figure, tidy
from benchmarks.harness.intervals import compute_corrected_interval
from benchmarks.harness.paired_differences import (
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
)

__all__ = ["BASELINE", "compare_gradients", "compare_misses", "draw_curves", "summarise", "tabulate"]

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
LABELS = {
    "miss": "misses, %",
    "logit_gradient": "gradient norm, logits",
    "proba_gradient": "gradient norm, probabilities",
}
# Of ERM, then of mixup from weak to strong mixing.
DASHES, MARKERS = ("-", "--", "-", ":"), "o^sD"


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


def compare_misses(document: Row) -> list[Comparison]:
    """Return each mixup's misses halfway between examples less ERM's, for each set of data."""
    return _compare_halfway(document, {"miss": ""}, "{:.1f} → {:.1f} %")


def compare_gradients(document: Row) -> list[Comparison]:
    """Return each mixup's gradient norms halfway between examples less ERM's, for each set of data."""
    quantities = {"logit_gradient": ", logits", "proba_gradient": ", probabilities"}
    return _compare_halfway(document, quantities, "{:.2f} → {:.2f}")


def _compare_halfway(document: Row, quantities: Mapping[str, str], text: str) -> list[Comparison]:
    """Return the differences at λ = 1/2; of a quantity is given what its label ends in."""
    return [
        Comparison(
            f"{TITLES[dataset]}, {method}{end}",
            text.format(methods[BASELINE][name, 0.5]["value"], cells[name, 0.5]["value"]),
            read_interval(cells[name, 0.5], "diff"),
        )
        for dataset, methods in _index_rows(document["summary"]).items()
        for method, cells in methods.items()
        if method != BASELINE
        for name, end in quantities.items()
    ]


def draw_curves(document: Row) -> Figure:
    """Draw misses and gradient norms over λ with their 95 % intervals: a row a set of data."""
    datasets = _index_rows(document["summary"])
    figure = make_figure(0.5 + 2.4 * len(datasets))
    parts = figure.subfigures(len(datasets), 1, squeeze=False)[:, 0]
    for part, (dataset, methods) in zip(parts, datasets.items(), strict=True):
        part.suptitle(_name_data(dataset, document["config"]), fontweight="bold")
        axes = part.subplots(1, len(CURVES))
        for ax, quantity in zip(axes, CURVES, strict=True):
            _draw_panel(ax, methods, quantity)
    add_legend(figure, axes[0])
    return figure


def _name_data(dataset: str, config: Row) -> str:
    if dataset != "cifar10":
        return TITLES[dataset]
    widths = ", ".join(map(str, config["widths"]))
    return f"{TITLES[dataset]}: {config['image_rows']:,} of 50,000 images, convolutions of {widths} channels"


def _draw_panel(ax: Axes, methods: Mapping[str, Cells], quantity: str) -> None:
    for place, (method, cells) in enumerate(methods.items()):
        rows = _list_curve(cells, quantity)
        lam, middle = ([row[name] for row in rows] for name in ("lam", "value"))
        low, high = ([row[f"value_{end}"] for row in rows] for end in ("low", "high"))
        color = MIXUP if place else ERM
        ax.plot(
            lam,
            middle,
            color=color,
            linestyle=DASHES[place % len(DASHES)],
            linewidth=1.4,
            marker=MARKERS[place % len(MARKERS)],
            markersize=3,
            label=method.replace("mixup ", "mixup, alpha "),
        )
        ax.fill_between(lam, low, high, color=color, alpha=0.2, linewidth=0)
    ax.set(xlabel="λ, the weight of the first row", ylabel=LABELS[quantity], xticks=(0, 0.5, 1))
    ax.set_ylim(bottom=0)
    tidy(ax, "y")


def _list_curve(cells: Cells, quantity: str) -> list[Row]:
    """Return the rows of a quantity in the order of λ."""
    found = [row for (name, _), row in cells.items() if name == quantity]
    return sorted(found, key=lambda row: float(row["lam"]))
