"""scikit-activeml: the least certain row is asked for."""

import numpy as np
import pytest
from sklearn.base import clone

from sk_mixup import MixupClassifier
from tests.clients.conftest import Rows


def test_the_row_of_the_least_margin_is_asked_for(binary: Rows, classifier: MixupClassifier) -> None:
    pytest.importorskip("skactiveml")
    from skactiveml.classifier import SklearnClassifier
    from skactiveml.pool import UncertaintySampling

    X, y = binary.train
    known = np.where(np.arange(len(y)) < 60, y, np.nan)
    model = SklearnClassifier(classifier, classes=[0, 1], random_state=0)
    strategy = UncertaintySampling(method="margin_sampling", random_state=0)
    for _ in range(2):
        asked = strategy.query(X=X, y=known, clf=model)[0]
        labelled = ~np.isnan(known)
        alone = clone(classifier).fit(X[labelled], y[labelled])
        margin = np.abs(np.diff(alone.predict_proba(X), axis=1))[:, 0]
        assert margin[asked] == pytest.approx(margin[~labelled].min(), abs=1e-6)
        known[asked] = y[asked]
