"""MAPIE: conformal intervals and sets, split, crossed and of quantiles."""

import numpy as np
import pytest
from sklearn.base import clone
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor
from tests.clients.conftest import Rows


class Pinball(nn.Module):
    """The loss of a quantile."""

    def __init__(self, quantile: float) -> None:
        super().__init__()
        self.quantile = quantile

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        error = y - output
        return torch.maximum(self.quantile * error, (self.quantile - 1) * error).mean()


def compute_coverage(intervals: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((intervals[:, 0, 0] <= y) & (y <= intervals[:, 1, 0])))


def find_conformal_quantile(scores: np.ndarray, level: float) -> float:
    rank = int(np.ceil((len(scores) + 1) * level))
    return float(np.sort(scores)[rank - 1])


@pytest.fixture
def real(real: Rows) -> Rows:
    """Return rows in double precision: MAPIE 1.6 finds the residuals of any others inconsistent."""
    return Rows(real.X.astype(np.float64), real.y.astype(np.float64))


def test_split_intervals_are_the_quantile_of_the_residuals(real: Rows, regressor: MixupRegressor) -> None:
    mapie = pytest.importorskip("mapie.regression")
    net = regressor.fit(*real.train)
    X, y = real.held_out
    model = mapie.SplitConformalRegressor(net, confidence_level=0.9, prefit=True).conformalize(X, y)
    predicted, intervals = model.predict_interval(real.test[0])
    half = find_conformal_quantile(np.abs(y - net.predict(X)), 0.9)
    np.testing.assert_allclose(predicted, net.predict(real.test[0]), atol=1e-6)
    np.testing.assert_allclose(intervals[:, 1, 0] - predicted, half, atol=1e-4)
    assert 0.85 < compute_coverage(intervals, real.test[1]) < 0.96


def test_cross_intervals_cover_held_out_rows(real: Rows, regressor: MixupRegressor) -> None:
    mapie = pytest.importorskip("mapie.regression")
    model = mapie.CrossConformalRegressor(regressor, confidence_level=0.9, cv=3)
    model.fit_conformalize(*real.train)
    assert 0.85 < compute_coverage(model.predict_interval(real.test[0])[1], real.test[1]) < 0.97


def test_quantile_intervals_cover_held_out_rows(real: Rows, regressor: MixupRegressor) -> None:
    mapie = pytest.importorskip("mapie.regression")
    net = regressor.set_params(criterion=Pinball)
    nets = [clone(net).set_params(criterion__quantile=q).fit(*real.train) for q in (0.1, 0.9, 0.5)]
    model = mapie.ConformalizedQuantileRegressor(nets, confidence_level=0.8, prefit=True)
    model.conformalize(*real.held_out)
    assert 0.73 < compute_coverage(model.predict_interval(real.test[0])[1], real.test[1]) < 0.88
    below = [float(np.mean(real.test[1] <= fit.predict(real.test[0]))) for fit in nets]
    np.testing.assert_allclose(below, [0.1, 0.9, 0.5], atol=0.08)


def test_sets_are_those_of_the_probabilities(binary: Rows, classifier: MixupClassifier) -> None:
    mapie = pytest.importorskip("mapie.classification")
    net = classifier.fit(*binary.train)
    X, y = binary.held_out
    model = mapie.SplitConformalClassifier(net, confidence_level=0.9, prefit=True).conformalize(X, y)
    sets = model.predict_set(binary.test[0])[1][:, :, 0]
    least = 1 - find_conformal_quantile(1 - net.predict_proba(X)[np.arange(len(y)), y], 0.9)
    np.testing.assert_array_equal(sets, net.predict_proba(binary.test[0]) >= least - 1e-9)
    assert 0.85 < np.mean(sets[np.arange(len(sets)), binary.test[1]]) < 0.96
