"""From summary rows of ``regimes`` to printed tables and claims."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.intervals import compute_t_interval
from benchmarks.harness.paired_differences import (
    count_signs,
    fill_claim,
    flatten_interval,
    format_difference,
    group_records,
    judge_difference,
    read_interval,
)
from benchmarks.image_training.config import MEMORISED
from benchmarks.regimes.design import BASELINE, MIXUP
from benchmarks.regimes.summary import FITTED, select

__all__ = ["describe_finding", "find_cheapest", "tabulate"]

Row = Mapping[str, Any]
METRICS = dict(zip(FITTED, ("test error", "test NLL"), strict=True))
DIGITS = {"train_error": 1, "test_error": 1, "test_nll": 2, "gap": 1, "reached": 0}

MAP = (
    "Images, {metric}, {where}: mixup clearly lower than ERM in {lower}, clearly higher in {higher} of {n} "
    "settings."
)
# The paper's section 5 and Figure 3(b): what is counted of the settings, and in which words.
COUNTED = {
    "train_error": "Training error on images as they are",
    "gap": "Gap, test less training error",
    "reached": "Share of the training after which nine tenths of the way are gone",
}
COUNT = (
    "{what}: with mixup clearly lower than with ERM in {lower}, clearly higher in {higher} of {n} settings."
)
CURVE = (
    "{where}, {metric}: with ten times ERM's training error mixup's difference changes by {slope}, with "
    "{held} held fixed by {within}; the curve crosses 0 at {crossing}."
)
CHEAPEST = (
    "The cheapest setting (images x epochs x width) at which ERM's training error is at most {bound:g} % is "
    "{setting} (images/width/epochs): {error:.2f} %, {n} seeds."
)
CONTRAST = (
    "{question}, {label}: {change} points of test error, {verdict}; {training} points of training error."
)
DONE = "{done} of {planned} trainings on images were run.{missing}"


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: settings, methods, contrasts, curves, tables, what is missing."""
    summary = document["summary"]
    images = [row for row in select(summary, "images") if row["n_seeds"]]
    decay = document["config"]["weight_decay"]
    base = {_key(row): row for row in images if row["method"] == BASELINE}
    pairs = [row for row in images if row["method"] == MIXUP and _key(row) in base]
    others = [row for row in images if row["method"] not in (BASELINE, MIXUP)]
    contrasts = [*select(summary, "contrast"), *select(summary, "pooled")]
    tables = {
        "Images; errors in %, differences mixup - ERM with 95 % intervals over seeds": [
            _format_pair(base[_key(row)], row, decay) for row in pairs
        ],
        "Images, other values of alpha and other choices": list(map(_format_other, others)),
        "What changes the difference mixup - ERM, or sets a method apart from mixup; points and nats": list(
            map(_format_contrast, contrasts)
        ),
        "Curves through the differences": list(map(_format_curve, select(summary, "curve"))),
        "Tables, means over tables; differences from ERM with intervals over tables": _format_tables(
            select(summary, "tables")
        ),
        "Not run": _list_missing(summary),
    }
    return {title: rows for title, rows in tables.items() if rows}


def _key(row: Row) -> tuple[Any, ...]:
    return row["n_images"], row["width"], row["epochs"], row["weight_decay"]


def _format_setting(row: Row) -> dict[str, str]:
    return {"images": f"{row['n_images']}", "width": f"{row['width']}", "epochs": f"{row['epochs']}"}


def _format_pair(erm: Row, mixup: Row, decay: float) -> dict[str, str]:
    """Return the table's row of one setting."""
    note = "" if mixup["weight_decay"] == decay else f" (decay {mixup['weight_decay']:g})"
    cells = _format_setting(mixup)
    cells["epochs"] += note
    cells["n"] = str(min(erm["n_seeds"], mixup["n_seeds"]))
    for name, title in (("train_error", "train"), ("test_error", "test"), ("gap", "gap")):
        cells[f"{title}: ERM → mixup"] = f"{erm[name]:.1f} → {mixup[name]:.1f}"
    for name, title in METRICS.items():
        cells[f"{title}, difference"] = format_difference(read_interval(mixup, f"{name}_diff"), DIGITS[name])
    cells["90 % of the way at, % of epochs"] = f"{erm['reached']:.0f} → {mixup['reached']:.0f}"
    cells["minutes a run"] = f"{erm['minutes']:.1f}"
    return cells


def _format_other(row: Row) -> dict[str, str]:
    cells = _format_setting(row) | {"method": row["method"], "n": str(row["n_seeds"])}
    for name, title in (
        ("train_error", "train"),
        ("test_error", "test"),
        ("gap", "gap"),
        ("test_nll", "NLL"),
    ):
        cells[title] = f"{row[name]:.{DIGITS[name]}f}"
        change = format_difference(read_interval(row, f"{name}_diff"), DIGITS[name])
        cells[f"{title}, against ERM"] = change
    return cells


def _format_contrast(row: Row) -> dict[str, str]:
    cells = {"question": row["question"], "what": row["label"], "n": f"{row['n_seeds'] or ''}"}
    for name, title in (("test_error", "test error"), ("train_error", "training error"), ("test_nll", "NLL")):
        cells[title] = format_difference(read_interval(row, f"{name}_change"), DIGITS[name])
    return cells


