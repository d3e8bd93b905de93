"""One optimizer step for the stacked weights of several nets."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TypeGuard

import torch
from torch import Tensor

from sk_mixup._training.optimizer_step import FusedUpdate, is_plain_step

__all__ = ["StackedUpdate", "describe_optimizer", "find_runs", "read_options"]

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
    options = [
        tuple((name, value) for name, value in sorted(group.items()) if name != "params")
        for group in optimizer.param_groups
    ]
    counts = [
        (number, name, _read_count(name, value))
        for number, p in enumerate(chain.from_iterable(group["params"] for group in optimizer.param_groups))
        for name, value in sorted(optimizer.state.get(p, {}).items())
    ]
    return repr((options, counts))


def _read_count(name: str, value: Tensor | float) -> float | str:
    """Return a count; of what is stacked, no more than that it is there."""
    if not isinstance(value, Tensor):
        return value
    return float(value) if name in COUNTS else "stacked"


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
        runs = find_runs([read_options(optimizer) for optimizer in optimizers])
        with _make_ordinary_tensors():
            self.parts = [_Part(self, start, stop) for start, stop in runs]
        self.ended: list[tuple[_Part, int]] = []

    def __call__(self) -> None:
        """Descend by one step."""
        for part in self.parts:
            part.update()

    def narrow(self, n_nets: int) -> None:
        """Go on with the first nets only."""
        with _make_ordinary_tensors():
            for part in self.parts:
                if part.stop > n_nets:
                    part.update.close()
                    self.ended.append((part, max(part.start, n_nets)))
            kept = [part for part in self.parts if part.start < n_nets]
            self.parts = [part.narrow(n_nets) for part in kept]

    def commit(self) -> None:
        """Give the nets that have ended their optimizers' state."""
        with _make_ordinary_tensors():
            for part, start in self.ended:
                part.return_states(start)
        self.ended.clear()  # the parts know this object, and would live on with it


class _Part:
    """Nets that stand side by side in a stack and share the calls of the kernel."""

    def __init__(
        self,
        owner: StackedUpdate,
        start: int,
        stop: int,
        states: Sequence[State] | None = None,
    ) -> None:
        self.owner, self.start, self.stop = owner, start, stop
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

    def return_states(self, start: int) -> None:
        """Give the nets from `start` on their optimizers' state."""
        nets = range(start, self.stop)
        for number, view in enumerate(self.stacked):
            for name, value in self.optimizer.state.get(view, {}).items():
                parts = value.unbind() if _is_stacked(value, name) else None
                for k in nets:
                    optimizer = self.owner.optimizers[k]
                    state = optimizer.state[_list_parameters(optimizer)[number]]
                    _put(state, name, value if parts is None else parts[k - self.start])
        for k in nets:
            # A learning-rate scheduler asks whether `step` was called at all.
            self.owner.optimizers[k]._opt_called = True  # type: ignore[attr-defined]


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


def _put(state: State, name: str, value: Tensor | float) -> None:
    """Write into a tensor that is there, put a copy where there is none."""
    held = state.get(name)
    if isinstance(value, Tensor) and isinstance(held, Tensor):
        held.copy_(value)
    else:
        state[name] = _copy(value)
