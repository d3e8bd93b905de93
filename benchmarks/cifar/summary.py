"""From records of trainings on CIFAR to tables, comparisons with the paper and a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from benchmarks.data.cifar_images import IMAGE_SET_TITLES
from benchmarks.harness.claims import Comparison
from benchmarks.harness.figures import ERM, MIXUP, add_legend, make_grid
from benchmarks.harness.intervals import Interval, compute_t_interval
from benchmarks.harness.paired_differences import (
    fill_columns,
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
)
from benchmarks.harness.time_ratios import format_timed_ratios, summarise_lines
from benchmarks.image_training.summaries import (
    OVERHEAD,
    average_columns,
    average_curves,
    draw_error_bands,
    list_training_lines,
)
from benchmarks.networks.cifar_networks import NETWORKS

__all__ = [
    "COLORS",
    "MARKERS",
    "PUBLISHED",
    "PUBLISHED_FAIR",
    "compare_errors",
    "compare_times",
    "describe_scale",
    "draw_errors",
    "name_method",
    "summarise",
    "tabulate",
]

Row = Mapping[str, Any]

# Figure 3(a): ERM and mixup, in per cent, with weight decay 1e-4.
PUBLISHED = {
    ("cifar10", "preact_resnet18"): (5.6, 4.2),
    ("cifar10", "wide_resnet28_10"): (3.8, 2.7),
    ("cifar10", "densenet_bc190"): (3.7, 2.7),
    ("cifar100", "preact_resnet18"): (25.6, 21.1),
    ("cifar100", "wide_resnet28_10"): (19.4, 17.5),
    ("cifar100", "densenet_bc190"): (19.0, 16.8),
}
# ERM with weight decay 5e-4, from the authors' repository.
PUBLISHED_FAIR = {("cifar10", "preact_resnet18", 5e-4): 5.18}
BASELINE = "ERM"
SCORES = ("error", "best_error")
MEANS = {"last_error": 4, "train_error": 4, "train_loss": 4, "images_per_second": 1}
COLORS = {"ERM": (ERM, "#a9a9a9", "#2f2f2f"), "mixup": (MIXUP, "#56B4E9", "#003f66")}
# An epoch with mixup may take so many per cent longer to count as one that costs next to nothing more.
ALLOWED = 5
PAPER_WIDTH, PAPER_IMAGES = 64, 50_000
DASHES, MARKERS = ("-", "--", "-."), {"ERM": "o", "mixup": "s"}


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each set, network, method and weight decay, then one for each ratio of times.

    Means over seeds with the ends of Student's 95 % intervals, in per cent; ``diff`` is that from ERM with
    its lowest weight decay, the paper's, and ``fair_diff`` that from ERM with its highest, in points and
    paired by seed. Curves are means, lowest and highest over the seeds. Of ratios, the median and the
    quartiles. What a row does not have is None.
    """
    trained = _select(records, "run")
    groups = group_records(trained, "dataset", "network", "method", "weight_decay")
    rows = [_summarise_runs(group, _find_baselines(groups, key)) for key, group in groups.items()]
    rows += _summarise_times(_select(records, "speed"))
    return fill_columns(rows)


def _find_baselines(
    groups: Mapping[tuple[Any, ...], list[Row]], key: tuple[Any, ...]
) -> dict[str, list[Row]]:
    """Return the runs of ERM that others are compared with, by the name of the difference."""
    decays = sorted(other[3] for other in groups if other[:2] == key[:2] and other[2] == BASELINE)
    found = {"diff": decays[0]} | ({"fair_diff": decays[-1]} if len(decays) > 1 else {})
    return {name: groups[(*key[:2], BASELINE, decay)] for name, decay in found.items()}


