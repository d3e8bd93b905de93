"""Intervals as columns of a summary: written, read back, counted, printed."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.intervals import Interval

__all__ = [
    "count_signs",
    "flatten_interval",
    "format_difference",
    "format_mean",
    "group_records",
    "read_interval",
]

Row = Mapping[str, Any]


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
    """Return in how many rows a difference is surely below 0, and surely above."""
    signs = [read_interval(row, name).find_sign() for row in rows]
    return signs.count(-1), signs.count(1)


def format_mean(row: Row, name: str, digits: int) -> str:
    """Return a mean with half its interval, such as "4.7 ± 0.3"."""
    interval = read_interval(row, name)
    return f"{interval.mean:.{digits}f} ± {(interval.high - interval.low) / 2:.{digits}f}"


def format_difference(interval: Interval, digits: int) -> str:
    """Return a difference with its interval, such as "+0.3 [-1.1, +1.7]"; of one value, the mean."""
    if interval.low != interval.low:
        return f"{interval.mean:+.{digits}f}"
    return f"{interval.mean:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"
