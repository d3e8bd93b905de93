"""Which option of a model is the alpha of mixing, and which values it is to take."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone

from sk_mixup._validation import check_real

__all__ = ["check_alphas", "check_param", "find_alpha"]

# What searches call their grids.
GRIDS = ("param_grid", "param_distributions", "search_spaces")


def check_alphas(alphas: ArrayLike) -> list[float]:
    """Return the strengths, sorted, 0 among them."""
    hint = "Use 0 for plain training, 0.2 for the default, 1 for weights drawn uniformly."
    given = [alphas] if np.ndim(alphas) == 0 else list(alphas)  # type: ignore[arg-type]
    found = {check_real(f"alphas[{k}]", alpha, low=0, hint=hint) for k, alpha in enumerate(given)}
    if not any(alpha > 0 for alpha in found):
        raise ValueError(f"alphas must hold a value above 0 to compare with 0; got {given!r}. {hint}")
    return sorted(found | {0.0})


def find_alpha(model: BaseEstimator) -> str:
    """Return the name of a model's alpha of mixing, or raise unless there is one that has an effect."""
    owner = type(model).__name__
    params: dict[str, object] = model.get_params() if hasattr(model, "get_params") else {}
    beside = {name: name.removesuffix("alpha") for name in params if name.rpartition("__")[2] == "alpha"}
    names = [name for name, prefix in beside.items() if f"{prefix}lam_per" in params] or [
        f"{name}__alpha"
        for name, value in params.items()
        if value is None and name.rpartition("__")[2] == "estimator" and _takes(model, f"{name}__alpha")
    ]
    if len(names) != 1:
        seen = "none" if not names else " and ".join(map(repr, names))
        raise ValueError(
            f"model must have one option alpha of mixing, beside lam_per; got {seen} in {owner}. Give a "
            "MixupClassifier or MixupRegressor, or a pipeline with one, or name the option by param."
        )
    [name] = names
    vicinity = params.get(f"{name.removesuffix('alpha')}vicinity")
    if vicinity is not None:
        raise ValueError(
            f"vicinity must be None for alpha to have an effect; got {vicinity!r}. Leave it out, or compare "
            "vicinities by a search."
        )
    return _check_unsearched(params, name)


def _takes(model: BaseEstimator, name: str) -> bool:
    """Whether a model has an option that it may not show, as an ensemble has of the members it makes."""
    try:
        clone(model).set_params(**{name: 0.0})
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def check_param(model: BaseEstimator, param: str) -> str:
    params: dict[str, object] = model.get_params()
    if param not in params and not _takes(model, param):
        raise ValueError(f"param must be an option of model; got {param!r}. Look at model.get_params().")
    return _check_unsearched(params, param)


def _check_unsearched(params: Mapping[str, object], name: str) -> str:
    """Return the name of an option, or raise if a search within the model chooses it."""
    for key, grids in params.items():
        prefix, _, last = key.rpartition("__")
        if last not in GRIDS or not isinstance(grids, Mapping | list | tuple):
            continue
        owner = f"{prefix}__estimator" if prefix else "estimator"
        found = (
            [grids] if isinstance(grids, Mapping) else [grid for grid in grids if isinstance(grid, Mapping)]
        )
        if any(name == f"{owner}__{option}" for grid in found for option in grid):
            raise ValueError(
                f"{last} must not hold the alpha that is compared; got {name!r}, which the search sets. "
                "Give its estimator: alpha is chosen within the training rows here too."
            )
    return name
