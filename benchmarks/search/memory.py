"""Peak memory of a search over many nets as one, in a process of its own.

python -m benchmarks.search.memory 50000 40 5 1024 1073741824

prints a record in JSON: 50,000 rows, 40 alphas and 5 folds, batches of 1024, a budget of 1 GiB
(0 for none).
"""

import json
import sys
from typing import Any

from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.harness.child_processes import Peak, run_in_process
from benchmarks.harness.fitting import measure_time
from benchmarks.harness.interleaved_timing import use_threads
from benchmarks.peers.contenders import ALPHA, make_net, make_table
from benchmarks.search.fits import N_WORKERS, make_alphas
from sk_mixup import stacked

__all__ = ["measure_in_process", "measure_memory"]

N_FEATURES, N_CLASSES = 54, 7


def measure_in_process(
    n_samples: int, n_candidates: int, n_folds: int, batch_size: int, budget: int
) -> dict[str, Any]:
    """Search a table of 54 features in this process, with fits of one epoch.

    ``peak`` (bytes beyond what was held before the search, the table among it) and ``seconds``.
    """
    with use_threads(N_WORKERS):
        # The first search in a process loads libraries and their buffers.
        _search(min(2000, n_samples), 2, 2, batch_size, budget)
        peak, seconds = _search(n_samples, n_candidates, n_folds, batch_size, budget)
    return {"peak": peak, "seconds": seconds}


def _search(
    n_samples: int, n_candidates: int, n_folds: int, batch_size: int, budget: int
) -> tuple[int, float]:
    """Return the bytes and the seconds of a search."""
    X, y = make_table(n_samples, N_FEATURES, N_CLASSES)
    net = make_net(None, ALPHA, max_epochs=1, batch_size=batch_size)
    grid = {"mixupclassifier__alpha": make_alphas(n_candidates)}
    search = GridSearchCV(make_pipeline(StandardScaler(), net), grid, cv=n_folds)
    with measure_time() as watch, Peak() as peak, stacked(memory=budget or None):
        search.fit(X, y)
    return peak.growth, watch.seconds


def measure_memory(
    n_samples: int, *, n_candidates: int, n_folds: int, batch_size: int, budget: int
) -> dict[str, dict[str, Any]]:
    """Measure a search with a budget and one without, each in a process of its own."""
    sizes = (n_samples, n_candidates, n_folds, batch_size)
    budgets = {"budget": budget, "default": 0}
    return {
        name: run_in_process("benchmarks.search.memory", *sizes, value) for name, value in budgets.items()
    }


if __name__ == "__main__":
    print(json.dumps(measure_in_process(*map(int, sys.argv[1:]))))
