"""Reliability and temperature, against loops over rows, closed forms and the libraries."""

from __future__ import annotations

import sys
from typing import Any

from matplotlib.figure import Figure
import numpy as np
from numpy.typing import NDArray
import pandas as pd
import pytest
import sklearn
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
import torch

from sk_mixup.inspection import (
    ReliabilityDisplay,
    fit_temperature,
    reliability_curve,
    scale_temperature,
)
from tests.conftest import Table
from tests.helpers.versions import since_sklearn


def draw_predictions(n_classes: int, n: int = 200, scale: float = 2.0, seed: int = 0) -> tuple[Any, Any]:
    """Draw labels and probabilities that have something to do with them."""
    generator = np.random.default_rng(seed)
    logits = scale * generator.normal(size=(n, n_classes))
    y = np.array([generator.choice(n_classes, p=row) for row in softmax(logits / 2)])
    return y, softmax(logits)


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def find_bins(confidence: list[float], n_bins: int, strategy: str) -> list[int]:
    """Find the bin of each row; bins hold their upper edge."""
    points = np.linspace(0, 1, n_bins + 1)
    edges = points if strategy == "uniform" else np.quantile(confidence, points)
    return [sum(value > edge for edge in edges[1:-1]) for value in confidence]


def compute_slowly(y: Any, proba: Any, n_bins: int, strategy: str) -> dict[str, Any]:
    """One row at a time."""
    confidence = [max(row) for row in proba]
    hits = [int(np.argmax(row)) == label for row, label in zip(proba, y, strict=True)]
    curve: dict[str, Any] = {"confidence": [], "accuracy": [], "counts": [], "ece": 0.0}
    for kind in {strategy, "uniform"}:
        bins = find_bins(confidence, n_bins, kind)
        for number in sorted(set(bins)):
            rows = [row for row, found in enumerate(bins) if found == number]
            mean = sum(confidence[row] for row in rows) / len(rows)
            share = sum(hits[row] for row in rows) / len(rows)
            if kind == strategy:
                curve["confidence"].append(mean)
                curve["accuracy"].append(share)
                curve["counts"].append(len(rows))
            if kind == "uniform":
                curve["ece"] += len(rows) / len(y) * abs(mean - share)
    n_classes = len(proba[0])
    curve["nll"] = -sum(np.log(row[label]) for row, label in zip(proba, y, strict=True)) / len(y)
    total = sum(
        (p - (label == k)) ** 2 for row, label in zip(proba, y, strict=True) for k, p in enumerate(row)
    )
    curve["brier"] = total / len(y) / (2 if n_classes == 2 else 1)
    curve["error"] = 1 - sum(hits) / len(y)
    return curve


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize(("n_classes", "n_bins"), [(2, 15), (3, 15), (10, 4), (4, 1)])
def test_reliability_curve_equals_a_loop_over_rows(n_classes: int, n_bins: int, strategy: str) -> None:
    y, proba = draw_predictions(n_classes)
    curve = reliability_curve(y, proba, n_bins=n_bins, strategy=strategy)
    expected = compute_slowly(y, proba, n_bins, strategy)
    assert set(curve) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(curve[name], value, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_reliability_curve_equals_the_libraries(n_classes: int) -> None:
    y, proba = draw_predictions(n_classes)
    curve = reliability_curve(y, proba)
    hits = proba.argmax(axis=1) == y
    accuracy, confidence = calibration_curve(hits, proba.max(axis=1), n_bins=15)
    np.testing.assert_array_equal(curve.accuracy, accuracy)
    np.testing.assert_allclose(curve.confidence, confidence, rtol=1e-12)
    np.testing.assert_allclose(curve.nll, log_loss(y, proba), rtol=1e-12)
    np.testing.assert_allclose(curve.brier, brier_score_loss(y, proba), rtol=1e-12)
    assert curve.counts.sum() == len(y)


def test_reliability_curve_keeps_full_confidence_in_the_last_bin() -> None:
    # 0.75 falls into (0.5, 0.75], and 1 into (0.75, 1] with 0.875.
    proba = np.array([[0.75, 0.25], [0.875, 0.125], [1.0, 0.0], [0.0, 1.0]])
    y = np.array([1, 0, 0, 0])
    curve = reliability_curve(y, proba, n_bins=4)
    np.testing.assert_allclose(curve.confidence, [0.75, 2.875 / 3])
    np.testing.assert_allclose(curve.accuracy, [0.0, 2 / 3])
    np.testing.assert_array_equal(curve.counts, [1, 3])
    np.testing.assert_allclose(curve.ece, (0.75 + (2.875 - 2)) / 4, rtol=1e-12)


def test_reliability_curve_of_a_calibrated_constant_has_no_error() -> None:
    curve = reliability_curve([0] * 7 + [1] * 2 + [2], np.tile([0.7, 0.2, 0.1], (10, 1)))
    np.testing.assert_allclose(curve.ece, 0.0, atol=1e-12)
    np.testing.assert_allclose(curve.accuracy, curve.confidence)
    np.testing.assert_allclose(curve.error, 0.3)


def test_reliability_curve_does_not_depend_on_the_order_of_rows_or_columns() -> None:
    y, proba = draw_predictions(4)
    expected = reliability_curve(y, proba)
    rows, columns = np.random.default_rng(0).permutation(len(y)), np.array([2, 0, 3, 1])
    names = np.array(["d", "a", "c", "b"])
    curve = reliability_curve(names[y[rows]], proba[rows][:, columns], labels=names[columns])
    for name, value in expected.items():
        np.testing.assert_allclose(curve[name], value, rtol=1e-5, err_msg=name)


def test_reliability_curve_takes_the_probability_of_the_second_class() -> None:
    y, proba = draw_predictions(2)
    expected = reliability_curve(y, proba)
    for given in (proba[:, 1], torch.as_tensor(proba), proba.tolist()):
        np.testing.assert_allclose(reliability_curve(y, given).nll, expected.nll)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_reliability_curve_takes_probabilities_of_any_precision(dtype: Any) -> None:
    y, proba = draw_predictions(5)
    curve = reliability_curve(y, proba.astype(dtype))
    np.testing.assert_allclose(curve.nll, log_loss(y, proba), atol=1e-2)


@since_sklearn(1, 8)
@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_fit_temperature_finds_the_least_likelihood_loss(n_classes: int) -> None:
    y, proba = draw_predictions(n_classes)
    temperature = fit_temperature(y, proba)

    def loss(value: float) -> float:
        return log_loss(y, scale_temperature(proba, value))

    grid = temperature * np.linspace(0.5, 2.0, 21)
    assert loss(temperature) <= min(map(loss, grid)) + 1e-9
    assert loss(temperature) <= loss(1.0) + 1e-9
    assert 1.5 < temperature < 2.7  # the logits were drawn twice too large


@since_sklearn(1, 8)
def test_frames_of_numbers_that_may_be_missing_are_taken() -> None:
    proba = np.random.default_rng(0).dirichlet(np.ones(3), size=20)
    frame = pd.DataFrame(proba).astype("Float64")
    np.testing.assert_array_equal(scale_temperature(frame, 2.0), scale_temperature(proba, 2.0))
    frame.iloc[0, 0] = pd.NA
    with pytest.raises(ValueError, match="y_prob must hold rows of probabilities that sum to 1"):
        scale_temperature(frame, 2.0)


def test_fit_temperature_and_scale_temperature_are_those_of_scikit_learn() -> None:
    y, proba = draw_predictions(4)
    inputs = np.log(proba)
    model = GaussianNB().fit(inputs, y)
    predicted = model.predict_proba(inputs)
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(inputs, y)
    temperature = fit_temperature(y, predicted)
    scaled = scale_temperature(predicted, temperature)
    np.testing.assert_allclose(scaled, calibrated.predict_proba(inputs), atol=1e-6)


@since_sklearn(1, 8)
def test_fit_temperature_equals_its_closed_form() -> None:
    np.testing.assert_allclose(fit_temperature([0, 0, 0, 1], [[0.9, 0.1]] * 4), 2.0, rtol=1e-5)
    np.testing.assert_allclose(
        fit_temperature(["b", "b", "b", "a"], [0.6] * 4), np.log(1.5) / np.log(3), 1e-5
    )


@since_sklearn(1, 8)
def test_fit_temperature_takes_rows_that_lack_a_class_and_zeros() -> None:
    y = np.array(["a", "c", "c", "a"])
    proba = np.array([[0.8, 0.1, 0.1], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.6, 0.2, 0.2]])
    temperature = fit_temperature(y, proba, labels=["a", "b", "c"])
    before = reliability_curve(y, proba, labels=["a", "b", "c"]).nll
    after = reliability_curve(y, scale_temperature(proba, temperature), labels=["a", "b", "c"]).nll
    assert after < before


