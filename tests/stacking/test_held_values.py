"""What modules hold beside their weights: nets are stacked where it does the same, and only there."""

from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from fractions import Fraction
import functools
import itertools
import logging
import re
from types import SimpleNamespace
from typing import Any
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupGAN
from sk_mixup._training.gan import GanTrainer
from sk_mixup.stacking._engine import Engine
from tests.helpers.nets import QUICK
from tests.helpers.stacking import fit_stacked

pytestmark = pytest.mark.usefixtures("stack_two", "float64")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(36, 6))
Y = np.arange(36) % 3
OPTIONS = {**QUICK, "max_epochs": 2, "batch_size": 16, "lr": 0.02}
Pair = namedtuple("Pair", "scale shift")


class Holding(nn.Module):
    """Changes what it computes by a value that it holds."""

    def __init__(self, use: Callable[[Any, Tensor], Tensor], held: Any) -> None:
        super().__init__()
        self.use, self.held = use, held
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.use(self.held, self.first(x)).tanh())


@dataclass
class Settings:
    scale: Tensor
    names: list[str] = field(default_factory=lambda: ["a"])


@dataclass(frozen=True, slots=True)
class Frozen:
    scale: float


class Scaler:
    def __init__(self, scale: Any) -> None:
        self.scale = scale

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.scale


class Touchy(Scaler):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    __hash__ = None  # type: ignore[assignment]


class Arrayed(Scaler):
    def __eq__(self, other: object) -> Any:
        return np.zeros(3, dtype=bool)

    __hash__ = None  # type: ignore[assignment]


class Equal(Scaler):
    """Says that it is equal to all others."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class Forgetful(Scaler):
    """Leaves out of its copies and pickles what it computes with."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Slotted:
    __slots__ = ("scale",)

    def __init__(self, scale: float) -> None:
        self.scale = scale


class Scaled(float):
    """A number with more to it than its value."""

    factor = 1.0


class Kind(Enum):
    ONE = 1.0
    TWO = 2.0


def make_scaled(factor: float) -> Scaled:
    number = Scaled(1.0)
    number.factor = factor
    return number


def make_function(scale: float) -> Any:
    """Return a function with an attribute, which its code reads."""

    def function(x: Tensor, own: Any) -> Tensor:
        return x * own.scale

    function.scale = scale  # type: ignore[attr-defined]
    return function


def make_other_globals(scale: float) -> Any:
    """Return a function whose code is the same for each number."""
    names: dict[str, Any] = {"scale": scale}
    exec("def function(x):\n    return x * scale", names)
    return names["function"]


def scale_by(x: Tensor, by: Any) -> Tensor:
    return x * by


def call(held: Any, x: Tensor) -> Tensor:
    return held(x)


def times(held: Any, x: Tensor) -> Tensor:
    return x * held


def times_one(held: Any, x: Tensor) -> Tensor:
    return x


def times_scale(held: Any, x: Tensor) -> Tensor:
    return x * held.scale


def by_sign(held: Any, x: Tensor) -> Tensor:
    return x * np.copysign(1.0, held)


def as_array(value: float) -> Any:
    return np.full(5, value)


def times_array(held: Any, x: Tensor) -> Tensor:
    return x * torch.as_tensor(np.ascontiguousarray(held))


