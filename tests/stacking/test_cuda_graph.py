"""CUDA graphs of stacks: a recorded step trains as the step itself; on the CPU they are emulated."""

from typing import Any

import pytest
import torch

from sk_mixup._random import TorchStream
from sk_mixup._training.cuda_graph import GraphedStep
from sk_mixup._training.epoch import Epoch
from sk_mixup._training.stacked_optimizer_step import read_options
from tests.helpers.architectures import PROBLEMS, assert_same_nets, draw_batches, find_trainer, fit, make_rows
from tests.helpers.fake_cuda import EmulatedGraph, emulate_graphs


def train(
    architecture: str,
    problem: str,
    lengths: list[int],
    *,
    cuda_graph: bool,
    n_epochs: int = 1,
    **options: Any,
) -> list[Any]:
    """Return nets that were trained as one for some epochs, each on so many rows."""
    X, y = make_rows(architecture), PROBLEMS[problem].y
    nets = [fit(architecture, problem, max_epochs=0, random_state=n, **options) for n in lengths]
    for _ in range(n_epochs):
        epochs = []
        for net, n in zip(nets, lengths, strict=True):
            batches = draw_batches(net, X[:n], y[:n])
            trainer = find_trainer(net, batches)
            trainer.cuda_graph = cuda_graph
            epochs.append(Epoch(trainer, batches, lambda *_: None, TorchStream(0)))
        assert epochs[0].trainer.stack(epochs).run_epoch(lambda: None)
    return nets


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
@pytest.mark.parametrize("lengths", [[45, 45], [45, 43, 40], [45, 30, 12]], ids=str)
def test_graph_of_a_stack_trains_as_the_step(
    monkeypatch: pytest.MonkeyPatch, architecture: str, problem: str, lengths: list[int]
) -> None:
    plain = train(architecture, problem, lengths, cuda_graph=False, batch_size=4)
    graphs: type[EmulatedGraph] = emulate_graphs(monkeypatch)
    graphed = train(architecture, problem, lengths, cuda_graph=True, batch_size=4)
    assert graphs.n_replays
    for net, other in zip(graphed, plain, strict=True):
        assert_same_nets(net, other)
        assert read_options([net.optimizer_]) == read_options([other.optimizer_])


def test_graph_is_recorded_anew_when_a_net_drops_out(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = emulate_graphs(monkeypatch)
    train("mlp", "classes", [44, 20], cuda_graph=True, batch_size=4)
    assert graphs.n_captures == 2
    assert graphs.n_replays == 11 - 2 * GraphedStep.n_warmup


@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
def test_graph_of_a_stack_is_of_one_epoch(monkeypatch: pytest.MonkeyPatch, architecture: str) -> None:
    options: dict[str, Any] = {"lengths": [45, 45], "n_epochs": 3, "batch_size": 4}
    plain = train(architecture, "classes", cuda_graph=False, **options)
    graphs = emulate_graphs(monkeypatch)
    graphed = train(architecture, "classes", cuda_graph=True, **options)
    assert graphs.n_captures == 3
    for net, other in zip(graphed, plain, strict=True):
        assert_same_nets(net, other)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
def test_graph_of_a_stack_trains_as_the_step_on_a_gpu(architecture: str) -> None:
    lengths = [45, 43, 30]
    options: dict[str, Any] = {"batch_size": 4, "device": "cuda"}
    plain = train(architecture, "classes", lengths, cuda_graph=False, **options)
    graphed = train(architecture, "classes", lengths, cuda_graph=True, **options)
    for net, other in zip(graphed, plain, strict=True):
        torch.testing.assert_close(net.module_.state_dict(), other.module_.state_dict())
