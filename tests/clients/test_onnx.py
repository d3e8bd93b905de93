"""An ONNX model says what the net says: labels, and probabilities to 1e-6, whatever stands before it."""

import builtins
from pathlib import Path
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, OneHotEncoder, RobustScaler, StandardScaler
import torch
from torch import nn

from sk_mixup import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    MixupGAN,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
)
from sk_mixup.onnx import register_converters, to_onnx

runtime = pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")

RNG = np.random.default_rng(0)
CODES = np.arange(90) % 3
X = RNG.normal(size=(90, 4)) + CODES[:, None]
FAR = X * [1e-3, 1.0, 1e3, 1.0] + [0.0, 1e5, 0.0, 0.0]
QUICK: dict[str, Any] = {"max_epochs": 3, "lr": 0.01, "random_state": 0, "early_stopping": False}
TOLERANCE = 1e-6

TARGETS: dict[str, Any] = {
    "codes": CODES,
    "other integers": np.array([-5, 3, 900])[CODES],
    "whole floats": CODES.astype(float),
    "binary": CODES % 2,
    "booleans": CODES > 0,
    "strings": np.array(["adder", "boa", "cöbra"])[CODES],
    "objects": np.array(["adder", "boa", "cobra"], dtype=object)[CODES],
    "multilabel": np.stack([CODES > 0, CODES > 1], axis=1).astype(int),
    "soft": np.eye(3)[CODES] * 0.7 + 0.1,
}


def _run(model: Any, X: Any) -> list[np.ndarray]:
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    feed = {name: X[[name]].to_numpy() for name in names} if hasattr(X, "dtypes") else {names[0]: X}
    outputs: list[np.ndarray] = session.run(None, feed)
    return outputs


def _assert_classifies_alike(estimator: Any, X: Any, **options: Any) -> None:
    model = to_onnx(estimator, X[:5], **options)
    for rows in (X, X[:1]):
        labels, probabilities = _run(model, rows)
        expected = estimator.predict_proba(rows)
        assert probabilities.shape == expected.shape
        assert np.max(np.abs(probabilities - expected)) <= TOLERANCE
        np.testing.assert_array_equal(labels, estimator.predict(rows))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("y", TARGETS.values(), ids=TARGETS)
def test_labels_and_probabilities(y: Any, dtype: type) -> None:
    _assert_classifies_alike(MixupClassifier(**QUICK).fit(X, y), X.astype(dtype))


@pytest.mark.parametrize("y", [CODES, np.array(["a", "b", "c"], dtype=object)[CODES]], ids=["codes", "names"])
def test_semi_supervised_classifier(y: np.ndarray) -> None:
    y = np.where(np.arange(90) % 2, y, -1)
    _assert_classifies_alike(SemiSupervisedMixupClassifier(**QUICK).fit(X, y), X)


@pytest.mark.parametrize("scaler", [StandardScaler, MinMaxScaler])
def test_pipeline_of_far_features_in_double_precision(scaler: type) -> None:
    _assert_classifies_alike(make_pipeline(scaler(), MixupClassifier(**QUICK)).fit(FAR, CODES), FAR)


@pytest.mark.parametrize(
    "options",
    [
        {"criterion": nn.BCEWithLogitsLoss, "module__out_features": 1},
        {"criterion": nn.NLLLoss, "module": nn.Sequential(nn.Linear(4, 2), nn.Softmax(dim=1))},
        {"criterion": nn.BCELoss, "module": nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())},
        {"predict_nonlinearity": None, "module": nn.Sequential(nn.Linear(4, 2), nn.Sigmoid())},
        {
            "predict_nonlinearity": None,
            "criterion": nn.BCELoss,
            "module": nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()),
        },
        {"module__hidden_layer_sizes": (), "label_smoothing": 0.1},
        {"module__hidden_layer_sizes": (8, 8), "module__dropout": 0.5},
    ],
    ids=["logit", "NLL", "BCE", "no link", "no link of one", "linear", "dropout"],
)
def test_links_and_options_of_the_network(options: dict[str, Any]) -> None:
    _assert_classifies_alike(MixupClassifier(**{**QUICK, **options}).fit(X, CODES % 2), X)


