"""Nested cross-validation over a dask cluster: each worker trains the nets of its search stacked.

Run ``pip install dask distributed`` and ``python examples/dask_search.py``.
"""

from __future__ import annotations

from typing import Any

import joblib
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier, stacked

GRID = {"mixupclassifier__alpha": [0, 0.2, 1], "mixupclassifier__lr": [1e-2, 3e-2]}


class StackedSearch(GridSearchCV):
    """A search that trains its nets stacked, wherever it is fitted."""

    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Run the search."""
        with stacked():
            return super().fit(X, y, **params)


def make_search(search: type[GridSearchCV] = StackedSearch) -> GridSearchCV:
    """Return a search over a pipeline that ends in a net."""
    net = MixupClassifier(max_epochs=10, batch_size=32, random_state=0)
    return search(make_pipeline(StandardScaler(), net), GRID, cv=3)


def score(search: GridSearchCV, n_folds: int = 3) -> dict[str, Any]:
    """Cross-validate a search; its folds go wherever joblib sends them."""
    X, y = load_wine(return_X_y=True)
    return cross_validate(search, X, y, cv=n_folds, return_estimator=True)


def main() -> None:
    """Score the search on a cluster on this machine."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        result = score(make_search())
    for accuracy, search in zip(result["test_score"], result["estimator"], strict=True):
        print(f"accuracy {accuracy:.3f} with {search.best_params_}")


if __name__ == "__main__":
    main()
