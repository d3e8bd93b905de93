"""From records of the UCI comparison to tables, comparisons with the paper and a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

from benchmarks.data.tables import TABLE_TITLES
from benchmarks.harness.claims import Comparison
from benchmarks.harness.figures import PAPER, draw_intervals, make_figure, make_legend, pick_color
from benchmarks.harness.intervals import compute_corrected_interval, count_wins
from benchmarks.harness.paired_differences import (
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
)

__all__ = ["OVERVIEW", "PAPER_ERRORS", "compare_errors", "draw_differences", "summarise", "tabulate"]

Row = Mapping[str, Any]
# Table 4 of the paper: test error in %, ERM and mixup.
PAPER_ERRORS = {
    "abalone": (74.0, 73.6),
    "arcene": (57.6, 48.0),
    "arrhythmia": (56.6, 46.3),
    "htru2": (2.0, 2.0),
    "iris": (21.3, 17.3),
    "phishing": (16.3, 15.2),
}
OVERVIEW = "ERM → mixup: test error in %, test NLL in nats; † clear: the 95 % interval excludes 0"
# Records hold the error as a share; tables show per cent.
SCALES = {"error": 100.0, "nll": 1.0}

AXES = {"error": "test error, percentage points", "nll": "test NLL, nats"}
PROTOCOL_TITLES = {"paper": "Paper's protocol: few epochs", "converged": "Trained to convergence"}


def summarise(records: Sequence[Row], *, test_ratio: float) -> list[dict[str, Any]]:
    """Return one flat row for each table and protocol.

    Errors in per cent, NLL in nats; every mean with the ends of its 95 % interval.
    """
    groups = group_records(records, "dataset", "protocol")
    return [_summarise_group(group, test_ratio) for group in groups.values()]


def _summarise_group(group: Sequence[Row], test_ratio: float) -> dict[str, Any]:
    row = {name: group[0][name] for name in ("dataset", "protocol")} | {"n_repeats": len(group)}
    row["median_alpha"] = float(np.median([record["alpha"] for record in group]))
    for metric, scale in SCALES.items():
        names = (f"erm_{metric}", f"mixup_{metric}")
        erm, mixup = (scale * np.array([record[name] for record in group]) for name in names)
        for name, values in zip((*names, f"{metric}_diff"), (erm, mixup, mixup - erm), strict=True):
            row |= flatten_interval(name, compute_corrected_interval(values, test_ratio))
        row[f"{metric}_wins"] = round(count_wins(mixup - erm), 3)
    published = PAPER_ERRORS.get(row["dataset"], (None, None))
    return row | dict(zip(("paper_erm_error", "paper_mixup_error"), published, strict=True))


def tabulate(document: Row) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables, one for each metric."""
    summary = sorted(document["summary"], key=lambda row: row["protocol"] != "paper")
    return {
        OVERVIEW: _format_overview(summary),
        "Test error, %": [_format_error(row) for row in summary],
        "Test negative log-likelihood, nats": [_format_nll(row) for row in summary],
    }


def _format_overview(summary: Sequence[Row]) -> list[dict[str, str]]:
    """Return one row for each set of data, both protocols side by side."""
    rows: dict[str, dict[str, str]] = {}
    for row in summary:
        cells = rows.setdefault(
            row["dataset"], {"data": row["dataset"], "Table 4, error": _format_paper(row)}
        )
        for metric, digits in (("error", 1), ("nll", 3)):
            cells[f"{row['protocol']}, {metric}"] = _format_arrow(row, metric, digits)
    titles = list(dict.fromkeys(title for cells in rows.values() for title in cells))
    return [{title: cells.get(title, "") for title in titles} for cells in rows.values()]


def _format_arrow(row: Row, metric: str, digits: int) -> str:
    star = "" if read_interval(row, f"{metric}_diff").find_sign() == 0 else " †"
    return f"{row[f'erm_{metric}']:.{digits}f} → {row[f'mixup_{metric}']:.{digits}f}{star}"


def _format_error(row: Row) -> dict[str, str]:
    return _format_metric(row, "error", 1) | {"paper's Table 4": _format_paper(row)}


def _format_nll(row: Row) -> dict[str, str]:
    return _format_metric(row, "nll", 3) | {"median alpha": f"{row['median_alpha']:g}"}


def _format_metric(row: Row, metric: str, digits: int) -> dict[str, str]:
    return {
        "protocol": row["protocol"],
        "data": row["dataset"],
        "n": str(row["n_repeats"]),
        "ERM": format_mean(row, f"erm_{metric}", digits),
        "mixup": format_mean(row, f"mixup_{metric}", digits),
        "mixup minus ERM": format_difference(read_interval(row, f"{metric}_diff"), digits),
        "mixup wins": f"{row[f'{metric}_wins']:.0%}",
    }


def _format_paper(row: Row) -> str:
    """Return the paper's figures; it knows one protocol and six of the sets."""
    if row["paper_erm_error"] is None or row["protocol"] != "paper":
        return ""
    return f"{row['paper_erm_error']:.1f} → {row['paper_mixup_error']:.1f}"


def compare_errors(document: Row) -> list[Comparison]:
    """Return the differences in test error after the paper's few epochs, beside those of Table 4."""
    return [
        Comparison(
            TABLE_TITLES[row["dataset"]],
            f"{row['erm_error']:.1f} → {row['mixup_error']:.1f} %",
            read_interval(row, "error_diff"),
            paper=row["paper_mixup_error"] - row["paper_erm_error"],
        )
        for row in document["summary"]
        if row["protocol"] == "paper" and row["paper_erm_error"] is not None
    ]


def draw_differences(document: Row) -> Figure:
    """Draw mixup minus ERM with 95 % intervals: a column a metric, a row a protocol."""
    summary = document["summary"]
    protocols = [name for name in PROTOCOL_TITLES if any(row["protocol"] == name for row in summary)]
    n_tables = max(sum(row["protocol"] == name for row in summary) for name in protocols)
    height = 1.0 + len(protocols) * (0.7 + 0.25 * n_tables)
    figure = make_figure(height)
    axes = figure.subplots(len(protocols), len(AXES), squeeze=False, sharex="col")
    for line, protocol in zip(axes, protocols, strict=True):
        rows = [row for row in summary if row["protocol"] == protocol]
        for ax, metric in zip(line, AXES, strict=True):
            _draw_panel(ax, rows, metric)
        line[0].set_title(PROTOCOL_TITLES[protocol], loc="left", fontweight="bold")
        line[1].set_yticklabels([])
    for ax, label in zip(axes[-1], AXES.values(), strict=True):
        ax.set_xlabel(f"mixup minus ERM: {label}")
    figure.legend(handles=_make_legend(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_panel(ax: Axes, rows: Sequence[Row], metric: str) -> None:
    intervals = [read_interval(row, f"{metric}_diff") for row in rows]
    draw_intervals(ax, intervals, [pick_color(interval) for interval in intervals])
    for place, row in enumerate(rows):
        if metric == "error" and row["protocol"] == "paper" and row["paper_erm_error"] is not None:
            difference = row["paper_mixup_error"] - row["paper_erm_error"]
            ax.plot(difference, place, "D", mfc="none", mec=PAPER, markersize=6)
    ax.set_yticks(range(len(rows)), [TABLE_TITLES[row["dataset"]] for row in rows])


def _make_legend() -> list[Line2D]:
    diamond = Line2D([], [], linestyle="", marker="D", mfc="none", mec=PAPER, label="paper's Table 4")
    return [*make_legend("mixup better", "mixup worse"), diamond]
