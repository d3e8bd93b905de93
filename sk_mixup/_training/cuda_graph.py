"""Training steps that are recorded as CUDA graphs, once for as long as they stay the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
import threading
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sk_mixup._training.optimizer_step import is_plain_step
from sk_mixup._training.values import describe_tensor_kind

__all__ = [
    "RECORDING",
    "GraphedStep",
    "check_recordable",
    "check_stack_recordable",
    "choose_group_size",
    "recordable",
]

# Held while a step runs on the stream of recordings, which all nets of a device share.
RECORDING = threading.RLock()
_STREAMS: dict[torch.device, torch.cuda.Stream] = {}
# Operations whose result the host waits for; a recording would keep what it was.
READING = {
    f"aten::{name}"
    for name in (
        *("_local_scalar_dense", "allclose", "argwhere", "bincount", "equal", "is_nonzero", "item"),
        *(
            "masked_select",
            "nonzero",
            "nonzero_numpy",
            "_unique",
            "_unique2",
            "unique_consecutive",
            "unique_dim",
        ),
    )
}
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
COPYING = ("aten::_to_copy", "aten::copy_")
MASKS = (torch.bool, torch.uint8)


# -- what can be recorded ----------------------------------------------------------------


def check_recordable(optimizer: torch.optim.Optimizer) -> None:
    """Raise a ValueError if a recording of the optimizer's step would fail, or not do what the step does."""
    name = type(optimizer).__name__
    if not is_plain_step(optimizer):
        reason, hint = "has hooks on its step, which a recording leaves out", "Remove the hooks"
    elif any(group.get("differentiable") for group in optimizer.param_groups):
        reason, hint = "is differentiable", "Set optimizer__differentiable=False"
    elif type(optimizer) is torch.optim.SGD or all("capturable" in g for g in optimizer.param_groups):
        return
    else:
        reason, hint = "has no option capturable", "Use an optimizer that has one, such as AdamW"
    raise ValueError(
        f"cuda_graph must be False with an optimizer whose step cannot be recorded; got True and {name}, "
        f"which {reason}. {hint}, or set cuda_graph=False."
    )


def check_stack_recordable(optimizer: torch.optim.Optimizer) -> None:
    """Raise a TypeError unless the optimizer counts its steps, if at all, on the device as it is."""
    owner = type(optimizer)
    is_adam = owner in (torch.optim.Adam, torch.optim.AdamW)
    if owner is not torch.optim.SGD and not (is_adam and all(g["fused"] for g in optimizer.param_groups)):
        raise TypeError(f"a step of several nets with {owner.__name__} as it is cannot be a CUDA graph")


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations for which the host waits for the device, or the device for the host."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        masks = _find_tensors(args[1]) if name in INDEXING else []
        # A number that is reckoned with may lie on the host, for it is recorded as it is.
        given = [part for part in _find_tensors((args, kwargs)) if part.ndim or name in COPYING]
        moved = given + _find_tensors(out)
        is_moved = len({part.device.type for part in moved}) > 1
        if name in READING or is_moved or any(mask.dtype in MASKS for mask in masks):
            self.waits.append(name)
        return out


def _find_tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


# -- learning rates and counts on the device ---------------------------------------------


@contextmanager
def recordable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let an optimizer read its learning rates, and count its steps, on the device.

    A recorded step so follows a schedule. The rates are read in single precision, as torch's kernels do.
    """
    groups, kept = optimizer.param_groups, _find_kept(optimizer)
    before = [dict(group) for group in groups]
    pairs = zip_longest(groups, kept.rates[: len(groups)])
    kept.rates = [_find_rate(group, rate) for group, rate in pairs]
    try:
        for group, rate in zip(groups, kept.rates, strict=True):
            if "capturable" in group:
                group["capturable"] = True
            if _takes_rate(group):
                rate.copy_(group["lr"]) if isinstance(group["lr"], Tensor) else rate.fill_(group["lr"])
                group["lr"] = rate
        # The first steps are not recorded, and are no mistake.
        setattr(optimizer, "_warned_capturable_if_run_uncaptured", True)  # noqa: B010 (torch does not declare it)
        _send_counts(optimizer)
        yield
    finally:
        for group, values in zip(groups, before, strict=True):
            group.update((name, values[name]) for name in ("lr", "capturable") if name in values)
        _note_replays(optimizer)


def _note_replays(optimizer: torch.optim.Optimizer) -> None:
    """Tell of the optimizer's tensors, which a recording writes to unseen, that they are others now."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            for tensor in (p, *optimizer.state.get(p, {}).values()):
                if isinstance(tensor, Tensor):
                    increment_version(tensor)


