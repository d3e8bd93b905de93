"""From records of the GANs to tables, claims and a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
import numpy as np

from benchmarks.gan.densities import DENSITIES
from benchmarks.harness.figures import make_figure, render_png
from benchmarks.harness.intervals import compute_t_interval
from benchmarks.harness.paired_differences import (
    fill_columns,
    flatten_interval,
    format_difference,
    format_mean,
    group_records,
    judge_difference,
    read_interval,
)
from benchmarks.harness.time_ratios import Line, format_ratios, summarise_lines

__all__ = ["PROTOTYPE", "describe_finding", "draw_samples", "summarise", "tabulate"]

Row = Mapping[str, Any]

SCALES = {"energy": 1.0, "modes": 1.0, "near": 100.0}
DIGITS = {"energy": 3, "modes": 1, "near": 1}
LAST = "{density}, {loss}, alpha = {alpha:g}: energy distance {mixup:.2f}, plain {plain:.2f}, {verdict}."
GRID = (
    "{density}, {loss}, alpha = {alpha:g}: the lower mean energy distance in {lower} of {n} settings, at "
    "worst {worst:.2f}; plain at worst {plain:.2f}."
)
# Energy distance after 4,000 generator steps, one seed: plain, mixup with alpha 0.2.
PROTOTYPE = {"ring": (1.96, 0.19), "grid": (0.52, 0.23)}
STEP, STACK = "step of MixupGAN ÷ loop by hand", "five seeds as one stack ÷ five fits in turn"
STEP_TARGET, STACK_TARGET = 1.05, 0.6
SETTING = ("part", "dataset", "generator_loss", "lr", "width", "iteration")
FRESH, COLORS = "#b5b5b5", ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
LIMIT = 2.4
N_FRESH = 1000


def summarise(records: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one flat row for each setting and snapshot, then one for each ratio of times.

    Means over seeds with the ends of Student's 95 % intervals, ``near`` in per cent; ``energy_diff`` is
    that from the plain GAN, paired by seed. Of ratios, the median and the quartiles. What a row does not
    have is None.
    """
    fitted = [record for record in records if record["contender"] is None]
    groups = group_records(fitted, *SETTING, "alpha")
    rows = [_summarise_setting(group, groups[(*key[:-1], 0.0)]) for key, group in groups.items()]
    rows += _summarise_times([record for record in records if record["contender"] is not None])
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


def describe_finding(summary: Sequence[Row]) -> str:
    """Return a claim for each density of the last samples, then one for each alpha of the grid."""
    claims = [
        _fill(
            LAST,
            mixup,
            mixup=mixup["energy"],
            plain=plain["energy"],
            verdict=judge_difference(mixup, "energy_diff"),
        )
        for mixup, plain in _pair_with_plain(_select_last(summary))
    ]
    grid = group_records(_select(summary, "grid"), "dataset", "generator_loss", "alpha")
    worst = {key: max(row["energy"] for row in rows) for key, rows in grid.items()}
    claims += [
        _fill(
            GRID,
            rows[0],
            lower=sum(row["energy_diff"] < 0 for row in rows),
            n=len(rows),
            worst=worst[key],
            plain=worst[(*key[:2], 0.0)],
        )
        for key, rows in grid.items()
        if rows[0]["alpha"]
    ]
    return "\n".join(claims)


def _fill(template: str, row: Row, **values: object) -> str:
    density, loss = DENSITIES[row["dataset"]].title, row["generator_loss"]
    return template.format(density=density, loss=loss, alpha=row["alpha"], **values)


def draw_samples(pictures: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the samples of the first seed over points of the density: a column a snapshot, a row a GAN."""
    order = list(dict.fromkeys(picture["dataset"] for picture in pictures))
    pictures = sorted(pictures, key=lambda picture: (order.index(picture["dataset"]), picture["alpha"]))
    alphas = sorted({picture["alpha"] for picture in pictures})
    steps = sorted({int(step) for picture in pictures for step in picture["samples"]})
    figure = make_figure(0.8 + 8.4 / len(steps) * len(pictures))
    axes = figure.subplots(len(pictures), len(steps), squeeze=False, sharex=True, sharey=True)
    for line, picture in zip(axes, pictures, strict=True):
        fresh = DENSITIES[picture["dataset"]].draw(N_FRESH, np.random.default_rng(0))
        color = COLORS[alphas.index(picture["alpha"]) % len(COLORS)]
        for ax, step in zip(line, steps, strict=True):
            _draw_panel(ax, fresh, np.array(picture["samples"][str(step)]), color)
        line[0].set_ylabel(f"{DENSITIES[picture['dataset']].title}\n{_name_gan(picture['alpha'])}")
    for ax, step in zip(axes[0], steps, strict=True):
        ax.set_title(f"{step:,} {'step' if step == 1 else 'steps'}", fontsize="medium")
    figure.suptitle("Samples of one seed by generator steps; grey: fresh points of the density")
    figure.supxlabel("first coordinate", fontsize="medium")
    figure.supylabel("second coordinate", fontsize="medium")
    return render_png(figure)


def _draw_panel(ax: Axes, fresh: np.ndarray, samples: np.ndarray, color: str) -> None:
    """Draw points with the same limits in each panel; say how many samples lie outside."""
    ax.scatter(fresh[:, 0], fresh[:, 1], s=5, color=FRESH, linewidths=0, rasterized=True)
    ax.scatter(samples[:, 0], samples[:, 1], s=2, color=color, linewidths=0, rasterized=True)
    ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=(-2, 0, 2), yticks=(-2, 0, 2), aspect="equal")
    ax.tick_params(labelsize="x-small", length=2)
    outside = float((~(np.abs(samples) <= LIMIT).all(axis=1)).mean())
    if outside >= 0.01:
        box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5}
        text = f"{outside:.0%} outside"
        ax.text(0.03, 0.04, text, transform=ax.transAxes, fontsize="x-small", bbox=box)
