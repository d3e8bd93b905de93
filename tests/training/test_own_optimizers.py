"""Optimizers of the user's own are given what skorch gives them: a closure, in every step."""

from typing import Any

import numpy as np
import pytest
from skorch.callbacks import Callback
import torch
from torch import nn

from sk_mixup import MixupClassifier
from tests.helpers.nets import get_weights
from tests.helpers.stacking import fit_stacked

X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
Y = np.arange(60) % 3


def list_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def forget_gradients(optimizer: torch.optim.Optimizer, *_: object) -> None:
    for p in list_parameters(optimizer):
        if p.grad is not None:
            p.grad.zero_()


def limit_weights(optimizer: torch.optim.Optimizer, *_: object) -> None:
    for p in list_parameters(optimizer):
        p.data.clamp_(-0.05, 0.05)


class Forgetful(torch.optim.Adam):
    """Makes gradients zero before the closure computes them: to no effect."""

    def step(self, closure: Any = None) -> Any:
        forget_gradients(self)
        return super().step(closure)


class Hooked(torch.optim.AdamW):
    """The same by a hook."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_step_pre_hook(forget_gradients)


class Limited(torch.optim.Adam):
    """Limits weights after each step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_step_post_hook(limit_weights)


class Patched(torch.optim.SGD):
    """A `step` that was put on the very optimizer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        step = self.step
        self.step = lambda closure=None: (forget_gradients(self), step(closure))[1]  # type: ignore[method-assign, assignment]


class Sharpness(torch.optim.SGD):
    """Sharpness-aware minimisation: the gradient at the worst place nearby; the closure is needed."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        compute = torch.enable_grad()(closure)
        compute()
        parameters = list_parameters(self)
        norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        moves = [0.05 * p.grad / norm for p in parameters if p.grad is not None]
        for p, move in zip(parameters, moves, strict=True):
            p.add_(move)
        loss = compute()
        for p, move in zip(parameters, moves, strict=True):
            p.sub_(move)
        super().step()
        return loss


class Watching(Callback):
    """Looks at each batch, so that nothing is done but step by step."""

    def on_batch_end(self, net: Any, **kwargs: object) -> None:
        """Do nothing."""


OPTIMIZERS = [Forgetful, Hooked, Limited, Patched, Sharpness]


def make(optimizer: type, *, watched: bool = False, seed: int = 0, **options: Any) -> MixupClassifier:
    quick: dict[str, Any] = {"early_stopping": False, "max_epochs": 3, "batch_size": 16, "lr": 0.02}
    callbacks = [Watching()] if watched else None
    return MixupClassifier(
        **{**quick, **options}, optimizer=optimizer, callbacks=callbacks, random_state=seed
    )


@pytest.mark.parametrize(
    "options", [{}, {"alpha": 0}, {"class_weight": "balanced"}, {"module": nn.Linear(5, 3)}], ids=str
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_step_of_ones_own_trains_as_step_by_step(optimizer: type, options: dict[str, Any]) -> None:
    found, expected = (make(optimizer, watched=watched, **options).fit(X, Y) for watched in (False, True))
    for ours, theirs in zip(get_weights(found).values(), get_weights(expected).values(), strict=True):
        assert torch.equal(ours, theirs)
    assert found.history[0, "train_loss"] != found.history[-1, "train_loss"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_step_of_ones_own_trains_in_a_stack_as_alone(optimizer: type) -> None:
    with pytest.warns(UserWarning, match="has a step of its own|the optimizer.s step has hooks"):
        stack = fit_stacked((make(optimizer, seed=seed), X, Y) for seed in range(3))
    for seed, net in enumerate(stack):
        alone = make(optimizer, seed=seed).fit(X, Y)
        assert all(map(torch.equal, get_weights(net).values(), get_weights(alone).values()))


def test_closure_is_evaluated_as_by_a_loop_by_hand() -> None:
    options: dict[str, Any] = {"alpha": 0, "iterator_train__shuffle": False, "max_epochs": 2}
    torch.manual_seed(0)
    module = nn.Linear(5, 3)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    net = make(Sharpness, module=module, **options).fit(X, Y)

    ours = nn.Linear(5, 3)
    ours.load_state_dict(state)
    optimizer = Sharpness(ours.parameters(), lr=0.02)
    for start in [*range(0, 60, 16)] * 2:
        x, y = torch.as_tensor(X[start : start + 16]), torch.as_tensor(Y[start : start + 16])

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(ours(x), y)
            torch.autograd.backward(loss)
            return loss

        optimizer.step(closure)
    for found, expected in zip(net.module_.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_optimizers_of_torch_keep_the_fast_way() -> None:
    for optimizer in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop):
        net = make(optimizer).fit(X, Y)
        assert net._find_own_step() == ""
    assert "step of its own" in make(Forgetful).fit(X, Y)._find_own_step()
