"""From records of the GANs to tables, a comparison with the paper and a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

from benchmarks.gan.densities import DENSITIES
from benchmarks.harness.claims import Comparison
from benchmarks.harness.figures import BASELINES, ERM, MIXUP, make_figure
from benchmarks.harness.intervals import compute_t_interval
from benchmarks.harness.paired_differences import (
    fill_columns,
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    read_interval,
)
from benchmarks.harness.time_ratios import Line, format_ratios, summarise_lines

__all__ = ["PROTOTYPE", "compare_last", "draw_samples", "summarise", "tabulate"]

Row = Mapping[str, Any]

SCALES = {"energy": 1.0, "modes": 1.0, "near": 100.0}
DIGITS = {"energy": 3, "modes": 1, "near": 1}
# Energy distance after 4,000 generator steps, one seed: plain, mixup with alpha 0.2.
PROTOTYPE = {"ring": (1.96, 0.19), "grid": (0.52, 0.23)}
STEP, STACK = "step of MixupGAN ÷ loop by hand", "five seeds as one stack ÷ five fits in turn"
STEP_TARGET, STACK_TARGET = 1.05, 0.6
SETTING = ("part", "dataset", "generator_loss", "lr", "width", "iteration")
FRESH = BASELINES[1]
LIMIT = 2.4
N_FRESH = 500
PAPER_STEPS = 20_000


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each setting and snapshot, then one for each ratio of times.

    Means over seeds with the ends of Student's 95 % intervals, ``near`` in per cent; ``energy_diff`` is
    that from the plain GAN, paired by seed. Of ratios, the median and the quartiles. What a row does not
    have is None.
    """
    fitted = [record for record in records if record.get("contender") is None]
    groups = group_records(fitted, *SETTING, "alpha")
    rows = [_summarise_setting(group, groups[(*key[:-1], 0.0)]) for key, group in groups.items()]
    rows += _summarise_times([record for record in records if record.get("contender") is not None])
    return fill_columns(rows)


def _summarise_setting(group: Sequence[Row], plain: Sequence[Row]) -> dict[str, Any]:
    own, base = (sorted(part, key=lambda record: record["repeat"]) for part in (group, plain))
    row: dict[str, Any] = {name: own[0][name] for name in (*SETTING, "alpha")} | {"n_seeds": len(own)}
    for score, scale in SCALES.items():
        if own[0][score] is not None:
            values = scale * np.array([record[score] for record in own], dtype=float)
            row |= flatten_interval(score, compute_t_interval(values))
    gaps = [record["energy"] - other["energy"] for record, other in zip(own, base, strict=True)]
    row |= flatten_interval("energy_diff", compute_t_interval(gaps))
    return row | {"seconds": round(float(np.mean([record["seconds"] for record in own])), 2)}


def _summarise_times(records: Sequence[Row]) -> list[dict[str, Any]]:
    cases = dict.fromkeys(record["case"] for record in records)
    lines = [
        Line(label, "speed", case, ours, theirs, target)
        for label, ours, theirs, target in (
            (STEP, "estimator", "loop", STEP_TARGET),
            (STACK, "stack", "singles", STACK_TARGET),
        )
        for case in cases
    ]
    rows = summarise_lines(records, lines)
    for row in rows:
        if row["label"] == STACK and row["case"].endswith(" on cpu"):
            row["met"] = "no target on a CPU"
    return rows


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: last samples, snapshots, the grid, its summary, times."""
    summary = document["summary"]
    last = _select_last(summary)
    grid = _select(summary, "grid")
    tables = {
        f"Samples after {last[0]['iteration']:,} generator steps": _format_pairs(last),
        "Energy distance by generator steps": _format_snapshots(_select(summary, "picture")),
        "Grid: energy distance; † clear: the 95 % interval of the difference from plain excludes 0": (
            _format_grid(grid)
        ),
        "Grid: mean energy distances of all settings of learning rate and width": _format_spread(grid),
        "Ratios of times": _format_times(_select(summary, "speed")),
    }
    return {title: rows for title, rows in tables.items() if rows}


def _select(summary: Sequence[Row], part: str) -> list[Row]:
    return [row for row in summary if row["part"] == part]


def _select_last(summary: Sequence[Row]) -> list[Row]:
    """Return the rows of the picture's last snapshot."""
    rows = _select(summary, "picture")
    last = max(row["iteration"] for row in rows)
    return [row for row in rows if row["iteration"] == last]


