"""Searches over dask's and ray's workers give what they give in one process."""

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


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # Else it puts a function of its own in the place of print, for all tests that follow.
    monkeypatch.setenv("RAY_TQDM_PATCH_PRINT", "0")
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    ray.init(num_cpus=1, include_dashboard=False, configure_logging=False)
    register_ray()
    yield "ray"
    ray.shutdown()


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_search_equals_one_process(
    iris: Rows, classifier: MixupClassifier, request: pytest.FixtureRequest, name: str
) -> None:
    def search() -> np.ndarray:
        grid = GridSearchCV(classifier, {"alpha": [0.0, 1.0]}, cv=2, scoring="neg_log_loss")
        return grid.fit(*iris.train).cv_results_["mean_test_score"]

    expected = search()
    with joblib.parallel_config(backend=request.getfixturevalue(name), n_jobs=1):
        np.testing.assert_allclose(search(), expected, atol=1e-6)
