"""cleanlab: wrong labels are found by the net's held-out probabilities."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from sk_mixup import MixupClassifier
from tests.clients.conftest import Rows


def make_noise(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, a tenth of them wrong, and which."""
    wrong = np.arange(len(rows.y)) % 10 == 0
    return np.where(wrong, (rows.y + 1) % 3, rows.y), wrong


def test_label_issues_are_the_wrong_labels(iris: Rows, classifier: MixupClassifier) -> None:
    pytest.importorskip("cleanlab")
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    labels, wrong = make_noise(iris)
    proba = cross_val_predict(classifier, iris.X, labels, cv=5, method="predict_proba")
    found = find_label_issues(labels, proba, n_jobs=1)
    assert wrong[found].mean() > 0.7
    assert found[wrong].mean() > 0.7
    quality = get_label_quality_scores(labels, proba, method="self_confidence", adjust_pred_probs=False)
    np.testing.assert_allclose(quality, proba[np.arange(len(labels)), labels], atol=1e-6)


def test_clean_learning_is_a_fit_without_the_issues(iris: Rows, classifier: MixupClassifier) -> None:
    pytest.importorskip("cleanlab")
    from cleanlab.classification import CleanLearning

    labels, wrong = make_noise(iris)
    model = CleanLearning(clone(classifier), seed=0, find_label_issues_kwargs={"n_jobs": 1})
    model.fit(iris.X, labels)
    issues = model.get_label_issues()
    found, weight = issues["is_label_issue"].to_numpy(), issues["sample_weight"].to_numpy()
    assert wrong[found].mean() > 0.7
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    proba = cross_val_predict(classifier, iris.X, labels, cv=folds, method="predict_proba")
    assert np.mean(proba.argmax(1) == issues["predicted_label"]) > 0.9
    alone = clone(classifier).fit(iris.X[~found], labels[~found], sample_weight=weight[~found])
    np.testing.assert_allclose(model.predict_proba(iris.X), alone.predict_proba(iris.X), atol=1e-6)
    assert model.score(iris.X, iris.y) > 0.8