# How a value is made of a number, and how it is used: two numbers make different programs.
STACKED: dict[str, tuple[Callable[[float], Any], Callable[[Any, Tensor], Tensor]]] = {
    "array": (as_array, times_array),
    "backward array": (lambda v: np.linspace(v, 3.0, 5)[::-1], times_array),
    "array of objects": (lambda v: np.array([v, None]), lambda held, x: x * held[0]),
    "structured array": (lambda v: np.array([(v, 1)], "f8,i4"), lambda held, x: x * float(held["f0"][0])),
    "numpy number": (np.float32, lambda held, x: x * float(held)),
    "tensor": (lambda v: torch.full((5,), v), times),
    "strided tensor": (lambda v: torch.full((5, 2), v).t()[0], times),
    "integer tensor": (lambda v: torch.tensor(int(v)), times),
    "partial": (lambda v: functools.partial(scale_by, by=v), call),
    "partial of a tensor": (lambda v: functools.partial(scale_by, by=torch.tensor(v)), call),
    "lambda": (lambda v: lambda x: x * v, call),
    "lambda of an array": (lambda v: (lambda held: lambda x: x * torch.tensor(held))(as_array(v)), call),
    "default": (lambda v: lambda x, by=v: x * by, call),
    "function with attributes": (make_function, lambda held, x: held(x, held)),
    "dataclass": (lambda v: Settings(torch.tensor(v)), times_scale),
    "frozen dataclass": (Frozen, times_scale),
    "slots": (Slotted, times_scale),
    "object": (Scaler, call),
    "raising ==": (Touchy, call),
    "array ==": (Arrayed, call),
    "always ==": (Equal, call),
    "bound method": (lambda v: Scaler(v).__call__, call),
    "number with attributes": (make_scaled, lambda held, x: x * held.factor),
    "list": (lambda v: [1.0, {"a": v}], lambda held, x: x * held[1]["a"]),
    "key": (lambda v: {v: 1.0}, lambda held, x: x * next(iter(held))),
    "OrderedDict": (lambda v: OrderedDict(a=v), lambda held, x: x * held["a"]),
    "defaultdict": (
        lambda v: defaultdict(functools.partial(float, v)),
        lambda held, x: x * held.default_factory(),
    ),
    "set": (lambda v: {v, 0.5}, lambda held, x: x * sum(held)),
    "set of tensors": (lambda v: {torch.tensor(v)}, lambda held, x: x * next(iter(held))),
    "deque": (lambda v: deque([v]), lambda held, x: x * held[0]),
    "namedtuple": (lambda v: Pair(v, 0.0), times_scale),
    "namespace": (lambda v: SimpleNamespace(scale=v), times_scale),
    "slice": (lambda v: slice(0, int(v)), lambda held, x: x * x[:, held].sum(dim=1, keepdim=True)),
    "range": (lambda v: range(int(v)), lambda held, x: x * (1 + len(held))),
    "pattern": (lambda v: re.compile("a" * int(v)), lambda held, x: x * len(held.pattern)),
    "Fraction": (Fraction, lambda held, x: x * float(held)),
    "Decimal": (Decimal, lambda held, x: x * float(held)),
    "Enum": (Kind, lambda held, x: x * held.value),
    "iterator": (lambda v: itertools.repeat(v), lambda held, x: x * next(held)),
    "frozen module": (
        lambda v: [nn.Linear(1, 1, bias=False).requires_grad_(False).apply(lambda m: m.weight.fill_(v))],
        lambda held, x: held[0](x.unsqueeze(-1)).squeeze(-1),
    ),
    "logger": (lambda v: (logging.getLogger("a"), v), lambda held, x: x * held[1]),
    "dtype": (lambda v: (torch.float32, v), lambda held, x: x.to(held[0]).to(x.dtype) * held[1]),
}


def fit_all(modules: list[Callable[[], nn.Module]], **options: Any) -> tuple[list[Any], list[Any], list[str]]:
    """Fit nets singly and together, with equal seeds; return what the stack warned of too."""
    single = [MixupClassifier(make, **OPTIONS | options).fit(X, Y) for make in modules]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nets = [MixupClassifier(make, **OPTIONS | options) for make in modules]
        together = fit_stacked((net, X, Y) for net in nets)
    return single, together, [str(warning.message) for warning in caught]


def build(use: Any, make: Any, value: Any) -> nn.Module:
    return Holding(use, make(value))


def assert_same(single: list[Any], together: list[Any]) -> None:
    for net, other in zip(single, together, strict=True):
        found, expected = (n.module_.state_dict() for n in (other, net))
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", STACKED)
def test_equal_values_are_stacked_and_others_never(kind: str, stacks: list[int]) -> None:
    make, use = STACKED[kind]
    modules = [functools.partial(build, use, make, value) for value in (1.0, 2.0, 1.0, 2.0)]
    single, together, said = fit_all(modules, alpha=0.4)
    assert said == []
    assert stacks == [2] * 4
    assert_same(single, together)
    first, second = (net.module_.last.weight for net in single[:2])
    assert not torch.allclose(first, second)  # else a wrong stack would not be seen


def make_ring() -> list[Any]:
    held: list[Any] = []
    held.append(held)
    return held


