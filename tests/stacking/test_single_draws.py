"""Modules whose draws, or whose copies, a stack could not give each net are trained one by one."""

import random
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from tests.helpers.stacking import fit_stacked

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = np.arange(40) % 3
QUICK: dict[str, Any] = {"early_stopping": False, "max_epochs": 3, "lr": 0.1, "batch_size": 10}


class Gate(nn.Module):
    """Drops columns out, the same of all rows."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.net = nn.Sequential(nn.Linear(in_features, 8), nn.Tanh(), nn.Linear(8, out_features))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * self.drop(torch.ones(x.shape[1])))


class Scaled(nn.Linear):
    """Holds a result of a computation, which Python cannot copy."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("norm", self.weight.norm())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / self.norm.detach()


@pytest.mark.parametrize("module", [Gate, Scaled])
@pytest.mark.filterwarnings("ignore:stacked")
def test_each_net_is_what_it_is_alone(module: Any) -> None:
    nets = [MixupClassifier(module, random_state=k, **QUICK) for k in range(4)]
    nets.append(MixupClassifier(random_state=4, **QUICK))
    alone = [clone(net).fit(X, Y) for net in nets]
    fit_stacked((net, X, Y) for net in nets)
    for net, single in zip(nets, alone, strict=True):
        np.testing.assert_allclose(net.predict_proba(X), single.predict_proba(X), atol=1e-5)


class Noisy(nn.Linear):
    """Adds noise that is drawn outside torch."""

    seen: list[float] = []  # noqa: RUF012
    source = "numpy"

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            noise = np.random.normal() if self.source == "numpy" else random.gauss()  # noqa: NPY002
            self.seen.append(noise)
            x = x + noise
        return super().forward(x)


class NoisyByPython(Noisy):
    """Adds noise that Python draws."""

    source = "python"


@pytest.mark.parametrize("module", [Noisy, NoisyByPython])
def test_each_net_draws_from_the_generators_of_python_and_numpy(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "seen", [])
    nets = [MixupClassifier(module, random_state=k, **QUICK) for k in range(4)]
    with pytest.warns(UserWarning, match="draws from the global generator of Python or numpy"):
        fit_stacked((net, X, Y) for net in nets)
    assert len(set(module.seen)) >= 4 * 3 * 4  # nets, epochs, steps


def test_nets_without_a_device_of_their_own_keep_none() -> None:
    nets = [MixupClassifier(device=None, random_state=k, **QUICK) for k in range(2)]
    fit_stacked(((net, X, Y) for net in nets), device="cpu")
    for net in nets:
        assert net.device is None
        assert {weight.device.type for weight in net.module_.parameters()} == {"cpu"}


def test_nets_without_a_device_return_to_that_of_the_module_that_is_given() -> None:
    net = MixupClassifier(nn.Linear(4, 3, device="meta"), device=None)
    assert net._torch_device.type == "meta"


class Watched(nn.Linear):
    """Counts its calls."""

    calls: list[int] = []  # noqa: RUF012

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(1)
        return super().forward(x)


def test_one_draw_of_another_thread_is_none_of_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "calls", [])
    monkeypatch.setattr("sk_mixup._training.module.get_global_states", lambda: (len(Watched.calls) > 0,))
    fit_stacked((MixupClassifier(Watched, random_state=k, **QUICK), X, Y) for k in range(4))
    assert len(Watched.calls) < 4 * 3 * 4  # of all nets as one
