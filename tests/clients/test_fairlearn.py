"""fairlearn: thresholds by group, and figures by group."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from sk_mixup import MixupClassifier
from tests.clients.conftest import Rows


def test_thresholds_even_out_how_often_groups_are_selected(binary: Rows, classifier: MixupClassifier) -> None:
    fairlearn = pytest.importorskip("fairlearn.postprocessing")
    X, y = binary.X, binary.y
    group = np.where(X[:, 0] + X[:, 1] > 0, "a", "b")
    model = fairlearn.ThresholdOptimizer(
        estimator=classifier, constraints="demographic_parity", predict_method="predict_proba"
    ).fit(X, y, sensitive_features=group)
    plain = model.estimator_.predict(X)
    chosen = model.predict(X, sensitive_features=group, random_state=0)
    gaps = [abs(labels[group == "a"].mean() - labels[group == "b"].mean()) for labels in (plain, chosen)]
    assert gaps[1] < 0.07
    assert gaps[1] < gaps[0] / 2


def test_metric_frame_is_the_accuracy_of_each_group(binary: Rows, classifier: MixupClassifier) -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics")
    predicted = classifier.fit(*binary.train).predict(binary.test[0])
    y, group = binary.test[1], np.arange(len(predicted)) % 3
    frame = fairlearn.MetricFrame(
        metrics=accuracy_score, y_true=y, y_pred=predicted, sensitive_features=group
    )
    expected = [np.mean(predicted[group == k] == y[group == k]) for k in range(3)]
    np.testing.assert_allclose(frame.by_group.to_numpy(), expected)
