"""What the times of ``speed`` say: ratios beside their targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
import numpy as np

from benchmarks.figures import make_figure, render_png
from benchmarks.interleave import compare_times

__all__ = ["LINES", "Line", "describe_finding", "draw_ratios", "summarise", "tabulate"]

NOT_RUN = "not run"
MET, MISSED = "#1b6ca8", "#c8553d"
SHUFFLED = "skorch-shuffled"
PEERS = {
    "sklearn": "scikit-learn MLPClassifier",
    SHUFFLED: "skorch NeuralNetClassifier",
    "loop": "PyTorch loop by hand",
}


@dataclass(frozen=True)
class Line:
    """One ratio that has a target.

    Parameters
    ----------
    label : str
        What is compared.
    part, case : str
        Where the times stand.
    ours, theirs : str
        The contenders; "peer" is the fastest of all others.
    target, stretch : float or None
        What is to be reached, and what would be better still.
    at_least : bool, default=False
        Whether the ratio must be at least the target instead of at most.
    """

    label: str
    part: str
    case: str
    ours: str
    theirs: str
    target: float
    stretch: float | None = None
    at_least: bool = False

    def is_met(self, ratio: float, bound: float | None) -> bool:
        """Whether a ratio, as it is printed, keeps a bound."""
        if bound is None:
            return False
        shown = round(ratio, 2)
        return shown >= bound if self.at_least else shown <= bound


def _make_fit_lines() -> list[Line]:
    targets = [
        ("fit ÷ MLPClassifier fit", "sklearn", {16: (0.85, 0.65), 128: (0.75, 0.6), 1024: (0.65, 0.5)}),
        ("fit ÷ skorch fit", SHUFFLED, {16: (0.4, 0.3), 128: (0.4, 0.3), 1024: (0.4, 0.3)}),
        ("fit ÷ fit of a loop by hand", "loop", {16: (1.0, 0.7), 1024: (1.05, 0.95)}),
    ]
    return [
        Line(label, "fit", f"{table}/{size}", "mixup", peer, *bounds)
        for label, peer, by_size in targets
        for table in ("abalone", "wide")
        for size, bounds in by_size.items()
    ]


LINES = [
    *_make_fit_lines(),
    Line("mixup epoch ÷ plain epoch", "epoch", "abalone/16", "mixup", "erm", 1.15, 1.05),
    Line("mixup epoch ÷ plain epoch", "epoch", "abalone/128", "mixup", "erm", 1.08, 1.03),
    Line("mixup epoch ÷ plain epoch", "epoch", "images/128", "mixup", "erm", 1.02, 1.01),
    Line("fit ÷ fit of a loop by hand", "images", "images/128", "mixup", "loop", 1.05),
    Line("mixing alone ÷ the fastest peer", "mixing", "128x3x32x32", "sk_mixup", "peer", 1.0, 0.7),
    Line("mixing alone ÷ the fastest peer", "mixing", "1024x54", "sk_mixup", "peer", 1.0, 0.7),
    Line("predict_proba ÷ MLPClassifier's", "prediction", "wide", "mixup", "sklearn", 1.0),
    Line("time per row, largest ÷ base", "growth", "wide", "largest", "base", 1.2),
    Line("peak memory beyond the data ÷ data", "memory", "wide", "largest", "data", 0.3),
    Line("GPU: fit ÷ skorch fit", "gpu", "fit", "mixup", SHUFFLED, 0.2, 0.1),
    Line("GPU: mix kernel ÷ device copy, bandwidth", "gpu", "mixing", "mix", "copy", 0.8, 0.9, at_least=True),
]


def summarise(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each line; those whose times are not there are marked so.

    Parameters
    ----------
    records : sequence of mapping
        From ``speed.measure_group``.

    Returns
    -------
    rows : list of dict
        Label, part, case, peer, ratio with quartiles, the median values behind it, target,
        stretch, and ``met``: "stretch", "target", "missed" or "not run".
    """
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for record in records:
        group = values.setdefault((record["part"], record["case"]), {})
        group.setdefault(record["contender"], []).append(record["value"])
    return [_summarise_line(line, values.get((line.part, line.case), {})) for line in LINES]


