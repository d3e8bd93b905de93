"""Nothing inside an epoch waits for the device, and all of it runs there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy import sparse
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from sk_mixup._data import batches as data
from sk_mixup._data import storage as rows
from sk_mixup._data.batches import PlannedBatches
from sk_mixup._data.storage import Rows
from sk_mixup._training.losses import BinaryCrossEntropy, CrossEntropy, Loss, SquaredError
from sk_mixup._training.module import ModuleTrainer
from sk_mixup._training.perceptron import PerceptronTrainer
from sk_mixup._training.trainer import Trainer
from sk_mixup.mixing import ERM, Mixup
from tests.helpers.architectures import (
    ALL_PROBLEMS,
    ARCHITECTURES,
    MIXING,
    PROBLEMS,
    WEIGHT,
    cover,
    draw_batches,
    find_trainer,
    fit,
    make_net,
    make_rows,
)
from tests.helpers.fake_cuda import Waiting, fake_cuda
from tests.helpers.sampling import each_pair

# -- operations that wait ----------------------------------------------------------------


def run_watched(net: Any, *table: Any, stepwise: bool = False) -> Waiting:
    """Train a fitted net for one more epoch; return what was seen of it."""
    batches = draw_batches(net, *table)
    trainer = find_trainer(net, batches)
    with Waiting() as waiting:
        if stepwise:
            for batch in batches:
                net.train_step(batch)
        else:
            assert trainer.run_epoch(batches, lambda *_: None)
    return waiting


# Without autograd, by autograd, and step by step.
WAYS = [("mlp", False), ("tanh", False), ("tanh", True)]
FORMS: dict[str, Callable[..., Any]] = {
    "dense": lambda X: X,
    "sparse": lambda X: sparse.csr_matrix(np.maximum(X, 0)),
}


@pytest.mark.parametrize(("mixing", "problem", "way", "weighted"), cover(WAYS))
def test_epoch_waits_for_nothing(mixing: str, problem: str, way: tuple[str, bool], weighted: bool) -> None:
    architecture, stepwise = way
    X, y = make_rows(architecture), ALL_PROBLEMS[problem].y
    net = fit(architecture, problem, max_epochs=1, **MIXING[mixing])
    waiting = run_watched(net, X, y, WEIGHT if weighted else None, stepwise=stepwise)
    assert waiting.waits == []
    assert len(waiting.seen) > 3 * len(list(net.module_.parameters()))


STORED = [("sparse", "auto"), ("sparse", "host"), ("dense", "host"), ("dense", "device")]


@each_pair({"mixing": list(MIXING), "stored": STORED, "way": WAYS})
def test_epoch_of_any_storage_waits_for_nothing(
    mixing: str, stored: tuple[str, str], way: tuple[str, bool]
) -> None:
    (form, storage), (architecture, stepwise) = stored, way
    X, y = FORMS[form](make_rows(architecture)), PROBLEMS["classes"].y
    net = make_net(architecture, max_epochs=1, storage=storage, **MIXING[mixing]).fit(X, y)
    assert run_watched(net, X, y, WEIGHT, stepwise=stepwise).waits == []


@each_pair(
    {
        "optimizer": [torch.optim.AdamW, torch.optim.SGD],
        "architecture": ARCHITECTURES,
        "stepwise": [False, True],
    }
)
def test_epoch_of_any_module_waits_for_nothing(architecture: str, optimizer: Any, stepwise: bool) -> None:
    net = fit(architecture, optimizer=optimizer, max_epochs=1)
    assert run_watched(net, make_rows(architecture), PROBLEMS["classes"].y, stepwise=stepwise).waits == []


def _branch(x: Tensor) -> Tensor:
    return x if (x > 0).any() else 2 * x


def _mask_in_place(x: Tensor) -> Tensor:
    x = x.clone()
    x[x > 0] = 1.0
    return x


WAITERS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "branch": _branch,
    "mask": lambda x: x[x > 0],
    "mask_in_place": _mask_in_place,
    "masked_select": lambda x: x.masked_select(x > 0),
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0),
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, 2 * x),
    "to_another_device": lambda x: x.to("meta"),
}


class Waiter(nn.Module):
    """A net that waits in every forward pass."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        WAITERS[self.kind](x)
        return self.last(x)


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("kind", WAITERS)
def test_module_that_waits_is_caught(kind: str, stepwise: bool) -> None:
    X, y = make_rows("mlp"), PROBLEMS["classes"].y
    net = MixupClassifier(Waiter, module__kind=kind, early_stopping=False, max_epochs=1, batch_size=16)
    waiting = run_watched(net.fit(X, y), X, y, stepwise=stepwise)
    assert len(waiting.waits) >= 3


@pytest.mark.parametrize("kind", WAITERS)
@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_operation_that_waits_is_caught(kind: str, guard: Any) -> None:
    with guard(), Waiting() as waiting:
        WAITERS[kind](torch.arange(-3.0, 3.0))
    assert waiting.waits


