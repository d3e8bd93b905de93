"""Nets of many kinds, trained by the fast epochs and step by step, and what to compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest
from skorch.callbacks import Callback
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup._data.batches import PlannedBatches
from sk_mixup._training.trainer import Trainer
from sk_mixup.modules import MLP
from tests.helpers.nets import QUICK
from tests.helpers.sampling import cover_pairs

N = 45  # 2 batches of 16 and one of 13
EPOCHS = 2


class Look(Callback):
    """Does nothing after each batch, for which training must go step by step."""

    def on_batch_end(self, net: Any, **_: Any) -> None:
        pass


@dataclass(frozen=True)
class Architecture:
    """A module by its number of outputs, the shape of an example, and what trains it."""

    build: Callable[[int], nn.Module]
    shape: tuple[int, ...] = (6,)
    trainer: str = "ModuleTrainer"
    options: dict[str, Any] = field(default_factory=dict)


def build_flattened(n: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, n))


def build_unbiased(n: int) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, n, bias=False))


def build_tanh(n: int) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, n))


def build_convolution(n: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, n))


def build_normed(n: int) -> nn.Module:
    # Without a bias before it: the gradient of that one is 0 but for rounding.
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, n))


ARCHITECTURES = {
    "mlp": Architecture(partial(MLP, 6), trainer="PerceptronTrainer"),
    "linear": Architecture(partial(MLP, 6, hidden_layer_sizes=()), trainer="PerceptronTrainer"),
    "deep": Architecture(partial(MLP, 6, hidden_layer_sizes=(7, 5)), trainer="PerceptronTrainer"),
    "flattened": Architecture(build_flattened, (2, 3), "PerceptronTrainer"),
    "unbiased": Architecture(build_unbiased, trainer="PerceptronTrainer"),
    "tanh": Architecture(build_tanh),
    "convolution": Architecture(build_convolution, (2, 4, 4)),
    "channels_last": Architecture(build_convolution, (2, 4, 4), options={"channels_last": True}),
    "normed": Architecture(build_normed),
    "dropout": Architecture(partial(MLP, 6, dropout=0.3)),
}


@dataclass(frozen=True)
class Problem:
    """What is learned: an estimator, its options, and targets of all rows."""

    owner: Any
    y: NDArray[Any]
    n_outputs: int
    options: dict[str, Any] = field(default_factory=dict)


_generator = np.random.default_rng(0)
_codes = _generator.integers(3, size=N)
_values = _generator.normal(size=(N, 2)).astype(np.float32)
_labels = (_generator.random((N, 3)) < 0.5).astype(np.int64)
WEIGHT = _generator.uniform(0.5, 2, N)

PROBLEMS = {
    "classes": Problem(MixupClassifier, _codes, 3),
    "smoothed_classes": Problem(MixupClassifier, _codes, 3, {"label_smoothing": 0.1}),
    "labels": Problem(MixupClassifier, _labels, 3),
    "smoothed_labels": Problem(MixupClassifier, _labels, 3, {"label_smoothing": 0.1}),
    "target": Problem(MixupRegressor, _values[:, 0], 1),
    "targets": Problem(MixupRegressor, _values, 2),
}

# Problems of the above with a confidence penalty.
PENALIZED = {
    "penalized_classes": Problem(
        MixupClassifier, _codes, 3, {"confidence_penalty": 0.3, "label_smoothing": 0.1}
    ),
    "penalized_labels": Problem(MixupClassifier, _labels, 3, {"confidence_penalty": 0.3}),
}
ALL_PROBLEMS = PROBLEMS | PENALIZED

MIXING: dict[str, dict[str, Any]] = {
    "plain": {"alpha": 0},
    "mixup": {"alpha": 0.4},
    "per_batch": {"alpha": 0.4, "lam_per": "batch"},
    "three": {"alpha": 1.0, "n_mixed": 3},
    "dataset": {"alpha": 1.0, "partners": "dataset"},
    "same_class": {"alpha": 1.0, "partners": "same_class"},
    "average": {"alpha": float("inf")},
    "four_of_dataset": {"alpha": 1.0, "partners": "dataset", "n_mixed": 4, "lam_per": "batch"},
}


def has_classes(problem: str, mixing: str) -> bool:
    """Whether partners can be chosen so."""
    return mixing != "same_class" or ALL_PROBLEMS[problem].owner is MixupClassifier


def cover(architectures: Any = ARCHITECTURES) -> list[tuple[str, str, str, bool]]:
    """Return cases (mixing, problem, architecture, weighted) in which any two values meet."""
    axes = MIXING, ALL_PROBLEMS, architectures, (False, True)
    return cover_pairs(*axes, allowed=lambda mixing, problem, *_: has_classes(problem, mixing))


def make_rows(architecture: str) -> NDArray[np.float32]:
    shape = ARCHITECTURES[architecture].shape
    return np.random.default_rng(1).normal(size=(N, *shape)).astype(np.float32)


def make_net(
    architecture: str = "mlp", problem: str = "classes", *, stepwise: bool = False, **options: Any
) -> Any:
    """Return a net that is not fitted; `stepwise` keeps it from the fast epochs."""
    shown, learned = ARCHITECTURES[architecture], ALL_PROBLEMS[problem]
    callbacks = [("look", Look())] if stepwise else []
    module = partial(shown.build, learned.n_outputs)
    defaults = QUICK | {"max_epochs": EPOCHS} | learned.options | shown.options
    return learned.owner(module, callbacks=callbacks, **defaults | options)


def fit(
    architecture: str = "mlp", problem: str = "classes", sample_weight: Any = None, **options: Any
) -> Any:
    """Return a fitted net."""
    net = make_net(architecture, problem, **options)
    return net.fit(make_rows(architecture), ALL_PROBLEMS[problem].y, sample_weight=sample_weight)


def draw_batches(net: Any, X: Any, y: Any, sample_weight: Any = None) -> PlannedBatches:
    """Return the batches of one more epoch of a fitted net."""
    X, codes, weight = net._check_training_data(X, y, sample_weight, reset=False)
    net._set_training(True)
    return net.get_training_batches(net.get_dataset(X, codes, weight), net.get_policy())


def find_trainer(net: Any, batches: Any) -> Trainer | None:
    """Return what runs a training epoch of a net faster than step by step; None if nothing does."""
    trainer = net.choose_trainer(batches, {})
    return None if isinstance(trainer, str) else trainer


def note_epochs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that will hold the name of the trainer of each fast epoch."""
    names: list[str] = []
    run_epoch = Trainer.run_epoch

    def run_noted(self: Trainer, *args: Any) -> bool:
        done = run_epoch(self, *args)
        names.extend([type(self).__name__] * done)
        return done

    monkeypatch.setattr(Trainer, "run_epoch", run_noted)
    return names


