"""The fast epochs: the weights of training step by step, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup._training.trainer import Trainer
from tests.helpers.architectures import (
    ARCHITECTURES,
    EPOCHS,
    MIXING,
    PROBLEMS,
    WEIGHT,
    Look,
    N,
    assert_close_nets,
    assert_same_history,
    assert_same_nets,
    cover,
    fit,
    make_net,
    make_rows,
    note_epochs,
    read_batches,
)
from tests.helpers.sampling import each_pair

ONE_OF_EACH = ["mlp", "tanh"]


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the trainers of all fast epochs of the test."""
    return note_epochs(monkeypatch)


def fit_both(
    epochs: list[str], architecture: str, problem: str, *args: Any, **options: Any
) -> tuple[Any, Any]:
    """Fit the fast way and step by step, and make sure that it was so."""
    fast = fit(architecture, problem, *args, **options)
    assert epochs == [ARCHITECTURES[architecture].trainer] * EPOCHS
    slow = fit(architecture, problem, *args, **options, stepwise=True)
    assert len(epochs) == EPOCHS
    return fast, slow


@pytest.mark.parametrize(("mixing", "problem", "architecture", "weighted"), cover())
def test_epoch_equals_its_steps(
    epochs: list[str], mixing: str, problem: str, architecture: str, weighted: bool
) -> None:
    weight = WEIGHT if weighted else None
    fast, slow = fit_both(epochs, architecture, problem, weight, **MIXING[mixing])
    assert_same_nets(fast, slow)
    assert read_batches(fast) == read_batches(slow)


@pytest.mark.parametrize("architecture", ONE_OF_EACH)
@pytest.mark.parametrize("sample_weight", [None, WEIGHT], ids=["classes", "classes_and_rows"])
@pytest.mark.parametrize(
    "options",
    [
        {"class_weight": {0: 1, 1: 2, 2: 5}},
        {"criterion": nn.CrossEntropyLoss, "criterion__weight": torch.tensor([1.0, 2.0, 5.0])},
    ],
    ids=["option", "criterion"],
)
def test_epoch_of_weighted_classes_equals_its_steps(
    epochs: list[str], architecture: str, sample_weight: Any, options: dict[str, Any]
) -> None:
    fast, slow = fit_both(epochs, architecture, "classes", sample_weight, **options)
    assert_same_nets(fast, slow)
    assert read_batches(fast) == read_batches(slow)


@each_pair(
    {
        "options": [
            {"batch_size": 44},  # the row that is left joins
            {"batch_size": -1},
            {"batch_size": 100},
            {"batch_size": 1},
            {"iterator_train__drop_last": True},
            {"iterator_train__shuffle": False},
            {"iterator_train__batch_size": 24},
            {"storage": "host"},
            {"early_stopping": True, "validation_fraction": 0.2},
            {"warmup_epochs": 1, "cooldown_epochs": 1},
        ],
        "mixing": ["plain", "mixup", "four_of_dataset"],
        "architecture": ONE_OF_EACH,
    }
)
def test_epoch_of_any_batches_equals_its_steps(
    epochs: list[str], architecture: str, mixing: str, options: dict[str, Any]
) -> None:
    fast, slow = fit_both(epochs, architecture, "classes", **MIXING[mixing], **options)
    assert_same_nets(fast, slow)
    assert_same_history(fast, slow)


# Matrix products may depend on where in memory their factors begin.
@pytest.mark.parametrize("architecture", ["deep", "flattened", "unbiased", "tanh", "normed"])
@pytest.mark.parametrize("batch_size", [3, 7, 9])
def test_epoch_of_odd_batches_equals_its_steps(epochs: list[str], architecture: str, batch_size: int) -> None:
    assert_same_nets(*fit_both(epochs, architecture, "classes", batch_size=batch_size))


@pytest.mark.parametrize("architecture", ONE_OF_EACH)
@pytest.mark.parametrize("mixing", MIXING)
def test_epoch_of_sparse_rows_equals_its_steps(epochs: list[str], architecture: str, mixing: str) -> None:
    X = sparse.csr_matrix(np.maximum(make_rows(architecture), 0))
    fast, slow = (make_net(architecture, stepwise=stepwise, **MIXING[mixing]) for stepwise in (False, True))
    assert_same_nets(fast.fit(X, PROBLEMS["classes"].y), slow.fit(X, PROBLEMS["classes"].y))
    assert epochs == [ARCHITECTURES[architecture].trainer] * EPOCHS


