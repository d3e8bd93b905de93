"""Several labels and soft labels are read by what their loss takes the outputs for."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax
import torch
from torch import nn

from sk_mixup import MixupClassifier

X = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
Y = (X[:, :3] + 0.3 * np.random.default_rng(1).normal(size=(90, 3))).argmax(axis=1)
ONE_HOT, SOFT = np.eye(3)[Y], 0.7 * np.eye(3)[Y] + 0.1
DISTANCES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)


def fit(criterion: Any, y: np.ndarray, **options: Any) -> tuple[MixupClassifier, np.ndarray]:
    """Return a net, and what its module gives."""
    options = {"alpha": 0, "lr": 0.02, "early_stopping": False, "random_state": 0, **options}
    net = MixupClassifier(criterion=criterion, max_epochs=40, **options).fit(X, y)
    with torch.no_grad():
        return net, net.module_(torch.as_tensor(X)).double().numpy()


@pytest.mark.parametrize("alpha", [0, 0.4])
def test_a_cross_entropy_of_indicators_is_read_by_the_softmax(alpha: float) -> None:
    net, output = fit(nn.CrossEntropyLoss, ONE_HOT, alpha=alpha)
    np.testing.assert_allclose(net.predict_proba(X), softmax(output, axis=1), atol=1e-6)
    assert net.score(X, ONE_HOT) > 0.8


@pytest.mark.parametrize("criterion", DISTANCES)
def test_distances_of_indicators_are_between_probabilities(criterion: Any) -> None:
    net, output = fit(criterion, ONE_HOT)
    np.testing.assert_allclose(net.predict_proba(X), output.clip(0, 1), atol=1e-6)
    assert net.score(X, ONE_HOT) > 0.8


@pytest.mark.parametrize("criterion", DISTANCES)
@pytest.mark.parametrize("is_softmaxed", [True, False])
def test_distances_of_soft_labels_are_between_shares(criterion: Any, is_softmaxed: bool) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1) if is_softmaxed else nn.Identity())
    net, output = fit(criterion, SOFT, module=module)
    shares = output.clip(0)
    np.testing.assert_allclose(net.predict_proba(X), shares / shares.sum(axis=1, keepdims=True), atol=1e-6)
    assert net.score(X, Y) > 0.7


def test_binary_losses_are_read_by_the_sigmoid() -> None:
    for y in (ONE_HOT, SOFT):
        net, output = fit(nn.BCEWithLogitsLoss, y)
        np.testing.assert_allclose(net.predict_proba(X), expit(output), atol=1e-6)
