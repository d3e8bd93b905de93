"""Checks of the options that all mixed nets share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
import inspect
from typing import Protocol

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Callback
import torch
from torch import Tensor, nn

from sk_mixup._skorch.datasets import STORAGES
from sk_mixup._skorch.precision import AUTOCAST
from sk_mixup._tensors import to_host
from sk_mixup._validation import (
    check_bool,
    check_choice,
    check_device,
    check_graph_device,
    check_integer,
    check_real,
)
from sk_mixup._warning import warn_user
from sk_mixup.mixing import Partners, Vicinity, as_partners
from sk_mixup.mixing.mixup import LAM_PER

__all__ = [
    "cast_weights",
    "check_callbacks",
    "check_graph_device",
    "check_mixing_options",
    "find_maker",
    "set_options",
    "unchanged_on_error",
    "warn_unused_options",
]

# What skorch calls of a callback, of whatever class.
HOOKS = ("initialize", *(name for name in vars(Callback) if name.startswith("on_")))

# Criteria of torch's whose weights must be tensors of the dtype of the output.
WEIGHTED = (
    nn.CrossEntropyLoss,
    nn.NLLLoss,
    nn.MultiMarginLoss,
    nn.MultiLabelSoftMarginLoss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
)
# Parts of a net that are made where they are needed.
MADE_ANEW = ("iterator_train", "iterator_valid", "dataset")
# What a vicinity brings itself.
MIXUP_OPTIONS = ("alpha", "lam_per", "n_mixed", "partners")


class MixingOptions(Protocol):
    """The options of mixing, storage and precision, as a net has them."""

    alpha: float
    lam_per: str
    n_mixed: int
    partners: str | Partners
    vicinity: object
    warmup_epochs: int
    cooldown_epochs: int
    max_epochs: int
    batch_size: int
    autocast: str | None
    storage: str
    device: str | torch.device | None
    channels_last: bool
    cuda_graph: bool
    augment: object
    callbacks: object


def check_mixing_options(options: MixingOptions) -> None:
    """Raise if an option of mixing, storage or precision breaks its rule.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule; the message names it.
    """
    check_device(options.device)
    check_real("alpha", options.alpha, low=0.0, hint="Use alpha=0 for no mixing, 0.2 to 1 for mixup.")
    check_choice("lam_per", options.lam_per, LAM_PER)
    check_integer("n_mixed", options.n_mixed, low=2, hint="Use 2 for pairs, as in the paper.")
    as_partners(options.partners)
    _check_vicinity(options.vicinity)
    check_integer("warmup_epochs", options.warmup_epochs, low=0, hint="Use 0 for none.")
    check_integer("cooldown_epochs", options.cooldown_epochs, low=0, hint="Use 0 for none.")
    check_integer("max_epochs", options.max_epochs, low=0, hint="Use 1 or more to train.")
    if options.batch_size != -1:
        check_integer("batch_size", options.batch_size, low=1, hint="Use -1 for the whole training set.")
    for name in ("iterator_train__batch_size", "iterator_valid__batch_size"):
        if (size := getattr(options, name, -1)) != -1:
            check_integer(name, size, low=1, hint="Use -1 for all rows, or leave it out.")
    _check_hardware(options)
    check_callbacks(options.callbacks)
    if options.augment is not None and not callable(options.augment):
        raise TypeError(
            f"augment must be callable or None; got {options.augment!r}. Give a function from a batch of "
            "inputs to as many rows."
        )


def check_callbacks(callbacks: object) -> None:
    """Raise a TypeError unless callbacks are a list of such, or of pairs of a name and such."""
    if callbacks is None or callbacks == "disable":
        return
    if not isinstance(callbacks, list):
        raise TypeError(
            f"callbacks must be a list, 'disable' or None; got {callbacks!r}. Write callbacks=[...], for a "
            "single one too."
        )
    for item in callbacks:
        is_named = isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str)
        callback = item[1] if is_named else item
        missing = [] if callback is None else [hook for hook in HOOKS if not hasattr(callback, hook)]
        if missing:
            raise TypeError(
                f"callbacks must hold callbacks, or pairs of a name and a callback; got {item!r}, without "
                f"{missing[0]}. Derive from skorch.callbacks.Callback."
            )


def _check_hardware(options: MixingOptions) -> None:
    if options.autocast is not None:
        check_choice("autocast", options.autocast, tuple(AUTOCAST))
    check_choice("storage", options.storage, STORAGES)
    check_bool("channels_last", options.channels_last, hint="Use True for convolutions on a GPU.")
    check_bool("cuda_graph", options.cuda_graph, hint="Use True for a small net on a GPU.")
    if options.cuda_graph and options.device is not None:  # else it is known once the module is built
        check_graph_device(options.device)


def _check_vicinity(vicinity: object) -> None:
    if vicinity is not None and not isinstance(vicinity, Vicinity):
        raise TypeError(
            f"vicinity must be None or a policy of sk_mixup.mixing; got {vicinity!r}. Give an "
            "instance, such as GaussianNoise(0.1)."
        )


def set_options(net: NeuralNet, params: Mapping[str, object], set_by_skorch: Callable[..., object]) -> None:
    """Set options of an initialized net: they hold at once and in later fits, or nothing is changed.

    skorch sets those of an optimizer in the one at hand only, and refuses the optimizer's class and those
    of iterators.
    """
    parts = (*MADE_ANEW, *net._optimizers)
    of_groups = [name for name in params if "__param_groups__" in name]  # of the optimizer at hand
    kept = {name for name in params if name.split("__")[0] in parts} - set(of_groups)
    with unchanged_on_error(net):
        for name in kept:
            setattr(net, name, params[name])
        if kept & set(net._optimizers):
            net._initialize_optimizer()
        rest = [name for name in params if name not in kept or net._is_virtual_param(name)]
        set_by_skorch(**{name: params[name] for name in rest})


@contextmanager
def unchanged_on_error(estimator: object) -> Iterator[None]:
    """Leave an estimator as it was if what is new is refused."""
    before = dict(vars(estimator))
    try:
        yield
    except Exception:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def warn_unused_options(options: MixingOptions) -> None:
    """Say which options of mixup are not used because a vicinity brings its own."""
    if options.vicinity is None:
        return
    for name in MIXUP_OPTIONS:
        if getattr(options, name) != _find_default(type(options), name):
            warn_user(
                f"{name} is not used where vicinity is given; got {getattr(options, name)!r} beside "
                f"{options.vicinity!r}. Set it in the vicinity, such as Mixup({name}=...).",
            )


def _find_default(owner: type, name: str) -> object:
    """Return the default of an option in the first constructor that names it."""
    for base in owner.__mro__:
        if "__init__" in vars(base):
            parameter = inspect.signature(base).parameters.get(name)
            if parameter is not None:
                return parameter.default
    raise AttributeError(name)


def find_maker(criterion: object) -> tuple[object, dict[str, object]]:
    """Return what a criterion is built by, and its options; a partial of a class is no more than these."""
    if isinstance(criterion, partial) and inspect.isclass(criterion.func) and not criterion.args:
        return criterion.func, criterion.keywords
    return criterion, {}


def cast_weights(criterion: object, options: Mapping[str, object], dtype: torch.dtype) -> dict[str, object]:
    """Return options of a criterion, with weights of classes as the tensors that torch's losses take.

    Raises
    ------
    TypeError, ValueError
        If they are no numbers of at least 0.
    """
    if not inspect.isclass(criterion) or not issubclass(criterion, WEIGHTED):
        return dict(options)
    given = {key: options[key] for key in ("weight", "pos_weight") if options.get(key) is not None}
    return {**options, **{key: _as_weights(f"criterion__{key}", given[key], dtype) for key in given}}


def _as_weights(name: str, given: object, dtype: torch.dtype) -> Tensor:
    weights = np.asarray(to_host(given))
    if weights.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, one per class; got {given!r}. Give an array or a list.")
    if not np.all((weights >= 0) & (weights < np.inf)) or not weights.any():
        raise ValueError(
            f"{name} must hold a number per class, finite and at least 0, not all 0; got {given!r}. Give the "
            "weight of each class."
        )
    return given.to(dtype) if isinstance(given, Tensor) else torch.as_tensor(weights.copy(), dtype=dtype)
