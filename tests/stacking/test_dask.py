"""Past one machine: folds go over a cluster, and each worker trains its nets as one."""

from collections.abc import Iterator
from contextlib import nullcontext
import os
from pathlib import Path
import runpy
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

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
    return example["score"](example["make_search"](GridSearchCV))


LOCAL = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(**LOCAL) as cluster:
        yield cluster


@pytest.fixture
def dask_backend(cluster: Any) -> Iterator[str]:
    with pytest.importorskip("distributed").Client(cluster):
        yield "dask"


@pytest.fixture
def ray_backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # Else it puts a function of its own in the place of print, for all tests that follow.
    monkeypatch.setenv("RAY_TQDM_PATCH_PRINT", "0")
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
        result = example["score"](search)
    np.testing.assert_allclose(result["test_score"], alone["test_score"])
    for fitted, expected in zip(result["estimator"], alone["estimator"], strict=True):
        assert fitted.best_params_ == expected.best_params_
        np.testing.assert_allclose(
            fitted.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
        )
        assert set(fitted.seen_["sizes"]) == {18}  # six settings, three folds
        assert fitted.seen_["backends"] == ["StackedBackend"]
        assert fitted.seen_["process"] != os.getpid()


def test_the_example_prints_the_scores(
    cluster: Any, alone: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not only with the watched search: the class of a script gets to the workers."""
    started = []

    def start(**options: Any) -> Any:
        started.append(options)
        return nullcontext(cluster)

    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(distributed, "LocalCluster", start)
    monkeypatch.setattr(distributed, "Client", lambda _, client=distributed.Client: client(cluster))
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    scores = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_allclose(scores, alone["test_score"], atol=5e-4)
    assert min(scores) > 0.85
    assert started == [LOCAL]
