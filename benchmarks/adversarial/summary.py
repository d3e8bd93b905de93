"""From records of attacks to tables, a plot and a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
import numpy as np

from benchmarks.cifar.summary import COLORS, MARKERS, name_method
from benchmarks.harness.figures import add_legend, make_figure, render_png, tidy
from benchmarks.harness.intervals import compute_t_interval
from benchmarks.harness.paired_differences import (
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    judge_difference,
    read_interval,
)
from benchmarks.image_training.kept_networks import name_problem

__all__ = ["PUBLISHED", "describe_finding", "draw_errors", "summarise", "tabulate"]

Row = Mapping[str, Any]
BASELINE = "ERM"
BOXES = ("white", "black")
SCORE_TITLES = {"top1_error": "top-1", "top5_error": "top-5"}
SCORES = tuple(SCORE_TITLES)
TITLES = {"none": "none", "fgsm": "FGSM", "i-fgsm": "I-FGSM", "pgd": "PGD", "autoattack": "AutoAttack"}
PAPER_EPS = 4.0
# Table 3: ResNet-101 on ImageNet at ε = 4, errors in per cent of ERM and of mixup, top-1 and top-5.
PUBLISHED = {
    ("white", "fgsm"): ((90.7, 75.2), (63.1, 49.1)),
    ("white", "i-fgsm"): ((99.9, 99.6), (93.4, 95.8)),
    ("black", "fgsm"): ((57.0, 46.0), (24.8, 17.4)),
    ("black", "i-fgsm"): ((57.3, 40.9), (18.1, 11.8)),
}
CLAIM = (
    "{where}, {box} box, {attack} at ε = {eps:g}; {method}: {score} error {error:.1f} %, {gap:+.1f} points "
    "from ERM; {verdict} (n = {n})."
)


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
    """Return how mixup's errors stand to ERM's under each attack, at the paper's strength or the greatest."""
    strengths = {row["eps"] for row in summary}
    strength = PAPER_EPS if PAPER_EPS in strengths else max(strengths)
    return "\n".join(
        CLAIM.format(
            where=name_problem(row["dataset"], row["network"]),
            box=row["box"],
            attack=TITLES[row["attack"]],
            eps=strength,
            score=title,
            method=name_method(row["method"], row["weight_decay"]),
            error=row[score],
            gap=row[f"{score}_diff"],
            verdict=judge_difference(row, f"{score}_diff"),
            n=row["n_seeds"],
        )
        for score, title in SCORE_TITLES.items()
        for row in summary
        if row["method"] != BASELINE and row["eps"] == strength and row["attack"] != "none"
    )


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
            _draw_panel(ax, part if attacked else [], f"{TITLES[attack]}, {box} box")
            if not attacked:
                ax.text(0.5, 0.5, "white box only", ha="center", transform=ax.transAxes)
        line[0].set_ylabel("top-1 error, %")
    for ax in axes[-1]:
        ax.set_xlabel("ε, largest change of a pixel of 0 to 255")
    where = name_problem(first["dataset"], first["network"])
    figure.suptitle(f"{where}: error on adversarial examples, {first['n_seeds']} seeds", fontweight="bold")
    add_legend(figure, axes[0, 0])
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
