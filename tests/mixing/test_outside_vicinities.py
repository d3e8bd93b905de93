"""Vicinities from outside the package: each trains, in every way an epoch is run, like a slow loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sk_mixup.mixing import (
    ERM,
    Mixture,
    Mixup,
    Operation,
    Plan,
    Sources,
    Vicinity,
    draw_partners,
)
from tests.helpers.architectures import PROBLEMS, WEIGHT, make_net, make_rows, note_epochs
from tests.helpers.datasets import Pairs
from tests.helpers.reference import mix_row
from tests.helpers.stacking import fit_stacked
from tests.helpers.vicinities import Noted

N = 21  # 2 batches of 8 and one of 5
LR = 0.5


@dataclass(frozen=True)
class Pull(Vicinity):
    """A fixed step of each example towards its partner: nothing that the package has no name for."""

    share: float = 0.25
    partners: str = "batch"

    def draw(self, generator: Any, bounds: Any, order: Any, facts: Any) -> Plan:
        place, within_batch = draw_partners(generator, bounds, order, facts, partners=self.partners)
        lam = np.repeat([[1 - self.share], [self.share]], bounds[-1], axis=1)
        return Plan(bounds, order, place, lam, within_batch)


@dataclass(frozen=True)
class Erase(Operation):
    """Sets the features to 0 whose value is 1: a kind of operation that the package does not have."""

    def apply(self, x: Tensor, values: Tensor, sources: Sources) -> Tensor:
        return torch.where(values.T == 1, 0.0, x)


@dataclass(frozen=True)
class MixupErase(Mixup):
    """mixup, with some features of each virtual example erased."""

    rate: float = 0.5

    def draw(self, generator: Any, bounds: Any, order: Any, facts: Any) -> Plan:
        plan = super().draw(generator, bounds, order, facts)
        erased = generator.random((6, bounds[-1])) < self.rate
        return replace(plan, operations=(Erase(erased.astype(np.int64)),))


OUTSIDE: list[Vicinity] = [
    Pull(),
    Pull(0.4, partners="dataset"),
    MixupErase(),
    MixupErase(partners="same_class"),
    Mixture((ERM(), MixupErase(), Pull()), per="example"),
]
EVERY = pytest.mark.parametrize("vicinity", OUTSIDE, ids=str)


def train_slowly(module: nn.Module, plan: Plan, X: Any, y: Any, weight: Any) -> dict[str, Tensor]:
    """Take the steps of a plan by gradient descent, row by row; return the weights."""
    for start, stop in pairwise(plan.bounds):
        total, divisor = torch.zeros(()), 0.0
        for i in range(start, stop):
            rows, lam = plan.index[:, i], plan.lam[:, i] if plan.lam_x is None else plan.lam_x[:, i]
            x = mix_row([X[row] for row in rows], lam)
            for operation in plan.operations:
                x[operation.values[:, i] == 1] = 0
            log_p = torch.log_softmax(module(torch.as_tensor(x)[None])[0], 0)
            w = float(np.prod([weight[row] for row in rows]))
            total = total - w * sum(
                share * log_p[y[row]] for share, row in zip(plan.lam[:, i], rows, strict=True)
            )
            divisor += w
        gradients = torch.autograd.grad(total / divisor, list(module.parameters()))
        with torch.no_grad():
            for p, gradient in zip(module.parameters(), gradients, strict=True):
                p -= LR * gradient
    return module.state_dict()


def make_pair(vicinity: Vicinity, seed: int, **options: Any) -> tuple[Any, Any]:
    """Return a net for one epoch, and its module before it."""
    options |= {"optimizer": torch.optim.SGD, "lr": LR, "batch_size": 8, "random_state": seed}
    begun = make_net("mlp", **options | {"max_epochs": 0}).fit(*draw_data())
    return make_net("mlp", vicinity=Noted(vicinity), max_epochs=1, **options), begun.module_


def draw_data() -> tuple[Any, Any]:
    return make_rows("mlp")[:N].astype(np.float64), PROBLEMS["classes"].y[:N]


def assert_trained_slowly(net: Any, module: nn.Module, weight: Any) -> None:
    (plan,) = net.vicinity.plans
    expected = train_slowly(module, plan, *draw_data(), weight)
    torch.testing.assert_close(net.module_.state_dict(), expected, rtol=1e-10, atol=1e-10)


@EVERY
@pytest.mark.parametrize("way", ["fast", "stepwise"])
def test_net_equals_a_slow_loop(
    monkeypatch: pytest.MonkeyPatch, float64: None, vicinity: Vicinity, way: str
) -> None:
    epochs = note_epochs(monkeypatch)
    net, module = make_pair(vicinity, 0, **{"augment": lambda x: x} if way == "stepwise" else {})
    # What a mixture fills up has no weight, and counts no weight: the slow loop knows no such rows.
    weight = np.ones(N) if isinstance(vicinity, Mixture) else WEIGHT[:N]
    net.fit(*draw_data(), sample_weight=weight)
    assert len(epochs) == (way == "fast")
    assert_trained_slowly(net, module, weight)


@EVERY
@pytest.mark.usefixtures("stack_two")
def test_nets_of_a_stack_equal_slow_loops(stacks: list[int], float64: None, vicinity: Vicinity) -> None:
    pairs = [make_pair(vicinity, seed) for seed in (0, 1)]
    fit_stacked([(net, *draw_data()) for net, _ in pairs])
    assert stacks == [2]
    for net, module in pairs:
        assert_trained_slowly(net, module, np.ones(N))


class Whole(nn.Module):
    """A criterion without losses per row."""

    def forward(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(y_pred, y)


def test_weights_of_a_batch_are_not_taken_for_equal(float64: None) -> None:
    net, _ = make_pair(Pull(), 0, criterion=Whole)
    with pytest.raises(ValueError, match="criterion must offer reduction='none' for lam_per='example'"):
        net.set_params(vicinity=Pull()).fit(*draw_data())


@EVERY
def test_rows_of_a_data_set_equal_a_slow_loop(float64: None, vicinity: Vicinity) -> None:
    net, module = make_pair(vicinity, 0)
    net.fit(Pairs(*draw_data()), None)
    assert_trained_slowly(net, module, np.ones(N))
