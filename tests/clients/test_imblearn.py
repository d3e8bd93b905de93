"""imbalanced-learn: a sampler before the net."""

import numpy as np
import pytest
from sklearn.base import clone

from sk_mixup import MixupClassifier
from tests.clients.conftest import Rows


@pytest.mark.parametrize("name", ["RandomOverSampler", "RandomUnderSampler", "SMOTE"])
def test_pipeline_trains_on_what_the_sampler_makes(
    binary: Rows, classifier: MixupClassifier, name: str
) -> None:
    pytest.importorskip("imblearn")
    from imblearn import over_sampling, under_sampling
    from imblearn.pipeline import make_pipeline

    make = getattr(over_sampling, name, None) or getattr(under_sampling, name)
    X, y = binary.train
    rare = np.flatnonzero((y == 0) | (np.arange(len(y)) % 8 == 0))
    X, y = X[rare], y[rare]
    model = make_pipeline(make(random_state=0), classifier).fit(X, y)
    balanced = make(random_state=0).fit_resample(X, y)
    assert len(set(np.bincount(balanced[1]))) == 1
    expected = clone(classifier).fit(*balanced).predict_proba(binary.test[0])
    np.testing.assert_array_equal(model.predict_proba(binary.test[0]), expected)
