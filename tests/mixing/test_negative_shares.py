"""A vicinity may give a label a negative share: the loss has no lower bound then, and training goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from skorch import NeuralNetClassifier
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupNetMixin
from sk_mixup.mixing import ERM, Extrapolation, Mixture, Mixup, Partners, Plan, Vicinity
from tests.helpers.stacking import fit_stacked

generator = np.random.default_rng(0)
X = generator.normal(size=(24, 3)).astype(np.float32)
CODES = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0.5)
LABELS = (X > 0.2).astype(np.int64)
WEIGHT = generator.uniform(0.5, 2.0, len(X))
N_EPOCHS, LR = 60, 1.0


@dataclass(frozen=True)
class NextRow(Partners):
    """Mixes each row with the one after it, in whatever order they are visited."""

    def draw(self, generator: Any, bounds: Any, order: Any, facts: Any) -> Any:
        return np.argsort(order)[(order + 1) % len(order)]


@dataclass(frozen=True)
class Mirror(Vicinity):
    """Half of the way from the next row, and beyond: a vicinity of a user's own."""

    def draw(self, generator: Any, bounds: Any, order: Any, facts: Any) -> Plan:
        lam = np.repeat([[1.5], [-0.5]], len(order), axis=1)
        return Plan(bounds, order, NextRow().draw(generator, bounds, order, facts)[None], lam)


class MixedNet(MixupNetMixin, NeuralNetClassifier):
    pass


OUTWARD = Extrapolation(float("inf"), partners=NextRow())
VICINITIES = [OUTWARD, Mixture((OUTWARD, ERM()), weights=(1, 0)), Mirror()]
PROBLEMS = {"classes": CODES, "labels": LABELS}
SHARED: dict[str, Any] = {
    "lr": LR,
    "optimizer": torch.optim.SGD,
    "batch_size": -1,
    "max_epochs": N_EPOCHS,
    "train_split": None,
    "verbose": 0,
    "criterion__reduction": "mean",
}


def make_net(owner: Any, vicinity: Vicinity, y: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    criterion = nn.BCEWithLogitsLoss if y is LABELS else nn.CrossEntropyLoss
    options |= {"random_state": 0} if owner is MixupClassifier else {"random_state": 0, "callbacks": None}
    return owner(nn.Linear(3, 3), criterion=criterion, vicinity=vicinity, **SHARED | options)


def descend(y: Any, weight: Any) -> list[float]:
    """Return the losses of a loop by hand, of targets 1.5 y - 0.5 y' and inputs mixed alike."""
    torch.manual_seed(0)
    module = nn.Linear(3, 3).double()
    rows, targets = torch.as_tensor(X).double(), torch.as_tensor(np.eye(3)[y] if y.ndim == 1 else y).double()
    x, t = (1.5 * each - 0.5 * each.roll(-1, 0) for each in (rows, targets))
    w = torch.as_tensor(weight * np.roll(weight, -1))
    losses = []
    for _ in range(N_EPOCHS):
        z = module(x)
        per_label = nn.functional.softplus(z) - t * z
        each = -(t * z.log_softmax(1)).sum(1) if y.ndim == 1 else per_label.mean(1)
        loss = (w * each).sum() / w.sum()
        losses.append(loss.item())
        for p, gradient in zip(
            module.parameters(), torch.autograd.grad(loss, list(module.parameters())), strict=True
        ):
            p.data -= LR * gradient
    return losses


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("vicinity", VICINITIES, ids=["outward", "mixture", "own"])
@pytest.mark.parametrize("way", ["fast", "stepwise", "weighted", "mixin"])
def test_training_goes_on_below_zero(way: str, vicinity: Vicinity, problem: str) -> None:
    y, weight = PROBLEMS[problem], WEIGHT if way == "weighted" else np.ones(len(X))
    if way == "mixin":
        net = make_net(MixedNet, vicinity, y, iterator_train__shuffle=False)
        net.fit(X, y if y.ndim == 1 else y.astype(np.float32))
    else:
        net = make_net(MixupClassifier, vicinity, y, **{"augment": lambda x: x} if way == "stepwise" else {})
        net.fit(X, y, sample_weight=weight if way == "weighted" else None)
    expected = descend(y, weight)
    assert min(expected) < -0.1
    np.testing.assert_allclose(net.history[:, "train_loss"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("stack_two")
def test_training_of_a_stack_goes_on_below_zero(stacks: list[int]) -> None:
    nets = [make_net(MixupClassifier, vicinity, CODES) for vicinity in VICINITIES[:2]]
    fit_stacked([(net, X, CODES) for net in nets])
    assert set(stacks) == {2}
    expected = descend(CODES, np.ones(len(X)))
    for net in nets:
        np.testing.assert_allclose(net.history[:, "train_loss"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("vicinity", [ERM(), Mixup(1.0), Mixture((ERM(), Mixup(1.0)))], ids=str)
def test_shares_that_are_none_below_zero_leave_the_bound(vicinity: Vicinity) -> None:
    net = make_net(MixedNet, vicinity, LABELS)
    with pytest.raises(ValueError, match=r"train_loss must be at least 0 for BCEWithLogitsLoss; got -\d"):
        net.fit(X, 255 * LABELS.astype(np.float32))
