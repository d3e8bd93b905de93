"""Recordings that fail, and what is refused before it is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup._training.cuda_graph import RECORDING, GraphedStep, check_recordable, recordable
from sk_mixup._validation import check_graph_device
from sk_mixup.modules import MLP
from tests.helpers.architectures import (
    PROBLEMS,
    QUICK,
    assert_close_nets,
    draw_batches,
    find_trainer,
    make_rows,
)
from tests.helpers.fake_cuda import EmulatedGraph, Waiting, emulate_graphs
from tests.helpers.recordings import Scaled, make, make_step, repeat, run_epoch


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> type[EmulatedGraph]:
    """Graphs that live on the CPU."""
    return emulate_graphs(monkeypatch)


# -- recordings that fail ----------------------------------------------------------------


class _BrokenOffError(RuntimeError):
    """What the device says of a recording that it broke off."""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, graphs: type[EmulatedGraph]) -> Iterator[list[tuple[str, Any]]]:
    """Return what the allocator is told; a recording is broken off if the step raises in it."""
    told: list[tuple[str, Any]] = []

    class Breaking(graphs):  # type: ignore[valid-type, misc]
        is_ended = False

        def capture_end(self) -> None:
            if not self.is_ended:
                self.is_ended = True
                super().capture_end()
            raise _BrokenOffError("operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Breaking)
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        note = partial(lambda name, *args: told.append((name, args)), name)
        monkeypatch.setattr(torch._C, name, note, raising=False)
    yield told
    monkeypatch.setattr(torch.cuda, "CUDAGraph", graphs)
    step, x = make_step()
    repeat(step, x)  # the next one is recorded as if nothing had been
    assert graphs.n_replays == 2


@pytest.mark.parametrize("error", [ValueError("of the user's"), KeyboardInterrupt()], ids=repr)
def test_first_error_of_a_recording_is_raised_and_the_allocator_let_go(
    told: list[tuple[str, Any]], error: BaseException
) -> None:
    step, x = make_step()
    repeat(step, x, GraphedStep.n_warmup)

    def fail(*_: Tensor) -> bool:
        raise error

    step.step = fail
    with pytest.raises(type(error), match=str(error) or None) as raised:
        repeat(step, x, 1)
    assert raised.value is error
    assert "cuda_graph=False" in error.__notes__[0]
    assert told == [("_cuda_endAllocateToPool", (None, (0, 1))), ("_cuda_releasePool", (None, (0, 1)))]
    thread = Thread(target=lambda: RECORDING.acquire() and RECORDING.release())
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_recording_that_does_not_begin_lets_the_allocator_go(
    monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, Any]]
) -> None:
    def refuse(self: Any, **options: Any) -> None:
        raise _BrokenOffError("no capture now")

    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda.CUDAGraph, "capture_begin", refuse)
        patch.setattr(torch.cuda.CUDAGraph, "capture_end", lambda self: refuse(self))
        step, x = make_step()
        with pytest.raises(_BrokenOffError, match="no capture now"):
            repeat(step, x)
    assert [name for name, _ in told] == ["_cuda_endAllocateToPool", "_cuda_releasePool"]


def test_recording_that_is_broken_off_without_an_error_says_so(told: list[tuple[str, Any]]) -> None:
    step, x = make_step()
    with pytest.raises(_BrokenOffError, match="previous error"):
        repeat(step, x)
    assert [name for name, _ in told] == ["_cuda_endAllocateToPool", "_cuda_releasePool"]


# -- what is refused before it is recorded -----------------------------------------------


READERS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "branch": lambda x: bool((x > 0).any()),
    "mask": lambda x: x[x > 0],
    "where": lambda x: torch.where(x > 0),
    "equal": lambda x: torch.equal(x, x),
    "sent": lambda x: torch.zeros(x.shape).to("meta"),
    "number sent": lambda x: torch.zeros(()).to("meta"),
}


class Reader(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.last, self.kind = nn.Linear(6, 3), kind

    def forward(self, x: Tensor) -> Tensor:
        READERS[self.kind](x)
        return self.last(x)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last, self.n_calls = nn.Linear(6, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        return self.last(x) * self.n_calls


class Replacer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.total = self.total + x.detach().sum()
        return self.last(x)


@pytest.mark.parametrize("kind", READERS)
def test_step_that_waits_is_refused(graphs: type[EmulatedGraph], kind: str) -> None:
    net = make(Reader, module__kind=kind)
    with pytest.raises(
        ValueError, match=r"cuda_graph must be False where a step waits .*the step calls aten::"
    ):
        run_epoch(net, cuda_graph=True)
    assert graphs.n_captures == 0


@pytest.mark.parametrize("module", [Counter, Replacer])
def test_module_that_changes_itself_is_refused(graphs: type[EmulatedGraph], module: Any) -> None:
    net = make(module)
    with pytest.raises(ValueError, match="cuda_graph must be False where forward changes attributes"):
        run_epoch(net, cuda_graph=True)
    assert graphs.n_captures == 0


class OwnStep(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def build_hooked(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(parameters, fused=True)
    optimizer.register_step_post_hook(lambda *_: None)
    return optimizer


REFUSED: dict[str, tuple[Callable[[list[nn.Parameter]], torch.optim.Optimizer], str]] = {
    "adagrad": (
        torch.optim.Adagrad,
        "Adagrad, which has no option capturable. Use an optimizer that has one",
    ),
    "sparse": (torch.optim.SparseAdam, "SparseAdam, which has no option capturable"),
    "own": (OwnStep, "OwnStep, which has no option capturable"),
    "hooked": (build_hooked, "Adam, which has hooks on its step, .* Remove the hooks"),
    "differentiable": (partial(torch.optim.Adam, differentiable=True), "Adam, which is differentiable"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_optimizer_that_cannot_be_recorded_is_refused(name: str) -> None:
    build, match = REFUSED[name]
    with pytest.raises(
        ValueError, match=f"cuda_graph must be False with an optimizer .*; got True and {match}"
    ):
        check_recordable(build([nn.Parameter(torch.zeros(2))]))


def test_net_with_such_an_optimizer_is_refused_before_its_first_step(graphs: type[EmulatedGraph]) -> None:
    net = make(optimizer=torch.optim.Adagrad)
    before = [p.clone() for p in net.module_.parameters()]
    with pytest.raises(ValueError, match="cuda_graph must be False with an optimizer"):
        run_epoch(net, cuda_graph=True)
    torch.testing.assert_close(list(net.module_.parameters()), before, rtol=0, atol=0)


CAPTURABLE = [
    partial(torch.optim.Adam, amsgrad=True),
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.Adadelta,
    torch.optim.ASGD,
    torch.optim.NAdam,
    torch.optim.RAdam,
    partial(torch.optim.RMSprop, momentum=0.9, centered=True),
]


@pytest.mark.parametrize("build", CAPTURABLE, ids=str)
@pytest.mark.parametrize("has_state", [False, True])
def test_optimizer_that_can_be_recorded_does_not_wait_in_a_step(build: Any, has_state: bool) -> None:
    host = nn.Parameter(torch.ones(3, 2))
    host.grad = torch.ones(3, 2)
    of_before = build([host])
    of_before.step()
    with FakeTensorMode(allow_non_fake_inputs=True), Waiting() as waiting:
        p = nn.Parameter(torch.empty(3, 2, device="cuda"))
        optimizer = build([p], foreach=True)
        p.grad = torch.empty(3, 2, device="cuda")
        if has_state:  # of a time without graphs: counts are on the host
            for name, value in of_before.state[host].items():
                place = "cuda" if value.ndim else "cpu"
                optimizer.state[p][name] = torch.empty(value.shape, dtype=value.dtype, device=place)
        with recordable(optimizer):
            check_recordable(optimizer)
            optimizer.step()
            n_before = len(waiting.waits)
            optimizer.step()
            assert optimizer.param_groups[0]["lr"].device.type == "cuda"
        assert waiting.waits[n_before:] == []
        assert {value.device.type for value in optimizer.state[p].values()} == {"cuda"}
    group = optimizer.param_groups[0]
    assert type(group["lr"]) is float
    assert not group["capturable"]


def test_options_of_the_optimizer_are_its_own_again_after_an_error() -> None:
    optimizer = torch.optim.RMSprop([nn.Parameter(torch.zeros(2))], lr=0.5)
    before = [dict(group) for group in optimizer.param_groups]
    with pytest.raises(ValueError, match="inside"), recordable(optimizer):
        raise ValueError("inside")
    assert optimizer.param_groups == before


def test_rate_is_where_the_weights_are_now() -> None:
    p = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([p], lr=0.5, fused=True)
    places = []
    for device in ("cpu", "meta", "meta", "cpu"):
        optimizer.param_groups[0]["params"] = [nn.Parameter(p.detach().to(device))]
        with recordable(optimizer):
            places.append(optimizer.param_groups[0]["lr"])
    assert [rate.device.type for rate in places] == ["cpu", "meta", "meta", "cpu"]
    assert places[1] is places[2]
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "lr": 0.25})
    with recordable(optimizer):
        assert [float(group["lr"]) for group in optimizer.param_groups] == [0.5, 0.25]
        assert optimizer.param_groups[0]["lr"] is places[3]


# -- what is not recorded for several nets, and not on another device --------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"optimizer": torch.optim.RMSprop}, "with RMSprop as it is cannot be a CUDA graph"),
        ({"optimizer": torch.optim.NAdam}, "with NAdam as it is cannot be a CUDA graph"),
        ({"optimizer__foreach": True}, "with AdamW as it is cannot be a CUDA graph"),
        ({"module__dropout": 0.5}, "dropout draws for each net of a stack by itself"),
    ],
    ids=str,
)
def test_net_that_is_not_recorded_with_others_is_trained_by_itself(
    options: dict[str, Any], match: str
) -> None:
    net = make(**{"optimizer": torch.optim.AdamW} | options)
    batches = draw_batches(net, make_rows("mlp"), PROBLEMS["classes"].y)
    trainer = find_trainer(net, batches)
    assert trainer is not None
    trainer.describe(batches)
    trainer.cuda_graph = True
    with pytest.raises(TypeError, match=match):
        trainer.describe(batches)


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_graph_where_the_module_is_left_on_the_cpu_is_refused(owner: Any) -> None:
    net = owner(cuda_graph=True, device=None, early_stopping=False)
    match = r"cuda_graph must be False for device 'cpu'; got True\. Use it with device='cuda'"
    with pytest.raises(ValueError, match=match):
        net.fit(make_rows("mlp"), PROBLEMS["target"].y > 0)


def test_graph_where_the_module_is_left_on_a_gpu_is_asked_of_the_module() -> None:
    net = make(device=None)
    net.cuda_graph = True
    net.check_mixing_options()
    with FakeTensorMode():
        net.module_ = nn.ParameterList([torch.empty(2, device="cuda")])
        check_graph_device(net._torch_device)


# -- on a device -------------------------------------------------------------------------

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def fit_on_device(module: Any, **options: Any) -> Any:
    """Return a net that was fitted on the device; the rate is exact in single precision."""
    options = {"device": "cuda", "batch_size": 8, "lr": 2**-6, "max_epochs": 3} | options
    return MixupClassifier(module, **QUICK | options).fit(make_rows("mlp"), PROBLEMS["classes"].y)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("module", [partial(MLP, 6, 3), Scaled])
@pytest.mark.parametrize(
    "optimizer", [*CAPTURABLE, torch.optim.Rprop, torch.optim.SGD, partial(torch.optim.Adam, foreach=True)]
)
def test_graph_with_every_optimizer_trains_on_a_device_as_the_step(
    float64: None, module: Any, optimizer: Any
) -> None:
    graphed, plain = (fit_on_device(module, optimizer=optimizer, cuda_graph=g) for g in (True, False))
    assert_close_nets(graphed, plain, rtol=1e-8, atol=1e-10, check_device=False)


@pytest.mark.gpu
@needs_cuda
def test_device_goes_on_after_a_recording_that_was_broken_off() -> None:
    step, x = make_step("cuda")
    repeat(step, x, GraphedStep.n_warmup)
    step.step = lambda x, kept: bool(x.sum().item())
    with pytest.raises(RuntimeError, match=r"(?i)captur"):
        repeat(step, x, 1)
    torch.cuda.empty_cache()
    assert torch.nn.functional.dropout(torch.ones(1000, device="cuda")).sum().item() > 0
    assert fit_on_device(Scaled, cuda_graph=True).n_iter_ == 3


@pytest.mark.gpu
@needs_cuda
def test_memory_of_a_device_does_not_grow_with_the_epochs() -> None:
    net = fit_on_device(Scaled, cuda_graph=True)
    held = []
    for _ in range(20):
        net.set_params(max_epochs=1).partial_fit(make_rows("mlp"), PROBLEMS["classes"].y)
        held.append(torch.cuda.memory_reserved())
    assert held[4:] == held[4:5] * 16
