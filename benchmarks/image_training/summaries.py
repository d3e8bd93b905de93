"""What summaries of trainings on images and speech share: means and curves over seeds, ratios of times."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
import numpy as np

from benchmarks.harness.figures import tidy
from benchmarks.harness.time_ratios import Line

__all__ = ["OVERHEAD", "average_columns", "average_curves", "draw_error_bands", "list_training_lines"]

Row = Mapping[str, Any]
THROUGHPUT, OVERHEAD = "training throughput ÷ loop by hand", "mixup ÷ ERM, time of an epoch"
THROUGHPUT_TARGET, OVERHEAD_TARGET = 0.97, 1.02
# Axes end at this multiple of the lowest error of the worst line, so that the last epochs can be read.
HEADROOM = 2.5


def average_columns(records: Sequence[Row], digits: Mapping[str, int]) -> dict[str, float]:
    """Return the means of some columns, each with its number of decimals."""
    return {
        name: round(float(np.mean([record[name] for record in records])), n) for name, n in digits.items()
    }


def average_curves(records: Sequence[Row], name: str) -> dict[str, list[float]]:
    """Return ``curve``, ``curve_low`` and ``curve_high``: mean, lowest and highest of a curve over seeds."""
    curves = np.array([record[name] for record in records])
    parts = {"curve": curves.mean(axis=0), "curve_low": curves.min(axis=0), "curve_high": curves.max(axis=0)}
    return {part: np.round(values, 3).tolist() for part, values in parts.items()}


def list_training_lines(case: str) -> list[Line]:
    """Return the ratios of a network's epochs: over loops by hand, and of mixup over ERM.

    Throughput is images over time: ours over theirs is their time over ours.
    """
    lines = [
        Line(
            f"{THROUGHPUT}, {method}",
            "speed",
            case,
            f"loop, {method}",
            f"estimator, {method}",
            THROUGHPUT_TARGET,
            at_least=True,
        )
        for method in ("ERM", "mixup")
    ]
    return [*lines, Line(OVERHEAD, "speed", case, "estimator, mixup", "estimator, ERM", OVERHEAD_TARGET)]


def draw_error_bands(
    ax: Axes, rows: Sequence[Row], labels: Sequence[str], styles: Sequence[Mapping[str, Any]]
) -> None:
    """Draw mean test errors by epochs, with bands from the lowest to the highest seed.

    The rows have ``epochs`` and the curves of :func:`average_curves`; each has a name, and a style with its
    color, marker and line style.
    """
    epochs = np.arange(1, rows[0]["epochs"] + 1)
    every = max(1, len(epochs) // 20)
    for row, label, style in zip(rows, labels, styles, strict=True):
        ax.plot(epochs, row["curve"], label=label, markevery=every, markersize=3.5, linewidth=1.5, **style)
        band = (row["curve_low"], row["curve_high"])
        ax.fill_between(epochs, *band, color=style["color"], alpha=0.18, linewidth=0)
    worst = max(min(row["curve"]) for row in rows)
    ax.set(xlabel="epoch", ylabel="test error, %", ylim=(0, min(100.0, HEADROOM * worst) or 1.0))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    tidy(ax)