def _pair_with_plain(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Return each row of a mixup GAN with that of the plain one of the same setting."""
    plain = {tuple(row[name] for name in SETTING): row for row in rows if row["alpha"] == 0}
    return [(row, plain[tuple(row[name] for name in SETTING)]) for row in rows if row["alpha"] > 0]


def _format_pairs(rows: Sequence[Row]) -> list[dict[str, str]]:
    return [_format_pair(mixup, plain) for mixup, plain in _pair_with_plain(rows)]


def _format_pair(mixup: Row, plain: Row) -> dict[str, str]:
    density = DENSITIES[mixup["dataset"]]
    prototype = PROTOTYPE.get(mixup["dataset"])
    return {
        "density": density.title,
        "generator loss": mixup["generator_loss"],
        "alpha": f"{mixup['alpha']:g}",
        "n": str(mixup["n_seeds"]),
        "energy distance, plain": _format_score(plain, "energy"),
        "mixup": _format_score(mixup, "energy"),
        "mixup - plain": format_difference(read_interval(mixup, "energy_diff"), DIGITS["energy"]),
        "modes, plain": _format_modes(plain, len(density.modes)),
        "modes, mixup": _format_modes(mixup, len(density.modes)),
        "near a mode, plain, %": _format_score(plain, "near"),
        "near a mode, mixup, %": _format_score(mixup, "near"),
        "prototype's distance, plain → mixup": "" if prototype is None else "{} → {}".format(*prototype),
    }


def _format_score(row: Row, score: str) -> str:
    return "" if row.get(score) is None else format_mean(row, score, DIGITS[score])


def _format_modes(row: Row, n_modes: int) -> str:
    text = _format_score(row, "modes")
    return f"{text} of {n_modes}" if text else ""


def _format_snapshots(rows: Sequence[Row]) -> list[dict[str, str]]:
    groups = group_records(rows, "dataset", "generator_loss", "alpha")
    return [
        {
            "density": DENSITIES[dataset].title,
            "generator loss": loss,
            "GAN": _name_gan(alpha),
            **{f"{row['iteration']:,}": _format_score(row, "energy") for row in group},
        }
        for (dataset, loss, alpha), group in groups.items()
    ]


def _name_gan(alpha: float) -> str:
    return f"mixup, alpha = {alpha:g}" if alpha else "plain"


def _format_grid(rows: Sequence[Row]) -> list[dict[str, str]]:
    ordered = sorted(rows, key=lambda row: (row["generator_loss"], row["lr"], row["width"], row["alpha"]))
    groups = group_records(ordered, "dataset", "generator_loss", "lr", "width")
    return [
        {
            "density": DENSITIES[dataset].title,
            "generator loss": loss,
            "learning rate": f"{lr:g}",
            "width": str(width),
            **{_name_gan(row["alpha"]): _format_grid_cell(row) for row in group},
        }
        for (dataset, loss, lr, width), group in groups.items()
    ]


def _format_grid_cell(row: Row) -> str:
    is_clear = row["alpha"] > 0 and read_interval(row, "energy_diff").find_sign() != 0
    return f"{_format_score(row, 'energy')}{' †' if is_clear else ''}"


def _format_spread(rows: Sequence[Row]) -> list[dict[str, str]]:
    return [
        {
            "density": DENSITIES[dataset].title,
            "generator loss": loss,
            "GAN": _name_gan(alpha),
            "settings": str(len(group)),
            "best": f"{min(energies):.3f}",
            "median": f"{np.median(energies):.3f}",
            "worst": f"{max(energies):.3f}",
            **_count_better(group, alpha),
        }
        for (dataset, loss, alpha), group in group_records(rows, "dataset", "generator_loss", "alpha").items()
        for energies in [[row["energy"] for row in group]]
    ]


def _count_better(rows: Sequence[Row], alpha: float) -> dict[str, str]:
    """Return in how many settings the mean is lower than plain's, and clearly so, and clearly higher."""
    signs = [read_interval(row, "energy_diff").find_sign() for row in rows]
    lower = sum(row["energy_diff"] < 0 for row in rows)
    return {
        "lower than plain": str(lower) if alpha else "",
        "clearly lower": str(signs.count(-1)) if alpha else "",
        "clearly higher": str(signs.count(1)) if alpha else "",
    }


def _format_times(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the ratios beside their targets, and the medians they come from."""
    cells = format_ratios(rows)
    for cell, row in zip(cells, rows, strict=True):
        del cell["stretch"]
        cell["target"] += " on a GPU" if row["label"] == STACK else ""
        times = [row["ours"], row["theirs"]]
        cell["ms per generator step of a net"] = " / ".join(f"{time / 1000:.2f}" for time in times)
    return cells


def compare_last(document: Row) -> list[Comparison]:
    """Return the energy distance of the last samples drawn, mixup less plain, for each density."""
    loss = document["config"]["generator_losses"][0]
    return [
        Comparison(
            f"{DENSITIES[mixup['dataset']].title}, alpha {mixup['alpha']:g}",
            f"{plain['energy']:.2f} → {mixup['energy']:.2f}",
            read_interval(mixup, "energy_diff"),
        )
        for mixup, plain in _pair_with_plain(_select_last(document["summary"]))
        if mixup["generator_loss"] == loss
    ]


def draw_samples(document: Row) -> Figure:
    """Draw the samples of the first seed over points of the density: a column a GAN, a row a snapshot."""
    pictures = document["draw_from"]
    order = list(dict.fromkeys(picture["dataset"] for picture in pictures))
    pictures = sorted(pictures, key=lambda picture: (order.index(picture["dataset"]), picture["alpha"]))
    steps = sorted({int(step) for picture in pictures for step in picture["samples"]})
    figure = make_figure(1.0 + (0.25 + 6.6 / len(pictures)) * len(steps))
    axes = figure.subplots(len(steps), len(pictures), squeeze=False, sharex=True, sharey=True)
    for column, picture in zip(axes.T, pictures, strict=True):
        fresh = DENSITIES[picture["dataset"]].draw(N_FRESH, np.random.default_rng(0))
        for ax, step in zip(column, steps, strict=True):
            _draw_panel(
                ax, fresh, np.array(picture["samples"][str(step)]), MIXUP if picture["alpha"] else ERM
            )
        name = f"mixup {picture['alpha']:g}" if picture["alpha"] else "plain"
        column[0].set_title(f"{DENSITIES[picture['dataset']].title},\n{name}")
    for ax, step in zip(axes[:, 0], steps, strict=True):
        ax.set_ylabel(f"{step:,} {'step' if step == 1 else 'steps'}")
    figure.suptitle(
        f"Samples of one seed after so many generator steps; the paper's last are after {PAPER_STEPS:,}"
    )
    figure.legend(handles=_make_legend(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _make_legend() -> list[Line2D]:
    colors = {"the density": FRESH, "plain GAN": ERM, "mixup GAN and its alpha": MIXUP}
    return [Line2D([], [], linestyle="", marker="o", color=colors[name], label=name) for name in colors]


def _draw_panel(ax: Axes, fresh: np.ndarray, samples: np.ndarray, color: str) -> None:
    """Draw points with the same limits in each panel; say how many samples lie outside."""
    for points, size, shade in ((fresh, 3.5, FRESH), (samples, 1.5, color)):
        ax.scatter(points[:, 0], points[:, 1], s=size, color=shade, linewidths=0, rasterized=True)
    ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=(-2, 0, 2), yticks=(-2, 0, 2), aspect="equal")
    outside = float((~(np.abs(samples) <= LIMIT).all(axis=1)).mean())
    if outside >= 0.01:
        ax.set_xlabel(f"{outside:.0%} outside")
