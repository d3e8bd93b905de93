"""Nets that are trained as one: each is the net of its single fit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import cycle, product
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import LRScheduler
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup._devices import ACCELERATOR, LIMITS
from sk_mixup._random import TorchStream
from sk_mixup._training.epoch import Epoch
from sk_mixup.modules import MLP
from sk_mixup.stacking._engine import Engine
from sk_mixup.stacking._scheduler import Aborted
from tests.helpers.architectures import (
    ARCHITECTURES,
    MIXING,
    PROBLEMS,
    WEIGHT,
    assert_same_nets,
    draw_batches,
    find_trainer,
    get_tensors,
    has_classes,
    make_net,
    make_rows,
)
from tests.helpers.stacking import fit_stacked, stacked

ONE_OF_EACH = ["mlp", "tanh"]
# Of 45 rows, in batches of 16: 16 + 16 + 13, 16 + 16 + 8, 16 + 17 and 16 + 4.
FOLDS = [slice(0, 45), slice(5, 45), slice(3, 36), slice(20, 40)]
QUICK: dict[str, Any] = {"early_stopping": False, "max_epochs": 3, "lr": 0.02, "batch_size": 16}


# Slow: trains each net twice, 10 s of CPU.
pytestmark = [pytest.mark.usefixtures("stack_two"), pytest.mark.slow]


def fit_both(jobs: list[tuple[Any, ...]], **options: Any) -> tuple[list[Any], list[Any]]:
    """Fit copies of the nets of some jobs together, and others one after the other."""
    single = []
    for net, X, y, *params in jobs:
        single.append(clone(net).fit(X, y, **(params[0] if params else {})))
    return fit_stacked([(clone(net), *rest) for net, *rest in jobs], **options), single


def read_history(net: Any) -> list[dict[str, Any]]:
    """Return the history of a net without its times."""
    return [{key: value for key, value in epoch.items() if key != "dur"} for epoch in net.history]


def assert_equal(together: list[Any], single: list[Any], tolerance: float = 1e-9) -> None:
    """Assert that nets, their optimizers and histories are the same but for rounding."""
    close = {"rtol": tolerance, "atol": tolerance}
    for net, other in zip(together, single, strict=True):
        assert net.n_iter_ == other.n_iter_
        torch.testing.assert_close(get_tensors(net), get_tensors(other), **close)
        assert net.optimizer_.param_groups[0]["lr"] == other.optimizer_.param_groups[0]["lr"]
        for epoch, expected in zip(read_history(net), read_history(other), strict=True):
            assert list(epoch) == list(expected)
            torch.testing.assert_close(epoch, expected, **close)


def make_jobs(
    groups: list[dict[str, Any]], architecture: str = "mlp", problem: str = "classes", **options: Any
) -> list[tuple[Any, ...]]:
    """Return a job for each net's options, on folds in turn."""
    X, y = make_rows(architecture), PROBLEMS[problem].y
    jobs = []
    for k, own in enumerate(groups):
        merged = {**QUICK, "random_state": k, **options, **own}
        callbacks = merged.pop("callbacks", [])
        net = make_net(architecture, problem, **merged).set_params(callbacks=callbacks)
        fold = FOLDS[k % len(FOLDS)]
        jobs.append((net, X[fold], y[fold]))
    return jobs


FOUR: list[dict[str, Any]] = [{}] * 4


@pytest.mark.parametrize(
    ("architecture", "problem"),
    # Each architecture with one kind of targets, and one of each way of training with all.
    sorted({*zip(ARCHITECTURES, cycle(PROBLEMS), strict=False), *product(("mlp", "dropout"), PROBLEMS)}),
)
def test_nets_of_a_stack_equal_single_ones(
    float64: None, stacks: list[int], architecture: str, problem: str
) -> None:
    alphas = [{"alpha": alpha} for alpha in (0, 0.2, 1.0, float("inf"))]
    assert_equal(*fit_both(make_jobs(alphas, architecture, problem)))
    assert stacks == [4, 4, 4]


MIXED = [*zip(("mlp", "dropout") * 3, PROBLEMS, strict=True)]
MIXED += [(name, "classes") for name in ("dropout", "tanh", "convolution", "normed")]


