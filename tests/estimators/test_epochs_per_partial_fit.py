"""Calls of `partial_fit` as parts of one training: as many epochs as wanted, and schedules that go on."""

from collections.abc import Callable
import copy
from functools import partial
import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV, KFold
from skorch.callbacks import Callback, LRScheduler
from torch.optim.lr_scheduler import OneCycleLR

from sk_mixup import MixupClassifier, MixupGAN, MixupRegressor, SemiSupervisedMixupClassifier
from tests.helpers.nets import get_weights, is_equal

OWNERS = [MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier]
OWN = {"module__hidden_layer_sizes": (6,), "early_stopping": False, "batch_size": 16, "random_state": 0}
PLAYERS = {"generator__hidden_layer_sizes": (4,), "discriminator__hidden_layer_sizes": (4,)}
GAN = partial(MixupGAN, steps_per_epoch=1, batch_size=8, random_state=0, **PLAYERS)
X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def make_net(owner: Any, **options: Any) -> Any:
    return owner(**options) if owner is GAN else owner(**OWN, **options)


@pytest.mark.parametrize("owner", [*OWNERS, GAN])
@pytest.mark.parametrize(("each", "expected"), [(None, [4, 8]), (1, [1, 2]), (3, [3, 6])])
def test_a_call_runs_its_epochs(owner: Any, each: int | None, expected: list[int]) -> None:
    net = make_net(owner, max_epochs=4, epochs_per_partial_fit=each)
    assert [len(net.partial_fit(X, Y).history_) for _ in expected] == expected
    assert clone(net).get_params()["epochs_per_partial_fit"] == each
    assert len(net.fit(X, Y).history_) == 4


@pytest.mark.parametrize("owner", [*OWNERS, GAN])
@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (0, ValueError, r"epochs_per_partial_fit must be at least 1; got 0\. Use 1 for one pass"),
        (1.5, TypeError, r"epochs_per_partial_fit must be an integer; got 1\.5\."),
        (True, TypeError, r"epochs_per_partial_fit must be an integer; got True\."),
    ],
)
def test_other_values_are_refused(owner: Any, value: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make_net(owner, epochs_per_partial_fit=value).partial_fit(X, Y)


@pytest.mark.parametrize("owner", OWNERS)
def test_calls_of_one_epoch_are_calls_of_max_epochs_that_is_one(owner: Any) -> None:
    """The option changes how many epochs a call runs, and nothing of what they compute."""
    net, other = (
        make_net(owner, max_epochs=9, epochs_per_partial_fit=1, cooldown_epochs=0)
        if owner is not SemiSupervisedMixupClassifier
        else make_net(owner, max_epochs=9, epochs_per_partial_fit=1, rampup_epochs=0)
        for _ in range(2)
    )
    other.set_params(max_epochs=1, epochs_per_partial_fit=None)
    for rows in (slice(0, 20), slice(20, 40), slice(10, 30)):
        classes = {} if owner is MixupRegressor else {"classes": [0, 1]}
        net.partial_fit(X[rows], Y[rows], **classes)
        other.partial_fit(X[rows], Y[rows], **classes)
    assert is_equal(get_weights(net), get_weights(other))


class Mixing(Callback):
    """Which epochs have mixed batches."""

    def __init__(self) -> None:
        self.kinds: list[bool] = []

    def on_batch_begin(self, net: Any, batch: Any = None, training: bool = False, **_: Any) -> None:
        if training and len(self.kinds) < len(net.history):
            self.kinds.append(bool((np.asarray(batch.lam) != 1).any()) if batch.lam is not None else False)


def list_kinds(each: int | None, n_calls: int, **options: Any) -> list[bool]:
    watcher = Mixing()
    net = make_net(MixupClassifier, alpha=1.0, epochs_per_partial_fit=each, callbacks=[watcher], **options)
    for _ in range(n_calls):
        net.partial_fit(X, Y)
    return watcher.kinds


@pytest.mark.parametrize(("each", "n_calls"), [(1, 8), (2, 4), (3, 3)])
def test_plain_epochs_are_those_of_one_training(each: int, n_calls: int) -> None:
    kinds = list_kinds(each, n_calls, max_epochs=6, warmup_epochs=1, cooldown_epochs=2)
    assert kinds == [False, True, True, True, *[False] * (n_calls * each - 4)]
    kinds = list_kinds(each, n_calls, max_epochs=6, warmup_epochs=1)
    assert kinds == [False, *[True] * (n_calls * each - 1)]


def test_a_call_of_max_epochs_cools_down_at_its_end() -> None:
    assert list_kinds(None, 2, max_epochs=3, cooldown_epochs=1) == [True, True, False] * 2


def test_more_plain_epochs_than_epochs_are_refused() -> None:
    net = make_net(MixupClassifier, max_epochs=1, epochs_per_partial_fit=1, warmup_epochs=2)
    with pytest.raises(ValueError, match=r"must be at most max_epochs; got 2 for max_epochs=1\."):
        net.partial_fit(X, Y)


class Rates(Callback):
    """Records the learning rate of each epoch."""

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        net.history.record("rate", net.optimizer_.param_groups[0]["lr"])


CARRIERS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda net: net,
    "copy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("StepLR", {"step_size": 2, "gamma": 0.5}),
        ("CosineAnnealingLR", {"T_max": 6}),
        ("WarmRestartLR", {"min_lr": 1e-4, "max_lr": 0.1, "base_period": 4}),
        (OneCycleLR, {"max_lr": 0.1, "total_steps": 9}),
    ],
)
def test_a_schedule_of_the_learning_rate_goes_on(policy: Any, options: dict[str, Any], carrier: str) -> None:
    def make() -> Any:
        callbacks = [("schedule", LRScheduler(policy, **options)), ("rates", Rates())]
        return make_net(MixupClassifier, max_epochs=6, epochs_per_partial_fit=1, lr=0.01, callbacks=callbacks)

    whole, parts = make().fit(X, Y), make()
    for _ in range(6):
        parts = CARRIERS[carrier](parts.partial_fit(X, Y))
    rates = parts.history[:, "rate"]
    np.testing.assert_allclose(rates, whole.history[:, "rate"], rtol=1e-12)
    assert len(set(rates)) > 2


