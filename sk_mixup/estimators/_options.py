"""Options of an estimator: stored by the constructor, checked by fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
import copy
import difflib
from functools import cache
import inspect
from numbers import Integral
import sys
from typing import Protocol

import numpy as np
from skorch.utils import is_dataset
import torch
from torch import Tensor, nn

from sk_mixup._validation import (
    check_bool,
    check_choice,
    check_integer,
    check_names,
    check_real,
    did_you_mean,
)
from sk_mixup.estimators._holdout import Stopping

__all__ = [
    "check_epochs_per_call",
    "check_fit_options",
    "check_known",
    "check_module",
    "check_one_smoothing",
    "check_options_of",
    "check_prefixes",
    "check_schedule",
    "check_shared_options",
    "check_sizes_known",
    "check_smoothing",
    "copy_module",
    "explaining_refusal",
    "is_set_to",
    "list_arguments",
    "list_options",
    "refuse_arrays",
    "store_options",
    "suggest",
]

MODULES = ("module", "generator", "discriminator")
PLAIN = (bool, int, float, str, tuple)
_EXAMPLES = {
    "module": "sk_mixup.modules.MLP",
    "generator": "sk_mixup.modules.MLP",
    "discriminator": "sk_mixup.modules.MLP",
    "criterion": "torch.nn.CrossEntropyLoss",
    "iterator_train": "torch.utils.data.DataLoader",
    "iterator_valid": "torch.utils.data.DataLoader",
}


# What the options are called in scikit-learn and elsewhere.
_ELSEWHERE = {
    "learning_rate": "lr",
    "learning_rate_init": "lr",
    "max_iter": "max_epochs",
    "epochs": "max_epochs",
    "n_epochs": "max_epochs",
    "num_epochs": "max_epochs",
    "hidden_sizes": "module__hidden_layer_sizes",
    "hidden_dims": "module__hidden_layer_sizes",
    "l2": "optimizer__weight_decay",
    "epsilon": "optimizer__eps",
    "beta_1": "optimizer__betas",
    "momentum": "optimizer__momentum",
    "nesterov": "optimizer__nesterov",
    "solver": "optimizer",
    "activation": "module",
    "loss": "criterion",
    "loss_fn": "criterion",
    "reduction": "criterion__reduction",
    "ignore_index": "criterion__ignore_index",
    "pos_weight": "criterion__pos_weight",
    "model": "module",
    "net": "module",
    "n_iter": "max_epochs",
    "validation_split": "validation_fraction",
    "lr_scheduler": "callbacks",
    "scheduler": "callbacks",
    "amp": "autocast",
    "mixing": "vicinity",
    "policy": "vicinity",
    "seed": "random_state",
    "patience": "n_iter_no_change",
    "shuffle": "iterator_train__shuffle",
    "num_workers": "iterator_train__num_workers",
}


class FitOptions(Protocol):
    """The options of a fit that mixing does not share."""

    early_stopping: Stopping
    n_iter_no_change: int
    validation_fraction: float
    warm_start: bool
    epochs_per_partial_fit: int | None
    criterion: object
    train_split: object
    use_caching: object
    predict_nonlinearity: object
    dataset: object
    standardize_targets: bool
    calibrate: bool


def check_fit_options(options: FitOptions) -> None:
    """Raise if an option of a fit breaks its rule; the message names it."""
    if options.early_stopping != "auto":
        hint = "Use 'auto', or True to hold out rows and stop by them."
        check_bool("early_stopping", options.early_stopping, hint=hint)
    check_integer("n_iter_no_change", options.n_iter_no_change, low=1, hint="Use 10, say.")
    check_epochs_per_call(options.epochs_per_partial_fit)
    check_bool("warm_start", options.warm_start, hint="Use True to go on from the last fit.")
    hint = "Give the share of the training rows to hold out."
    limits = {"low": 0.0, "high": 1.0}
    fraction = options.validation_fraction
    check_real("validation_fraction", fraction, **limits, above=True, below=True, hint=hint)
    if options.use_caching not in ("auto", True, False):
        raise ValueError(
            f"use_caching must be 'auto', True or False; got {options.use_caching!r}. Leave it at 'auto'."
        )
    hint = "Use False to train on y as it is."
    check_bool("standardize_targets", options.standardize_targets, hint=hint)
    check_bool("calibrate", options.calibrate, hint="Use False for probabilities of the logits as they are.")
    _check_callables(options)
    if isinstance(options.criterion, str):
        check_choice("criterion", options.criterion, ("auto",))


def _check_callables(options: FitOptions) -> None:
    """Raise unless what shall be called can be."""
    if options.train_split and options.train_split != "auto" and not callable(options.train_split):
        raise TypeError(
            f"train_split must be 'auto', None or callable; got {options.train_split!r}. Use "
            "skorch.dataset.ValidSplit for a split of your own."
        )
    link = options.predict_nonlinearity
    if link not in ("auto", None) and not callable(link):
        raise TypeError(
            f"predict_nonlinearity must be 'auto', None or callable; got {link!r}. Give the function that "
            "turns the module's outputs into predictions."
        )
    if not callable(options.dataset) and not is_dataset(options.dataset):
        raise TypeError(
            f"dataset must be a Dataset class, a function that makes one, or a Dataset; got "
            f"{options.dataset!r}. Leave it out for arrays."
        )


def check_epochs_per_call(epochs: int | None) -> None:
    """Raise unless the epochs of a call of ``partial_fit`` are a number or None."""
    if epochs is not None:
        hint = "Use 1 for one pass a call, None for max_epochs."
        check_integer("epochs_per_partial_fit", epochs, low=1, hint=hint)


def check_schedule(warmup_epochs: int, cooldown_epochs: int, max_epochs: int) -> None:
    """Raise if there are more epochs without mixing than epochs."""
    plain = warmup_epochs + cooldown_epochs
    if plain > max_epochs:
        raise ValueError(
            f"warmup_epochs + cooldown_epochs must be at most max_epochs; got {plain} for max_epochs="
            f"{max_epochs}. Raise max_epochs."
        )


def check_known(
    owner: type,
    name: str,
    known: Collection[str],
    components: Mapping[str, object],
    stored: Mapping[str, object],
) -> None:
    """Raise if an option to be set is none of the estimator's, or of a callback that was removed.

    Parameters
    ----------
    owner : type
        The estimator, for the error.
    name : str
        What is to be set.
    known : collection of str
        The options it has.
    components : mapping of str to object
        What has options of its own, by prefix.
    stored : mapping of str to object
        What it stores, by name.
    """
    if name not in known and "__" not in name:
        raise ValueError(
            f"Invalid parameter {name!r} for estimator {owner.__name__}. "
            f"{suggest(name, known, components)} Valid parameters are: {sorted(known)}."
        )
    callback = name.rpartition("__")[0]
    if callback.startswith("callbacks__") and stored.get(callback, callback) is None:
        missing = callback.removeprefix("callbacks__")
        raise ValueError(f"Trying to set a parameter for callback {missing} which does not exist.")


def store_options(estimator: object, options: Mapping[str, object]) -> None:
    """Store the local variables of a constructor as they are, and nothing else.

    Parameters
    ----------
    estimator : object
        Whose constructor it is.
    options : mapping of str to object
        ``locals()`` of the constructor; what stands in ``kwargs`` is stored by its own name.
    """
    kwargs = options["kwargs"]
    assert isinstance(kwargs, dict), "a constructor takes **kwargs"
    history = kwargs.pop("history", None)  # skorch's, to be written to
    if history is not None:
        vars(estimator)["history_"] = history
    for name in kwargs:
        if name.endswith("_"):  # that is where scikit-learn keeps what was learned
            raise ValueError(
                f"{name} must be an option of {type(estimator).__name__}; got an unknown name. Leave it out."
            )
    own = {name: value for name, value in options.items() if name not in ("self", "__class__", "kwargs")}
    vars(estimator).update(own | kwargs)


@cache  # signatures took half the time of a one-epoch fit on iris
def list_options(owner: type, base: type) -> tuple[str, ...]:
    """Return the names in the signatures of the constructors of a class, in order.

    Parameters
    ----------
    owner : type
        The class.
    base : type
        Its ancestor from which on constructors are not asked.
    """
    names: dict[str, None] = {}
    for ancestor in owner.__mro__[: owner.__mro__.index(base)]:
        if "__init__" in vars(ancestor):
            parameters = inspect.signature(ancestor).parameters.values()
            names |= {p.name: None for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return tuple(names)


def is_set_to(owner: object, name: str, value: object) -> bool:
    """Whether an option has that value already: the same object, or an equal number, text or tuple."""
    own = vars(owner).get(name, owner)
    return own is value or (type(own) is type(value) and isinstance(value, PLAIN) and own == value)


def check_prefixes(
    owner: type, names: Iterable[str], known: Collection[str], components: Mapping[str, object]
) -> None:
    """Raise unless names are options, or of the form ``<prefix>__<option>``.

    Parameters
    ----------
    owner : type
        The estimator, for the error.
    names : iterable of str
        What was given beside the options in the signature.
    known : collection of str
        The options in the signature.
    components : mapping of str to object
        What has options of its own, by prefix.
    """
    for name in sorted(names):
        prefix, dunder, _ = name.partition("__")
        if dunder and prefix in components:
            continue
        if name not in known:
            hint = suggest(name, known, components) or f"Its options are {', '.join(sorted(known))}."
            raise ValueError(f"{name} must be an option of {owner.__name__}; got an unknown name. {hint}")


def suggest(name: str, known: Collection[str], components: Mapping[str, object]) -> str:
    """Return ``Did you mean ...?`` for what an unknown name may stand for, or an empty string.

    An option of a component of that name comes first, then what it means elsewhere, then the closest name.
    """
    own = {f"{prefix}__{arg}": arg for prefix, part in components.items() for arg in list_arguments(part)}
    elsewhere = _ELSEWHERE.get(name, "")
    is_taken = elsewhere in known or ("__" in elsewhere and elsewhere.partition("__")[0] in components)
    meant = [full for full, arg in own.items() if arg == name] or ([elsewhere] if is_taken else [])
    if meant:
        return f"Did you mean {meant[0]!r}?"
    close = did_you_mean(name, known)
    near = difflib.get_close_matches(name, list(own.values()), n=1, cutoff=0.8)
    return close or next((f"Did you mean {full!r}?" for full, arg in own.items() if near == [arg]), "")


def list_arguments(component: object) -> Sequence[str]:
    """Return the names of the arguments of a class; none of what has no signature."""
    if not inspect.isclass(component):
        return ()
    try:
        return tuple(inspect.signature(component).parameters)
    except ValueError:  # built in
        return ()


def check_options_of(prefix: str, component: object, given: Collection[str]) -> None:
    """Raise unless a component is a class, another callable or 'auto', and takes such options.

    Parameters
    ----------
    prefix : str
        The name of the component.
    component : object
        What it is.
    given : collection of str
        Names of its options, without the prefix.
    """
    if not callable(component) and component != "auto":
        raise TypeError(
            f"{prefix} must be a class or another callable; got {component!r}. Give the class "
            f"itself, such as {_EXAMPLES.get(prefix, 'torch.optim.Adam')}."
        )
    if prefix in MODULES and inspect.isclass(component) and not issubclass(component, nn.Module):
        raise TypeError(
            f"{prefix} must be a class of torch.nn.Module; got {component!r}. Derive it from that."
        )
    given = {name for name in given if "__" not in name}
    target = type(component) if isinstance(component, nn.Module) else component
    if not given or not inspect.isclass(target):
        return
    parameters = inspect.signature(target).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = {f"{prefix}__{p.name}" for p in parameters} | {f"{prefix}__param_groups"}
        check_names(target.__name__, {f"{prefix}__{name}" for name in given}, known)


def check_module(name: str, module: object) -> None:
    """Raise unless what was built is a module."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"{name} must give a torch.nn.Module; got {module!r}. Return one, or give its class.")