def _format_curve(row: Row) -> dict[str, str]:
    digits = DIGITS[row["metric"]]
    return {
        "data": row["dataset"],
        "metric": METRICS[row["metric"]],
        "points": str(row["n_points"]),
        "change by a tenfold training error": format_difference(read_interval(row, "slope"), digits),
        "the same within groups": format_difference(read_interval(row, "slope_within"), digits),
        "crosses 0 at a training error of": _format_crossing(row),
    }


def _format_crossing(row: Row) -> str:
    """Return where the curve crosses 0 with its interval; what was not seen is beyond the range."""
    ends = [_format_end(row[f"crossing{suffix}"], row["grid"]) for suffix in ("", "_low", "_high")]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]"


def _format_end(error: float, grid: Sequence[float]) -> str:
    if abs(error) == float("inf"):
        return f"more than {grid[-1]:.1f} %" if error > 0 else f"less than {max(grid[0], 0):.1f} %"
    return f"{error:.1f} %"


def _format_tables(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the table's rows: shares of noise, epochs and methods, over all tables."""
    groups = group_records([row for row in rows if row["method"] != BASELINE], "noise", "epochs", "method")
    lines = []
    for (noise, epochs, method), part in groups.items():
        cells = {"noise": f"{100 * noise:g} %", "epochs": f"{epochs}", "method": method}
        cells["tables"] = str(len(part))
        cells["ERM's training error"] = f"{_mean(part, 'erm_train_error'):.1f}"
        for name, title in METRICS.items():
            gaps = [row[f"{name}_diff"] for row in part]
            over = flatten_interval("over", compute_t_interval(gaps))
            lower, higher = count_signs(part, f"{name}_diff")
            cells[title] = format_difference(read_interval(over, "over"), DIGITS[name])
            cells[f"{title}, clearly lower / higher on"] = f"{lower} / {higher}"
        lines.append(cells)
    return lines


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(sum(row[name] for row in rows) / len(rows))


def _list_missing(summary: Sequence[Row]) -> list[dict[str, str]]:
    return [
        {
            **_format_setting(row),
            "method": row["method"],
            "weight decay": f"{row['weight_decay']:g}",
            "seeds run": f"{row['n_seeds']} of {row['n_planned']}",
        }
        for row in select(summary, "images")
        if row["n_seeds"] < row["n_planned"]
    ]


def find_cheapest(summary: Sequence[Row], bound: float = MEMORISED) -> Row | None:
    """Return ERM's row of the cheapest setting at which all seeds were run and the training error is low."""
    found = [
        row
        for row in select(summary, "images")
        if row["method"] == BASELINE and row["n_seeds"] == row["n_planned"] and row["train_error"] <= bound
    ]
    return min(found, key=lambda row: row["n_images"] * row["epochs"] * row["width"], default=None)


def describe_finding(summary: Sequence[Row]) -> str:
    """Return one sentence for each claim, and how much of the plan was run."""
    return "\n".join(
        [*_claim_map(summary), *_claim_curves(summary), *_claim_contrasts(summary), _claim_done(summary)]
    )


def _claim_map(summary: Sequence[Row]) -> list[str]:
    rows = [
        row
        for row in select(summary, "images")
        if row["method"] == MIXUP and row["n_seeds"] and row["erm_train_error"] is not None
    ]
    parts = {
        f"where ERM's training error is at most {MEMORISED:g} %": [
            row for row in rows if row["erm_train_error"] <= MEMORISED
        ],
        "elsewhere": [row for row in rows if row["erm_train_error"] > MEMORISED],
    }
    claims = [
        fill_claim(MAP, part, f"{name}_diff", metric=metric, where=where)
        for name, metric in METRICS.items()
        for where, part in parts.items()
        if part
    ]
    claims += [fill_claim(COUNT, rows, f"{name}_diff", what=what) for name, what in COUNTED.items() if rows]
    cheapest = find_cheapest(summary)
    if cheapest is not None:
        setting = "{n_images}/{width}/{epochs}".format(**cheapest)
        error, n_seeds = cheapest["train_error"], cheapest["n_seeds"]
        claims.append(CHEAPEST.format(bound=MEMORISED, setting=setting, error=error, n=n_seeds))
    return claims


def _claim_curves(summary: Sequence[Row]) -> list[str]:
    return [
        CURVE.format(
            where=row["dataset"].capitalize(),
            metric=METRICS[row["metric"]],
            slope=format_difference(read_interval(row, "slope"), DIGITS[row["metric"]]),
            within=format_difference(read_interval(row, "slope_within"), DIGITS[row["metric"]]),
            held="the number of images" if row["dataset"] == "images" else "the table",
            crossing=_format_crossing(row),
        )
        for row in select(summary, "curve")
    ]


def _claim_contrasts(summary: Sequence[Row]) -> list[str]:
    asked = ("alpha", "choices", "decay")
    rows = [row for row in select(summary, "contrast") if row["question"] in asked]
    return [
        CONTRAST.format(
            question=row["question"].capitalize(),
            label=row["label"],
            change=format_difference(read_interval(row, "test_error_change"), 1),
            training=format_difference(read_interval(row, "train_error_change"), 1),
            verdict=judge_difference(row, "test_error_change"),
        )
        for row in [*select(summary, "pooled"), *rows]
    ]


def _claim_done(summary: Sequence[Row]) -> str:
    rows = select(summary, "images")
    done, planned = (sum(row[name] for row in rows) for name in ("n_seeds", "n_planned"))
    missing = "" if done == planned else " What is missing stands in the table of trainings not run."
    return DONE.format(done=done, planned=planned, missing=missing)
