"""The figure of ``regimes``: when mixup pays, on images and on tables; convergence; values of alpha."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from benchmarks.harness.figures import BASELINES, ERM, list_shades, make_figure, tidy
from benchmarks.harness.figures import MIXUP as MIXUP_COLOR
from benchmarks.regimes.curve import to_scale
from benchmarks.regimes.design import BASELINE, MIXUP, name_alpha
from benchmarks.regimes.summary import FITTED, select

__all__ = ["draw_map"]

Row = Mapping[str, Any]
TITLES = dict(zip(FITTED, ("test error, points", "test NLL, nats"), strict=True))
TICKS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)
MARKERS = ("o", "s", "D", "^", "v")
COLORS = {BASELINE: ERM, MIXUP: MIXUP_COLOR}


def draw_map(document: Row) -> Figure:
    """Draw the differences mixup - ERM over ERM's training error: images above, then tables, then details."""
    summary, config = document["summary"], document["config"]
    decay = config["weight_decay"]
    table_method = name_alpha(config["table_alphas"][0])
    figure = make_figure(9.4)
    axes = figure.subplots(3, 2)
    images = [
        row
        for row in select(summary, "images")
        if row["method"] == MIXUP and row["weight_decay"] == decay and row["erm_train_error"] is not None
    ]
    tables = [row for row in select(summary, "tables") if row["method"] == table_method]
    fits = {(row["dataset"], row["metric"]): row for row in select(summary, "curve")}
    for place, metric in enumerate(FITTED):
        _draw_panel(axes[0, place], images, metric, "images", "n_images", "width")
        _draw_panel(axes[1, place], tables, metric, "tables", "noise", None)
        for line, where in enumerate(("images", "tables")):
            if (where, metric) in fits:
                _draw_fit(axes[line, place], fits[where, metric])
    for ax, draw in zip(axes[2], (_draw_curves, _draw_methods), strict=True):
        if config["anchors"]:
            draw(ax, summary, config["anchors"][0], decay)
        else:
            ax.set_axis_off()
    for ax in axes[:, 1]:
        if ax.get_legend_handles_labels()[1]:
            ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(
        f"When does mixup pay? Below 0 it does.\n{_describe_scale(images)}; tables with noisy labels"
    )
    return figure


def _describe_scale(rows: Sequence[Row]) -> str:
    """Return network and width in words, as they belong inside the picture."""
    widths = ", ".join(map(str, sorted({row["width"] for row in rows})))
    return f"PreAct ResNet-18 of width {widths} (64 in the paper)" if rows else "No images yet"


def _draw_panel(
    ax: Axes, rows: Sequence[Row], metric: str, where: str, color_by: str, mark_by: str | None
) -> None:
    values = sorted({row[color_by] for row in rows})
    shades = dict(zip(values, list_shades(len(values)), strict=True))
    marks = sorted({row[mark_by] for row in rows}) if mark_by else [None]
    for row in rows:
        mark = MARKERS[marks.index(row[mark_by] if mark_by else None) % len(MARKERS)]
        x = to_scale(np.array(row["erm_train_error"]))
        ends = [row[f"{metric}_diff_low"], row[f"{metric}_diff_high"]]
        ax.plot([x, x], ends, color=shades[row[color_by]], linewidth=0.8, alpha=0.5)
        ax.plot(x, row[f"{metric}_diff"], mark, color=shades[row[color_by]], markersize=5)
    ax.axhline(0, color="black", linewidth=0.8)
    _frame(ax, rows, metric)
    ax.set_title(f"{where.capitalize()}: mixup - ERM, {TITLES[metric]}", loc="left")
    name = "images" if color_by == "n_images" else "noise"
    for value, shade in shades.items():
        ax.plot(
            [],
            [],
            "o",
            color=shade,
            label=f"{value:g} {name}" if name == "images" else f"{100 * value:g} % noise",
        )
    for mark, value in zip(MARKERS, marks, strict=False):
        if value is not None:
            ax.plot([], [], mark, color="#7a7a7a", label=f"width {value}")


def _frame(ax: Axes, rows: Sequence[Row], metric: str) -> None:
    """Limit the axes to the points and a little more, and label training errors as they are."""
    top = max((row["erm_train_error"] for row in rows), default=1.0)
    ticks = [tick for tick in TICKS if tick <= max(top, 1.0)]
    ax.set_xticks(to_scale(np.array(ticks)), [f"{tick:g}" for tick in ticks])
    ax.set_xlabel("ERM's training error at the end, %")
    means = [row[f"{metric}_diff"] for row in rows] or [0.0]
    low, high = min(*means, 0.0), max(*means, 0.0)
    room = 0.35 * (high - low) or 1.0
    ax.set_ylim(low - room, high + room)
    tidy(ax)


def _draw_fit(ax: Axes, curve: Row) -> None:
    grid = to_scale(np.array(curve["grid"]))
    ax.plot(grid, curve["curve"], color="black", linewidth=1.4)
    ax.fill_between(grid, curve["curve_low"], curve["curve_high"], color="black", alpha=0.12, linewidth=0)


def _find_at(summary: Sequence[Row], anchor: str, decay: float) -> dict[str, Row]:
    """Return the rows of one setting by method."""
    names = ("n_images", "width", "epochs")
    wanted = dict(zip(names, map(int, anchor.split("/")), strict=True)) | {"weight_decay": decay}
    return {
        row["method"]: row
        for row in select(summary, "images")
        if row["n_seeds"] and all(row[name] == value for name, value in wanted.items())
    }


def _draw_curves(ax: Axes, summary: Sequence[Row], anchor: str, decay: float) -> None:
    """Draw test errors by epochs, as in Figure 3(b)."""
    rows = _find_at(summary, anchor, decay)
    for method, color in COLORS.items():
        if method in rows:
            curve = rows[method]["test_curve"]
            epochs = np.linspace(0, rows[method]["epochs"], len(curve) + 1)[1:]
            ax.plot(epochs, curve, color=color, label=method, marker="o", markersize=3)
    ax.set(xlabel="epoch", ylabel="test error, %")
    ax.set_title(f"Convergence ({anchor} images/width/epochs)", loc="left")
    if rows:
        ax.legend(frameon=False)
    tidy(ax)


def _draw_methods(ax: Axes, summary: Sequence[Row], anchor: str, decay: float) -> None:
    """Draw training and test errors of ERM, mixup, and what was tried beside them."""
    rows = list(_find_at(summary, anchor, decay).values())
    places = np.arange(len(rows))
    for name, color, label in (
        ("test_error", MIXUP_COLOR, "test"),
        ("train_error", BASELINES[1], "training"),
    ):
        values = np.array([row[name] for row in rows], dtype=float)
        ends = np.array(
            [[row[f"{name}{suffix}"] for row in rows] for suffix in ("_low", "_high")], dtype=float
        )
        if rows:
            ax.errorbar(
                values, places, xerr=np.abs(ends - values), fmt="o", color=color, label=label, markersize=5
            )
    ax.set_yticks(places, [row["method"] for row in rows])
    ax.invert_yaxis()
    ax.set_xlabel("error, %, mean and 95 % interval over seeds")
    ax.set_title(f"Values of alpha and choices ({anchor})", loc="left")
    tidy(ax, "x")
