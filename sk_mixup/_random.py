"""Seeds: one numpy generator per net; torch's global generators left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import random
import threading
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "TorchStream",
    "draw_generator",
    "draw_seed",
    "find_stream",
    "get_global_states",
    "make_generator",
    "seeded_torch",
    "unseen_draws",
    "unseen_torch_draws",
]


def make_generator(random_state: object) -> np.random.Generator:
    """Return the generator of one fit; numpy's global generator is never used.

    An int gives the same generator every time; a RandomState or a Generator is drawn on, and so moves on;
    None takes fresh entropy from the operating system.
    """
    if random_state is None:
        return np.random.default_rng()
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1, size=4))
    if isinstance(random_state, np.random.Generator):
        return np.random.default_rng(random_state.integers(2**31 - 1, size=4))
    if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer):
        raise TypeError(
            f"random_state must be None, an int, a numpy RandomState or a numpy Generator; got "
            f"{random_state!r}. Give an int for a result that can be repeated."
        )
    if random_state < 0:
        raise ValueError(f"random_state must be at least 0; got {random_state}. Give another int.")
    return np.random.default_rng(int(random_state))


def draw_seed(generator: np.random.Generator) -> int:
    """Draw a seed for a library that wants an int."""
    return int(generator.integers(2**31 - 1))


class _GlobalTorchState:
    """torch's global generators, saved by the first user and put back by the last.

    Fits may run in several threads of one process, whose generators are shared: were each
    to save and restore on its own, one would restore what another had seeded.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.saved: list[tuple[Any, Any]] = []

    def enter(self) -> None:
        """Save the states, if nobody has."""
        with self.lock:
            if self.users == 0:
                self.saved = [(module, _get_states(module)) for module in _modules_in_use()]
            self.users += 1

    def leave(self) -> None:
        """Put the states back, if nobody needs the generators any more."""
        with self.lock:
            self.users -= 1
            if self.users == 0:
                for module, states in self.saved:
                    _set_states(module, states)

    def draw(self, n_numbers: int) -> list[int]:
        """Draw on the generator of the CPU as it is outside of all fits."""
        with self.lock:
            generator = torch.default_generator if self.users == 0 else torch.Generator()
            if self.users:
                generator.set_state(self.saved[0][1])
            numbers = torch.randint(2**31 - 1, (n_numbers,), generator=generator, device="cpu")
            if self.users:
                self.saved[0] = (torch, generator.get_state())
            return list(map(int, numbers.tolist()))


def _seed_all(seed: int) -> None:
    """Seed torch's global generators; without an accelerator in a hundredth of ``manual_seed``'s time."""
    accelerators: list[Any] = [torch.cuda, torch.xpu, torch.backends.mps]
    if any(module.is_available() for module in accelerators):
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def _modules_in_use() -> list[ModuleType]:
    cuda: Any = torch.cuda  # its functions carry no types
    accelerators = [cuda] if cuda.is_available() and cuda.is_initialized() else []
    mps = [torch.mps] if torch.backends.mps.is_available() else []
    return [torch, *accelerators, *mps]


def _get_states(module: ModuleType) -> Any:
    return module.get_rng_state_all() if module is torch.cuda else module.get_rng_state()


def _set_states(module: ModuleType, states: Any) -> None:
    setter = module.set_rng_state_all if module is torch.cuda else module.set_rng_state
    setter(states)


_STATE = _GlobalTorchState()
_ALONE = threading.RLock()
_LOCAL = threading.local()


def draw_generator() -> np.random.Generator:
    """Return a generator that ``torch.manual_seed`` decides, as it does all that skorch's nets draw."""
    return np.random.default_rng(_STATE.draw(4))


def get_global_states() -> tuple[object, ...]:
    """Return the states of the global generators of Python and numpy, to tell whether they were drawn on."""
    state: Any = np.random.get_state()  # noqa: NPY002 (what users draw from)
    return random.getstate(), state[1].tobytes(), *state[2:]


@contextmanager
def seeded_torch(seed: int, *, alone: bool = False) -> Iterator[None]:
    """Seed torch's global generators inside, and leave them as they were.

    With `alone` other threads wait with their seeds until this one is done, as for initial weights. A whole
    training cannot be alone: nets with dropout that are trained in several threads of one process share the
    generator, but under :func:`sk_mixup.stacked`, where each has its :func:`find_stream`. A net that is
    trained within the training of another, as by a callback, leaves that one's generators as they were.
    """
    outer = find_stream()
    before = [] if outer is None else [(module, _get_states(module)) for module in _modules_in_use()]
    _STATE.enter()
    try:
        with _ALONE:
            _seed_all(seed)
            if alone:
                yield
        if not alone:
            _LOCAL.stream = TorchStream(seed)
            try:
                yield
            finally:
                _LOCAL.stream = outer
    finally:
        _STATE.leave()
        for module, states in before:
            _set_states(module, states)


@contextmanager
def unseen_torch_draws() -> Iterator[None]:
    """Let torch's global generators be afterwards as if nothing had been drawn inside."""
    with _ALONE:
        before = [(module, _get_states(module)) for module in _modules_in_use()]
        try:
            yield
        finally:
            for module, states in before:
                _set_states(module, states)


@contextmanager
def unseen_draws() -> Iterator[None]:
    """Do so with the global generators of numpy and of Python, too: transforms of a Dataset draw on any.

    numpy takes a tenth of a millisecond for it, too long for what is done in every fit.
    """
    with unseen_torch_draws():
        of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002 (not ours: put back)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)


def find_stream() -> TorchStream | None:
    """Return what the net that is trained in this thread draws on torch; None for no net."""
    return getattr(_LOCAL, "stream", None)


class TorchStream:
    """What one net draws on torch in a training: what the global generator gives after its seed.

    Nets that are trained in turns so draw what each would draw alone, as do those that are trained as one on
    the CPU. If `is_single`, the net was trained alone in its last epoch, and so may draw in validation too.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.generators = {torch.device("cpu"): self.generator}
        self.others: dict[Any, Any] = {}
        self.is_single = False

    def find_generator(self, device: torch.device) -> torch.Generator:
        """Return what the net draws from on a device where it is trained with others.

        But on the CPU that is not what it draws from alone, for there is no way to give a kernel of torch's,
        such as that of dropout, another generator than the global one.
        """
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(self._device_seed)
        return self.generators[device]

    @property
    def _device_seed(self) -> int:
        """A seed that no net draws, for what it draws alone is to be something else."""
        return self.seed + 2**31

    def get_state(self) -> dict[torch.device, Tensor]:
        """Return what :meth:`set_state` goes back to."""
        return {device: generator.get_state() for device, generator in self.generators.items()}

    def set_state(self, states: dict[torch.device, Tensor]) -> None:
        """Draw again what was drawn since."""
        for device, generator in self.generators.items():
            if device in states:
                generator.set_state(states[device])
            else:
                generator.manual_seed(self._device_seed)

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Let torch's global generators go on where the net has left off."""
        before = {module: _get_states(module) for module in _modules_in_use()}
        _seed_all(self.seed)
        for module, states in self.others.items():
            _set_states(module, states)
        torch.set_rng_state(self.generator.get_state())
        try:
            yield
        finally:
            self.generator.set_state(torch.get_rng_state())
            self.others = {module: _get_states(module) for module in before if module is not torch}
            for module, states in before.items():
                _set_states(module, states)
