"""Options that are set on a fitted net hold at once, in later fits, in `get_params` and in clones."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import Dataset
import torch
from torch import nn
from torch.utils.data import DataLoader

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor, SemiSupervisedMixupClassifier
from tests.helpers.nets import Net, get_weights, is_equal

N = 40
X = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
CODES = np.arange(N) % 3


class Mixed(MixupNetMixin, NeuralNetClassifier):
    """A classifier of skorch's that mixes."""


class OwnLoader(DataLoader):
    """A loader of the user's own."""


class OwnDataset(Dataset):
    """A data set of the user's own."""


OWNERS: dict[str, tuple[type, dict[str, Any]]] = {
    "net": (Mixed, {"module": Net, "criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0}),
    "classifier": (MixupClassifier, {"early_stopping": False}),
    "regressor": (MixupRegressor, {"early_stopping": False}),
    "semi-supervised": (SemiSupervisedMixupClassifier, {"early_stopping": False}),
}


def make(name: str, **options: Any) -> Any:
    owner, own = OWNERS[name]
    given = {"lr": 0.01, "batch_size": 8, "optimizer": torch.optim.AdamW, "max_epochs": 2, "random_state": 0}
    return owner(**{**own, **given, **options})


def fit(net: Any, name: str) -> Any:
    return net.fit(X, X[:, 0] if name == "regressor" else CODES)


OF_OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer__weight_decay": 5.0},
    {"optimizer__lr": 0.5},
    {"optimizer": torch.optim.SGD},
    {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    {"optimizer__momentum": 0.9, "lr": 0.1, "optimizer": torch.optim.SGD},
]
OPTIONS: list[dict[str, Any]] = [
    *OF_OPTIMIZERS,
    {"iterator_train__shuffle": False},
    {"iterator_train__batch_size": 5},
    {"iterator_train__batch_size": 5, "optimizer__weight_decay": 5.0},
    {"iterator_train": OwnLoader},
    {"dataset": OwnDataset},
]
CASES = [(name, options) for name in OWNERS for options in OPTIONS]
CASES = [(name, options) for name, options in CASES if name != "semi-supervised" or options in OF_OPTIMIZERS]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_later_fit_is_that_of_a_net_made_so(name: str, options: dict[str, Any]) -> None:
    net = fit(make(name), name)
    plain = get_weights(net)
    fit(net.set_params(**options), name)
    expected = get_weights(fit(make(name, **options), name))
    assert is_equal(get_weights(net), expected)
    assert is_equal(get_weights(fit(clone(net), name)), expected)
    assert is_equal(plain, expected) == ("dataset" in options)
    assert {key: net.get_params()[key] for key in options} == options


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_training_goes_on_with_an_option(name: str, options: dict[str, Any]) -> None:
    net = fit(make(name), name)
    before = get_weights(net)
    net.set_params(**options)
    assert is_equal(get_weights(net), before)
    if not options.keys() & {"optimizer", "optimizer__weight_decay", "optimizer__lr"}:
        return
    expected = fit(make(name, **options), name).optimizer_
    assert type(net.optimizer_) is type(expected)
    for ours, theirs in zip(net.optimizer_.param_groups, expected.param_groups, strict=True):
        assert {**ours, "params": []} == {**theirs, "params": []}
        assert [part.shape for part in ours["params"]] == [part.shape for part in theirs["params"]]
    net.partial_fit(X, X[:, 0] if name == "regressor" else CODES)
    assert not is_equal(get_weights(net), before)


@pytest.mark.parametrize("name", ["net", "classifier"])
def test_batches_of_a_prediction_follow_an_option(name: str) -> None:
    net = fit(make(name, dataset=OwnDataset), name).set_params(iterator_valid__batch_size=7)
    assert [len(output) for output in net.forward_iter(X)] == [7, 7, 7, 7, 7, 5]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["net", "classifier"])
def test_option_is_set_through_a_pipeline_and_a_search(name: str, options: dict[str, Any]) -> None:
    pipeline = Pipeline([("scale", StandardScaler()), ("net", make(name))]).fit(X, CODES)
    within = {f"net__{key}": value for key, value in options.items()}
    search = GridSearchCV(make(name), {"alpha": [0.5]}, cv=2).fit(X, CODES)
    nets = pipeline.set_params(**within)["net"], search.best_estimator_.set_params(**options)
    assert all({key: net.get_params()[key] for key in options} == options for net in nets)
    expected = Pipeline([("scale", StandardScaler()), ("net", make(name, **options))]).fit(X, CODES)
    assert is_equal(get_weights(pipeline.fit(X, CODES)["net"]), get_weights(expected["net"]))
    assert is_equal(get_weights(fit(nets[1], name)), get_weights(fit(make(name, alpha=0.5, **options), name)))


@pytest.mark.parametrize("name", OWNERS)
def test_group_of_weights_is_changed_at_hand_only(name: str) -> None:
    net = fit(make(name), name)
    before, weights = net.get_params().keys(), get_weights(net)
    net.set_params(optimizer__param_groups__0__lr=0.3)
    assert net.optimizer_.param_groups[0]["lr"] == 0.3
    assert net.get_params().keys() == before
    assert is_equal(get_weights(fit(net, name)), weights)


@pytest.mark.parametrize("options", [{"optimizer": torch.optim.SGD}, {"optimizer": 5, "lr": 1.0}], ids=str)
@pytest.mark.parametrize("name", OWNERS)
def test_refused_option_leaves_the_net_as_it_was(name: str, options: dict[str, Any]) -> None:
    net = fit(make(name, optimizer__betas=(0.9, 0.99)), name)
    before, optimizer = net.get_params(deep=False), net.optimizer_
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'betas'|not callable"):
        net.set_params(**options, max_epochs=7, alpha=0.9)  # SGD takes no betas
    assert net.get_params(deep=False) == before
    assert net.optimizer_ is optimizer
    net.partial_fit(X, X[:, 0] if name == "regressor" else CODES)


# -- what follows from options of ours ---------------------------------------------------


def count_trained(net: Any) -> int:
    return sum(batch.get("train_batch_size", 0) for batch in net.history[-1]["batches"])


WIDE = np.random.default_rng(1).normal(size=(120, 5)).astype(np.float32)
WIDE_CODES = np.arange(120) % 3


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_early_stopping_that_is_turned_off_holds_out_no_rows(name: str) -> None:
    net = make(name, early_stopping=True).fit(WIDE, WIDE_CODES)
    assert count_trained(net) == 108
    net.set_params(early_stopping=False).partial_fit(WIDE, WIDE_CODES)
    assert count_trained(net) == 120
    assert "valid_loss" not in net.history[-1]


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_early_stopping_that_is_turned_on_stops(name: str) -> None:
    still = {"warm_start": True, "lr": 1e-30, "max_epochs": 6}
    net = make(name, early_stopping=False, **still).fit(WIDE, WIDE_CODES)
    assert net.n_iter_ == 6
    with pytest.warns(UserWarning, match="early_stopping must find a best epoch"):
        net.set_params(early_stopping=True, n_iter_no_change=1).fit(WIDE, WIDE_CODES)
    assert net.n_iter_ == 6 + 2
    with pytest.warns(UserWarning, match="early_stopping must find a best epoch"):
        net.set_params(n_iter_no_change=3).fit(WIDE, WIDE_CODES)
    assert net.n_iter_ == 6 + 2 + 4


@pytest.mark.parametrize("kind", ["labels", "several", "one logit"])
def test_smoothing_that_is_set_holds_in_later_fits(kind: str) -> None:
    y = {"labels": CODES, "several": np.eye(3, dtype=int)[CODES], "one logit": CODES % 2}[kind]
    options = {"criterion": nn.BCEWithLogitsLoss, "module__out_features": 1} if kind == "one logit" else {}
    net = make("classifier", alpha=0, lr=1e-12, batch_size=-1, **options).fit(X, y)
    plain = net.loss_curve_[-1]
    net.set_params(label_smoothing=0.5).partial_fit(X, y)
    logits = torch.as_tensor(net.module_(torch.as_tensor(X))).detach()
    target = torch.eye(3)[CODES] if kind != "one logit" else torch.as_tensor(y, dtype=torch.float32)[:, None]
    if kind == "labels":
        expected = nn.functional.cross_entropy(logits, torch.as_tensor(y), label_smoothing=0.5)
    else:
        expected = nn.functional.binary_cross_entropy_with_logits(logits, 0.5 * target + 0.25)
    assert net.loss_curve_[-1] == pytest.approx(float(expected), rel=1e-5)
    assert net.loss_curve_[-1] != pytest.approx(plain, rel=1e-4)
    net.set_params(label_smoothing=0.0).partial_fit(X, y)
    assert net.loss_curve_[-1] == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"criterion": nn.PoissonNLLLoss}, {"standardize_targets": False}, {"criterion": nn.HuberLoss}],
    ids=str,
)
@pytest.mark.parametrize("way", ["partial_fit", "warm start"])
def test_a_scale_that_another_criterion_lacks_is_refused(options: dict[str, Any], way: str) -> None:
    counts = np.random.default_rng(0).poisson(20, size=N).astype(float)
    net = make("regressor").fit(X, counts)
    before = net.predict(X)
    net.set_params(**options, warm_start=way == "warm start")
    with pytest.raises(ValueError, match="criterion and standardize_targets must scale targets as"):
        (net.fit if way == "warm start" else net.partial_fit)(X, counts)
    np.testing.assert_array_equal(net.set_params(criterion=nn.MSELoss).predict(X), before)
    anew = net.set_params(**options, warm_start=False).fit(X, counts)
    np.testing.assert_array_equal(anew.predict(X), make("regressor", **options).fit(X, counts).predict(X))


