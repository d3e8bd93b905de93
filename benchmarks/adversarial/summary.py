"""From records of attacks to tables, a plot and a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
import numpy as np

from benchmarks.cifar.summary import COLORS, MARKERS, name_method
from benchmarks.harness.figures import make_figure, render_png, tidy
from benchmarks.harness.intervals import compute_t_interval
from benchmarks.harness.paired_differences import (
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
)
from benchmarks.image_training.kept_networks import name_problem

__all__ = ["PUBLISHED", "describe_finding", "draw_errors", "summarise", "tabulate"]

Row = Mapping[str, Any]
BASELINE = "ERM"
BOXES = ("white", "black")
SCORE_TITLES = {"top1_error": "Top-1", "top5_error": "Top-5"}
SCORES = tuple(SCORE_TITLES)
TITLES = {"none": "none", "fgsm": "FGSM", "i-fgsm": "I-FGSM", "pgd": "PGD"}
PAPER_EPS = 4.0
# Table 3: ResNet-101 on ImageNet at ε = 4, errors in per cent of ERM and of mixup, top-1 and top-5.
PUBLISHED = {
    ("white", "fgsm"): ((90.7, 75.2), (63.1, 49.1)),
    ("white", "i-fgsm"): ((99.9, 99.6), (93.4, 95.8)),
    ("black", "fgsm"): ((57.0, 46.0), (24.8, 17.4)),
    ("black", "i-fgsm"): ((57.3, 40.9), (18.1, 11.8)),
}
WORDS = {-1: "clearly lower", 0: "not clearly different", 1: "clearly higher"}


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each set, network, method, box, attack and strength.

    Means over seeds with the ends of Student's 95 % intervals, in per cent; ``<score>_diff`` is the
    difference from ERM with its lowest weight decay, in points and paired by seed.
    """
    ordered = sorted(records, key=lambda record: BOXES.index(record["box"]))
    groups = group_records(ordered, "dataset", "network", "box", "attack", "eps", "method", "weight_decay")
    return [_summarise_group(group, _find_baseline(groups, key)) for key, group in groups.items()]


def _find_baseline(groups: Mapping[tuple[Any, ...], list[Row]], key: tuple[Any, ...]) -> list[Row]:
    """Return the records of ERM with its lowest weight decay; none if there is no ERM."""
    erm = [other for other in groups if other[:5] == key[:5] and other[5] == BASELINE]
    return groups[min(erm, key=lambda other: other[6])] if erm else []


def _summarise_group(group: Sequence[Row], baseline: Sequence[Row]) -> dict[str, Any]:
    own = sorted(group, key=lambda record: record["repeat"])
    base = {record["repeat"]: record for record in baseline}
    names = ("dataset", "network", "box", "attack", "eps", "method", "weight_decay", "epochs")
    row = {name: own[0][name] for name in names} | {"n_seeds": len(own)}
    for score in SCORES:
        row |= flatten_interval(score, compute_t_interval([record[score] for record in own]))
        gaps = [record[score] - base[record["repeat"]][score] for record in own if record["repeat"] in base]
        row |= flatten_interval(f"{score}_diff", compute_t_interval(gaps or [np.nan]))
    return row


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: for each set and network one at Table 3's strength, one at the others."""
    tables = {}
    for (dataset, network), rows in group_records(document["summary"], "dataset", "network").items():
        where = name_problem(dataset, network)
        at_paper = [row for row in rows if row["eps"] in (0.0, PAPER_EPS)]
        others = [row for row in rows if row["eps"] not in (0.0, PAPER_EPS)]
        tables[f"{where}: error at ε = {PAPER_EPS:g}, %; differences in points"] = _format_rows(at_paper)
        tables[f"{where}: the same at other strengths"] = _format_rows(others, with_paper=False)
    return {title: part for title, part in tables.items() if part}


def _format_rows(rows: Sequence[Row], *, with_paper: bool = True) -> list[dict[str, str]]:
    groups = group_records(rows, "box", "attack", "eps")
    return [_format_line(group, with_paper) for group in groups.values()]


def _format_line(rows: Sequence[Row], with_paper: bool) -> dict[str, str]:
    """Return the table's row of one attack: every method's errors, and how they differ from ERM's."""
    first = rows[0]
    cells = {"box": first["box"], "attack": TITLES[first["attack"]], "ε": f"{first['eps']:g}"}
    cells["n"] = str(first["n_seeds"])
    for score, title in zip(SCORES, ("top-1", "top-5"), strict=True):
        for row in rows:
            name = name_method(row["method"], row["weight_decay"])
            cells[f"{title}: {name}"] = format_mean(row, score, 1)
            if row["method"] != BASELINE:
                cells[f"{title}: {name} - ERM"] = format_difference(read_interval(row, f"{score}_diff"), 1)
    if with_paper:
        pair = PUBLISHED.get((first["box"], first["attack"]))
        for place, title in enumerate(("top-1", "top-5")):
            cells[f"Table 3, {title}"] = "" if pair is None else "{} → {}".format(*pair[place])
    return cells


