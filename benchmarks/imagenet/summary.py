"""From records of trainings on ImageNet to tables, a plot and a sentence."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
import numpy as np

from benchmarks.harness import time_ratios
from benchmarks.harness.figures import make_grid, render_png, tidy
from benchmarks.harness.intervals import Interval, compute_t_interval
from benchmarks.harness.paired_differences import (
    VERDICTS,
    fill_columns,
    format_difference,
    group_records,
)
from benchmarks.harness.time_ratios import NOT_RUN, Line, format_timed_ratios, summarise_lines
from benchmarks.image_training.summaries import average_columns, list_training_lines
from benchmarks.networks.imagenet_networks import NETWORKS

__all__ = ["PUBLISHED", "describe_finding", "draw_errors", "is_imagenet", "summarise", "tabulate"]

Row = Mapping[str, Any]

# Table 1: top-1 and top-5 error of ERM and of mixup by network and epochs, in per cent.
PUBLISHED: dict[tuple[str, int], dict[str, tuple[float, float | None]]] = {
    ("resnet50", 90): {"ERM": (23.5, None), "mixup": (23.3, 6.6)},
    ("resnet101", 90): {"ERM": (22.1, None), "mixup": (21.5, 5.6)},
    ("resnext101_32x4d", 90): {"ERM": (21.2, None), "mixup": (20.7, 5.3)},
    ("resnext101_64x4d", 90): {"ERM": (20.4, 5.3), "mixup": (19.8, 4.9)},
    ("resnet50", 200): {"ERM": (23.6, 7.0), "mixup": (22.1, 6.1)},
    ("resnet101", 200): {"ERM": (22.0, 6.1), "mixup": (20.8, 5.4)},
    ("resnext101_32x4d", 200): {"ERM": (21.3, 5.9), "mixup": (20.1, 5.0)},
}
N_CLASSES, N_VAL, SIZE = 1000, 50_000, 224
BASELINE, MIXED = "ERM", "mixup"
SCORES = ("top1", "top5")
MEANS = {"best_top1": 4, "train_loss": 4, "images_per_second": 1}
LOADING, LOADING_TARGET = "images/s of a core ÷ bare decode-and-transform loop", 0.9
CLAIM = (
    "{network}, {epochs} epochs: top-1 validation error of mixup {error:.2f} %, {gap:+.2f} points from ERM, "
    "{verdict} (n = {n})."
)
NO_CLAIM = "{n_train:,} training images at {image_size} pixels can teach no network: no error is claimed."
COLORS, DASHES = {"ERM": "#D55E00", "mixup": "#0072B2"}, {"top1": "-", "top5": "--"}
MARKERS, NAMES = {"ERM": "o", "mixup": "s"}, {"top1": "top-1", "top5": "top-5"}


def is_imagenet(row: Row) -> bool:
    """Whether a run was on images like the paper's: 1,000 classes, its validation set, its size."""
    return (row["n_classes"], row["n_val"], row["image_size"]) == (N_CLASSES, N_VAL, SIZE)


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each network, length and method, then one for each ratio of times.

    Means over seeds in per cent; ``top1_diff`` and ``top5_diff`` are those from ERM in points, paired by
    seed, with the ends of Student's 95 % intervals where there are several seeds. Of ratios, the median and
    the quartiles. What a row does not have is None.
    """
    trained = [record for record in records if record["part"] == "run"]
    groups = group_records(trained, "network", "epochs", "method", "alpha")
    rows = [_summarise_runs(group, groups[(*key[:2], BASELINE, 0.0)]) for key, group in groups.items()]
    rows += _summarise_loading([record for record in records if record["part"] == "loader"])
    rows += _summarise_times([record for record in records if record["part"] == "speed"])
    return fill_columns(rows)


def _summarise_runs(own: Sequence[Row], baseline: Sequence[Row]) -> dict[str, Any]:
    first = own[0]
    kept = ("part", "network", "epochs", "method", "alpha", "n_parameters", "n_processes")
    row = {name: first[name] for name in (*kept, "n_train", "n_val", "n_classes", "image_size")}
    row["n_seeds"] = len(own)
    for score in SCORES:
        values, base = ([record[score] for record in group] for group in (own, baseline))
        row[score] = round(float(np.mean(values)), 4)
        row |= _flatten(f"{score}_diff", compute_t_interval(np.subtract(values, base)))
        row[f"{score}_curve"] = (
            np.mean([record[f"{score}_curve"] for record in own], axis=0).round(3).tolist()
        )
    row["best_epoch"] = float(np.median([record["best_epoch"] for record in own]))
    row |= average_columns(own, MEANS)
    row["hours"] = round(float(np.mean([record["seconds"] for record in own])) / 3600, 4)
    return row


def _flatten(name: str, interval: Interval) -> dict[str, float | None]:
    """Return the columns of an interval; JSON has no NaN for the ends of one value's."""
    ends = {"": interval.mean, "_low": interval.low, "_high": interval.high}
    return {f"{name}{end}": None if math.isnan(value) else round(value, 5) for end, value in ends.items()}


def _read_interval(row: Row, name: str) -> Interval:
    ends = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return Interval(*(math.nan if value is None else value for value in ends))


def _summarise_loading(records: Sequence[Row]) -> list[dict[str, Any]]:
    # Images a second are the inverse of a time: ours over theirs is their time over ours.
    cases = dict.fromkeys(record["case"] for record in records)
    lines = [
        Line(LOADING, "loader", case, "bare loop", "feed", LOADING_TARGET, at_least=True) for case in cases
    ]
    return summarise_lines(records, lines)