def _find_rate(group: dict[str, Any], kept: Tensor | None) -> Tensor:
    """Return a place for a learning rate; the fused kernels on a GPU read a float32."""
    device = group["params"][0].device
    if kept is not None and kept.device == device:
        return kept
    return torch.empty((), dtype=torch.float32 if device.type == "cuda" else torch.float64, device=device)


def _takes_rate(group: dict[str, Any]) -> bool:
    """Whether the step of a group takes a tensor for a learning rate without reading it."""
    return bool(group.get("fused") or (group.get("capturable") and group.get("foreach") is not False))


def _send_counts(optimizer: torch.optim.Optimizer) -> None:
    """Send the counts of steps to the parameters; for good, for a recording knows where they are."""
    for p, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.device != p.device:
                state[name] = value.to(p.device, non_blocking=True)


# -- recordings --------------------------------------------------------------------------


def choose_group_size(n_steps: int, most: int) -> int:
    """Return how many steps to record at once, of so many at most, for an epoch to take the fewest calls.

    Steps that fill no group are calls of their own.

    Examples
    --------
    >>> from sk_mixup._training.cuda_graph import choose_group_size
    >>> choose_group_size(7, 32), choose_group_size(40, 32), choose_group_size(211, 32)
    (7, 20, 30)
    """
    return min(range(1, most + 1), key=lambda size: n_steps // size + n_steps % size)


@dataclass(eq=False)
class _Recording:
    """Recorded steps, the tensors that they read batches from, by their kind, and the last gradients."""

    graph: torch.cuda.CUDAGraph
    inputs: list[list[Tensor]]
    gradients: list[tuple[Tensor, Tensor | None]]

    def replay(self, batches: Sequence[Sequence[Tensor]]) -> None:
        """Do the steps for other batches, which are sent by one call for all tensors of a kind."""
        x, kept, *target = zip(*batches, strict=True)
        x_read, kept_written, *target_read = self.inputs
        for read, given in zip((x_read, *target_read), (x, *target), strict=True):
            torch._foreach_copy_(read, given)
        self.graph.replay()
        torch._foreach_copy_(kept, kept_written)


class _Kept:
    """What is kept of an optimizer's recorded step for as long as the optimizer lives."""

    def __init__(self) -> None:
        self.rates: list[Tensor] = []
        self.pool: Any = None
        self.key: Hashable = None
        self.n_done = 0  # steps that were run as they are since the key changed
        self.recording: _Recording | None = None
        self.is_current = False  # whether the recording is one of the key


_KEPT: WeakKeyDictionary[torch.optim.Optimizer, _Kept] = WeakKeyDictionary()


def _find_kept(optimizer: torch.optim.Optimizer) -> _Kept:
    with RECORDING:
        return _KEPT.setdefault(optimizer, _Kept())


class GraphedStep:
    """Steps for batches of one size, recorded as a CUDA graph: one launch for dozens a step.

    A call does the steps of some batches, as many in each. The first are run as they are, on the stream that
    the recording needs; recording itself computes nothing. The recording is kept with the optimizer, and
    replayed in later epochs too, while shapes, places in memory, options and what `describe` returns stay
    the same. None of the latter tells that it cannot be known: then each object records for itself.

    Parameters
    ----------
    step : callable
        Does a step; see :meth:`Trainer.step`.
    optimizer : torch.optim.Optimizer
        The optimizer of the net, or of one of the nets.
    describe : callable, default=None
        Returns all that a step reads from Python.
    """

    n_warmup = 3

    def __init__(
        self,
        step: Callable[..., bool],
        optimizer: torch.optim.Optimizer,
        describe: Callable[[], Hashable] = lambda: None,
    ) -> None:
        check_recordable(optimizer)
        self.step = step
        self.optimizer = optimizer
        self.describe = describe
        self.parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self.kept = _find_kept(optimizer)
        self.recording: _Recording | None = None
        self.is_known = False
        self.description = describe()

    def __call__(self, *batches: Sequence[Tensor]) -> bool:
        """Do a step for each batch; see :meth:`Trainer.step`."""
        if self.recording is None:
            self._look_up(batches)
            if self.kept.n_done < self.n_warmup:
                self.kept.n_done += len(batches)
                done = self._run_as_it_is(batches)
                self.kept.key = self._make_key(batches)  # the optimizer has a state by now
                return done
            self.recording = self._find_recording(batches)
        self.recording.replay(batches)
        return True

    def _run(self, batches: Sequence[Sequence[Tensor]]) -> bool:
        return all(self.step(*batch) for batch in batches)

    def _look_up(self, batches: Sequence[Sequence[Tensor]]) -> None:
        """Find out, once, whether what is kept is of this step."""
        if self.is_known:
            return
        self.is_known = True
        key = self._make_key(batches)
        if self.description is None or key != self.kept.key:
            self.kept.key, self.kept.n_done, self.kept.is_current = key, 0, False

    def _make_key(self, batches: Sequence[Sequence[Tensor]]) -> Hashable:
        options = [
            (name, value.data_ptr() if isinstance(value, Tensor) else repr(value))
            for group in self.optimizer.param_groups
            for name, value in group.items()
            if name != "params"
        ]
        states = [self.optimizer.state.get(p, {}) for p in self.parameters]
        held = [value for state in states for value in state.values() if isinstance(value, Tensor)]
        places = [tensor.data_ptr() for tensor in (*self.parameters, *held)]
        shapes = len(batches), *(describe_tensor_kind(tensor) for tensor in batches[0])
        return self.description, tuple(options), tuple(places), shapes, _read_settings()

    def _run_as_it_is(self, batches: Sequence[Sequence[Tensor]]) -> bool:
        *first, last = batches
        with self._on_stream():
            if not self._run(first):
                return False
            if self.kept.n_done < self.n_warmup:
                return self.step(*last)
            with _Watch() as watch:
                done = self.step(*last)
        if watch.waits:
            raise ValueError(
                "cuda_graph must be False where a step waits for the device or sends it something; got True, "
                f"and the step calls {watch.waits[0]}. Keep that out of forward, or set cuda_graph=False."
            )
        if self.describe() != self.description:
            raise ValueError(
                "cuda_graph must be False where forward changes attributes of the module; got True. Use "
                "buffers that are written in place, or set cuda_graph=False."
            )
        return done

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        """Run something on the stream of recordings, between what is before and what follows."""
        with RECORDING:
            if self.device not in _STREAMS:
                _STREAMS[self.device] = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            stream, current = _STREAMS[self.device], torch.cuda.current_stream(self.device)
            stream.wait_stream(current)
            try:
                with torch.cuda.stream(stream):
                    yield
            except BaseException:
                with suppress(RuntimeError):  # the first error is the one that tells
                    current.wait_stream(stream)
                raise
            current.wait_stream(stream)

    def _find_recording(self, batches: Sequence[Sequence[Tensor]]) -> _Recording:
        """Return what is kept, or a new recording where the step is not what it was."""
        kept = self.kept
        if kept.recording is None or not kept.is_current:
            kept.recording, kept.is_current = self._record(batches), True
        for p, gradient in kept.recording.gradients:
            p.grad = gradient
        return kept.recording

    def _record(self, batches: Sequence[Sequence[Tensor]]) -> _Recording:
        inputs = [[tensor.clone() for tensor in alike] for alike in zip(*batches, strict=True)]
        if self.kept.pool is None:
            self.kept.pool = torch.cuda.graph_pool_handle()
        with self._on_stream():
            graph = torch.cuda.CUDAGraph()
            try:
                # Others may allocate meanwhile.
                graph.capture_begin(pool=self.kept.pool, capture_error_mode="thread_local")
                self._run(list(zip(*inputs, strict=True)))
                graph.capture_end()
            except BaseException as error:
                self._leave(graph)
                error.add_note("The step was being recorded as a CUDA graph: try it with cuda_graph=False.")
                raise
        return _Recording(graph, inputs, [(p, p.grad) for p in self.parameters])

    def _leave(self, graph: torch.cuda.CUDAGraph) -> None:
        """End a recording that has failed, which the device may have broken off before."""
        try:
            graph.capture_end()
        except RuntimeError:
            with suppress(RuntimeError):  # it was told before
                torch._C._cuda_endAllocateToPool(self.device.index, self.kept.pool)
                torch._C._cuda_releasePool(self.device.index, self.kept.pool)


def _read_settings() -> Hashable:
    """Return what torch's operations read of its settings."""
    return (
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cuda"),
    )
