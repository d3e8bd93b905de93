"""From records of training on images with corrupted labels to tables, comparisons and a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
import numpy as np

from benchmarks.cifar.summary import describe_scale
from benchmarks.corrupted_tables.methods import BASELINE, PUBLISHED
from benchmarks.corrupted_tables.summary import make_styles
from benchmarks.data.cifar_images import IMAGE_SET_TITLES
from benchmarks.harness.claims import Comparison
from benchmarks.harness.figures import add_legend, make_figure, tidy
from benchmarks.harness.intervals import compute_t_interval
from benchmarks.harness.paired_differences import (
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
)

__all__ = ["compare_errors", "compare_memorised", "draw_errors", "summarise", "tabulate"]

Row = Mapping[str, Any]
METRICS = ("best_error", "last_error", "train_error_true", "train_error_corrupted")
COMPARED = METRICS[:2]


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each share of noise and method.

    Means over seeds with the ends of Student's 95 % intervals (NaN for one seed), in per cent;
    ``<metric>_diff`` is the difference from ERM in points, paired by seed. Curves are means over the seeds.
    """
    groups = group_records(records, "dataset", "noise", "method")
    return [
        _summarise_method(group, groups[dataset, noise, BASELINE])
        for (dataset, noise, _), group in groups.items()
    ]


def _summarise_method(group: Sequence[Row], baseline: Sequence[Row]) -> dict[str, Any]:
    own, base = (sorted(part, key=lambda record: record["repeat"]) for part in (group, baseline))
    row = {name: own[0][name] for name in ("dataset", "noise", "method", "epochs")} | {"n_seeds": len(own)}
    for metric in METRICS:
        values, others = (np.array([record[metric] for record in part]) for part in (own, base))
        row |= flatten_interval(metric, compute_t_interval(values))
        row |= flatten_interval(f"{metric}_diff", compute_t_interval(values - others))
    row["best_epoch"] = float(np.median([record["best_epoch"] for record in own]))
    row["minutes"] = round(float(np.mean([record["seconds"] for record in own])) / 60, 2)
    row["curve"] = np.mean([record["error_curve"] for record in own], axis=0).round(3).tolist()
    return row


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables, one for each share of noise."""
    groups = group_records(document["summary"], "dataset", "noise")
    return {
        f"{IMAGE_SET_TITLES[dataset]}, {100 * noise:g} % of the labels replaced; errors in %": [
            _format_row(row) for row in rows
        ]
        for (dataset, noise), rows in groups.items()
    }


def _format_row(row: Row) -> dict[str, str]:
    is_baseline = row["method"] == BASELINE
    cells = {"method": row["method"], "n": str(row["n_seeds"])}
    for metric, title in zip(COMPARED, ("best", "last"), strict=True):
        cells[f"{title} test error"] = _format_mean(row, metric)
        gap = format_difference(read_interval(row, f"{metric}_diff"), 1)
        cells[f"{title}, against ERM"] = "" if is_baseline else gap
    cells["best at epoch"] = f"{row['best_epoch']:g}"
    cells["train, true labels"] = _format_mean(row, "train_error_true")
    cells["train, corrupted labels"] = _format_mean(row, "train_error_corrupted")
    best, last, true, corrupted = PUBLISHED.get((row["noise"], row["method"]), (None,) * 4)
    cells["Table 2: best / last"] = "" if best is None else f"{best} / {last}"
    cells["Table 2: train"] = "" if true is None else f"{true} / {corrupted}"
    return cells


def _format_mean(row: Row, metric: str) -> str:
    return format_mean(row, metric, 1) if row["n_seeds"] > 1 else f"{row[metric]:.1f}"


def compare_errors(document: Mapping[str, Any]) -> list[Comparison]:
    """Return mixup's differences from ERM in the last test error, where Table 2 has one."""
    return _compare(document, "last_error", 1)


def compare_memorised(document: Mapping[str, Any]) -> list[Comparison]:
    """Return mixup's differences from ERM in the training error on corrupted labels: fewer are memorised."""
    return [item._replace(paper=None) for item in _compare(document, "train_error_corrupted", 3)]


def _compare(document: Mapping[str, Any], metric: str, place: int) -> list[Comparison]:
    """Return the comparisons of the options of mixup that Table 2 shows; `place` is that of its figure."""
    rows = {(row["noise"], row["method"]): row for row in document["summary"]}
    found = []
    for (noise, method), row in rows.items():
        if method.startswith("mixup") and (noise, method) in PUBLISHED and f"{metric}_diff" in row:
            paper = PUBLISHED[noise, method][place] - PUBLISHED[noise, BASELINE][place]
            text = (
                f"{rows[noise, BASELINE][metric]:.1f} → {row[metric]:.1f} % with {100 * noise:g} % replaced"
            )
            found.append(Comparison(f"{100 * noise:g} %", text, read_interval(row, f"{metric}_diff"), paper))
    return found


def draw_errors(document: Mapping[str, Any]) -> Figure:
    """Draw, for each share of noise, test errors by epochs, and beside them what was memorised."""
    summary = document["summary"]
    groups = list(group_records(summary, "noise").values())
    styles = make_styles([row["method"] for row in groups[0]])
    figure = make_figure(0.9 + 2.8 * len(groups))
    axes = figure.subplots(len(groups), 2, squeeze=False, width_ratios=[3, 2])
    for (left, right), rows in zip(axes, groups, strict=True):
        _draw_curves(left, rows, styles)
        _draw_memorised(right, rows, styles)
    n_seeds = summary[0]["n_seeds"]
    where = IMAGE_SET_TITLES[summary[0]["dataset"]] + describe_scale(document["config"])
    wide = document["config"].get("dropout_width")
    of_dropout = f"; dropout: width {wide}" if wide is not None else ""
    figure.suptitle(f"{where}{of_dropout}; {n_seeds} seed{'s' * (n_seeds > 1)}")
    add_legend(figure, axes[0, 0], 5)
    return figure


def _draw_curves(ax: Axes, rows: Sequence[Row], styles: Mapping[str, dict[str, Any]]) -> None:
    for row in rows:
        epochs = np.arange(1, len(row["curve"]) + 1)
        looks = styles[row["method"]] | {"markersize": 4, "linewidth": 1.3}
        ax.plot(epochs, row["curve"], label=row["method"], markevery=max(1, len(epochs) // 12), **looks)
    ax.set(
        xlabel="epoch",
        ylabel="test error, %",
        title=f"Test error, {100 * rows[0]['noise']:g} % of labels replaced",
    )
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    tidy(ax)


def _draw_memorised(ax: Axes, rows: Sequence[Row], styles: Mapping[str, dict[str, Any]]) -> None:
    for row in rows:
        looks = {name: styles[row["method"]][name] for name in ("color", "marker")}
        ax.plot(100 - row["train_error_corrupted"], row["last_error"], linestyle="none", **looks)
    ax.set(
        xlabel="corrupted training labels fitted, %", ylabel="last test error, %", title="What was memorised"
    )
    ax.set_xlim(left=0)
    tidy(ax)
