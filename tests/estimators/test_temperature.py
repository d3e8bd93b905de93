"""Temperature scaling by held-out rows: its value, where it is applied, and where there is none."""

from collections.abc import Callable
import math
from pathlib import Path
import pickle
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

from sk_mixup import MixupClassifier, MixupEnsembleClassifier, MixupRegressor, SemiSupervisedMixupClassifier
from sk_mixup.estimators._temperature import HeldOutScores, find_temperature
from tests.helpers.stacking import fit_stacked

QUICK: dict[str, Any] = {"max_epochs": 3, "lr": 0.02, "random_state": 0, "module__hidden_layer_sizes": (8,)}
HELD_OUT = np.arange(120) % 3 == 0


def split(dataset: Any, y: Any = None, **_: Any) -> tuple[Any, Any]:
    """Hold out every third row."""
    return Subset(dataset, np.flatnonzero(~HELD_OUT).tolist()), Subset(
        dataset, np.flatnonzero(HELD_OUT).tolist()
    )


def make_rows(n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(120, 4)).astype(np.float32)
    noise = generator.gumbel(scale=0.5, size=(120, n_classes))
    return X, (X[:, :n_classes] + noise).argmax(axis=1)


def compute_logits(net: Any, X: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net.module_(torch.as_tensor(X)).double().numpy()


def find_best(nll: Callable[[float], float]) -> float:
    """Return the temperature of the lowest loss, by a plain search."""

    def loss(log: float) -> float:
        return nll(math.exp(log)) + log**2 / (2 * 0.3**2)

    return math.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10}).x)


def softmax_nll(logits: np.ndarray, target: np.ndarray, weight: Any = 1.0) -> Callable[[float], float]:
    return lambda T: float(-(weight * (target * log_softmax(logits / T, axis=1)).sum(axis=1)).sum())