ACTIVATIONS = [
    *(nn.ReLU(), nn.LeakyReLU(0.2), nn.PReLU(), nn.ELU(0.7), nn.SELU(), nn.SiLU(), nn.GELU(), nn.Tanh()),
    *(nn.GELU(approximate="tanh"), nn.Sigmoid(), nn.Identity(), nn.Softmax(dim=-1), nn.LogSoftmax(dim=1)),
    *(nn.BatchNorm1d(6), nn.BatchNorm1d(6, affine=False), nn.LayerNorm(6), nn.LayerNorm(6, bias=False)),
    *(nn.LayerNorm(6, elementwise_affine=False), nn.Dropout(0.5)),
]


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_layers(layer: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Sequential(layer), nn.Linear(6, 3, bias=False))
    _assert_classifies_alike(MixupClassifier(module, **QUICK).fit(X, CODES), X)


@pytest.mark.parametrize(
    "layer", [nn.ReLU(), nn.LayerNorm(8), nn.LayerNorm(8, elementwise_affine=False)], ids=repr
)
def test_weights_of_double_precision(layer: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 3)).double()
    _assert_classifies_alike(MixupClassifier(module, **QUICK).fit(X, CODES), X)


def test_layers_that_are_used_twice() -> None:
    act, tied = nn.Tanh(), nn.Linear(6, 6)
    module = nn.Sequential(nn.Linear(4, 6), act, tied, act, nn.Sequential(tied, act), nn.Linear(6, 3))
    net = MixupClassifier(module, **QUICK | {"max_epochs": 9, "lr": 0.1}).fit(X, CODES)
    assert [node.op_type for node in to_onnx(net, X).graph.node].count("Tanh") == 3
    _assert_classifies_alike(net, X)


@pytest.mark.parametrize("dtype", ["float32", "int64", "Int64"])
def test_a_column_by_itself_is_refused_in_words(dtype: str) -> None:
    net = MixupClassifier(max_epochs=1, early_stopping=False).fit(X[:, :1], X[:, 0] > 0)
    for model in (net, make_pipeline(net)):
        with pytest.raises(ValueError, match=rf"X must be a dense array .*; got shape \(9,\) of {dtype}"):
            to_onnx(model, pd.Series(range(9), dtype=dtype))


def test_other_frames_are_read_as_arrays() -> None:
    polars = pytest.importorskip("polars")
    net = make_pipeline(StandardScaler(), MixupClassifier(**QUICK)).fit(X, CODES)
    model = to_onnx(net, polars.DataFrame(X, schema=list("abcd")))
    assert np.max(np.abs(_run(model, X)[1] - net.predict_proba(X))) <= TOLERANCE


SHARES = RNG.dirichlet(np.ones(3), size=90)


@pytest.mark.parametrize("y", [SHARES, TARGETS["multilabel"]], ids=["soft labels", "several labels"])
@pytest.mark.parametrize("criterion", [nn.MSELoss, nn.L1Loss, nn.BCEWithLogitsLoss])
def test_links_of_targets_that_a_distance_compares(y: np.ndarray, criterion: type) -> None:
    net = MixupClassifier(criterion=criterion, **QUICK).fit(X, y)
    _assert_classifies_alike(net, X)
    _assert_classifies_alike(net, -3 * X)  # outputs below 0, and above 1


@pytest.mark.parametrize("criterion", [nn.PoissonNLLLoss, nn.BCEWithLogitsLoss])
def test_links_of_a_regressor(criterion: type) -> None:
    y = (X[:, 0] > 0).astype(float)
    net = MixupRegressor(criterion=criterion, **QUICK).fit(X, y)
    (values,) = _run(to_onnx(net, X), X)
    np.testing.assert_allclose(values[:, 0], net.predict(X), rtol=1e-5)


