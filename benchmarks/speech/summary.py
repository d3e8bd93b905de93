"""From records of trainings on speech to tables, comparisons with the paper and a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from benchmarks.harness.claims import Comparison
from benchmarks.harness.figures import ERM, MIXUP, PAPER, VICINITIES, add_legend, make_figure
from benchmarks.harness.intervals import compute_t_interval
from benchmarks.harness.paired_differences import (
    fill_columns,
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
)
from benchmarks.harness.time_ratios import Line, format_timed_ratios, summarise_lines
from benchmarks.image_training.summaries import (
    average_columns,
    average_curves,
    draw_error_bands,
    list_training_lines,
)
from benchmarks.speech.networks import SPEECH_NETWORKS

__all__ = ["PUBLISHED", "compare_errors", "draw_errors", "name_method", "summarise", "tabulate"]

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
PAPER_WORDS, PAPER_WIDTH = 30, 64
PARTS = {"valid": "validation", "test": "test"}
EXTRACTION, EXTRACTION_TARGET = "seconds of sound a second", 300
IS_SPEED: dict[str, Any] = {"at_least": True, "is_share": True, "digits": 0}
MEANS = {"train_loss": 4, "clips_per_second": 1}
# ERM, then mixup with one alpha after the other.
LOOKS = [(ERM, "-", "o"), (MIXUP, "-", "s"), (VICINITIES[2], "--", "^"), (MIXUP, "-.", "D")]
STYLES = [{"color": color, "linestyle": dashes, "marker": marker} for color, dashes, marker in LOOKS]


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
    return fill_columns(rows)


def _summarise_runs(group: Sequence[Row], baseline: Sequence[Row]) -> dict[str, Any]:
    own, base = (sorted(records, key=lambda record: record["repeat"]) for records in (group, baseline))
    first = own[0]
    row = {name: first[name] for name in ("part", "network", "alpha", "epochs", "n_parameters")}
    row["n_seeds"] = len(own)
    for part in PARTS:
        if first.get(f"{part}_error") is not None:
            row |= flatten_interval(
                f"{part}_error", compute_t_interval([record[f"{part}_error"] for record in own])
            )
    gaps = [record["test_error"] - other["test_error"] for record, other in zip(own, base, strict=True)]
    row |= flatten_interval("diff", compute_t_interval(gaps))
    row |= average_columns(own, MEANS)
    row["minutes"] = round(float(np.mean([record["seconds"] for record in own])) / 60, 2)
    return row | average_curves(own, "test_curve")


def _summarise_times(records: Sequence[Row]) -> list[dict[str, Any]]:
    extractions = {record["case"] for record in records if record["contender"] == "extraction"}
    lines = []
    for case in dict.fromkeys(record["case"] for record in records):
        made = Line(EXTRACTION, "speed", case, "extraction", "", EXTRACTION_TARGET, **IS_SPEED)
        lines += [made] if case in extractions else list_training_lines(case)
    return summarise_lines(records, lines)


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


def compare_errors(document: Row, network: str) -> list[Comparison]:
    """Return how the test error of a network differs from ERM's, for each alpha of Figure 4."""
    rows = {row["alpha"]: row for row in document["summary"] if row.get("network") == network}
    found = []
    for alpha, row in rows.items():
        if alpha and 0.0 in rows and (network, alpha) in PUBLISHED:
            paper = PUBLISHED[network, alpha][1] - PUBLISHED[network, 0.0][1]
            label = f"{_format_head(row)['network']}, alpha = {alpha:g}"
            text = f"{rows[0.0]['test_error']:.1f} → {row['test_error']:.1f} % (alpha = {alpha:g})"
            found.append(Comparison(label, text, read_interval(row, "diff"), paper=paper))
    return found


def draw_errors(document: Row) -> Figure:
    """Draw test errors by epochs, a panel for each network; a line marks the beginning of mixup."""
    rows = [row for row in document["summary"] if row["part"] == "run"]
    groups = list(group_records(rows, "network").values())
    figure, config, data = make_figure(3.5), document["config"], document["data"][0]
    is_whole = data["n_classes"] == PAPER_WORDS
    axes = figure.subplots(1, len(groups), squeeze=False)[0]
    for ax, group in zip(axes, groups, strict=True):
        if config["warmup_epochs"]:
            begin = config["warmup_epochs"] + 0.5
            ax.axvline(begin, color="black", linewidth=1, linestyle=":", label="mixup begins")
        styles = [STYLES[number % len(STYLES)] for number in range(len(group))]
        draw_error_bands(ax, group, [name_method(row["alpha"]) for row in group], styles)
        if is_whole:
            _draw_published(ax, group, styles)
        ax.set_title(_describe_network(group[0]["network"], config["width"]))
    paper = "" if is_whole else f" (65,000 clips of {PAPER_WORDS} words in the paper)"
    figure.suptitle(
        f"{data['n_train']:,} spoken commands of {data['n_classes']} words for training{paper}\n"
        f"mean and range of {rows[0]['n_seeds']} seeds"
    )
    add_legend(figure, axes[0])
    return figure


def _draw_published(ax: Axes, rows: Sequence[Row], styles: Sequence[Row]) -> None:
    """Draw the test errors of Figure 4 at the last epoch."""
    label = "Figure 4"
    for row, style in zip(rows, styles, strict=True):
        published = PUBLISHED.get((row["network"], row["alpha"]))
        if published is not None:
            looks = {"mec": PAPER, "mfc": style["color"], "linestyle": "", "markersize": 6, "label": label}
            ax.plot(row["epochs"], published[1], "D", clip_on=False, **looks)
            label = ""


def _describe_network(network: str, width: int) -> str:
    title = SPEECH_NETWORKS[network].title
    # LeNet has the width of the paper in any case.
    narrow = network == "vgg11" and width != PAPER_WIDTH
    return f"{title}, width {width} ({PAPER_WIDTH} in the paper)" if narrow else title