def sigmoid_nll(logits: np.ndarray, target: np.ndarray) -> Callable[[float], float]:
    return lambda T: -float((target * log_expit(logits / T) + (1 - target) * log_expit(-logits / T)).sum())


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize(
    ("form", "is_weighted"),
    [(form, weighted) for form in ("arrays", "stepwise", "stacked") for weighted in (False, True)]
    + [("dataset", False)],  # which takes no weights
)
def test_temperature_of_labels_has_the_lowest_penalised_loss(
    alpha: float, is_weighted: bool, form: str
) -> None:
    X, y = make_rows()
    weight = np.random.default_rng(1).uniform(0.5, 5, 120) if is_weighted else None
    net = MixupClassifier(alpha=alpha, train_split=split, **QUICK)
    if form == "dataset":
        net.fit(TensorDataset(torch.as_tensor(X), torch.as_tensor(y)))
    elif form == "stacked":
        fit_stacked([(net, X, y, {"sample_weight": weight})])
    else:
        options = {"callbacks": [BatchTimer()]} if form == "stepwise" else {}
        net.set_params(**options).fit(X, y, sample_weight=weight)
    logits, target = compute_logits(net, X[HELD_OUT]), np.eye(3)[y[HELD_OUT]]
    counts = 1.0 if weight is None else weight[HELD_OUT] / weight[HELD_OUT].mean()
    assert net.temperature_ == pytest.approx(find_best(softmax_nll(logits, target, counts)), abs=1e-6)
    assert net.temperature_ != 1
    expected = softmax(compute_logits(net, X) / net.temperature_, axis=1)
    np.testing.assert_allclose(net.predict_proba(X), expected, atol=1e-6)
    np.testing.assert_allclose(net.predict_log_proba(X), np.log(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({"ignore_index": 2}, [1, 1, 0]),
        ({"weight": [1.0, 2.0, 0.5]}, [1, 2, 0.5]),
        ({"weight": [1.0, 2.0, 0.5], "ignore_index": 0}, [0, 2, 0.5]),
        ({"weight": [1.0, 2.0, 0.5], "reduction": "sum"}, [1, 2, 0.5]),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["array", "dataset"])
def test_rows_count_as_they_do_in_the_criterion(options: Any, counts: list[float], form: str) -> None:
    X, y = make_rows()
    given = {f"criterion__{name}": value for name, value in options.items()}
    net = MixupClassifier(train_split=split, **QUICK, **given)
    net.fit(*((X, y) if form == "array" else (TensorDataset(torch.as_tensor(X), torch.as_tensor(y)),)))
    weight = np.array(counts)[y[HELD_OUT]]
    weight = weight * (np.count_nonzero(weight) / weight.sum())
    logits, target = compute_logits(net, X[HELD_OUT]), np.eye(3)[y[HELD_OUT]]
    assert net.temperature_ == pytest.approx(find_best(softmax_nll(logits, target, weight)), abs=1e-6)


@pytest.mark.parametrize("far", [36.0, 40.0, 90.0, 700.0])
@pytest.mark.parametrize("label", [0, 1])
def test_one_sure_label_counts_by_its_logit_alone(far: float, label: int) -> None:
    logits, Y = np.full((200, 1), 3.0), np.ones((200, 1))
    Y[:10] = 0
    logits[0], Y[0] = far if label == 0 else -far, label
    log_proba = log_expit(logits)[:, None]
    found = find_temperature(HeldOutScores.of_labels(log_proba, Y, np.ones(200)))
    assert found == pytest.approx(find_best(sigmoid_nll(logits, Y)), rel=1e-5)


def test_temperature_of_several_labels_counts_each() -> None:
    X, y = make_rows()
    Y = np.stack([y > 0, X[:, 0] > 0.3], axis=1).astype(int)
    net = MixupClassifier(train_split=split, **QUICK).fit(X, Y)
    best = find_best(sigmoid_nll(compute_logits(net, X[HELD_OUT]), Y[HELD_OUT]))
    assert net.temperature_ == pytest.approx(best, abs=1e-6)
    np.testing.assert_allclose(net.predict_proba(X), expit(compute_logits(net, X) / best), atol=1e-5)


def test_temperature_of_soft_labels_is_towards_their_distribution() -> None:
    X, y = make_rows()
    soft = 0.7 * np.eye(3)[y] + 0.1
    net = MixupClassifier(train_split=split, **QUICK).fit(X, soft)
    best = find_best(softmax_nll(compute_logits(net, X[HELD_OUT]), soft[HELD_OUT]))
    assert net.temperature_ == pytest.approx(best, abs=1e-6)


def test_temperature_of_one_logit_for_two_classes() -> None:
    X, y = make_rows(2)
    net = MixupClassifier(
        criterion=nn.BCEWithLogitsLoss, module__out_features=1, train_split=split, **QUICK
    ).fit(X, y)
    logits = np.hstack([np.zeros((40, 1)), compute_logits(net, X[HELD_OUT])])
    best = find_best(softmax_nll(logits, np.eye(2)[y[HELD_OUT]]))
    assert net.temperature_ == pytest.approx(best, abs=1e-6)


class BatchTimer(Callback):
    """Looks on at each batch, so that a net is trained step by step."""

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        """Do nothing."""


class Members(nn.Module):
    """Three members, each of which returns logits."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).view(-1, 3, 3)


def test_members_of_an_implicit_ensemble_are_scaled_each() -> None:
    X, y = make_rows()
    options = {name: value for name, value in QUICK.items() if not name.startswith("module__")}
    net = MixupClassifier(Members, train_split=split, **options).fit(X, y)
    logits = compute_logits(net, X)

    def nll(T: float) -> float:
        proba = softmax(logits[HELD_OUT] / T, axis=2).mean(axis=1)
        return -float(np.log(proba[np.arange(len(proba)), y[HELD_OUT]]).sum())

    assert net.temperature_ == pytest.approx(find_best(nll), abs=1e-6)
    expected = softmax(logits / net.temperature_, axis=2).mean(axis=1)
    np.testing.assert_allclose(net.predict_proba(X), expected, atol=1e-6)


def test_members_with_several_labels_are_scaled_each() -> None:
    X, y = make_rows()
    Y = np.eye(3, dtype=int)[y] | np.eye(3, dtype=int)[(X[:, 0] > 0).astype(int)]
    options = {name: value for name, value in QUICK.items() if not name.startswith("module__")}
    net = MixupClassifier(Members, train_split=split, **options).fit(X, Y)
    logits, target = compute_logits(net, X), Y[HELD_OUT]

    def nll(T: float) -> float:
        proba = expit(logits[HELD_OUT] / T).mean(axis=1)
        return -float((target * np.log(proba) + (1 - target) * np.log1p(-proba)).sum())

    assert net.temperature_ == pytest.approx(find_best(nll), abs=1e-6)
    np.testing.assert_allclose(net.predict_proba(X), expit(logits / net.temperature_).mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e6])
def test_temperature_does_not_depend_on_the_scale_of_weights(scale: float) -> None:
    X, y = make_rows()
    weight = np.random.default_rng(1).uniform(0.5, 5, 120)
    first, second = (
        MixupClassifier(train_split=split, **QUICK).fit(X, y, sample_weight=factor * weight)
        for factor in (1, scale)
    )
    assert first.temperature_ == pytest.approx(second.temperature_, rel=1e-3)


def test_few_rows_that_are_all_right_ask_for_no_extreme() -> None:
    generator = np.random.default_rng(0)
    y = np.arange(200) % 2
    X = (generator.normal(size=(200, 4)) + 8 * y[:, None]).astype(np.float32)
    net = MixupClassifier(random_state=0, max_epochs=30).fit(X, y)
    assert 0.4 < net.temperature_ < 1


# -- where there is none -----------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"calibrate": False, "train_split": split},
        {"early_stopping": False},
        {"train_split": None},
        {"early_stopping": False, "train_split": ValidSplit(5)},
        {"predict_nonlinearity": nn.Softmax(dim=-1), "train_split": split},
    ],
    ids=["off", "no stopping", "no split", "split without stopping", "own link"],
)
def test_without_held_out_rows_or_a_link_of_ours_it_is_one(options: dict[str, Any]) -> None:
    X, y = make_rows()
    net = MixupClassifier(**QUICK, **options).fit(X, y)
    assert net.temperature_ == 1
    np.testing.assert_allclose(net.predict_proba(X), softmax(compute_logits(net, X), axis=1), atol=1e-6)


def test_maps_of_labels_are_not_scaled() -> None:
    X = np.random.default_rng(0).normal(size=(120, 1, 4, 4)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    net = MixupClassifier(nn.Conv2d(1, 2, 1), train_split=split, max_epochs=2, random_state=0).fit(X, y)
    assert net.temperature_ == 1


def test_a_regressor_has_no_such_option() -> None:
    assert "calibrate" not in MixupRegressor().get_params()
    assert not hasattr(MixupRegressor(), "temperature_")


def test_a_new_fit_starts_anew_and_partial_fit_keeps_it() -> None:
    X, y = make_rows()
    net = MixupClassifier(train_split=split, **QUICK).fit(X, y)
    found = net.temperature_
    net.partial_fit(X, y)
    assert net.temperature_ == found
    net.set_params(early_stopping=False).fit(X, y)
    assert net.temperature_ == 1
    net.set_params(early_stopping=True).fit(X, y)
    assert net.temperature_ == found


def test_a_fit_that_fails_leaves_the_earlier_temperature() -> None:
    X, y = make_rows()
    net = MixupClassifier(train_split=split, **QUICK).fit(X, y)
    found, state = net.temperature_, set(vars(net))
    with pytest.raises(ValueError, match="X"):
        net.fit(np.full_like(X, np.nan), y)
    assert net.temperature_ == found
    assert set(vars(net)) == state


@pytest.mark.parametrize("value", ["yes", 1.5, None])
def test_calibrate_is_a_bool(value: Any) -> None:
    X, y = make_rows()
    with pytest.raises((TypeError, ValueError), match="calibrate"):
        MixupClassifier(calibrate=value).fit(X, y)


# -- copies ------------------------------------------------------------------------------


def test_copies_predict_alike() -> None:
    X, y = make_rows()
    net = MixupClassifier(train_split=split, **QUICK).fit(X, y)
    copy = pickle.loads(pickle.dumps(net.set_params(train_split=None)))
    assert copy.temperature_ == net.temperature_
    np.testing.assert_array_equal(copy.predict_proba(X), net.predict_proba(X))


def test_weights_tell_of_a_temperature_that_a_net_without_classes_cannot_keep(tmp_path: Path) -> None:
    X, y = make_rows()
    net = MixupClassifier(train_split=split, **QUICK).fit(X, y)
    net.save_params(f_params=tmp_path / "weights.pt")
    other = MixupClassifier(**QUICK, module__in_features=4, module__out_features=3).initialize()
    with pytest.warns(UserWarning, match="temperature"):
        other.load_params(f_params=tmp_path / "weights.pt")
    seen = MixupClassifier(**{**QUICK, "max_epochs": 0}).fit(X, y)
    seen.load_params(f_params=tmp_path / "weights.pt")
    np.testing.assert_array_equal(seen.predict_proba(X), net.predict_proba(X))


def test_the_semi_supervised_classifier_scales_by_labelled_rows() -> None:
    X, y = make_rows()
    labels = np.where(np.arange(120) % 6 < 4, y, -1)
    is_held_out = np.arange(80) % 3 == 0
    rows = np.flatnonzero(labels >= 0)[is_held_out]

    def hold_out(dataset: Any, y: Any = None, **_: Any) -> tuple[Any, Any]:
        parts = (np.flatnonzero(chosen).tolist() for chosen in (~is_held_out, is_held_out))
        train, valid = (Subset(dataset, part) for part in parts)
        return train, valid

    net = SemiSupervisedMixupClassifier(early_stopping=True, train_split=hold_out, **QUICK).fit(X, labels)
    best = find_best(softmax_nll(compute_logits(net, X[rows]), np.eye(3)[y[rows]]))
    assert net.temperature_ == pytest.approx(best, abs=1e-6)


# -- ensembles ---------------------------------------------------------------------------


def test_an_ensemble_has_one_temperature_that_all_held_out_rows_tell_of() -> None:
    X, y = make_rows()
    model = MixupEnsembleClassifier(MixupClassifier(**QUICK), n_members=3, random_state=0).fit(X, y)
    logits = np.empty((120, 3))
    for number, member in enumerate(model.estimators_):
        rows = model.held_out_by_ == number
        logits[rows] = compute_logits(member, X[rows])
    best = find_best(softmax_nll(logits, np.eye(3)[y]))
    assert {round(member.temperature_, 6) for member in model.estimators_} == {round(best, 6)}
    np.testing.assert_allclose(model.oof_predict_proba_, softmax(logits / best, axis=1), atol=1e-6)
    members = np.stack([softmax(compute_logits(m, X) / best, axis=1) for m in model.estimators_])
    np.testing.assert_allclose(model.predict_proba(X), members.mean(axis=0), atol=1e-6)


def test_members_keep_nothing_of_the_search() -> None:
    X, y = make_rows()
    model = MixupEnsembleClassifier(MixupClassifier(**QUICK), n_members=3, random_state=0)
    model.set_params(estimator__calibrate=False).fit(X, y)
    assert {member.temperature_ for member in model.estimators_} == {1.0}
    assert all("_find_temperature" not in vars(member) for member in model.estimators_)


def test_partial_fit_leaves_the_temperature_of_an_earlier_fit() -> None:
    rows, y = np.random.default_rng(0).normal(size=(200, 4)), np.arange(200) % 3
    net = MixupClassifier(max_epochs=2, random_state=0)
    assert net.partial_fit(rows, y).temperature_ == 1
    found = net.fit(rows, y).temperature_
    assert found != 1
    assert net.partial_fit(rows, y).temperature_ == found
    assert net.set_params(early_stopping=False).fit(rows, y).temperature_ == 1
