"""optuna: a search, pruning by partial_fit and by a callback, ask and tell with all trials as one stack."""

from typing import Any

from joblib import Parallel, delayed
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_score
from skorch.callbacks import Callback

from sk_mixup import MixupClassifier
from tests.clients.conftest import Rows
from tests.helpers.stacking import stacked

FOLDS = StratifiedKFold(3)


def make_study(**options: Any) -> Any:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), **options)


def score_by_hand(net: MixupClassifier, rows: Rows) -> float:
    X, y = rows.X, rows.y
    fits = [(clone(net).fit(X[train], y[train]), test) for train, test in FOLDS.split(X, y)]
    return float(np.mean([np.mean(fit.predict(X[test]) == y[test]) for fit, test in fits]))


def test_best_value_is_what_its_parameters_score(iris: Rows, classifier: MixupClassifier) -> None:
    def objective(trial: Any) -> float:
        classifier.set_params(
            alpha=trial.suggest_float("alpha", 0.0, 1.0),
            module__hidden_layer_sizes=(trial.suggest_int("width", 4, 32),),
        )
        return cross_val_score(classifier, iris.X, iris.y, cv=FOLDS).mean()

    study = make_study(direction="maximize")
    study.optimize(objective, n_trials=4)
    best = study.best_params
    classifier.set_params(alpha=best["alpha"], module__hidden_layer_sizes=(best["width"],))
    assert study.best_value == pytest.approx(score_by_hand(classifier, iris), abs=1e-9)


def test_partial_fit_reports_the_epochs_of_one_call(iris: Rows, classifier: MixupClassifier) -> None:
    X, y = iris.held_out

    def objective(trial: Any) -> float:
        net = clone(classifier).set_params(max_epochs=1, alpha=trial.suggest_float("alpha", 0.0, 1.0))
        for epoch in range(4):
            loss = log_loss(y, net.partial_fit(*iris.train).predict_proba(X))
            trial.report(loss, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return loss

    optuna = pytest.importorskip("optuna")
    study = make_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=1))
    study.optimize(objective, n_trials=4)
    assert len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) >= 1
    for trial in study.trials:
        losses = trial.intermediate_values
        whole = clone(classifier).set_params(max_epochs=len(losses), **trial.params).partial_fit(*iris.train)
        proba = whole.predict_proba(X)[np.arange(len(y)), y]
        assert losses[len(losses) - 1] == pytest.approx(-np.mean(np.log(proba)), abs=1e-5)


def test_a_callback_prunes_in_the_middle_of_a_fit(iris: Rows, classifier: MixupClassifier) -> None:
    optuna = pytest.importorskip("optuna")

    class Prune(Callback):
        def __init__(self, trial: Any) -> None:
            self.trial = trial

        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            self.trial.report(net.history[-1, "valid_loss"], len(net.history))
            if self.trial.should_prune():
                raise optuna.TrialPruned

    nets = []

    def objective(trial: Any) -> float:
        net = clone(classifier).set_params(early_stopping=True, callbacks=[Prune(trial)])
        net.set_params(lr=[1e-2, 1e-5][trial.number])
        nets.append(net)
        return net.fit(*iris.train).history[-1, "valid_loss"]

    study = make_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    assert len(study.trials[1].intermediate_values) < len(study.trials[0].intermediate_values) == 5


def test_ask_and_tell_in_one_stack_equals_fits_alone(iris: Rows, classifier: MixupClassifier) -> None:
    def fit(alpha: float) -> float:
        net = clone(classifier).set_params(alpha=alpha).fit(*iris.train)
        return log_loss(iris.test[1], net.predict_proba(iris.test[0]))

    study = make_study()
    trials = [study.ask() for _ in range(4)]
    alphas = [trial.suggest_float("alpha", 0.0, 1.0) for trial in trials]
    with stacked():
        losses = Parallel()(delayed(fit)(alpha) for alpha in alphas)
    for trial, loss in zip(trials, losses, strict=True):
        study.tell(trial, loss)
    alone = [fit(alpha) for alpha in alphas]
    np.testing.assert_allclose([trial.value for trial in study.trials], alone, atol=1e-6)
    assert study.best_params["alpha"] == alphas[int(np.argmin(alone))]
