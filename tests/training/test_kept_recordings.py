"""Recorded steps: kept while they are the same, recorded anew where not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import gc
from queue import SimpleQueue
from threading import Thread
from typing import Any
import weakref

import pytest
import torch
from torch import Tensor, nn

from sk_mixup._training.cuda_graph import RECORDING, GraphedStep, recordable
from tests.helpers.architectures import (
    assert_same_nets,
)
from tests.helpers.fake_cuda import EmulatedGraph, emulate_graphs
from tests.helpers.recordings import Scaled, make, make_step, repeat, run_epoch

# The 5 full batches of an epoch are one recording, which the first epoch is not yet.
N_REPLAYS = 3


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> type[EmulatedGraph]:
    """Graphs that live on the CPU."""
    return emulate_graphs(monkeypatch)


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
    assert (graphs.n_captures, graphs.n_replays) == (1, N_REPLAYS)


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
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "optimizer__fused": True},
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
    for _ in range(2):
        run_epoch(net, cuda_graph=True)
    gc.collect()
    assert [reference() is not None for reference in made] == [True]
    del net
    gc.collect()
    assert [reference() for reference in made] == [None]


# -- where and how it is recorded --------------------------------------------------------


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
    for scale in (1.0, 1.0, 2.0, 2.0, 3.0, 3.0):
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
