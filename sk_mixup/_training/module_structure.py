"""What a module is made of: a plain multilayer perceptron, hooks, what two modules share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from torch import nn
from torch.nn.modules import module as _module

from sk_mixup._training.values import Values, describe_tensor_kind
from sk_mixup.modules import MLP

__all__ = [
    "describe_attributes",
    "describe_module",
    "find_levels",
    "find_linear_layers",
    "is_hooked",
    "iterate_parts",
]


def iterate_parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and all inside, as ``modules`` does, but the faster for not asking which are shared."""
    left = [module]
    while left:
        part = left.pop()
        yield part
        left.extend([inside for inside in reversed(part._modules.values()) if inside is not None])


def find_linear_layers(module: nn.Module, ndim: int = 2) -> list[nn.Linear] | None:
    """Return the linear layers of a plain multilayer perceptron, or None for another module.

    It is an :class:`MLP` or an ``nn.Sequential`` of linear layers with a ReLU between each two, after an
    ``nn.Flatten`` that is optional for a batch of two axes, in which no layer is shared or hooked and all
    weights are trained.

    Examples
    --------
    >>> from torch import nn
    >>> from sk_mixup._training.module_structure import find_linear_layers
    >>> from sk_mixup.modules import MLP
    >>> [layer.out_features for layer in find_linear_layers(MLP(4, 3))]
    [128, 128, 3]
    >>> find_linear_layers(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))) is None
    True
    """
    container = module.layers if type(module) is MLP else module
    if type(container) is not nn.Sequential:
        return None
    parts = list(container)
    kinds = [type(part) for part in parts]
    flattens = kinds[:1] == [nn.Flatten]
    n_layers = kinds.count(nn.Linear)
    expected = [nn.Flatten] * flattens + [nn.Linear, nn.ReLU] * (n_layers - 1) + [nn.Linear]
    if n_layers == 0 or kinds != expected or (ndim != 2 and not flattens):
        return None
    first = parts[0]
    if isinstance(first, nn.Flatten) and (first.start_dim != 1 or first.end_dim != -1):
        return None
    layers = [part for part in parts if isinstance(part, nn.Linear)]
    weights = [p for layer in layers for p in layer._parameters.values() if p is not None]
    places = {p.data_ptr() for p in weights if p.numel()}
    if len(places) < sum(p.numel() > 0 for p in weights) or any(map(is_hooked, {module, container, *parts})):
        return None
    return layers if all(map(_is_trained, weights)) else None


def find_levels(module: nn.Module) -> dict[str, int]:
    """Return the number of each ReLU, from 1, by its name, where :func:`find_linear_layers` finds layers.

    Where one is used twice there are none: what is mixed at a layer is mixed in one call of it.

    Examples
    --------
    >>> from sk_mixup._training.module_structure import find_levels
    >>> from sk_mixup.modules import MLP
    >>> find_levels(MLP(4, 3))
    {'layers.2': 1, 'layers.4': 2}
    """
    found = [each for each in module.named_modules(remove_duplicate=False) if type(each[1]) is nn.ReLU]
    if len(set(map(id, dict(found).values()))) < len(found):
        return {}
    return {name: level for level, (name, _) in enumerate(found, 1)}


def _is_trained(weight: nn.Parameter) -> bool:
    """Whether a weight is trained, and nothing looks on."""
    hooks = (weight._backward_hooks, weight._post_accumulate_grad_hooks)
    return (
        type(weight) is nn.Parameter
        and weight.requires_grad
        and weight.is_floating_point()
        and not any(hooks)
    )


def is_hooked(module: nn.Module) -> bool:
    """Whether a call of the module does more than its class's ``forward``."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or module._compiled_call_impl
        or "forward" in vars(module)
        or _module._global_forward_hooks
        or _module._global_forward_pre_hooks
        or _module._global_backward_hooks
        or _module._global_backward_pre_hooks
    )


OWN_NAMES = frozenset(vars(nn.Module())) - {"training"}


def describe_module(module: nn.Module) -> Hashable:
    """Return what two modules share that compute the same but for their weights.

    Types, options, shapes and sharing of all submodules, parameters and buffers. A TypeError says what
    is hooked, recurrent or cannot be compared.
    """
    first: dict[int, str] = {}
    places: dict[int, int] = {}
    parts: list[Hashable] = []
    for name, part in module.named_modules(remove_duplicate=False):
        if is_hooked(part):
            raise TypeError(f"{name or 'the module'} has hooks")
        if isinstance(part, nn.RNNBase):  # which holds its weights in a list, too
            raise TypeError(f"{name or 'the module'} is recurrent, a {type(part).__name__}")
        parts.append((first.setdefault(id(part), name), type(part)))
    for name, tensor in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        if isinstance(tensor, nn.Parameter) and (
            tensor._backward_hooks or tensor._post_accumulate_grad_hooks
        ):
            raise TypeError(f"{name} has hooks")
        if tensor.numel() and places.setdefault(tensor.data_ptr(), id(tensor)) != id(tensor):
            raise TypeError(f"{name} lies where another weight or buffer does")
        parts.append((name, first.setdefault(id(tensor), name), describe_tensor_kind(tensor)))
    return (*parts, describe_attributes(module))


def describe_attributes(
    module: nn.Module, is_left_out: Callable[[nn.Module], bool] = lambda part: False
) -> Hashable:
    """Return the plain attributes of a module and its submodules; see :func:`describe_module`.

    Submodules that `is_left_out` names are not looked at.
    """
    values, parts = Values(module), []
    for name, part in module.named_modules():
        if not is_left_out(part):
            own = {key: value for key, value in vars(part).items() if key not in OWN_NAMES}
            parts.append((name, *((key, values.describe(f"{name}.{key}", own[key])) for key in sorted(own))))
    return tuple(parts)
