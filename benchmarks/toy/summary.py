"""From records of the toy problems to tables, claims and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
from numpy.typing import NDArray
from sklearn.inspection import DecisionBoundaryDisplay

from benchmarks.harness.figures import add_legend, make_figure, render_png
from benchmarks.harness.paired_differences import (
    Metric,
    format_difference,
    format_mean,
    group_records,
    judge_difference,
    read_interval,
    summarise_pairs,
)

__all__ = [
    "BASELINE",
    "MIXED",
    "TITLES",
    "Panel",
    "describe_finding",
    "draw_boundaries",
    "summarise",
    "tabulate",
]

Row = Mapping[str, Any]
BASELINE, MIXED = "ERM", "mixup"
TITLES = {"circles": "Circles", "moons": "Moons"}
METRICS = {"error": Metric(100.0), "nll": Metric(), "band": Metric(100.0), "slope": Metric()}
# Heading and digits after the point.
COLUMNS = {
    "error": ("Test error, %", 1),
    "nll": ("Test NLL, nats", 3),
    "band": ("Hesitation, % of the plane", 1),
    "slope": ("Slope of p at the boundary, per unit of length", 2),
}
CLAIM = (
    "{data}, {share:.0%} wrong labels; {metric}: ERM {erm:.{digits}f}, mixup {mixup:.{digits}f}, {verdict}."
)
# Okabe and Ito's green and vermilion, on the paper's blue shading.
CLASS_STYLES = (("#009E73", "o"), ("#D55E00", "^"))
LEVELS = np.linspace(0, 1, 11)
COLUMN_COUNT = 4


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each problem, share of wrong labels and method.

    Error and hesitation in per cent, NLL in nats, slope per unit of length; means, and ``<metric>_diff``,
    the paired differences from ERM, with the ends of their 95 % intervals.
    """
    return summarise_pairs(records, METRICS, by=("dataset", "wrong_share"), baseline=BASELINE)


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables, one for each metric."""
    pairs = _pair_methods(document["summary"])
    return {
        title: [_format_pair(*pair, metric, digits) for pair in pairs]
        for metric, (title, digits) in COLUMNS.items()
    }


def _pair_methods(summary: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Return the rows of ERM and of mixup for each problem and share."""
    groups = group_records(summary, "dataset", "wrong_share").values()
    by_method = [{row["method"]: row for row in rows} for rows in groups]
    return [(rows[BASELINE], rows[MIXED]) for rows in by_method]


def _format_pair(baseline: Row, mixed: Row, metric: str, digits: int) -> dict[str, str]:
    return {
        "problem": TITLES[mixed["dataset"]],
        "wrong labels": f"{mixed['wrong_share']:.0%}",
        "n": str(mixed["n_repeats"]),
        BASELINE: format_mean(baseline, metric, digits),
        MIXED: format_mean(mixed, metric, digits),
        "mixup minus ERM": format_difference(read_interval(mixed, f"{metric}_diff"), digits),
    }


def describe_finding(summary: Sequence[Row]) -> str:
    """Return a claim for each problem and metric: the means of ERM and of mixup."""
    return "\n".join(
        CLAIM.format(
            data=TITLES[mixed["dataset"]],
            share=mixed["wrong_share"],
            metric=title,
            digits=digits,
            erm=baseline[metric],
            mixup=mixed[metric],
            verdict=judge_difference(mixed, f"{metric}_diff"),
        )
        for baseline, mixed in _pair_methods(summary)
        for metric, (title, digits) in COLUMNS.items()
    )


@dataclass(frozen=True)
class Panel:
    """One panel of the picture."""

    dataset: str
    wrong_share: float  # Which share of the training labels is wrong
    method: str  # How the net was trained
    net: Any  # Fitted
    X: NDArray[Any]  # The training points
    y: NDArray[Any]  # The labels they were trained with, 0 and 1
    corners: NDArray[Any]  # Lower left and upper right of the part of the plane to draw


def draw_boundaries(panels: Sequence[Panel]) -> bytes:
    """Draw the probability of class 1 and the training points of each net: ERM and mixup side by side."""
    n_columns = min(COLUMN_COUNT, len(panels))
    n_rows = -(-len(panels) // n_columns)
    figure = make_figure(0.7 + 2.3 * n_rows)
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharey="row")
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, panel in zip(axes.flat, panels, strict=False):
        surface = _draw_panel(ax, panel)
    for ax in axes[:, 0]:
        ax.set_ylabel("$x_2$")
    for ax in axes[-1]:
        ax.set_xlabel("$x_1$")
    _draw_legend(figure, axes, surface)
    return render_png(figure)


def _draw_panel(ax: Axes, panel: Panel) -> Any:
    """Draw one panel and return what the colour bar is about."""
    display = DecisionBoundaryDisplay.from_estimator(
        panel.net,
        panel.corners,
        eps=0,
        grid_resolution=200,
        response_method="predict_proba",
        class_of_interest=1,
        plot_method="contourf",
        levels=LEVELS,
        cmap="Blues",
        ax=ax,
    )
    for label, (color, marker) in enumerate(CLASS_STYLES):
        points = panel.X[panel.y == label]
        ax.scatter(
            points[:, 0],
            points[:, 1],
            s=7,
            color=color,
            marker=marker,
            edgecolor="white",
            linewidth=0.25,
            label=f"class {label}",
        )
    share = f"{panel.wrong_share:.0%} wrong labels" if panel.wrong_share else "true labels"
    ax.set_title(f"{TITLES[panel.dataset]}, {share}:\n{panel.method}", fontsize=9)
    (left, low), (right, high) = panel.corners
    ax.set(aspect="equal", xlim=(left, right), ylim=(low, high))
    ax.tick_params(labelsize=8)
    return display.surface_


def _draw_legend(figure: Figure, axes: NDArray[Any], surface: Any) -> None:
    figure.colorbar(surface, ax=axes, label="p(y = 1 | x)", ticks=[0, 0.5, 1], aspect=30, pad=0.01)
    add_legend(figure, axes.flat[0], markerscale=2, fontsize=9)
