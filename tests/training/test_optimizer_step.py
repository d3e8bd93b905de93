"""The optimizer's kernel, called without the optimizer's Python: the steps of the optimizer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from sk_mixup._training.optimizer_step import FusedUpdate
from tests.helpers.sampling import each_pair

N_STEPS = 6
SHAPES = [(4, 3), (4,), (2, 4), ()]


def make_parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def set_gradients(parameters: list[nn.Parameter], step: int, missing: frozenset[int] = frozenset()) -> None:
    """Set the gradients of one step; that of a parameter that takes no part is None."""
    generator = torch.Generator().manual_seed(100 + step)
    for number, parameter in enumerate(parameters):
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = None if number in missing else gradient


Build = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
Change = Callable[[torch.optim.Optimizer, int], None]


def assert_updates_are_steps(
    build: Build,
    *,
    before_step: Change = lambda optimizer, step: None,
    missing: dict[int, frozenset[int]] | None = None,
    n_per_epoch: int = N_STEPS,
) -> None:
    """Descend by updates and, on a twin, by steps; all must stay equal, bit for bit."""
    ours, theirs = make_parameters(), make_parameters()
    updated, stepped = build(ours), build(theirs)
    for first in range(0, N_STEPS, n_per_epoch):
        update = FusedUpdate(updated)
        for step in range(first, first + n_per_epoch):
            for parameters, optimizer in ((ours, updated), (theirs, stepped)):
                before_step(optimizer, step)
                set_gradients(parameters, step, (missing or {}).get(step, frozenset()))
            update()
            stepped.step()
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        update.close()
        assert_same_states(updated, stepped)


def assert_same_states(optimizer: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    ours, theirs = optimizer.state_dict(), other.state_dict()
    torch.testing.assert_close(ours["state"], theirs["state"], rtol=0, atol=0)
    assert ours["param_groups"] == theirs["param_groups"]


def watch(optimizer: Any) -> list[str]:
    """Return a list that grows with each call of the optimizer's `step`, which is left as it is."""
    calls: list[str] = []
    optimizer._optimizer_step_code = lambda: calls.append("step")
    return calls


FUSED: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "adam_decayed": (torch.optim.Adam, {"weight_decay": 0.1}),
    "adamw_decayed": (torch.optim.AdamW, {"weight_decay": 0.1}),
    "adam_amsgrad": (torch.optim.Adam, {"amsgrad": True}),
    "adamw_amsgrad": (torch.optim.AdamW, {"amsgrad": True, "weight_decay": 0.1}),
    "adam_maximize": (torch.optim.Adam, {"maximize": True}),
    "adam_betas": (torch.optim.Adam, {"betas": (0.5, 0.8), "eps": 1e-3}),
    "adam_tensor_rate": (torch.optim.Adam, {"lr": torch.tensor(0.1)}),
    "adamw_tensor_rate": (torch.optim.AdamW, {"lr": torch.tensor(0.1, dtype=torch.float64)}),
}


def build_fused(name: str) -> Build:
    owner, options = FUSED[name]
    return lambda parameters: owner(parameters, **{"lr": 0.1, "fused": True} | options)


@pytest.mark.parametrize("n_per_epoch", [1, 2, N_STEPS])
@pytest.mark.parametrize("name", FUSED)
def test_fused_update_is_the_step(name: str, n_per_epoch: int) -> None:
    assert_updates_are_steps(build_fused(name), n_per_epoch=n_per_epoch)


@pytest.mark.parametrize("name", FUSED)
def test_fused_update_in_float64_is_the_step(float64: None, name: str) -> None:
    assert make_parameters()[0].dtype == torch.float64
    assert_updates_are_steps(build_fused(name))


@pytest.mark.parametrize("name", FUSED)
def test_fused_update_leaves_out_the_python_of_the_step(name: str) -> None:
    parameters = make_parameters()
    optimizer = build_fused(name)(parameters)
    calls = watch(optimizer)
    update = FusedUpdate(optimizer)
    for step in range(N_STEPS):
        set_gradients(parameters, step)
        update()
    assert len(calls) == 1


