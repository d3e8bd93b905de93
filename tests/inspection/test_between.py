"""Misses and gradient norms between examples, against a loop over rows and closed forms."""

from __future__ import annotations

import copy
import sys
from typing import Any

from matplotlib.figure import Figure
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetClassifier
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from sk_mixup.inspection import BetweenDisplay, between_curves
from tests.conftest import Table

OUTPUTS = ("logits", "probabilities")
FEW = {"n_pairs": 7, "n_points": 5, "random_state": 0}
TINY = {"module__hidden_layer_sizes": (4,), "max_epochs": 1, "early_stopping": False, "random_state": 0}


class Detached(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.detach())


class Rounded(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).long()


def make_net(*, shape: tuple[int, ...] = (5,), n_outputs: int = 3) -> nn.Module:
    """Build a net with batch norm and dropout that was in training, of float64."""
    torch.manual_seed(0)
    width = int(np.prod(shape))
    layers = (nn.Linear(width, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(), nn.Linear(6, n_outputs))
    net = nn.Sequential(nn.Flatten(), *layers).double()
    net(torch.randn(32, *shape, dtype=torch.float64))  # moves the running statistics
    return net


def compute_slowly(net: nn.Module, X: Any, y: Any, pairs: Any, lam: Any, output: str) -> Any:
    """One point of one pair at a time, with torch's own Jacobian."""
    net.eval()

    def predict(row: Tensor) -> Tensor:
        logits = net(row[None])[0]
        return logits.softmax(0) if output == "probabilities" else logits

    misses = np.zeros((len(lam), len(pairs)), dtype=bool)
    norms = np.zeros((len(lam), len(pairs)))
    for k, weight in enumerate(lam):
        for pair, (i, j) in enumerate(pairs):
            row = torch.as_tensor(weight * X[i] + (1 - weight) * X[j])
            misses[k, pair] = int(predict(row).argmax()) not in (y[i], y[j])
            jacobian = torch.autograd.functional.jacobian(predict, row)
            norms[k, pair] = jacobian.square().sum().sqrt()
    return misses, norms


@pytest.mark.parametrize("output", ["logits", "probabilities"])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 2)])
def test_between_curves_equal_a_loop_over_rows(output: str, shape: tuple[int, ...]) -> None:
    X = np.random.default_rng(0).normal(size=(20, *shape))
    y = np.arange(20) % 3
    net = make_net(shape=shape)
    curves = between_curves(net, X, y, output=output, batch_size=3, **FEW)
    misses, norms = compute_slowly(net, X, y, curves.pairs, curves.lam, output)
    assert misses.any()
    assert not misses.all()
    np.testing.assert_array_equal(curves.misses, misses)
    np.testing.assert_allclose(curves.gradient_norms, norms, rtol=1e-10)
    np.testing.assert_allclose(curves.miss_rate, misses.mean(axis=1))
    np.testing.assert_allclose(curves.gradient_norm, norms.mean(axis=1), rtol=1e-10)


@pytest.mark.parametrize("n_outputs", [2, 3])
def test_between_curves_of_a_linear_module_have_the_norm_of_its_weight(blobs: Table, n_outputs: int) -> None:
    net = nn.Linear(5, n_outputs)
    curves = between_curves(net, blobs.X, blobs.y % n_outputs, **FEW)
    np.testing.assert_allclose(curves.gradient_norms, net.weight.norm().item(), rtol=1e-5)


def test_between_curves_of_one_logit_are_those_of_two(binary: Table) -> None:
    one, two = nn.Linear(5, 1), nn.Linear(5, 2)
    with torch.no_grad():
        two.weight[0], two.bias[0] = 0.0, 0.0
        two.weight[1], two.bias[1] = one.weight[0], one.bias[0]
    for output in ("logits", "probabilities"):
        of_one, of_two, of_flat = (
            between_curves(net, binary.X, binary.y, output=output, **FEW)
            for net in (one, two, nn.Sequential(one, nn.Flatten(0)))
        )
        np.testing.assert_allclose(of_one.gradient_norms, of_two.gradient_norms, rtol=1e-5)
        np.testing.assert_array_equal(of_one.gradient_norms, of_flat.gradient_norms)
        np.testing.assert_array_equal(of_one.misses, of_two.misses)
    rows = binary.X[of_one.pairs[:, 0]]  # at lam = 1
    p = torch.sigmoid(one(torch.as_tensor(rows)))[:, 0].detach().numpy()
    expected = np.sqrt(2) * p * (1 - p) * one.weight.norm().item()
    np.testing.assert_allclose(of_one.gradient_norms[-1], expected, rtol=1e-4)


