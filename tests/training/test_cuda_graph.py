"""CUDA graphs: a recorded step trains as the step itself; on the CPU the graphs are emulated."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sk_mixup import MixupClassifier, MixupRegressor
from tests.helpers.architectures import (
    ALL_PROBLEMS,
    ARCHITECTURES,
    MIXING,
    PROBLEMS,
    WEIGHT,
    assert_close_nets,
    assert_same_nets,
    cover,
    draw_batches,
    find_trainer,
    fit,
    make_net,
    make_rows,
)
from tests.helpers.fake_cuda import EmulatedGraph, Waiting, emulate_graphs
from tests.helpers.sampling import each_pair

pytestmark = pytest.mark.slow
N_EPOCHS = 2


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> type[EmulatedGraph]:
    """Graphs that live on the CPU."""
    return emulate_graphs(monkeypatch)


def train(
    architecture: str,
    problem: str,
    *,
    cuda_graph: bool,
    weight: Any = None,
    limits: Mapping[str, int] = MappingProxyType({}),
    **options: Any,
) -> Any:
    """Return a net trained for some epochs, and the losses of each; `limits` are the trainer's."""
    X, y = make_rows(architecture), ALL_PROBLEMS[problem].y
    net = fit(architecture, problem, max_epochs=0, **options)
    torch.manual_seed(0)
    epochs: list[tuple[Tensor, list[int]]] = []
    for epoch in range(N_EPOCHS):
        batches = draw_batches(net, X, y, weight)
        net.optimizer_.param_groups[0]["lr"] = 0.02 / (1 + epoch)
        trainer = find_trainer(net, batches)
        trainer.cuda_graph = cuda_graph
        vars(trainer).update(limits)
        assert trainer.run_epoch(batches, lambda losses, sizes, _: epochs.append((losses.clone(), sizes)))
    return net, epochs


def assert_graph_is_the_step(architecture: str, problem: str, **options: Any) -> None:
    (net, epochs), (plain, plain_epochs) = (
        train(architecture, problem, cuda_graph=cuda_graph, **options) for cuda_graph in (True, False)
    )
    assert_same_nets(net, plain)
    torch.testing.assert_close(epochs, plain_epochs, rtol=0, atol=0)


# -- the same weights --------------------------------------------------------------------


@pytest.mark.parametrize(("mixing", "problem", "architecture", "weighted"), cover(("mlp", "tanh")))
def test_graph_trains_as_the_step(
    graphs: type[EmulatedGraph], mixing: str, problem: str, architecture: str, weighted: bool
) -> None:
    weight = WEIGHT if weighted else None
    assert_graph_is_the_step(architecture, problem, batch_size=8, weight=weight, **MIXING[mixing])
    assert (graphs.n_captures, graphs.n_replays) == (1, N_EPOCHS - 1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
def test_graph_of_any_module_trains_as_the_step(
    graphs: type[EmulatedGraph], architecture: str, weight: Any
) -> None:
    assert_graph_is_the_step(architecture, "classes", batch_size=4, weight=weight)
    assert (graphs.n_captures, graphs.n_replays) == (1, N_EPOCHS - 1)


@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": torch.optim.AdamW, "optimizer__amsgrad": True},
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "optimizer__fused": True},
        {"optimizer__param_groups": [("*bias", {"weight_decay": 0.1})]},
    ],
    ids=str,
)
def test_graph_with_any_optimizer_trains_as_the_step(
    graphs: type[EmulatedGraph], architecture: str, options: dict[str, Any]
) -> None:
    assert_graph_is_the_step(architecture, "classes", batch_size=4, **options)
    assert graphs.n_replays


@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
@pytest.mark.parametrize("storage", ["device", "host"])
def test_graph_of_any_storage_trains_as_the_step(
    graphs: type[EmulatedGraph], architecture: str, storage: str
) -> None:
    assert_graph_is_the_step(architecture, "classes", batch_size=4, storage=storage)
    assert graphs.n_replays


@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
@pytest.mark.parametrize(
    ("batch_size", "n_replays"),
    [(-1, 0), (44, 0), (16, 0), (12, 1), (10, 1), (8, 1), (4, 1), (2, 1), (1, 5)],
)
def test_graph_is_replayed_for_full_batches_after_the_first(
    graphs: type[EmulatedGraph], architecture: str, batch_size: int, n_replays: int
) -> None:
    assert_graph_is_the_step(architecture, "classes", batch_size=batch_size)
    assert (graphs.n_captures, graphs.n_replays) == (min(n_replays, 1), n_replays)


# By the batches mixed at once and prepared at once, of 10 full ones and a larger one: the replays of two
# epochs, of which the first three steps, in whole recordings, are run as they are.
JOINED = {(1, 99): 17, (2, 99): 8, (3, 99): 5, (5, 99): 3, (99, 4): 5, (99, 5): 3, (99, 7): 3, (3, 7): 5}


