"""What the times of ``search`` say: ratios beside their targets, and time per net by number of nets."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from benchmarks.harness.figures import BASELINES, MIXUP, make_figure, tidy
from benchmarks.harness.results import unpack_records
from benchmarks.harness.time_ratios import (
    Line,
    draw_ratios,
    format_ratios,
    format_times,
    make_ratio_legend,
    summarise_lines,
)

__all__ = ["LINES", "draw", "summarise", "tabulate"]

DIGITS = 3
SEARCH = "search: "  # So begin the labels of searches
TABLES = {"abalone": "8 columns", "wide": "54 columns"}
Records = Sequence[Mapping[str, Any]]


def _make_search_lines() -> list[Line]:
    targets = [
        ("stacked ÷ the same nets alone", "lone", 1 / 2, 1 / 3),
        ("stacked ÷ skorch", "skorch", 1 / 8, 1 / 12),
        ("stacked ÷ MLPClassifier", "sklearn", 1 / 3.5, 1 / 5),
    ]
    return [
        Line(f"{SEARCH}{label}", "search", table, "stacked", peer, target, stretch, digits=DIGITS)
        for label, peer, target, stretch in targets
        for table in ("abalone", "wide")
    ]


LINES = [
    *_make_search_lines(),
    Line("step of a stack ÷ bare loop", "floor", "abalone", "stack", "floor", 1.25, 1.1, digits=DIGITS),
    Line("one net stacked ÷ plain fit", "single", "abalone", "stacked", "lone", 1.1, digits=DIGITS),
    Line("peak memory ÷ its budget", "memory", "wide", "budget", "budget", 1.0, is_share=True, digits=DIGITS),
    Line("GPU: stacked ÷ lone fits", "gpu", "abalone", "stacked", "lone", 1 / 50, 1 / 100, digits=DIGITS),
]


def summarise(records: Records) -> list[dict[str, Any]]:
    """Return a row for each line; those whose times are not there are marked so."""
    return summarise_lines(records, LINES)


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: ratios beside targets, and the times behind them."""
    records = unpack_records(document["records"])
    ratios = format_ratios(document["summary"], DIGITS)
    return {
        "In short": _format_overview(ratios),
        "Ratios and targets": ratios,
        "Time per net by number of nets": _format_growth(records),
        "Medians, microseconds per net and step (memory: share of the budget, and seconds of the search)": (
            format_times([record for record in records if record["part"] != "growth"])
        ),
    }


def _format_overview(ratios: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return one row for each ratio, both tables side by side."""
    rows: dict[str, dict[str, str]] = {}
    for ratio in ratios:
        cells = rows.setdefault(ratio["ratio"], {"ratio": ratio["ratio"], "abalone": "", "wide": ""})
        cells |= {ratio["case"]: ratio["measured"], "target": ratio["target"], "stretch": ratio["stretch"]}
    return list(rows.values())


def _format_growth(records: Records) -> list[dict[str, str]]:
    growth = _collect_growth(records)
    return [
        {
            "nets": name,
            "microseconds per net and step": f"{np.median(times):.4g}",
            "÷ lone": f"{np.median(np.divide(times, growth['lone'])):.{DIGITS}f}",
        }
        for name, times in growth.items()
    ]


def _collect_growth(records: Records) -> dict[str, list[float]]:
    """Return the times by number of nets, and those of the lone fit."""
    growth: dict[str, list[float]] = {}
    for record in records:
        if record["part"] == "growth":
            growth.setdefault(record["contender"], []).append(record["value"])
    return growth


def draw(document: Mapping[str, Any]) -> Figure:
    """Draw the ratios beside their targets, those of searches above, and the time per net by their number."""
    rows = [row for row in document["summary"] if row["ratio"] is not None]
    searches = [row for row in rows if row["label"].startswith(SEARCH)]
    panels = {
        "How long does a search take?": searches,
        "What does training as one cost?": [row for row in rows if row not in searches],
    }
    panels = {title: part for title, part in panels.items() if part}
    figure = make_figure(4.4)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.35, 1])[0]
    heights = [len(part) + 0.3 for part in panels.values()]
    axes = left.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for ax, (title, part) in zip(axes, panels.items(), strict=True):
        names = [f"{row['label'].removeprefix(SEARCH)}, {TABLES[row['case']]}" for row in part]
        draw_ratios(ax, part, names if part is searches else [row["label"] for row in part])
        ax.set_title(title, loc="right")
    axes[-1].set_xlabel("ratio")
    _draw_growth(right.subplots(), unpack_records(document["records"]))
    figure.legend(handles=make_ratio_legend(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_growth(ax: Axes, records: Records) -> None:
    """Draw the time per net, with its quartiles, by number of nets, and that of the lone fit."""
    growth = _collect_growth(records)
    lone = float(np.median(growth.pop("lone")))
    numbers = [int(name) for name in growth]
    low, middle, high = np.quantile(list(growth.values()), [0.25, 0.5, 0.75], axis=1)
    ax.axhline(lone, color=BASELINES[0], linestyle="--", linewidth=1.2, label="a net alone")
    ax.errorbar(
        numbers, middle, [middle - low, high - middle], fmt="o-", color=MIXUP, label="nets trained as one"
    )
    ax.set_xscale("log")
    ax.set_xticks(numbers, [str(number) for number in numbers])
    ax.set_xticks([], minor=True)
    ax.set_ylim(0, 1.1 * max(lone, high.max()))
    ax.set(title="How long does one of many nets take?", xlabel="nets trained as one")
    ax.set_ylabel("microseconds per net and step")
    tidy(ax)
    ax.legend(frameon=False, loc="lower left")
