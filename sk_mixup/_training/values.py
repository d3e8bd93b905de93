"""What a module holds beside its weights, as something that is equal where it does the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
import copyreg
from enum import Enum
import hashlib
import logging
from types import BuiltinFunctionType, FunctionType

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Values", "describe_tensor_kind"]

# Compared as they are; others are taken apart.
PLAIN_TYPES = frozenset({bool, int, str, bytes, type(None), type(Ellipsis)})
SAME_TYPES = (type, Enum, BuiltinFunctionType, logging.Logger)
TORCH_TYPES = (torch.dtype, torch.device, torch.memory_format, torch.layout)


class _UnknownError(TypeError):
    """Says why a value cannot be described."""


def describe_tensor_kind(tensor: Tensor) -> tuple[Hashable, ...]:
    """Return all of a tensor but its values."""
    shape, strides = tuple(tensor.shape), tensor.stride()
    return type(tensor), shape, tensor.dtype, tensor.device, tensor.requires_grad, strides


class Values:
    """Describes what a module and its submodules hold: descriptions are equal only if values do the same.

    A value is taken apart, as ``copy`` and ``pickle`` do it, down to plain values, arrays and tensors. A
    submodule is described by its name. What no description or no copy does justice to raises a
    TypeError: a generator, or a weight of the module in a list.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.path: list[object] = []  # what is being taken apart

    def describe(self, name: str, value: object) -> Hashable:
        """Return a description of an attribute."""
        try:
            return self._describe(value)
        except Exception as error:  # of whatever the user's classes raise
            why = str(error) if isinstance(error, _UnknownError) else "cannot be compared"
            raise TypeError(
                f"{name.removeprefix('.')} is a {type(value).__name__}, which {why}; make it in forward, or "
                "keep it out of the module"
            ) from error

    def _describe(self, value: object) -> Hashable:
        if type(value) in PLAIN_TYPES or isinstance(value, TORCH_TYPES + SAME_TYPES):
            return type(value), value
        if type(value) in (float, complex):
            return type(value), repr(value)  # 0.0 equals -0.0
        if isinstance(value, nn.Module) and (name := self._find_name(value)) is not None:
            return "module", name
        if any(value is other for other in self.path):
            raise _UnknownError("holds itself")
        self.path.append(value)
        try:
            return type(value), *self._take_apart(value)
        finally:
            self.path.pop()

    def _find_name(self, module: nn.Module) -> str | None:
        name = next((name for name, part in self.module.named_modules() if part is module), None)
        if name is not None and any(isinstance(value, FunctionType) for value in self.path):
            raise _UnknownError("is bound to a module, where a copy has another")
        return name

    def _take_apart(self, value: object) -> Iterable[Hashable]:
        if isinstance(value, Tensor):
            return self._describe_tensor(value)
        if type(value) is np.ndarray and not value.dtype.hasobject:
            self._check_is_own(
                value.__array_interface__["data"][0], value.shape, value.strides, value.itemsize
            )
            return value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).digest()
        if type(value) in (list, tuple, torch.Size):
            return map(self._describe, value)  # type: ignore[call-overload]
        if type(value) is dict:
            return ((self._describe(key), self._describe(item)) for key, item in value.items())
        if type(value) in (set, frozenset):
            return (frozenset(Counter(map(self._describe, value)).items()),)  # type: ignore[call-overload]
        if isinstance(value, FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            held = [value.__defaults__, value.__kwdefaults__, vars(value), *cells]
            return value.__code__, id(value.__globals__), self._describe(held)
        return self._describe_object(value)

    def _describe_tensor(self, value: Tensor) -> Iterable[Hashable]:
        if value.requires_grad:
            raise _UnknownError("is trained, or holds what is trained, and is not registered")
        size = value.element_size()
        self._check_is_own(value.data_ptr(), value.shape, [n * size for n in value.stride()], size)
        content = value.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
        digest = hashlib.sha256(content.numpy().tobytes()).digest()
        return *describe_tensor_kind(value), self._describe(vars(value)), digest

    def _check_is_own(self, start: int, shape: Sequence[int], strides: Sequence[int], size: int) -> None:
        """Raise if an array lies where a weight or buffer does: it changes as the net is trained."""
        if 0 in shape:
            return
        reach = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
        low, high = start + sum(min(n, 0) for n in reach), start + sum(max(n, 0) for n in reach) + size
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            storage = tensor.untyped_storage()
            if low < storage.data_ptr() + storage.nbytes() and storage.data_ptr() < high:
                raise _UnknownError("holds a weight or buffer of the module, where a copy has another")

    def _describe_object(self, value: object) -> Iterable[Hashable]:
        reduce = copyreg.dispatch_table.get(type(value))
        parts = value.__reduce_ex__(4) if reduce is None else reduce(value)
        if isinstance(parts, str):
            return (id(value),)  # of something global
        made, args, *rest = (*parts, *[None] * 5)[:5]
        state, *items = rest
        own = dict(getattr(value, "__dict__", {}))  # which a class may leave out of what it pickles
        held = [made, list(args), state, *(list(part or ()) for part in items), own]
        return (self._describe(held),)
