"""What the times of ``search`` say: ratios beside their targets, and time per net by number of nets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.harness.figures import make_figure, render_png, tidy
from benchmarks.harness.results import unpack_records
from benchmarks.harness.time_ratios import (
    Line,
    describe_finding,
    format_ratios,
    format_times,
    summarise_lines,
)

__all__ = ["LINES", "describe", "draw_growth", "summarise", "tabulate"]

DIGITS = 3
OURS, ALONE = "#1b6ca8", "#222222"
Records = Sequence[Mapping[str, Any]]


def _make_search_lines() -> list[Line]:
    targets = [
        ("stacked ÷ the same nets alone", "lone", 1 / 2, 1 / 3),
        ("stacked ÷ skorch", "skorch", 1 / 8, 1 / 12),
        ("stacked ÷ MLPClassifier", "sklearn", 1 / 3.5, 1 / 5),
    ]
    return [
        Line(f"search: {label}", "search", table, "stacked", peer, target, stretch, digits=DIGITS)
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


def describe(summary: Records) -> str:
    """Return one sentence that counts the targets met and names those missed."""
    return describe_finding(summary, DIGITS)


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


def draw_growth(records: Records) -> bytes:
    """Draw the time per net, with its quartiles, by number of nets, and that of the lone fit."""
    growth = _collect_growth(records)
    lone = float(np.median(growth.pop("lone")))
    numbers = [int(name) for name in growth]
    low, middle, high = np.quantile(list(growth.values()), [0.25, 0.5, 0.75], axis=1)
    figure = make_figure(4)
    ax = figure.subplots()
    ax.axhline(lone, color=ALONE, linestyle="--", linewidth=1.2, label="a net alone")
    ax.errorbar(
        numbers, middle, [middle - low, high - middle], fmt="o-", color=OURS, label="nets trained as one"
    )
    ax.set_xscale("log")
    ax.set_xticks(numbers, [str(number) for number in numbers])
    ax.set_xticks([], minor=True)
    ax.set_ylim(0, 1.1 * max(lone, high.max()))
    ax.set_xlabel("nets")
    ax.set_ylabel("microseconds per net and step")
    tidy(ax)
    ax.legend(frameon=False)
    figure.suptitle("Time per net of a fit of many nets as one: median and quartiles")
    return render_png(figure)
