"""What a stack asks of its device: operations, sends and waits do not grow with the number of nets."""

from __future__ import annotations

from collections.abc import Callable
import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup._data import batches as data
from sk_mixup._data import joint_plans
from sk_mixup._devices import ACCELERATOR
from sk_mixup._random import TorchStream
from sk_mixup._training.epoch import Epoch
from sk_mixup._training.perceptron import StackedPerceptronTrainer
from sk_mixup.mixing import ManifoldMixup
from tests.helpers.architectures import draw_batches, find_trainer, get_tensors
from tests.helpers.sampling import each_pair

# Slow: traces stacks of many sizes, 7 s of CPU.
pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"max_epochs": 1, "early_stopping": False, "batch_size": 16}
READING = {"item", "tolist", "__float__", "__int__", "__bool__", "cpu"}


class Launches(TorchDispatchMode):
    """Notes the operations that a device would compute; a view is none."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inside = {t.untyped_storage().data_ptr() for t in (*args,) if isinstance(t, Tensor)}
        is_view = isinstance(out, Tensor) and not func._schema.is_mutable
        if not (is_view and out.untyped_storage().data_ptr() in inside) and "unbind" not in str(func):
            self.seen.append(str(func))
        return out


class Reads(TorchFunctionMode):
    """Notes what the host reads of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.extend([func.__name__] * (getattr(func, "__name__", "") in READING))
        return func(*args, **(kwargs or {}))


OPTIONS: dict[str, Callable[[int], dict[str, Any]]] = {
    "default": lambda k: {},
    "some_plain": lambda k: {"alpha": [0, 0.4, 1.0][k % 3]},
    "three": lambda k: {"n_mixed": 2 + k % 2},
    "dataset": lambda k: {"partners": "dataset"},
    "inside": lambda k: {"vicinity": ManifoldMixup()},
    "amsgrad": lambda k: {"optimizer__amsgrad": True},
}


def make_epochs(
    n_nets: int,
    problem: str,
    options: Callable[[int], dict[str, Any]],
    *,
    weighted: bool = False,
    n: int = 70,
) -> list[Epoch]:
    """Return epochs of fitted nets, each of rows of its own; some have one row more."""
    generator = np.random.default_rng(0)
    owner, y = {
        "classes": (MixupClassifier, generator.integers(3, size=n + 1)),
        "labels": (MixupClassifier, generator.integers(2, size=(n + 1, 3))),
        "values": (MixupRegressor, generator.normal(size=(n + 1, 2)).astype(np.float32)),
    }[problem]
    X = generator.normal(size=(n + 1, 8)).astype(np.float32)
    epochs = []
    for k in range(n_nets):
        net = owner(random_state=k, **SMALL | options(k))
        rows = X[k % 2 :].copy(), y[k % 2 :], generator.uniform(0.5, 2, n + 1 - k % 2) if weighted else None
        net.fit(*rows[:2], sample_weight=rows[2])
        batches = draw_batches(net, *rows)
        epochs.append(Epoch(find_trainer(net, batches), batches, lambda *_: None, TorchStream(0)))  # type: ignore[arg-type]
    return epochs


def run(epochs: list[Epoch]) -> tuple[list[str], list[str]]:
    """Train a stack as a GPU would; return the operations, and what the host reads."""
    with Reads() as reads, Launches() as launches:
        assert StackedPerceptronTrainer(epochs, ACCELERATOR).run_epoch()
    return launches.seen, reads.seen


def run_second(epochs: list[Epoch]) -> tuple[list[str], list[str]]:
    """The same of a second epoch, when what the optimizers have counted is known."""
    run(epochs)
    return run(epochs)


def test_a_step_of_200_default_nets_takes_few_operations() -> None:
    epochs = make_epochs(200, "classes", OPTIONS["default"], n=500)
    seen, reads = run_second(epochs)
    assert len(seen) / epochs[0].n_batches <= 30
    assert len(reads) <= 1  # the losses


