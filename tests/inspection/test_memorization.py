"""Memorisation: errors against a slow count, and a display that shows what was recorded."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from skorch import NeuralNetClassifier
import torch

from sk_mixup import MixupClassifier
from sk_mixup.callbacks import MemorizationErrors
from sk_mixup.inspection import MemorizationDisplay, memorization_errors
from tests.helpers.nets import QUICK, Net


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    pyplot.close("all")


LABELS = st.integers(0, 2)


@settings(max_examples=25)
@given(rows=st.lists(st.tuples(LABELS, LABELS, LABELS), min_size=1, max_size=12))
def test_errors_are_those_counted_row_by_row(rows: list[tuple[int, int, int]]) -> None:
    kept = [pred != label for pred, label, true in rows if label == true]
    wrong = [pred != label for pred, label, true in rows if label != true]
    expected = [sum(part) / len(part) if part else np.nan for part in (kept, wrong)]
    np.testing.assert_equal(memorization_errors(*np.transpose(rows)), expected)


def test_net_that_memorises_and_one_that_does_not() -> None:
    y, y_true = ["a", "b", "b", "a"], ["a", "b", "a", "a"]
    assert memorization_errors(y, y, y_true) == (0, 0)
    assert memorization_errors(y_true, y, y_true) == (0, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([0], [0, 1], [0, 1]), "y_pred must hold as many labels as y; got 1 for 2"),
        (([0, 1], [0, 1], [0]), "y_true must hold as many labels as y; got 1 for 2"),
        (([0, 1], [[0, 1]], [0, 1]), r"y must hold one label per row; got shape \(1, 2\)"),
        (([[0.5, 0.5]], [0], [0]), r"y_pred must hold one label per row; got shape \(1, 2\)"),
        (([0, 1], [0, 1], [0, np.nan]), "y_true must hold known labels; got nan in 1 of 2 rows. Leave"),
        ((["0", "1"], [0, 1], [0, 1]), "y_pred must hold labels of the kind that y holds, numbers; got '0'"),
        (
            ([0, 1], [0, 1], [b"0", b"1"]),
            "y_true must hold labels of the kind that y holds, numbers; got b'0'",
        ),
    ],
)
def test_bad_labels_raise(arrays: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        memorization_errors(*arrays)


MISSING = {
    "float32": np.array([0, np.nan], dtype=np.float32),
    "tensor": torch.tensor([0.0, torch.nan]),
    "list of names": ["a", None],
    "list of names and NaN": ["a", np.nan],
    "objects": np.array(["a", None], dtype=object),
    "objects and NaN": np.array(["a", np.nan], dtype=object),
    "series": pd.Series(["a", None]),
    "strings of pandas": pd.Series(["a", None], dtype="string"),
    "integers of pandas": pd.Series([1, None], dtype="Int64"),
    "categories": pd.Series(["a", None], dtype="category"),
    "dates": np.array(["2026-01-01", "NaT"], dtype="datetime64[D]"),
}


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("labels", MISSING.values(), ids=MISSING)
def test_missing_labels_are_refused_in_every_form(labels: Any, place: int) -> None:
    arrays = [list(labels[:1]) * 2] * 3
    arrays[place] = labels
    name = ("y_pred", "y", "y_true")[place]
    with pytest.raises(ValueError, match=rf"{name} must hold known labels; got .* in 1 of 2 rows"):
        memorization_errors(*arrays)
    y, y_true = (["a", "nan"], ["a", "a"])  # the word is a label as any other
    assert memorization_errors(y, y, y_true) == (0, 0)


def make_record(*rows: tuple[float, ...]) -> Any:
    """Return what a net with such errors, epoch by epoch, looks like."""
    names = ("train_error_true", "train_error_corrupted", "test_error")
    return SimpleNamespace(history_=[dict(zip(names, row, strict=False)) for row in rows])


def test_display_holds_the_history_of_a_net_in_a_pipeline(blobs: Any) -> None:
    y = blobs.y.copy()
    y[::5] = (y[::5] + 1) % 3
    scaler = StandardScaler()
    X = scaler.fit_transform(blobs.X)
    net = MixupClassifier(callbacks=[MemorizationErrors(X, y, blobs.y, X_test=X, y_test=blobs.y)], **QUICK)
    model = make_pipeline(scaler, net).fit(blobs.X, y)
    display = MemorizationDisplay.from_estimator(model)
    assert display.train_error_true.tolist() == [net.history[:, "train_error_true"]]
    assert display.train_error_corrupted.tolist() == [net.history[:, "train_error_corrupted"]]
    assert display.test_error.tolist() == [net.history[:, "test_error"]]
    assert display.names == ["Pipeline"]
    search = SimpleNamespace(best_estimator_=model)
    assert MemorizationDisplay.from_estimator(search).test_error.tolist() == display.test_error.tolist()


def test_lines_are_the_errors_in_percent() -> None:
    nets = {
        "long": make_record((0.5, 1.0, 0.4), (0.25, 0.75, 0.3), (0.0, 0.5, 0.6)),
        "short": make_record((0.5, 0.9, 0.2), (0.4, 0.8, 0.3)),
    }
    display = MemorizationDisplay.from_estimators(nets)
    assert [axes.get_title() for axes in display.axes_] == [
        "Training error, true labels",
        "Training error, corrupted labels",
        "Test error",
    ]
    drawn = [[line.get_ydata() for line in lines] for lines in display.lines_]
    nan = np.nan
    expected = [
        [[50, 25, 0], [50, 40, nan]],
        [[100, 75, 50], [90, 80, nan]],
        [[40, 30, 60], [20, 30, nan]],
    ]
    np.testing.assert_allclose(drawn, expected)
    assert [mark.get_xydata().tolist() for mark in display.best_] == [[[2, 30]], [[1, 20]]]
    legend = [text.get_text() for text in display.axes_[-1].get_legend().get_texts()]
    assert legend == ["long", "short", "best epoch"]


def test_without_test_rows_there_are_two_axes() -> None:
    _, axes = pyplot.subplots(2)
    display = MemorizationDisplay.from_estimator(make_record((0.5, 1.0), (0.2, 0.9)), name="net", ax=axes)
    assert display.test_error is None
    assert display.axes_ == list(axes)
    assert display.best_ == []
    with pytest.raises(ValueError, match=r"ax must hold 2 axes for MemorizationDisplay.plot; got 1"):
        display.plot(ax=axes[0])


def test_net_without_the_callback_in_some_epochs_has_gaps() -> None:
    display = MemorizationDisplay.from_estimators(
        {"a": SimpleNamespace(history_=[{"epoch": 1}, *make_record((0.5, 1.0, 0.1)).history_])}
    )
    np.testing.assert_equal(display.test_error, [[np.nan, 0.1]])


def test_arrays_alone_can_be_drawn() -> None:
    error = np.array([[0.5, 0.2]])
    display = MemorizationDisplay(
        epochs=np.array([1, 2]), train_error_true=error, train_error_corrupted=1 - error
    )
    assert len(display.plot().lines_) == 2
    assert display.axes_[-1].get_legend() is None


def test_nets_without_a_record_raise(blobs: Any) -> None:
    net = MixupClassifier(**{**QUICK, "max_epochs": 1}).fit(blobs.X, blobs.y)
    with pytest.raises(ValueError, match=r"Add sk_mixup.callbacks.MemorizationErrors to its callbacks"):
        MemorizationDisplay.from_estimator(net)
    with pytest.raises(ValueError, match=r"nets must hold at least 1 model; got \{\}"):
        MemorizationDisplay.from_estimators({})


@pytest.mark.parametrize(
    "net", [MixupClassifier(), NeuralNetClassifier(Net), NeuralNetClassifier(Net).initialize()]
)
def test_unfitted_nets_raise(net: Any) -> None:
    with pytest.raises(NotFittedError, match=r"net must be fitted; got a .* that is not"):
        MemorizationDisplay.from_estimator(net)


def test_other_estimators_raise() -> None:
    with pytest.raises(TypeError, match="net must be a fitted skorch net, which keeps a history; got SVC"):
        MemorizationDisplay.from_estimator(SVC())
