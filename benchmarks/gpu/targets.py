"""What must be reached on a GPU, and how far it was: one line a target."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.harness.figures import BETTER, WORSE, make_figure, render_png, tidy
from benchmarks.harness.time_ratios import NOT_RUN, Line, summarise_lines

__all__ = ["LINES", "describe_finding", "describe_targets", "draw", "summarise", "tabulate"]

Records = Sequence[Mapping[str, Any]]
# Labels that begin so cannot be measured on a CPU.
GPU = "GPU: "
MAX_ERM_ERROR, MIN_ERM_ERROR = 5.6, 5.0


def _make_line(label: str, part: str, case: str, ours: str, theirs: str | None, target: float) -> Line:
    """Return a line of a ratio, or of a value if nothing is compared, that must be at most its target."""
    return Line(label, part, case, ours, theirs or "", target, is_share=theirs is None, digits=3)


def _make_floor(label: str, part: str, case: str, ours: str, theirs: str | None, target: float) -> Line:
    """Return the same of one that must be at least its target."""
    return Line(
        label, part, case, ours, theirs or "", target, is_share=theirs is None, digits=3, at_least=True
    )


def _make_erm_lines() -> list[Line]:
    label, cases = "PreAct ResNet-18, ERM: test error, %", ("ERM, 0.0001", "ERM, 0.0005")
    return [
        make(label, "cifar", case, "error", None, bound)
        for case in cases
        for make, bound in ((_make_line, MAX_ERM_ERROR), (_make_floor, MIN_ERM_ERROR))
    ]


LINES = [
    _make_line("default MLP: step ÷ skorch's", "step", "wide/32", "mixup", "skorch-shuffled", 0.15),
    _make_line(f"{GPU}default MLP, graphs: µs a step", "step", "wide/32", "mixup-graph", None, 25.0),
    _make_floor("single fits ÷ 200 nets as one", "stack", "abalone", "lone", "stacked", 50.0),
    _make_floor("single fits ÷ 200 nets as one", "stack", "wide", "lone", "stacked", 100.0),
    _make_floor("mixing ÷ device copy, bandwidth", "mixing", "float32", "mix", "copy", 0.9),
    _make_floor("mixing ÷ device copy, bandwidth", "mixing", "bfloat16", "mix", "copy", 0.8),
    _make_floor(
        "PreAct ResNet-18: throughput ÷ loop's", "images", "mixup", "loop, mixup", "estimator, mixup", 1.0
    ),
    _make_line("PreAct ResNet-18: minutes of 200 epochs", "cifar", "mixup, 0.0001", "minutes", None, 10.0),
    *_make_erm_lines(),
    _make_line("PreAct ResNet-18, mixup: test error, %", "cifar", "mixup, 0.0001", "error", None, 4.3),
    _make_line("GAN: five seeds as one ÷ in turn", "gan", "narrow", "stack", "singles", 0.4),
    _make_line("GAN: five seeds as one ÷ in turn", "gan", "wide", "stack", "singles", 0.4),
    _make_line("predict 1,000,000 rows: ms", "predict", "wide", "mixup", None, 20.0),
    _make_line("checks that fail", "checks", "all", "failed", None, 0.0),
    _make_line(f"{GPU}gpu tests that fail", "tests", "gpu", "failed", None, 0.0),
]


def summarise(records: Records) -> list[dict[str, Any]]:
    """Return a row for each target: the figure, its quartiles, and whether it was reached."""
    return summarise_lines(records, LINES)


def _format_target(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "what": row["label"].removeprefix(GPU),
        "case": row["case"],
        "target": f"{'≥' if row['at_least'] else '≤'} {row['target']:g}",
    }


def _format_row(row: Mapping[str, Any]) -> dict[str, str]:
    is_run = row["met"] != NOT_RUN
    outcome = {"target": "reached", "missed": "missed"}.get(row["met"], NOT_RUN)
    figure = f"{row['ratio']:.3g}" if is_run else ""
    quartiles = f"{row['low']:.3g} to {row['high']:.3g}" if is_run else ""
    return {**_format_target(row), "figure": figure, "quartiles": quartiles, "outcome": outcome}


def describe_targets() -> list[dict[str, str]]:
    """Return a printed row for each target, without figures."""
    return [_format_target(vars(line)) for line in LINES]


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: targets and figures, then what came of the steps."""
    packed = document["records"]
    records: Iterable[dict[str, Any]] = (
        dict(zip(packed["columns"], row, strict=True)) for row in packed["rows"]
    )
    steps = [
        {
            "step": record["case"],
            "outcome": record["contender"],
            "seconds": f"{record['value']:g}",
            "reason": record["reason"] or "",
        }
        for record in records
        if record["part"] == "steps"
    ]
    return {"Targets": [_format_row(row) for row in document["summary"]], "Steps": steps}


def describe_finding(summary: Records) -> str:
    """Return one sentence that counts the targets reached and names those missed."""
    measured = [row for row in summary if row["met"] != NOT_RUN]
    missed = [
        f"{row['label']}, {row['case']} ({row['ratio']:.3g})" for row in measured if row["met"] == "missed"
    ]
    counted = f"{len(measured) - len(missed)} of {len(summary)} targets are reached"
    counted += f", {len(summary) - len(measured)} not run"
    return f"{counted}; missed: {'; '.join(missed)}." if missed else f"{counted}."


def draw(summary: Records) -> bytes:
    """Draw each figure over its target, so that left of 1 is reached."""
    rows = [row for row in summary if row["ratio"] and row["target"]]
    figure = make_figure(1.4 + 0.3 * max(1, len(rows)))
    ax = figure.subplots()
    for place, row in enumerate(rows):
        ends = [abs(row[name]) / row["target"] for name in ("low", "ratio", "high")]
        low, middle, high = [1 / end if row["at_least"] else end for end in ends]
        color = WORSE if row["met"] == "missed" else BETTER
        ax.plot([low, high], [place, place], color=color, linewidth=2.2, solid_capstyle="butt")
        ax.plot(middle, place, "o", color=color, markersize=6)
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_yticks(range(len(rows)), [f"{row['label'].removeprefix(GPU)}, {row['case']}" for row in rows])
    ax.set_ylim(max(1, len(rows)) - 0.4, -0.6)
    ax.set_xlabel("figure over target, or target over figure where more is better")
    tidy(ax, "x")
    figure.suptitle("Figures on this device beside their targets (left of 1: reached)")
    return render_png(figure)
