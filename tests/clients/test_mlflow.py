"""A model that mlflow logged predicts as the estimator, by every format and in another process."""

from collections.abc import Iterator
import json
from pathlib import Path
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier, get_trusted_types

mlflow = pytest.importorskip("mlflow", minversion="3")
pytest.importorskip("skops")

# mlflow starts a database and looks for the packages that a model needs: seconds each.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

RNG = np.random.default_rng(0)
CODES = np.arange(60) % 3
X = RNG.normal(size=(60, 4)) + CODES[:, None]
NAMES = np.array(["adder", "boa", "cobra"])[CODES]
QUICK: dict[str, Any] = {"max_epochs": 2, "random_state": 0, "module__hidden_layer_sizes": (8,)}
MODELS = {
    "classifier": (MixupClassifier, NAMES, False),
    "classifier in a pipeline": (MixupClassifier, CODES, True),
    "regressor": (MixupRegressor, X[:, :2], False),
    "semi-supervised": (SemiSupervisedMixupClassifier, np.where(CODES, CODES, -1), True),
}


@pytest.fixture(scope="module", autouse=True)
def _tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep runs in a folder of the tests' own."""
    folder = tmp_path_factory.mktemp("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/runs.db")
    mlflow.create_experiment("clients", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("clients")
    yield
    mlflow.set_tracking_uri(None)


@pytest.fixture
def autolog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Log every fit; which packages a model needs is known without a process that looks at its imports."""
    monkeypatch.setattr(mlflow.models, "infer_pip_requirements", lambda *_, fallback, **__: fallback)
    mlflow.sklearn.autolog(silent=True)
    yield
    mlflow.sklearn.autolog(disable=True)


def _fit(owner: type, y: np.ndarray, *, piped: bool) -> Any:
    net = owner(**QUICK)
    return (make_pipeline(StandardScaler(), net) if piped else net).fit(X, y)


def _predict(model: Any) -> np.ndarray:
    values: np.ndarray = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
    return values


@pytest.mark.parametrize(("owner", "y", "piped"), MODELS.values(), ids=MODELS)
def test_default_format_is_logged_and_loaded(owner: type, y: np.ndarray, piped: bool) -> None:
    model = _fit(owner, y, piped=piped)
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(
            model,
            name="net",
            skops_trusted_types=get_trusted_types(),
            pip_requirements=["sk-mixup"],
            input_example=X[:2],
        )
    assert info.flavors["sklearn"]["serialization_format"] == "skops"
    np.testing.assert_array_equal(_predict(mlflow.sklearn.load_model(info.model_uri)), _predict(model))
    served = mlflow.pyfunc.load_model(info.model_uri)
    np.testing.assert_array_equal(served.predict(X), model.predict(X))


@pytest.mark.parametrize("serialization", ["pickle", "cloudpickle"])
def test_pickles_are_logged_and_loaded(serialization: str) -> None:
    net = _fit(MixupClassifier, NAMES, piped=False)
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(
            net, name="net", serialization_format=serialization, pip_requirements=["sk-mixup"]
        )
    np.testing.assert_array_equal(_predict(mlflow.sklearn.load_model(info.model_uri)), _predict(net))


SERVE = """
import json, sys, mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
X = np.load(sys.argv[2])
print(json.dumps([model.predict(X).tolist(), model.get_raw_model().predict_proba(X).tolist()]))
"""


def test_another_process_predicts_the_same(tmp_path: Path) -> None:
    net = _fit(MixupClassifier, NAMES, piped=False)
    folder = tmp_path / "model"
    mlflow.sklearn.save_model(
        net, folder, skops_trusted_types=get_trusted_types(), pip_requirements=["sk-mixup"]
    )
    np.save(tmp_path / "X.npy", X)
    command = [sys.executable, "-c", SERVE, str(folder), str(tmp_path / "X.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    labels, probabilities = json.loads(done.stdout.splitlines()[-1])
    assert labels == net.predict(X).tolist()
    np.testing.assert_array_equal(probabilities, net.predict_proba(X))


# -- autolog -----------------------------------------------------------------------------


@pytest.mark.usefixtures("autolog")
def test_autolog_of_a_pipeline_logs_options_scores_and_the_model() -> None:
    with mlflow.start_run() as run:
        model = make_pipeline(MixupClassifier(**QUICK)).fit(X, NAMES)
    data = mlflow.get_run(run.info.run_id).data
    assert data.params["mixupclassifier__max_epochs"] == "2"
    accuracy = accuracy_score(NAMES, model.predict(X))
    assert data.metrics["training_accuracy_score"] == pytest.approx(accuracy)
    logged = mlflow.search_logged_models(
        output_format="list", filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    loaded = mlflow.sklearn.load_model(logged[0].model_uri)
    np.testing.assert_array_equal(_predict(loaded), _predict(model))


@pytest.mark.usefixtures("autolog")
def test_autolog_leaves_a_bare_net_as_it_is() -> None:
    """mlflow watches scikit-learn's own classes alone, pipelines among them."""
    with mlflow.start_run() as run:
        net = _fit(MixupClassifier, NAMES, piped=False)
    assert mlflow.get_run(run.info.run_id).data.metrics == {}
    mlflow.sklearn.autolog(disable=True)
    np.testing.assert_array_equal(_predict(net), _predict(_fit(MixupClassifier, NAMES, piped=False)))