def build_groups(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [
        {"params": parameters[:2], "lr": 0.01, "weight_decay": 0.1},
        {"params": parameters[2:], "betas": (0.5, 0.9), "amsgrad": True},
    ]
    return torch.optim.AdamW(groups, lr=0.1, fused=True)


def test_groups_have_their_own_options() -> None:
    assert_updates_are_steps(build_groups)


@pytest.mark.parametrize("build", [build_fused("adam"), build_groups], ids=["one_group", "groups"])
@pytest.mark.parametrize(
    "change", [{"lr": 0.5}, {"weight_decay": 0.3}, {"betas": (0.1, 0.2)}, {"eps": 0.1}, {"maximize": True}]
)
def test_option_that_is_changed_on_the_way_is_followed(build: Build, change: dict[str, Any]) -> None:
    def change_last_group(optimizer: torch.optim.Optimizer, step: int) -> None:
        if step == 3:
            optimizer.param_groups[-1].update(change)

    assert_updates_are_steps(build, before_step=change_last_group)


@each_pair(
    {
        "missing": [
            {0: {1}},
            {1: {1}},
            {2: {0, 1}, 3: {3}},
            {0: {0}, 1: {0}, 2: {0}},
            {step: {2} for step in range(N_STEPS)},
            {4: {0, 1, 2, 3}},
        ],
        "n_per_epoch": [2, N_STEPS],
        "build": [build_fused("adam"), build_groups],
    }
)
def test_parameter_without_a_gradient_is_left_out(
    build: Build, missing: dict[int, set[int]], n_per_epoch: int
) -> None:
    frozen = {step: frozenset(numbers) for step, numbers in missing.items()}
    assert_updates_are_steps(build, missing=frozen, n_per_epoch=n_per_epoch)


@pytest.mark.parametrize("build", [*map(build_fused, FUSED), build_groups])
@pytest.mark.parametrize("absent", [{0}, {1, 3}, {2, 3}, {0, 1}], ids=str)
def test_parameter_without_a_gradient_leaves_the_others_their_kernel(build: Build, absent: set[int]) -> None:
    parameters = make_parameters()
    optimizer = build(parameters)
    calls = watch(optimizer)
    for first in (0, 3):
        update = FusedUpdate(optimizer)
        for step in range(first, first + 3):
            set_gradients(parameters, step, frozenset(absent))
            update()
        update.close()
    assert len(calls) == 1
    counts = {
        k: float(optimizer.state[p]["step"]) for k, p in enumerate(parameters) if optimizer.state.get(p)
    }
    assert counts == {k: 6.0 for k in range(len(SHAPES)) if k not in absent}


# -- optimizers that go through `step` ---------------------------------------------------


class OwnAdam(torch.optim.Adam):
    """An optimizer of the user's own."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.clamp_(-0.5, 0.5)
        return loss


STEPPED: dict[str, Build] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "sgd_fused": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, fused=True),
    "nadam": lambda parameters: torch.optim.NAdam(parameters, lr=0.1),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.1),
    "adam_foreach": lambda parameters: torch.optim.Adam(parameters, lr=0.1, foreach=True),
    "adam_single": lambda parameters: torch.optim.Adam(parameters, lr=0.1, foreach=False),
    "subclass": lambda parameters: OwnAdam(parameters, lr=0.1, fused=True),
}


@pytest.mark.parametrize("name", STEPPED)
@pytest.mark.parametrize("n_per_epoch", [2, N_STEPS])
def test_other_optimizer_goes_through_its_step(name: str, n_per_epoch: int) -> None:
    calls: list[list[str]] = []

    def build(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = STEPPED[name](parameters)
        calls.append(watch(optimizer))
        return optimizer

    assert_updates_are_steps(build, n_per_epoch=n_per_epoch)
    ours, theirs = map(len, calls)
    assert ours == theirs > 0


@pytest.mark.parametrize("register", ["register_step_pre_hook", "register_step_post_hook"])
def test_hook_of_the_optimizer_is_called_in_every_step(register: str) -> None:
    calls: list[Any] = []

    def build(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = build_fused("adam")(parameters)
        getattr(optimizer, register)(lambda *_: calls.append(optimizer))
        return optimizer

    assert_updates_are_steps(build)
    assert len(calls) == 2 * N_STEPS


@pytest.mark.parametrize("register", [register_optimizer_step_pre_hook, register_optimizer_step_post_hook])
def test_hook_of_all_optimizers_is_called_in_every_step(register: Any) -> None:
    calls: list[Any] = []
    handle = register(lambda *_: calls.append(True))
    try:
        assert_updates_are_steps(build_fused("adam"))
    finally:
        handle.remove()
    assert len(calls) == 2 * N_STEPS


def schedule(optimizer: torch.optim.Optimizer) -> None:
    optimizer.scheduler = StepLR(optimizer, step_size=1, gamma=0.5)  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheduled", ["never", "before", "after"])
@pytest.mark.parametrize("is_disguised", [False, True])
def test_step_that_is_patched_is_called_in_every_step(scheduled: str, is_disguised: bool) -> None:
    calls: list[Any] = []

    def patch(optimizer: Any) -> None:
        step = optimizer.step

        def patched(self: Any, *args: Any) -> Any:
            calls.append(self)
            return step(*args)

        patched = wraps(step)(patched) if is_disguised else patched
        optimizer.step = patched.__get__(optimizer)

    def build(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = build_fused("adam")(parameters)
        changes = {"never": [patch], "before": [schedule, patch], "after": [patch, schedule]}
        for change in changes[scheduled]:
            change(optimizer)
        return optimizer

    assert_updates_are_steps(build)
    assert len(calls) == 2 * N_STEPS


@pytest.mark.parametrize("n_per_epoch", [1, 2, 3])
def test_scheduler_is_followed_and_does_not_warn(n_per_epoch: int) -> None:
    def build(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = build_fused("adam")(parameters)
        schedule(optimizer)
        return optimizer

    def change_rate(optimizer: Any, step: int) -> None:
        if step and step % n_per_epoch == 0:
            optimizer.scheduler.step()

    assert_updates_are_steps(build, before_step=change_rate, n_per_epoch=n_per_epoch)


# -- counts of steps ---------------------------------------------------------------------


def read_counts(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(state["step"]) for state in optimizer.state.values()]


def test_counts_are_given_back_when_closed() -> None:
    parameters = make_parameters()
    optimizer = build_fused("adam")(parameters)
    update = FusedUpdate(optimizer)
    for step in range(3):
        set_gradients(parameters, step)
        update()
    update.close()
    assert read_counts(optimizer) == [3.0] * len(SHAPES)
    counts = [state["step"] for state in optimizer.state.values()]
    assert len({count.data_ptr() for count in counts}) == len(SHAPES)
    update.close()
    assert read_counts(optimizer) == [3.0] * len(SHAPES)


def test_closing_before_any_step_does_nothing() -> None:
    optimizer = build_fused("adam")(make_parameters())
    FusedUpdate(optimizer).close()
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize("build", [build_fused("adam"), build_groups], ids=["one_group", "groups"])
def test_parameter_that_thaws_later_keeps_its_own_count(build: Build) -> None:
    missing = {0: frozenset({2}), 1: frozenset({2})}
    assert_updates_are_steps(build, missing=missing, n_per_epoch=2)
    parameters = make_parameters()
    optimizer = build(parameters)
    for first, absent in ((0, frozenset({2})), (2, frozenset[int]())):
        update = FusedUpdate(optimizer)
        for step in (first, first + 1):
            set_gradients(parameters, step, absent)
            update()
        update.close()
    assert [float(optimizer.state[p]["step"]) for p in parameters] == [4.0, 4.0, 2.0, 4.0]


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", [*FUSED, *STEPPED])
def test_state_that_is_built_can_be_trained_on(name: str, guard: Any) -> None:
    parameters = make_parameters()
    optimizer = (build_fused(name) if name in FUSED else STEPPED[name])(parameters)
    set_gradients(parameters, 0)
    update = FusedUpdate(optimizer)
    with guard():
        update()
        update()
    update.close()
    tensors = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    assert not any(tensor.is_inference() for tensor in tensors + parameters)
    set_gradients(parameters, 1)
    optimizer.step()
