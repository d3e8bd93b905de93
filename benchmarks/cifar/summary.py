"""From records of trainings on CIFAR to tables, a plot and a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
import numpy as np

from benchmarks.data.cifar_images import IMAGE_SET_TITLES
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
from benchmarks.networks.cifar_networks import NETWORKS

__all__ = [
    "COLORS",
    "MARKERS",
    "PUBLISHED",
    "PUBLISHED_FAIR",
    "describe_finding",
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
WORDS = {-1: "clearly lower than", 0: "not clearly different from", 1: "clearly higher than"}
THROUGHPUT, OVERHEAD = "training throughput ÷ loop by hand", "mixup ÷ ERM, time of an epoch"
THROUGHPUT_TARGET, OVERHEAD_TARGET = 0.97, 1.02
SCORES = ("error", "best_error")
MEANS = {"last_error": 4, "train_loss": 4, "images_per_second": 1}
COLORS = {"ERM": ("#D55E00", "#E69F00", "#A65628"), "mixup": ("#0072B2", "#56B4E9", "#009E73")}
DASHES, MARKERS = ("-", "--", "-."), {"ERM": "o", "mixup": "s"}
# Axes end at this multiple of the lowest error of the worst line, so that the last epochs can be read.
HEADROOM = 2.5


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each set, network, method and weight decay, then one for each ratio of times.

    Means over seeds with the ends of Student's 95 % intervals, in per cent; ``diff`` is that from ERM with
    its lowest weight decay, the paper's, and ``fair_diff`` that from ERM with its highest, in points and
    paired by seed. Curves are means, lowest and highest over the seeds. Of ratios, the median and the
    quartiles. What a row does not have is None.
    """
    trained = [record for record in records if record["part"] == "run"]
    groups = group_records(trained, "dataset", "network", "method", "weight_decay")
    rows = [_summarise_runs(group, _find_baselines(groups, key)) for key, group in groups.items()]
    rows += _summarise_times([record for record in records if record["part"] == "speed"])
    columns = dict.fromkeys(name for row in rows for name in row)
    return [dict.fromkeys(columns) | row for row in rows]


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
    for name, digits in MEANS.items():
        row[name] = round(float(np.mean([record[name] for record in own])), digits)
    row["minutes"] = round(float(np.mean([record["seconds"] for record in own])) / 60, 2)
    curves = np.array([record["error_curve"] for record in own])
    for name, reduce in (("curve", np.mean), ("curve_low", np.min), ("curve_high", np.max)):
        row[name] = np.round(reduce(curves, axis=0), 3).tolist()
    return row


def _summarise_times(records: Sequence[Row]) -> list[dict[str, Any]]:
    lines = []
    for case in dict.fromkeys(record["case"] for record in records):
        for method in ("ERM", "mixup"):
            label = f"{THROUGHPUT}, {method}"
            # Throughput is images over time: ours over theirs is their time over ours.
            ours, theirs = f"loop, {method}", f"estimator, {method}"
            lines.append(Line(label, "speed", case, ours, theirs, THROUGHPUT_TARGET, at_least=True))
        lines.append(Line(OVERHEAD, "speed", case, "estimator, mixup", "estimator, ERM", OVERHEAD_TARGET))
    return summarise_lines(records, lines)


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: errors, then each method's best epochs and times, then ratios of times."""
    rows, times = ([row for row in document["summary"] if row["part"] == part] for part in ("run", "speed"))
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
        "million parameters": f"{row['n_parameters'] / 1e6:.2f}",
        "minutes a run": f"{row['minutes']:.1f}",
        "images/s": f"{row['images_per_second']:,.0f}",
    }


def describe_finding(summary: Sequence[Row]) -> str:
    """Return one sentence: how mixup's test error stands to that of ERM in each case."""
    rows = [row for row in summary if row["part"] == "run"]
    problems = group_records(rows, "dataset", "network").values()
    parts = [part for group in problems for part in _describe_problem(group)]
    return f"After {rows[0]['epochs']} epochs the test error of mixup is {'; '.join(parts)}."


def _describe_problem(rows: Sequence[Row]) -> list[str]:
    erm = sorted((row for row in rows if row["method"] == BASELINE), key=lambda row: row["weight_decay"])
    where = "{data}, {network}".format(**_format_head(rows[0]))
    compared = {"diff": erm[0], "fair_diff": erm[-1]} if len(erm) > 1 else {"diff": erm[0]}
    mixed = [row for row in rows if row["method"] != BASELINE]
    is_named = len(mixed) > 1
    parts = []
    for row in mixed:
        clauses = [
            f"{WORDS[read_interval(row, name).find_sign()]} that of {_name_erm(other)} "
            f"({row['error']:.2f} against {other['error']:.2f} %)"
            for name, other in compared.items()
        ]
        decay = f", weight decay {_format_decay(row['weight_decay'])}" if is_named else ""
        parts.append(f"{' and '.join(clauses)} on {where}{decay} ({row['n_seeds']} seeds)")
    return parts


def _name_erm(row: Row) -> str:
    return f"{BASELINE} with weight decay {_format_decay(row['weight_decay'])}"


def draw_errors(summary: Sequence[Row]) -> bytes:
    """Draw test errors by epochs as in Figure 3(b): a panel for each data set and network."""
    rows = [row for row in summary if row["part"] == "run"]
    groups = list(group_records(rows, "dataset", "network").values())
    n_columns = min(3, len(groups))
    n_lines = -(-len(groups) // n_columns)
    figure = make_figure(0.9 + 3.4 * n_lines if len(groups) > 1 else 4.6)
    axes = figure.subplots(n_lines, n_columns, squeeze=False).ravel()
    for ax, group in zip(axes, groups, strict=False):
        _draw_panel(ax, group)
    for ax in axes[len(groups) :]:
        ax.set_visible(False)
    n_seeds = rows[0]["n_seeds"]
    figure.suptitle(f"Test error by epochs, mean and range of {n_seeds} seeds")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return render_png(figure)


def _draw_panel(ax: Axes, rows: Sequence[Row]) -> None:
    epochs = np.arange(1, rows[0]["epochs"] + 1)
    counts = dict.fromkeys(COLORS, 0)
    for row in rows:
        number = counts[row["method"]]
        counts[row["method"]] += 1
        looks: dict[str, Any] = {"color": COLORS[row["method"]][number % 3], "linestyle": DASHES[number % 3]}
        looks |= {"marker": MARKERS[row["method"]], "markersize": 3.5, "linewidth": 1.5}
        label = name_method(row["method"], row["weight_decay"])
        ax.plot(epochs, row["curve"], label=label, markevery=_space_markers(epochs), **looks)
        ax.fill_between(
            epochs, row["curve_low"], row["curve_high"], color=looks["color"], alpha=0.18, linewidth=0
        )
    worst = max(min(row["curve"]) for row in rows)
    ax.set_ylim(0, min(100.0, HEADROOM * worst) or 1.0)
    ax.set(title="{data}, {network}".format(**_format_head(rows[0])), xlabel="epoch", ylabel="test error, %")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    tidy(ax)


def _space_markers(epochs: np.ndarray) -> int:
    """Return so many epochs from one marker to the next that there are twenty at most."""
    return max(1, len(epochs) // 20)
