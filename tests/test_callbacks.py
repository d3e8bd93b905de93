"""Callbacks: what they record is what the net says, and the training goes on as without them."""

import pickle
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.history import History
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

from sk_mixup import MixupClassifier, SemiSupervisedMixupClassifier
from sk_mixup.callbacks import MemorizationErrors
from tests.helpers.nets import QUICK, USER, Make, Net, get_weights, is_equal
from tests.helpers.stacking import fit_stacked, stacked

NAMES = ("train_error_true", "train_error_corrupted", "test_error")


@pytest.fixture(scope="module")
def corrupted(blobs: Any) -> NDArray[Any]:
    """Labels of which a fifth are wrong."""
    y = blobs.y.copy()
    y[::5] = (y[::5] + 1) % 3
    return y


def make_net(watch: Any, **options: Any) -> MixupClassifier:
    return MixupClassifier(callbacks=[watch], **{**QUICK, **options})


def count_errors(net: Any, X: Any, y: Any, y_true: Any) -> tuple[float, float]:
    """Return the errors on true and on corrupted labels, row by row."""
    missed: dict[bool, list[bool]] = {True: [], False: []}
    for prediction, label, true in zip(net.predict(X), y, y_true, strict=True):
        missed[bool(label == true)].append(bool(prediction != label))
    return sum(missed[True]) / len(missed[True]), sum(missed[False]) / len(missed[False])


@pytest.mark.parametrize("options", [{}, {"module": Net, "module__dropout": 0.5}, {"warmup_epochs": 1}])
def test_last_record_is_of_the_fitted_net(blobs: Any, corrupted: Any, options: Any) -> None:
    watch = MemorizationErrors(blobs.X, corrupted, blobs.y, X_test=blobs.X[::2], y_test=blobs.y[::2])
    net = make_net(watch, **options).fit(blobs.X, corrupted)
    expected = (*count_errors(net, blobs.X, corrupted, blobs.y), 1 - net.score(blobs.X[::2], blobs.y[::2]))
    assert net.history[-1, NAMES] == pytest.approx(expected)
    assert all(type(value) is float for row in net.history[:, NAMES] for value in row)
    assert len(net.history) == 3


def test_labels_of_any_kind_are_compared(blobs: Any, corrupted: Any) -> None:
    names = np.array(["red", "green", "blue"])
    watch = MemorizationErrors(blobs.X.tolist(), list(names[corrupted]), names[blobs.y])
    net = make_net(watch, lr=0.1).fit(blobs.X, names[corrupted])
    expected = count_errors(net, blobs.X, names[corrupted], names[blobs.y])
    assert net.history[-1, NAMES[:2]] == pytest.approx(expected)


