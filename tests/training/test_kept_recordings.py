"""Recorded steps: kept while they are the same, recorded anew where not, else refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
import gc
from queue import SimpleQueue
from threading import Thread
from typing import Any
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup._training.cuda_graph import RECORDING, GraphedStep, check_recordable, recordable
from sk_mixup._validation import check_graph_device
from tests.helpers.architectures import (
    PROBLEMS,
    QUICK,
    assert_same_nets,
    draw_batches,
    find_trainer,
    fit,
    make_rows,
)
from tests.helpers.fake_cuda import EmulatedGraph, Waiting, emulate_graphs

N_FULL = 5  # batches of 8 rows of an epoch; another is smaller


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> type[EmulatedGraph]:
    """Graphs that live on the CPU."""
    return emulate_graphs(monkeypatch)


class Scaled(nn.Module):
    """A module with an attribute, a buffer and a weight that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)
        self.scale = 1.0
        self.register_buffer("shift", torch.zeros(4))
        self.held = torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x) * self.scale + self.shift) * self.held)


def run_epoch(net: Any, *, cuda_graph: bool) -> None:
    architecture = "mlp"
    batches = draw_batches(net, make_rows(architecture), PROBLEMS["classes"].y)
    trainer = find_trainer(net, batches)
    assert trainer is not None
    trainer.cuda_graph = cuda_graph
    assert trainer.run_epoch(batches, lambda *_: None)


def make(module: Any = None, **options: Any) -> Any:
    """Return a net that has not been trained."""
    options = {"max_epochs": 0, "batch_size": 8} | options
    if module is None:
        return fit("mlp", **options)
    net = MixupClassifier(module, **QUICK | options)
    return net.fit(make_rows("mlp"), PROBLEMS["classes"].y)


def train_both(change: Callable[[Any], None], module: Any = None, **options: Any) -> tuple[Any, Any]:
    """Train a net by graphs, and another as it is, for two epochs and, after a change, two more."""
    nets = make(module, **options), make(module, **options)
    for net, cuda_graph in zip(nets, (True, False), strict=True):
        for epoch in range(4):
            if epoch == 2:
                change(net)
            run_epoch(net, cuda_graph=cuda_graph)
    return nets


def get_gradients(net: Any) -> list[Tensor | None]:
    return [p.grad for p in net.module_.parameters()]


def set_option(name: str, value: object, net: Any) -> None:
    for group in net.optimizer_.param_groups:
        group[name] = value


def change_attribute(net: Any) -> None:
    net.module_.scale = 0.5


def change_held(net: Any) -> None:
    net.module_.held = torch.full((4,), 2.0)


def copy_held(net: Any) -> None:
    net.module_.held = net.module_.held.clone()


def replace_buffer(net: Any) -> None:
    net.module_.shift = torch.ones(4)


def write_buffer(net: Any) -> None:
    net.module_.shift.fill_(1.0)


def freeze(net: Any) -> None:
    net.module_.first.bias.requires_grad_(False)


def move_weights(net: Any) -> None:
    for p in net.module_.parameters():
        p.data = p.data.clone()


def load_optimizer(net: Any) -> None:
    state = net.optimizer_.state_dict()
    net.optimizer_.load_state_dict({**state, "state": dict(state["state"])})
    for values in net.optimizer_.state.values():
        values.update({name: value.clone() for name, value in values.items()})


def change_batch_size(net: Any) -> None:
    net.batch_size = 7


SAME: dict[str, Callable[[Any], None]] = {
    "nothing": lambda net: None,
    "learning rate": partial(set_option, "lr", 0.3),
    "weights": lambda net: nn.init.ones_(next(net.module_.parameters())),
}
OTHER: dict[str, Callable[[Any], None]] = {
    "weight decay": partial(set_option, "weight_decay", 0.5),
    "betas": partial(set_option, "betas", (0.5, 0.6)),
    "place of the weights": move_weights,
    "place of the state": load_optimizer,
    "batch size": change_batch_size,
}
OTHER_MODULE: dict[str, Callable[[Any], None]] = {
    "attribute": change_attribute,
    "tensor": change_held,
    "place of a tensor": copy_held,
    "place of a buffer": replace_buffer,
    "frozen": freeze,
}


def assert_same(nets: tuple[Any, Any]) -> None:
    assert_same_nets(*nets)
    torch.testing.assert_close(*map(get_gradients, nets), rtol=0, atol=0)


@pytest.mark.parametrize("module", [None, Scaled])
@pytest.mark.parametrize("name", SAME)
def test_recording_is_kept(graphs: type[EmulatedGraph], name: str, module: Any) -> None:
    assert_same(train_both(SAME[name], module))
    assert (graphs.n_captures, graphs.n_replays) == (1, 4 * N_FULL - GraphedStep.n_warmup)


def test_recording_follows_a_buffer_that_is_written_in_place(graphs: type[EmulatedGraph]) -> None:
    assert_same(train_both(write_buffer, Scaled))
    assert graphs.n_captures == 1


@pytest.mark.parametrize(
    ("change", "module"),
    [(OTHER[name], module) for name in OTHER for module in (None, Scaled)]
    + [(change, Scaled) for change in OTHER_MODULE.values()],
)
def test_what_has_changed_is_recorded_anew(
    graphs: type[EmulatedGraph], change: Callable[[Any], None], module: Any
) -> None:
    assert_same(train_both(change, module))
    assert graphs.n_captures == 2


class Watched(Scaled):
    """A module that no description does justice to."""

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_hook(lambda module, x, y: y * module.scale)