# -- operations that leave the device ----------------------------------------------------

N, SIZE, N_FEATURES, N_OUTPUTS = 20, 8, 4, 3
LOSSES = [
    CrossEntropy(N_OUTPUTS),
    CrossEntropy(N_OUTPUTS, 0.1, 0.3),
    BinaryCrossEntropy(),
    BinaryCrossEntropy(0.1, 0.3),
    SquaredError(),
]
POLICIES = [ERM(), Mixup(), Mixup(n_mixed=3), Mixup(partners="dataset"), Mixup(lam_per="batch")]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    """Pretend that there is a CUDA device; what is sent there has a shape and no numbers."""

    def send(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
        tensor = torch.as_tensor(values)
        return torch.empty(tensor.shape, dtype=dtype or tensor.dtype, device=device)

    monkeypatch.setattr(data, "send", send)
    monkeypatch.setattr(rows, "send", send)
    # The engine of autograd starts a thread for each real device.
    monkeypatch.setattr(torch.autograd, "backward", lambda *_: None)
    with fake_cuda(monkeypatch) as waiting:
        yield waiting


def make_batches(loss: Loss, policy: Any, *, weighted: bool) -> PlannedBatches:
    x = torch.empty(N, N_FEATURES, device="cuda")
    y = torch.empty(N, N_OUTPUTS, device="cuda")
    if isinstance(loss, CrossEntropy):
        y = torch.empty(N, dtype=torch.int64, device="cuda")
    weight = torch.empty(N, device="cuda") if weighted else None
    plan = policy(np.random.default_rng(0), N, SIZE)
    return PlannedBatches(Rows(x, y, weight), plan, torch.float32)


def make_module(*, trained: bool) -> nn.Sequential:
    """Return linear layers with a ReLU between them, on the device."""
    layers = [nn.Linear(N_FEATURES, 5, device="meta"), nn.Linear(5, N_OUTPUTS, device="meta")]
    for layer in layers:
        for name, parameter in list(layer.named_parameters()):
            on_device = torch.empty(parameter.shape, device="cuda")
            setattr(layer, name, nn.Parameter(on_device, requires_grad=trained))
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def make_trainer(kind: str, loss: Loss) -> Trainer:
    module = make_module(trained=kind == "perceptron")
    if kind == "perceptron":
        layers = [module[0], module[2]]
        # Its fused kernel has a fake counterpart.
        return PerceptronTrainer(layers, loss, torch.optim.Adam(module.parameters(), fused=True))
    # Autograd takes no parameters on a device that is not there: the forward half is left.
    optimizer = torch.optim.SGD(module.parameters())
    trainer = ModuleTrainer(module, loss, N_OUTPUTS, optimizer, dtype=torch.float32)
    trainer.update = lambda: None  # type: ignore[assignment]
    trainer.update.close = lambda: None
    return trainer


@each_pair({"kind": ["perceptron", "module"], "loss": LOSSES, "policy": POLICIES, "weighted": [False, True]})
def test_epoch_runs_on_the_device(cuda: Waiting, kind: str, loss: Loss, policy: Any, weighted: bool) -> None:
    devices: list[str] = []
    trainer = make_trainer(kind, loss)
    batches = make_batches(loss, policy, weighted=weighted)
    assert trainer.run_epoch(batches, lambda losses, *_: devices.append(losses.device.type))
    assert set(devices) == {"cuda"}
    assert cuda.waits == []
    assert any("log_softmax" in name or "sigmoid" in name or "sub" in name for name in cuda.seen)


class Forgetful(CrossEntropy):
    """A loss with a tensor that was forgotten on the host."""

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        return super().compute_gradient(output, kept, *prepared) * torch.ones(N_OUTPUTS)


class Hasty(CrossEntropy):
    """A loss that reads a number."""

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        return super().compute_gradient(output, kept, *prepared) * float(output.sum())


class Homesick(CrossEntropy):
    """A loss that goes to the host and back."""

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        gradient = super().compute_gradient(output, kept, *prepared)
        return torch.empty_like(gradient).copy_(gradient.cpu())


@pytest.mark.parametrize("kind", ["perceptron", "module"])
@pytest.mark.parametrize("owner", [Forgetful, Hasty])
def test_loss_that_leaves_the_device_is_refused(cuda: Waiting, kind: str, owner: Any) -> None:
    loss = owner(N_OUTPUTS)
    with pytest.raises(RuntimeError, match=r"(?i)cuda|_local_scalar_dense"):
        make_trainer(kind, loss).run_epoch(make_batches(loss, ERM(), weighted=False), lambda *_: None)


@pytest.mark.parametrize("kind", ["perceptron", "module"])
def test_loss_that_goes_to_the_host_and_back_is_caught(cuda: Waiting, kind: str) -> None:
    loss = Homesick(N_OUTPUTS)
    make_trainer(kind, loss).run_epoch(make_batches(loss, ERM(), weighted=False), lambda *_: None)
    assert len(cuda.waits) >= 2 * 3
