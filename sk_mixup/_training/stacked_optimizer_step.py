"""One optimizer step for the stacked weights of several nets."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from typing import TypeGuard
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sk_mixup._tensors import copy_all
from sk_mixup._training.optimizer_step import FusedUpdate, is_plain_step

__all__ = [
    "StackedUpdate",
    "describe_optimizer",
    "find_runs",
    "note_counts",
    "read_options",
    "return_weights",
]

# Optimizers that treat every number of a parameter alike, whatever the others are.
ELEMENTWISE = (
    torch.optim.ASGD,
    torch.optim.Adadelta,
    torch.optim.Adagrad,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Rprop,
    torch.optim.SGD,
)
# What an optimizer keeps of one parameter.
State = dict[str, Tensor | float]
# Entries of it that are one number for a whole parameter.
COUNTS = ("step", "mu_product", "eta", "mu")
# By the optimizer, its counts as they were last known: tensor, version, value. To read one is to wait.
_NOTED: WeakKeyDictionary[torch.optim.Optimizer, list[tuple[Tensor, int, float]]] = WeakKeyDictionary()


def describe_optimizer(optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> Hashable:
    """Return what optimizers share whose nets can be stacked: the class, and the parameters of each group.

    A TypeError says why the step must be left to the optimizer.
    """
    if type(optimizer) not in ELEMENTWISE:
        raise TypeError(f"optimizer {type(optimizer).__name__} looks at more than one number at a time")
    if not is_plain_step(optimizer):
        raise TypeError("the optimizer's step has hooks")
    groups = []
    for group in optimizer.param_groups:
        if not all(p in names for p in group["params"]):
            raise TypeError("the optimizer holds parameters that are not the module's")
        for name, value in group.items():
            if isinstance(value, Tensor):
                raise TypeError(f"the optimizer's {name} is a tensor")
        groups.append(tuple(names[p] for p in group["params"]))
    return type(optimizer), tuple(groups)


def read_options(optimizer: torch.optim.Optimizer) -> str:
    """Return what must be equal for one call of the kernel: options, and steps done so far."""
    note_counts([optimizer])
    options = [
        tuple((name, value) for name, value in sorted(group.items()) if name != "params")
        for group in optimizer.param_groups
    ]
    states = [optimizer.state.get(p, {}) for p in _list_parameters(optimizer)]
    kept = [
        [(name, value) for name, value in sorted(state.items()) if not isinstance(value, Tensor)]
        for state in states
    ]
    stacked = [
        [name for name, value in sorted(state.items()) if _is_stacked(value, name)] for state in states
    ]
    return repr((options, kept, stacked, _read_counts(optimizer)))


def note_counts(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Find out what optimizers have counted; what nobody has noted is read from the device at once."""
    unknown = [optimizer for optimizer in optimizers if not _is_noted(optimizer)]
    tensors = [_list_all_counts(optimizer) for optimizer in unknown]
    flat = list(chain.from_iterable(tensors))
    values = iter(torch.stack(flat).tolist() if flat else ())
    for optimizer, own in zip(unknown, tensors, strict=True):
        _note(optimizer, own, [next(values) for _ in own])


def _note(optimizer: torch.optim.Optimizer, tensors: Sequence[Tensor], values: Sequence[float]) -> None:
    _NOTED[optimizer] = [(each, each._version, value) for each, value in zip(tensors, values, strict=True)]


