"""A search by optuna that trains its trials in batches, each batch as one stack.

optuna's ``n_jobs`` runs trials in threads of its own, which ``stacked()`` does not reach. With ask and
tell the loop is yours: ask for several trials, fit their nets together, tell the scores.

Run ``pip install optuna`` and ``python examples/optuna_search.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier, fit_stacked

if TYPE_CHECKING:
    import optuna

X, Y = load_wine(return_X_y=True)
X_TRAIN, X_VALID, Y_TRAIN, Y_VALID = train_test_split(X, Y, test_size=0.3, stratify=Y, random_state=0)


def make_model(trial: optuna.trial.BaseTrial) -> Pipeline:
    """Return a pipeline whose net has the options that a trial suggests."""
    net = MixupClassifier(
        alpha=trial.suggest_float("alpha", 0.0, 2.0),
        lr=trial.suggest_float("lr", 1e-3, 1e-1, log=True),
        module__hidden_layer_sizes=(32,),
        max_epochs=10,
        early_stopping=False,
        random_state=0,
    )
    return make_pipeline(StandardScaler(), net)


def compute_loss(model: Pipeline) -> float:
    """Return the mean log loss of the held-out rows."""
    probability = model.predict_proba(X_VALID)[np.arange(len(Y_VALID)), Y_VALID]
    return float(-np.log(probability).mean())


def search(study: optuna.Study, n_batches: int = 3, batch_size: int = 8) -> optuna.Study:
    """Ask for a batch of trials, fit them together and tell their losses, several times."""
    for _ in range(n_batches):
        trials = [study.ask() for _ in range(batch_size)]
        models = fit_stacked((make_model(trial), X_TRAIN, Y_TRAIN) for trial in trials)
        for trial, model in zip(trials, models, strict=True):
            study.tell(trial, compute_loss(model))
    return study


def main() -> None:
    """Search for 24 trials."""
    try:
        import optuna
    except ImportError:
        raise SystemExit("This example needs optuna: pip install optuna") from None
    # `constant_liar` keeps the trials of a batch, which are all asked for before one is told, apart.
    study = search(optuna.create_study(sampler=optuna.samplers.TPESampler(constant_liar=True, seed=0)))
    print(f"log loss {study.best_value:.4f} with {study.best_params}")


if __name__ == "__main__":
    main()
