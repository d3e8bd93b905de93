"""Paired comparisons of methods: from records to columns of a summary, and from columns to cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.intervals import Interval, compute_ratio_interval, compute_t_interval, count_wins

__all__ = [
    "MakeInterval",
    "Metric",
    "compare_pairs",
    "count_signs",
    "fill_columns",
    "flatten_interval",
    "format_difference",
    "format_mean",
    "group_records",
    "read_interval",
    "summarise_pairs",
]

Row = Mapping[str, Any]
Values = NDArray[np.float64]
MakeInterval = Callable[[Values], Interval]


def _subtract(values: Values, base: Values, interval: MakeInterval) -> Interval:
    return interval(values - base)


def _subtract_relative(values: Values, base: Values, interval: MakeInterval) -> Interval:
    return interval(100 * (values - base) / base.mean())


def _divide(values: Values, base: Values, interval: MakeInterval) -> Interval:
    return compute_ratio_interval(values, base)


# How values are set against the baseline's, and what the column's name ends in.
CHANGES = {
    "difference": ("_diff", _subtract),
    "per cent": ("_change", _subtract_relative),
    "ratio": ("_change", _divide),
}


@dataclass(frozen=True)
class Metric:
    """How a column of the records is summarised."""

    scale: float = 1.0  # Factor of the values; 100 shows shares in per cent
    # "difference" gives columns ``NAME_diff``, values minus baseline's; "per cent" of the baseline's mean and
    # "ratio", the geometric mean of the ratios, give ``NAME_change``
    change: str = "difference"


def compare_pairs(
    name: str,
    values: Values,
    base: Values,
    *,
    metric: Metric = Metric(),
    interval: MakeInterval = compute_t_interval,
) -> dict[str, float]:
    """Return the columns of one metric: mean, change from the baseline, and how often it is the lower one.

    Examples
    --------
    >>> import numpy as np
    >>> from benchmarks.harness.paired_differences import compare_pairs
    >>> row = compare_pairs("error", np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    >>> row["error"], row["error_diff"], row["error_diff_low"], row["error_wins"]
    (2.0, -1.0, -1.0, 1.0)
    """
    suffix, change = CHANGES[metric.change]
    values, base = metric.scale * values, metric.scale * base
    return {
        **flatten_interval(name, interval(values)),
        **flatten_interval(f"{name}{suffix}", change(values, base, interval)),
        f"{name}_wins": round(count_wins(values - base), 3),
    }


def summarise_pairs(
    records: Sequence[Row],
    metrics: Mapping[str, Metric],
    *,
    by: Sequence[str],
    baseline: object,
    contender: str = "method",
    pair: str = "repeat",
    interval: MakeInterval = compute_t_interval,
    describe: Callable[[Sequence[Row]], Row] = lambda _: {},
) -> list[dict[str, Any]]:
    """Return a flat row for each contender of each group, compared with the group's baseline pair by pair.

    Records, in any order, are grouped by the columns `by`; the column `contender` tells which is which, and
    that of the `baseline` is compared with all, paired by the column `pair`. A row has the columns `by`,
    `contender`, ``n_repeats``, those that `describe` makes of the contender's records, then of
    :func:`compare_pairs` for each metric.
    """
    groups = group_records(records, *by, contender)
    rows = []
    for key, group in groups.items():
        own, base = (_sort_pairs(part, pair) for part in (group, groups[(*key[:-1], baseline)]))
        assert [record[pair] for record in own] == [record[pair] for record in base], "each has a partner"
        row = dict(zip((*by, contender), key, strict=True)) | {"n_repeats": len(own), **describe(own)}
        for name, metric in metrics.items():
            values, others = (np.array([float(record[name]) for record in part]) for part in (own, base))
            row |= compare_pairs(name, values, others, metric=metric, interval=interval)
        rows.append(row)
    return rows


def _sort_pairs(records: Sequence[Row], pair: str) -> list[Row]:
    return sorted(records, key=lambda record: record[pair])


def group_records(records: Sequence[Row], *columns: str) -> dict[tuple[Any, ...], list[Row]]:
    """Return the records that share the values of some columns, by those values."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for record in records:
        groups.setdefault(tuple(record[column] for column in columns), []).append(record)
    return groups


def flatten_interval(name: str, interval: Interval) -> dict[str, float]:
    """Return the columns ``name``, ``name_low`` and ``name_high``."""
    ends = {"": interval.mean, "_low": interval.low, "_high": interval.high}
    return {f"{name}{suffix}": round(value, 5) for suffix, value in ends.items()}


def read_interval(row: Row, name: str) -> Interval:
    """Return the interval that :func:`flatten_interval` wrote."""
    return Interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def count_signs(rows: Sequence[Row], name: str) -> tuple[int, int]:
    """Return in how many rows the 95 % interval of a difference lies below 0, and above."""
    signs = [read_interval(row, name).find_sign() for row in rows]
    return signs.count(-1), signs.count(1)


def fill_columns(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows that all have the same columns; what a row lacks is None."""
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{**dict.fromkeys(columns), **row} for row in rows]


def format_mean(row: Row, name: str, digits: int) -> str:
    """Return a mean with half its interval, such as "4.7 ± 0.3"."""
    interval = read_interval(row, name)
    return f"{interval.mean:.{digits}f} ± {(interval.high - interval.low) / 2:.{digits}f}"


def format_difference(interval: Interval, digits: int) -> str:
    """Return a difference with its interval, such as "+0.3 [-1.1, +1.7]"; of one value, the mean."""
    if interval.low != interval.low:
        return f"{interval.mean:+.{digits}f}"
    return f"{interval.mean:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"
