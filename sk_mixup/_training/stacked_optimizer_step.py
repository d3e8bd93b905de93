"""One optimizer step for the stacked weights of several nets."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice, repeat
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


def describe_optimizer(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> Hashable:
    """Return what optimizers share whose nets can be stacked: the class, and the parameters of each group.

    `names` are those of the module's parameters, by their id. A TypeError says why the step must be left to
    the optimizer.
    """
    if type(optimizer) not in ELEMENTWISE:
        raise TypeError(f"optimizer {type(optimizer).__name__} looks at more than one number at a time")
    if not is_plain_step(optimizer):
        raise TypeError("the optimizer's step has hooks")
    groups = []
    for group in optimizer.param_groups:
        own = tuple([names.get(id(p)) for p in group["params"]])
        if None in own:
            raise TypeError("the optimizer holds parameters that are not the module's")
        for name, value in group.items():
            if isinstance(value, Tensor):
                raise TypeError(f"the optimizer's {name} is a tensor")
        groups.append(own)
    return type(optimizer), tuple(groups)


def read_options(optimizers: Sequence[torch.optim.Optimizer]) -> list[str]:
    """Return what must be equal for one call of the kernel: options, and steps done so far, of each."""
    _note_counts(optimizers)
    return [_describe(optimizer) for optimizer in optimizers]


def _describe(optimizer: torch.optim.Optimizer) -> str:
    options = [
        {name: value for name, value in sorted(group.items()) if name != "params"}
        for group in optimizer.param_groups
    ]
    noted, states = _get_noted(optimizer), list[object]()
    for p in _list_parameters(optimizer):
        for name, value in sorted(optimizer.state.get(p, {}).items()):
            is_tensor = isinstance(value, Tensor)
            states.append((name, noted.get(id(value), "stacked") if is_tensor else value))
        states.append("next")
    return repr((options, states))


def _get_noted(optimizer: torch.optim.Optimizer) -> dict[int, float]:
    """Return what an optimizer has counted, by the tensor's id."""
    return {id(count): value for count, _, value in _NOTED.get(optimizer, ())}


def _note_counts(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Find out what optimizers have counted; what nobody has noted is read from the device at once."""
    tensors = {optimizer: _list_counts(optimizer) for optimizer in optimizers}
    unknown = {optimizer: own for optimizer, own in tensors.items() if not _is_noted(optimizer, own)}
    flat = list(chain.from_iterable(unknown.values()))
    values = iter(torch.stack(flat).tolist() if flat else ())
    for optimizer, own in unknown.items():
        _note(optimizer, own, [next(values) for _ in own])


def _note(optimizer: torch.optim.Optimizer, tensors: Sequence[Tensor], values: Sequence[float]) -> None:
    _NOTED[optimizer] = [(each, each._version, value) for each, value in zip(tensors, values, strict=True)]


def _is_noted(optimizer: torch.optim.Optimizer, counts: Sequence[Tensor]) -> bool:
    """Whether the tensors that were noted are there yet, and nobody has written to them."""
    noted = _NOTED.get(optimizer, ())
    return len(counts) == len(noted) and all(
        tensor is known and tensor._version == version
        for tensor, (known, version, _) in zip(counts, noted, strict=True)
    )


def _list_counts(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [
        value
        for state in optimizer.state.values()
        for name, value in state.items()
        if name in COUNTS and isinstance(value, Tensor)
    ]


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

    Nets with equal `options`, see :func:`read_options`, share the calls; they should stand side by side.
    For each parameter of the first net there are its stack (n_nets, *shape) and its gradient, or None for
    one that takes no part.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        options: Sequence[str],
        weights: dict[Tensor, Tensor],
        gradients: dict[Tensor, Tensor | None],
    ) -> None:
        self.optimizers = optimizers
        self.parameters = [_list_parameters(optimizer) for optimizer in optimizers]
        self.weights = weights
        self.gradients = gradients
        self.n_done = 0
        with _make_ordinary_tensors():
            self.parts = [_Part(self, start, stop) for start, stop in find_runs(options)]
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
        idle = [number for number, p in enumerate(self.parameters[0]) if self.gradients[p] is None]
        for part, start, n_done in self.ended:
            for optimizer in self.optimizers[start : part.stop]:
                # A scheduler asks whether `step` was called.
                optimizer._opt_called = True  # type: ignore[attr-defined]
                _note_steps(optimizer, n_done, idle)
        self.ended.clear()  # the parts know this object, and would live on with it


def _note_steps(optimizer: torch.optim.Optimizer, n_done: int, idle: Sequence[int]) -> None:
    """Note that all parameters but the `idle` ones did so many steps, where nothing else is counted."""
    if not set[str]().union(*optimizer.state.values()).isdisjoint(COUNTS[1:]):
        return
    noted, counts, parameters = _get_noted(optimizer), _list_counts(optimizer), _list_parameters(optimizer)
    kept = {id(optimizer.state.get(parameters[number], {}).get("step")) for number in idle}
    _note(optimizer, counts, [noted.get(id(c), 0.0) + n_done * (id(c) not in kept) for c in counts])


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

    def _iterate_nets(self, start: int) -> Iterator[tuple[torch.optim.Optimizer, list[Tensor]]]:
        """Yield optimizer and parameters of each net of the part from `start` on."""
        return islice(zip(self.owner.optimizers, self.owner.parameters, strict=True), start, self.stop)

    def _stack_states(self, number: int) -> State:
        nets = self._iterate_nets(self.start)
        states = [optimizer.state.get(parameters[number], {}) for optimizer, parameters in nets]

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
        for number, view in enumerate(self.stacked):
            stacked = self.optimizer.state.get(view)
            if not stacked:
                continue
            nets = [(own[number], optimizer) for optimizer, own in self._iterate_nets(start)]
            for name, value in stacked.items():
                parts = value[start - self.start :].unbind() if _is_stacked(value, name) else repeat(value)
                for (p, optimizer), new in zip(nets, parts, strict=False):
                    state = optimizer.state[p]
                    held = state.get(name)
                    if not isinstance(new, Tensor):
                        state[name] = new
                    elif isinstance(held, Tensor):
                        yield held, new
                    else:
                        like = p if new.shape == p.shape else new  # laid out in memory as the weights are
                        state[name] = torch.empty_like(like, dtype=new.dtype, device=new.device)
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
