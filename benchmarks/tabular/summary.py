"""From records of the comparison on tables to mean ranks, differences, targets and a plot."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import NullFormatter
import numpy as np

from benchmarks.harness.figures import (
    BASELINES,
    ERM,
    MIXUP,
    draw_intervals,
    make_figure,
    make_legend,
    pick_color,
    tidy,
)
from benchmarks.harness.intervals import Interval, compute_corrected_interval
from benchmarks.harness.paired_differences import (
    Metric,
    fill_columns,
    group_records,
    read_interval,
    summarise_pairs,
)
from benchmarks.harness.ranks import Ranking, draw_critical_difference, rank_methods
from benchmarks.tabular.contenders import ENSEMBLE, OURS, PLAIN

__all__ = ["draw_ranks", "keep_shared", "summarise", "tabulate"]

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
Parts = Mapping[tuple[Any, ...], Sequence[Row]]
Order = Mapping[str, Sequence[str]]
Verdict = tuple[str, str, bool]
METRICS = {
    "classification": {"nll": "NLL", "error": "error", "brier": "Brier", "ece": "calibration error"},
    "regression": {"rmse": "RMSE", "mae": "CRPS of a point"},
}
RANKED = {"classification": ("nll", "error"), "regression": ("rmse",)}
SECONDS = {"fit_seconds": "fit, s", "predict_seconds": "predict, s"}
ALL = "all tables"
# By fewer tables no difference of ranks can be told.
FEWEST_DRAWN = 5
# Heights of a name, as a share of a panel.
LINE = 0.095
COLORS = {PLAIN: ERM, OURS: MIXUP, ENSEMBLE: MIXUP}  # Of contenders; others have that of baselines
SHORT = {"HistGradientBoosting": "HistGB", "MLP of scikit-learn": "sklearn's MLP"}
# What ours is drawn beside table by table.
RIVALS = (PLAIN, "LightGBM", "CatBoost")
BEATEN = ("MLP of scikit-learn", "forest", "HistGradientBoosting", "linear", "RealMLP-TD-S", PLAIN)


def summarise(records: Sequence[Row], *, test_ratio: float) -> Rows:
    """Return rows of contenders over all tables, by part and scope, then rows of tables.

    A part is a task and a share of wrong labels, a scope some contenders on the tables that they share. Means
    and ranks are over the folds that all of a scope share; a row of a table has the differences from ours
    over the folds that the two share.
    """
    rows: Rows = []
    groups = [group for _, group in sorted(group_records(records, "task", "noise").items())]
    for group in groups:
        for names in _find_scopes(group):
            rows += _rank(keep_shared([record for record in group if record["contender"] in names]))
    for group in groups:
        rows += _compare_tables(group, test_ratio)
    return fill_columns(rows)


def _find_scopes(records: Sequence[Row]) -> list[list[str]]:
    """Return the contenders of all tables, then each time those that were run on fewer beside them."""
    tables: dict[str, set[str]] = {}
    for record in records:
        tables.setdefault(record["contender"], set()).add(record["dataset"])
    names = sorted(tables, key=lambda name: -len(tables[name]))
    shared = [
        frozenset.intersection(*(frozenset(tables[n]) for n in names[: k + 1])) for k in range(len(names))
    ]
    ends = [k for k, found in enumerate(shared) if found and shared[k + 1 : k + 2] != [found]]
    return [names[: k + 1] for k in ends]


def keep_shared(records: Sequence[Row]) -> list[Row]:
    """Return the records of the folds that all contenders have."""
    n_contenders = len({record["contender"] for record in records})
    cells = group_records(records, "dataset", "repeat", "fold").values()
    return [record for cell in cells if len(cell) == n_contenders for record in cell]


def _rank(records: Sequence[Row]) -> Rows:
    task, noise = records[0]["task"], records[0]["noise"]
    names, tables = (list(dict.fromkeys(r[column] for r in records)) for column in ("contender", "dataset"))
    groups, scope = group_records(records, "dataset", "contender"), f"{len(names)} contenders"

    def average(column: str, mean: Callable[[list[float]], Any] = np.mean) -> np.ndarray:
        """Return each table's mean of each contender, of shape (n_tables, n_names)."""
        return np.array([[mean([r[column] for r in groups[t, n]]) for n in names] for t in tables])

    columns = {metric: average(metric) for metric in METRICS[task]}
    # What is loaded at the first fit of a process is not paid again.
    columns |= {metric: average(metric, np.median) for metric in SECONDS}
    rankings = {metric: rank_methods(columns[metric]) for metric in METRICS[task]}
    rows: Rows = []
    for place, name in enumerate(names):
        row = {"task": task, "noise": noise, "scope": scope, "dataset": ALL, "contender": name}
        row |= {"n_tables": len(tables), "n_folds": len(records) // len(names)}
        row |= {metric: round(float(values[:, place].mean()), 5) for metric, values in columns.items()}
        for metric, ranking in rankings.items():
            row |= {f"{metric}_rank": round(float(ranking.ranks[place]), 3), f"{metric}_p": ranking.p_value}
        rows.append(row | {"critical": ranking.critical})
    return rows


def _compare_tables(records: Sequence[Row], test_ratio: float) -> Rows:
    """Return a row for each table and contender, with its differences from ours where both were run."""
    interval = partial(compute_corrected_interval, test_ratio=test_ratio)
    rows: Rows = []
    for name in dict.fromkeys(record["contender"] for record in records):
        pair = keep_shared([record for record in records if record["contender"] in {name, OURS}])
        cells = [record | {"cell": (record["repeat"], record["fold"])} for record in map(dict, pair)]
        if any(cell["contender"] == OURS for cell in cells):
            metrics = dict.fromkeys(RANKED[cells[0]["task"]], Metric())
            by = ["task", "noise", "dataset"]
            found = summarise_pairs(
                cells, metrics, by=by, baseline=OURS, contender="contender", pair="cell", interval=interval
            )
            rows += [{**row, "scope": "pair"} for row in found if row["contender"] == name]
    return rows


def _list_parts(summary: Sequence[Row]) -> Parts:
    rows = [row for row in summary if row["dataset"] == ALL]
    return group_records(rows, "task", "noise", "scope")


def tabulate(document: Row) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: contenders over all tables, targets, then table by table."""
    summary = document["summary"]
    parts = _list_parts(summary)
    tables = {_title(part): [_format_row(row) for row in _sort(rows)] for part, rows in parts.items()}
    verdicts = _judge(parts)
    if verdicts:
        names = ("target", "measured", "reached")
        tables["Targets"] = [
            dict(zip(names, (claim, found, "yes" if reached else "no"), strict=True))
            for claim, found, reached in verdicts
        ]
    by_table = group_records([row for row in summary if row["dataset"] != ALL], "task", "noise")
    for (task, noise), rows in by_table.items():
        metric = RANKED[task][0]
        title = f"Test {METRICS[task][metric]} of each table, {_describe(task, noise)}; † clearly not ours"
        tables[title] = _format_tables(rows, metric)
    return tables


def _describe(task: str, noise: float) -> str:
    return f"{task}, {noise:.0%} of the training labels wrong" if noise else task


def _title(part: tuple[Any, ...]) -> str:
    task, noise, scope = part
    return f"{_describe(task, noise).capitalize()}, {scope}"


def _sort(rows: Sequence[Row], metric: str = "") -> list[Row]:
    metric = metric or RANKED[rows[0]["task"]][0]
    return sorted(rows, key=lambda row: row[f"{metric}_rank"])


def _format_row(row: Row) -> dict[str, str]:
    cells = {"contender": row["contender"], "tables": str(row["n_tables"]), "folds": str(row["n_folds"])}
    for metric, title in METRICS[row["task"]].items():
        if metric in RANKED[row["task"]]:
            cells[f"{title} rank"] = f"{row[f'{metric}_rank']:.2f}"
        cells[title] = f"{100 * row[metric]:.1f} %" if metric == "error" else f"{row[metric]:.3f}"
    return cells | {title: f"{row[metric]:.2f}" for metric, title in SECONDS.items()}


def _format_tables(rows: Sequence[Row], metric: str) -> list[dict[str, str]]:
    names = list(dict.fromkeys(row["contender"] for row in rows))
    lines = []
    for (dataset,), group in group_records(rows, "dataset").items():
        found = {row["contender"]: row for row in group}
        lines.append({"data": dataset} | {name: _format_cell(found.get(name), metric) for name in names})
    return lines


def _format_cell(row: Row | None, metric: str) -> str:
    if row is None:
        return ""
    return f"{row[metric]:.3f}{' †' if read_interval(row, f'{metric}_diff').find_sign() else ''}"


def _judge(parts: Parts) -> list[Verdict]:
    """Return each target, what was measured, and whether it was reached."""
    verdicts = []
    for (task, noise, scope), rows in parts.items():
        by_name = {row["contender"]: row for row in rows}
        if {OURS, ENSEMBLE} <= by_name.keys():
            order = {metric: [row["contender"] for row in _sort(rows, metric)] for metric in RANKED[task]}
            judge = _judge_targets if task == "regression" else _judge_noisy if noise else _judge_labels
            where = _title((task, noise, scope))
            verdicts += [(f"{where}: {claim}", found, yes) for claim, found, yes in judge(order, by_name)]
    return verdicts


def _judge_targets(order: Order, _: Mapping[str, Row]) -> Iterator[Verdict]:
    first = order["rmse"][:3]
    yield "the ensemble is among the first three by RMSE rank", ", ".join(first), ENSEMBLE in first


def _judge_noisy(order: Order, _: Mapping[str, Row]) -> Iterator[Verdict]:
    for metric, names in order.items():
        first = names[:2]
        yield f"ours are first and second by {metric} rank", ", ".join(first), {OURS, ENSEMBLE} == set(first)


def _judge_labels(order: Order, by_name: Mapping[str, Row]) -> Iterator[Verdict]:
    ahead = [name for name in order["nll"][: order["nll"].index(OURS)] if name in BEATEN]
    beaten = ", ".join(name for name in BEATEN if name in by_name)
    yield f"mixup is ahead of {beaten} by NLL rank", f"ahead of it: {', '.join(ahead) or 'none'}", not ahead
    yield "the ensemble is first by NLL rank", order["nll"][0], order["nll"][0] == ENSEMBLE
    first = order["error"][:2]
    yield "the ensemble is first or second by error rank", ", ".join(first), ENSEMBLE in first
    if "CatBoost" in by_name:
        change = by_name[ENSEMBLE]["nll"] / by_name["CatBoost"]["nll"] - 1
        yield "the ensemble's mean NLL is 5 % below CatBoost's", f"{change:+.1%}", change <= -0.05
    if "TabM-D" in by_name:
        ratio = by_name[ENSEMBLE]["fit_seconds"] / by_name["TabM-D"]["fit_seconds"]
        yield "the ensemble's fit takes a quarter of TabM-D's time", f"{ratio:.2f} of it", ratio <= 0.25


def draw_ranks(document: Row) -> Figure:
    """Draw critical-difference diagrams, mean scores against the time of a fit, and differences by table.

    Of each task and share of wrong labels it draws the most contenders that share enough tables; all else
    is left to the printed tables.
    """
    summary = document["summary"]
    panels = [
        (part, rows, metric)
        for part, rows in _choose_parts(_list_parts(summary)).items()
        for metric in RANKED[part[0]]
    ]
    timed = [panel for panel in panels if not panel[0][1]] or panels
    pairs = _list_pairs(summary)
    n_lines = -(-len(panels + timed) // 2)
    heights = [1.9 * n_lines, *([0.9 + 0.17 * len(pairs)] if pairs else [])]
    figure = make_figure(sum(heights))
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    axes = parts[0].subplots(n_lines, 2, squeeze=False).ravel()
    for ax in axes[len(panels + timed) :]:
        ax.set_visible(False)
    for ax, panel in zip(axes, panels, strict=False):
        _draw_ranks_of(ax, *panel)
    for ax, panel in zip(axes[len(panels) :], reversed(timed), strict=False):
        _draw_times(ax, *panel)
    if pairs:
        _draw_pairs(parts[-1], pairs)
    return figure


def _draw_ranks_of(ax: Axes, part: tuple[Any, ...], rows: Sequence[Row], metric: str) -> None:
    ranks = np.array([row[f"{metric}_rank"] for row in rows])
    ranking = Ranking(ranks, rows[0][f"{metric}_p"], rows[0]["critical"])
    draw_critical_difference(ax, [_shorten(row["contender"]) for row in rows], ranking)
    wrong = f", {part[1]:.0%} wrong labels" if part[1] else ""
    tables = f"{rows[0]['n_tables']} tables"
    ax.set_title(f"{part[0].capitalize()}{wrong}, {tables}:\nmean rank by {METRICS[part[0]][metric]}")


def _shorten(name: str) -> str:
    return SHORT.get(name, name)


def _choose_parts(parts: Parts) -> Parts:
    """Return, of each task and share of wrong labels, the part with the most contenders on enough tables."""
    chosen: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for part, rows in parts.items():
        held = chosen.setdefault(part[:2], part)
        if rows[0]["n_tables"] >= FEWEST_DRAWN and len(rows) > len(parts[held]):
            chosen[part[:2]] = part
    return {part: parts[part] for part in chosen.values()}


def _list_pairs(summary: Sequence[Row]) -> dict[tuple[str, str], dict[str, Interval]]:
    """Return ours less each rival, in per cent of the rival's score, by task and table, on true labels."""
    pairs: dict[tuple[str, str], dict[str, Interval]] = {}
    for row in summary:
        if row["dataset"] != ALL and not row["noise"] and row["contender"] in RIVALS:
            metric = RANKED[row["task"]][0]
            ends = read_interval(row, f"{metric}_diff")
            mean, high, low = (-100 * value / row[metric] for value in ends)
            rivals = pairs.setdefault((row["task"], row["dataset"]), {})
            rivals[row["contender"]] = Interval(mean, low, high)
    return pairs


def _draw_pairs(part: SubFigure, pairs: Mapping[tuple[str, str], Mapping[str, Interval]]) -> None:
    """Draw the differences of each table, a column a rival."""
    names = [name for name in RIVALS if any(name in rivals for rivals in pairs.values())]
    axes = part.subplots(1, len(names), sharey=True, squeeze=False)[0]
    missing = Interval(math.nan, math.nan, math.nan)
    for ax, name in zip(axes, names, strict=True):
        intervals = [rivals.get(name, missing) for rivals in pairs.values()]
        draw_intervals(ax, intervals, [pick_color(interval) for interval in intervals])
        ax.set(title=f"mixup against {name}", xlabel="NLL or RMSE, %")
    axes[0].set_yticks(range(len(pairs)), [dataset for _, dataset in pairs])
    part.suptitle("Table by table: one net with mixup against others; NLL, of real-valued targets RMSE")
    legend = make_legend("mixup better", "mixup worse")
    part.legend(handles=legend, loc="outside lower center", ncols=3, frameon=False)


def _draw_times(ax: Axes, part: tuple[Any, ...], rows: Sequence[Row], metric: str) -> None:
    """Draw scores against times; a column of names has a line to each point."""
    ordered = sorted(rows, key=lambda row: row[metric])
    scores = np.array([row[metric] for row in ordered])
    low, high = scores[0], max(scores[-1], scores[0] + 1e-9)
    heights = _spread_out(0.06 + 0.88 * (scores - low) / (high - low), LINE)
    for row, height in zip(ordered, heights, strict=True):
        color = COLORS.get(row["contender"], BASELINES[0])
        ax.plot(row["fit_seconds"], row[metric], "o", markersize=5, color=color)
        ax.annotate(
            _shorten(row["contender"]),
            (row["fit_seconds"], row[metric]),
            color=color,
            fontsize=8,
            xytext=(1.06, height),
            textcoords="axes fraction",
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.4, "shrinkA": 1, "shrinkB": 4},
        )
    name = METRICS[part[0]][metric]
    ax.set(xscale="log", xlabel="CPU seconds of a fit", ylabel=f"mean {name}")
    ax.set_title(f"{part[0].capitalize()}, {rows[0]['n_tables']} tables:\nmean {name} against time")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(x=0.1)
    ax.set_ylim(low - 0.06 / 0.88 * (high - low), high + 0.06 / 0.88 * (high - low))
    tidy(ax)


def _spread_out(heights: np.ndarray, gap: float) -> np.ndarray:
    """Return ascending heights that are moved as far as it needs to be a gap apart."""
    places = gap * np.arange(len(heights))
    lowest = np.maximum.accumulate(heights - places) + places
    return lowest - max(0.0, lowest[-1] - 1.0) * np.linspace(0, 1, len(lowest))