def _summarise_line(line: Line, group: Mapping[str, list[float]]) -> dict[str, Any]:
    row = {"label": line.label, "part": line.part, "case": line.case, "at_least": line.at_least}
    row |= {"target": line.target, "stretch": line.stretch}
    peer = _find_peer(line, group)
    if line.ours not in group or peer is None:
        empty = dict.fromkeys(("ratio", "low", "high", "ours", "theirs"))
        return row | {"peer": line.theirs, **empty, "rounds": 0, "met": NOT_RUN}
    ours = group[line.ours]
    theirs = [1.0] * len(ours) if peer == "data" else group[peer]
    if line.part == "growth":  # each size was timed in a process of its own
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
        return line.theirs if line.theirs in group or line.theirs == "data" else None
    medians = {name: float(np.median(times)) for name, times in group.items() if name != line.ours}
    return min(medians, key=medians.__getitem__, default=None)


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: ratios beside targets, and the times behind them.

    Parameters
    ----------
    document : mapping
        A result of ``speed``.

    Returns
    -------
    tables : dict of str to list of dict
        Heading to rows, each title to text.
    """
    records = document["records"]
    rows = [dict(zip(records["columns"], row, strict=True)) for row in records["rows"]]
    pivot = _pivot_fits(rows)
    return {
        **({"Time of a mixup fit over that of a plain fit elsewhere, by batch size": pivot} if pivot else {}),
        "Ratios and targets": [_format_row(row) for row in document["summary"]],
        "Medians, microseconds per step, batch or row (memory: share of the data)": _format_times(rows),
    }


def _pivot_fits(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return a row for each table and peer, a column for each batch size."""
    times: dict[tuple[str, str], dict[str, list[float]]] = {}
    for record in records:
        if record["part"] == "fit":
            table, size = record["case"].split("/")
            times.setdefault((table, size), {}).setdefault(record["contender"], []).append(record["value"])
    tables, sizes = (list(dict.fromkeys(key[place] for key in times)) for place in (0, 1))
    return [
        {"table": table, "peer": title}
        | {
            size: f"{compare_times(times[table, size]['mixup'], times[table, size][peer])['ratio']:.2f}"
            for size in sizes
        }
        for table in tables
        for peer, title in PEERS.items()
    ]


def _format_row(row: Mapping[str, Any]) -> dict[str, str]:
    sign = "≥" if row["at_least"] else "≤"
    stretch = "" if row["stretch"] is None else f"{sign} {row['stretch']:g}"
    measured = row["ratio"] is not None
    return {
        "ratio": row["label"],
        "case": row["case"],
        "measured": f"{row['ratio']:.2f}" if measured else NOT_RUN,
        "quartiles": f"{row['low']:.2f} to {row['high']:.2f}" if measured else "",
        "target": f"{sign} {row['target']:g}",
        "stretch": stretch,
        "met": row["met"] if measured else "",
    }


def _format_times(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
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


def describe_finding(summary: Sequence[Mapping[str, Any]]) -> str:
    """Return one sentence that counts the targets met and names those missed.

    Parameters
    ----------
    summary : sequence of mapping
        From :func:`summarise`.

    Returns
    -------
    sentence : str
    """
    measured = [row for row in summary if row["met"] != NOT_RUN]
    missed = [
        f"{row['label']} on {row['case']} ({row['ratio']:.2f})" for row in measured if row["met"] == "missed"
    ]
    n_stretch = sum(row["met"] == "stretch" for row in measured)
    counted = f"{len(measured) - len(missed)} of {len(measured)} ratios measured meet their target"
    counted += f", {n_stretch} of them the stretch target as well"
    return f"{counted}; missed: {', '.join(missed)}." if missed else f"{counted}."


def draw_ratios(summary: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw every ratio measured, with its quartiles and its target.

    Parameters
    ----------
    summary : sequence of mapping
        From :func:`summarise`.

    Returns
    -------
    png : bytes
        The picture.
    """
    rows = [row for row in summary if row["ratio"] is not None]
    figure = make_figure(1.4 + 0.27 * len(rows))
    ax = figure.subplots()
    for place, row in enumerate(rows):
        _draw_row(ax, place, row)
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set_xscale("log")
    ticks = [0.1, 0.2, 0.5, 1, 2]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlim(
        min(0.09, 0.9 * min(row["low"] for row in rows)), max(2.1, 1.1 * max(row["high"] for row in rows))
    )
    ax.set_yticks(range(len(rows)), [f"{row['label']}, {row['case']}" for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlabel("ratio, median and quartiles; the black tick is the target")
    ax.grid(axis="x", color="#e4e4e4", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    figure.suptitle("Time of sk-mixup over its peers' (left of 1: faster)")
    return render_png(figure)


def _draw_row(ax: Axes, place: int, row: Mapping[str, Any]) -> None:
    color = MISSED if row["met"] == "missed" else MET
    ax.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2.2, solid_capstyle="butt")
    ax.plot(row["ratio"], place, "o", color=color, markersize=6)
    ax.plot(row["target"], place, "|", color="#222222", markersize=11, markeredgewidth=1.6)
