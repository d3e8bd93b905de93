"""Targets of a regressor are standardised inside: as if they had been before, and put back after."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from skorch.callbacks import Callback, EpochScoring
from skorch.dataset import Dataset
from skorch.helper import predefined_split
import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from sk_mixup import MixupRegressor
from sk_mixup.mixing import Extrapolation, KernelPartners, ManifoldMixup, Mixup
from tests.helpers.nets import QUICK
from tests.helpers.sampling import each_pair
from tests.helpers.stacking import fit_stacked

N = 45
_generator = np.random.default_rng(0)
X = _generator.normal(size=(N, 4)).astype(np.float32)
# In other units, and far from zero: 1e4 times and 1e-9 times what a network starts from.
TABLE = np.stack([X[:, 0] + X[:, 1] ** 2, np.sin(X[:, 2]) - X[:, 3]], axis=1).astype(np.float64)
TARGETS = {
    "line": 1e6 + 1e4 * TABLE[:, 0],
    "small": 1e-9 * TABLE[:, 1],
    "table": TABLE * [1e4, 1e-9] + [1e6, 3],
}
WEIGHT = np.arange(N) % 4 * 1.0  # with zeros
CRITERIA = {"squared": (nn.MSELoss, 2), "absolute": (nn.L1Loss, 1)}


class Look(Callback):
    """Does nothing after each batch, for which training must go step by step."""

    def on_batch_end(self, net: Any, **kwargs: Any) -> None: ...


def standardize(y: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, Any, Any]:
    """Return standardised columns, their mean and their spread, in double precision."""
    if weight is None:
        mean, std = y.mean(axis=0), y.std(axis=0)
    else:
        repeated = np.repeat(y, weight.astype(int), axis=0)
        mean, std = repeated.mean(axis=0), repeated.std(axis=0)
    return (y - mean) / std, mean, std


def make_net(**options: Any) -> MixupRegressor:
    return MixupRegressor(**QUICK | {"max_epochs": 2} | options)


def assert_same_modules(net: Any, other: Any, **tolerances: float) -> None:
    tolerances = tolerances or {"rtol": 0.0, "atol": 0.0}
    torch.testing.assert_close(net.module_.state_dict(), other.module_.state_dict(), **tolerances)


def fit_in(form: str, net: Any, y: np.ndarray, weight: np.ndarray | None) -> Any:
    """Fit a net to rows in some form."""
    if form == "stacked":
        fit_stacked([(net, X, y), (clone(net).set_params(random_state=1), X, y)])
        return net
    if form == "dataset":
        return net.fit(TensorDataset(torch.as_tensor(X), torch.as_tensor(y)))
    callbacks = [("look", Look())] if form == "steps" else None
    return net.set_params(callbacks=callbacks).fit(X, y, sample_weight=weight)


@each_pair(
    {
        "form,weighted": [
            ("array", False),
            ("array", True),
            ("steps", False),
            ("steps", True),
            ("dataset", False),
            ("stacked", False),
        ],
        "name": list(TARGETS),
        "criterion": list(CRITERIA),
        "reduction": ["mean", "sum"],
        "options": [
            {"alpha": 0},
            {"alpha": 0.4, "n_mixed": 3},
            {"vicinity": Extrapolation()},
            {"vicinity": ManifoldMixup()},
        ],
    }
)
@pytest.mark.filterwarnings("ignore:stacked")
def test_a_fit_equals_one_of_targets_standardised_by_hand(
    form: str, weighted: bool, name: str, criterion: str, reduction: str, options: dict[str, Any]
) -> None:
    y, weight = TARGETS[name], WEIGHT if weighted else None
    loss, power = CRITERIA[criterion]
    options = options | {"criterion": loss, "criterion__reduction": reduction}
    z, mean, std = standardize(y, weight)
    plain = fit_in(form, make_net(**options, standardize_targets=False), z, weight)
    net = fit_in(form, make_net(**options), y, weight)
    assert_same_modules(net, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.target_mean_, np.atleast_1d(mean))
    np.testing.assert_allclose(net.target_std_, np.atleast_1d(std))
    restored = plain.predict(X.astype(float)) * std + mean
    np.testing.assert_allclose(net.predict(X.astype(float)), restored, rtol=1e-6, atol=1e-6 * np.min(std))
    if y.ndim == 1:
        expected = np.multiply(plain.loss_curve_, std**power)
        np.testing.assert_allclose(net.loss_curve_, expected, rtol=1e-6)


# Criteria with a constant that is an error in units of y, by what power their losses change, and that of 0.3.
WITH_CONSTANT = {
    "huber": (nn.HuberLoss, 2, "delta", lambda e: np.where(e < 0.3, e**2 / 2, 0.3 * (e - 0.15))),
    "smooth": (nn.SmoothL1Loss, 1, "beta", lambda e: np.where(e < 0.3, e**2 / 0.6, e - 0.15)),
}


@each_pair(
    {
        "form": ["array", "steps", "dataset", "stacked"],
        "criterion": list(WITH_CONSTANT),
        "unit": [1.0, 1e4, 1e-9],
        "n_columns": [0, 2],
        "reduction": ["mean", "sum"],
        "alpha": [0, 0.4],
    }
)
@pytest.mark.filterwarnings("ignore:stacked")
def test_a_constant_of_the_criterion_is_an_error_in_units_of_y(
    form: str, criterion: str, unit: float, n_columns: int, reduction: str, alpha: float
) -> None:
    loss, power, name, compute = WITH_CONSTANT[criterion]
    y = unit * ((TABLE * [1, 3] if n_columns else TABLE[:, 0]) + 7)
    spread = np.sqrt(np.mean(y.var(axis=0)))  # of all columns alike
    options = {"criterion": loss, "criterion__reduction": reduction, "alpha": alpha}
    z = (y - y.mean(axis=0)) / spread
    own = {"standardize_targets": False, f"criterion__{name}": 0.3 * unit / spread}
    plain = fit_in(form, make_net(**options, **own), z, None)
    net = fit_in(form, make_net(**options, **{f"criterion__{name}": 0.3 * unit}), y, None)
    assert_same_modules(net, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.loss_curve_, np.multiply(plain.loss_curve_, spread**power), rtol=1e-5)
    assert net.get_params()[f"criterion__{name}"] == 0.3 * unit

    held_out = TensorDataset(torch.as_tensor(X[:9]), torch.as_tensor(y[:9]))
    net.set_params(train_split=predefined_split(held_out), batch_size=-1).fit(X, y)
    losses = compute(np.abs(y[:9] - net.predict(X[:9].astype(float))) / unit) * unit**power
    expected = losses.mean() if reduction == "mean" else losses.sum()
    assert net.history_[-1]["valid_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("criterion", WITH_CONSTANT)
def test_a_constant_is_scaled_wherever_the_criterion_is_built(criterion: str, tmp_path: Path) -> None:
    loss, _, name, _ = WITH_CONSTANT[criterion]
    y, std = TARGETS["line"], TARGETS["line"].std()
    net = make_net(criterion=loss).fit(X, y)
    assert getattr(net.criterion_, name) == pytest.approx(1 / std)  # torch's default of 1
    net.set_params(**{f"criterion__{name}": 5e3}).partial_fit(X, y)
    assert getattr(net.criterion_, name) == pytest.approx(5e3 / std)
    net.save_params(tmp_path / "net.safetensors", use_safetensors=True)
    loaded = clone(net)
    loaded.load_params(tmp_path / "net.safetensors", use_safetensors=True)
    for other in (loaded, pickle.loads(pickle.dumps(net)), net.set_params(warm_start=True).fit(X, 2 * y)):
        assert getattr(other.criterion_, name) == pytest.approx(5e3 / std)
    for method in ("fit", "partial_fit"):
        for warm_start in (False, True):
            sizes = {"module__in_features": 4, "module__out_features": 1}
            started = make_net(criterion=loss, warm_start=warm_start, **sizes).initialize()
            assert getattr(started.criterion_, name) == 1
            getattr(started, method)(X, y)
            assert getattr(started.criterion_, name) == pytest.approx(1 / std)


@each_pair(
    {
        "form": ["array", "steps", "dataset"],
        "name": list(TARGETS),
        "criterion": list(CRITERIA),
        "optimizer": [torch.optim.Adam, torch.optim.LBFGS],
    }
)
def test_history_is_in_units_of_y(form: str, name: str, criterion: str, optimizer: Any) -> None:
    y, loss = TARGETS[name], CRITERIA[criterion][0]
    net = make_net(criterion=loss, alpha=0, batch_size=-1, max_epochs=1, lr=1e-12, optimizer=optimizer)
    held_out = TensorDataset(torch.as_tensor(X[:9]), torch.as_tensor(y[:9]))
    fit_in(form, net.set_params(train_split=predefined_split(held_out)), y, None)
    score = mean_squared_error if loss is nn.MSELoss else mean_absolute_error
    row, y_pred = net.history_[-1], net.predict(X.astype(float))
    assert row["train_loss"] == pytest.approx(score(y, y_pred), rel=1e-5)
    assert row["valid_loss"] == pytest.approx(score(y[:9], y_pred[:9]), rel=1e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_lbfgs_searches_along_the_loss_that_it_descends(name: str) -> None:
    y = TARGETS[name]
    options = {"optimizer": torch.optim.LBFGS, "optimizer__line_search_fn": "strong_wolfe", "lr": 0.5}
    net = make_net(batch_size=-1, **options).fit(X, y)
    plain = make_net(batch_size=-1, **options, standardize_targets=False).fit(X, standardize(y)[0])
    assert_same_modules(net, plain)


@pytest.mark.parametrize("unit", [1e-19, 1e-4, 1e9, 1e18])
@pytest.mark.parametrize("origin", [0.0, -30.0])
def test_early_stopping_does_not_depend_on_the_unit(unit: float, origin: float) -> None:
    y = TABLE[:, 0]
    options = {"early_stopping": True, "n_iter_no_change": 2, "max_epochs": 12, "lr": 0.1}
    net, other = make_net(**options).fit(X, y), make_net(**options).fit(X, unit * (y + origin))
    assert other.n_iter_ == net.n_iter_ < 12
    np.testing.assert_allclose(other.predict(X) / unit - origin, net.predict(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("x_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [10.0, 1e7])
def test_seconds_since_1970_are_told_apart(spread: float, x_dtype: type) -> None:
    y = 1.6e9 + spread * TABLE[:, 0]
    net = make_net(max_epochs=1).fit(X, y)
    z, mean, std = standardize(y)
    plain = make_net(max_epochs=1, standardize_targets=False).fit(X, z)
    predicted = net.predict(X.astype(x_dtype))
    np.testing.assert_allclose((predicted - mean) / std, plain.predict(X), atol=1e-3)
    assert predicted.dtype == (np.float32 if x_dtype == np.float32 and spread == 1e7 else np.float64)


def test_statistics_of_single_precision_are_taken_in_double() -> None:
    y = (1.6e9 + 1e5 * TABLE[:, 0]).astype(np.float32)
    net = make_net(max_epochs=1).fit(X, y)
    exact = y.astype(np.float64)
    assert net.target_mean_ == pytest.approx([exact.mean()], rel=1e-14)
    assert net.target_std_ == pytest.approx([exact.std()], rel=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6])
def test_a_constant_column_keeps_its_unit(constant: float) -> None:
    y = np.stack([np.full(N, constant), TABLE[:, 0]], axis=1)
    net = make_net().fit(X, y)
    assert net.target_std_[0] == 1.0
    assert abs(net.predict(X)[:, 0] - constant).max() < 10
    weight = (np.arange(N) < 20) * 1.0  # constant where it counts
    y = np.where(np.arange(N) < 20, constant, 7.0)
    assert make_net().fit(X, y, sample_weight=weight).target_std_.tolist() == [1.0]


def test_later_chunks_are_in_the_units_of_the_first() -> None:
    y = TARGETS["line"]
    net, plain = make_net(), make_net(standardize_targets=False)
    mean, std = y[:20].mean(), y[:20].std()
    for chunk in (slice(0, 20), slice(20, N), slice(0, N)):
        net.partial_fit(X[chunk], y[chunk])
        plain.partial_fit(X[chunk], (y[chunk] - mean) / std)
    assert_same_modules(net, plain)
    assert net.target_std_ == pytest.approx([std])
    net.set_params(warm_start=True).fit(X, y)
    assert net.target_std_ == pytest.approx([std])
    assert net.set_params(warm_start=False).fit(X, y).target_std_ == pytest.approx([y.std()])


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("on_train", [False, True])
@pytest.mark.parametrize("use_caching", [False, True])
def test_scores_during_the_fit_are_those_of_predictions(name: str, on_train: bool, use_caching: bool) -> None:
    y = TARGETS[name]
    callbacks: list[Any] = []
    for scoring in ("r2", "neg_mean_absolute_error"):
        score = EpochScoring(scoring, on_train=on_train, use_caching=use_caching, name=scoring)
        callbacks.append((scoring, score))
    held_out = Dataset(X, y)
    net = make_net(callbacks=callbacks, train_split=predefined_split(held_out)).fit(X, y)
    y_pred = net.predict(X.astype(float))
    assert net.history_[-1]["r2"] == pytest.approx(r2_score(y, y_pred), rel=1e-4, abs=1e-5)
    error = mean_absolute_error(y, y_pred)
    assert net.history_[-1]["neg_mean_absolute_error"] == pytest.approx(-error, rel=1e-4)
    assert net.score(X, y) == pytest.approx(r2_score(y, y_pred), rel=1e-4, abs=1e-5)


def test_a_split_of_the_users_own_sees_y() -> None:
    seen = []

    def split(dataset: Any, y: Any) -> tuple[Any, None]:
        seen.append(y)
        return dataset, None

    make_net(train_split=split).fit(X, TARGETS["line"])
    np.testing.assert_allclose(seen[0], TARGETS["line"], rtol=1e-7)


@dataclass(frozen=True)
class Noted(KernelPartners):
    """Remembers what it draws."""

    drawn: list[np.ndarray] = field(default_factory=list)

    def draw(self, *args: Any) -> np.ndarray:
        self.drawn.append(super().draw(*args))
        return self.drawn[-1]


@pytest.mark.parametrize("form", ["array", "dataset"])
def test_a_kernel_measures_distances_in_units_of_y(form: str) -> None:
    partners = [Noted(0.1), Noted(0.1)]
    y = TABLE * [100.0, 1.0]  # the second column hardly counts
    for noted, standardize_targets in zip(partners, (True, False), strict=True):
        vicinity = Mixup(alpha=1.0, partners=noted)
        fit_in(form, make_net(vicinity=vicinity, standardize_targets=standardize_targets), y, None)
    np.testing.assert_array_equal(partners[0].drawn, partners[1].drawn)


@pytest.mark.parametrize("use_safetensors", [False, True])
def test_saved_nets_predict_the_same(tmp_path: Path, use_safetensors: bool) -> None:
    net = make_net().fit(X, TARGETS["table"])
    file = str(tmp_path / "net")
    net.save_params(f_params=file, use_safetensors=use_safetensors)
    other = make_net() if use_safetensors else make_net(max_epochs=0).fit(X, TARGETS["table"])
    other.load_params(f_params=file, use_safetensors=use_safetensors)
    np.testing.assert_array_equal(other.predict(X), net.predict(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net)).predict(X), net.predict(X))


@pytest.mark.parametrize("standardize_targets", [False, True])
def test_weights_without_mean_and_spread_are_warned_of(tmp_path: Path, standardize_targets: bool) -> None:
    net = make_net(standardize_targets=standardize_targets).fit(X, TABLE)
    net.save_params(f_params=tmp_path / "net")
    sizes = {"module__in_features": 4, "module__out_features": 2}
    other = make_net(**sizes, standardize_targets=standardize_targets).initialize()
    if standardize_targets:
        with pytest.warns(UserWarning, match=r"no mean and spread of y.*use_safetensors=True"):
            other.load_params(f_params=tmp_path / "net")
    else:
        other.load_params(f_params=tmp_path / "net")
        np.testing.assert_array_equal(other.predict(X), net.predict(X))


@pytest.mark.parametrize("standardize_targets", [False, True])
def test_a_file_tells_whether_targets_were_standardised(tmp_path: Path, standardize_targets: bool) -> None:
    net = make_net(standardize_targets=standardize_targets).fit(X, TABLE)
    net.save_params(f_params=tmp_path / "net", use_safetensors=True)
    other = make_net(standardize_targets=not standardize_targets)
    other.load_params(f_params=tmp_path / "net", use_safetensors=True)
    np.testing.assert_array_equal(other.predict(X), net.predict(X))


def double(values: torch.Tensor) -> torch.Tensor:
    return 2 * values


def test_a_link_of_the_users_own_is_applied_to_units_of_y() -> None:
    net = make_net().fit(X, TARGETS["line"])
    expected = 2 * net.predict(X.astype(float))
    linked = make_net(predict_nonlinearity=double).fit(X, TARGETS["line"])
    np.testing.assert_allclose(linked.predict(X.astype(float)), expected, rtol=1e-6)


# -- where y is left as it is ------------------------------------------------------------


class Pinball(nn.Module):
    """The loss of three quantiles, of a head of three outputs."""

    def forward(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        levels = torch.tensor([0.1, 0.5, 0.9])
        return torch.maximum(levels * (y - output), (levels - 1) * (y - output)).mean()


class Stream(IterableDataset):  # type: ignore[type-arg]
    """Rows one after the other."""

    def __iter__(self) -> Any:
        return iter(zip(torch.as_tensor(X), torch.as_tensor(TABLE[:, :1]).float(), strict=True))


class OwnLoss(MixupRegressor):
    """Has a loss of its own."""

    def get_loss(self, y_pred: Any, y_true: Any, *args: Any, **kwargs: Any) -> Any:
        return super().get_loss(y_pred, y_true, *args, **kwargs)


LEFT = {
    "Huber": (MixupRegressor, {"criterion": nn.HuberLoss(delta=0.5)}, 1),
    "smooth": (MixupRegressor, {"criterion": nn.SmoothL1Loss()}, 1),
    "Poisson": (MixupRegressor, {"criterion": nn.PoissonNLLLoss}, 1),
    "quantiles": (MixupRegressor, {"criterion": Pinball}, 3),
    "own loss": (OwnLoss, {}, 1),
}


@pytest.mark.parametrize("case", LEFT)
def test_a_criterion_with_units_of_its_own_is_given_y(case: str) -> None:
    owner, options, n_outputs = LEFT[case]
    options = QUICK | options | {"max_epochs": 2, "lam_per": "batch"}
    fits = []
    for standardize_targets in (True, False):
        net = owner(**options, module__out_features=n_outputs, standardize_targets=standardize_targets)
        fits.append(net.fit(X, 3 * TABLE[:, 0] + 1))
    assert_same_modules(*fits)
    np.testing.assert_array_equal(fits[0].predict(X), fits[1].predict(X))
    assert fits[0].loss_curve_ == fits[1].loss_curve_
    with pytest.raises(AttributeError, match="none are standardised"):
        _ = fits[0].target_std_


def test_a_stream_is_left_as_it_is() -> None:
    module = nn.Linear(4, 1)
    nets = [make_net(module=module, standardize_targets=on, train_split=None) for on in (True, False)]
    assert_same_modules(*(net.fit(Stream()) for net in nets))


@pytest.mark.parametrize(
    "end", [nn.Sigmoid(), nn.Softplus(), nn.ReLU(), nn.Tanh(), nn.Hardtanh(), nn.Softmax(dim=1)], ids=str
)
@pytest.mark.parametrize("scaled", [False, True])
def test_a_bounded_module_is_refused(end: nn.Module, scaled: bool) -> None:
    class Scale(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (3 * x + 1).squeeze(1)

    module = nn.Sequential(nn.Linear(4, 1), end, *([Scale()] if scaled else []))
    with pytest.raises(ValueError, match=r"any size and sign .* Set standardize_targets=False"):
        make_net(module=module).fit(X, TABLE[:, 0])
    make_net(module=module, standardize_targets=False).fit(X, TABLE[:, 0])


class Copied(nn.Linear):
    """One number of a row for both columns."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).expand(-1, 2)


