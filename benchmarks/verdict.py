"""The verdict: each claim of the paper beside our figure, and all of them in one picture."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.claims import Claim, Comparison, format_claim
from benchmarks.harness.command import PRESET_NAMES, Command
from benchmarks.harness.figures import BASELINES, ERM, MIXUP, VICINITIES, make_figure, tidy
from benchmarks.harness.intervals import Interval

__all__ = ["draw_verdict", "find_comparisons", "list_points", "tabulate_verdict"]

Document = Mapping[str, Any]
# The paper's difference and ours, by experiment.
Points = dict[str, list[tuple[float, Interval]]]
COLORS = (MIXUP, *BASELINES[:3], *VICINITIES, ERM)
MARKERS = "osD^vP*Xdp"
LINEAR = 1.0  # Up to so many points an axis is linear, beyond logarithmic


def find_comparisons(command: Command, claim: Claim, documents: Mapping[str, Document]) -> list[Comparison]:
    """Return the comparisons of the result that is nearest to the paper's size, of those with an interval."""
    places = {name: place for place, name in enumerate(PRESET_NAMES)}
    own = [document for document in documents.values() if document["command"] == command.name]
    own.sort(key=lambda document: places[document["preset"]])
    all_found = [found for document in own if (found := list(claim.compare(document)))]
    told = (found for found in all_found if not all(math.isnan(item.ours.low) for item in found))
    return next(told, next(iter(all_found), []))


def tabulate_verdict(
    benchmarks: Sequence[Command], documents: Mapping[str, Document]
) -> list[dict[str, str]]:
    """Return a row for each claim; a link leads to protocol, tables and picture."""
    return [
        format_claim(claim, find_comparisons(command, claim, documents))
        | {"experiment": f"[`{command.name}`](#{command.name})"}
        for command in benchmarks
        for claim in command.claims
    ]


def list_points(benchmarks: Sequence[Command], documents: Mapping[str, Document]) -> Points:
    """Return, by experiment, the comparisons for which the paper gives a difference in points of error."""
    points: Points = {}
    for command in benchmarks:
        for claim in command.claims:
            for item in find_comparisons(command, claim, documents):
                if item.paper is not None:
                    points.setdefault(command.name, []).append((item.paper, item.ours))
    return points


def draw_verdict(points: Points) -> Figure:
    """Draw our differences over the paper's, with their 95 % intervals; below 0 mixup is better."""
    figure = make_figure(5.2)
    ax = figure.subplots()
    for place, (name, found) in enumerate(points.items()):
        color, marker = COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)]
        for paper, ours in found:
            ax.plot([paper, paper], [ours.low, ours.high], color=color, linewidth=1)
        ax.plot(
            [paper for paper, _ in found],
            [ours.mean for _, ours in found],
            marker,
            color=color,
            markersize=5,
            label=name,
        )
    _frame(ax)
    return figure


def _frame(ax: Axes) -> None:
    ax.set_xscale("symlog", linthresh=LINEAR)
    ax.set_yscale("symlog", linthresh=LINEAR)
    limits = [min(ax.get_xlim()[0], ax.get_ylim()[0], -2.0), max(ax.get_xlim()[1], ax.get_ylim()[1], 2.0)]
    ax.plot(limits, limits, color=ERM, linewidth=0.8, linestyle="--", label="equal")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.axvline(0, color="black", linewidth=0.8)
    ticks = [sign * tick for tick in (0, 1, 3, 10, 30, 60) for sign in (-1, 1)]
    shown = sorted({tick for tick in ticks if limits[0] <= tick <= limits[1]})
    for axis, name in ((ax.xaxis, "paper"), (ax.yaxis, "here, at small scale")):
        axis.set_ticks(shown, [f"{tick:+d}" if tick else "0" for tick in shown])
        axis.set_ticks([], minor=True)
        axis.set_label_text(f"{name}: mixup less ERM, points of test error")
    ax.set(xlim=limits, ylim=limits, title="Every comparison of the paper: its difference and ours")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    tidy(ax)
