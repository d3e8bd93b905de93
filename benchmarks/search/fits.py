"""Searches that ``search`` compares: ours stacked and alone, skorch and scikit-learn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
import warnings

from joblib import parallel_config
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
import torch
from torch import nn

from benchmarks.harness.interleaved_timing import interleave
from benchmarks.peers.contenders import ALPHA, HIDDEN, LR, make_net
from sk_mixup import stacked
from sk_mixup.modules import MLP

__all__ = ["N_WORKERS", "Work", "make_alphas", "make_searches", "time_works"]

N_WORKERS = 2
"""Threads of the stacked fits, and processes of the others."""


@dataclass(frozen=True)
class Work:
    """What is timed, and what it amounts to."""

    run: Callable[[], Any]
    n_steps: int  # Training steps in it, over all nets


def time_works(works: Mapping[str, Work], n_rounds: int, *, device: str = "cpu") -> dict[str, list[float]]:
    """Time works in turns."""
    seconds = interleave({name: work.run for name, work in works.items()}, n_rounds, device=device)
    return {name: [1e6 * value / works[name].n_steps for value in seconds[name]] for name in works}


def make_alphas(n_candidates: int) -> list[float]:
    """Return strengths of the mixing from 0.05 to 1, uniformly spaced on a logarithmic scale."""
    return [float(alpha) for alpha in np.geomspace(0.05, 1, n_candidates)]


def make_searches(
    X: np.ndarray, y: np.ndarray, *, n_candidates: int, n_folds: int, batch_size: int, epochs: int
) -> dict[str, Callable[[], GridSearchCV]]:
    """Return searches over as many fits of the same net: one contender a library.

    Each searches a pipeline of standardisation and net over one parameter of the net, refits
    the best candidate on all rows, as scikit-learn does by default, and returns the search.
    """
    alphas = make_alphas(n_candidates)
    ours = make_net(None, ALPHA, batch_size=batch_size, max_epochs=epochs)

    def search(net: Any, parameter: str, values: Any) -> GridSearchCV:
        pipeline = make_pipeline(StandardScaler(), net)
        grid = {f"{pipeline.steps[-1][0]}__{parameter}": values}
        return GridSearchCV(pipeline, grid, cv=n_folds, n_jobs=N_WORKERS).fit(X, y)

    def search_stacked() -> GridSearchCV:
        with stacked():
            return search(ours, "alpha", alphas)

    def search_in_processes(net: Any, parameter: str, values: Any) -> GridSearchCV:
        with warnings.catch_warnings(), parallel_config(backend="loky", inner_max_num_threads=1):
            # loky replaces a worker that has loaded torch; as an error this warning would end loky.
            warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
            return search(net, parameter, values)

    def search_sklearn() -> GridSearchCV:
        net = MLPClassifier(
            HIDDEN, batch_size=batch_size, max_iter=epochs, n_iter_no_change=epochs + 1, random_state=0
        )
        with warnings.catch_warnings():  # scikit-learn hands the filters on to its workers
            warnings.simplefilter("ignore", ConvergenceWarning)
            return search_in_processes(net, "alpha", np.geomspace(1e-5, 1e-2, n_candidates))

    skorch_net = _make_skorch_net(X.shape[1], int(y.max()) + 1, batch_size=batch_size, max_epochs=epochs)
    rates = LR * np.geomspace(0.1, 2, n_candidates)
    return {
        "stacked": search_stacked,
        "lone": lambda: search_in_processes(ours, "alpha", alphas),
        "skorch": lambda: search_in_processes(skorch_net, "lr", rates),
        "sklearn": search_sklearn,
    }


def _make_skorch_net(n_features: int, n_classes: int, **options: Any) -> NeuralNetClassifier:
    return NeuralNetClassifier(
        MLP,
        module__in_features=n_features,
        module__out_features=n_classes,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        **options,
    )
