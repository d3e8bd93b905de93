"""What the displays share: optional packages, axes, and lines that every reader can tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import cycle, islice
from typing import Any

import numpy as np

__all__ = ["find_axes", "list_styles", "name_models", "require"]

# Okabe and Ito's colours that stand out on white; markers and dashes differ too, for print without colour.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")


def require(name: str, purpose: str) -> Any:
    """Import a module of a package that the extra ``inspection`` brings; the message names the purpose."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ImportError(
            f"{purpose} needs {package}, which is not installed. Run pip install matplotlib."
        ) from error


def find_axes(ax: object, n_axes: int, purpose: str) -> list[Any]:
    """Return the axes to draw on: those given, or a row of new ones; `purpose` asks, for the message."""
    if ax is None:
        pyplot = require("matplotlib.pyplot", purpose)
        _, made = pyplot.subplots(1, n_axes, figsize=(4.8 * n_axes, 3.8), layout="constrained", squeeze=False)
        return list(made[0])
    axes = list(np.ravel(np.asarray(ax, dtype=object)))
    if not all(hasattr(each, "plot") and hasattr(each, "figure") for each in axes):
        raise TypeError(f"ax must hold Axes of matplotlib for {purpose}; got {ax!r}. Give None for new ones.")
    if len(axes) != n_axes:
        raise ValueError(
            f"ax must hold {n_axes} axes for {purpose}; got {len(axes)}. Give None for new ones."
        )
    return axes


def name_models(name: str, models: Mapping[str, object] | Sequence[object]) -> dict[str, object]:
    """Return models by name: the keys of a dict, else their classes, numbered."""
    if not isinstance(models, Mapping | Sequence) or isinstance(models, str):
        raise TypeError(
            f"{name} must be a dict or a sequence of models; got {type(models).__name__}. Use "
            "from_estimator for one model."
        )
    if not models:
        raise ValueError(f"{name} must hold at least 1 model; got {models!r}. Give fitted models.")
    if isinstance(models, Mapping):
        return dict(models)
    return {f"{type(model).__name__} {k}": model for k, model in enumerate(models, 1)}


def list_styles(n_lines: int) -> list[dict[str, Any]]:
    """Return colour, marker and dashes of each of some lines."""
    parts = zip(cycle(COLORS), cycle(MARKERS), cycle(DASHES), strict=False)
    return [
        {"color": color, "marker": marker, "linestyle": dashes, "markersize": 4, "linewidth": 1.6}
        for color, marker, dashes in islice(parts, n_lines)
    ]