def test_what_cannot_be_described_is_recorded_in_each_epoch(graphs: type[EmulatedGraph]) -> None:
    assert_same(train_both(change_attribute, Watched))
    assert graphs.n_captures == 4


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
        {"optimizer": torch.optim.SGD, "optimizer__fused": False},
        {"optimizer": torch.optim.AdamW, "optimizer__amsgrad": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("module", [None, Scaled])
def test_every_optimizer_follows_a_schedule(
    graphs: type[EmulatedGraph], options: dict[str, Any], module: Any
) -> None:
    nets = train_both(partial(set_option, "lr", 0.3), module, **options)
    assert_same(nets)
    assert [group["lr"] for net in nets for group in net.optimizer_.param_groups] == [0.3, 0.3]
    reads_rate = options.get("optimizer__fused") is False  # which is then part of what is recorded
    assert graphs.n_captures == 1 + reads_rate


@pytest.mark.parametrize("batch_size", [9, 15])
def test_gradients_of_a_last_batch_that_is_full_are_the_net_s(
    graphs: type[EmulatedGraph], batch_size: int
) -> None:
    assert_same(train_both(lambda net: None, Scaled, batch_size=batch_size))


def test_what_is_replayed_counts_as_written_to() -> None:
    p = nn.Parameter(torch.zeros(2))
    p.grad = torch.ones(2)
    optimizer = torch.optim.Adam([p], fused=True)
    optimizer.step()
    written = [p, *optimizer.state[p].values()]
    before = [tensor._version for tensor in written]
    with recordable(optimizer):
        pass  # a replay writes unseen
    assert all(tensor._version > version for tensor, version in zip(written, before, strict=True))


def test_few_steps_an_epoch_are_recorded_in_a_later_one(graphs: type[EmulatedGraph]) -> None:
    net, plain = make(batch_size=20), make(batch_size=20)
    for _ in range(5):
        run_epoch(net, cuda_graph=True)
        run_epoch(plain, cuda_graph=False)
    assert graphs.n_replays > 0
    assert_same((net, plain))


@pytest.mark.parametrize("module", [None, Scaled])
def test_recording_ends_with_the_net(
    monkeypatch: pytest.MonkeyPatch, graphs: type[EmulatedGraph], module: Any
) -> None:
    made: list[Any] = []
    begin = graphs.capture_begin

    class Noted(graphs):  # type: ignore[valid-type, misc]
        def capture_begin(self, **options: Any) -> None:
            made.append(weakref.ref(self))
            begin(self, **options)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Noted)
    net = make(module)
    run_epoch(net, cuda_graph=True)
    gc.collect()
    assert [reference() is not None for reference in made] == [True]
    del net
    gc.collect()
    assert [reference() for reference in made] == [None]


# -- where and how it is recorded --------------------------------------------------------


def make_step(device: str = "cpu") -> tuple[GraphedStep, Tensor]:
    """Return a step of a net on a device, and a batch."""
    p = nn.Parameter(torch.zeros(2, device=device))
    p.grad = torch.ones_like(p)
    optimizer = torch.optim.SGD([p], lr=0.1)

    def step(x: Tensor, kept: Tensor) -> bool:
        optimizer.step()
        kept.copy_(x)
        return True

    return GraphedStep(step, optimizer), torch.zeros(3, device=device)


def repeat(step: GraphedStep, x: Tensor, n: int = GraphedStep.n_warmup + 2) -> None:
    for _ in range(n):
        step(x, torch.empty_like(x))


class Noting:
    """Stand-ins for a device of its own that note how they are called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[dict[str, Any]] = []
        self.streams: list[torch.device] = []
        self.currents: list[torch.device] = []
        emulate_graphs(monkeypatch)
        noting, stream = self, torch.cuda.Stream

        class Graph(EmulatedGraph):
            def capture_begin(self, **options: Any) -> None:
                noting.begun.append(options)
                super().capture_begin(**options)

        def make_stream(device: Any) -> Any:
            noting.streams.append(device)
            return stream(device)

        def get_current(device: Any) -> Any:
            noting.currents.append(device)
            return stream(device)

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "Stream", make_stream)
        monkeypatch.setattr(torch.cuda, "current_stream", get_current)


@pytest.fixture
def noting(monkeypatch: pytest.MonkeyPatch) -> Noting:
    return Noting(monkeypatch)


def test_a_device_has_one_stream_for_recordings_and_it_is_its_own(noting: Noting) -> None:
    for device in ("cuda:7", "cuda:7", "cuda:8", "cuda:7"):
        step, x = make_step()
        step.device = torch.device(device)
        repeat(step, x)
    seven, eight = torch.device("cuda:7"), torch.device("cuda:8")
    assert noting.streams == [seven, eight]
    n_times = GraphedStep.n_warmup + 1
    assert noting.currents == [seven] * 2 * n_times + [eight] * n_times + [seven] * n_times


def test_step_is_recorded_on_the_device_of_the_weights() -> None:
    assert make_step("meta")[0].device == torch.device("meta")


def test_recording_lets_other_threads_allocate_and_keeps_to_one_pool(noting: Noting) -> None:
    net = make(Scaled)
    for scale in (1.0, 2.0, 3.0):
        net.module_.scale = scale
        run_epoch(net, cuda_graph=True)
    assert [options["capture_error_mode"] for options in noting.begun] == ["thread_local"] * 3
    assert len({options["pool"] for options in noting.begun}) == 1


def test_nobody_else_records_meanwhile(graphs: type[EmulatedGraph]) -> None:
    step, x = make_step()
    others: SimpleQueue[bool] = SimpleQueue()
    run = step.step

    def look_on(*tensors: Tensor) -> bool:
        thread = Thread(target=lambda: others.put(RECORDING.acquire(blocking=False)))
        thread.start()
        thread.join()
        return run(*tensors)

    step.step = look_on
    repeat(step, x)
    assert [others.get() for _ in range(others.qsize())] == [False] * (GraphedStep.n_warmup + 1)


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