def test_images_are_flattened() -> None:
    images = RNG.normal(size=(90, 3, 5))
    _assert_classifies_alike(MixupClassifier(**QUICK).fit(images, CODES), images)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(
    "y",
    [X[:, 0], X[:, :2], X[:, :2] * [1e4, 1e-4] + [1e6, 0.0], 1.6e9 + X[:, 0]],
    ids=["one", "two", "units", "times"],
)
def test_regression(y: np.ndarray, dtype: type, standardize: bool) -> None:
    net = MixupRegressor(**QUICK, standardize_targets=standardize)
    net = make_pipeline(StandardScaler(), net).fit(X, y)
    rows = X.astype(dtype)
    model = to_onnx(net, rows[:5])
    for part in (rows, rows[:1]):
        (values,) = _run(model, part)
        expected = net.predict(part).reshape(len(part), -1)
        assert values.shape == expected.shape
        assert values.dtype == expected.dtype
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6 * np.max(np.std(y, axis=0)))


def _make_frame() -> pd.DataFrame:
    frame = pd.DataFrame(X, columns=list("abcd"))
    return frame.assign(b=np.arange(90) % 7, kind=np.array(["u", "v"], dtype=object)[CODES % 2])


def test_pipeline_of_a_frame_with_categories() -> None:
    frame = _make_frame()
    columns = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["a", "c", "d"]))
    _assert_classifies_alike(make_pipeline(columns, MixupClassifier(**QUICK)).fit(frame, CODES), frame)


def test_net_of_a_frame_takes_a_column_an_input() -> None:
    frame = _make_frame().drop(columns="kind")
    _assert_classifies_alike(MixupClassifier(**QUICK).fit(frame, CODES), frame)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "first",
    [StandardScaler(), Normalizer(), FeatureUnion([("far", MinMaxScaler()), ("near", RobustScaler())])],
    ids=["scaler", "rows", "union"],
)
def test_pipeline_of_a_frame_with_whole_numbers_first(first: Any, dtype: type) -> None:
    frame = pd.DataFrame(X.astype(dtype), columns=list("abcd")).assign(a=np.arange(90) % 7)
    pipeline = make_pipeline(first, MixupClassifier(**QUICK))
    for model in (pipeline, GridSearchCV(pipeline, {"mixupclassifier__alpha": [0.2]}, cv=2)):
        _assert_classifies_alike(model.fit(frame, CODES), frame)
        _assert_classifies_alike(model, frame, options={id(model): {"zipmap": False}})


# -- skl2onnx's own functions ------------------------------------------------------------


@pytest.mark.parametrize("y", [CODES, TARGETS["strings"]], ids=["codes", "strings"])
def test_dictionary_a_row_where_it_is_asked_for(y: np.ndarray) -> None:
    net = MixupClassifier(**QUICK).fit(X, y)
    register_converters()
    for model in (skl2onnx.to_onnx(net, X[:5]), to_onnx(net, X[:5], options={"zipmap": True})):
        labels, rows = _run(model, X)
        np.testing.assert_array_equal(labels, net.predict(X))
        assert list(rows[0]) == net.classes_.tolist()
        found = np.array([list(row.values()) for row in rows])
        assert np.max(np.abs(found - net.predict_proba(X))) <= TOLERANCE


def test_labels_may_be_positions() -> None:
    net = MixupClassifier(**QUICK).fit(X, TARGETS["strings"])
    model = to_onnx(net, X[:5], options={id(net): {"zipmap": False, "nocl": True}})
    np.testing.assert_array_equal(net.classes_[_run(model, X)[0]], net.predict(X))


# -- what is refused ---------------------------------------------------------------------


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_rows_of_several_members_are_refused(owner: type) -> None:
    net = owner(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), **QUICK)
    images = RNG.normal(size=(90, 7, 5)).astype(np.float32)  # each of seven rows is a member
    y = CODES if owner is MixupClassifier else X[:, :3]
    net.fit(images, y)
    with pytest.raises(ValueError, match=r"module must return one row .* got an output of shape \(2, 7, 3\)"):
        to_onnx(net, images)


@pytest.mark.parametrize("kind", ["net", "pipeline", "search"])
def test_columns_in_another_order_than_in_fit_are_refused(kind: str) -> None:
    frame = _make_frame().drop(columns="kind")
    net = MixupClassifier(**QUICK)
    made = {
        "net": lambda: net,
        "pipeline": lambda: make_pipeline(StandardScaler(), net),
        "search": lambda: GridSearchCV(net, {"alpha": [0.2]}, cv=2),
    }
    model = made[kind]().fit(frame, CODES)
    for wrong, found in (
        (frame[["a", "c", "b", "d"]], "'c' in the place of 'b'"),
        (frame[["a", "b", "c"]], "3 columns"),
        (frame.rename(columns={"a": "e"}), "'e' in the place of 'a'"),
    ):
        with pytest.raises(ValueError, match=f"X must have the 4 columns seen in fit, .* got {found}"):
            to_onnx(model, wrong)
        with pytest.raises(ValueError, match="feature"):
            model.predict(wrong)
    _assert_classifies_alike(model, frame)


