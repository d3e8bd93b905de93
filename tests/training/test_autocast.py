"""Autocast: a step casts what a plain loop casts, and a region round a fit casts the weights of each step."""

from __future__ import annotations

from typing import Any

from joblib import Parallel, delayed
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.architectures import (
    PROBLEMS,
    assert_same_nets,
    draw_batches,
    find_trainer,
    fit,
    make_net,
    make_rows,
)
from tests.helpers.sampling import each_pair
from tests.helpers.stacking import fit_stacked, stacked

HALF = "bfloat16"


class Casts(TorchDispatchMode):
    """Counts casts from and to half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._schema.name == "aten::_to_copy":
            self.n += torch.bfloat16 in (args[0].dtype, out.dtype)
        return out


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("architecture", ["mlp", "tanh", "convolution", "normed"])
def test_step_casts_no_more_than_a_plain_loop(architecture: str, stepwise: bool) -> None:
    X, y = make_rows(architecture)[:8], PROBLEMS["classes"].y[:8]
    net = fit(architecture, alpha=0, autocast=HALF, max_epochs=1, batch_size=8)
    batches = draw_batches(net, X, y)
    trainer = find_trainer(net, batches)
    assert trainer is not None
    with Casts() as ours:
        if stepwise:
            net.train_step(next(iter(batches)))
        else:
            assert trainer.run_epoch(batches, lambda *_: None)
    with Casts() as theirs:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = net.module_(torch.as_tensor(X))
            loss = nn.functional.cross_entropy(output, torch.as_tensor(y))
        loss.backward()
    assert 0 < ours.n <= theirs.n + stepwise  # a prediction is shown in full precision


@each_pair(
    {
        "architecture": ["mlp", "tanh", "convolution"],
        "problem": ["classes", "labels", "targets"],
        "own": [None, HALF],
        "stepwise": [False, True],
        "early_stopping": [False, True],
    }
)
def test_region_round_fits_trains_on_the_weights_of_each_step(
    architecture: str, problem: str, own: str | None, stepwise: bool, early_stopping: bool
) -> None:
    X, y = make_rows(architecture), PROBLEMS[problem].y
    options: dict[str, Any] = {"early_stopping": early_stopping, "stepwise": stepwise, "lr": 0.1}
    nets = [make_net(architecture, problem, autocast=half, **options) for half in (own, HALF)]

    def train(net: Any) -> list[Tensor]:
        outputs = [net.fit(X, y), net.forward(X)]
        return [outputs[1], net.partial_fit(X, y).forward(X)]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = train(nets[0])
        assert torch.is_autocast_cache_enabled()
    torch.testing.assert_close(inside, train(nets[1]), rtol=0, atol=0)
    assert_same_nets(*nets)


@each_pair(
    {
        "way": ["stack", "one by one", "joblib"],
        "problem": ["classes", "targets"],
        "architecture": ["mlp", "tanh", "convolution"],
    }
)
@pytest.mark.filterwarnings("ignore:stacked")
def test_region_round_many_fits_reaches_each_of_them(architecture: str, problem: str, way: str) -> None:
    X, y = make_rows(architecture), PROBLEMS[problem].y
    options: dict[str, Any] = {"lr": 0.1, "stepwise": way == "one by one"}

    def train(half: str | None) -> list[Any]:
        nets = [
            make_net(architecture, problem, autocast=half, **options | {"random_state": seed})
            for seed in range(3)
        ]
        if way != "joblib":
            return fit_stacked((net, X, y) for net in nets)
        with stacked():
            return Parallel(n_jobs=2)(delayed(net.fit)(X, y) for net in nets)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = train(None)
    for net, expected, plain in zip(inside, train(HALF), train(None), strict=True):
        assert_same_nets(net, expected)
        weights = [torch.nn.utils.parameters_to_vector(each.module_.parameters()) for each in (net, plain)]
        assert not torch.equal(*weights)
