"""Ratios of times beside their targets: what ``speed`` and ``search`` print and draw."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
import numpy as np

from benchmarks.harness.figures import BETTER, EVEN, WORSE, tidy
from benchmarks.harness.interleaved_timing import compare_times

__all__ = [
    "NOT_RUN",
    "Line",
    "draw_ratios",
    "format_ratios",
    "format_timed_ratios",
    "format_times",
    "make_ratio_legend",
    "summarise_lines",
]

NOT_RUN = "not run"
TARGET: dict[str, Any] = {"color": "black", "marker": "|", "markersize": 11, "markeredgewidth": 1.6}

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Line:
    """One ratio that has a target."""

    label: str  # What is compared
    part: str  # Where the times stand, with the case
    case: str
    ours: str  # Contenders
    theirs: str  # "peer" is the fastest of all others
    target: float  # What is to be reached
    stretch: float | None = None  # What would be better still
    at_least: bool = False  # Whether the ratio must be at least the target instead of at most
    is_share: bool = False  # Whether our values are the ratio already
    is_paired: bool = True  # Whether the ratio is taken round by round; if not, over the median of theirs
    digits: int = 2  # Decimals that are printed and judged

    def is_met(self, ratio: float, bound: float | None) -> bool:
        """Whether a ratio, as it is printed, keeps a bound."""
        if bound is None:
            return False
        shown, bound = round(ratio, self.digits), round(bound, self.digits)
        return shown >= bound if self.at_least else shown <= bound


def summarise_lines(records: Records, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return a row for each line: the ratio with quartiles, the medians behind it, and what was met.

    Records have part, case, contender, round and value of every measurement. ``met`` is "stretch",
    "target", "missed" or, for times that are not there, "not run".
    """
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for record in records:
        group = values.setdefault((record["part"], record["case"]), {})
        group.setdefault(record["contender"], []).append(record["value"])
    return [_summarise_line(line, values.get((line.part, line.case), {})) for line in lines]


def _summarise_line(line: Line, group: Mapping[str, list[float]]) -> dict[str, Any]:
    row = {"label": line.label, "part": line.part, "case": line.case, "at_least": line.at_least}
    row |= {"target": line.target, "stretch": line.stretch}
    peer = _find_peer(line, group)
    if line.ours not in group or peer is None:
        empty = dict.fromkeys(("ratio", "low", "high", "ours", "theirs"))
        return row | {"peer": line.theirs, **empty, "rounds": 0, "met": NOT_RUN}
    ours = group[line.ours]
    theirs = [1.0] * len(ours) if line.is_share else group[peer]
    if not line.is_paired:
        theirs = [float(np.median(theirs))] * len(ours)
    ratio = compare_times(ours, theirs)
    stretch, target = (line.is_met(ratio["ratio"], bound) for bound in (line.stretch, line.target))
    return row | {
        "peer": peer,
        **{key: round(value, 4) for key, value in ratio.items()},
        "ours": round(float(np.median(ours)), 3),
        "theirs": round(float(np.median(theirs)), 3),
        "rounds": len(ours),
        "met": "stretch" if stretch else "target" if target else "missed",
    }


def _find_peer(line: Line, group: Mapping[str, list[float]]) -> str | None:
    """Return whose times are compared; the fastest of all where the line says so."""
    if line.theirs != "peer":
        return line.theirs if line.theirs in group or line.is_share else None
    medians = {name: float(np.median(times)) for name, times in group.items() if name != line.ours}
    return min(medians, key=medians.__getitem__, default=None)


def format_ratios(summary: Records, digits: int = 2) -> list[dict[str, str]]:
    """Return a printed row for each line of a summary."""
    return [_format_row(row, digits) for row in summary]


def format_timed_ratios(
    summary: Records, unit: str, *, untimed: Collection[str] = ()
) -> list[dict[str, str]]:
    """Return a printed row for each line, with the medians in `unit`; lines `untimed` have no times."""
    cells = format_ratios(summary)
    for cell, row in zip(cells, summary, strict=True):
        del cell["stretch"]
        times = [] if row["label"] in untimed else [row["ours"], row["theirs"]]
        cell[unit] = " / ".join("" if time is None else f"{time:,.1f}" for time in times)
    return cells


def _format_row(row: Mapping[str, Any], digits: int) -> dict[str, str]:
    sign = "≥" if row["at_least"] else "≤"
    stretch = "" if row["stretch"] is None else f"{sign} {round(row['stretch'], digits):g}"
    measured = row["ratio"] is not None
    return {
        "ratio": row["label"],
        "case": row["case"],
        "measured": f"{row['ratio']:.{digits}f}" if measured else NOT_RUN,
        "quartiles": f"{row['low']:.{digits}f} to {row['high']:.{digits}f}" if measured else "",
        "target": f"{sign} {round(row['target'], digits):g}",
        "stretch": stretch,
        "met": row["met"] if measured else "",
    }


def format_times(records: Records) -> list[dict[str, str]]:
    """Return a printed row with the medians of each part and case."""
    groups: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for record in records:
        group = groups.setdefault((record["part"], record["case"], record["unit"]), {})
        group.setdefault(record["contender"], []).append(record["value"])
    return [
        {
            "part": part,
            "case": case,
            "per": unit,
            "medians": ", ".join(f"{name} {np.median(times):.4g}" for name, times in group.items()),
        }
        for (part, case, unit), group in groups.items()
    ]


def draw_ratios(ax: Axes, rows: Records, names: Sequence[str]) -> None:
    """Draw ratios as dots with their quartiles, one below the other, each beside its target."""
    for place, row in enumerate(rows):
        color = WORSE if row["met"] == "missed" else BETTER
        ends = [row["low"], row["high"]]
        ax.plot(ends, [place, place], color=color, linewidth=2, solid_capstyle="butt")
        ax.plot(row["ratio"], place, "o", color=color, markersize=5)
        ax.plot(row["target"], place, **TARGET)
    ax.axvline(1, color=EVEN, linewidth=0.8, zorder=1)
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    tidy(ax, "x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def make_ratio_legend() -> list[Line2D]:
    """Return the legend's lines for :func:`draw_ratios`."""
    colors = {"median and quartiles, target met": BETTER, "target missed": WORSE}
    lines = [Line2D([], [], color=color, marker="o", label=label) for label, color in colors.items()]
    return [*lines, Line2D([], [], linestyle="", label="target", **TARGET)]
