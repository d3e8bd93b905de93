"""What a fast epoch leaves behind: a net that is trained on, copied and interrupted as any other."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from sklearn.base import clone
from skorch.callbacks import Freezer, Unfreezer
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup._training.perceptron import PerceptronTrainer
from tests.helpers.architectures import (
    ARCHITECTURES,
    EPOCHS,
    PROBLEMS,
    Look,
    assert_same_history,
    assert_same_nets,
    draw_batches,
    fit,
    get_tensors,
    make_net,
    make_rows,
    note_epochs,
)
from tests.helpers.sampling import each_pair

ONE_OF_EACH = ["mlp", "tanh"]


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the trainers of all fast epochs of the test."""
    return note_epochs(monkeypatch)


# -- what an epoch leaves behind ---------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_left_as_step_by_step(architecture: str) -> None:
    fast, slow = (fit(architecture, stepwise=stepwise) for stepwise in (False, True))
    for parameter, expected in zip(fast.module_.parameters(), slow.module_.parameters(), strict=True):
        assert torch.equal(parameter.grad, expected.grad)
        assert not parameter.grad.is_inference()
        assert not parameter.is_inference()
        assert not parameter.grad.requires_grad


@each_pair(
    {
        "stepwise": ["01", "10", "0101", "1010", "0110", "1001"],
        "optimizer": [torch.optim.Adam, torch.optim.SGD, torch.optim.NAdam],
        "architecture": ONE_OF_EACH,
    }
)
def test_epochs_and_steps_take_turns(
    epochs: list[str], architecture: str, optimizer: Any, stepwise: str
) -> None:
    X, y = make_rows(architecture), PROBLEMS["classes"].y
    net, slow = (make_net(architecture, max_epochs=1, optimizer=optimizer, stepwise=s) for s in (False, True))
    net.initialize()
    for turn in stepwise:
        net.callbacks_ = [item for item in net.callbacks_ if item[0] != "look"]
        net.callbacks_ += [("look", Look())] * int(turn)
        net.partial_fit(X, y)
        slow.partial_fit(X, y)
        assert_same_nets(net, slow)
    assert len(epochs) == stepwise.count("0")


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_layer_that_is_frozen_for_a_while_is_trained_as_step_by_step(
    epochs: list[str], optimizer: Any
) -> None:
    callbacks = [Freezer("layers.1.*", at=2), Unfreezer("layers.1.*", at=4)]
    options = {"early_stopping": False, "max_epochs": 5, "optimizer": optimizer, "random_state": 0}
    nets = [MixupClassifier(callbacks=callbacks + added, **options) for added in ([], [Look()])]
    fast, slow = (net.fit(make_rows("mlp"), PROBLEMS["classes"].y) for net in nets)
    assert_same_nets(fast, slow)
    assert epochs == [
        f"{kind}Trainer" for kind in ("Perceptron", "Module", "Module", "Perceptron", "Perceptron")
    ]


@pytest.mark.parametrize("architecture", ONE_OF_EACH)
@pytest.mark.parametrize(
    "copy_net", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"]
)
def test_copy_is_trained_on_as_the_net(architecture: str, copy_net: Any) -> None:
    X, y = make_rows(architecture), PROBLEMS["classes"].y
    net = make_net(architecture).fit(X, y)
    copied = copy_net(net)
    assert_same_nets(net, copied)
    before = {name: value.clone() for name, value in get_tensors(net).items()}
    copied.partial_fit(X, y)
    assert all(torch.equal(value, before[name]) for name, value in get_tensors(net).items())
    assert_same_nets(copied, net.partial_fit(X, y))
    assert_same_nets(clone(net).fit(X, y), make_net(architecture).fit(X, y))


# -- interruptions -----------------------------------------------------------------------