# What a copy of a module would share with it, and what cannot be looked into.
REFUSED: dict[str, tuple[Callable[[Holding], Any], Callable[[Any, Tensor], Tensor], str]] = {
    "generator": (lambda net: (k for k in range(9)), times_one, "is a generator, which cannot be compared"),
    "module of Python": (lambda net: torch, times_one, "is a module, which cannot be compared"),
    "ring": (lambda net: make_ring(), times_one, "is a list, which holds itself"),
    "weight": (lambda net: [net.first.weight], lambda held, x: x * held[0].mean(), "which is trained"),
    "view": (lambda net: net.first.weight.detach()[1:], lambda held, x: x * held.mean(), "weight or buffer"),
    "array": (
        lambda net: net.first.weight.detach().numpy()[1],
        lambda held, x: x * held.mean(),
        "weight or buffer",
    ),
    "closure": (lambda net: lambda x: x * net.first.weight.mean(), call, "bound to a module"),
    "default": (lambda net: lambda x, part=net.last: x * part.bias[0], call, "bound to a module"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_stacked_is_named_with_what_to_do(kind: str, stacks: list[int]) -> None:
    make, use, match = REFUSED[kind]

    def build_holding() -> nn.Module:
        net = Holding(use, None)
        net.held = make(net)
        return net

    single, together, said = fit_all([build_holding] * 2)
    assert stacks == []
    assert len(said) == 1
    assert match in said[0]
    assert "make it in forward, or keep it out of the module" in said[0]
    assert_same(single, together)


def test_functions_of_other_globals_are_not_stacked(stacks: list[int]) -> None:
    modules = [functools.partial(build, call, make_other_globals, value) for value in (1.0, 2.0)]
    single, together, _ = fit_all(modules)
    assert stacks == []
    assert_same(single, together)


@pytest.mark.parametrize("values", [(0.0, -0.0), (1.0, True), (1.0, Scaled(1.0))])
def test_equal_numbers_that_are_not_the_same_are_not_stacked(values: Any, stacks: list[int]) -> None:
    single, together, _ = fit_all([functools.partial(Holding, by_sign, value) for value in values])
    assert stacks == []
    assert_same(single, together)


class Listed(Holding):
    """Holds parts and a method of its own."""

    def __init__(self) -> None:
        super().__init__(call, None)
        self.parts = [self.first, self.last]
        self.held = self.double

    def double(self, x: Tensor) -> Tensor:
        return x * self.parts[0].bias


def test_what_is_registered_is_found_by_its_name(stacks: list[int]) -> None:
    single, together, said = fit_all([Listed] * 3)
    assert (said, stacks) == ([], [3, 3])
    assert_same(single, together)


@pytest.mark.parametrize("change", ["number", "array", "copy"])
def test_what_changes_in_forward_is_never_stacked(change: str, stacks: list[int]) -> None:
    def use(held: Any, x: Tensor) -> Tensor:
        if change == "number":
            held.scale = held.scale + 1
        elif change == "array":
            held.scale += 1.0
        return x * float(np.sum(getattr(held, "scale", 7.0)))

    owner = Forgetful if change == "copy" else Scaler
    single, together, said = fit_all([lambda: Holding(use, owner(as_array(1.0)))] * 2)
    assert stacks == []
    assert len(said) == 1
    assert "forward changes attributes" in said[0]
    assert_same(single, together)


def make_gan(value: float, seed: int, use: Any, make: Any) -> MixupGAN:
    def build_generator() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 6), Holding(use, make(value)), nn.Linear(3, 6))

    def build_discriminator() -> nn.Module:
        return nn.Sequential(Holding(use, make(value)), nn.Linear(3, 1))

    sizes = {"steps_per_epoch": 2, "max_epochs": 1, "batch_size": 8, "random_state": seed}
    return MixupGAN(build_generator, build_discriminator, **sizes)


@pytest.mark.parametrize("kind", ["array", "tensor", "partial", "dataclass", "raising =="])
def test_gans_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, use = STACKED[kind]
    sizes: list[int] = []
    stack = GanTrainer.stack

    def stack_noted(self: GanTrainer, epochs: Any) -> Any:
        sizes.append(len(epochs))
        return stack(self, epochs)

    monkeypatch.setattr(GanTrainer, "stack", stack_noted)
    monkeypatch.setattr(Engine, "_is_worth_it", lambda *_: True)
    values = [(1.0, 0), (2.0, 0), (1.0, 1), (2.0, 1)]
    single = [make_gan(*value, use, make).fit(X) for value in values]
    together = fit_stacked((make_gan(*value, use, make), X) for value in values)
    assert sizes == [2, 2]
    for net, other in zip(single, together, strict=True):
        np.testing.assert_allclose(other.sample(5, 0), net.sample(5, 0), rtol=0, atol=1e-9)


class Own(nn.Module):
    """A criterion of the user's own, with an option and a buffer."""

    def __init__(self, power: float = 2.0, *, reduction: str = "mean") -> None:
        super().__init__()
        self.power, self.reduction = power, reduction
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(output, y, reduction="none") * self.scale
        loss = loss.abs() ** self.power
        return loss if self.reduction == "none" else loss.mean()


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("criterion", [Own, functools.partial(Own, 3.0), nn.MultiMarginLoss])
def test_a_criterion_of_the_users_own_is_named_with_what_is_stacked(
    criterion: Any, alpha: float, weighted: bool
) -> None:
    options = {**OPTIONS, "alpha": alpha, "module__hidden_layer_sizes": (4,), "criterion": criterion}
    params = {"sample_weight": 1.0 + Y} if weighted else {}
    single = [MixupClassifier(**options).fit(X, Y, **params) for _ in range(2)]
    with pytest.warns(
        UserWarning, match="in closed form here for these targets; nets are stacked with CrossEntropy"
    ):
        together = fit_stacked((MixupClassifier(**options), X, Y, params) for _ in range(2))
    assert_same(single, together)