@each_pair({"problem": ["classes", "labels", "values"], "options": list(OPTIONS), "weighted": [False, True]})
def test_operations_do_not_grow_with_the_number_of_nets(problem: str, options: str, weighted: bool) -> None:
    few, many = (run_second(make_epochs(n, problem, OPTIONS[options], weighted=weighted)) for n in (6, 12))
    assert sorted(few[0]) == sorted(many[0])
    assert few[1] == many[1]


def count_calls(function: Callable[[], object]) -> int:
    """Return how many functions of Python's are called."""
    n_calls = 0

    def look(frame: Any, event: str, arg: object) -> None:
        nonlocal n_calls
        n_calls += event == "call"

    sys.setprofile(look)
    try:
        function()
    finally:
        sys.setprofile(None)
    return n_calls


@pytest.mark.parametrize("options", ["default", "some_plain"])
def test_a_net_costs_few_calls_of_python(options: str) -> None:
    counts = []
    for n_nets in (6, 12):
        epochs = make_epochs(n_nets, "classes", OPTIONS[options])
        run(epochs)
        counts.append(count_calls(lambda epochs=epochs: StackedPerceptronTrainer(epochs).run_epoch()))  # type: ignore[misc]
    assert (counts[1] - counts[0]) / 6 <= 300


OF_LOSSES: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "label_smoothing": ("classes", lambda k: {"label_smoothing": [0.0, 0.1, 0.3][k % 3]}),
    "confidence_penalty": ("labels", lambda k: {"confidence_penalty": [0.2, 0.1][k % 2]}),
    "class_weight": (
        "classes",
        lambda k: {"criterion__weight": [1.0, 2.0, 3.0 + k]},
    ),
}


@pytest.mark.parametrize("name", OF_LOSSES)
def test_losses_of_other_options_are_prepared_by_the_same_operations(name: str) -> None:
    problem, options = OF_LOSSES[name]
    few, many = (run_second(make_epochs(n, problem, options)) for n in (6, 12))
    assert sorted(few[0]) == sorted(many[0])


@pytest.mark.parametrize("options", OPTIONS)
def test_sends_do_not_grow_with_the_number_of_nets(monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    sent: list[tuple[int, ...]] = []

    def send(values: Any, *args: Any) -> Tensor:
        sent.append(np.shape(values))
        return real(values, *args)

    real = joint_plans.send
    epochs = make_epochs(12, "classes", OPTIONS[options], weighted=True)
    monkeypatch.setattr(joint_plans, "send", send)
    monkeypatch.setattr(data, "send", send)
    run(epochs)
    assert 3 <= len(sent) <= 8


def change_in_place(net: Any) -> None:
    for state in net.optimizer_.state.values():
        state["step"].fill_(100)


def load_state(net: Any) -> None:
    state = copy.deepcopy(net.optimizer_.state_dict())
    for own in state["state"].values():
        own["step"] += 50
    net.optimizer_.load_state_dict(state)


def train_alone(net: Any) -> None:
    X, y = np.zeros((20, 8), np.float32), np.arange(20) % 3
    net.partial_fit(X, y)


CHANGES = {
    "in_place": change_in_place,
    "loaded": load_state,
    "alone": train_alone,
    "nothing": lambda net: None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_counts_of_optimizers_follow_what_others_do_to_them(float64: None, change: str) -> None:
    X, y = np.random.default_rng(0).normal(size=(40, 8)), np.arange(40) % 3
    nets = [MixupClassifier(random_state=k, lr=0.01, **SMALL).fit(X, y) for k in range(3)]

    def make(net: Any) -> Epoch:
        batches = draw_batches(net, X, y)
        return Epoch(find_trainer(net, batches), batches, lambda *_: None, TorchStream(0))  # type: ignore[arg-type]

    others = copy.deepcopy(nets)
    for _ in range(2):
        CHANGES[change](nets[0])
        CHANGES[change](others[0])
        run([make(net) for net in nets])
        for net in others:
            make(net).run_single()
    for net, other in zip(nets, others, strict=True):
        torch.testing.assert_close(get_tensors(net), get_tensors(other), rtol=1e-9, atol=1e-9)
