"""The state of an estimator as plain values and arrays, of which loading runs no code: what skops writes.

Pickles and copies hold the whole object, as those of skorch do. They ask for it by ``__reduce_ex__``;
skops asks for ``__getstate__`` alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import fields
from functools import singledispatch
import inspect
import json
from typing import Any, cast

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History
from skorch.utils import get_map_location
import torch
from torch import Tensor, nn

from sk_mixup.estimators._options import copy_module
from sk_mixup.estimators._semi_supervised_step import AveragedWeights
from sk_mixup.estimators._targets import Targets

__all__ = [
    "describe",
    "describe_net",
    "is_whole",
    "load_parts",
    "reduce_whole",
    "restore",
    "restore_net",
    "takes_whole",
]

# What a fit keeps for its own end.
OF_A_FIT = ("_before", "_fit_loaders", "_held_out")
REBUILT = (
    *OF_A_FIT,
    "_criteria",
    "_modules",
    "_optimizers",
    "callbacks_",
    "cuda_dependent_attributes_",
    "init_context_",
    "initialized_",
    "prefixes_",
    "virtual_params_",
)
TRIMMED = "_trimmed_for_prediction"
# Stands beside what tells of an object that is not plain: of which kind it is.
KIND = "sk_mixup"
UNPICKLED = "_unpickled"
_asked_for_whole: ContextVar[bool] = ContextVar("asked_for_whole", default=False)
# Of the parameters of a state that is being written, or read.
_numbers: ContextVar[dict[int, int]] = ContextVar("numbers")
_made: ContextVar[dict[int, nn.Parameter]] = ContextVar("made")


# -- whole or plain ----------------------------------------------------------------------


def reduce_whole(estimator: object) -> tuple[Callable[[type], object], tuple[type], object]:
    """Return what pickle and copy make an estimator of: all that it has."""
    token = _asked_for_whole.set(True)
    try:
        return _make_empty, (type(estimator),), estimator.__getstate__()
    finally:
        _asked_for_whole.reset(token)


def _make_empty(owner: type) -> object:
    estimator: object = object.__new__(owner)
    vars(estimator)[UNPICKLED] = True
    return estimator


def is_whole() -> bool:
    """Whether the state is for a pickle or a copy."""
    return _asked_for_whole.get()


def takes_whole(estimator: object) -> bool:
    """Whether a state that an empty estimator is given comes from a pickle or a copy."""
    return bool(vars(estimator).pop(UNPICKLED, False))


# -- an estimator ------------------------------------------------------------------------


def describe(
    estimator: object, base: type, parts: Collection[str], rebuilt: Collection[str] = ()
) -> dict[str, object]:
    """Return the plain state of an estimator.

    Parameters
    ----------
    estimator : object
        Fitted or not.
    base : type
        Ancestor from which on constructors have no options.
    parts : collection of str
        Names of modules, optimizers and the like, of which only the ``state_dict`` is kept.
    rebuilt : collection of str
        Names of attributes that follow from the others.

    Returns
    -------
    state : dict
        Options that are the default are left out, and so need not be trusted.
    """
    attributes, left = vars(estimator), {*parts, *rebuilt}
    kept = _leave_out_defaults(attributes, _find_defaults(type(estimator), base))
    kept = {name: value for name, value in kept.items() if name not in left}
    built = {name: attributes[name] for name in parts if hasattr(attributes.get(name), "state_dict")}
    token = _numbers.set({})
    try:
        return {
            "attributes": _encode(kept),
            "parts": _encode({name: part.state_dict() for name, part in built.items()}),
        }
    finally:
        _numbers.reset(token)


def restore(estimator: object, base: type, state: Mapping[str, object]) -> dict[str, object]:
    """Give an empty estimator its attributes; return the states of its parts, none if it has none.

    Raises
    ------
    ValueError
        If it is no plain state, such as one with pickled bytes, which may run any code.
    """
    if state.keys() != {"attributes", "parts"}:
        raise ValueError(
            f"state must hold the attributes and the parts of a {type(estimator).__name__}; got "
            f"{sorted(state)}. Save the estimator anew."
        )
    token = _made.set({})
    try:
        attributes, parts = (
            cast(dict[str, object], _decode(state[name])) for name in ("attributes", "parts")
        )
    finally:
        _made.reset(token)
    vars(estimator).update(_find_defaults(type(estimator), base) | attributes)
    device = cast(str | torch.device | None, vars(estimator)["device"])
    location = get_map_location(device)  # warns where there is none such
    if device is not None and torch.device(device).type != location.type:
        vars(estimator)["device"] = location.type
    return parts


def describe_net(net: NeuralNet, base: type) -> dict[str, object]:
    """Return the plain state of a skorch net."""
    parts = [f"{name}_" for name in (*net._modules, *net._criteria, *net._optimizers)]
    return describe(net, base, [*parts, "scaler_"], REBUILT)


def restore_net(net: NeuralNet, base: type, state: Mapping[str, object]) -> None:
    """Make a skorch net of an empty one and a plain state."""
    states = restore(net, base, state)
    if not states:
        return
    kept = dict(vars(net))
    # Weights, seeds and history are those of the state, whatever is drawn and begun here.
    vars(net).update({"random_state": 0, "history_": None})
    if isinstance(kept["module"], nn.Module):  # which is where a fit starts, not what it trains
        vars(net)["module"] = copy_module(kept["module"])
    is_trimmed = vars(net).pop(TRIMMED, False)
    if is_trimmed:  # options are gone without which nothing is built
        defaults = _find_defaults(type(net), base)
        vars(net).update({name: value for name, value in defaults.items() if kept[name] is None})
    net.initialize()
    load_parts(net, states)
    if is_trimmed:
        net.trim_for_prediction()
    vars(net).update(kept)
    net._set_training(False)


def load_parts(estimator: object, states: Mapping[str, object]) -> None:
    """Load the states of parts that were built anew."""
    for name, state in states.items():
        getattr(estimator, name).load_state_dict(state)


def _find_defaults(owner: type, base: type) -> dict[str, object]:
    """Return the defaults of the constructors of a class, up to that of `base`."""
    defaults: dict[str, object] = {}
    for ancestor in reversed(owner.__mro__[: owner.__mro__.index(base)]):
        if "__init__" in vars(ancestor):
            parameters = inspect.signature(ancestor).parameters.values()
            defaults |= {p.name: p.default for p in parameters if p.default is not p.empty}
    return defaults


def _leave_out_defaults(
    attributes: Mapping[str, object], defaults: Mapping[str, object]
) -> dict[str, object]:
    return {
        name: value
        for name, value in attributes.items()
        if name not in defaults or value is not defaults[name]
    }


# -- what is not plain -------------------------------------------------------------------


@singledispatch
def _encode(value: object) -> object:
    """Return a value with plain ones in the place of ours and torch's objects."""
    return value