def test_one_logit_is_predicted_as_the_net_does(binary: Any) -> None:
    y = binary.y.copy()
    y[:4] = 1 - y[:4]
    watch = MemorizationErrors(binary.X, torch.as_tensor(y), binary.y)
    options = {"criterion": nn.BCEWithLogitsLoss, "module__out_features": 1}
    net = make_net(watch, **options).fit(binary.X, y)
    assert net.history[-1, NAMES[:2]] == pytest.approx(count_errors(net, binary.X, y, binary.y))


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("names", [None, ["a", "b", "c"]], ids=["codes", "names"])
def test_rows_without_a_label_count_for_nothing(
    blobs: Any, corrupted: Any, names: Any, early_stopping: bool
) -> None:
    labels = np.asarray(names or range(3))
    y = np.array([*labels.tolist(), -1], dtype=object if names else int)[corrupted]
    y[::7] = -1
    watch = MemorizationErrors(blobs.X, y, labels[blobs.y])
    options = {"max_epochs": 1, "lr": 0.1, "early_stopping": early_stopping, "random_state": 0}
    net = SemiSupervisedMixupClassifier(callbacks=[watch], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(blobs.X, y)
    rows = np.flatnonzero([label != -1 for label in y.tolist()])
    found = net.history[-1, NAMES[:2]]
    if early_stopping:  # then of those that are not held out
        assert np.isfinite(found).all()
        return
    expected = count_errors(net, blobs.X[rows], y[rows], labels[blobs.y][rows])
    assert found == pytest.approx(expected)


def test_rows_of_no_kind_give_nan(blobs: Any, capsys: Any, tmp_path: Any) -> None:
    watch = MemorizationErrors(blobs.X, blobs.y, blobs.y)
    net = make_net(watch, verbose=1).fit(blobs.X, blobs.y)
    assert np.isnan(net.history[:, "train_error_corrupted"]).all()
    assert "test_error" not in net.history[-1]
    assert "train_error_corrupted" in capsys.readouterr().out
    net.history.to_file(str(tmp_path / "history.json"))
    kept = History.from_file(str(tmp_path / "history.json"))
    assert np.isnan(kept[-1, "train_error_corrupted"])


def test_training_is_the_same_with_and_without(make: Make, blobs: Any, corrupted: Any) -> None:
    options = {"module": Net, "module__dropout": 0.5, "train_split": None}
    watch = MemorizationErrors(blobs.X, corrupted, blobs.y, X_test=blobs.X, y_test=blobs.y)
    plain = make(**options).fit(blobs.X, corrupted)
    expected = torch.get_rng_state()
    watched = make(callbacks=[watch], **options).fit(blobs.X, corrupted)
    assert is_equal(get_weights(plain), get_weights(watched))
    assert torch.equal(torch.get_rng_state(), expected)
    assert watched.module_.training == plain.module_.training
    expected_errors = count_errors(watched, blobs.X, corrupted, blobs.y)
    assert watched.history[-1, NAMES[:2]] == pytest.approx(expected_errors)


def test_stacked_nets_record_their_own_errors(blobs: Any, corrupted: Any, stacks: list[int]) -> None:
    watch = MemorizationErrors(blobs.X, corrupted, blobs.y)
    nets = [make_net(clone(watch), lr=lr) for lr in (0.001, 0.01, 0.1)]
    fit_stacked((net, blobs.X, corrupted) for net in nets)
    records = [net.history[-1, NAMES[:2]] for net in nets]
    expected = [count_errors(net, blobs.X, corrupted, blobs.y) for net in nets]
    assert stacks == [3, 3, 3]
    np.testing.assert_allclose(records, expected)
    assert len(set(records)) > 1


def test_search_clones_and_pickles(blobs: Any, corrupted: Any) -> None:
    X = StandardScaler().fit_transform(blobs.X)
    model = make_pipeline(StandardScaler(), make_net(MemorizationErrors(X, corrupted, blobs.y)))
    search = GridSearchCV(model, {"mixupclassifier__alpha": [0, 1]}, cv=2)
    with stacked():
        search.fit(blobs.X, corrupted)
    best = pickle.loads(pickle.dumps(search)).best_estimator_
    expected = count_errors(best, blobs.X, corrupted, blobs.y)
    assert best[-1].history[-1, NAMES[:2]] == pytest.approx(expected)


def test_partial_fit_goes_on_recording(blobs: Any, corrupted: Any) -> None:
    net = make_net(MemorizationErrors(blobs.X, corrupted, blobs.y), max_epochs=1)
    for part in (slice(0, 30), slice(30, 60)):
        net.partial_fit(blobs.X[part], corrupted[part], classes=[0, 1, 2])
    assert np.isfinite(net.history[:, NAMES[:2]]).shape == (2, 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": [0, 1]}, r"y must hold one label per row of X; got shape \(2,\) for 60 rows"),
        ({"y_true": [[0]] * 60}, r"y_true must hold one label per row of X; got shape \(60, 1\) for 60"),
        ({"X_test": np.zeros((2, 5))}, "y_test must be given with X_test; got None"),
        ({"y_test": [0, 1]}, "X_test must be given with y_test; got None"),
        ({"X_test": np.zeros((3, 5)), "y_test": [0, 1]}, "y_test must hold one label per row of X_test"),
        ({"y_true": [3] * 60}, r"y_true must hold labels among the classes \[0, 1, 2\]; got 3"),
        ({"X_test": np.zeros((1, 5)), "y_test": ["a"]}, r"y_test must hold labels among .*; got 'a'"),
        ({"y_true": [np.nan] * 60}, "y_true must hold labels among .*; got nan"),
    ],
)
def test_bad_rows_raise_before_training(blobs: Any, given: Any, message: str) -> None:
    net = make_net(MemorizationErrors(**{"X": blobs.X, "y": blobs.y, "y_true": blobs.y, **given}))
    with pytest.raises(ValueError, match=message):
        net.fit(blobs.X, blobs.y)
    assert not net.initialized_


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_binary_net_of_skorch_is_watched_in_the_floats_it_is_trained_on(binary: Any, dtype: type) -> None:
    corrupted = (binary.y ^ (np.arange(len(binary.y)) % 5 == 0)).astype(np.float32)
    watch = MemorizationErrors(binary.X, corrupted.astype(dtype), binary.y.astype(dtype))
    options = USER | {"criterion": nn.BCEWithLogitsLoss, "train_split": None}
    net = NeuralNetBinaryClassifier(nn.Linear(binary.X.shape[1], 1), callbacks=[watch], **options)
    net.fit(binary.X, corrupted)
    expected = count_errors(net, binary.X, corrupted, binary.y)
    assert net.history[-1, NAMES[:2]] == pytest.approx(expected)


