"""A search over dask's workers gives what it does in one process; for ray see tests/stacking/test_dask.py."""

from collections.abc import Iterator

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from sk_mixup import MixupClassifier
from tests.clients.conftest import Rows

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def dask() -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        yield "dask"


def test_search_equals_one_process(iris: Rows, classifier: MixupClassifier, dask: str) -> None:
    def search() -> np.ndarray:
        grid = GridSearchCV(classifier, {"alpha": [0.0, 1.0]}, cv=2, scoring="neg_log_loss")
        return grid.fit(*iris.train).cv_results_["mean_test_score"]

    expected = search()
    with joblib.parallel_config(backend=dask, n_jobs=1):
        np.testing.assert_allclose(search(), expected, atol=1e-6)
