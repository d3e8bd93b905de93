"""From records of trainings on speech to tables, a plot and a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
import numpy as np

from benchmarks.harness.figures import make_figure, render_png, tidy
from benchmarks.harness.intervals import compute_t_interval
from benchmarks.harness.paired_differences import (
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
)
from benchmarks.harness.time_ratios import Line, format_timed_ratios, summarise_lines
from benchmarks.speech.networks import SPEECH_NETWORKS

__all__ = ["PUBLISHED", "describe_finding", "draw_errors", "name_method", "summarise", "tabulate"]

Row = Mapping[str, Any]

# Figure 4: validation and test error in per cent, by network and alpha; 0 is ERM.
PUBLISHED = {
    ("lenet", 0.0): (9.8, 10.3),
    ("lenet", 0.1): (10.1, 10.8),
    ("lenet", 0.2): (10.2, 11.3),
    ("vgg11", 0.0): (5.0, 4.6),
    ("vgg11", 0.1): (4.0, 3.8),
    ("vgg11", 0.2): (3.9, 3.4),
}
PARTS = {"valid": "validation", "test": "test"}
WORDS = {-1: "clearly lower than", 0: "not clearly different from", 1: "clearly higher than"}
THROUGHPUT, OVERHEAD = "training throughput ÷ loop by hand", "mixup ÷ ERM, time of an epoch"
EXTRACTION = "seconds of sound a second"
THROUGHPUT_TARGET, OVERHEAD_TARGET, EXTRACTION_TARGET = 0.97, 1.02, 300
COLORS = ("#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7")
DASHES, MARKERS = ("-", "--", "-.", ":", "-"), ("o", "s", "^", "D", "v")
# Axes end at this multiple of the lowest error of the worst line, so that the last epochs can be read.
HEADROOM = 2.5


def name_method(alpha: float) -> str:
    """Return "ERM" for 0, otherwise "mixup, alpha = ..."."""
    return f"mixup, alpha = {alpha:g}" if alpha else "ERM"


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each network and alpha, then one for each ratio of times.

    Means over seeds with the ends of Student's 95 % intervals, in per cent; ``diff`` is that of the test
    error from ERM, in points and paired by seed. Curves are means, lowest and highest over the seeds. Of
    ratios, the median and the quartiles. What a row does not have is None.
    """
    trained = [record for record in records if record["part"] == "run"]
    groups = group_records(trained, "network", "alpha")
    rows = [_summarise_runs(group, groups[network, 0.0]) for (network, _), group in groups.items()]
    rows += _summarise_times([record for record in records if record["part"] == "speed"])
    columns = dict.fromkeys(name for row in rows for name in row)
    return [dict.fromkeys(columns) | row for row in rows]


def _summarise_runs(group: Sequence[Row], baseline: Sequence[Row]) -> dict[str, Any]:
    own, base = (sorted(records, key=lambda record: record["repeat"]) for records in (group, baseline))
    first = own[0]
    row = {name: first[name] for name in ("part", "network", "alpha", "epochs", "n_parameters")}
    row["n_seeds"] = len(own)
    for part in PARTS:
        if first[f"{part}_error"] is not None:
            row |= flatten_interval(
                f"{part}_error", compute_t_interval([record[f"{part}_error"] for record in own])
            )
    gaps = [record["test_error"] - other["test_error"] for record, other in zip(own, base, strict=True)]
    row |= flatten_interval("diff", compute_t_interval(gaps))
    row["train_loss"] = round(float(np.mean([record["train_loss"] for record in own])), 4)
    row["clips_per_second"] = round(float(np.mean([record["clips_per_second"] for record in own])), 1)
    row["minutes"] = round(float(np.mean([record["seconds"] for record in own])) / 60, 2)
    curves = np.array([record["test_curve"] for record in own])
    for name, reduce in (("curve", np.mean), ("curve_low", np.min), ("curve_high", np.max)):
        row[name] = np.round(reduce(curves, axis=0), 3).tolist()
    return row


def _summarise_times(records: Sequence[Row]) -> list[dict[str, Any]]:
    lines = []
    for case in dict.fromkeys(record["case"] for record in records):
        if any(record["case"] == case and record["contender"] == "extraction" for record in records):
            lines.append(_make_extraction_line(case))
            continue
        for method in ("ERM", "mixup"):
            label = f"{THROUGHPUT}, {method}"
            # Throughput is clips over time: ours over theirs is their time over ours.
            ours, theirs = f"loop, {method}", f"estimator, {method}"
            lines.append(Line(label, "speed", case, ours, theirs, THROUGHPUT_TARGET, at_least=True))
        lines.append(Line(OVERHEAD, "speed", case, "estimator, mixup", "estimator, ERM", OVERHEAD_TARGET))
    return summarise_lines(records, lines)