def test_columns_that_are_chosen_by_name_may_stand_anywhere() -> None:
    frame = _make_frame()
    columns = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["a", "c", "d"]))
    model = make_pipeline(columns, MixupClassifier(**QUICK)).fit(frame, CODES)
    _assert_classifies_alike(model, frame[["d", "kind", "c", "b", "a"]])


class OwnNet(nn.Linear):
    """A module of the user's own."""


def _hook(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
    return 2 * output


def test_other_modules_are_refused_by_name() -> None:
    module = nn.Sequential(nn.Linear(4, 4), OwnNet(4, 3))
    net = MixupClassifier(module, **QUICK).fit(X, CODES)
    with pytest.raises(TypeError, match=r"module\.1 must be one of BatchNorm1d, .* got OwnNet\. Export"):
        to_onnx(net, X)


def test_hooks_are_refused() -> None:
    net = MixupClassifier(**QUICK).fit(X, CODES)
    net.module_.layers[1].register_forward_hook(_hook)
    with pytest.raises(TypeError, match=r"module\.layers\.1 must be one of .* got a Linear with hooks"):
        to_onnx(net, X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predict_nonlinearity": torch.sigmoid}, "predict_nonlinearity must be 'auto' or None"),
        ({"autocast": "bfloat16"}, "autocast must be None to be converted"),
        ({"module": nn.Linear(4, 3).bfloat16()}, "module must have weights of float32 or float64"),
        ({"module": nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))}, "running"),
    ],
)
def test_what_computes_otherwise_is_refused(options: dict[str, Any], message: str) -> None:
    net = MixupClassifier(**{**QUICK, **options}).fit(X, CODES)
    with pytest.raises(ValueError, match=message):
        to_onnx(net, X)


ENSEMBLE: dict[str, Any] = {"n_members": 2, "estimator__max_epochs": 1, "random_state": 0}
GAN = MixupGAN(max_epochs=1, steps_per_epoch=1, random_state=0)
OTHERS = [MixupEnsembleClassifier(**ENSEMBLE), MixupEnsembleRegressor(**ENSEMBLE), GAN]


@pytest.mark.parametrize("convert", [to_onnx, lambda model, X: skl2onnx.to_onnx(model, X[:1])])
@pytest.mark.parametrize("in_pipeline", [False, True])
@pytest.mark.parametrize("model", OTHERS, ids=lambda model: type(model).__name__)
def test_other_estimators_are_refused_by_name(model: Any, in_pipeline: bool, convert: Any) -> None:
    register_converters()
    fitted = (make_pipeline(StandardScaler(), model) if in_pipeline else model).fit(X, CODES)
    match = rf"model must be, or end in, a MixupClassifier.*; got {type(model).__name__}\. Convert each of"
    with pytest.raises(TypeError, match=match):
        convert(fitted, X)


def test_members_of_an_ensemble_average_to_what_it_says() -> None:
    ensemble = MixupEnsembleClassifier(**ENSEMBLE).fit(X, CODES)
    members = [_run(to_onnx(net, X[:5]), X)[1] for net in ensemble.estimators_]
    assert np.max(np.abs(np.mean(members, axis=0) - ensemble.predict_proba(X))) <= TOLERANCE


@pytest.mark.parametrize("kind", [nn.Softmax, nn.LogSoftmax])
def test_a_softmax_without_its_dim_is_refused(kind: type) -> None:
    net = MixupClassifier(nn.Sequential(nn.Linear(4, 4), kind(1), nn.Linear(4, 3)), **QUICK).fit(X, CODES)
    net.module_[1].dim = None
    with pytest.raises(
        ValueError, match=rf"module\.1 must have a dim to be converted to ONNX; got {kind.__name__}"
    ):
        to_onnx(net, X)