@each_pair(
    {
        "architecture": ["mlp", "tanh", "dropout"],
        "joined": list(JOINED),
        "storage": ["device", "host"],
        "weighted": [False, True],
    }
)
def test_several_steps_are_one_recording(
    graphs: type[EmulatedGraph], architecture: str, joined: tuple[int, int], storage: str, weighted: bool
) -> None:
    n_mixed, n_joined = joined
    limits = {"block_elements": n_mixed * 4 * 6, "target_elements": n_joined * 4 * 2 * 3}
    options: dict[str, Any] = {"batch_size": 4, "storage": storage, "weight": WEIGHT if weighted else None}
    assert_graph_is_the_step(architecture, "classes", limits=limits, **options)
    assert (graphs.n_captures, graphs.n_replays) == (1, JOINED[joined])


@pytest.mark.parametrize("problem", ["classes", "smoothed_labels", "targets", "penalized_classes"])
def test_batches_of_a_recording_are_sent_by_one_call_for_each_kind_of_tensor(
    graphs: type[EmulatedGraph], problem: str
) -> None:
    sent: dict[int, int] = {}
    for batch_size in (4, 2):
        with Waiting() as watched:
            train("mlp", problem, cuda_graph=True, batch_size=batch_size)
        sent[batch_size] = watched.seen.count("aten._foreach_copy_.default")
    assert 3 <= sent[4] == sent[2] <= 6


@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
def test_training_goes_on_after_a_graph(graphs: type[EmulatedGraph], architecture: str) -> None:
    X, y = make_rows(architecture), PROBLEMS["classes"].y
    nets = [train(architecture, "classes", cuda_graph=graphed, batch_size=4)[0] for graphed in (True, False)]
    graphed, plain = (net.set_params(max_epochs=2).partial_fit(X, y) for net in nets)
    assert_same_nets(graphed, plain)
    assert not any(p.grad.is_inference() for p in graphed.module_.parameters())


# -- the emulation itself ----------------------------------------------------------------


def test_recording_computes_nothing_and_replaying_does() -> None:
    weight, total, graph = torch.ones(3), torch.zeros(()), EmulatedGraph()
    graph.capture_begin()
    weight.add_(1)
    noise = torch.rand(3)
    torch.sum(weight.view(3)[:2], 0, out=total)
    graph.capture_end()
    assert weight.tolist() == [1, 1, 1]
    assert total.item() == 0
    state = torch.get_rng_state()
    graph.replay()
    graph.replay()
    torch.set_rng_state(state)
    torch.rand(3)
    assert torch.equal(noise, torch.rand(3))
    assert weight.tolist() == [3, 3, 3]
    assert total.item() == 6


def test_number_that_is_read_in_a_recording_stays_what_it_was() -> None:
    x, kept, graph = torch.full((1,), 3.0), torch.zeros(1), EmulatedGraph()
    graph.capture_begin()
    kept.copy_(x * float(x.sum()))
    graph.capture_end()
    x.fill_(4)
    graph.replay()
    assert kept.item() == 4 * 3


# -- where there is no graph -------------------------------------------------------------


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_graph_on_the_cpu_is_refused(owner: Any) -> None:
    match = r"cuda_graph must be False for device 'cpu'; got True. Use it with device='cuda'"
    with pytest.raises(ValueError, match=match):
        owner(cuda_graph=True).fit(make_rows("mlp"), PROBLEMS["target"].y > 0)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_graph_must_be_a_bool(value: Any) -> None:
    with pytest.raises(TypeError, match="cuda_graph must be"):
        MixupClassifier(cuda_graph=value).fit(make_rows("mlp"), PROBLEMS["classes"].y)


# -- on a device -------------------------------------------------------------------------

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_graph_on_a_device_trains_as_the_step(float64: None, architecture: str, problem: str) -> None:
    # A recorded step reads the rate in single precision, in which this one is exact.
    options = {"device": "cuda", "batch_size": 8, "lr": 2**-6}
    graphed, plain = (fit(architecture, problem, cuda_graph=graphed, **options) for graphed in (True, False))
    assert_close_nets(graphed, plain, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(graphed.loss_curve_, plain.loss_curve_, rtol=1e-10)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("storage", ["device", "host"])
@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
@pytest.mark.parametrize("mixing", ["plain", "mixup", "four_of_dataset"])
def test_epoch_on_a_device_waits_for_nothing(
    architecture: str, mixing: str, storage: str, cuda_graph: bool
) -> None:
    X, y = make_rows(architecture), PROBLEMS["classes"].y
    options = MIXING[mixing] | {"device": "cuda", "batch_size": 8, "storage": storage}
    net = make_net(architecture, cuda_graph=cuda_graph, **options).fit(X, y)
    batches = draw_batches(net, X, y, WEIGHT)
    trainer = find_trainer(net, batches)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert trainer.run_epoch(batches, lambda *_: None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
