"""crepes: conformal p-values and intervals around the estimators."""

import numpy as np
import pytest

from sk_mixup import MixupClassifier, MixupRegressor
from tests.clients.conftest import Rows


def test_intervals_are_the_quantile_of_the_residuals(real: Rows, regressor: MixupRegressor) -> None:
    crepes = pytest.importorskip("crepes")
    model = crepes.WrapRegressor(regressor)
    model.fit(*real.train)
    model.calibrate(*real.held_out)
    intervals = model.predict_int(real.test[0], confidence=0.9)
    residuals = np.sort(np.abs(real.held_out[1] - regressor.predict(real.held_out[0])))
    half = residuals[int(np.ceil(0.9 * (len(residuals) + 1))) - 1]
    np.testing.assert_allclose((intervals[:, 1] - intervals[:, 0]) / 2, half, rtol=1e-2)
    y = real.test[1]
    assert 0.85 < np.mean((intervals[:, 0] <= y) & (y <= intervals[:, 1])) < 0.96


def test_sets_cover_held_out_rows(binary: Rows, classifier: MixupClassifier) -> None:
    crepes = pytest.importorskip("crepes")
    model = crepes.WrapClassifier(classifier)
    model.fit(*binary.train)
    model.calibrate(*binary.held_out, seed=0)
    sets = model.predict_set(binary.test[0], confidence=0.9, seed=0, labels=False)
    assert 0.84 < np.mean(sets[np.arange(len(sets)), binary.test[1]]) < 0.97
