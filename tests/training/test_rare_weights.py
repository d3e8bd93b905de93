"""Weights that are put elsewhere, rest for a while, share memory, or are of half precision."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sk_mixup import MixupClassifier, MixupRegressor
from tests.helpers.stacking import fit_stacked

X = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
OPTIONS: dict[str, Any] = {
    "alpha": 0,
    "max_epochs": 2,
    "early_stopping": False,
    "batch_size": 8,
    "lr": 0.05,
    "random_state": 0,
    "iterator_train__shuffle": False,
}


class MaxNorm(nn.Module):
    """Puts another tensor in the place of a weight, or changes it where it is."""

    def __init__(self, *, in_place: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.in_place = nn.Linear(6, 8), nn.Linear(8, 2), in_place

    def forward(self, x: Tensor) -> Tensor:
        limited = torch.renorm(self.last.weight.data, 2, 0, 0.8)
        if self.in_place:
            self.last.weight.data.copy_(limited)
        else:
            self.last.weight.data = limited
        return self.last(torch.tanh(self.first(x)))


class LayerDrop(nn.Module):
    """A block that takes part in every fourth step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.block, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.register_buffer("n", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        self.n += self.training
        takes_part = not self.training or int(self.n) % 4 == 0
        return self.last(hidden + self.block(hidden) if takes_part else hidden)


def train_by_hand(make: Callable[[], nn.Module], groups: bool, **options: Any) -> nn.Module:
    module = make().train()
    named = [("block", 0.01), ("", 0.05)] if groups else [("", 0.05)]
    left = dict(module.named_parameters())
    given = []
    for prefix, lr in named:
        chosen = [name for name in left if name.startswith(prefix)]
        given.append({"params": [left.pop(name) for name in chosen], "lr": lr})
    optimizer = torch.optim.Adam(given, **options)
    for _ in range(2):
        for start in range(0, 64, 8):
            rows = slice(start, start + 8)
            optimizer.zero_grad()
            F.cross_entropy(module(torch.as_tensor(X[rows])), torch.as_tensor(Y[rows])).backward()
            optimizer.step()
    return module


@pytest.mark.parametrize(
    ("make", "groups"),
    [(MaxNorm, False), (lambda: MaxNorm(in_place=True), False), (LayerDrop, False), (LayerDrop, True)],
    ids=["put elsewhere", "changed in place", "rests", "rests in a group of its own"],
)
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_trains_the_weights_that_the_module_has(make: Any, groups: bool, amsgrad: bool) -> None:
    options = {"optimizer__param_groups": [("block*", {"lr": 0.01})]} if groups else {}

    net = MixupClassifier(make, **OPTIONS, **options, optimizer__amsgrad=amsgrad).fit(X, Y)
    expected = train_by_hand(make, groups, amsgrad=amsgrad)
    for found, right in zip(net.module_.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)


class Half(nn.Module):
    def __init__(self, n_outputs: int, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, n_outputs)).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["classes", "labels", "values"])
@pytest.mark.parametrize("alpha", [0, 1.0])
def test_losses_of_half_precision_are_computed_in_single(dtype: Any, kind: str, alpha: float) -> None:
    generator = np.random.default_rng(1)
    many = {
        "classes": Y,
        "labels": generator.integers(2, size=(64, 1100)),
        "values": generator.normal(size=(64, 1100)),
    }
    y = many[kind]
    module = Half(2 if kind == "classes" else 1100, dtype)
    options = OPTIONS | {"alpha": alpha, "batch_size": -1, "optimizer": torch.optim.SGD, "lr": 0.5}
    if kind == "values":
        options |= {"standardize_targets": False}
    owner: Any = MixupRegressor if kind == "values" else MixupClassifier

    class StepByStep(owner):  # type: ignore[misc, valid-type]
        def train_step(self, *args: Any, **kwargs: Any) -> Any:
            return super().train_step(*args, **kwargs)

    fast, slow = (net(module, **options).fit(X, y) for net in (owner, StepByStep))
    assert fast.loss_curve_ == pytest.approx(slow.loss_curve_, rel=1e-4)
    assert fast.loss_curve_[1] != fast.loss_curve_[0]
    for found, right in zip(fast.module_.parameters(), slow.module_.parameters(), strict=True):
        torch.testing.assert_close(found, right, rtol=2e-2, atol=2e-3)


class InPlaceDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(6, 8), nn.Dropout(0.5, inplace=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        self.drop(hidden)
        return self.last(torch.tanh(hidden))


class SharedMemory(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.second.weight.data = self.first.weight.data

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


def use_dropout_twice() -> nn.Module:
    drop = nn.Dropout(0.3)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), drop, nn.Linear(8, 8), nn.ReLU(), drop, nn.Linear(8, 2))


@pytest.mark.filterwarnings("ignore:stacked. nets are trained one by one")
@pytest.mark.parametrize(
    ("make", "is_stacked"),
    [(InPlaceDropout, True), (SharedMemory, False), (use_dropout_twice, True)],
    ids=["dropout in place", "shared memory", "dropout used twice"],
)
def test_stacked_nets_equal_single_fits(
    float64: None, stacks: list[int], make: Any, is_stacked: bool
) -> None:
    options = OPTIONS | {"iterator_train__shuffle": True, "batch_size": 16, "module": make}
    alphas = (0, 0.2, 0.5, 1.0, 0, 0.4)
    singles, nets = (
        [MixupClassifier(**options | {"alpha": a, "random_state": k}) for k, a in enumerate(alphas)]
        for _ in range(2)
    )
    for net in singles:
        net.fit(X.astype(float), Y)
    fit_stacked((net, X.astype(float), Y) for net in nets)
    assert (max(stacks, default=1) == 6) == is_stacked
    for net, single in zip(nets, singles, strict=True):
        np.testing.assert_allclose(net.predict_proba(X), single.predict_proba(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("partners", ["neighbors", "batch"])
def test_neighbours_of_rows_of_half_precision_are_found(partners: Any) -> None:
    module = Half(2, torch.bfloat16)
    net = MixupClassifier(module, **OPTIONS | {"alpha": 1.0, "partners": partners}).fit(X, Y)
    assert np.isfinite(net.loss_curve_).all()