@pytest.mark.parametrize(("architecture", "problem"), MIXED)
def test_each_net_of_a_stack_mixes_in_its_own_way(
    float64: None, stacks: list[int], architecture: str, problem: str
) -> None:
    ways = [MIXING[name] for name in MIXING if has_classes(problem, name)]
    assert_equal(*fit_both(make_jobs(ways, architecture, problem)))
    assert stacks == [len(ways)] * 3


OPTIMIZERS: list[tuple[Any, list[dict[str, Any]]]] = [
    (torch.optim.Adam, [{}, {"weight_decay": 0.1}, {"amsgrad": True}, {"maximize": True}]),
    (torch.optim.Adam, [{}, {"betas": (0.8, 0.9)}, {"eps": 1e-3}, {"betas": (0.5, 0.99)}]),
    (torch.optim.Adam, [{"foreach": True}, {"fused": False}, {"foreach": False}, {}]),
    (torch.optim.AdamW, [{}, {"weight_decay": 0.5}, {"amsgrad": True}, {"maximize": True}]),
    (torch.optim.SGD, [{}, {"weight_decay": 0.1}, {"maximize": True}, {"foreach": True}]),
    (torch.optim.SGD, [{}, {"momentum": 0.9}, {"momentum": 0.5, "nesterov": True}, {}]),
    (torch.optim.SGD, [{"momentum": 0.9}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5}]),
    (torch.optim.RMSprop, [{}, {"momentum": 0.9}, {"centered": True}, {"alpha": 0.9}]),
    (torch.optim.Adagrad, [{}, {"lr_decay": 0.1}, {"initial_accumulator_value": 0.1}, {}]),
    (torch.optim.Adadelta, [{}, {"rho": 0.5}, {"weight_decay": 0.1}, {}]),
    (torch.optim.Adamax, [{}, {"weight_decay": 0.1}, {"betas": (0.5, 0.9)}, {}]),
    (torch.optim.NAdam, [{}, {"momentum_decay": 0.1}, {"decoupled_weight_decay": True}, {}]),
    (torch.optim.RAdam, [{}, {"weight_decay": 0.1}, {"decoupled_weight_decay": True}, {}]),
    (torch.optim.ASGD, [{}, {"t0": 2}, {"lambd": 0.1}, {"alpha": 0.5}]),
    (torch.optim.Rprop, [{}, {"etas": (0.4, 1.3)}, {"step_sizes": (1e-3, 0.1)}, {}]),
]


