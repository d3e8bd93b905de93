"""From records of attacks to tables, comparisons with the paper and a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

from benchmarks.cifar.summary import name_method
from benchmarks.harness.claims import Comparison
from benchmarks.harness.figures import ERM, MIXUP, PAPER, make_figure, tidy
from benchmarks.harness.intervals import compute_t_interval
from benchmarks.harness.paired_differences import (
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
)
from benchmarks.image_training.kept_networks import name_problem

__all__ = ["PUBLISHED", "compare_attacks", "draw_errors", "summarise", "tabulate"]

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
COLORS, MARKERS = {BASELINE: ERM, "mixup": MIXUP}, {BASELINE: "o^<", "mixup": "sv>"}
DASHES: dict[str, Any] = {"top1_error": "-", "top5_error": "--"}


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


def compare_attacks(document: Row, box: str) -> list[Comparison]:
    """Return the differences in top-1 error under the paper's attacks at its strength, in one box."""
    found = []
    for place in group_records(document["summary"], "dataset", "network").values():
        for (attack,), rows in group_records(place, "attack").items():
            known = [row for row in rows if (row["box"], row["eps"]) == (box, PAPER_EPS)]
            erm = [row for row in known if row["method"] == BASELINE]
            if erm and (box, attack) in PUBLISHED:
                others = [row for row in known if row["method"] != BASELINE]
                found += [_compare(row, min(erm, key=lambda row: row["weight_decay"])) for row in others]
    return found


def _compare(row: Row, erm: Row) -> Comparison:
    (paper_erm, paper_mixup), _ = PUBLISHED[row["box"], row["attack"]]
    title = TITLES[row["attack"]]
    return Comparison(
        f"{title}, {row['box']} box",
        f"{title} {erm['top1_error']:.1f} → {row['top1_error']:.1f} %",
        read_interval(row, "top1_error_diff"),
        paper=paper_mixup - paper_erm,
    )


def draw_errors(document: Row) -> Figure:
    """Draw the errors against the strength: a column for each attack, white box above black box."""
    first = document["summary"][0]
    problem = [first[name] for name in ("dataset", "network")]
    rows = [row for row in document["summary"] if [row["dataset"], row["network"]] == problem]
    attacks = [name for name in TITLES if name != "none" and any(row["attack"] == name for row in rows)]
    boxes = list(dict.fromkeys(row["box"] for row in rows))
    figure = make_figure(1.2 + 2.1 * len(boxes))
    axes = figure.subplots(len(boxes), len(attacks), squeeze=False, sharex=True, sharey=True)
    for column, attack in zip(axes.T, attacks, strict=True):
        attacked = [row for row in rows if row["attack"] == attack]
        for ax, box in zip(column, boxes, strict=True):
            ax.set_visible(any(row["box"] == box for row in attacked))
            _draw_panel(ax, [row for row in rows if row["attack"] == "none"], attacked, box)
            ax.set_title(f"{TITLES[attack]}, {box} box")
        lowest = [ax for ax in column if ax.get_visible()][-1]
        lowest.set_xlabel("ε, of pixels 0 to 255")
        lowest.tick_params(labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel("error, %")
    axes[0, 0].set_xticks(sorted({row["eps"] for row in rows}))  # of all panels
    axes[0, 0].xaxis.set_major_formatter("{x:g}")
    figure.suptitle(_describe(document, problem, first["n_seeds"]))
    figure.legend(handles=_make_legend(rows), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _describe(document: Row, problem: Sequence[str], n_seeds: int) -> str:
    """Return whose errors are drawn; results of earlier versions do not tell the width."""
    known = document.get("draw_from", {}).get("/".join(problem), name_problem(*problem))
    counts = [part["n_train"] for part in document["data"] if part["dataset"] == problem[0]]
    return (
        f"{known}, trained on {counts[0]:,} images: error on adversarial examples\n"
        f"mean of {n_seeds} seeds, with 95 % intervals"
    )


def _draw_panel(ax: Axes, clean: Sequence[Row], attacked: Sequence[Row], box: str) -> None:
    rows = [*clean, *(row for row in attacked if row["box"] == box)]
    for (method, weight_decay), group in group_records(rows, "method", "weight_decay").items():
        points = sorted(group, key=lambda row: row["eps"])
        eps = [row["eps"] for row in points]
        looks = _get_looks(attacked, method, weight_decay)
        for score, dashes in DASHES.items():
            ends = ([row[f"{score}{end}"] for row in points] for end in ("_low", "_high"))
            low, high = (np.clip(end, 0, 100) for end in ends)
            ax.plot(eps, [row[score] for row in points], linestyle=dashes, **looks)
            ax.fill_between(eps, low, high, color=looks["color"], alpha=0.15, linewidth=0)
    for method, value in zip(COLORS, PUBLISHED.get((box, attacked[0]["attack"]), [[]])[0], strict=False):
        ax.plot(PAPER_EPS, value, **_get_diamond(method))
    ax.set_ylim(0, 103)
    tidy(ax)


def _get_looks(rows: Sequence[Row], method: str, weight_decay: float) -> dict[str, Any]:
    """Return a line's looks: the colour tells the method, the marker its weight decays apart."""
    place = _list_decays(rows, method).index(weight_decay) % len(MARKERS[method])
    return {"color": COLORS[method], "marker": MARKERS[method][place], "markersize": 4, "linewidth": 1.5}


def _list_decays(rows: Sequence[Row], method: str) -> list[float]:
    return sorted({row["weight_decay"] for row in rows if row["method"] == method})


def _get_diamond(method: str) -> dict[str, Any]:
    # The one is drawn round the other where they meet.
    own = {"mfc": "none", "markersize": 6.5} if method == BASELINE else {"markersize": 4}
    return {"color": PAPER, "marker": "D", "clip_on": False, **own}


def _make_legend(rows: Sequence[Row]) -> list[Line2D]:
    lines = [
        Line2D(
            [],
            [],
            label=name_method(method, weight_decay) if len(decays) > 1 else method,
            **_get_looks(rows, method, weight_decay),
        )
        for method in COLORS
        for decays in [_list_decays(rows, method)]
        for weight_decay in decays
    ]
    lines += [
        Line2D([], [], color="black", linestyle=dashes, label=f"{SCORE_TITLES[score]} error")
        for score, dashes in DASHES.items()
    ]
    named = "top-1 in Table 3 (ResNet-101, ImageNet): {}"
    diamonds = {method: _get_diamond(method) for method in COLORS}
    return lines + [
        Line2D([], [], linestyle="", label=named.format(method), **looks)
        for method, looks in diamonds.items()
    ]
