"""skrub: its pipeline of a frame of words, numbers and dates."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict
import torch

from sk_mixup import MixupClassifier
from tests.clients.conftest import Rows


def make_frame(rows: Rows) -> pd.DataFrame:
    frame = pd.DataFrame(rows.X, columns=list("abcd"))
    frame["kind"] = np.array(["short", "long"])[(rows.X[:, 2] > 0).astype(int)]
    frame["day"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(len(frame)), unit="D")
    return frame.mask(np.random.default_rng(0).random(frame.shape) < 0.02)


def test_pipeline_is_a_net_of_the_vectors_that_it_makes(iris: Rows, classifier: MixupClassifier) -> None:
    skrub = pytest.importorskip("skrub")
    classifier.set_params(max_epochs=20)
    frame, names = make_frame(iris), np.array(["setosa", "versicolor", "virginica"])[iris.y]
    model = skrub.tabular_pipeline(classifier).fit(frame[:100], names[:100])
    vectors = np.asarray(model[:-1].transform(frame), dtype=np.float32)
    alone = clone(classifier).fit(vectors[:100], names[:100])
    logits = alone.module_(torch.tensor(vectors[100:]))
    expected = torch.softmax(logits, 1).detach().numpy()
    np.testing.assert_allclose(model.predict_proba(frame[100:]), expected, atol=1e-6)
    predicted = cross_val_predict(skrub.tabular_pipeline(classifier), frame, names, cv=3)
    assert np.mean(predicted == names) > 0.8
