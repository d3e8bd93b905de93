"""Augmentations that say they change each example by itself take part in the fast epochs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup._devices import LIMITS
from sk_mixup.augmentation import crop_and_flip, per_image
from sk_mixup.mixing import CutMix, GaussianNoise, ManifoldMixup
from tests.helpers.architectures import (
    Look,
    assert_close_nets,
    assert_same_history,
    assert_same_nets,
    draw_batches,
    find_trainer,
    note_epochs,
)
from tests.helpers.nets import QUICK
from tests.helpers.sampling import each_pair
from tests.helpers.stacking import fit_stacked

N = 45  # 2 batches of 16 and one of 13
X = np.random.default_rng(0).normal(size=(N, 8, 4, 4)).astype(np.float32)
LABELS = np.arange(N) % 3
VALUES = np.random.default_rng(1).normal(size=N).astype(np.float32)


def make_convolution(n: int, dropout: float = 0.0) -> nn.Module:
    layers = (
        nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(32, n),
    )
    return nn.Sequential(*layers)


def make_perceptron(n: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.ReLU(), nn.Linear(8, n))


MODULES: dict[str, Any] = {
    "convolution": make_convolution,
    "dropout": lambda n: make_convolution(n, 0.3),
    "perceptron": make_perceptron,
}
MIXING: dict[str, dict[str, Any]] = {
    "plain": {"alpha": 0},
    "mixup": {"alpha": 0.4},
    "dataset": {"alpha": 1.0, "partners": "dataset", "n_mixed": 3},
    "cutmix": {"vicinity": CutMix()},
    "noise": {"vicinity": GaussianNoise()},
    "inside": {"vicinity": ManifoldMixup(layers=("input", "2"))},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "channels_last": {"channels_last": True},
    "host": {"storage": "host"},
    "early_stopping": {"early_stopping": True, "validation_fraction": 0.3},
    "bfloat16": {"autocast": "bfloat16"},
}


def make_net(owner: Any, module: str, **options: Any) -> Any:
    n_outputs = 3 if owner is MixupClassifier else 1
    defaults = {"max_epochs": 2, "batch_size": 16, "augment": crop_and_flip(1)}
    return owner(lambda: MODULES[module](n_outputs), **QUICK | defaults | options)


def fit(owner: Any, module: str, *, weighted: bool = False, **options: Any) -> Any:
    weight = np.random.default_rng(2).uniform(0.5, 2, N) if weighted else None
    y = LABELS if owner is MixupClassifier else VALUES
    return make_net(owner, module, **options).fit(X, y, sample_weight=weight)


@each_pair(
    {
        "owner": [MixupClassifier, MixupRegressor],
        "module": list(MODULES),
        "mixing": list(MIXING),
        "option": list(OPTIONS),
        "weighted": [False, True],
    }
)
def test_augmented_epochs_equal_those_step_by_step(
    monkeypatch: pytest.MonkeyPatch, owner: Any, module: str, mixing: str, option: str, weighted: bool
) -> None:
    epochs = note_epochs(monkeypatch)
    options = MIXING[mixing] | OPTIONS[option]
    fast = fit(owner, module, weighted=weighted, **options)
    assert len(epochs) == 2
    steps = fit(owner, module, weighted=weighted, callbacks=[("look", Look())], **options)
    assert len(epochs) == 2
    if mixing == "inside":  # a hook mixes in another order of operations
        assert_close_nets(fast, steps, rtol=1e-4, atol=1e-5)
    else:
        assert_same_nets(fast, steps)
    assert_same_history(fast, steps)


class Turn:
    """Turns the images whose first pixel is positive: no draws, so blocks of any size give the same."""

    rowwise = True

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return torch.where(x[:, :1, :1, :1] > 0, x.flip(-1), x)


# Turning commutes with nothing that follows: a batch augmented twice, or after mixing, would differ.
@each_pair({"module": ["convolution", "perceptron"], "mixing": list(MIXING), "weighted": [False, True]})
def test_several_batches_are_augmented_by_one_call(
    monkeypatch: pytest.MonkeyPatch, module: str, mixing: str, weighted: bool
) -> None:
    single = fit(MixupClassifier, module, augment=Turn(), weighted=weighted, **MIXING[mixing])
    monkeypatch.setitem(LIMITS, "cpu", replace(LIMITS["cpu"], augment_elements=10**6))
    turn = Turn()
    joined = fit(MixupClassifier, module, augment=turn, weighted=weighted, **MIXING[mixing])
    k = 3 if mixing == "dataset" else 1  # partners from elsewhere are loaded, too
    expected = {"inside": [16 * k, 16 * k, 13 * k]}.get(mixing, [N * k])
    assert turn.sizes == expected * 2  # a copy tells how large images are afterwards
    assert_same_nets(single, joined)


@pytest.mark.parametrize("augment", [torch.neg, per_image(torch.neg), lambda x: x + 1])
def test_other_augmentations_go_step_by_step(monkeypatch: pytest.MonkeyPatch, augment: Any) -> None:
    epochs = note_epochs(monkeypatch)
    fit(MixupClassifier, "convolution", augment=augment, max_epochs=1)
    assert epochs == []


def test_augmented_nets_may_be_recorded_as_graphs() -> None:
    net = fit(MixupClassifier, "convolution", max_epochs=1)
    net.cuda_graph = True
    trainer = find_trainer(net, draw_batches(net, X, LABELS))
    assert trainer is not None
    assert trainer.cuda_graph


def test_validation_is_not_augmented() -> None:
    turn = Turn()
    fit(
        MixupClassifier,
        "perceptron",
        augment=turn,
        early_stopping=True,
        validation_fraction=0.2,
        max_epochs=1,
    )
    assert sum(turn.sizes) == N - 9


@pytest.mark.usefixtures("stack_two")
def test_augmented_nets_in_a_stack_are_those_of_single_fits() -> None:
    nets = [make_net(MixupClassifier, "convolution", random_state=k) for k in range(3)]
    with pytest.warns(UserWarning, match=r"trained one by one .*: augment is called on each batch"):
        together = fit_stacked([(net, X, LABELS) for net in nets])
    for k, net in enumerate(together):
        assert_same_nets(net, fit(MixupClassifier, "convolution", random_state=k))


def test_wrong_augmentation_that_calls_itself_rowwise_is_refused() -> None:
    class Drop(Turn):
        def __call__(self, x: Tensor) -> Tensor:
            return x[1:]

    with pytest.raises(ValueError, match="augment must return as many rows as it is given"):
        fit(MixupClassifier, "convolution", augment=Drop())