def _summarise_runs(group: Sequence[Row], baselines: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    own = sorted(group, key=lambda record: record["repeat"])
    first = own[0]
    row = {name: first[name] for name in ("part", "dataset", "network", "method", "weight_decay", "epochs")}
    row |= {"n_parameters": first["n_parameters"], "n_seeds": len(own)}
    for score in SCORES:
        row |= flatten_interval(score, compute_t_interval([record[score] for record in own]))
    for name, baseline in baselines.items():
        base = sorted(baseline, key=lambda record: record["repeat"])
        gaps = [record["error"] - other["error"] for record, other in zip(own, base, strict=True)]
        row |= flatten_interval(name, compute_t_interval(gaps))
    row["best_epoch"] = float(np.median([record["best_epoch"] for record in own]))
    row |= average_columns(own, MEANS)
    row["minutes"] = round(float(np.mean([record["seconds"] for record in own])) / 60, 2)
    return row | average_curves(own, "error_curve")


def _summarise_times(records: Sequence[Row]) -> list[dict[str, Any]]:
    cases = dict.fromkeys(record["case"] for record in records)
    return summarise_lines(records, [line for case in cases for line in list_training_lines(case)])


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: errors, then each method's best epochs and times, then ratios of times."""
    rows, times = (_select(document["summary"], part) for part in ("run", "speed"))
    methods = list(dict.fromkeys((row["method"], row["weight_decay"]) for row in rows))
    last = document["config"]["last_epochs"]
    heading = f"Test error, %: median of the last {last} of {rows[0]['epochs']} epochs; differences in points"
    tables = {
        heading: [
            _format_problem(group, methods) for group in group_records(rows, "dataset", "network").values()
        ],
        "Best epochs, chosen on the test images, and times": list(map(_format_method, rows)),
        "Ratios of times": format_timed_ratios(times, "µs an image"),
    }
    return {title: part for title, part in tables.items() if part}


def _format_problem(rows: Sequence[Row], methods: Sequence[tuple[str, float]]) -> dict[str, str]:
    """Return the table's row of one data set and network."""
    first = rows[0]
    by_method = {(row["method"], row["weight_decay"]): row for row in rows}
    cells = _format_head(first) | {"n": str(first["n_seeds"]), "paper: ERM → mixup": _format_published(first)}
    fair = PUBLISHED_FAIR.get((first["dataset"], first["network"], 5e-4))
    cells["authors: ERM, 5e-4"] = "" if fair is None else f"{fair:.2f}"
    for method in methods:
        cells[name_method(*method)] = format_mean(by_method[method], "error", 2)
    mixed = [row for row in rows if row["method"] != BASELINE]
    decays = sorted(row["weight_decay"] for row in rows if row["method"] == BASELINE)
    for row in mixed:
        name = name_method(row["method"], row["weight_decay"])
        cells[f"{name} - {name_method(BASELINE, decays[0])}"] = _format_gap(row, "diff")
        if len(decays) > 1:
            cells[f"{name} - {name_method(BASELINE, decays[-1])}"] = _format_gap(row, "fair_diff")
    return cells


def _format_head(row: Row) -> dict[str, str]:
    return {"data": IMAGE_SET_TITLES[row["dataset"]], "network": NETWORKS[row["network"]].title}


def _format_published(row: Row) -> str:
    published = PUBLISHED.get((row["dataset"], row["network"]))
    return "" if published is None else "{} → {}".format(*published)


def _format_gap(row: Row, name: str) -> str:
    return format_difference(read_interval(row, name), 2)


def name_method(method: str, weight_decay: float) -> str:
    """Return a method's name with its weight decay.

    Examples
    --------
    >>> from benchmarks.cifar.summary import name_method
    >>> name_method("mixup", 0.0001)
    'mixup, 1e-4'
    """
    return f"{method}, {_format_decay(weight_decay)}"


def _format_decay(weight_decay: float) -> str:
    mantissa, _, exponent = f"{weight_decay:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}" if weight_decay else "0"


def _format_method(row: Row) -> dict[str, str]:
    return {
        **_format_head(row),
        "method, weight decay": name_method(row["method"], row["weight_decay"]),
        "best test error, %": format_mean(row, "best_error", 2),
        "at epoch (median)": f"{row['best_epoch']:g}",
        "last training loss": f"{row['train_loss']:.3f}",
        "training error, %": _format_training(row.get("train_error")),
        "million parameters": f"{row['n_parameters'] / 1e6:.2f}",
        "minutes a run": f"{row['minutes']:.1f}",
        "images/s": f"{row['images_per_second']:,.0f}",
    }


def _format_training(error: float | None) -> str:
    # Results of earlier versions have none.
    return "" if error is None else f"{error:.2f}"


def compare_errors(document: Mapping[str, Any]) -> list[Comparison]:
    """Return mixup's differences from ERM with the paper's weight decay, beside Figure 3(a)."""
    rows = _select(document["summary"], "run")
    found = []
    for group in group_records(rows, "dataset", "network").values():
        published = PUBLISHED.get((group[0]["dataset"], group[0]["network"]))
        erm = min((row for row in group if row["method"] == BASELINE), key=lambda row: row["weight_decay"])
        mixed = min((row for row in group if row["method"] != BASELINE), key=lambda row: row["weight_decay"])
        label, text = (
            "{data}, {network}".format(**_format_head(erm)),
            f"{erm['error']:.1f} → {mixed['error']:.1f} %",
        )
        gap = None if published is None else published[1] - published[0]
        found.append(Comparison(label, text, read_interval(mixed, "diff"), paper=gap))
    return found


def compare_times(document: Mapping[str, Any]) -> list[Comparison]:
    """Return by how much an epoch with mixup takes longer than one without, in per cent, less 5 per cent."""
    return [
        Comparison(
            row["case"],
            "{:+.1f} % of an epoch (quartiles {:+.1f}, {:+.1f})".format(
                *(100 * (row[name] - 1) for name in ("ratio", "low", "high"))
            ),
            Interval(*(100 * (row[name] - 1) - ALLOWED for name in ("ratio", "low", "high"))),
        )
        for row in _select(document["summary"], "speed")
        if row["label"] == OVERHEAD and row["ratio"] is not None
    ]


def _select(rows: Sequence[Row], part: str) -> list[Row]:
    return [row for row in rows if row["part"] == part]


def draw_errors(document: Mapping[str, Any]) -> Figure:
    """Draw test errors by epochs as in Figure 3(b): a panel for each data set and network."""
    rows, config = _select(document["summary"], "run"), document["config"]
    groups = list(group_records(rows, "dataset", "network").values())
    figure, axes = make_grid(len(groups), 3)
    for ax, group in zip(axes, groups, strict=True):
        labels = [name_method(row["method"], row["weight_decay"]) for row in group]
        draw_error_bands(ax, group, labels, _list_styles(group))
        ax.set_title("{data}, {network}".format(**_format_head(group[0])) + describe_scale(config))
    figure.suptitle(f"Test error by epochs, mean and range of {rows[0]['n_seeds']} seeds")
    add_legend(figure, axes[0])
    return figure


def describe_scale(config: Mapping[str, Any]) -> str:
    """Return what of a configuration is smaller than in the paper, to stand in a picture."""
    if config["width"] == PAPER_WIDTH and config["train_rows"] is None:
        return ""
    n_images = PAPER_IMAGES if config["train_rows"] is None else config["train_rows"]
    return f", width {config['width']}, {n_images:,} images (paper: {PAPER_WIDTH} and {PAPER_IMAGES:,})"


def _list_styles(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the looks of each row: a colour for each method, a shade and dashes for each weight decay."""
    counts = dict.fromkeys(COLORS, -1)
    styles = []
    for row in rows:
        method = row["method"]
        counts[method] = (counts[method] + 1) % len(DASHES)
        color, dashes = COLORS[method][counts[method]], DASHES[counts[method]]
        styles.append({"color": color, "linestyle": dashes, "marker": MARKERS[method]})
    return styles
