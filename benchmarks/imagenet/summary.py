"""From records of trainings on ImageNet to tables, comparisons with the paper and a figure."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
import numpy as np

from benchmarks.harness.claims import Comparison
from benchmarks.harness.figures import ERM, MIXUP, PAPER, make_figure, make_grid, tidy
from benchmarks.harness.intervals import Interval, compute_t_interval
from benchmarks.harness.paired_differences import fill_columns, format_difference, group_records
from benchmarks.harness.time_ratios import (
    Line,
    draw_ratios,
    format_timed_ratios,
    make_ratio_legend,
    summarise_lines,
)
from benchmarks.image_training.summaries import average_columns, list_training_lines
from benchmarks.networks.imagenet_networks import NETWORKS

__all__ = ["PUBLISHED", "compare_errors", "draw", "is_imagenet", "summarise", "tabulate"]

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
COLORS, DASHES = {"ERM": ERM, "mixup": MIXUP}, {"top1": "-", "top5": "--"}
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
    """Return the printed tables: errors, how the runs went, ratios of times; of other images no errors."""
    rows = [row for row in document["summary"] if row["part"] == "run"]
    times = [row for row in document["summary"] if row["part"] != "run"]
    ratios, runs = format_timed_ratios(times, "µs an image"), list(map(_format_method, rows))
    if not all(map(is_imagenet, rows)):
        tables = {"Ratios of times": ratios, "How the runs went": runs}
    else:
        heading = "Validation error after the last epoch, %, top-1 / top-5; differences in points"
        problems = group_records(rows, "network", "epochs").values()
        tables = {heading: list(map(_format_problem, problems))}
        tables |= {"How the runs went": runs, "Ratios of times": ratios}
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
    best = {
        "best top-1 error, %": f"{row['best_top1']:.2f}",
        "at epoch (median)": f"{row['best_epoch']:g}",
        "last training loss": f"{row['train_loss']:.3f}",
    }
    return {
        "network": NETWORKS[row["network"]].title,
        "epochs": str(row["epochs"]),
        "method": row["method"],
        **(best if is_imagenet(row) else {}),
        "million parameters": f"{row['n_parameters'] / 1e6:.2f}",
        "processes": str(row["n_processes"]),
        "hours a run": f"{row['hours']:.3g}",
        "images/s": f"{row['images_per_second']:,.0f}",
    }


def compare_errors(document: Row) -> list[Comparison]:
    """Return the differences in top-1 error of trainings on all of ImageNet, beside those of Table 1."""
    rows = [row for row in document["summary"] if row["part"] == "run" and is_imagenet(row)]
    groups = group_records(rows, "network", "epochs")
    return [_compare(key, groups[key]) for key in PUBLISHED if key in groups]


def _compare(key: tuple[str, int], rows: Sequence[Row]) -> Comparison:
    by_method, published = {row["method"]: row for row in rows}, PUBLISHED[key]
    label = f"{NETWORKS[key[0]].title}, {key[1]} epochs"
    return Comparison(
        label,
        f"{label}: {by_method[BASELINE]['top1']:.1f} → {by_method[MIXED]['top1']:.1f} %",
        _read_interval(by_method[MIXED], "top1_diff"),
        paper=published[MIXED][0] - published[BASELINE][0],
    )


def draw(document: Row) -> Figure:
    """Draw errors by epochs; of a few photographs, which teach nothing, the ratios of times."""
    rows = [row for row in document["summary"] if row["part"] == "run"]
    times = [row for row in document["summary"] if row["part"] != "run"]
    return _draw_errors(rows) if all(map(is_imagenet, rows)) else _draw_times(rows[0], times)


def _draw_times(first: Row, rows: Sequence[Row]) -> Figure:
    """Draw the ratios of times of loading and training, beside their targets."""
    training = [row for row in rows if row["part"] == "speed"]
    panels = {
        "Loading: images a second of a core ÷ a bare loop's, to be at least the target": [
            row for row in rows if row["part"] == "loader"
        ],
        "Training: images a second ÷ a loop by hand's, to be at least the target": [
            row for row in training if row["at_least"]
        ],
        "Training: time of an epoch, mixup ÷ ERM, to be at most the target": [
            row for row in training if not row["at_least"]
        ],
    }
    figure = make_figure(1.9 + 0.25 * len(rows))
    heights = [0.5 + len(part) for part in panels.values()]
    axes = figure.subplots(len(panels), sharex=True, height_ratios=heights)
    for ax, (title, part) in zip(axes, panels.items(), strict=True):
        draw_ratios(ax, part, list(map(_name_ratio, part)))
        ax.set_title(title, loc="left")
    axes[-1].set_xlabel("ratio")
    figure.suptitle(f"Times on {first['n_train']:,} photographs; no error: they teach no network")
    figure.legend(handles=make_ratio_legend(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _name_ratio(row: Row) -> str:
    network, _, _ = row["case"].partition(" on ")
    method = f", {row['label'].rpartition(', ')[2]}" if row["at_least"] else ""
    return row["case"] if row["part"] == "loader" else network + method


def _draw_errors(rows: Sequence[Row]) -> Figure:
    """Draw validation errors by epochs: a panel for each network and length."""
    groups = list(group_records(rows, "network", "epochs").values())
    figure, axes = make_grid(len(groups), 3)
    for ax, group in zip(axes, groups, strict=True):
        _draw_panel(ax, group)
    figure.suptitle("ImageNet: validation error by epochs")
    handles, _ = axes[0].get_legend_handles_labels()
    handles += [
        Line2D([], [], linestyle="", label=f"Table 1: {method}", **_get_diamond(method)) for method in COLORS
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_panel(ax: Axes, rows: Sequence[Row]) -> None:
    epochs = np.arange(1, rows[0]["epochs"] + 1)
    published = PUBLISHED.get((rows[0]["network"], rows[0]["epochs"]), {})
    for row in rows:
        method = row["method"]
        looks: dict[str, Any] = {"color": COLORS[method], "marker": MARKERS[method], "markersize": 3.5}
        looks |= {"linewidth": 1.5, "markevery": max(1, len(epochs) // 20)}
        for score, place in zip(SCORES, published.get(method, (None, None)), strict=True):
            label = f"{method}, {NAMES[score]}"
            ax.plot(epochs, row[f"{score}_curve"], label=label, linestyle=DASHES[score], **looks)
            if place is not None:
                ax.plot(epochs[-1], place, **_get_diamond(method))
    ax.set_ylim(0, 60 if published else 100)
    ax.set_title(f"{NETWORKS[rows[0]['network']].title}, {rows[0]['epochs']} epochs")
    ax.set(xlabel="epoch", ylabel="validation error, %")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    tidy(ax)


def _get_diamond(method: str) -> dict[str, Any]:
    # The one is drawn round the other where they meet.
    own = {"mfc": "none", "markersize": 6.5} if method == BASELINE else {"markersize": 4}
    return {"color": PAPER, "marker": "D", "clip_on": False, **own}