def _is_noted(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the tensors that were noted are there yet, and nobody has written to them."""
    tensors, noted = _list_all_counts(optimizer), _NOTED.get(optimizer, ())
    return len(tensors) == len(noted) and all(
        tensor is known and tensor._version == version
        for tensor, (known, version, _) in zip(tensors, noted, strict=True)
    )


def _read_counts(optimizer: torch.optim.Optimizer) -> list[list[float]]:
    """Return the counts of each parameter, which must be noted."""
    left = iter(value for *_, value in _NOTED.get(optimizer, ()))
    return [[next(left) for _ in _list_counts(optimizer, p)] for p in _list_parameters(optimizer)]


def _list_all_counts(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [count for p in _list_parameters(optimizer) for count in _list_counts(optimizer, p)]


def _list_counts(optimizer: torch.optim.Optimizer, p: Tensor) -> list[Tensor]:
    state = optimizer.state.get(p, {})
    return [value for name, value in state.items() if name in COUNTS and isinstance(value, Tensor)]


def find_runs(values: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return start and stop of each run of equal values.

    Examples
    --------
    >>> from sk_mixup._training.stacked_optimizer_step import find_runs
    >>> find_runs("aabccc")
    [(0, 2), (2, 3), (3, 6)]
    """
    if values[0] == values[-1] and values.count(values[0]) == len(values):
        return [(0, len(values))]
    edges = [k for k in range(1, len(values)) if values[k] != values[k - 1]]
    return list(zip([0, *edges], [*edges, len(values)], strict=True))


def return_weights(
    owned: Sequence[Sequence[Tensor]], weights: dict[Tensor, Tensor], gradients: dict[Tensor, Tensor | None]
) -> None:
    """Copy weights, buffers and the last gradients of a stack to the tensors that each net owns."""
    with torch.no_grad():
        copy_all(_pair_with_stacks(owned, weights, gradients))


def _pair_with_stacks(
    owned: Sequence[Sequence[Tensor]], weights: dict[Tensor, Tensor], gradients: dict[Tensor, Tensor | None]
) -> Iterator[tuple[Tensor, Tensor]]:
    for parts, (first, stack) in zip(zip(*owned, strict=True), weights.items(), strict=True):
        yield from zip(parts, stack.unbind(), strict=True)
        gradient = gradients[first]
        each = repeat(None, len(parts)) if gradient is None else gradient.unbind()
        for p, own in zip(parts, each, strict=True):
            p.grad = held = None if own is None else _hold_gradient(p)
            if held is not None and own is not None:
                yield held, own


def _hold_gradient(p: Tensor) -> Tensor:
    """Return where a gradient can be written to."""
    held = p.grad
    fits = held is not None and held.layout == torch.strided and held.dtype == p.dtype
    return held if held is not None and fits else torch.empty_like(p)


class StackedUpdate:
    """Does each net's ``optimizer.step()`` for all nets of a stack at once.

    Nets with equal options and equally many steps behind them share the calls; they should stand side by
    side. For each parameter of the first net there are its stack (n_nets, *shape) and its gradient, or None
    for one that takes no part.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        weights: dict[Tensor, Tensor],
        gradients: dict[Tensor, Tensor | None],
    ) -> None:
        self.optimizers = optimizers
        self.weights = weights
        self.gradients = gradients
        self.n_done = 0
        note_counts(optimizers)
        runs = find_runs([read_options(optimizer) for optimizer in optimizers])
        self.counts = [_read_counts(optimizer) for optimizer in optimizers]
        with _make_ordinary_tensors():
            self.parts = [_Part(self, start, stop) for start, stop in runs]
        self.ended: list[tuple[_Part, int, int]] = []

    def __call__(self) -> None:
        """Descend by one step."""
        self.n_done += 1
        for part in self.parts:
            part.update()

    def narrow(self, n_nets: int) -> None:
        """Go on with the first nets only."""
        with _make_ordinary_tensors():
            for part in self.parts:
                if part.stop > n_nets:
                    part.update.close()
                    self.ended.append((part, max(part.start, n_nets), self.n_done))
            kept = [part for part in self.parts if part.start < n_nets]
            self.parts = [part.narrow(n_nets) for part in kept]

    def commit(self) -> None:
        """Give the nets that have ended their optimizers' state."""
        with _make_ordinary_tensors():
            copy_all(pair for part, start, _ in self.ended for pair in part.list_states(start))
        for part, start, n_done in self.ended:
            for k in range(start, part.stop):
                self._note_steps(k, n_done)
        self.ended.clear()  # the parts know this object, and would live on with it

    def _note_steps(self, number: int, n_done: int) -> None:
        """Note what a net's optimizer has counted, where it counts nothing but steps."""
        optimizer = self.optimizers[number]
        optimizer._opt_called = True  # type: ignore[attr-defined]  # a scheduler asks whether `step` was called
        tensors, values = list[Tensor](), list[float]()
        for p, first, before in zip(
            _list_parameters(optimizer),
            _list_parameters(self.optimizers[0]),
            self.counts[number],
            strict=True,
        ):
            counts = _list_counts(optimizer, p)
            if len(counts) > 1:
                return
            tensors.extend(counts)
            values.extend(sum(before) + n_done * (self.gradients[first] is not None) for _ in counts)
        _note(optimizer, tensors, values)


class _Part:
    """Nets that stand side by side in a stack and share the calls of the kernel."""

    def __init__(
        self,
        owner: StackedUpdate,
        start: int,
        stop: int,
        states: Sequence[State] | None = None,
        n_done: int = 0,
    ) -> None:
        self.owner, self.start, self.stop, self.n_done = owner, start, stop, n_done
        first = owner.optimizers[start]
        groups: list[dict[str, object]] = []
        self.stacked: list[Tensor] = []
        template: list[Tensor] = []
        for group, mine in zip(first.param_groups, owner.optimizers[0].param_groups, strict=True):
            views = [self._view(p) for p in mine["params"]]
            template.extend(group["params"])
            self.stacked.extend(views)
            groups.append({**group, "params": views})
        build: Callable[[list[dict[str, object]]], torch.optim.Optimizer] = type(first)
        self.optimizer = build(groups)
        if states is None:
            states = [self._stack_states(number) for number in range(len(template))]
        for view, state in zip(self.stacked, states, strict=True):
            if state:
                self.optimizer.state[view] = state
        self.update = FusedUpdate(self.optimizer, in_place=True)

    def _view(self, p: Tensor) -> Tensor:
        view = self.owner.weights[p][self.start : self.stop].detach()
        gradient = self.owner.gradients[p]
        view.grad = None if gradient is None else gradient[self.start : self.stop]
        return view.requires_grad_(p.requires_grad)

    def _list_states(self, number: int) -> list[State]:
        """Return the state of one parameter in each net of the part."""
        return [
            optimizer.state.get(_list_parameters(optimizer)[number], {})
            for optimizer in self.owner.optimizers[self.start : self.stop]
        ]

    def _stack_states(self, number: int) -> State:
        states = self._list_states(number)

        def stack(name: str) -> Tensor:
            return torch.stack([torch.as_tensor(state[name]) for state in states])

        return {
            name: stack(name) if _is_stacked(value, name) else _copy(value)
            for name, value in states[0].items()
        }

    def narrow(self, n_nets: int) -> _Part:
        """Return the part for its nets among the first of the stack."""
        stop = min(self.stop, n_nets)
        if stop == self.stop:
            return self
        states = [
            {
                name: value[: stop - self.start] if _is_stacked(value, name) else _copy(value)
                for name, value in self.optimizer.state.get(view, {}).items()
            }
            for view in self.stacked
        ]
        return _Part(self.owner, self.start, stop, states)

    def list_states(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the tensors of the nets' states from `start` on, each with what is to be written there."""
        nets = range(start, self.stop)
        own = [_list_parameters(optimizer) for optimizer in self.owner.optimizers]
        for number, view in enumerate(self.stacked):
            for name, value in self.optimizer.state.get(view, {}).items():
                parts = value.unbind() if _is_stacked(value, name) else None
                for k in nets:
                    state = self.owner.optimizers[k].state[own[k][number]]
                    new = value if parts is None else parts[k - self.start]
                    if not isinstance(new, Tensor):
                        state[name] = new
                        continue
                    if not isinstance(state.get(name), Tensor):
                        state[name] = torch.empty_like(new)
                    yield state[name], new


@contextmanager
def _make_ordinary_tensors() -> Iterator[None]:
    """Make tensors that can be trained on later, also in the midst of inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _list_parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _is_stacked(value: Tensor | float, name: str) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and name not in COUNTS


def _copy(value: Tensor | float) -> Tensor | float:
    return value.clone() if isinstance(value, Tensor) else value
