"""From records of the toy problems to tables, a comparison with the paper and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from benchmarks.harness.claims import Comparison
from benchmarks.harness.figures import BASELINES, add_legend, make_figure
from benchmarks.harness.paired_differences import (
    Metric,
    format_difference,
    format_mean,
    group_records,
    read_interval,
    summarise_pairs,
)

__all__ = ["BASELINE", "MIXED", "TITLES", "compare_slopes", "draw_boundaries", "summarise", "tabulate"]

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
# Markers of the two classes, which stand out from the paper's blue shading.
CLASS_STYLES = (("white", "o"), (BASELINES[1], "^"))


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


def compare_slopes(document: Row) -> list[Comparison]:
    """Return mixup's slope at the boundary less ERM's, for each problem and share of wrong labels."""
    return [
        Comparison(
            f"{TITLES[mixed['dataset']]}, {_name_share(mixed['wrong_share'])}",
            f"{baseline['slope']:.1f} → {mixed['slope']:.1f} per unit of length",
            read_interval(mixed, "slope_diff"),
        )
        for baseline, mixed in _pair_methods(document["summary"])
    ]


def _name_share(share: float) -> str:
    return f"{share:.0%} wrong labels" if share else "true labels"


def draw_boundaries(document: Row) -> Figure:
    """Draw the probability of class 1 and the training points: ERM and mixup side by side."""
    pictures = document["draw_from"]
    datasets = list(dict.fromkeys(picture["dataset"] for picture in pictures))
    n_columns = 2 * len({picture["wrong_share"] for picture in pictures})
    figure = make_figure(1.1 + 6 / n_columns * len(datasets))
    axes = figure.subplots(len(datasets), n_columns, squeeze=False, sharey="row")
    panels = [(picture, method) for picture in pictures for method in picture["proba"]]
    for ax, (picture, method) in zip(axes.flat, panels, strict=True):
        surface = _draw_panel(ax, picture, method)
    for ax, dataset in zip(axes[:, 0], datasets, strict=True):
        ax.set_ylabel(f"{TITLES[dataset]}\n$x_2$")
    for ax, (picture, method) in zip(axes[0], panels, strict=False):
        ax.set_title(f"{method},\n{_name_share(picture['wrong_share'])}")
    for ax in axes[-1]:
        ax.set_xlabel("$x_1$")
    figure.colorbar(surface, ax=axes, label="probability of class 1", ticks=[0, 0.5, 1], aspect=30, pad=0.01)
    add_legend(figure, axes.flat[0], markerscale=2)
    return figure


def _draw_panel(ax: Axes, picture: Row, method: str) -> Any:
    """Draw one panel and return what the colour bar is about."""
    (left, low), (right, high) = picture["corners"]
    axes = [np.linspace(*ends, picture["size"]) for ends in ((left, right), (low, high))]
    proba = np.array(picture["proba"][method]).reshape(picture["size"], -1) / 100
    surface = ax.contourf(*axes, proba, levels=np.linspace(0, 1, 11), cmap="Blues")
    surface.set_rasterized(True)
    points, labels = np.array(picture["X"]), np.array(picture["y"])
    for label, (color, marker) in enumerate(CLASS_STYLES):
        first, second = points[labels == label].T
        ax.scatter(
            first,
            second,
            s=6,
            color=color,
            marker=marker,
            edgecolor="black",
            linewidth=0.3,
            rasterized=True,
            label=f"class {label}",
        )
    ax.set(aspect="equal", xlim=(left, right), ylim=(low, high))
    return surface