FROZEN = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2).requires_grad_(False))


@pytest.mark.parametrize(
    "module", [Copied(4, 1), FROZEN, nn.Linear(4, 2)], ids=["copied", "frozen", "linear"]
)
def test_a_module_of_any_range_is_trained(module: nn.Module) -> None:
    y = TABLE[:, :2]
    net = make_net(module=module, alpha=0).fit(X, y)
    expected = net.module_(torch.tensor(X)).detach().numpy() * y.std(axis=0) + y.mean(axis=0)
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_the_option_is_true_or_false(value: Any) -> None:
    with pytest.raises(TypeError, match="standardize_targets must be"):
        make_net(standardize_targets=value).fit(X, TABLE)


def test_a_warm_start_keeps_mean_and_spread_of_the_first_fit() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3))
    net = MixupRegressor(max_epochs=1, warm_start=True).fit(rows, rows[:, 0])
    first = net.target_mean_, net.target_std_
    np.testing.assert_allclose(first, [rows[:, :1].mean(axis=0), rows[:, :1].std(axis=0)])
    net.fit(rows, 9 + 5 * rows[:, 0])
    np.testing.assert_array_equal((net.target_mean_, net.target_std_), first)
    net.set_params(warm_start=False).fit(rows, 9 + 5 * rows[:, 0])
    np.testing.assert_allclose(net.target_mean_, 9 + 5 * first[0])
