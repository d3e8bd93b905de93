"""A regressor predicts what its loss takes the outputs for: shares by a sigmoid, rates by an exponential."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
import torch
from torch import nn

from sk_mixup import MixupEnsembleRegressor, MixupRegressor

X = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
SHARE = expit(X @ np.array([1.0, -2.0, 0.5])).astype(np.float32)
COUNT = np.random.default_rng(1).poisson(np.exp(X[:, 0])).astype(np.float32)
QUICK: dict[str, Any] = {"max_epochs": 3, "random_state": 0}


def compute(net: Any) -> np.ndarray:
    with torch.no_grad():
        return net.module_(torch.as_tensor(X)).double().numpy()


@pytest.mark.parametrize("n_columns", [1, 2])
@pytest.mark.parametrize("alpha", [0, 0.4])
def test_shares_are_the_sigmoid_of_logits(n_columns: int, alpha: float) -> None:
    y = SHARE if n_columns == 1 else np.stack([SHARE, 1 - SHARE], axis=1)
    net = MixupRegressor(alpha=alpha, criterion=nn.BCEWithLogitsLoss, **QUICK).fit(X, y)
    expected = expit(compute(net))
    np.testing.assert_allclose(net.predict(X), expected[:, 0] if n_columns == 1 else expected, atol=1e-6)


def test_shares_that_the_module_gives_are_kept() -> None:
    module = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())
    net = MixupRegressor(module, criterion=nn.BCELoss, **QUICK).fit(X, SHARE)
    np.testing.assert_allclose(net.predict(X), compute(net)[:, 0], atol=1e-6)


@pytest.mark.parametrize("log_input", [True, False])
def test_counts_are_rates(log_input: bool) -> None:
    module = nn.Sequential(nn.Linear(3, 1), nn.Identity() if log_input else nn.Softplus())
    options = QUICK | {"criterion__log_input": log_input, "alpha": 0}
    net = MixupRegressor(module, criterion=nn.PoissonNLLLoss, **options).fit(X, COUNT)
    output = compute(net)[:, 0]
    np.testing.assert_allclose(net.predict(X), np.exp(output) if log_input else output, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:stacked")
def test_an_ensemble_averages_shares() -> None:
    options = {"estimator__criterion": nn.BCEWithLogitsLoss, "estimator__max_epochs": 3}
    ensemble = MixupEnsembleRegressor(n_members=3, random_state=0, **options).fit(X, SHARE)
    expected = np.mean([expit(compute(net)[:, 0]) for net in ensemble.estimators_], axis=0)
    np.testing.assert_allclose(ensemble.predict(X), expected, atol=1e-6)
    error = np.mean((SHARE - ensemble.oof_prediction_) ** 2)
    assert ensemble.residual_variance_ == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("form", ["strings", "decimals"])
def test_an_ensemble_takes_numbers_in_other_forms(form: str) -> None:
    y = SHARE.astype(str) if form == "strings" else np.array([Decimal(str(value)) for value in SHARE])
    nets = [MixupEnsembleRegressor(n_members=2, random_state=0, estimator__max_epochs=2) for _ in range(2)]
    variances = [net.fit(X, given).residual_variance_ for net, given in zip(nets, (y, SHARE), strict=True)]
    assert variances[0] == pytest.approx(variances[1], rel=1e-4)
