"""Keyword arguments of a fit: those for the split of the rows, and those for the module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import inspect
from typing import Any, Protocol

import numpy as np
from sklearn import get_config
from sklearn.utils.metadata_routing import process_routing
from skorch.dataset import get_len
from torch.utils.data import IterableDataset

from sk_mixup._skorch.overriding import STEPS, VALIDATION_STEPS, find_overridden
from sk_mixup._warning import warn_user

__all__ = ["get_forward_params", "get_split_params", "refuse_values_of_rows"]


class SplittingNet(Protocol):
    """A net that may split the rows it is given."""

    train_split: Any


def get_split_params(
    net: SplittingNet, routing_method: str, fit_params: Mapping[str, object]
) -> dict[str, Any]:
    """Return what ``train_split`` is given; where metadata is routed, refuse what nobody asked for."""
    if not get_config()["enable_metadata_routing"]:
        return {name: value for name, value in fit_params.items() if _is_for_split(net, name)}
    routed = process_routing(net, routing_method, **fit_params)
    return dict(routed.get("splitter", {"split": {}})["split"])


def get_forward_params(
    net: SplittingNet, forward: Callable[..., object], fit_params: Mapping[str, object]
) -> dict[str, object]:
    """Leave out what is for ``train_split`` alone, such as groups of rows.

    Of a split that takes whatever it is given, a step or an ``infer`` of the user's takes what has no name.
    """
    is_own = bool(find_overridden(net, (*STEPS, *VALIDATION_STEPS)))

    def is_for_split_alone(name: str) -> bool:
        if _takes_argument(forward, name) or not _is_for_split(net, name):
            return False
        return not is_own or name in inspect.signature(net.train_split).parameters

    return {name: value for name, value in fit_params.items() if not is_for_split_alone(name)}


def refuse_values_of_rows(
    net: SplittingNet, forward: Callable[..., object], params: Mapping[str, object], X: object
) -> None:
    """Raise if an argument of `forward` has a value for each row: it is given all with each batch.

    Some of the rows are held out, and the others shuffled, so that values would meet other rows than theirs.
    Of what ``**kwargs`` takes it only warns.
    """
    if not params or isinstance(X, IterableDataset):
        return
    n_samples = get_len(X)
    for name, value in params.items():
        shape = np.shape(value) if isinstance(value, list | tuple) else getattr(value, "shape", ())
        is_for_forward = _takes_argument(forward, name) and not _is_for_split(net, name)
        if is_for_forward and n_samples > 1 and tuple(shape[:1]) == (n_samples,):
            message = (
                f"{name} must not hold one value per row of X, for forward is given all of them with each "
                f"batch; got shape {tuple(shape)} for {n_samples} rows. Give inputs of rows in X, as a "
                f"mapping: fit({{'X': X, {name!r}: {name}}}, y), with the names of forward's arguments."
            )
            if name in inspect.signature(forward).parameters:
                raise ValueError(message)
            warn_user(message)  # one of **kwargs, which may be of no use there


def _is_for_split(net: SplittingNet, name: str) -> bool:
    return callable(net.train_split) and _takes_argument(net.train_split, name)


def _takes_argument(function: Callable[..., object], name: str) -> bool:
    """Whether a function takes an argument of that name; not if that is unknown, as of a scripted one."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return False
    return any(
        p.kind is p.VAR_KEYWORD or (p.name == name and p.kind is not p.POSITIONAL_ONLY) for p in parameters
    )
