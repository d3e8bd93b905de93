"""Options of an estimator: stored by the constructor, checked by fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
import inspect
from typing import Protocol

from skorch.utils import is_dataset
import torch
from torch import nn

from sk_mixup._validation import (
    check_bool,
    check_choice,
    check_integer,
    check_names,
    check_real,
    did_you_mean,
)

__all__ = [
    "cast_weights",
    "check_fit_options",
    "check_known",
    "check_options_of",
    "check_prefixes",
    "check_schedule",
    "check_sizes_known",
    "check_smoothing",
    "explaining_refusal",
    "list_options",
    "store_options",
]

# Criteria of torch's whose weights must be tensors of the dtype of the output.
WEIGHTED = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss, nn.BCELoss, nn.BCEWithLogitsLoss)
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
    "momentum": "optimizer__momentum",
    "nesterov": "optimizer__nesterov",
    "solver": "optimizer",
    "activation": "module",
    "loss": "criterion",
    "loss_fn": "criterion",
    "seed": "random_state",
    "patience": "n_iter_no_change",
    "shuffle": "iterator_train__shuffle",
    "num_workers": "iterator_train__num_workers",
}


class FitOptions(Protocol):
    """The options of a fit that mixing does not share."""

    early_stopping: bool
    n_iter_no_change: int
    validation_fraction: float
    warm_start: bool
    lr: float
    compile: bool
    criterion: object
    train_split: object
    predict_nonlinearity: object
    dataset: object


def check_fit_options(options: FitOptions) -> None:
    """Raise if an option of a fit breaks its rule; the message names it."""
    check_bool("early_stopping", options.early_stopping, hint="Use True to hold out rows and stop by them.")
    check_integer("n_iter_no_change", options.n_iter_no_change, low=1, hint="Use 10, say.")
    check_bool("warm_start", options.warm_start, hint="Use True to go on from the last fit.")
    hint = "Give the share of the training rows to hold out."
    limits = {"low": 0.0, "high": 1.0}
    fraction = options.validation_fraction
    check_real("validation_fraction", fraction, **limits, above=True, below=True, hint=hint)
    check_real("lr", options.lr, low=0.0, hint="Use 1e-3 for Adam, say.")
    check_bool("compile", options.compile, hint="Use True to train by torch.compile.")
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


def check_schedule(warmup_epochs: int, cooldown_epochs: int, max_epochs: int) -> None:
    """Raise if there are more epochs without mixing than epochs."""
    plain = warmup_epochs + cooldown_epochs
    if plain > max_epochs:
        raise ValueError(
            f"warmup_epochs + cooldown_epochs must be at most max_epochs; got {plain} for max_epochs="
            f"{max_epochs}. Raise max_epochs."
        )


def check_known(owner: type, name: str, known: Collection[str], stored: Mapping[str, object]) -> None:
    """Raise if an option to be set is none of the estimator's, or of a callback that was removed.

    Parameters
    ----------
    owner : type
        The estimator, for the error.
    name : str
        What is to be set.
    known : collection of str
        The options it has.
    stored : mapping of str to object
        What it stores, by name.
    """
    if name not in known and "__" not in name:
        raise ValueError(
            f"Invalid parameter {name!r} for estimator {owner.__name__}. "
            f"{did_you_mean(name, known)} Valid parameters are: {sorted(known)}."
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
        meant = _find_meant(name, components)
        if meant:
            raise ValueError(
                f"{name} must be an option of {owner.__name__}; got an unknown name. Did you mean {meant!r}?"
            )
        check_names(owner.__name__, [name], known)


def _find_meant(name: str, components: Mapping[str, object]) -> str:
    """Return the option that a name is of, of a component or by a name from elsewhere; '' for none."""
    for prefix, component in components.items():
        if inspect.isclass(component) and name in inspect.signature(component).parameters:
            return f"{prefix}__{name}"
    return _ELSEWHERE.get(name, "")


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
    given = {name for name in given if "__" not in name}
    target = type(component) if isinstance(component, nn.Module) else component
    if not given or not inspect.isclass(target):
        return
    parameters = inspect.signature(target).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = {f"{prefix}__{p.name}" for p in parameters} | {f"{prefix}__param_groups"}
        check_names(target.__name__, {f"{prefix}__{name}" for name in given}, known)


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


def cast_weights(criterion: object, options: Mapping[str, object], dtype: torch.dtype) -> dict[str, object]:
    """Return options of a criterion, with weights of classes as the tensors that torch's losses take."""
    if not inspect.isclass(criterion) or not issubclass(criterion, WEIGHTED):
        return dict(options)
    given = {key: options[key] for key in ("weight", "pos_weight") if options.get(key) is not None}
    return {**options, **{key: torch.as_tensor(value, dtype=dtype) for key, value in given.items()}}


def check_smoothing(label_smoothing: object) -> None:
    """Raise unless the smoothing of labels is a share."""
    check_real("label_smoothing", label_smoothing, low=0.0, high=1.0, hint="Use 0 for hard labels.")


def check_sizes_known(module: object, kwargs: Mapping[str, object]) -> None:
    """Raise if a class of modules needs sizes that no data has told."""
    if not inspect.isclass(module):
        return
    parameters = inspect.signature(module).parameters
    if "in_features" not in parameters or parameters["in_features"].default is not inspect.Parameter.empty:
        return
    missing = [f"module__{key}" for key in ("in_features", "out_features") if key not in kwargs]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} must be given to initialize without data; got none. Call fit, "
            "load_params on a safetensors file, or set them."
        )
