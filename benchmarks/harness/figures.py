"""Figures of the results, drawn without a display: one palette by meaning, one size of text."""

from collections.abc import Callable, Mapping, Sequence
import io
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from benchmarks.harness.intervals import Interval
from benchmarks.harness.paired_differences import read_interval

__all__ = [
    "BASELINES",
    "BETTER",
    "ERM",
    "EVEN",
    "MIXUP",
    "PAPER",
    "VICINITIES",
    "WORSE",
    "Draw",
    "add_legend",
    "draw_column",
    "draw_intervals",
    "list_shades",
    "make_figure",
    "make_grid",
    "make_legend",
    "pick_color",
    "render",
    "tidy",
]

Draw = Callable[[Mapping[str, Any]], Figure]

# Okabe and Ito's colours, which the colour-blind can tell apart, by what they stand for in every figure.
ERM, MIXUP, PAPER = "#6b6b6b", "#0072B2", "#000000"
VICINITIES = ("#009E73", "#CC79A7", "#56B4E9", "#117733", "#882255")
BASELINES = ("#D55E00", "#E69F00", "#A65628", "#B8860B")
# Of a difference, where it is clear.
BETTER, WORSE, EVEN = MIXUP, BASELINES[0], "#9a9a9a"

WIDTH = 7.5  # Inches, that of a column of text, so that text is read in the size given here
STYLE: Any = {
    "axes.labelsize": 8.5,
    "axes.titlesize": 9,
    "figure.titlesize": 9.5,
    "font.size": 8.5,
    "legend.fontsize": 8,
    "svg.hashsalt": "sk_mixup",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 200, "metadata": {"Software": None}},
    "svg": {"dpi": 200, "metadata": {"Date": None, "Creator": None}},
}


def make_figure(height: float) -> Figure:
    """Return an empty figure of a report's width; its height is in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def list_shades(n_shades: int) -> list[Any]:
    """Return colours for values in order, dark for the first: shares, sizes, values of alpha."""
    step = 0.85 / max(n_shades - 1, 1)
    return [matplotlib.colormaps["viridis"](step * place) for place in range(n_shades)]


def make_grid(n_panels: int, n_columns: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of square panels in lines of at most `n_columns`; places left over stay empty."""
    n_columns = min(n_columns, n_panels)
    n_lines = -(-n_panels // n_columns)
    figure = make_figure(0.8 + 2.9 * n_lines if n_panels > 1 else 3.9)
    axes = figure.subplots(n_lines, n_columns, squeeze=False).ravel()
    for ax in axes[n_panels:]:
        ax.set_visible(False)
    return figure, list(axes[:n_panels])


def add_legend(figure: FigureBase, ax: Axes, n_columns: int | None = None, **options: Any) -> None:
    """Put the legend of one panel below all panels, in one line unless a number of columns is given."""
    handles, labels = ax.get_legend_handles_labels()
    ncols = len(labels) if n_columns is None else n_columns
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols, frameon=False, **options)


def render(draw: Draw, document: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the figure of a result by suffix, the same bytes for the same result."""
    contents = {}
    with matplotlib.rc_context(STYLE):
        figure = draw(document)
        _settle(figure)
        for suffix, options in FORMATS.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, **options)
            contents[suffix] = buffer.getvalue()
    return contents


def _settle(figure: Figure) -> None:
    """Fix the layout, whose solver rounds its last digits now this way and now that."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in figure.axes:
        ax.set_position(Bbox(ax.get_position(original=True).get_points().round(6)))


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
        ax.plot(ends, [place, place], color=color, linewidth=2, solid_capstyle="butt")
        ax.plot(interval.mean, place, "o", color=color, markersize=5)
    ax.set_ylim(len(intervals) - 0.4, -0.6)
    tidy(ax, "x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def draw_column(name: str, label: str) -> Draw:
    """Return what draws one difference of a summary's rows, with the column `label` beside."""

    def draw(document: Mapping[str, Any]) -> Figure:
        rows = document["summary"]
        figure = make_figure(0.9 + 0.25 * len(rows))
        ax = figure.subplots()
        intervals = [read_interval(row, name) for row in rows]
        draw_intervals(ax, intervals, [pick_color(interval) for interval in intervals])
        ax.set_yticks(range(len(rows)), [str(row[label]) for row in rows])
        ax.set_xlabel(name)
        return figure

    return draw


def make_legend(better: str, worse: str) -> list[Line2D]:
    """Return the legend's lines for :func:`pick_color`."""
    colors = {better: BETTER, "no clear difference": EVEN, worse: WORSE}
    return [
        Line2D([], [], color=color, marker="o", linewidth=2, label=label) for label, color in colors.items()
    ]