class Interrupted(nn.Module):
    """A net that is interrupted in its n-th forward pass of training."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        self.at = at

    def forward(self, x: Tensor) -> Tensor:
        self.at -= self.training
        if self.at == 0:
            raise KeyboardInterrupt
        return self.layers(x)


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.NAdam])
def test_interrupt_leaves_the_net_of_the_steps_done(at: int, optimizer: Any) -> None:
    X, y = make_rows("tanh"), PROBLEMS["classes"].y
    options = {"early_stopping": False, "batch_size": 16, "optimizer": optimizer, "random_state": 0}
    nets = [
        MixupClassifier(Interrupted, module__at=at, max_epochs=2, callbacks=callbacks, **options)
        for callbacks in ([], [("look", Look())])
    ]
    fast, slow = (net.fit(X, y) for net in nets)
    assert_same_nets(fast, slow)
    steps = [state["step"] for state in fast.optimizer_.state_dict()["state"].values() if "step" in state]
    assert [float(step) for step in steps] == [at - 1] * len(steps)
    assert_same_nets(fast.partial_fit(X, y), slow.partial_fit(X, y))


def test_interrupt_between_the_layers_keeps_the_steps_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y = make_rows("mlp"), PROBLEMS["classes"].y
    net, slow = make_net().fit(X, y), make_net(stepwise=True).fit(X, y)
    step, calls = PerceptronTrainer.step, []

    def interrupt(*args: Any) -> bool:
        calls.append(len(calls))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(PerceptronTrainer, "step", interrupt)
    net.partial_fit(X, y)
    counts = {float(state["step"]) for state in net.optimizer_.state_dict()["state"].values()}
    assert counts == {3 * EPOCHS + 2}
    for batch, _ in zip(draw_batches(slow, X, y), range(2), strict=False):
        slow.train_step(batch)
    assert_same_nets(net, slow)


# -- modules with a will of their own ----------------------------------------------------


class OneAxis(nn.Sequential):
    """A regressor whose predictions are a vector."""

    def __init__(self) -> None:
        layers = [nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1)]
        super().__init__(*layers, nn.Flatten(0))


class WritesItsInput(nn.Module):
    """A net that scales its inputs where they are."""

    def __init__(self, n_outputs: int = 3) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))
        self.last = nn.Linear(6, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.mul_(self.scale))


@pytest.mark.parametrize("alpha", [0, 0.4])
@pytest.mark.parametrize(
    ("owner", "module", "problem"),
    [(MixupRegressor, OneAxis, "target"), (MixupClassifier, WritesItsInput, "classes")],
    ids=["one_axis", "writes_its_input"],
)
def test_module_of_the_users_own_is_trained_as_step_by_step(
    owner: Any, module: Any, problem: str, alpha: float
) -> None:
    options = {"early_stopping": False, "max_epochs": 2, "batch_size": 16, "random_state": 0, "alpha": alpha}
    nets = [owner(module, callbacks=callbacks, **options) for callbacks in ([], [("look", Look())])]
    fast, slow = (net.fit(make_rows("mlp"), PROBLEMS[problem].y) for net in nets)
    assert_same_nets(fast, slow)
    assert_same_history(fast, slow)


@pytest.mark.parametrize(
    ("owner", "n_outputs", "problem", "match"),
    [
        (MixupRegressor, 3, "targets", "module must return 2 outputs per row; got an output of shape"),
        (MixupRegressor, 2, "target", "module must return 1 outputs per row; got an output of shape"),
        (MixupClassifier, 4, "labels", "module must return 3 logits per row"),
        (MixupClassifier, 2, "classes", "module must return 3 logits per row"),
    ],
)
@pytest.mark.parametrize(
    "build", [nn.Linear, lambda n, m: nn.Sequential(nn.Linear(n, m), nn.Tanh())], ids=["linear", "tanh"]
)
def test_output_of_another_width_is_refused_untrained(
    owner: Any, n_outputs: int, problem: str, match: str, build: Any
) -> None:
    module = build(6, n_outputs)
    before = copy.deepcopy(module.state_dict())
    net = owner(module, early_stopping=False, max_epochs=1, random_state=0)
    with pytest.raises(ValueError, match=match):
        net.fit(make_rows("mlp"), PROBLEMS[problem].y)
    assert not net.initialized_
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
