"""optuna's OptunaSearchCV with pruning trains epoch by epoch what it refits."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier

optuna = pytest.importorskip("optuna")
pytest.importorskip("optuna_integration")

# Its own imports are deprecated, and all of it is called experimental.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:OptunaSearchCV is experimental")

X, Y = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(X).astype(np.float32)
FOLDS = StratifiedKFold(3)
N_EPOCHS = 5


@pytest.fixture(scope="module")
def search():
    from optuna_integration import OptunaSearchCV

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    net = MixupClassifier(
        module__hidden_layer_sizes=(8,),
        early_stopping=False,
        max_epochs=N_EPOCHS,
        epochs_per_partial_fit=1,
        random_state=0,
    )
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1),
    )
    spaces = {
        "alpha": optuna.distributions.FloatDistribution(0.0, 2.0),
        "lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
    }
    found = OptunaSearchCV(
        net,
        spaces,
        cv=FOLDS,
        enable_pruning=True,
        max_iter=N_EPOCHS,
        n_trials=8,
        study=study,
        random_state=0,
    )
    return found.fit(X, Y)


def test_the_best_net_is_refitted_for_all_epochs(search) -> None:
    best = search.best_estimator_
    assert len(best.history_) == N_EPOCHS
    single = clone(search.estimator).set_params(**search.best_params_).fit(X, Y)
    np.testing.assert_array_equal(best.predict_proba(X), single.predict_proba(X))


def test_trials_are_pruned_and_scored_epoch_by_epoch(search) -> None:
    states = {trial.state for trial in search.trials_}
    assert states == {optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.COMPLETE}
    trial = search.study_.best_trial
    assert sorted(trial.intermediate_values) == list(range(N_EPOCHS))
    nets = [clone(search.estimator).set_params(**trial.params) for _ in range(FOLDS.n_splits)]
    for step in range(N_EPOCHS):
        scores = []
        for net, (train, test) in zip(nets, FOLDS.split(X, Y), strict=True):
            net.set_params(max_epochs=1, epochs_per_partial_fit=None)
            scores.append(net.partial_fit(X[train], Y[train], classes=[0, 1, 2]).score(X[test], Y[test]))
        assert trial.intermediate_values[step] == pytest.approx(np.mean(scores))