def _summarise_times(records: Sequence[Row]) -> list[dict[str, Any]]:
    cases = dict.fromkeys(record["case"] for record in records)
    return summarise_lines(records, [line for case in cases for line in list_training_lines(case)])


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: errors, how the runs went, ratios of times."""
    rows = [row for row in document["summary"] if row["part"] == "run"]
    times = [row for row in document["summary"] if row["part"] != "run"]
    known = all(map(is_imagenet, rows))
    heading = "Validation error after the last epoch, %, top-1 / top-5; differences in points"
    heading += "" if known else " (too few images: no error is claimed)"
    tables = {
        heading: [_format_problem(group) for group in group_records(rows, "network", "epochs").values()],
        "How the runs went": list(map(_format_method, rows)),
        "Ratios of times": format_timed_ratios(times, "µs an image"),
    }
    return {title: part for title, part in tables.items() if part}


def _format_problem(rows: Sequence[Row]) -> dict[str, str]:
    """Return the table's row of one network and length."""
    by_method = {row["method"]: row for row in rows}
    first, mixed = rows[0], by_method[MIXED]
    cells = {"network": NETWORKS[first["network"]].title, "epochs": str(first["epochs"])}
    cells |= {"alpha": f"{mixed['alpha']:g}", "n": str(first["n_seeds"])}
    published = PUBLISHED.get((first["network"], first["epochs"]), {})
    for method in (BASELINE, MIXED):
        cells[f"paper: {method}"] = _format_scores(*published[method]) if method in published else ""
    for method in (BASELINE, MIXED):
        own = by_method[method]
        cells[method] = _format_scores(own["top1"], own["top5"], digits=2)
    for score in SCORES:
        cells[f"mixup - ERM, {NAMES[score]}"] = format_difference(_read_interval(mixed, f"{score}_diff"), 2)
    return cells


def _format_scores(top1: float, top5: float | None, digits: int = 1) -> str:
    return f"{top1:.{digits}f} / {'-' if top5 is None else f'{top5:.{digits}f}'}"


def _format_method(row: Row) -> dict[str, str]:
    return {
        "network": NETWORKS[row["network"]].title,
        "epochs": str(row["epochs"]),
        "method": row["method"],
        "best top-1 error, %": f"{row['best_top1']:.2f}",
        "at epoch (median)": f"{row['best_epoch']:g}",
        "last training loss": f"{row['train_loss']:.3f}",
        "million parameters": f"{row['n_parameters'] / 1e6:.2f}",
        "processes": str(row["n_processes"]),
        "hours a run": f"{row['hours']:.3g}",
        "images/s": f"{row['images_per_second']:,.0f}",
    }


def describe_finding(summary: Sequence[Row]) -> str:
    """Return what was found: errors of ImageNet's own images only, then the ratios of times."""
    rows = [row for row in summary if row["part"] == "run"]
    measured = [row for row in summary if row["part"] != "run" and row["met"] != NOT_RUN]
    claims = [_claim(row) for row in rows if row["method"] == MIXED]
    if not all(map(is_imagenet, rows)):
        claims = [NO_CLAIM.format(**rows[0])]
    return "\n".join([*claims, *([time_ratios.describe_finding(measured)] if measured else [])])


def _claim(row: Row) -> str:
    return CLAIM.format(
        network=NETWORKS[row["network"]].title,
        epochs=row["epochs"],
        error=row["top1"],
        gap=row["top1_diff"],
        verdict=VERDICTS[_read_interval(row, "top1_diff").find_sign()],
        n=row["n_seeds"],
    )


def draw_errors(summary: Sequence[Row]) -> bytes:
    """Draw validation errors by epochs: a panel for each network and length."""
    rows = [row for row in summary if row["part"] == "run"]
    groups = list(group_records(rows, "network", "epochs").values())
    figure, axes = make_grid(len(groups), 3)
    for ax, group in zip(axes, groups, strict=True):
        _draw_panel(ax, group)
    claim = "" if all(map(is_imagenet, rows)) else f"; {rows[0]['n_train']:,} images, no error is claimed"
    figure.suptitle(f"Validation error by epochs{claim}")
    handles, _ = axes[0].get_legend_handles_labels()
    if any(map(is_imagenet, rows)):
        handles.append(Line2D([], [], color="black", marker="x", linestyle="", markersize=8, label="paper"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    return render_png(figure)


def _draw_panel(ax: Axes, rows: Sequence[Row]) -> None:
    epochs = np.arange(1, rows[0]["epochs"] + 1)
    published = PUBLISHED.get((rows[0]["network"], rows[0]["epochs"]), {}) if is_imagenet(rows[0]) else {}
    for row in rows:
        method = row["method"]
        looks: dict[str, Any] = {"color": COLORS[method], "marker": MARKERS[method], "markersize": 3.5}
        looks |= {"linewidth": 1.5, "markevery": max(1, len(epochs) // 20)}
        for score, place in zip(SCORES, published.get(method, (None, None)), strict=True):
            label = f"{method}, {NAMES[score]}"
            ax.plot(epochs, row[f"{score}_curve"], label=label, linestyle=DASHES[score], **looks)
            if place is not None:
                ax.plot(epochs[-1], place, "x", color=COLORS[method], markersize=8, clip_on=False)
    ax.set_ylim(0, 100 if not published else 60)
    title = f"{NETWORKS[rows[0]['network']].title}, {rows[0]['epochs']} epochs"
    ax.set_title(title, fontsize=10)
    ax.set(xlabel="epoch", ylabel="validation error, %")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    tidy(ax)
