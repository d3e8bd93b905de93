"""A stack's tensors go when its epoch is done, not when garbage is collected."""

from collections.abc import Callable
import gc
from typing import Any
import weakref

import pytest
from torch import nn

from sk_mixup import MixupClassifier, MixupGAN
from sk_mixup._training.gan import StackedGanTrainer
from sk_mixup._training.stacked_optimizer_step import StackedUpdate
from sk_mixup._training.stacked_trainer import StackedTrainer
from tests.helpers.stacking import fit_stacked

QUICK = {"max_epochs": 2, "batch_size": 8}


def make_chain(seed: int) -> Any:
    return MixupClassifier(module__hidden_layer_sizes=(4,), random_state=seed, **QUICK)


def make_module(seed: int) -> Any:
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    return MixupClassifier(net, random_state=seed, **QUICK)


def make_gan(seed: int) -> Any:
    sizes = {f"{name}__hidden_layer_sizes": (4,) for name in ("generator", "discriminator")}
    return MixupGAN(steps_per_epoch=2, random_state=seed, **sizes, **QUICK)


@pytest.mark.usefixtures("stack_two")
@pytest.mark.parametrize("make", [make_chain, make_module, make_gan])
def test_a_stack_is_freed_at_once(
    make: Callable[[int], Any], blobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[weakref.ref] = []

    def note(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def call_noted(self: Any, *args: Any) -> Any:
            seen.append(weakref.ref(self))
            return method(self, *args)

        monkeypatch.setattr(owner, name, call_noted)

    note(StackedTrainer, "run_epoch")
    note(StackedGanTrainer, "run_epoch")
    note(StackedUpdate, "commit")
    gc.disable()
    try:
        fit_stacked((make(seed), blobs.X, blobs.y) for seed in range(4))
        assert seen
        assert not [held() for held in seen if held() is not None]
    finally:
        gc.enable()