@pytest.mark.parametrize(
    ("optimizer", "options", "architecture"),
    [(*case, name) for case, name in zip(OPTIMIZERS, cycle(ONE_OF_EACH), strict=False)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_net_of_a_stack_has_its_own_options_of_the_optimizer(
    float64: None, stacks: list[int], optimizer: Any, options: list[dict[str, Any]], architecture: str
) -> None:
    prefixed = [{f"optimizer__{name}": value for name, value in own.items()} for own in options]
    # Nets with equal options share the calls of the kernel.
    jobs = make_jobs([*prefixed, prefixed[0]], architecture, optimizer=optimizer, max_epochs=4)
    assert_equal(*fit_both(jobs))
    assert stacks == [len(jobs)] * 4


SCHEDULED = [
    LRScheduler("StepLR", step_size=1, gamma=0.5),
    LRScheduler("ExponentialLR", gamma=0.9),
    LRScheduler(torch.optim.lr_scheduler.LinearLR, total_iters=3),
]
GROUPS: dict[str, list[dict[str, Any]]] = {
    "lr": [{"lr": lr} for lr in (0.001, 0.01, 0.1, 0.1)],
    "label_smoothing": [{"label_smoothing": share} for share in (0, 0.1, 0.5, 1.0)],
    "class_weight": [{"class_weight": w} for w in (None, "balanced", {0: 1, 1: 2, 2: 5}, None)],
    "confidence_penalty": [
        {"confidence_penalty": share, "label_smoothing": share} for share in (0.1, 0.2, 0.4)
    ],
    "criterion_weight": [
        {"criterion__weight": w} for w in ([1.0, 2.0, 3.0], [3.0, 0.5, 0.0], [1.0, 1.0, 1.0])
    ],
    "max_epochs": [{"max_epochs": n} for n in (1, 4, 2, 3, 0)],
    "batch_size": [{"batch_size": n} for n in (8, 8, 16, 5, 5, 16, 100, 3)],
    "whole_batches": [{"batch_size": -1}] * 5,
    "too_large_batches": [{"batch_size": 64}] * 5,
    "plain_epochs": [
        {"warmup_epochs": 1},
        {"cooldown_epochs": 2},
        {"warmup_epochs": 2, "cooldown_epochs": 1},
        {"warmup_epochs": 3},
    ],
    "drop_last": [{"iterator_train__drop_last": True}, {}] * 3,
    "shuffle": [{"iterator_train__shuffle": False}, {}] * 2,
    "storage": [{"storage": name} for name in ("host", "device", "auto", "host")],
    "schedulers": [{"callbacks": [("scheduler", scheduler)]} for scheduler in SCHEDULED] + [{}],
    "param_groups": [{"optimizer__param_groups": [("*weight", {"lr": lr})]} for lr in (0.1, 0.001)] * 2,
    "some_param_groups": [{"optimizer__param_groups": [("*0.weight", {"weight_decay": 0.5})]}, {}] * 2,
    "early_stopping": [
        {
            "early_stopping": True,
            "validation_fraction": share,
            "n_iter_no_change": n,
            "max_epochs": 20,
            "lr": 0.1,
        }
        for share, n in ((0.2, 1), (0.3, 2), (0.3, 1), (0.2, 20), (0.2, 3))
    ],
    "early_stopping_and_cooldown": [
        {"early_stopping": True, "n_iter_no_change": n, "max_epochs": 9, "lr": 0.2, "cooldown_epochs": 2}
        for n in (1, 2, 1, 9)
    ],
}


OPTIONS = [(name, group) for name in ("mlp", "dropout") for group in GROUPS]
OPTIONS += [("normed", group) for group in ("batch_size", "drop_last", "early_stopping", "plain_epochs")]


@pytest.mark.filterwarnings("ignore:early_stopping must find")
@pytest.mark.parametrize(("architecture", "group"), OPTIONS)
def test_each_net_of_a_stack_has_its_own_options(
    float64: None, stacks: list[int], architecture: str, group: str
) -> None:
    assert_equal(*fit_both(make_jobs(GROUPS[group], architecture)))
    assert max(stacks) > 1


def test_nets_of_a_stack_stop_early_at_different_epochs(float64: None, stacks: list[int]) -> None:
    together, single = fit_both(make_jobs(GROUPS["early_stopping"]))
    assert_equal(together, single)
    lengths = [len(net.history) for net in single]
    assert len(set(lengths)) > 2
    # In each epoch those that have not stopped are a stack; the last one is no stack any more.
    left = [sum(length > epoch for length in lengths) for epoch in range(max(lengths))]
    assert stacks == [n for n in left if n > 1]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("architecture", ONE_OF_EACH)
def test_some_nets_of_a_stack_have_weighted_rows(
    float64: None, stacks: list[int], architecture: str, problem: str
) -> None:
    jobs = make_jobs([{}, {"alpha": 0}, {"lam_per": "batch"}, {}], architecture, problem)
    weights = [WEIGHT[FOLDS[0]], None, WEIGHT[FOLDS[2]], np.round(WEIGHT[FOLDS[3]] - 0.3)]
    jobs = [(*job, {"sample_weight": weight}) for job, weight in zip(jobs, weights, strict=True)]
    assert_equal(*fit_both(jobs))
    assert stacks == [4] * 3


@pytest.mark.parametrize("architecture", ["mlp", "dropout", "normed"])
@pytest.mark.parametrize("sizes", [[3, 4, 5], [32, 16, 48], [15, 17, 31, 33, 47]])
def test_nets_of_a_stack_have_any_number_of_rows(float64: None, architecture: str, sizes: list[int]) -> None:
    X, y = make_rows(architecture).repeat(2, axis=0), np.tile([0, 1, 2], 30)
    jobs = [
        (make_net(architecture, **QUICK | {"random_state": k}), X[k : k + n], y[k : k + n])
        for k, n in enumerate(sizes)
    ]
    assert_equal(*fit_both(jobs))


@pytest.mark.parametrize("architecture", ONE_OF_EACH)
def test_nets_of_a_stack_have_sparse_rows(float64: None, stacks: list[int], architecture: str) -> None:
    jobs = make_jobs([{}, {"alpha": 0}, {"n_mixed": 3}, {}], architecture)
    rows = [sparse.csr_matrix(np.maximum(X, 0)) for _, X, _ in jobs[:2]] + [X for _, X, _ in jobs[2:]]
    assert_equal(*fit_both([(net, X, y) for (net, _, y), X in zip(jobs, rows, strict=True)]))
    assert stacks == [4] * 3


@pytest.mark.parametrize("elements", [1, 700, ACCELERATOR.stack_elements])
@pytest.mark.parametrize("architecture", ONE_OF_EACH)
def test_nets_of_blocks_of_any_size_equal_single_ones(
    monkeypatch: pytest.MonkeyPatch, float64: None, architecture: str, elements: int
) -> None:
    monkeypatch.setitem(LIMITS, "cpu", replace(LIMITS["cpu"], stack_elements=elements))
    jobs = make_jobs([{"batch_size": 4}] * 4, architecture)
    assert_equal(*fit_both([(net, X, y, {"sample_weight": WEIGHT[: len(X)]}) for net, X, y in jobs]))


@pytest.mark.parametrize(("architecture", "n_threads"), [("mlp", 3), ("tanh", 2)])
def test_stacks_of_several_threads_equal_single_fits(
    float64: None, architecture: str, n_threads: int
) -> None:
    jobs = make_jobs(FOUR + FOUR, architecture)
    torch.set_num_threads(n_threads)
    try:
        assert_equal(*fit_both(jobs))
        assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(1)


WITH_MOMENTUM: dict[str, dict[str, Any]] = {
    "Adam": {"optimizer": torch.optim.Adam},
    "SGD": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
}


@pytest.mark.parametrize("max_nets", [1, 3])
@pytest.mark.parametrize("name", ["Adam", "SGD"])
@pytest.mark.parametrize("architecture", ["mlp", "dropout"])
def test_nets_that_join_others_equal_single_ones(
    float64: None, architecture: str, name: str, max_nets: int
) -> None:
    groups = [{"max_epochs": n} for n in (4, 1, 2, 3, 2, 1, 5)]
    jobs = make_jobs(groups, architecture, **WITH_MOMENTUM[name])
    assert_equal(*fit_both(jobs, max_nets=max_nets))


class Frozen(nn.Module):
    """The first layer is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8).requires_grad_(False)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).tanh())


class Unused(nn.Module):
    """A layer takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(6, 8)
        self.line = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x)


class Tied(nn.Module):
    """A weight is used in both directions, another layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 3)
        self.back = nn.Linear(3, 6)
        self.back.weight = nn.Parameter(self.first.weight.detach().t().clone())
        self.again = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.back(self.first(x).tanh()))


class Shared(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).tanh()).tanh())


class Counting(nn.Module):
    """Keeps a buffer of its own, changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(6, 3)
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("n", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.mul_(0.9).add_(x.detach().mean(dim=0), alpha=0.1)
            self.n += 1
        return self.line(x - self.mean)


class Averaging(nn.Module):
    """Keeps a buffer of its own, put in the place of the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(6, 3)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(dim=0)
        return self.line(x - self.mean)


class Annealed(nn.Module):
    """Counts its steps in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(6, 3)
        self.n_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.n_calls += 1
        return self.line(x) * (1 - 1 / (1 + self.n_calls))


class Noted(nn.Module):
    """Keeps what it last saw."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = [x.shape[0]]
        return self.line(x)


class Partly(nn.Module):
    """A layer takes part in full batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.extra = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x) + self.extra(x) if len(x) >= 16 else self.line(x)


def build(*parts: tuple[Any, ...]) -> nn.Module:
    """Build a sequence of (class, *arguments)."""
    return nn.Sequential(*(kind(*args) for kind, *args in parts))


def build_twice_dropped() -> nn.Module:
    drop = nn.Dropout(0.4)
    return nn.Sequential(nn.Linear(6, 8), drop, nn.Linear(8, 8), drop, nn.Linear(8, 3))


class Turn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


FIRST, LAST = (nn.Linear, 6, 8), (nn.Linear, 8, 3)
MODULES: dict[str, Any] = {
    "frozen": Frozen,
    "unused": Unused,
    "tied": Tied,
    "shared": Shared,
    "counting": Counting,
    "in_place": partial(build, FIRST, (nn.Dropout, 0.3, True), LAST),
    "no_dropout": partial(build, FIRST, (nn.Dropout, 0.0), LAST),
    "all_dropped": partial(build, FIRST, (nn.Dropout, 1.0), LAST),
    "layer_norm": partial(build, (nn.Linear, 6, 8, False), (nn.LayerNorm, 8), (nn.GELU,), LAST),
    "group_norm": partial(build, (nn.Linear, 6, 8, False), (nn.GroupNorm, 2, 8), (nn.ELU,), LAST),
    "untracked": partial(
        build, (nn.Linear, 6, 8, False), (nn.BatchNorm1d, 8, 1e-5, 0.1, True, False), (nn.Tanh,), LAST
    ),
}
# Whether these are stacked is left open.
SPECIAL: dict[str, Any] = {
    "averaging": Averaging,
    "annealed": Annealed,
    "noted": Noted,
    "twice": build_twice_dropped,
    # Dropout draws in the order of the memory.
    "turned": partial(
        build,
        (nn.Unflatten, 1, (2, 3)),
        (nn.Linear, 3, 4),
        (Turn,),
        (nn.Dropout, 0.5),
        (nn.Flatten,),
        (nn.Linear, 8, 3),
    ),
}
SGD = {"optimizer": torch.optim.SGD, "lr": 0.1}


def make_module_jobs(module: Any, n: int = 4, **options: Any) -> list[tuple[Any, ...]]:
    """Return jobs of nets with one module, on the folds."""
    X, y = make_rows("mlp"), PROBLEMS["classes"].y
    return [
        (MixupClassifier(module, **{**QUICK, "random_state": k, **options}), X[fold], y[fold])
        for k, fold in enumerate(FOLDS[:n])
    ]


@pytest.mark.parametrize("options", [{"optimizer__weight_decay": 0.1}, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("name", MODULES)
def test_any_module_in_a_stack_equals_a_single_one(
    float64: None, stacks: list[int], name: str, options: dict[str, Any]
) -> None:
    assert_equal(*fit_both(make_module_jobs(MODULES[name], **options)))
    assert stacks == [4, 4, 4]


@pytest.mark.filterwarnings("ignore:stacked")
@pytest.mark.parametrize("name", SPECIAL)
def test_module_that_is_hard_to_stack_equals_a_single_one(float64: None, name: str) -> None:
    together, single = fit_both(make_module_jobs(SPECIAL[name], optimizer__weight_decay=0.1))
    assert_equal(together, single)
    for name in ("n_calls", "seen"):
        ours, theirs = ([vars(net.module_).get(name) for net in nets] for nets in (together, single))
        assert ours == theirs


@pytest.mark.filterwarnings("ignore:stacked")
def test_net_whose_epoch_ended_before_the_others_failed_equals_a_single_one(float64: None) -> None:
    X, y = make_rows("mlp"), PROBLEMS["classes"].y
    # Two batches of 16 rows; the others find out in the third that they cannot be stacked.
    jobs = [
        (MixupClassifier(Partly, **QUICK, random_state=k), X[:n], y[:n])
        for k, n in enumerate((32, 45, 32, 45))
    ]
    assert_equal(*fit_both(jobs))


@pytest.mark.parametrize("kind", [nn.Tanh, nn.ReLU])
def test_copies_of_a_module_in_a_stack_equal_single_ones(float64: None, stacks: list[int], kind: Any) -> None:
    assert_equal(*fit_both(make_module_jobs(build(FIRST, (kind,), LAST))))
    assert stacks == [4, 4, 4]


def build_dropped_images(n: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, n))


@pytest.mark.filterwarnings("ignore:stacked")
@pytest.mark.parametrize("channels_last", [False, True])
def test_dropout_of_images_in_a_stack_equals_a_single_one(float64: None, channels_last: bool) -> None:
    X, y = make_rows("convolution"), PROBLEMS["classes"].y
    options = QUICK | {"channels_last": channels_last}
    module = partial(build_dropped_images, 3)
    jobs = [(MixupClassifier(module, **options, random_state=k), X[f], y[f]) for k, f in enumerate(FOLDS)]
    assert_equal(*fit_both(jobs))


class Flat(nn.Module):
    """Gives one number a row, without an axis for it."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x).squeeze(1)


@pytest.mark.parametrize("module", [Flat, MLP])
def test_nets_with_one_output_in_a_stack_equal_single_ones(
    float64: None, stacks: list[int], module: Any
) -> None:
    X, y = make_rows("mlp"), PROBLEMS["target"].y
    jobs = [(MixupRegressor(module, **QUICK, random_state=k), X[f], y[f]) for k, f in enumerate(FOLDS)]
    assert_equal(*fit_both(jobs))
    assert stacks == [4] * 3


@pytest.mark.parametrize("architecture", ["mlp", "tanh", "convolution", "dropout"])
def test_nets_of_a_stack_in_bfloat16_are_close_to_single_ones(stacks: list[int], architecture: str) -> None:
    together, single = fit_both(make_jobs(FOUR, architecture, autocast="bfloat16", **SGD))
    assert_equal(together, single, tolerance=0.02)
    assert stacks == [4] * 3


def make_mixed_jobs() -> list[tuple[Any, ...]]:
    """Return jobs of every architecture and problem."""
    jobs = []
    for architecture in ARCHITECTURES:
        for k, problem in enumerate(PROBLEMS):
            options = QUICK | {"random_state": k, "max_epochs": 1 + k % 3}
            X, y, fold = make_rows(architecture), PROBLEMS[problem].y, FOLDS[k % 4]
            jobs.append((make_net(architecture, problem, **options), X[fold], y[fold]))
    return jobs


def test_nets_of_many_kinds_at_once_equal_single_ones(float64: None, stacks: list[int]) -> None:
    assert_equal(*fit_both(make_mixed_jobs()))
    assert max(stacks) > 1


@pytest.mark.parametrize("architecture", ["mlp", "tanh", "dropout", "normed", "convolution"])
def test_same_stack_twice_gives_the_same_nets(architecture: str) -> None:
    nets = [fit_stacked(make_jobs([{}, {"lr": 0.1}, {"alpha": 0}, {}], architecture)) for _ in range(2)]
    for net, other in zip(*nets, strict=True):
        assert_same_nets(net, other)


@pytest.mark.parametrize("first", [0, 1], ids=["warm_first", "fresh_first"])
@pytest.mark.parametrize(
    ("architecture", "name"), [("mlp", "Adam"), ("mlp", "SGD"), ("dropout", "Adam"), ("channels_last", "SGD")]
)
def test_warm_and_fresh_nets_in_a_stack_equal_single_ones(
    float64: None, stacks: list[int], architecture: str, name: str, first: int
) -> None:
    options = {**WITH_MOMENTUM[name], "warm_start": True}
    together, single = (make_jobs(FOUR, architecture, **options) for _ in range(2))
    for jobs in (together, single):
        for net, X, y in jobs[first::2]:
            net.fit(X, y)
    fit_stacked(together)
    for net, X, y in single:
        net.fit(X, y)
    assert_equal([net for net, *_ in together], [net for net, *_ in single])
    assert stacks == [4] * 3


def break_off(after: int) -> Any:
    """Return a function that raises at a certain call."""
    left = iter(range(after))

    def check() -> None:
        if next(left, 0) == after - 1:
            raise Aborted

    return check


@pytest.mark.parametrize("architecture", ["mlp", "dropout"])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_epoch_that_is_broken_off_and_run_again_equals_an_unbroken_one(
    float64: None, architecture: str, after: int
) -> None:
    ours, theirs = ([net.fit(X, y) for net, X, y in make_jobs(FOUR, architecture)] for _ in range(2))
    rows = [(X, y) for _, X, y in make_jobs(FOUR, architecture)]
    epochs, expected = (
        [make_epoch(net, *row) for net, row in zip(nets, rows, strict=True)] for nets in (ours, theirs)
    )
    engine = Engine(1)
    try:
        with pytest.raises(Aborted, match=r"^$"):
            engine.train(epochs, break_off(after))
        engine.train(epochs, lambda: None)
    finally:
        engine.close()
    for epoch in expected:
        with epoch.stream.as_global():
            epoch.run_single()
    assert all(epoch.done for epoch in epochs)
    assert_equal(ours, theirs)


def make_epoch(net: Any, X: Any, y: Any) -> Epoch:
    """Return one more epoch of a fitted net."""
    batches = draw_batches(net, X, y)
    return Epoch(find_trainer(net, batches), batches, lambda *_: None, TorchStream(0))


ALPHAS = {"alpha": [0, 0.2, 1.0]}


def search(make: Any, X: Any, y: Any, cv: Any, *, together: bool) -> Any:
    """Search for alpha; return the scores of all folds."""
    net = make(max_epochs=5, lr=0.01, batch_size=32, random_state=0)
    if make is MixupRegressor:
        y = (y - y.mean()) / y.std()
    name = make.__name__.lower()
    grid = GridSearchCV(
        make_pipeline(StandardScaler(), net), {f"{name}__{key}": v for key, v in ALPHAS.items()}, cv=cv
    )
    if together:
        with stacked():
            grid.fit(X, y)
    else:
        grid.fit(X, y)
    names = sorted(name for name in grid.cv_results_ if name.startswith("split"))
    return np.stack([grid.cv_results_[name] for name in names])


def load_some_digits() -> tuple[Any, Any]:
    X, y = load_digits(return_X_y=True)
    return X[:300], y[:300]


@pytest.mark.parametrize("load", [partial(load_wine, return_X_y=True), load_some_digits])
def test_search_of_classifiers_scores_as_without_stacks(stacks: list[int], load: Any) -> None:
    X, y = load()
    scores, expected = (search(MixupClassifier, X, y, 3, together=flag) for flag in (True, False))
    assert max(stacks) == 9
    np.testing.assert_allclose(scores, expected, atol=2.01 * 3 / len(X))


def test_search_of_regressors_scores_as_without_stacks(stacks: list[int]) -> None:
    X, y = load_diabetes(return_X_y=True)
    cv = KFold(3, shuffle=True, random_state=0)
    scores, expected = (search(MixupRegressor, X, y, cv, together=flag) for flag in (True, False))
    assert max(stacks) == 9
    np.testing.assert_allclose(scores, expected, atol=1e-3)


@st.composite
def draw_jobs(draw: Any) -> list[tuple[Any, ...]]:
    """Draw two to five nets, their rows and options."""
    architecture = draw(st.sampled_from(["mlp", "tanh", "dropout", "convolution"]))
    X = make_rows(architecture).repeat(2, axis=0)
    y = np.tile([0, 1, 2], 30)
    batch_sizes = draw(st.lists(st.integers(2, 20), min_size=1, max_size=2))
    jobs = []
    for k in range(draw(st.integers(2, 5))):
        net = make_net(
            architecture,
            batch_size=draw(st.sampled_from(batch_sizes)),
            max_epochs=draw(st.integers(1, 3)),
            lr=draw(st.sampled_from([0.001, 0.02])),
            optimizer__weight_decay=draw(st.sampled_from([0, 0.1])),
            random_state=k,
            **MIXING[draw(st.sampled_from(sorted(MIXING)))],
        )
        n = draw(st.integers(6, 60))
        params = {"sample_weight": np.linspace(0.5, 2, n) if draw(st.booleans()) else None}
        jobs.append((net, X[k : k + n], y[k : k + n], params))
    return jobs


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(jobs=draw_jobs())
def test_any_nets_together_equal_single_ones(float64: None, jobs: list[tuple[Any, ...]]) -> None:
    assert_equal(*fit_both(jobs))
