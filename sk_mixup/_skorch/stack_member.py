"""What a skorch net does to be trained as one with others: exclusive sections, streams, devices, warnings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from skorch.callbacks import Checkpoint
import torch

from sk_mixup._random import TorchStream, find_stream
from sk_mixup._training.optimizer_step import place_state
from sk_mixup._warning import warn_user
from sk_mixup.stacking._scheduler import find_task

__all__ = [
    "claiming_files",
    "exclusive_section",
    "find_own_stream",
    "on_device_of_stack",
    "place_states",
    "warn_single",
]


def find_own_stream() -> TorchStream:
    """Return what the net in this thread draws on torch; a new stream outside of a seeded block."""
    return find_stream() or TorchStream(int(torch.empty((), dtype=torch.int64).random_()))


@contextmanager
def exclusive_section(single: bool = False) -> Iterator[None]:
    """Do what may draw on torch while no other task of the scheduler does.

    A net that is stacked draws nothing but in its steps; one that is trained singly may do so
    in validation too.
    """
    task = find_task()
    if task is None:
        yield
        return
    stream = find_own_stream()
    stream.is_single = stream.is_single or single
    if not stream.is_single:
        yield
        return
    with task.exclusive_section(), stream.as_global():
        yield


def warn_single(reason: str) -> None:
    """Say once a call why nets are not trained as one."""
    task = find_task()
    if task is not None and task.scheduler.is_news(reason):
        warn_user(
            f"stacked: nets are trained one by one where they cannot be stacked: {reason}.",
        )


@contextmanager
def claiming_files(callbacks: object) -> Iterator[None]:
    """Keep the files that a net reads its best weights back from to itself, among those trained at once.

    Raises
    ------
    ValueError
        If another net writes to one of them.
    """
    task = find_task()
    if task is None:
        yield
        return
    files, claimed = task.scheduler.files, []
    try:
        for path in _list_files(callbacks):
            if path not in files:
                claimed.append(path)
            if files.setdefault(path, task) is not task:
                raise ValueError(
                    "callbacks must read weights back from files of each net's own where nets are trained at "
                    f"once; got a Checkpoint with load_best=True for '{path}' in several. Use "
                    "EarlyStopping(load_best=True), which needs no file, or train without sk_mixup.stacked()."
                )
        yield
    finally:
        for path in claimed:
            if files.get(path) is task:  # and not one that was as fast
                del files[path]


def _list_files(callbacks: object) -> Iterator[str]:
    for part in callbacks if isinstance(callbacks, list | tuple) else ():
        callback = part[1] if isinstance(part, tuple) else part
        if isinstance(callback, Checkpoint) and callback.load_best and isinstance(callback.f_params, str):
            yield str(Path(callback.dirname, callback.fn_prefix + callback.f_params).absolute())


class StackMember(Protocol):
    """A skorch net that may be trained on another device than its own."""

    device: Any
    initialized_: bool
    _modules: list[str]
    _criteria: list[str]
    _optimizers: list[str]

    @property
    def _torch_device(self) -> torch.device: ...


@contextmanager
def on_device_of_stack(net: StackMember) -> Iterator[None]:
    """Train where :func:`sk_mixup.stacked` says, and be back on the net's own device afterwards."""
    task, own = find_task(), net.device
    place_states(net)  # it may have been loaded since
    if task is None or task.scheduler.device in (None, own):
        yield
        return
    home = net._torch_device
    _move_to(net, task.scheduler.device)
    try:
        yield
    finally:
        _move_to(net, home)
        net.device = own


def _move_to(net: StackMember, device: Any) -> None:
    net.device = device
    if not net.initialized_:
        return
    for name in (*net._modules, *net._criteria):
        getattr(net, f"{name}_").to(device)
    place_states(net, device)


def place_states(net: StackMember, device: torch.device | str | None = None) -> None:
    """Put the states of a net's optimizers where :func:`place_state` says."""
    for name in net._optimizers if net.initialized_ else ():
        optimizer = vars(net).get(f"{name}_")
        if isinstance(optimizer, torch.optim.Optimizer):
            place_state(optimizer, device)
