"""`get_params` shows the options of default callbacks as they were set, and as fit obeys them."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import EarlyStopping

from sk_mixup import MixupClassifier, MixupEnsembleClassifier, MixupRegressor, SemiSupervisedMixupClassifier

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 3
OWNERS = [MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier]
SHORT = {"max_epochs": 9, "lr": 1e-9, "early_stopping": True, "validation_fraction": 0.2, "random_state": 0}
SET: list[dict[str, Any]] = [
    {"callbacks__early_stopping__patience": 1},
    {"callbacks__early_stopping__patience": 1, "callbacks__early_stopping__load_best": False},
    {"callbacks__print_log__floatfmt": ".1f"},
    {"callbacks__train_loss": None},
    {"callbacks__early_stopping": None},
]


@pytest.mark.parametrize("options", SET, ids=str)
@pytest.mark.parametrize("owner", OWNERS)
def test_options_of_default_callbacks_are_shown_as_they_were_set(owner: Any, options: dict[str, Any]) -> None:
    constructed, put = owner(**options), owner().set_params(**options)
    for net in (
        constructed,
        put,
        clone(constructed),
        owner().set_params(**constructed.get_params(deep=False)),
    ):
        shown = net.get_params()
        assert {name: shown[name] for name in options} == options
        assert net.get_params(deep=False) | options == net.get_params(deep=False)
    plain = owner().get_params()
    assert {name for name in plain if name not in shown} == {
        name for name in plain for none in options if options[none] is None and name.startswith(f"{none}__")
    }


def test_a_callback_in_the_place_of_a_default_one_shows_its_own_options() -> None:
    net = MixupClassifier(callbacks__early_stopping=EarlyStopping(patience=3, threshold=0.5))
    shown = net.get_params()
    prefix = "callbacks__early_stopping__"
    assert (shown[f"{prefix}patience"], shown[f"{prefix}threshold"]) == (3, 0.5)
    net.set_params(callbacks__early_stopping__patience=2)
    assert net.get_params()[f"{prefix}patience"] == 2


@pytest.mark.filterwarnings(
    "ignore:early_stopping must find a best epoch", "ignore:validation_fraction must hold out"
)
@pytest.mark.parametrize("owner", OWNERS)
def test_what_is_shown_is_what_a_fit_obeys(owner: Any) -> None:
    net = owner(**SHORT, callbacks__early_stopping__threshold=0.9)
    for patience in (2, 4):
        net.set_params(callbacks__early_stopping__patience=patience).fit(X, Y)
        assert net.get_params()["callbacks__early_stopping__patience"] == patience
        assert len(net.history_) == 1 + patience
        again = clone(net).fit(X, Y)
        assert len(again.history_) == 1 + patience


def test_ensembles_and_searches_show_them_too() -> None:
    name = "callbacks__early_stopping__patience"
    assert MixupEnsembleClassifier(MixupClassifier(**{name: 1})).get_params()[f"estimator__{name}"] == 1
    search = GridSearchCV(MixupClassifier(**SHORT, **{name: 1}), {"alpha": [0.5]})
    assert search.get_params()[f"estimator__{name}"] == 1
