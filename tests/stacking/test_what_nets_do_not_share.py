"""Nets that are trained at once share no callback, and no file that one of them reads back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring, LRScheduler

from sk_mixup import MixupClassifier, MixupEnsembleClassifier, MixupGAN
from tests.helpers.stacking import fit_stacked, stacked

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 3
QUICK: dict[str, Any] = {"max_epochs": 3, "random_state": 0}


@pytest.mark.parametrize(
    "callback",
    [EarlyStopping("train_loss"), LRScheduler("StepLR", step_size=1), ("own", EpochScoring("accuracy"))],
)
@pytest.mark.parametrize("kind", ["net", "pipeline", "GAN"])
def test_a_callback_in_several_estimators_is_refused(callback: Any, kind: str) -> None:
    net = MixupClassifier(callbacks=[callback], **QUICK)
    made = {
        "net": lambda: MixupClassifier(callbacks=[callback], **QUICK),
        "pipeline": lambda: make_pipeline(StandardScaler(), MixupClassifier(callbacks=[callback], **QUICK)),
        "GAN": lambda: MixupGAN(callbacks=[callback], **QUICK),
    }[kind]
    with pytest.raises(
        ValueError, match=r"callbacks must be objects of each estimator's own .* jobs 0 and 1"
    ):
        fit_stacked((made(), X, Y) for _ in range(2))
    if kind == "net":
        copies = [clone(net), clone(net)]
        fit_stacked((copy, X, Y) for copy in copies)
        for copy in copies:
            np.testing.assert_allclose(
                copy.predict_proba(X), clone(net).fit(X, Y).predict_proba(X), atol=1e-5
            )


def make_net(folder: Path, **options: Any) -> MixupClassifier:
    checkpoint = Checkpoint(dirname=str(folder), load_best=True, **options)
    return MixupClassifier(callbacks=[checkpoint], **QUICK)


def test_a_checkpoint_that_several_nets_would_read_back_is_refused(tmp_path: Path) -> None:
    search = GridSearchCV(make_net(tmp_path), {"alpha": [0, 0.4]}, cv=2, error_score="raise")
    with (
        stacked(),
        pytest.raises(ValueError, match="callbacks must read weights back from files of each net's"),
    ):
        search.fit(X, Y)
    ensemble = MixupEnsembleClassifier(
        n_members=2, random_state=0, estimator__callbacks=make_net(tmp_path).callbacks
    )
    with pytest.raises(ValueError, match=r"got a Checkpoint with load_best=True for .*params.pt"):
        ensemble.fit(X, Y)


def test_checkpoints_of_nets_of_their_own_are_read_back(tmp_path: Path) -> None:
    nets = [make_net(tmp_path, fn_prefix=f"{number}_").set_params(lr=10.0**-number) for number in (1, 2, 3)]
    alone = [clone(net).fit(X, Y) for net in nets]
    for net, single in zip(fit_stacked((net, X, Y) for net in nets), alone, strict=True):
        np.testing.assert_allclose(net.predict_proba(X), single.predict_proba(X), atol=1e-5)
    with stacked():  # one after the other
        for net in nets[:2]:
            net.set_params(callbacks=make_net(tmp_path / "same").callbacks).fit(X, Y)
