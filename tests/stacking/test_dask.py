"""Past one machine: folds go over a cluster, and each worker trains its nets as one."""

from collections.abc import Iterator
import os
from pathlib import Path
import runpy
import subprocess
import sys
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "dask_search.py"

pytestmark = [
    pytest.mark.slow,
    # A cluster's own: sockets and processes that its shutdown leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture(scope="module")
def alone(example: dict[str, Any]) -> Any:
    """What the same call gives without a cluster and without stacks."""
    return example["score"](example["make_search"](GridSearchCV), n_folds=2)


@pytest.fixture
def dask_backend() -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster):
        yield "dask"


@pytest.fixture
def ray_backend() -> Iterator[str]:
    ray = pytest.importorskip("ray")
    register = pytest.importorskip("ray.util.joblib").register_ray
    path = {"env_vars": {"PYTHONPATH": str(ROOT)}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=path)
    register()
    yield "ray"
    ray.shutdown()


def make_watched(base: type) -> type:
    """Return a search that keeps which backend its folds had and how many nets were trained at once."""

    class WatchedSearch(base):
        def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
            import os  # the class travels by value

            from sk_mixup.stacking import _joblib_backend as stacking

            sizes, names = [], []
            train, start_call = stacking.Engine.train, stacking.StackedBackend.start_call

            def watch_train(engine: Any, epochs: Any, check: Any) -> None:
                sizes.append(len(epochs))
                train(engine, epochs, check)

            def watch_call(backend: Any) -> None:
                names.append(type(backend).__name__)
                start_call(backend)

            stacking.Engine.train, stacking.StackedBackend.start_call = watch_train, watch_call
            try:
                super().fit(X, y, **params)
            finally:
                stacking.Engine.train, stacking.StackedBackend.start_call = train, start_call
            self.seen_ = {"sizes": sizes, "backends": names, "process": os.getpid()}
            return self

    return WatchedSearch


@pytest.mark.parametrize("backend", ["dask_backend", "ray_backend"])
def test_workers_train_their_nets_as_one(
    request: pytest.FixtureRequest, example: dict[str, Any], alone: Any, backend: str
) -> None:
    name = request.getfixturevalue(backend)
    search = example["make_search"](make_watched(example["StackedSearch"]))
    with joblib.parallel_config(backend=name, n_jobs=-1):  # 1 is the default of ray
        result = example["score"](search, n_folds=2)
    np.testing.assert_allclose(result["test_score"], alone["test_score"])
    for fitted, expected in zip(result["estimator"], alone["estimator"], strict=True):
        assert fitted.best_params_ == expected.best_params_
        np.testing.assert_allclose(
            fitted.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
        )
        assert set(fitted.seen_["sizes"]) == {18}  # six settings, three folds
        assert fitted.seen_["backends"] == ["StackedBackend"]
        assert fitted.seen_["process"] != os.getpid()


def test_a_search_on_the_cluster_is_scored_as_alone(dask_backend: str, example: dict[str, Any]) -> None:
    """Not only with the watched search: the example's own class gets to the workers."""
    X, y = example["load_wine"](return_X_y=True)
    with joblib.parallel_config(backend=dask_backend):
        scores = cross_val_score(example["make_search"](), X, y, cv=2)
    np.testing.assert_allclose(scores, cross_val_score(example["make_search"](GridSearchCV), X, y, cv=2))


def test_the_example_prints_the_scores() -> None:
    pytest.importorskip("distributed")
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scores = [float(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(scores) == 4
    assert min(scores) > 0.85