@pytest.mark.parametrize("labels", [["a"] * 60, [-1] * 60, [0.5] * 60])
def test_nets_of_skorch_want_codes(blobs: Any, labels: Any) -> None:
    watch = MemorizationErrors(blobs.X, blobs.y, labels)
    net = NeuralNetClassifier(Net, callbacks=[watch], **USER)
    with pytest.raises(ValueError, match=r"y_true must hold class codes 0, 1, 2, ... for NeuralNetClass"):
        net.fit(blobs.X, blobs.y)


def hold_out_some(dataset: Any, y: Any = None, **_: Any) -> tuple[Any, Any]:
    rows = np.arange(len(dataset))
    return Subset(dataset, rows[rows % 4 > 0].tolist()), Subset(dataset, rows[rows % 4 == 0].tolist())


@pytest.mark.parametrize("kind", ["arrays", "Dataset", "skorch"])
@pytest.mark.parametrize("is_whole", [True, False])
def test_rows_that_are_held_out_are_no_training_rows(
    blobs: Any, corrupted: Any, kind: str, is_whole: bool
) -> None:
    """Of all rows those of the split count; of others that the user names, all."""
    is_trained = np.arange(len(corrupted)) % 4 > 0
    rows = np.arange(len(corrupted)) if is_whole else np.flatnonzero(is_trained)[:20]
    watch = MemorizationErrors(blobs.X[rows], corrupted[rows], blobs.y[rows])
    options = QUICK | {"train_split": hold_out_some, "callbacks": [watch], "lr": 0.1}
    data = (blobs.X, corrupted)
    if kind == "Dataset":
        data = (TensorDataset(torch.as_tensor(blobs.X), torch.as_tensor(corrupted)), None)
    if kind == "skorch":
        own = {"criterion": nn.CrossEntropyLoss, "verbose": 0, "max_epochs": 3}
        net = NeuralNetClassifier(
            nn.Linear(blobs.X.shape[1], 3), **own, train_split=hold_out_some, callbacks=[watch]
        )
        net.set_params(callbacks=[watch]).fit(*data)
    else:
        net = MixupClassifier(**options).fit(*data)
    counted = np.flatnonzero(is_trained) if is_whole else rows
    expected = count_errors(net, blobs.X[counted], corrupted[counted], blobs.y[counted])
    assert net.history[-1, NAMES[:2]] == pytest.approx(expected)