def refuse_arrays(options: Mapping[str, object]) -> None:
    """Raise if an option is an array, which is neither true nor equal to anything; `classes` may be one."""
    for name, value in options.items():
        if name != "classes" and isinstance(value, np.ndarray | Tensor):
            raise TypeError(f"{name} must be no array; got {value!r}. Its documentation says what it may be.")


class SharedOptions(Protocol):
    """Options that all estimators have."""

    lr: float
    compile: bool
    verbose: int
    torch_load_kwargs: dict[str, object] | None


def check_shared_options(options: SharedOptions) -> None:
    """Raise if an option that all estimators have breaks its rule."""
    hint = "Use 1e-3 for Adam, say; at 0 nothing would be learned."
    check_real("lr", options.lr, low=0.0, high=sys.float_info.max, above=True, hint=hint)
    check_bool("compile", options.compile, hint="Use True to train by torch.compile.")
    if not isinstance(options.verbose, Integral | np.bool_):
        raise TypeError(f"verbose must be an integer; got {options.verbose!r}. Use 1 to print each epoch.")
    if not isinstance(options.torch_load_kwargs, Mapping | None):
        raise TypeError(
            f"torch_load_kwargs must be a dict or None; got {options.torch_load_kwargs!r}. Give options of "
            "torch.load by name."
        )


