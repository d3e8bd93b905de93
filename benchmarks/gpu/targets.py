"""What must be reached on a GPU, and how far it was: one line a target."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness.figures import make_figure
from benchmarks.harness.time_ratios import NOT_RUN, Line, draw_ratios, make_ratio_legend, summarise_lines

__all__ = ["LINES", "describe_targets", "draw", "summarise", "tabulate"]

Records = Sequence[Mapping[str, Any]]
# Labels that begin so cannot be measured on a CPU.
GPU = "GPU: "
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1, 1.25, 2, 5, 10, 20, 50, 100)
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


def draw(document: Mapping[str, Any]) -> Figure:
    """Draw each figure over its target, so that left of 1 is reached."""
    rows = [row for row in document["summary"] if row["ratio"] and row["target"]]
    names = ["{what}, {case}, {target}".format(**_format_target(row)) for row in rows]
    figure = make_figure(1.3 + 0.25 * max(1, len(rows)))
    ax = figure.subplots()
    draw_ratios(ax, list(map(_divide_by_target, rows)), names)
    ax.set_xscale("log")
    left, right = ax.get_xlim()
    ticks = [tick for tick in TICKS if left <= tick <= right]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("figure ÷ target,\nor target ÷ figure where more is better")
    figure.suptitle(f"Figures on {document['device']['kind']} beside their targets: left of 1 is reached")
    figure.legend(handles=make_ratio_legend(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _divide_by_target(row: Mapping[str, Any]) -> dict[str, Any]:
    shares = {name: abs(row[name]) / row["target"] for name in ("low", "ratio", "high")}
    if row["at_least"]:
        shares = {name: 1 / share for name, share in shares.items()}
    return {**shares, "met": row["met"], "target": 1.0}
