"""scikit-learn's DecisionBoundaryDisplay on our classifier, and examples/decision_boundary.py."""

from pathlib import Path
import runpy

from matplotlib.figure import Figure
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier

LABELS = np.array(["one", "three", "two"])  # sorted, as classes_ is
RESOLUTION = 12


def make_model(n_classes, *, scaled):
    """Return a fitted classifier of `n_classes` string labels, its points and its labels."""
    X, codes = make_blobs(60, centers=[[0, 0], [4, 0], [0, 30]][:n_classes], random_state=0)
    net = MixupClassifier(max_epochs=5, lr=1e-2, early_stopping=False, random_state=0)
    model = make_pipeline(StandardScaler(), net) if scaled else net
    return model.fit(X, LABELS[codes]), X


def draw(model, X, **options):
    """Return the display on axes of its own, and the points it looked at."""
    display = DecisionBoundaryDisplay.from_estimator(
        model, X, grid_resolution=RESOLUTION, ax=Figure().subplots(), **options
    )
    return display, np.column_stack([display.xx0.ravel(), display.xx1.ravel()])


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("plot_method", ["contourf", "pcolormesh"])
def test_binary_surface_is_the_probability_of_the_second_class(scaled, plot_method):
    model, X = make_model(2, scaled=scaled)
    display, points = draw(model, X, response_method="predict_proba", plot_method=plot_method)
    np.testing.assert_array_equal(display.response.ravel(), model.predict_proba(points)[:, 1])
    assert np.ptp(display.response) > 0.1


@pytest.mark.parametrize("scaled", [False, True])
def test_surfaces_of_three_classes_are_their_probabilities(scaled):
    model, X = make_model(3, scaled=scaled)
    display, points = draw(model, X, response_method="predict_proba")
    assert display.response.shape == (RESOLUTION, RESOLUTION, 3)
    np.testing.assert_array_equal(display.response.reshape(-1, 3), model.predict_proba(points))


@pytest.mark.parametrize("label", LABELS)
def test_surface_of_one_class_of_three_is_its_probability(label):
    model, X = make_model(3, scaled=True)
    display, points = draw(model, X, response_method="predict_proba", class_of_interest=label)
    column = list(model.classes_).index(label)
    np.testing.assert_array_equal(display.response.ravel(), model.predict_proba(points)[:, column])


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_predicted_regions_are_the_predicted_labels(n_classes, scaled):
    model, X = make_model(n_classes, scaled=scaled)
    display, points = draw(model, X, response_method="predict")
    np.testing.assert_array_equal(model.classes_[display.response.ravel()], model.predict(points))
    assert len(np.unique(display.response)) == n_classes


@pytest.mark.parametrize("n_classes", [2, 3])
def test_auto_takes_the_probabilities(n_classes):
    model, X = make_model(n_classes, scaled=False)
    chosen, asked = (draw(model, X, response_method=name)[0] for name in ("auto", "predict_proba"))
    np.testing.assert_array_equal(chosen.response, asked.response)


def test_data_frame_names_the_axes_and_reaches_the_model():
    array_model, X = make_model(2, scaled=True)
    frame = pd.DataFrame(X, columns=["length", "width"])
    model = clone(array_model).fit(frame, array_model.predict(X))
    display, points = draw(model, frame, response_method="predict_proba")
    named = pd.DataFrame(points, columns=frame.columns)
    np.testing.assert_array_equal(display.response.ravel(), model.predict_proba(named)[:, 1])
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("length", "width")


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(Path(__file__).parents[2] / "examples" / "decision_boundary.py"))


def test_example_draws_what_its_nets_say(example, tmp_path):
    model, X = make_model(2, scaled=False)
    y = (model.predict(X) == LABELS[1]).astype(int)
    nets = example["fit_nets"](X, y, max_epochs=2)
    path = tmp_path / "picture.png"
    displays = example["draw_boundaries"](nets, X, y, path)
    assert list(displays) == ["ERM", "mixup, alpha = 1"]
    assert path.read_bytes().startswith(b"\x89PNG")
    for name, net in nets.items():
        points = np.column_stack([displays[name].xx0.ravel(), displays[name].xx1.ravel()])
        np.testing.assert_array_equal(displays[name].response.ravel(), net.predict_proba(points)[:, 1])


@pytest.mark.slow
def test_example_separates_the_rings_with_and_without_mixup(example, tmp_path, capsys):
    path = tmp_path / "rings.png"
    example["main"](str(path))
    assert path.stat().st_size > 10_000
    accuracies = [float(line.rsplit(" ", 1)[1]) for line in capsys.readouterr().out.splitlines()[:2]]
    assert min(accuracies) > 0.8