@each_pair({"mixing": MIXING, "architecture": ONE_OF_EACH, "block_elements": [1, 1000]})
def test_size_of_blocks_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, architecture: str, mixing: str, block_elements: int
) -> None:
    options = MIXING[mixing] | {"batch_size": 8}
    expected = fit(architecture, **options)
    monkeypatch.setattr(Trainer, "block_elements", block_elements)
    monkeypatch.setattr(Trainer, "target_elements", block_elements)
    net = fit(architecture, **options)
    assert_same_nets(net, expected)
    assert_same_history(net, expected)


@pytest.mark.parametrize("architecture", ONE_OF_EACH)
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer__weight_decay": 0.1, "optimizer__amsgrad": True},
        {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": 0.1},
        {"optimizer__foreach": True},
        {"optimizer__maximize": True},
        {"optimizer__param_groups": [("*weight", {"lr": 0.1, "weight_decay": 0.1})]},
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "optimizer__nesterov": True},
        {"optimizer": torch.optim.NAdam},
        {"optimizer": torch.optim.RMSprop},
        {"optimizer": torch.optim.Adagrad},
    ],
    ids=str,
)
def test_epoch_with_any_optimizer_equals_its_steps(
    epochs: list[str], architecture: str, options: dict[str, Any]
) -> None:
    assert_same_nets(*fit_both(epochs, architecture, "classes", **options))


@pytest.mark.parametrize("architecture", ["tanh", "convolution", "normed"])
@pytest.mark.parametrize(
    ("problem", "alpha", "weight"),
    [("classes", 0, None), ("penalized_classes", 0.4, WEIGHT), ("smoothed_labels", 0.4, None)],
)
def test_epoch_in_bfloat16_equals_its_steps(
    epochs: list[str], architecture: str, problem: str, alpha: float, weight: Any
) -> None:
    fast, slow = fit_both(epochs, architecture, problem, weight, alpha=alpha, autocast="bfloat16")
    assert_same_nets(fast, slow)
    assert read_batches(fast) == read_batches(slow)


@pytest.mark.parametrize("problem", ["classes", "smoothed_labels", "penalized_classes", "targets"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
def test_validation_equals_its_steps(
    monkeypatch: pytest.MonkeyPatch, float64: None, problem: str, weight: Any
) -> None:
    options = {"early_stopping": True, "validation_fraction": 0.4, "batch_size": 8}
    fast = fit("mlp", problem, weight, **options)
    monkeypatch.setattr(type(fast), "get_evaluator", lambda *_: None)
    slow = fit("mlp", problem, weight, **options)
    for losses, expected in zip(
        *(net.history[:, "batches", :, "valid_loss"] for net in (fast, slow)), strict=True
    ):
        np.testing.assert_allclose(losses, expected, rtol=1e-12)


@pytest.mark.parametrize("sample_weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("alpha", [0, 0.4])
@pytest.mark.parametrize(
    ("owner", "criterion", "targets"),
    [
        (MixupClassifier, nn.MSELoss, "labels"),
        (MixupRegressor, nn.BCEWithLogitsLoss, "shares"),
        (MixupRegressor, nn.CrossEntropyLoss, "shares"),
    ],
    ids=["brier", "soft_labels", "soft_classes"],
)
def test_epoch_with_the_loss_of_another_problem_equals_its_steps(
    owner: Any, criterion: Any, targets: str, alpha: float, sample_weight: Any
) -> None:
    y = PROBLEMS["labels"].y if targets == "labels" else np.random.default_rng(2).dirichlet([1, 1, 1], N)
    options = {"early_stopping": False, "max_epochs": 2, "batch_size": 16, "random_state": 0}
    nets = [owner(criterion=criterion, alpha=alpha, callbacks=c, **options) for c in ([], [("look", Look())])]
    fast, slow = (net.fit(make_rows("mlp"), y, sample_weight=sample_weight) for net in nets)
    assert_close_nets(fast, slow)
    assert_same_history(fast, slow)


def test_history_of_an_epoch_has_a_row_for_each_batch(epochs: list[str]) -> None:
    net = fit(batch_size=16)
    assert read_batches(net)[0] == [16, 16, 13] * EPOCHS
    assert net.history[:, "train_batch_count"] == [3] * EPOCHS
    assert epochs == ["PerceptronTrainer"] * EPOCHS
