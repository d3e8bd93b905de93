"""From summary rows of ``regimes`` to printed tables and comparisons with the paper."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.harness.claims import Claim, Comparison
from benchmarks.harness.intervals import Interval, compute_t_interval
from benchmarks.harness.paired_differences import (
    count_signs,
    flatten_interval,
    format_difference,
    group_records,
    read_interval,
)
from benchmarks.image_training.config import MEMORISED
from benchmarks.regimes.design import BASELINE, MIXUP
from benchmarks.regimes.summary import FITTED, select

__all__ = ["CLAIMS", "find_largest", "tabulate"]

Row = Mapping[str, Any]
METRICS = dict(zip(FITTED, ("test error", "test NLL"), strict=True))
DIGITS = {"train_error": 1, "test_error": 1, "test_nll": 2, "gap": 1, "reached": 0}


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
        f"Most images at which ERM's training error is at most {MEMORISED:g} %": _format_largest(summary),
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
    if error == float("inf"):
        return f"more than {grid[-1]:.1f} %"
    if error == -float("inf"):
        return f"less than {grid[0]:.1f} %" if grid[0] > 0 else "nowhere"
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


def _format_largest(summary: Sequence[Row]) -> list[dict[str, str]]:
    row = find_largest(summary)
    if row is None:
        return []
    cells = _format_setting(row) | {"n": str(row["n_seeds"])}
    return [cells | {"ERM's training error, %": f"{row['train_error']:.2f}"}]


def find_largest(summary: Sequence[Row], bound: float = MEMORISED) -> Row | None:
    """Return ERM's row of most images for which all seeds were run and the training error is low."""
    found = [
        row
        for row in select(summary, "images")
        if row["method"] == BASELINE and row["n_seeds"] == row["n_planned"] and row["train_error"] <= bound
    ]
    return min(found, key=lambda row: (-row["n_images"], row["epochs"] * row["width"]), default=None)


# -- claims ---------------------------------------------------------------------------------------


def _compare_settings(document: Row, metric: str, text: str, most: float = float("inf")) -> list[Comparison]:
    """Return mixup's differences from ERM in the settings where ERM's training error is at most so high.

    `text` is filled with the figures of both.
    """
    decay = document["config"]["weight_decay"]
    images = [
        row
        for row in select(document["summary"], "images")
        if row["n_seeds"] and row["weight_decay"] == decay
    ]
    base = {_key(row): row for row in images if row["method"] == BASELINE}
    return [
        Comparison(
            _name_setting(row),
            text.format(base[_key(row)][metric], row[metric]),
            read_interval(row, f"{metric}_diff"),
        )
        for row in images
        if row["method"] == MIXUP and _key(row) in base and row["erm_train_error"] <= most
    ]


def _name_setting(row: Row) -> str:
    return f"{row['n_images']}/{row['width']}/{row['epochs']}"


def _compare_contrasts(document: Row, question: str) -> list[Comparison]:
    """Return by how much the difference mixup - ERM changes from setting to setting."""
    return [
        Comparison(
            row["label"],
            f"{row['test_error_change']:+.1f} points ({row['label']})",
            read_interval(row, "test_error_change"),
        )
        for row in select(document["summary"], "contrast")
        if row["question"] == question
    ]


def _compare_choice(document: Row, name: str) -> list[Comparison]:
    return [
        item for item in _compare_contrasts(document, "choices") if item.label.endswith(f": {name} - mixup")
    ]


def _compare_infinite(document: Row) -> list[Comparison]:
    """Return the training error with the plain average of two examples, less ten per cent."""
    rows = select(document["summary"], "images")
    return [
        Comparison(
            _name_setting(row),
            f"training error {row['train_error']:.1f} %",
            Interval(*(end - LOW for end in ends)),
        )
        for row in rows
        if row["method"] == "alpha ∞" and row["n_seeds"]
        for ends in [read_interval(row, "train_error")]
    ]


# A training error of so many per cent is low: chance is at 90.
LOW = 10.0
CLAIMS = (
    Claim(
        "Mixup lowers the test error of networks that fit their training set",
        "sections 1 and 3.2",
        "5.6 → 4.2 % (CIFAR-10)",
        partial(_compare_settings, metric="test_error", text="{:.1f} → {:.1f} %", most=MEMORISED),
    ),
    Claim(
        "Networks of higher capacity profit more",
        "section 3.1",
        "22.1 → 21.5 % (ResNet-101), 23.5 → 23.3 % (ResNet-50)",
        partial(_compare_contrasts, question="capacity"),
    ),
    Claim(
        "Longer training profits more",
        "section 3.1",
        "23.6 → 22.1 % after 200 epochs, 23.5 → 23.3 % after 90 (ResNet-50)",
        partial(_compare_contrasts, question="length"),
    ),
    Claim(
        "Mixup raises the training error on images as they are",
        "section 5",
        "no figure",
        partial(_compare_settings, metric="train_error", text="{:.1f} → {:.1f} %"),
        expected=(1,),
    ),
    Claim(
        "Mixup narrows the gap between training and test error",
        "section 5",
        "no figure",
        partial(_compare_settings, metric="gap", text="{:.1f} → {:.1f} points"),
    ),
    Claim(
        "With alpha to infinity the training error on CIFAR-10 is still low (here: at most 10 %)",
        "section 5",
        "no figure",
        _compare_infinite,
    ),
    Claim(
        "ERM and mixup converge at similar speed",
        "Figure 3(b)",
        "curves",
        partial(_compare_settings, metric="reached", text="{:.0f} → {:.0f} % of the epochs"),
        expected=(0,),
    ),
    Claim(
        "Partners from the same mini-batch are as good as those of a second loader",
        "section 2",
        "no figure",
        partial(_compare_choice, name="two loaders"),
        expected=(0,),
    ),
    Claim(
        "Three examples in a combination are no better than two",
        "section 2",
        "no figure",
        partial(_compare_choice, name="three examples"),
        expected=(0, 1),
    ),
    Claim(
        "Partners of the same class bring no gain, so they are worse than any partners",
        "section 2",
        "no figure",
        partial(_compare_choice, name="same class"),
        expected=(1,),
    ),
)
