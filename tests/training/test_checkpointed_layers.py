"""Hidden layers that are mixed under torch's activation checkpointing: the same steps, in less memory."""

from __future__ import annotations

from functools import partial
from typing import Any

from accelerate import Accelerator
import pytest
from skorch import NeuralNetClassifier
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sk_mixup import AccelerateMixin, MixupClassifier, MixupNetMixin
from sk_mixup.mixing import (
    FeatureExtrapolation,
    FeatureInterpolation,
    ManifoldMixup,
    Mixture,
    Mixup,
    Vicinity,
)
from tests.helpers.architectures import PROBLEMS, Look, assert_close_nets, make_rows, note_epochs
from tests.helpers.nets import QUICK
from tests.helpers.sampling import cover_pairs

N = 21
X, CODES = make_rows("mlp")[:N], PROBLEMS["classes"].y[:N]
OPTIONS: dict[str, Any] = {"optimizer": torch.optim.SGD, "lr": 0.5, "batch_size": 8, "max_epochs": 3}


class Blocks(nn.Module):
    """Three blocks, of which the second may be computed anew in the backward pass."""

    def __init__(self, use_reentrant: bool | None = None) -> None:
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(2))
        self.head = nn.Linear(6, 3)
        self.use_reentrant = use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if self.use_reentrant is None or not self.training:
            return self.head(self.b(h))
        return self.head(checkpoint(self.b, h, use_reentrant=self.use_reentrant))


class SkorchNet(MixupNetMixin, NeuralNetClassifier):
    pass


class Accelerated(AccelerateMixin, MixupClassifier):
    pass


def fit_skorch(module: Any, vicinity: Vicinity) -> Any:
    plain = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0, "random_state": 0}
    return SkorchNet(module, vicinity=vicinity, **plain, **OPTIONS).fit(X, CODES)


def fit_estimator(module: Any, vicinity: Vicinity, owner: Any = MixupClassifier, **options: Any) -> Any:
    return owner(module, vicinity=vicinity, **QUICK | OPTIONS | options).fit(X, CODES)


FITS: dict[str, Any] = {
    "fast": fit_estimator,
    "stepwise": partial(fit_estimator, callbacks=[("look", Look())]),
    "skorch": fit_skorch,
    "accelerated": lambda *args: fit_estimator(*args, owner=Accelerated, accelerator=Accelerator(cpu=True)),
    "scaled": partial(fit_estimator, autocast="bfloat16"),
    "searching": partial(fit_estimator, optimizer=torch.optim.LBFGS, optimizer__max_iter=3, lr=0.1),
}
VICINITIES: dict[str, Vicinity] = {
    "checkpointed": ManifoldMixup(layers=("b",)),
    "within": ManifoldMixup(layers=("b.0",), partners="dataset"),
    "before": ManifoldMixup(layers=("a",)),
    "interpolation": FeatureInterpolation(layers=("b", "a"), partners="dataset"),
    "extrapolation": FeatureExtrapolation(layers=("b",), partners="batch"),
    "mixture": Mixture((ManifoldMixup(layers=("b",)), Mixup())),
}


@pytest.mark.parametrize(("name", "way", "use_reentrant"), cover_pairs(VICINITIES, FITS, (True, False)))
def test_checkpointed_module_trains_like_a_plain_one(
    monkeypatch: pytest.MonkeyPatch, name: str, way: str, use_reentrant: bool
) -> None:
    epochs = note_epochs(monkeypatch)
    nets = [FITS[way](partial(Blocks, kind), VICINITIES[name]) for kind in (None, use_reentrant)]
    assert_close_nets(*nets)
    assert (epochs == ["ModuleTrainer"] * 6) == (way in ("fast", "scaled", "accelerated"))
    assert not any(part._forward_hooks for part in nets[1].module_.modules())


@pytest.mark.parametrize("way", ["stepwise", "skorch"])
def test_loss_of_the_users_own_asks_the_module_without_mixing(
    monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    seen: list[bool] = []

    def get_loss(self: Any, y_pred: Tensor, y_true: Tensor, X: Any = None, training: bool = False) -> Tensor:
        if training:
            h = self.module_.a(X)
            seen.append(torch.equal(self.module_.b(h), torch.tanh(self.module_.b[0](h))))
        return nn.functional.cross_entropy(y_pred, y_true, reduction=self.criterion_.reduction)

    monkeypatch.setattr(SkorchNet, "get_loss", get_loss)
    monkeypatch.setattr(MixupClassifier, "get_loss", get_loss)
    FITS[way](Blocks, VICINITIES["checkpointed"])
    assert seen
    assert all(seen)