def test_a_criterion_of_the_same_scale_goes_on() -> None:
    net = make("regressor").fit(X, 100 + 10 * X[:, 0])
    mean = net.target_mean_
    net.set_params(criterion=nn.L1Loss).partial_fit(X, 7 * X[:, 0])
    np.testing.assert_array_equal(net.target_mean_, mean)


class Scaled(nn.CrossEntropyLoss):
    """Has a weight of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return super().forward(self.scale * x, y)


def test_weights_of_a_criterion_that_is_built_anew_are_trained() -> None:
    net = make("classifier", criterion=Scaled, optimizer=torch.optim.SGD).fit(X, CODES)
    net.set_params(label_smoothing=0.1).partial_fit(X, CODES)
    trained = [p for group in net.optimizer_.param_groups for p in group["params"]]
    assert any(p is net.criterion_.scale for p in trained)
    assert net.criterion_.scale != 1
    assert net.criterion_.label_smoothing == 0.1


def test_smoothing_that_the_criterion_does_not_take_is_refused_by_the_next_fit() -> None:
    net = make("classifier", criterion=nn.MultiMarginLoss).fit(X, CODES)
    before = net.predict_proba(X)
    with pytest.raises(ValueError, match="label_smoothing"):
        net.set_params(label_smoothing=0.1).partial_fit(X, CODES)
    np.testing.assert_array_equal(net.predict_proba(X), before)
    with pytest.raises(ValueError, match="label_smoothing"):
        net.partial_fit(X, CODES)
    net.set_params(label_smoothing=0.0).partial_fit(X, CODES)


class Longer(Callback):
    """Sets options of early stopping within a fit."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if len(net.history) == 2:
            net.set_params(n_iter_no_change=30, early_stopping=True)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_options_of_early_stopping_that_a_callback_sets_are_for_the_next_fit(early_stopping: bool) -> None:
    net = make("classifier", max_epochs=5, early_stopping=early_stopping, callbacks=[Longer()])
    assert net.fit(WIDE, WIDE_CODES).n_iter_ == 5
    assert (
        dict(net.set_params(warm_start=True).fit(WIDE, WIDE_CODES).callbacks_)["early_stopping"].patience
        == 30
    )