def get_tensors(net: Any) -> dict[str, Tensor]:
    """Return all that training leaves in a net: weights, buffers and the optimizer's state."""
    state = net.optimizer_.state_dict()["state"]
    kept = {f"{number}.{name}": value for number, part in state.items() for name, value in part.items()}
    kept = {name: value for name, value in kept.items() if isinstance(value, Tensor)}
    return {**net.module_.state_dict(), **kept}


def assert_same_nets(net: Any, other: Any) -> None:
    """Assert that two nets and their optimizers hold the same numbers, bit for bit."""
    ours, theirs = get_tensors(net), get_tensors(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def assert_close_nets(net: Any, other: Any, **tolerance: float) -> None:
    """Assert that two nets and their optimizers hold the same numbers but for rounding."""
    torch.testing.assert_close(get_tensors(net), get_tensors(other), **tolerance)


def assert_same_history(net: Any, other: Any) -> None:
    """Assert that the same batches were recorded, with the same losses but for rounding."""
    sizes, losses = zip(*(read_batches(n) for n in (net, other)), strict=True)
    assert sizes[0] == sizes[1]
    torch.testing.assert_close(*(torch.tensor(values, dtype=torch.float32) for values in losses))


def read_batches(net: Any) -> tuple[list[int], list[float]]:
    """Return size and loss of each batch that was trained on."""
    rows = [row for epoch in net.history for row in epoch["batches"] if "train_loss" in row]
    return [row["train_batch_size"] for row in rows], [row["train_loss"] for row in rows]