@pytest.mark.parametrize("confidence", [0.51, 0.9, 0.999])
def test_fit_temperature_of_rows_that_are_all_right_leaves_no_loss(confidence: float) -> None:
    proba = [1 - confidence, confidence]
    temperature = fit_temperature([0, 1], proba)
    assert reliability_curve([0, 1], scale_temperature(proba, temperature)).nll <= 1e-15
    np.testing.assert_allclose(fit_temperature([1, 0], proba), np.exp(10), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n_columns", [1, 2])
def test_rounding_beyond_0_and_1_is_taken(dtype: Any, n_columns: int) -> None:
    eps = np.finfo(dtype).eps
    second = np.array([1 + eps, -eps, 0.25], dtype=dtype)
    proba = second if n_columns == 1 else np.stack([1 - second, second], axis=1)
    curve = reliability_curve([1, 0, 1], proba)
    expected = compute_slowly([1, 0, 1], [[0, 1], [1, 0], [0.75, 0.25]], 15, "uniform")
    for name, value in expected.items():
        np.testing.assert_allclose(curve[name], value, rtol=1e-3, atol=1e-12, err_msg=name)


def test_scale_temperature_is_a_softmax_of_smaller_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(scale_temperature(softmax(logits), 3.0), softmax(logits / 3), rtol=1e-8)


def test_scale_temperature_of_one_changes_nothing_and_none_changes_a_prediction() -> None:
    _, proba = draw_predictions(4)
    np.testing.assert_allclose(scale_temperature(proba, 1.0), proba, atol=1e-11)
    for temperature in (1e-3, 0.5, 2.0, 1e3):
        scaled = scale_temperature(proba, temperature)
        np.testing.assert_array_equal(scaled.argmax(axis=1), proba.argmax(axis=1))
        np.testing.assert_allclose(scaled.sum(axis=1), 1.0)
    np.testing.assert_allclose(scale_temperature(proba, 1e9), 0.25, atol=1e-6)


@since_sklearn(1, 8)
def test_display_draws_its_curves_before_and_after_scaling(blobs: Table) -> None:
    names = np.array(["x", "y", "z"])[blobs.y]
    model = GaussianNB().fit(blobs.X[::2], names[::2])
    held_out, X, labels = blobs.X[1::4], blobs.X[3::4], names[3::4]
    ax = Figure().subplots()
    display = ReliabilityDisplay.from_estimator(
        model, X, labels, X_calibration=held_out, y_calibration=names[1::4], n_bins=5, ax=ax
    )
    temperature = fit_temperature(names[1::4], model.predict_proba(held_out))
    proba = model.predict_proba(X)
    for line, found, given in (
        (display.line_, display.curve, proba),
        (display.scaled_line_, display.scaled, scale_temperature(proba, temperature)),
    ):
        expected = reliability_curve(labels, given, labels=model.classes_, n_bins=5)
        np.testing.assert_array_equal(line.get_xydata(), np.c_[expected.confidence, expected.accuracy])
        assert (found.ece, found.nll, found.brier) == (expected.ece, expected.nll, expected.brier)
        figures = f"ECE {expected.ece:.3f}, NLL {expected.nll:.3f}, Brier {expected.brier:.3f}"
        assert figures in line.get_label()
    assert display.temperature == temperature
    assert display.name == "GaussianNB"
    assert (display.ax_, display.figure_) == (ax, ax.figure)
    sizes = [discs.get_sizes() for discs in ax.collections]
    np.testing.assert_allclose(sizes[0] / sizes[0].sum(), display.curve.counts / len(X))


def test_displays_share_an_axes() -> None:
    y, proba = draw_predictions(3)
    ax = Figure().subplots()
    first, second = (ReliabilityDisplay.from_predictions(y, proba, name=name, ax=ax) for name in "ab")
    assert first.line_.get_color() != second.line_.get_color()
    assert first.scaled is first.scaled_line_ is first.temperature is None
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [label[:1] for label in labels] == ["c", "a", "b"]  # one diagonal
    bare = ReliabilityDisplay.from_predictions(y, proba, ax=Figure().subplots(), ref_line=False, lw=3)
    assert bare.ax_.get_lines() == [bare.line_]
    assert bare.line_.get_linewidth() == 3
    assert (bare.ax_.get_xlabel(), bare.ax_.get_ylabel()) == ("Confidence", "Accuracy")


def test_display_makes_a_figure() -> None:
    from matplotlib import pyplot

    display = ReliabilityDisplay.from_predictions(*draw_predictions(3))
    assert display.figure_.axes == [display.ax_]
    pyplot.close(display.figure_)


ROWS = [[0.5, 0.5], [0.9, 0.1]]


@pytest.mark.parametrize(
    ("y", "proba", "options", "match"),
    [
        ([0, 1], [[0.5, 0.4], [0.9, 0.1]], {}, "y_prob must hold rows of probabilities that sum to 1"),
        ([0, 1], [[2.0, -1.0], [0.9, 0.1]], {}, r"y_prob must hold rows.*values in \[-1, 2\]"),
        ([0, 1], [[np.nan, 0.5], [0.9, 0.1]], {}, "y_prob must hold rows of probabilities"),
        ([0, 1], [[1.0], [1.0]], {}, r"y_prob must hold a column for each of 2 classes.*shape \(2, 1\)"),
        ([0, 1], [["a", "b"]] * 2, {}, "y_prob must hold a column for each of 2 classes"),
        ([0, 1], [[0.5, 0.3, 0.2]] * 2, {}, r"y_prob must have one column per class, \[0, 1\]; got 3"),
        ([0, 1], ROWS, {"labels": [0, 0]}, r"y_prob must have one column per class, \[0, 0\]; got 2"),
        ([0, 3], ROWS, {"labels": [0, 1]}, r"y_true must hold labels that the model knows.*got \[3\]"),
        ([1, 1], ROWS, {}, r"y_prob must have one column per class, \[1\]; got 2 columns. Give labels"),
        ([[0], [1]], ROWS, {}, r"y_true must hold one label per row; got shape \(2, 1\)"),
        ([], np.empty((0, 2)), {}, r"y_prob must hold at least one row; got shape \(0, 2\)"),
        ([], [], {}, r"y_prob must hold at least one row; got shape \(0, 2\)"),
        (pd.Series(["a", "b", None]), [0.1] * 3, {}, "y_true must hold known labels; got nan in 1 of 3 rows"),
        ([0, np.nan], ROWS, {}, "y_true must hold known labels; got nan in 1 of 2 rows"),
        ([0, 1], ROWS, {"labels": "ab"}, "labels must be a flat array or None; got 'ab'"),
        ([0, 1], ROWS, {"labels": [0, None]}, "labels must hold known labels; got None in 1 of 2 rows"),
        ([0, 1, 1], ROWS, {}, "inconsistent numbers of samples"),
        ([0, 1], ROWS, {"n_bins": 0}, "n_bins must be at least 1; got 0"),
        ([0, 1], ROWS, {"strategy": "even"}, "strategy must be one of 'uniform', 'quantile'; got 'even'"),
    ],
)
def test_reliability_curve_refuses(y: Any, proba: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        reliability_curve(y, proba, **options)


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_scale_temperature_refuses(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be finite and greater than 0; got"):
        scale_temperature(ROWS, temperature)


@pytest.mark.parametrize(
    ("model", "error", "match"),
    [
        (LogisticRegression(), sklearn.exceptions.NotFittedError, "not fitted"),
        (LinearSVC(), TypeError, "estimator must be a classifier with predict_proba; got LinearSVC"),
        (LinearRegression(), TypeError, "estimator must be a classifier with predict_proba"),
        (DecisionTreeClassifier().fit([[0], [1]], [1, 1]), ValueError, "at least 2 classes per row"),
    ],
)
def test_display_refuses_models(blobs: Table, model: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        ReliabilityDisplay.from_estimator(model, blobs.X, blobs.y)


def test_display_refuses_half_a_calibration_set(blobs: Table) -> None:
    model = GaussianNB().fit(blobs.X, blobs.y)
    with pytest.raises(ValueError, match="y_calibration must be given for temperature scaling; got None"):
        ReliabilityDisplay.from_estimator(model, blobs.X, blobs.y, X_calibration=blobs.X)
    with pytest.raises(ValueError, match="X_calibration or y_prob_calibration must be given for temp"):
        ReliabilityDisplay.from_estimator(model, blobs.X, blobs.y, y_calibration=blobs.y)


def test_display_names_the_extra_of_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs matplotlib, which is not installed. Run pip install"):
        ReliabilityDisplay.from_predictions([0, 1], ROWS)


def test_display_does_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    display = ReliabilityDisplay.from_predictions([0, 1], ROWS, ax=Figure().subplots())
    assert display.curve.ece == pytest.approx(0.7)
