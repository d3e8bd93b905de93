"""Where an optimizer's state goes when a net is moved or loaded; the device is one without numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup._skorch.stack_member import on_device_of_stack
from sk_mixup._training.epoch import Epoch
from sk_mixup._training.optimizer_step import place_state
from sk_mixup.stacking import _scheduler
from sk_mixup.stacking._engine import count_bytes
from sk_mixup.stacking._joblib_backend import Budget
from tests.helpers.architectures import draw_batches, find_trainer
from tests.helpers.sampling import each_pair

QUICK: dict[str, Any] = {"max_epochs": 1, "early_stopping": False, "batch_size": 8}
X, Y = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32), np.arange(20) % 2

# By the optimizer and its options, what torch keeps of each parameter in host memory where that is on a GPU.
OPTIMIZERS: list[tuple[Any, dict[str, Any], set[str]]] = [
    (torch.optim.Adam, {"fused": False}, {"step"}),
    (torch.optim.Adam, {"foreach": True, "fused": False, "amsgrad": True}, {"step"}),
    (torch.optim.Adam, {"fused": True}, set()),
    (torch.optim.AdamW, {"capturable": True, "fused": False}, set()),
    (torch.optim.NAdam, {}, {"step", "mu_product"}),
    (torch.optim.RMSprop, {"momentum": 0.9}, {"step"}),
    (torch.optim.Adagrad, {"fused": False}, {"step"}),
    (torch.optim.ASGD, {}, set()),
    (torch.optim.SGD, {"momentum": 0.9, "fused": False}, set()),
]


def make_state(optimizer: Any, options: dict[str, Any]) -> Any:
    """Return an optimizer that has done a step on the CPU."""
    p = nn.Parameter(torch.ones(3))
    made = optimizer([p], lr=0.1, **{key: value for key, value in options.items() if key != "capturable"})
    p.grad = torch.ones(3)
    made.step()
    made.param_groups[0].update(options)
    return made


@pytest.mark.parametrize(("optimizer", "options", "on_host"), OPTIMIZERS)
def test_counts_that_the_host_reads_are_not_moved(
    optimizer: Any, options: dict[str, Any], on_host: set[str]
) -> None:
    made = make_state(optimizer, options)
    place_state(made, "meta")
    ((_, state),) = made.state.items()
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    assert tensors
    assert {name for name, value in tensors.items() if not value.is_meta} == on_host


@pytest.mark.parametrize(("optimizer", "options", "on_host"), OPTIMIZERS)
def test_counts_that_were_moved_are_brought_back(
    optimizer: Any, options: dict[str, Any], on_host: set[str]
) -> None:
    made = make_state(optimizer, options)
    with FakeTensorMode(allow_non_fake_inputs=True):
        for state in made.state.values():
            state.update({name: torch.empty_like(value, device="cuda") for name, value in state.items()
                          if isinstance(value, torch.Tensor)})  # fmt: skip
        place_state(made)
    ((_, state),) = made.state.items()
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    assert {name for name, value in tensors.items() if value.device.type == "cpu"} == on_host


@each_pair({"owner": [MixupClassifier, MixupRegressor], "fused": [False, True]})
def test_net_in_a_stack_is_moved_with_its_state(
    monkeypatch: pytest.MonkeyPatch, owner: Any, fused: bool
) -> None:
    net = owner(**QUICK, optimizer=torch.optim.Adam, optimizer__fused=fused).fit(X, Y)
    device = type("Scheduler", (), {"device": "meta"})()
    monkeypatch.setattr(_scheduler._LOCAL, "task", type("Task", (), {"scheduler": device})(), raising=False)
    seen = []
    # The one other device that is everywhere keeps no numbers, so torch refuses the way back.
    with pytest.raises(NotImplementedError, match="meta tensor"), on_device_of_stack(net):
        seen = [(s["step"].device.type, s["exp_avg"].device.type) for s in net.optimizer_.state.values()]
    assert set(seen) == {("meta" if fused else "cpu", "meta")}


class Placed(nn.Module):
    """A linear model on a device of its own choice."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.last = nn.Linear(4, 2, device=device)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_scaler_is_of_the_type_of_the_module_where_no_device_is_named(device: str) -> None:
    net = MixupClassifier(Placed, module__device=device, device=None, autocast="float16", **QUICK)
    assert net.initialize().scaler_._device == device


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
def test_no_scaler_is_made_where_nothing_is_scaled(autocast: str | None) -> None:
    assert (
        MixupClassifier(Placed, module__device="cpu", autocast=autocast, **QUICK).initialize().scaler_ is None
    )


def make_epoch() -> Epoch:
    net = MixupClassifier(**QUICK).fit(X, Y)
    batches = draw_batches(net, X, Y)
    return Epoch(find_trainer(net, batches), batches, lambda *_: None, None)  # type: ignore[arg-type]


def test_room_is_that_of_the_device_on_which_a_net_is(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"cuda:0": 2_000_000, "cuda:1": 8_000_000}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[str(device)], 10**9))
    budget, epoch = Budget(None), make_epoch()
    needed = count_bytes(epoch)
    for name, half in (("cuda:0", 1_000_000), ("cuda:1", 4_000_000), ("cuda:0", 1_000_000)):
        epoch.trainer.get_device = lambda name=name: torch.device(name)  # type: ignore[method-assign, misc]
        assert budget.measure(epoch) == pytest.approx(needed / half)
        free[name] = 5  # once others are there
    assert Budget(500).measure(epoch) == pytest.approx(needed / 500)
