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


def _copy(tensor: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    return torch.ops.aten.copy_(tensor, source, non_blocking)


class _PlainIndexing(TorchFunctionMode):
    """Slices by operations: the Python side of ``x[...]`` looks for the real device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__ and args[0].device.type == "cuda":
            return _index(*args)
        if func is Tensor.__setitem__ and args[0].device.type == "cuda":
            return _copy(_index(*args[:2]), args[2])
        return func(*args, **(kwargs or {}))


def _index(x: Tensor, index: Any) -> Tensor:
    axis = 0
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, int):
            x = torch.ops.aten.select(x, axis, part)
            continue
        if isinstance(part, slice):
            x = torch.ops.aten.slice(x, axis, part.start, part.stop)
        else:
            x = torch.ops.aten.index(x, [None] * axis + [part])
        axis += 1
    return x


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    """Give tensors on "cuda" shapes and no numbers; what mixes devices raises or is noted."""
    monkeypatch.setattr(Tensor, "copy_", _copy)  # it looks for the real device, too
    with FakeTensorMode(allow_non_fake_inputs=True), _PlainIndexing(), Waiting() as waiting:
        yield waiting


# -- CUDA graphs -------------------------------------------------------------------------


class _Recording(TorchDispatchMode):
    """Runs operations and notes them; keeps what was in the memory that they were given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in get_tensors(args, kwargs):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.before:
                self.before[storage.data_ptr()] = (storage, storage.clone())
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out


class EmulatedGraph:
    """What ``torch.cuda.CUDAGraph`` is to a device: records operations, and does them again."""

    n_captures = 0
    n_replays = 0

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        type(self).n_captures += 1
        self.capture_error_mode = capture_error_mode
        self.state = torch.get_rng_state()
        self.recording = _Recording()
        self.recording.__enter__()

    def capture_end(self) -> None:
        """Undo all: recording a graph computes nothing."""
        self.recording.__exit__(None, None, None)
        torch.set_rng_state(self.state)
        for storage, before in self.recording.before.values():
            storage.copy_(before)

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

    def __init__(self, device: Any) -> None:
        self.device = device

    def wait_stream(self, stream: Any) -> None:
        pass


def emulate_graphs(monkeypatch: pytest.MonkeyPatch) -> type[EmulatedGraph]:
    """Put graphs and streams of the CPU in the place of CUDA's; return the class that counts."""
    counted = type("Counted", (EmulatedGraph,), {"n_captures": 0, "n_replays": 0})
    monkeypatch.setattr(torch.cuda, "CUDAGraph", counted)
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    return counted
