"""The plot of the UCI comparison: paired differences with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmarks.figures import make_figure, render_png
from benchmarks.tables import TABLE_TITLES

__all__ = ["draw_differences"]

BETTER, WORSE, EVEN, PAPER = "#1b6ca8", "#c8553d", "#7a7a7a", "#222222"
METRICS = {"error": "test error, percentage points", "nll": "test NLL, nats"}
PROTOCOL_TITLES = {"paper": "Paper's protocol: few epochs", "converged": "Trained to convergence"}


def draw_differences(summary: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw mixup minus ERM with 95 % intervals: a column a metric, a row a protocol.

    Parameters
    ----------
    summary : sequence of mapping
        From ``uci_summary.summarise``.

    Returns
    -------
    png : bytes
        The picture.
    """
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
    ax.axvline(0, color="black", linewidth=0.8)
    for place, row in enumerate(rows):
        mean, low, high = (row[f"{metric}_diff{end}"] for end in ("", "_low", "_high"))
        color = BETTER if high < 0 else WORSE if low > 0 else EVEN
        ax.plot([low, high], [place, place], color=color, linewidth=2.2, solid_capstyle="butt")
        ax.plot(mean, place, "o", color=color, markersize=6)
        if metric == "error" and row["protocol"] == "paper" and row["paper_erm_error"] is not None:
            difference = row["paper_mixup_error"] - row["paper_erm_error"]
            ax.plot(difference, place, "D", mfc="none", mec=PAPER, markersize=6)
    ax.set_yticks(range(len(rows)), [TABLE_TITLES[row["dataset"]] for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="x", color="#e4e4e4", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


def _make_legend() -> list[Line2D]:
    colors = {"mixup better": BETTER, "no clear difference": EVEN, "mixup worse": WORSE}
    lines = [
        Line2D([], [], color=color, marker="o", linewidth=2.2, label=label) for label, color in colors.items()
    ]
    diamond = Line2D([], [], linestyle="", marker="D", mfc="none", mec=PAPER, label="paper's Table 4")
    return [*lines, diamond]