def _make_extraction_line(case: str) -> Line:
    return Line(
        EXTRACTION, "speed", case, "extraction", "", EXTRACTION_TARGET, at_least=True, is_share=True, digits=0
    )


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: errors, then sizes and times of each method, then ratios of times."""
    rows, times = ([row for row in document["summary"] if row["part"] == part] for part in ("run", "speed"))
    tables = {
        f"Error, %, after {rows[0]['epochs']} epochs; differences in points": list(map(_format_errors, rows)),
        "Sizes and times": list(map(_format_method, rows)),
        "Ratios of times": format_timed_ratios(times, "µs a clip", untimed=[EXTRACTION]),
    }
    return {title: part for title, part in tables.items() if part}


def _format_errors(row: Row) -> dict[str, str]:
    cells = _format_head(row) | {"n": str(row["n_seeds"])}
    for part, title in PARTS.items():
        if row.get(f"{part}_error") is not None:
            cells[title] = format_mean(row, f"{part}_error", 2)
    cells["test, less ERM"] = format_difference(read_interval(row, "diff"), 2) if row["alpha"] else ""
    published = PUBLISHED.get((row["network"], row["alpha"]))
    cells["paper: validation / test"] = "" if published is None else "{} / {}".format(*published)
    return cells


def _format_head(row: Row) -> dict[str, str]:
    return {"network": SPEECH_NETWORKS[row["network"]].title, "method": name_method(row["alpha"])}


def _format_method(row: Row) -> dict[str, str]:
    return {
        **_format_head(row),
        "last training loss": f"{row['train_loss']:.3f}",
        "million parameters": f"{row['n_parameters'] / 1e6:.2f}",
        "minutes a run": f"{row['minutes']:.1f}",
        "clips/s": f"{row['clips_per_second']:,.0f}",
    }


def describe_finding(summary: Sequence[Row], data: Mapping[str, Any]) -> str:
    """Return one sentence: how mixup's test error stands to that of ERM, and on what it was measured."""
    rows = [row for row in summary if row["part"] == "run"]
    groups = group_records(rows, "network").values()
    parts = [part for group in groups for part in _compare(group)]
    scope = f"{data['n_train']:,} training clips of {data['n_classes']} words"
    limit = ", a part of the archive that says little about the whole," if data["n_absent"] else ","
    return (
        f"After {rows[0]['epochs']} epochs on {scope}{limit} the test error of mixup is {'; '.join(parts)} "
        f"({rows[0]['n_seeds']} seeds)."
    )


def _compare(rows: Sequence[Row]) -> list[str]:
    erm = next(row for row in rows if not row["alpha"])
    return [
        f"{WORDS[read_interval(row, 'diff').find_sign()]} that of ERM for alpha = {row['alpha']:g} on "
        f"{_format_head(row)['network']} ({row['test_error']:.2f} against {erm['test_error']:.2f} %)"
        for row in rows
        if row["alpha"]
    ]


def draw_errors(summary: Sequence[Row], warmup_epochs: int) -> bytes:
    """Draw test errors by epochs, a panel for each network."""
    rows = [row for row in summary if row["part"] == "run"]
    groups = list(group_records(rows, "network").values())
    figure = make_figure(4.6)
    axes = figure.subplots(1, len(groups), squeeze=False).ravel()
    for ax, group in zip(axes, groups, strict=True):
        _draw_panel(ax, group, warmup_epochs)
    figure.suptitle(f"Test error by epochs, mean and range of {rows[0]['n_seeds']} seeds")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return render_png(figure)


def _draw_panel(ax: Axes, rows: Sequence[Row], warmup_epochs: int) -> None:
    epochs = np.arange(1, rows[0]["epochs"] + 1)
    if warmup_epochs:
        ax.axvline(
            warmup_epochs + 0.5, color="#7a7a7a", linewidth=1, linestyle=(0, (1, 2)), label="mixup begins"
        )
    for number, row in enumerate(rows):
        place = number % len(COLORS)
        looks: dict[str, Any] = {"color": COLORS[place], "linestyle": DASHES[place], "marker": MARKERS[place]}
        label = name_method(row["alpha"])
        every = max(1, len(epochs) // 15)
        ax.plot(epochs, row["curve"], label=label, markevery=every, markersize=3.5, linewidth=1.5, **looks)
        ax.fill_between(
            epochs, row["curve_low"], row["curve_high"], color=COLORS[place], alpha=0.15, linewidth=0
        )
    worst = max(min(row["curve"]) for row in rows)
    ax.set_ylim(0, min(100.0, HEADROOM * worst) or 1.0)
    ax.set(title=_format_head(rows[0])["network"], xlabel="epoch", ylabel="test error, %")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    tidy(ax)