def copy_module(module: nn.Module) -> nn.Module:
    """Return a copy of a module, to be trained; of a scripted one too."""
    with torch.no_grad():  # else the weights of a scripted one would be results of a computation
        copied = copy.deepcopy(module)
    for weight, given in zip(copied.parameters(), module.parameters(), strict=True):
        weight.requires_grad = given.requires_grad
    return copied


@contextmanager
def explaining_refusal(optimizer: object, options: Mapping[str, object]) -> Iterator[None]:
    """Say which optimizer refuses what where one is built inside."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"optimizer must take the module's parameters and its options; got {options}, which "
            f"{getattr(optimizer, '__name__', optimizer)} refuses: {error}. Change what it names."
        ) from error


def check_smoothing(label_smoothing: object) -> None:
    """Raise unless the smoothing of labels is a share."""
    check_real("label_smoothing", label_smoothing, low=0.0, high=1.0, hint="Use 0 for hard labels.")


def check_one_smoothing(own: Mapping[str, object], given: Mapping[str, object]) -> None:
    """Raise if the options of a criterion smooth labels otherwise than `label_smoothing` does."""
    name, share = "label_smoothing", own.get("label_smoothing")
    if share is not None and given.get(name, share) != share:
        raise ValueError(
            f"criterion__label_smoothing must not differ from label_smoothing; got {given[name]!r} beside "
            f"{share!r}. Remove one of them."
        )


def check_sizes_known(module: object, kwargs: Mapping[str, object]) -> None:
    """Raise if a class of modules needs sizes that no data has told."""
    if not inspect.isclass(module):
        return
    parameters = inspect.signature(module).parameters
    needed = [key for key in ("in_features", "out_features") if key in parameters and key not in kwargs]
    missing = [f"module__{key}" for key in needed if parameters[key].default is inspect.Parameter.empty]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} must be given to initialize without data, or with X that is no one "
            "array; got none. Call fit, load_params on a safetensors file, or set them."
        )
