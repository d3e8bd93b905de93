"""From records of the toy problems to tables, a picture and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
from numpy.typing import NDArray
from sklearn.inspection import DecisionBoundaryDisplay

from benchmarks.harness.figures import make_figure, render_png
from benchmarks.harness.intervals import compute_t_interval
from benchmarks.harness.paired_differences import (
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
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
# Scale and digits after the point.
METRICS = {
    "error": ("Test error, %", 100.0, 1),
    "nll": ("Test NLL, nats", 1.0, 3),
    "band": ("Hesitation, % of the plane", 100.0, 1),
    "slope": ("Slope of p at the boundary, per unit of length", 1.0, 2),
}
WORDS = {-1: "clearly lower", 0: "not clearly different", 1: "clearly higher"}
# Okabe and Ito's green and vermilion, on the paper's blue shading.
CLASS_STYLES = (("#009E73", "o"), ("#D55E00", "^"))
LEVELS = np.linspace(0, 1, 11)
COLUMN_COUNT = 4


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each problem, share of wrong labels and method.

    Error and hesitation in per cent, NLL in nats, slope per unit of length; means, and ``<metric>_diff``,
    the paired differences from ERM, with the ends of their 95 % intervals.
    """
    groups = group_records(records, "dataset", "wrong_share", "method")
    return [
        dict(zip(("dataset", "wrong_share", "method"), key, strict=True))
        | {"n_repeats": len(group)}
        | _compare(group, groups[(*key[:2], BASELINE)])
        for key, group in groups.items()
    ]


def _compare(group: Sequence[Row], baseline: Sequence[Row]) -> dict[str, float]:
    row: dict[str, float] = {}
    for metric, (_, scale, _) in METRICS.items():
        values, others = (
            scale * np.array([record[metric] for record in sorted(part, key=lambda record: record["repeat"])])
            for part in (group, baseline)
        )
        row |= flatten_interval(metric, compute_t_interval(values))
        row |= flatten_interval(f"{metric}_diff", compute_t_interval(values - others))
    return row


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables, one for each metric."""
    pairs = _pair_methods(document["summary"])
    return {
        title: [_format_pair(*pair, metric, digits) for pair in pairs]
        for metric, (title, _, digits) in METRICS.items()
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
    """Return one sentence: how soft both boundaries are, and what that does to error and NLL."""
    parts = [_describe_pair(*pair) for pair in _pair_methods(summary)]
    return f"From ERM to mixup: {'; '.join(parts)}."


def _describe_pair(baseline: Row, mixed: Row) -> str:
    changes = {
        metric: f"{baseline[metric]:.{digits}f} → {mixed[metric]:.{digits}f}"
        for metric, (_, _, digits) in METRICS.items()
    }
    error, nll = (WORDS[read_interval(mixed, f"{metric}_diff").find_sign()] for metric in ("error", "nll"))
    return (
        f"{_describe_problem(mixed)}, hesitation {changes['band']} % of the plane, slope at the boundary "
        f"{changes['slope']}, test error {changes['error']} % ({error}), test NLL {changes['nll']} ({nll})"
    )


def _describe_problem(row: Row) -> str:
    labels = f"{row['wrong_share']:.0%} wrong labels" if row["wrong_share"] else "true labels"
    return f"{TITLES[row['dataset']].lower()} with {labels}"


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
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, frameon=False, markerscale=2, fontsize=9
    )