def describe_finding(summary: Sequence[Row]) -> str:
    """Return how mixup's errors stand to ERM's under each attack."""
    strengths = {row["eps"] for row in summary}
    strength = PAPER_EPS if PAPER_EPS in strengths else max(strengths)
    mixed = [
        row
        for row in summary
        if row["method"] != BASELINE and row["eps"] == strength and row["attack"] != "none"
    ]
    if not mixed:
        return "There is no network of mixup to compare."
    sentences = [_describe_score(mixed, summary, score) for score in SCORES]
    n_seeds = mixed[0]["n_seeds"]
    return (
        f"At ε = {strength:g}, {n_seeds} seeds, mixup against ERM with its lowest weight decay. "
        + " ".join(sentences)
    )


def _describe_score(mixed: Sequence[Row], summary: Sequence[Row], score: str) -> str:
    """Return a sentence on the top-1 or the top-5 error."""
    groups = group_records(mixed, "dataset", "network", "box")
    parts = [
        f"on {name_problem(dataset, network)}, {box} box, "
        + ", ".join(_describe_attack(row, summary, score) for row in rows)
        for (dataset, network, box), rows in groups.items()
    ]
    return f"{SCORE_TITLES[score]} error: {'; '.join(parts)}."


def _describe_attack(row: Row, summary: Sequence[Row], score: str) -> str:
    same = ("dataset", "network", "box", "attack", "eps")
    erm = [
        other
        for other in summary
        if other["method"] == BASELINE and all(other[name] == row[name] for name in same)
    ]
    sign = WORDS[read_interval(row, f"{score}_diff").find_sign()]
    base = f"{min(erm, key=lambda other: other['weight_decay'])[score]:.1f}" if erm else "none"
    return f"{TITLES[row['attack']]} {sign} ({row[score]:.1f} against {base} %)"


def draw_errors(summary: Sequence[Row]) -> bytes:
    """Draw the error against the strength: a column for each attack, white box above black box."""
    first = summary[0]
    rows = [row for row in summary if all(row[name] == first[name] for name in ("dataset", "network"))]
    attacks = [name for name in dict.fromkeys(row["attack"] for row in rows) if name != "none"]
    boxes = list(dict.fromkeys(row["box"] for row in rows))
    figure = make_figure(0.8 + 3.2 * len(boxes))
    axes = figure.subplots(len(boxes), len(attacks), squeeze=False, sharex=True, sharey=True)
    for line, box in zip(axes, boxes, strict=True):
        for ax, attack in zip(line, attacks, strict=True):
            attacked = [row for row in rows if row["box"] == box and row["attack"] == attack]
            part = [row for row in rows if row["attack"] == "none"] + attacked
            _draw_panel(ax, part, f"{TITLES[attack]}, {box} box")
        line[0].set_ylabel("top-1 error, %")
    for ax in axes[-1]:
        ax.set_xlabel("ε, largest change of a pixel of 0 to 255")
    where = name_problem(first["dataset"], first["network"])
    figure.suptitle(f"{where}: error on adversarial examples, {first['n_seeds']} seeds", fontweight="bold")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return render_png(figure)


def _draw_panel(ax: Axes, rows: Sequence[Row], title: str) -> None:
    counts = dict.fromkeys(COLORS, 0)
    for (method, weight_decay), group in group_records(rows, "method", "weight_decay").items():
        points = sorted(group, key=lambda row: row["eps"])
        color = COLORS[method][counts[method] % 3]
        counts[method] += 1
        eps, values, low, high = (
            np.array([row[name] for row in points])
            for name in ("eps", "top1_error", "top1_error_low", "top1_error_high")
        )
        looks: dict[str, Any] = {"color": color, "marker": MARKERS[method], "markersize": 4, "linewidth": 1.5}
        ax.plot(eps, values, label=name_method(method, weight_decay), **looks)
        ax.fill_between(
            eps, np.clip(low, 0, 100), np.clip(high, 0, 100), color=color, alpha=0.18, linewidth=0
        )
    ax.set(title=title, ylim=(0, 100))
    tidy(ax)
