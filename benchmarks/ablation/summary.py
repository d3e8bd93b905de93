"""From records of the ablation to tables, comparisons with the paper and a plot."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np
from scipy.stats import rankdata

from benchmarks.ablation.methods import BASELINE, PUBLISHED, STANDARD
from benchmarks.data.small_images import IMAGE_TITLES
from benchmarks.harness.claims import Comparison
from benchmarks.harness.figures import PAPER, draw_intervals, make_figure, make_legend, pick_color
from benchmarks.harness.intervals import Interval, compute_corrected_interval
from benchmarks.harness.paired_differences import (
    Metric,
    compare_pairs,
    format_difference,
    group_records,
    read_interval,
    summarise_pairs,
)
from benchmarks.harness.results import unpack_records

__all__ = ["aggregate_tables", "compare_mixup", "draw_changes", "summarise", "tabulate"]

Row = Mapping[str, Any]
DIGITS = {"error": 1, "nll": 3}
COMPARED = {"error_diff": "error, points", "nll_change": "NLL, %"}
METRICS = {"error": Metric(100.0), "nll": Metric(change="per cent")}
PAPER_DATA = "cifar10"


def summarise(records: Sequence[Row], *, test_ratio: float) -> list[dict[str, Any]]:
    """Return one flat row for each set of data and method.

    Error in per cent and NLL in nats; ``error_diff`` in points and ``nll_change`` in per cent of ERM's,
    paired, with the ends of their 95 % intervals.
    """
    rows = []
    for (dataset,), group in group_records(records, "dataset").items():
        ratio = 0.0 if dataset == PAPER_DATA else test_ratio
        rows += summarise_pairs(
            group,
            METRICS,
            by=["dataset"],
            baseline=BASELINE,
            interval=partial(compute_corrected_interval, test_ratio=ratio),
            describe=lambda own: {"group": own[0]["group"]},
        )
    return rows


def aggregate_tables(summary: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return each method's comparison with ERM over tables.

    By method: intervals over tables as columns, mean ranks by error and NLL. Empty where there is no table.
    """
    rows = [row for row in summary if row["dataset"] not in IMAGE_TITLES]
    groups = {method: part for (method,), part in group_records(rows, "method").items()}
    if not groups:
        return {}
    error, nll = (
        np.array([[row[metric] for row in part] for part in groups.values()]) for metric in ("error", "nll")
    )
    base = list(groups).index(BASELINE)
    ranks = [rankdata(values, axis=0).mean(axis=1) for values in (error, nll)]
    return {
        method: {
            **compare_pairs("error", error[place], error[base]),
            **compare_pairs("nll", nll[place], nll[base], metric=Metric(change="ratio")),
            "error_rank": float(ranks[0][place]),
            "nll_rank": float(ranks[1][place]),
        }
        for place, method in enumerate(groups)
    }


def _list_methods(summary: Sequence[Row]) -> dict[str, str]:
    """Return the group of each method, in the order of the tables."""
    groups = {method: rows[0]["group"] for (method,), rows in group_records(summary, "method").items()}
    order = list(dict.fromkeys(groups.values()))
    # Tables and images lack one alpha each, that of mixup; by name the others fall into line.
    key = {method: (order.index(group), method if group == "λ" else "") for method, group in groups.items()}
    return {method: groups[method] for method in sorted(groups, key=lambda method: key[method])}


