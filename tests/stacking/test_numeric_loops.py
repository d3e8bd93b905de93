"""Parallel loops over numbers, within tasks that train nets, are no tasks of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier
from sk_mixup.mixing import FeatureSwap, Mixture, Mixup, TableMixup
from sk_mixup.stacking._scheduler import Scheduler
from tests.helpers.stacking import stacked

X, Y = load_wine(return_X_y=True)
N_FOLDS = 3


def make_net(**options: Any) -> Any:
    shared = {"max_epochs": 2, "early_stopping": False, "random_state": 0}
    return make_pipeline(StandardScaler(), MixupClassifier(**shared, **options))


def vote(other: Any) -> VotingClassifier:
    return VotingClassifier([("net", make_net()), ("other", other)])


@pytest.fixture
def n_tasks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tasks that have been submitted."""
    counted, submit = [0], Scheduler.submit

    def count(self: Scheduler, *args: Any) -> None:
        counted[0] += 1
        submit(self, *args)

    monkeypatch.setattr(Scheduler, "submit", count)
    return counted


BY_INFORMATION = {
    "swap": FeatureSwap(weights="mutual_info"),
    "table": TableMixup(weights="mutual_info"),
    "mixture": Mixture((Mixup(), FeatureSwap(weights="mutual_info"))),
}
CHOOSER = SelectFromModel(RandomForestClassifier(5, random_state=0))
# A task for each fold, and in those of a vote two for its members.
MODELS: dict[str, tuple[Any, int]] = {
    **{name: (make_net(vicinity=vicinity), 1) for name, vicinity in BY_INFORMATION.items()},
    "forest": (vote(RandomForestClassifier(10, n_jobs=2, random_state=0)), 3),
    "neighbours": (vote(KNeighborsClassifier(algorithm="kd_tree")), 3),
    "neighbours in a radius": (vote(RadiusNeighborsClassifier(1e4, algorithm="ball_tree")), 3),
    "one against the rest": (vote(SGDClassifier(random_state=0)), 3),
    "before the net": (
        make_pipeline(CHOOSER, make_net()),
        1,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_loop_over_numbers_runs_in_its_task(n_tasks: list[int], name: str) -> None:
    model, n_each = MODELS[name]
    expected = cross_val_score(model, X, Y, cv=N_FOLDS)
    assert n_tasks == [0]
    with stacked():
        found = cross_val_score(model, X, Y, cv=N_FOLDS)
    assert n_tasks == [n_each * N_FOLDS]
    np.testing.assert_array_equal(found, expected)