@_encode.register(dict)
@_encode.register(OrderedDict)
def _encode_dict(value: dict[object, object]) -> object:
    return {key: _encode(item) for key, item in value.items()}


@_encode.register(list)
def _encode_list(value: list[object]) -> object:
    return [_encode(item) for item in value]


@_encode.register(tuple)
def _encode_tuple(value: tuple[object, ...]) -> object:
    return tuple(_encode(item) for item in value)


@_encode.register(History)
def _encode_history(value: History) -> object:
    try:  # as text, which takes a hundredth of the room of a file for each number
        epochs: object = json.dumps(list(value), default=_get_item)
    except TypeError:
        epochs = _encode(list(value))
    return {KIND: "history", "epochs": epochs}


def _get_item(value: object) -> object:
    """Return a scalar of numpy as Python's own, or raise."""
    if not isinstance(value, np.generic):
        raise TypeError(f"history must hold numbers and strings to be written as text; got {value!r}.")
    return value.item()


@_encode.register(Tensor)
def _encode_tensor(value: Tensor) -> object:
    dtype, value = str(value.dtype).removeprefix("torch."), value.detach().cpu()
    try:
        values = value.numpy()
    except TypeError:  # numpy has no such dtype
        values = value.view({1: torch.int8, 2: torch.int16}[value.itemsize]).numpy()
    return {KIND: "tensor", "dtype": dtype, "values": values.copy()}


