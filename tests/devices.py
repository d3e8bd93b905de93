"""Stand-ins for a CUDA device on the CPU: what would wait for it, what it would refuse, its graphs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operations whose result the host must have before it can go on. In inference mode the
# first ones come as they were called, else as `_local_scalar_dense`.
READING = {
    "item",
    "is_nonzero",
    "equal",
    "allclose",
    "_local_scalar_dense",
    "nonzero",
    "nonzero_numpy",
    "argwhere",
    "masked_select",
    "unique",
    "_unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
MASKS = (torch.bool, torch.uint8)


def get_tensors(*trees: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(trees) if isinstance(leaf, Tensor)]


class Waiting(TorchDispatchMode):
    """Notes all operations, and those for which the host would wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.seen.append(str(func))
        if self.is_waiting(func.overloadpacket.__name__, args, kwargs, out):
            self.waits.append(str(func))
        return out

    def is_waiting(self, name: str, args: Any, kwargs: Any, out: Any) -> bool:
        if name in READING or (name == "where" and len(args) == 1):
            return True
        if name in INDEXING and any(index.dtype in MASKS for index in get_tensors(args[1])):
            return True
        # A number may lie on the host; `_to_copy` and `copy_` are between devices if anything is.
        moved = [t for t in get_tensors(args, kwargs) if t.ndim] + get_tensors(out)
        return len({tensor.device.type for tensor in moved}) > 1


class _PlainOps(TorchFunctionMode):
    """Calls operations whose Python side looks for the real device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.copy_:
            return torch.ops.aten.copy_(*args, **(kwargs or {}))
        if func is Tensor.__getitem__ and args[0].device.type == "cuda":
            return _index(*args)
        return func(*args, **(kwargs or {}))


def _index(x: Tensor, index: Any) -> Tensor:
    for axis, part in enumerate(index if isinstance(index, tuple) else (index,)):
        if isinstance(part, slice):
            x = torch.ops.aten.slice(x, axis, part.start, part.stop)
        else:
            x = torch.ops.aten.index(x, [None] * axis + [part])
    return x


@contextmanager
def fake_cuda() -> Iterator[Waiting]:
    """Give tensors on "cuda" shapes and no numbers; what mixes devices raises or is noted."""
    with FakeTensorMode(allow_non_fake_inputs=True), _PlainOps(), Waiting() as waiting:
        yield waiting


# -- CUDA graphs -------------------------------------------------------------------------


class _Recording(TorchDispatchMode):
    """Runs operations and notes them; keeps what each tensor was before it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in get_tensors(args, kwargs):
            self.keep(tensor)
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out

    def keep(self, tensor: Tensor) -> None:
        if tensor.data_ptr() and tensor.data_ptr() not in self.before:
            self.before[tensor.data_ptr()] = (tensor, tensor.detach().clone())


class EmulatedGraph:
    """What ``torch.cuda.CUDAGraph`` is to a device: records operations, and does them again."""

    n_captures = 0
    n_replays = 0

    def capture_begin(self) -> None:
        type(self).n_captures += 1
        self.state = torch.get_rng_state()
        self.recording = _Recording()
        self.recording.__enter__()

    def capture_end(self) -> None:
        """Undo all: recording a graph computes nothing."""
        self.recording.__exit__(None, None, None)
        torch.set_rng_state(self.state)
        with torch.no_grad():
            for tensor, value in reversed(list(self.recording.before.values())):
                tensor.detach().copy_(value)

    def replay(self) -> None:
        """Do the operations again, into the tensors of the recording."""
        type(self).n_replays += 1
        for func, args, kwargs, out in self.recording.calls:
            with torch.no_grad():
                again = func(*args, **kwargs)
                for old, new in zip(get_tensors(out), get_tensors(again), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.detach().copy_(new)


class _Stream:
    """A stream that is always idle."""

    def wait_stream(self, stream: Any) -> None:
        pass


def emulate_graphs(monkeypatch: pytest.MonkeyPatch) -> type[EmulatedGraph]:
    """Put graphs and streams of the CPU in the place of CUDA's; return the class that counts."""
    counted = type("Counted", (EmulatedGraph,), {})
    monkeypatch.setattr(torch.cuda, "CUDAGraph", counted)
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    return counted
