"""The plot of the UCI comparison: paired differences with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmarks.data.tables import TABLE_TITLES
from benchmarks.harness.figures import draw_intervals, make_figure, make_legend, pick_color, render_png
from benchmarks.harness.paired_differences import read_interval

__all__ = ["draw_differences"]

PAPER = "#222222"
METRICS = {"error": "test error, percentage points", "nll": "test NLL, nats"}
PROTOCOL_TITLES = {"paper": "Paper's protocol: few epochs", "converged": "Trained to convergence"}


def draw_differences(summary: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw mixup minus ERM with 95 % intervals: a column a metric, a row a protocol."""
    protocols = [name for name in PROTOCOL_TITLES if any(row["protocol"] == name for row in summary)]
    n_tables = max(sum(row["protocol"] == name for row in summary) for name in protocols)
    height = 1.2 + len(protocols) * (0.85 + 0.3 * n_tables)
    figure = make_figure(height)
    axes = figure.subplots(len(protocols), len(METRICS), squeeze=False, sharex="col")
    for line, protocol in zip(axes, protocols, strict=True):
        rows = [row for row in summary if row["protocol"] == protocol]
        for ax, metric in zip(line, METRICS, strict=True):
            _draw_panel(ax, rows, metric)
        line[0].set_title(PROTOCOL_TITLES[protocol], loc="left", fontweight="bold")
        line[1].set_yticklabels([])
    for ax, label in zip(axes[-1], METRICS.values(), strict=True):
        ax.set_xlabel(f"mixup minus ERM: {label}")
    figure.legend(handles=_make_legend(), loc="outside lower center", ncols=4, frameon=False)
    return render_png(figure)


def _draw_panel(ax: Axes, rows: Sequence[Mapping[str, Any]], metric: str) -> None:
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