def _collect_columns(summary: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Return what is drawn and printed side by side: the tables together, each set of images."""
    images = group_records([row for row in summary if row["dataset"] in IMAGE_TITLES], "dataset")
    n_tables = len({row["dataset"] for row in summary} - set(IMAGE_TITLES))
    columns: dict[str, dict[str, Row]] = {}
    if n_tables:
        columns[f"{n_tables} tables" if n_tables > 1 else "1 table"] = dict(aggregate_tables(summary))
    for (dataset,), rows in images.items():
        columns[IMAGE_TITLES[dataset]] = {row["method"]: row for row in rows}
    return columns


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: against ERM, then error and NLL for each set of data."""
    summary = document["summary"]
    methods, columns = _list_methods(summary), _collect_columns(summary)
    return {
        "Against ERM; negative is better": [
            _format_comparison(method, group, columns) for method, group in methods.items()
        ],
        "Test error in %; † clear: the 95 % interval of the difference from ERM excludes 0": _format_means(
            summary, methods, "error", "error_diff"
        ),
        "Test NLL in nats, † likewise": _format_means(summary, methods, "nll", "nll_change"),
    }


def _format_comparison(method: str, group: str, columns: Mapping[str, Mapping[str, Row]]) -> dict[str, str]:
    cells = {"choice": group, "row": method}
    for title, rows in columns.items():
        row = rows.get(method, {})
        for name, metric in COMPARED.items():
            is_compared = name in row and method != BASELINE
            change = format_difference(read_interval(row, name), 1) if is_compared else ""
            cells[f"{title}: {metric}"] = change
        if "error_rank" in rows[BASELINE]:
            ranks = [f"{row[name]:.1f}" for name in ("error_rank", "nll_rank") if name in row]
            cells["rank by error / NLL"] = " / ".join(ranks)
    figures = PUBLISHED.get(method, ())
    return cells | {"Table 5, error %": " / ".join(f"{figure:.2f}" for figure in figures)}


def _format_means(
    summary: Sequence[Row], methods: Mapping[str, str], metric: str, compared: str
) -> list[dict[str, str]]:
    cells = {(row["method"], row["dataset"]): _format_mean(row, metric, compared) for row in summary}
    datasets = dict.fromkeys(row["dataset"] for row in summary)
    return [
        {"row": method, **{dataset: cells.get((method, dataset), "") for dataset in datasets}}
        for method in methods
    ]


def _format_mean(row: Row, metric: str, compared: str) -> str:
    mark = "" if read_interval(row, compared).find_sign() == 0 else " †"
    return f"{row[metric]:.{DIGITS[metric]}f}{mark}"


def compare_mixup(document: Row, others: Sequence[str]) -> list[Comparison]:
    """Return mixup's test error on CIFAR-10 less that of some other rows, as far as they were run."""
    records = [row for row in unpack_records(document["records"]) if row["dataset"] == PAPER_DATA]
    methods = {row["method"] for row in records}
    return [
        _compare_pair([row for row in records if row["method"] in (STANDARD, other)], other)
        for other in others
        if {STANDARD, other} <= methods
    ]


def _compare_pair(records: Sequence[Row], other: str) -> Comparison:
    # No two repeats share a row: the plain interval, without a correction.
    interval = partial(compute_corrected_interval, test_ratio=0.0)
    rows = summarise_pairs(records, METRICS, by=["dataset"], baseline=other, interval=interval)
    base, mixup = (next(row for row in rows if row["method"] == name) for name in (other, STANDARD))
    return Comparison(
        f"{IMAGE_TITLES[PAPER_DATA]}, {other}",
        f"{base['error']:.1f} → {mixup['error']:.1f} %",
        read_interval(mixup, "error_diff"),
        paper=PUBLISHED[STANDARD][0] - PUBLISHED[other][0] if other in PUBLISHED else None,
    )


def draw_changes(document: Row) -> Figure:
    """Draw each row's difference from ERM: a column for the tables' error, their NLL, and the images'."""
    summary = document["summary"]
    methods = {method: group for method, group in _list_methods(summary).items() if method != BASELINE}
    columns = _collect_columns(summary)
    figure = make_figure(1.3 + 0.2 * len(methods))
    axes = figure.subplots(1, len(columns) * len(COMPARED), sharey=True, squeeze=False)[0]
    panels = [(title, rows, name) for title, rows in columns.items() for name in COMPARED]
    for ax, (title, rows, name) in zip(axes, panels, strict=True):
        intervals = [_find_interval(rows.get(method), name) for method in methods]
        draw_intervals(ax, intervals, [pick_color(interval) for interval in intervals])
        _limit_axis(ax, intervals)
        ax.set(title=title, xlabel=COMPARED[name])
        if (title, name) == (IMAGE_TITLES[PAPER_DATA], "error_diff") and STANDARD in methods:
            change = PUBLISHED[STANDARD][0] - PUBLISHED[BASELINE][0]
            ax.plot(change, list(methods).index(STANDARD), "D", mfc="none", mec=PAPER, markersize=6)
    groups = list(methods.values())
    for ax in axes:
        for place in range(1, len(groups)):
            if groups[place] != groups[place - 1]:
                ax.axhline(place - 0.5, color="#bbbbbb", linewidth=0.7)
    axes[0].set_yticks(range(len(methods)), list(methods))
    figure.suptitle(_describe_scale(document))
    figure.legend(handles=_make_legend(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _describe_scale(document: Row) -> str:
    title, config = "Test error and NLL against ERM, one choice changed at a time", document["config"]
    if not any(row["dataset"] == PAPER_DATA for row in document["summary"]):
        return title
    widths = ", ".join(map(str, config["widths"]))
    return (
        f"{title}\nCIFAR-10: {config['image_rows']:,} images, convolutions of {widths} channels "
        "(paper: 50,000, PreAct ResNet-18)"
    )


def _make_legend() -> list[Line2D]:
    diamond = Line2D([], [], linestyle="", marker="D", mfc="none", mec=PAPER, label="paper's Table 5")
    return [*make_legend("better than ERM", "worse than ERM"), diamond]


def _find_interval(row: Row | None, name: str) -> Interval:
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    return nothing if row is None else read_interval(row, name)


def _limit_axis(ax: Any, intervals: Sequence[Interval]) -> None:
    """Keep a few rows that are far off from pressing all others together; an arrow shows them."""
    means = np.abs([interval.mean for interval in intervals])
    limit = 4 * float(np.nanquantile(means, 0.75))
    if not limit > 0:
        return
    for place, interval in enumerate(intervals):
        if abs(interval.mean) > limit:
            marker = ">" if interval.mean > 0 else "<"
            ax.plot(np.sign(interval.mean) * 0.96 * limit, place, marker, color=pick_color(interval))
    low, high = ax.get_xlim()
    ax.set_xlim(max(low, -limit), min(high, limit))
