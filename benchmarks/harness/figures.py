"""Figures of the results, drawn without a display."""

from collections.abc import Mapping, Sequence
import io
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D

from benchmarks.harness.intervals import Interval
from benchmarks.harness.paired_differences import read_interval

__all__ = [
    "BETTER",
    "EVEN",
    "WORSE",
    "add_legend",
    "draw_column",
    "draw_intervals",
    "make_figure",
    "make_grid",
    "make_legend",
    "pick_color",
    "render_png",
    "tidy",
]

BETTER, WORSE, EVEN = "#1b6ca8", "#c8553d", "#7a7a7a"


def make_figure(height: float) -> Figure:
    """Return an empty figure of a report's width; its height is in inches."""
    figure = Figure(figsize=(9, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def make_grid(n_panels: int, n_columns: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of square panels in lines of at most `n_columns`; places left over stay empty."""
    n_columns = min(n_columns, n_panels)
    n_lines = -(-n_panels // n_columns)
    figure = make_figure(0.9 + 3.4 * n_lines if n_panels > 1 else 4.6)
    axes = figure.subplots(n_lines, n_columns, squeeze=False).ravel()
    for ax in axes[n_panels:]:
        ax.set_visible(False)
    return figure, list(axes[:n_panels])


def add_legend(figure: FigureBase, ax: Axes, n_columns: int | None = None, **options: Any) -> None:
    """Put the legend of one panel below all panels, in one line unless a number of columns is given."""
    handles, labels = ax.get_legend_handles_labels()
    ncols = len(labels) if n_columns is None else n_columns
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols, frameon=False, **options)


def render_png(figure: Figure) -> bytes:
    """Return a figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def tidy(ax: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Draw a light grid behind the lines of `axis`, and no frame above and to the right."""
    ax.grid(axis=axis, color="#e4e4e4", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def pick_color(interval: Interval) -> str:
    """Return the colour of a difference that is good below 0."""
    return {-1: BETTER, 0: EVEN, 1: WORSE}[interval.find_sign()]


def draw_intervals(ax: Axes, intervals: Sequence[Interval], colors: Sequence[str]) -> None:
    """Draw differences as dots with bars, one below the other, and a line at 0."""
    ax.axvline(0, color="black", linewidth=0.8)
    for place, (interval, color) in enumerate(zip(intervals, colors, strict=True)):
        ends = [interval.low, interval.high]
        ax.plot(ends, [place, place], color=color, linewidth=2.2, solid_capstyle="butt")
        ax.plot(interval.mean, place, "o", color=color, markersize=6)
    ax.set_ylim(len(intervals) - 0.4, -0.6)
    tidy(ax, "x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def draw_column(rows: Sequence[Mapping[str, Any]], name: str, label: str) -> bytes:
    """Return a PNG of one difference of a summary's rows, with the column `label` beside."""
    figure = make_figure(1.0 + 0.3 * len(rows))
    ax = figure.subplots()
    intervals = [read_interval(row, name) for row in rows]
    draw_intervals(ax, intervals, [pick_color(interval) for interval in intervals])
    ax.set_yticks(range(len(rows)), [str(row[label]) for row in rows])
    ax.set_xlabel(name)
    return render_png(figure)


def make_legend(better: str, worse: str) -> list[Line2D]:
    """Return the legend's lines for :func:`pick_color`."""
    colors = {better: BETTER, "no clear difference": EVEN, worse: WORSE}
    return [
        Line2D([], [], color=color, marker="o", linewidth=2.2, label=label) for label, color in colors.items()
    ]