def test_a_fit_after_calls_begins_a_schedule_anew() -> None:
    scheduler = LRScheduler("StepLR", step_size=1, gamma=0.5)
    net = make_net(MixupClassifier, max_epochs=2, epochs_per_partial_fit=1, lr=0.08, callbacks=[scheduler])
    net.partial_fit(X, Y).partial_fit(X, Y).partial_fit(X, Y)
    assert net.optimizer_.param_groups[0]["lr"] == pytest.approx(0.01)
    assert net.fit(X, Y).optimizer_.param_groups[0]["lr"] == pytest.approx(0.02)


def test_the_ramp_of_the_unlabelled_loss_goes_on_over_calls() -> None:
    """Until half of `max_epochs` it grows, so a call of one epoch is no whole ramp."""
    rows = np.where(np.arange(40) % 2, Y, -1)
    options = {"unlabeled_weight": 5.0, "epochs_per_partial_fit": 1}
    short, long = (
        make_net(SemiSupervisedMixupClassifier, max_epochs=n, **options).partial_fit(X, rows) for n in (2, 40)
    )
    none = make_net(SemiSupervisedMixupClassifier, max_epochs=40, **options, rampup_epochs=20)
    assert not is_equal(get_weights(short), get_weights(long))
    assert is_equal(get_weights(none.partial_fit(X, rows)), get_weights(long))


def test_successive_halving_over_epochs_gives_what_single_fits_give() -> None:
    net = make_net(MixupClassifier, lr=0.05)
    folds = KFold(2)
    search = HalvingGridSearchCV(
        net,
        {"alpha": [0.0, 0.4, 2.0, 8.0]},
        resource="max_epochs",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=folds,
        random_state=0,
    ).fit(X, Y)
    results = search.cv_results_
    assert search.n_resources_ == [1, 2, 4]
    assert [len(results["params"]), search.best_params_["max_epochs"]] == [4 + 2 + 1, 4]
    for k, params in enumerate(results["params"]):
        for fold, (train, test) in enumerate(folds.split(X)):
            single = clone(net).set_params(**params).fit(X[train], Y[train])
            assert len(single.history_) == results["n_resources"][k]
            assert single.score(X[test], Y[test]) == results[f"split{fold}_test_score"][k]