@_encode.register(nn.Parameter)
def _encode_parameter(value: nn.Parameter) -> object:
    numbers = _numbers.get()
    is_known = id(value) in numbers  # a weight that stands in two places is one
    number = numbers.setdefault(id(value), len(numbers))
    if is_known:
        return {KIND: "shared", "number": number}
    own = {"tensor": _encode_tensor(value), "requires_grad": value.requires_grad, "number": number}
    return {KIND: "parameter", **own}


@_encode.register(nn.Module)
def _encode_module(value: nn.Module) -> object:
    return {KIND: "module", "owner": type(value), "attributes": _encode(dict(vars(value)))}


@_encode.register(Callback)
def _encode_callback(value: Callback) -> object:
    own = _leave_out_defaults(vars(value), _find_defaults(type(value), Callback))
    # What ends in an underscore was learned in training, and is learned anew.
    own = {name: item for name, item in own.items() if not name.endswith("_")}
    return {KIND: "callback", "owner": type(value), "attributes": _encode(own)}


@_encode.register(Targets)
def _encode_targets(value: Targets) -> object:
    return {KIND: "targets", "name": type(value).__name__} | {
        field.name: getattr(value, field.name) for field in fields(value)
    }


@_encode.register(AveragedWeights)
def _encode_averages(value: AveragedWeights) -> object:
    return {KIND: "averages", "others": _encode(value.others), "n_steps": value.n_steps}


def _decode(value: object) -> object:
    """Return what :func:`_encode` was given."""
    if type(value) in (list, tuple):
        return type(value)(map(_decode, cast(list[object], value)))  # type: ignore[call-arg]
    if type(value) is not dict:
        return value
    items = {key: _decode(item) for key, item in value.items()}
    kind = items.pop(KIND, None)
    return items if kind is None else DECODERS[cast(str, kind)](**items)


def _decode_tensor(dtype: str, values: np.ndarray) -> Tensor:
    wanted, tensor = getattr(torch, dtype), torch.from_numpy(np.array(values))
    return tensor if tensor.dtype == wanted else tensor.view(wanted)


def _decode_parameter(tensor: Tensor, requires_grad: bool, number: int) -> nn.Parameter:
    return _made.get().setdefault(number, nn.Parameter(tensor, requires_grad))


def _decode_shared(number: int) -> nn.Parameter:
    return _made.get()[number]


def _decode_history(epochs: str | list[object]) -> History:
    return History(json.loads(epochs) if isinstance(epochs, str) else epochs)


def _decode_module(owner: type[nn.Module], attributes: dict[str, object]) -> nn.Module:
    module: nn.Module = _make(owner, nn.Module)
    module.__setstate__(attributes)  # type: ignore[no-untyped-call]
    return module


def _decode_callback(owner: type[Callback], attributes: dict[str, object]) -> Callback:
    callback: Callback = _make(owner, Callback)
    vars(callback).update({**_find_defaults(owner, Callback), **attributes})
    return callback


def _make(owner: type, base: type) -> Any:
    """Return an empty object of a class that a file names, if it is of the kind that it is named for."""
    if not issubclass(owner, base):
        raise TypeError(f"state must name a {base.__name__}; got {owner!r}. Do not trust the file.")
    return object.__new__(owner)


def _decode_targets(name: str, **values: object) -> Targets:
    known = {kind.__name__: kind for kind in _list_subclasses(Targets)}
    targets: Targets = known[name](**values)
    return targets


def _decode_averages(others: list[Tensor], n_steps: int) -> AveragedWeights:
    averages = AveragedWeights(nn.Module())
    averages.others, averages.n_steps = others, n_steps
    return averages


DECODERS: Mapping[str, Callable[..., object]] = {
    "averages": _decode_averages,
    "callback": _decode_callback,
    "history": _decode_history,
    "module": _decode_module,
    "parameter": _decode_parameter,
    "shared": _decode_shared,
    "targets": _decode_targets,
    "tensor": _decode_tensor,
}


def _list_subclasses(kind: type) -> Iterator[type]:
    children: list[type] = kind.__subclasses__()
    yield from children
    for child in children:
        yield from _list_subclasses(child)