def test_between_curves_miss_nothing_at_the_ends_of_a_perfect_model(blobs: Table) -> None:
    tree = DecisionTreeClassifier(random_state=0).fit(blobs.X, blobs.y)
    curves = between_curves(tree, blobs.X, blobs.y, n_pairs=300, random_state=0)
    assert curves.miss_rate[0] == curves.miss_rate[-1] == 0
    assert curves.miss_rate[1:-1].max() > 0
    assert curves.gradient_norm is None
    assert curves.gradient_norms is None


def test_between_curves_miss_no_pair_of_both_classes_of_two(binary: Table) -> None:
    curves = between_curves(nn.Linear(5, 2), binary.X, binary.y, n_pairs=50, random_state=0)
    first, second = binary.y[curves.pairs].T
    assert not curves.misses[:, first != second].any()
    assert curves.misses[:, first == second].any()


def test_between_curves_pairs_are_of_different_rows_and_the_same_for_all_models(blobs: Table) -> None:
    tree = DecisionTreeClassifier(random_state=0).fit(blobs.X, blobs.y)
    options = {"n_pairs": 2000, "n_points": 2, "random_state": 3}
    pairs = between_curves(tree, blobs.X, blobs.y, **options).pairs
    assert np.all(pairs[:, 0] != pairs[:, 1])
    assert all(set(column) == set(range(len(blobs.X))) for column in pairs.T)
    np.testing.assert_array_equal(
        between_curves(nn.Linear(5, 3), blobs.X, blobs.y, gradients=False, **options).pairs, pairs
    )


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_between_curves_do_not_depend_on_the_batch_size(blobs: Table, batch_size: int) -> None:
    net = make_net()
    curves, expected = (
        between_curves(net, blobs.X, blobs.y, batch_size=size, **FEW) for size in (batch_size, 4)
    )
    np.testing.assert_array_equal(curves.misses, expected.misses)
    np.testing.assert_allclose(curves.gradient_norms, expected.gradient_norms, rtol=1e-12)


def test_between_curves_leave_the_module_as_it_was(blobs: Table) -> None:
    net = make_net()
    net[3].eval()
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    modes = [part.training for part in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    before = torch.get_rng_state()
    with torch.no_grad():
        between_curves(net, blobs.X, blobs.y, **FEW)
    assert [part.training for part in net.modules()] == modes
    assert all(torch.all(parameter.grad == 1) for parameter in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("options", [{}, {"criterion": nn.BCEWithLogitsLoss, "module__out_features": 1}])
def test_between_curves_of_an_estimator_are_those_of_its_module(
    binary: Table, options: dict[str, Any]
) -> None:
    labels = np.array(["no", "yes"])[binary.y]
    net = MixupClassifier(**TINY, **options).fit(binary.X, labels)
    curves = between_curves(net, binary.X, labels, **FEW)
    expected = between_curves(net.module_, binary.X, binary.y, **FEW)
    np.testing.assert_array_equal(curves.misses, expected.misses)
    np.testing.assert_array_equal(curves.gradient_norms, expected.gradient_norms)


def test_between_curves_take_the_probabilities_of_a_skorch_net(blobs: Table) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1))
    net = NeuralNetClassifier(module, max_epochs=1, train_split=None, verbose=0).fit(blobs.X, blobs.y)
    for output in ("logits", "probabilities"):
        curves = between_curves(net, blobs.X, blobs.y, output=output, **FEW)
        # A softmax's logarithm is the logits less a number that all share.
        logits = nn.Sequential(net.module_[0], nn.LogSoftmax(dim=1))
        expected = between_curves(logits, blobs.X, blobs.y, output=output, **FEW)
        np.testing.assert_array_equal(curves.misses, expected.misses)
        np.testing.assert_allclose(curves.gradient_norms, expected.gradient_norms, rtol=1e-3)