@pytest.mark.parametrize(
    ("layer", "first"),
    [(nn.GELU(), 20), (nn.GELU(approximate="tanh"), 20), (nn.LayerNorm(3), 17), (nn.ReLU(), 1)],
    ids=repr,
)
@pytest.mark.parametrize("opset", [15, 17, 20])
def test_layers_that_an_opset_lacks_are_refused_by_name(layer: nn.Module, first: int, opset: int) -> None:
    net = MixupClassifier(nn.Sequential(nn.Linear(4, 3), layer), **QUICK).fit(X, CODES)
    if opset >= first:
        _assert_classifies_alike(net, X, target_opset=opset)
        return
    with pytest.raises(
        ValueError, match=rf"target_opset must be one with \w+, .*; got {opset} \(.*\[{first}\]\)\. Use"
    ):
        to_onnx(net, X, target_opset=opset)


HALVES = X.astype(np.float16)
ROWS: dict[str, tuple[Any, str]] = {
    "halves": (HALVES, r"X must be a dense array .*; got shape \(90, 4\) of float16"),
    "frame of halves": (pd.DataFrame(HALVES, columns=list("abcd")), r"; got shape \(90, 4\) of float16"),
    "one half": (pd.DataFrame(X, columns=list("abcd")).astype({"b": np.float16}), "of float16, float64"),
    "one row": (X[0], r"X must be a dense array or a frame of rows.*; got shape \(4,\) of float64"),
    "sparse": (csr_array(X), r"X must be a dense array or a frame of rows.*; got shape \(\) of object"),
    "none": (None, r"X must be a dense array or a frame of rows.*; got shape \(\) of object"),
    "numbered columns": (
        pd.DataFrame(X),
        r"X must have columns with names, .*; got 0\. Give X\.to_numpy\(\)",
    ),
}


@pytest.mark.parametrize(("rows", "match"), ROWS.values(), ids=ROWS)
def test_rows_that_no_model_is_given_are_refused(rows: Any, match: str) -> None:
    for model in (MixupClassifier(**QUICK), make_pipeline(StandardScaler(), MixupRegressor(**QUICK))):
        with pytest.raises(ValueError, match=match):
            to_onnx(model.fit(X, CODES), rows)


@pytest.mark.parametrize("y", [np.datetime64("2020-01-01") + CODES], ids=["dates"])
def test_labels_that_onnx_cannot_hold_are_refused(y: np.ndarray) -> None:
    net = MixupClassifier(**QUICK).fit(X, y)
    with pytest.raises(ValueError, match="y must hold integers or strings to be converted"):
        to_onnx(net, X)


def test_unfitted_estimator_is_refused() -> None:
    with pytest.raises(NotFittedError, match="not fitted yet"):
        to_onnx(make_pipeline(StandardScaler(), MixupClassifier()), X)


def test_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "skl2onnx":
            raise ModuleNotFoundError("No module named 'skl2onnx'", name="skl2onnx")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"skl2onnx must be installed .* pip install skl2onnx"):
        to_onnx(MixupClassifier(), X)


# -- in another process ------------------------------------------------------------------

SERVE = """
import sys, numpy as np, onnxruntime
X, expected, labels = (np.load(name) for name in sys.argv[2:])
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
found, probabilities = session.run(None, {session.get_inputs()[0].name: X})
assert np.max(np.abs(probabilities - expected)) <= 1e-6
assert found.tolist() == labels.tolist()
assert "torch" not in sys.modules and "sk_mixup" not in sys.modules
"""


@pytest.mark.slow
def test_another_process_serves_without_torch(tmp_path: Path) -> None:
    pipeline = make_pipeline(StandardScaler(), MixupClassifier(**QUICK)).fit(X, TARGETS["strings"])
    (tmp_path / "net.onnx").write_bytes(to_onnx(pipeline, X).SerializeToString())
    arrays = {"X": X, "expected": pipeline.predict_proba(X), "labels": pipeline.predict(X)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = [str(tmp_path / name) for name in ("net.onnx", "X.npy", "expected.npy", "labels.npy")]
    done = subprocess.run([sys.executable, "-c", SERVE, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
