"""Differences of scores between alphas, their intervals, and a verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from sklearn.utils import Bunch

__all__ = ["choose_alphas", "find_unit", "format_difference", "summarise"]

# How the scores that are measured by default are shown, and in what unit; the first of a task chooses alpha.
SCORES = {
    "nll": ("NLL", 1),
    "error": ("error in %", 100),
    "ece": ("calibration error in %", 100),
    "rmse": ("RMSE", 1),
    "mae": ("MAE", 1),
}
CONFIDENCE = 0.95


def find_unit(found: Bunch, name: str) -> tuple[str, int]:
    """Return how a score is called and what it is multiplied by; one of the user's own is shown as it is."""
    return (name, 1) if found.greater_is_better else SCORES[name]


def choose_alphas(
    values: NDArray[np.float64], n_inner: list[int], greater_is_better: bool
) -> NDArray[np.intp]:
    """Return which alpha is best on average over the inner splits of each outer one; they follow those."""
    ends = len(n_inner) + np.cumsum(n_inner)
    means = np.stack([values[end - n : end].mean(axis=0) for end, n in zip(ends, n_inner, strict=True)])
    return (-means if greater_is_better else means).argmin(axis=1)


def summarise(
    alphas: NDArray[np.float64],
    found: Mapping[str, NDArray[np.float64]],
    chosen: NDArray[np.intp],
    test_ratio: float,
    greater_is_better: bool,
) -> Bunch:
    n, rows = len(chosen), np.arange(len(chosen))
    scores = {name: values[:n] for name, values in found.items()}
    chosen_scores = {name: values[rows, chosen] for name, values in scores.items()}
    comparison = Bunch(
        alphas=alphas,
        scores=scores,
        chosen=alphas[chosen],
        chosen_scores=chosen_scores,
        differences={
            name: _find_interval(values - values[:, :1], test_ratio) for name, values in scores.items()
        },
        chosen_differences={
            name: _find_interval(chosen_scores[name] - values[:, 0], test_ratio)
            for name, values in scores.items()
        },
        greater_is_better=greater_is_better,
    )
    comparison.verdict = _write_verdict(comparison)
    return comparison


def _find_interval(differences: NDArray[np.float64], test_ratio: float) -> Bunch:
    """Return the means of columns with the ends of their corrected intervals."""
    n = len(differences)
    mean = differences.mean(axis=0)
    quantile = stdtrit(n - 1, (1 + CONFIDENCE) / 2)
    half = quantile * np.sqrt((1 / n + test_ratio) * differences.var(axis=0, ddof=1))
    return Bunch(mean=mean, low=mean - half, high=mean + half)


def _write_verdict(found: Bunch) -> str:
    """Say in a sentence where mixup is better, where it loses and where it is unclear."""
    sign = 1 if found.greater_is_better else -1
    said: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for name, interval in found.chosen_differences.items():
        said[sign * _find_sign(interval.low, interval.high)].append(
            _describe(find_unit(found, name), interval)
        )
    starts = {1: "is better in ", -1: "loses in ", 0: "is unclear in "}
    parts = [starts[kind] + _join(names) for kind, names in said.items() if names]
    values, counts = np.unique(found.chosen, return_counts=True)
    most, n = counts.argmax(), len(found.chosen)
    if values[most] == 0 and counts[most] == n:
        parts = [f"alpha=0 was the choice in all {n} splits, so mixup does not pay here"]
    else:
        how_often = f"{values[most]:g} in {counts[most]} of {n} splits"
        parts[0] = (
            f"Against alpha=0, mixup with alpha chosen within the training rows ({how_often}) {parts[0]}"
        )
    losses = [f"alpha={alpha:g} loses in {_join(names)}" for alpha, names in _list_losses(found, sign)]
    return ", ".join(parts) + (f"; fixed, {_join(losses)}" if losses else "") + "."


def _list_losses(found: Bunch, sign: int) -> list[tuple[float, list[str]]]:
    """Return which alphas are clearly worse than 0, and in which scores."""
    losses = []
    for k, alpha in enumerate(found.alphas):
        names = [
            find_unit(found, name)[0].removesuffix(" in %")
            for name, interval in found.differences.items()
            if sign * _find_sign(interval.low[k], interval.high[k]) < 0
        ]
        if names:
            losses.append((alpha, names))
    return losses


def _find_sign(low: float, high: float) -> int:
    """Return -1 or 1 where the whole interval lies on that side of 0, else 0."""
    return int(low > 0) - int(high < 0)


def format_difference(value: float) -> str:
    """Return a difference with its sign, and ``+0`` for what rounding leaves of equal scores."""
    return f"{round(value, 12) + 0.0:+.2g}"


def _describe(unit: tuple[str, int], interval: Bunch) -> str:
    label, scale = unit
    mean, low, high = (format_difference(scale * interval[key]) for key in ("mean", "low", "high"))
    return f"{label} ({mean}, 95 % interval {low} to {high})"


def _join(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
