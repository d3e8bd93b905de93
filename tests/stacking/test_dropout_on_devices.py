"""Dropout of a stack draws where the nets are trained, for each net by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from sk_mixup._random import TorchStream
from sk_mixup._training.epoch import Epoch
from tests.helpers.architectures import PROBLEMS, assert_same_nets, draw_batches, find_trainer, fit, make_rows
from tests.helpers.fake_cuda import Waiting

DEVICE = torch.device("meta")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what generators are asked for; all live on the CPU."""
    made: list[Any] = []
    generator = torch.Generator

    class Made(generator):  # type: ignore[valid-type, misc]
        def __new__(cls, device: Any = "cpu") -> Any:
            made.append(device)
            return generator()

    monkeypatch.setattr(torch, "Generator", Made)
    return made


def make_stack(n_nets: int, **options: Any) -> tuple[list[Any], list[Epoch]]:
    """Return nets with dropout, and an epoch that they are ready for."""
    X, y = make_rows("dropout"), PROBLEMS["classes"].y
    nets = [fit("dropout", max_epochs=0, random_state=k, **options) for k in range(n_nets)]
    epochs = []
    for number, net in enumerate(nets):
        batches = draw_batches(net, X, y)
        epochs.append(Epoch(find_trainer(net, batches), batches, lambda *_: None, TorchStream(number)))
    return nets, epochs


def draw(stream: TorchStream, device: torch.device) -> Tensor:
    return torch.rand(4, generator=stream.find_generator(device))


def test_nothing_is_drawn_on_the_host_for_a_device(made: list[Any]) -> None:
    _, epochs = make_stack(3)
    stack = epochs[0].trainer.stack(epochs)
    stack.streams[:] = [epoch.stream for epoch in epochs]
    dropout = next(part for part in stack.skeleton.modules() if type(part).__name__ == "_StackedDropout")
    made.clear()
    with Waiting() as waiting:
        for _ in range(2):
            x = torch.ones(3, 5, 4, device=DEVICE)
            assert vmap(dropout)(x).device == DEVICE
    assert waiting.waits == []
    assert not [name for name in waiting.seen if "_to_copy" in name or "copy_" in name]
    assert made == [DEVICE] * 3


def test_each_net_draws_on_a_device_by_itself_and_else_than_alone(made: list[Any]) -> None:
    streams = [TorchStream(seed) for seed in (0, 1, 0)]
    first, second, again = (draw(stream, DEVICE) for stream in streams)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, draw(streams[0], torch.device("cpu")))


def test_what_was_drawn_on_any_device_is_drawn_again(made: list[Any]) -> None:
    cpu, other = torch.device("cpu"), torch.device("meta", 1)
    stream = TorchStream(3)
    draw(stream, cpu), draw(stream, DEVICE)
    state = stream.get_state()
    expected = [draw(stream, device) for device in (cpu, DEVICE, other, cpu)]
    stream.set_state(state)
    assert all(map(torch.equal, expected, (draw(stream, device) for device in (cpu, DEVICE, other, cpu))))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_stack_with_dropout_on_a_gpu_repeats_itself() -> None:
    ours, theirs = make_stack(3, device="cuda"), make_stack(3, device="cuda")
    for _, epochs in (ours, theirs):
        assert epochs[0].trainer.stack(epochs).run_epoch(lambda: None)
    for net, other in zip(ours[0], theirs[0], strict=True):
        assert_same_nets(net, other)