def _end_in(*layers: nn.Module, n_outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, n_outputs), *layers)


class OwnBinaryLoss(nn.Module):
    """A loss of probabilities of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.BCELoss()

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        return self.loss(output, nn.functional.one_hot(y, output.shape[1]).to(output))


# A net's options, and how many classes it has.
CRITERIA: dict[str, tuple[dict[str, Any], int]] = {
    "cross-entropy": ({"module": _end_in(n_outputs=3)}, 3),
    "margin": ({"module": _end_in(n_outputs=3), "criterion": nn.MultiMarginLoss}, 3),
    "one logit": ({"module": _end_in(n_outputs=1), "criterion": nn.BCEWithLogitsLoss}, 2),
    "flat logit": ({"module": _end_in(nn.Flatten(0), n_outputs=1), "criterion": nn.BCEWithLogitsLoss}, 2),
    "one probability": ({"module": _end_in(nn.Sigmoid(), n_outputs=1), "criterion": nn.BCELoss}, 2),
    "probabilities": ({"module": _end_in(nn.Softmax(1), n_outputs=3), "criterion": nn.NLLLoss}, 3),
    "own loss": (
        {"module": _end_in(nn.Sigmoid(), n_outputs=3), "criterion": OwnBinaryLoss, "lam_per": "batch"},
        3,
    ),
}
SOFT: dict[str, dict[str, Any]] = {
    "soft cross-entropy": {"module": _end_in(n_outputs=3)},
    "soft logits": {"module": _end_in(n_outputs=3), "criterion": nn.BCEWithLogitsLoss},
    "soft probabilities": {"module": _end_in(nn.Sigmoid(), n_outputs=3), "criterion": nn.BCELoss},
    **{
        f"near soft probabilities, {kind.__name__}": {"module": _end_in(n_outputs=3), "criterion": kind}
        for kind in (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
    },
}


def _differentiate(net: Any, X: Any, step: float = 1e-3) -> Any:
    """Return the norm of the Jacobian of `predict_proba` at each row, by central differences."""
    slopes = [
        (net.predict_proba(X + step * axis) - net.predict_proba(X - step * axis)) / (2 * step)
        for axis in np.eye(X.shape[1])
    ]
    return np.sqrt(np.square(slopes).sum(axis=(0, 2)))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", [*CRITERIA, *SOFT])
def test_gradients_are_those_of_what_is_predicted_whatever_the_criterion(blobs: Table, name: str) -> None:
    options, n_classes = CRITERIA.get(name) or (SOFT[name], 3)
    X, y = np.tile(blobs.X.astype(np.float64), (2, 1)), np.tile(blobs.y % n_classes, 2)
    target = np.eye(3)[y] * 0.7 + 0.1 if name in SOFT else y
    options = {**options, "module": copy.deepcopy(options["module"]).double()}
    if "near" in name:  # outputs that become shares above 0
        options |= {"max_epochs": 9, "lr": 0.03}
    net = MixupClassifier(**{"max_epochs": 2, "random_state": 0, **options}).fit(X, target)
    assert (net.temperature_ == 1) == ("probabilit" in name or name == "own loss")
    of_logits, of_probabilities = (between_curves(net, X, y, output=output, **FEW) for output in OUTPUTS)
    rows = X[of_logits.pairs[:, 0]]  # at lam = 1
    expected = _differentiate(net, rows)
    assert expected.max() > 0.01
    np.testing.assert_allclose(of_probabilities.gradient_norms[-1], expected, rtol=1e-4, atol=1e-8)
    if "near" not in name and not isinstance(
        net.module_[-1], nn.Softmax
    ):  # whose logits are known up to a number that all share
        line = net.module_[:3]  # what stands before the link
        slopes = [torch.autograd.functional.jacobian(line, torch.as_tensor(row)) for row in rows]
        expected = torch.stack(slopes).flatten(1).norm(dim=1).numpy()
        np.testing.assert_allclose(of_logits.gradient_norms[-1], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        FixedThresholdClassifier(LogisticRegression(), threshold=0.05, response_method="predict_proba"),
        FixedThresholdClassifier(MixupClassifier(**TINY), threshold=0.9, response_method="predict_proba"),
        GaussianNB(),
        MixupClassifier(**TINY),
    ],
    ids=["low threshold", "high threshold", "bayes", "net"],
)
@pytest.mark.parametrize("names", [[0, 1], ["no", "yes"]], ids=["codes", "names"])
def test_misses_are_of_what_the_model_predicts(binary: Table, model: Any, names: Any) -> None:
    y = np.asarray(names)[binary.y]
    model = clone(model).fit(binary.X, y)
    curves = between_curves(model, binary.X, y, n_pairs=30, n_points=3, random_state=0)
    first, second = curves.pairs.T
    for k, lam in enumerate(curves.lam):
        mixed = lam * binary.X[first] + (1 - lam) * binary.X[second]
        predicted = model.predict(mixed.astype(binary.X.dtype))
        misses = (predicted != y[first]) & (predicted != y[second])
        np.testing.assert_array_equal(curves.misses[k], misses)


def test_an_implicit_ensemble_has_misses_and_no_norms(blobs: Table) -> None:
    module = nn.Sequential(nn.Linear(5, 6), nn.Unflatten(1, (2, 3)))
    net = MixupClassifier(module, max_epochs=1, random_state=0).fit(blobs.X, blobs.y)
    curves = between_curves(net, blobs.X, blobs.y, **FEW)
    assert curves.gradient_norm is None
    assert curves.misses.shape == (5, 7)
    with pytest.raises(ValueError, match="model must return logits of shape"):
        between_curves(net, blobs.X, blobs.y, gradients=True, **FEW)


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2"])
def test_bytes_may_have_another_order(blobs: Table, dtype: str) -> None:
    X, module = (10 * blobs.X).astype(dtype), nn.Linear(5, 3)
    found, expected = (between_curves(module, rows, blobs.y, **FEW) for rows in (X, X.astype(dtype[1:])))
    np.testing.assert_array_equal(found.gradient_norms, expected.gradient_norms)


@pytest.mark.parametrize("link", [None, torch.sigmoid])
def test_probabilities_of_a_link_of_the_users_own_are_refused(blobs: Table, link: Any) -> None:
    net = MixupClassifier(**TINY, predict_nonlinearity=link).fit(blobs.X, blobs.y)
    assert between_curves(net, blobs.X, blobs.y, **FEW).gradient_norm.shape == (5,)
    with pytest.raises(ValueError, match=r"output must be 'logits' for a net with a predict_nonlinearity"):
        between_curves(net, blobs.X, blobs.y, output="probabilities", **FEW)


@pytest.mark.parametrize("convert", [torch.as_tensor, np.ndarray.tolist, np.float64])
def test_between_curves_take_tensors_and_lists(blobs: Table, convert: Any) -> None:
    net = nn.Linear(5, 3)
    curves = between_curves(net, convert(blobs.X), torch.as_tensor(blobs.y), **FEW)
    expected = between_curves(net, blobs.X, blobs.y.tolist(), **FEW)
    np.testing.assert_array_equal(curves.misses, expected.misses)


def test_between_curves_take_the_first_of_several_outputs(blobs: Table) -> None:
    cell = nn.LSTMCell(5, 3)
    first = between_curves(cell, blobs.X, blobs.y, **FEW)
    assert first.gradient_norm.min() > 0
    assert between_curves(cell, blobs.X, blobs.y, gradients=False, **FEW).gradient_norm is None


class Columns:
    columns = ("a", "b")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model": LogisticRegression()}, NotFittedError, "not fitted"),
        ({"model": MixupClassifier()}, NotFittedError, "not fitted"),
        (
            {"model": NeuralNetClassifier(nn.Linear(5, 3)).initialize()},
            NotFittedError,
            "model must be fitted",
        ),
        ({"model": LinearSVC()}, TypeError, "model must be a classifier with predict_proba; got LinearSVC"),
        ({"model": LinearRegression()}, TypeError, "model must be a classifier with predict_proba"),
        ({"y": np.arange(60) % 4}, ValueError, r"y must hold labels that the model knows.*got \[3\]"),
        ({"y": np.array(["a", "b"] * 30)}, ValueError, "y must hold labels that the model knows"),
        ({"y": np.zeros((60, 2))}, ValueError, "y must hold one label per row; got shape"),
        ({"y": [0, 1]}, ValueError, "inconsistent numbers of samples"),
        ({"X": np.zeros((1, 5)), "y": [0]}, ValueError, "X must hold at least 2 rows"),
        ({"X": np.zeros(60)}, ValueError, "X must hold at least 2 rows of features"),
        ({"X": np.full((60, 5), np.nan)}, ValueError, "X must be finite"),
        ({"X": pd.DataFrame(np.full((60, 5), pd.NA), dtype="Float64")}, ValueError, "X must be finite"),
        ({"X": np.full((60, 5), "a")}, TypeError, "X must be a dense array of numbers; got ndarray"),
        ({"X": csr_array((60, 5))}, TypeError, "X must be a dense array of numbers; got csr_array"),
        ({"X": Columns()}, TypeError, "X must be a dense array of numbers; got Columns"),
        ({"model": Detached(5, 3)}, ValueError, "model must be differentiable with respect to its input"),
        ({"model": Rounded(5, 3)}, ValueError, "model must be differentiable with respect to its input"),
        ({"model": Rounded(5, 3), "output": "probabilities"}, ValueError, "model must be differentiable"),
        ({"model": nn.Unflatten(1, (5, 1))}, ValueError, r"model must return logits of shape \(1, n_classes"),
        ({"gradients": "yes"}, ValueError, "gradients must be True, False or 'auto'; got 'yes'"),
        ({"output": "proba"}, ValueError, "output must be one of 'logits', 'probabilities'; got 'proba'"),
        ({"n_pairs": 0}, ValueError, "n_pairs must be at least 1; got 0"),
        ({"n_points": 1}, ValueError, "n_points must be at least 2; got 1"),
        ({"n_points": 2.5}, TypeError, "n_points must be an integer; got 2.5"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
    ],
)
def test_between_curves_refuse(
    blobs: Table, change: dict[str, Any], error: type[Exception], match: str
) -> None:
    arguments = {"model": nn.Linear(5, 3), "X": blobs.X, "y": blobs.y, **FEW, **change}
    with pytest.raises(error, match=match):
        between_curves(**arguments)


def test_between_curves_refuse_gradients_without_a_module(blobs: Table) -> None:
    pipeline = make_pipeline(StandardScaler(), MixupClassifier(**TINY))
    with pytest.raises(NotFittedError, match="not fitted"):
        between_curves(pipeline, blobs.X, blobs.y, gradients=True)
    pipeline.fit(blobs.X, blobs.y)
    assert between_curves(pipeline, blobs.X, blobs.y, **FEW).gradient_norm is None
    with pytest.raises(ValueError, match=r"gradients must be False or 'auto' for Pipeline.* its last step"):
        between_curves(pipeline, blobs.X, blobs.y, gradients=True)


def test_between_curves_refuse_a_model_of_one_class(blobs: Table) -> None:
    tree = DecisionTreeClassifier().fit(blobs.X, np.zeros(60))
    with pytest.raises(ValueError, match="model must predict one label of at least 2 classes"):
        between_curves(tree, blobs.X, blobs.y)


def test_between_curves_refuse_outputs_that_are_not_finite(blobs: Table) -> None:
    net = nn.Linear(5, 3)
    nn.init.constant_(net.bias, np.nan)
    with pytest.raises(ValueError, match="model must predict 3 finite values per row"):
        between_curves(net, blobs.X, blobs.y)


@pytest.mark.parametrize("random_state", [0, None, "RandomState"])
def test_display_measures_all_models_on_the_same_pairs(blobs: Table, random_state: Any) -> None:
    if random_state == "RandomState":
        random_state = np.random.RandomState(0)
    net = make_net()
    options = {"n_pairs": 50, "n_points": 3, "random_state": random_state}
    axes = Figure().subplots(1, 2)
    display = BetweenDisplay.from_estimators([net, net], blobs.X, blobs.y, ax=axes, **options)
    np.testing.assert_array_equal(display.miss_rates[0], display.miss_rates[1])
    np.testing.assert_array_equal(display.gradient_norms[0], display.gradient_norms[1])
    assert display.names == ["Sequential 1", "Sequential 2"]
    if isinstance(random_state, int):
        curves = between_curves(net, blobs.X, blobs.y, **options)
        np.testing.assert_array_equal(display.miss_rates[0], curves.miss_rate)


def test_display_draws_its_arrays(blobs: Table) -> None:
    tree = DecisionTreeClassifier(random_state=0).fit(blobs.X, blobs.y)
    axes = Figure().subplots(1, 2)
    models = {"tree": tree, "net": make_net()}
    display = BetweenDisplay.from_estimators(models, blobs.X, blobs.y, ax=axes, **FEW)
    assert display.axes_ == list(axes)
    assert display.figure_ is axes[0].figure
    misses, norms = display.lines_
    for line, name, rate in zip(misses, models, display.miss_rates, strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_xdata(), display.lam)
        np.testing.assert_allclose(line.get_ydata(), 100 * rate)
    assert np.all(np.isnan(display.gradient_norms[0]))
    assert [line.get_label() for line in norms] == ["net"]
    assert norms[0].get_color() == misses[1].get_color() != misses[0].get_color()
    np.testing.assert_array_equal(norms[0].get_ydata(), display.gradient_norms[1])
    assert [ax.get_ylabel() for ax in axes] == ["Misses (%)", "Mean gradient norm"]
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["tree", "net"]


def test_display_without_gradients_takes_one_axes(blobs: Table) -> None:
    ax = Figure().subplots()
    display = BetweenDisplay.from_estimator(
        make_net(), blobs.X, blobs.y, name="net", gradients=False, ax=ax, **FEW
    )
    assert display.axes_ == [ax]
    assert display.gradient_norms is None
    other = display.plot(Figure().subplots(), names=["again"], lw=3)
    assert other is display
    assert (display.lines_[0][0].get_label(), display.lines_[0][0].get_linewidth()) == ("again", 3)


def test_display_makes_a_figure() -> None:
    from matplotlib import pyplot

    display = BetweenDisplay(lam=[0, 1], miss_rates=[0, 0.5], gradient_norms=[1.0, 2.0]).plot()
    assert len(display.figure_.axes) == 2
    assert display.names == ["model 1"]
    pyplot.close(display.figure_)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"miss_rates": [[0, 0, 0]]}, r"miss_rates must be of shape \(1, 2\).*got shape \(1, 3\)"),
        ({"gradient_norms": [[1, 2]] * 2}, r"gradient_norms must be of shape \(1, 2\).*got shape \(2, 2\)"),
        ({"names": ["a", "b"]}, r"names must hold 1 names; got \['a', 'b'\]"),
    ],
)
def test_display_refuses(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        BetweenDisplay(**{"lam": [0, 1], "miss_rates": [[0, 0]], **change})


def test_display_refuses_no_models_and_other_axes(blobs: Table) -> None:
    with pytest.raises(ValueError, match=r"models must hold at least 1 model; got \[\]"):
        BetweenDisplay.from_estimators([], blobs.X, blobs.y)
    with pytest.raises(ValueError, match=r"ax must hold 1 axes for BetweenDisplay\.plot; got 2"):
        BetweenDisplay(lam=[0, 1], miss_rates=[0, 0]).plot(Figure().subplots(1, 2))


def test_display_names_the_extra_of_a_missing_matplotlib(blobs: Table, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ImportError, match=r"BetweenDisplay needs matplotlib, which is not installed. Run pip install"
    ):
        BetweenDisplay.from_estimator(nn.Linear(5, 3), blobs.X, blobs.y)


def test_frames_are_mixed_as_arrays_and_predicted_as_frames(blobs: Table) -> None:
    frame = pd.DataFrame(blobs.X, columns=list("abcde"))
    labels = pd.Series(np.array(["x", "y", "z"])[blobs.y])
    net = MixupClassifier(**TINY).fit(frame, labels)
    found = between_curves(net, frame, labels, **FEW)
    expected = between_curves(net.module_, blobs.X, blobs.y, **FEW)
    np.testing.assert_array_equal(found.misses, expected.misses)
    pipe = make_pipeline(StandardScaler(), MixupClassifier(**TINY)).fit(frame, labels)
    assert between_curves(pipe, frame, labels, **FEW).miss_rate.shape == found.lam.shape
