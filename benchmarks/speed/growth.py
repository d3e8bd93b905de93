"""Time per row and peak memory of a fit, each in a process of its own.

python -m benchmarks.speed.growth 10000 20 3

prints a record in JSON: 10,000 rows, fits of 20 epochs, three of them timed.
"""

import json
import sys
from typing import Any

import numpy as np

from benchmarks.harness.child_processes import Peak, run_in_process
from benchmarks.harness.fitting import measure_time
from benchmarks.harness.interleaved_timing import use_threads
from benchmarks.peers.contenders import make_net, make_table

__all__ = ["measure_growth", "measure_in_process"]

N_FEATURES, N_CLASSES, BATCH_SIZE = 54, 7, 128


def measure_in_process(n_samples: int, epochs: int, n_rounds: int) -> dict[str, Any]:
    """Fit a table of 54 features in this process.

    ``seconds`` (a list), ``peak`` (bytes beyond what was held before the fit, the data among it) and
    ``data`` (bytes of the inputs).
    """
    with use_threads(1):
        # The first fit in a process loads libraries and their buffers.
        _make_net(1).fit(*make_table(2000, N_FEATURES, N_CLASSES))
        X, y = make_table(n_samples, N_FEATURES, N_CLASSES)
        with Peak() as peak:
            _make_net(2).fit(X, y)
        seconds = [_time_fit(epochs, X, y) for _ in range(n_rounds)]
    return {
        "n_samples": n_samples,
        "epochs": epochs,
        "seconds": seconds,
        "peak": peak.growth,
        "data": X.nbytes,
    }


def _make_net(epochs: int) -> Any:
    return make_net(None, 0.2, max_epochs=epochs, batch_size=BATCH_SIZE)


def _time_fit(epochs: int, X: np.ndarray, y: np.ndarray) -> float:
    net = _make_net(epochs)
    with measure_time() as watch:
        net.fit(X, y)
    return watch.seconds


def measure_growth(sizes: tuple[int, ...], n_rows: int, n_rounds: int) -> list[dict[str, Any]]:
    """Return a record for each number of rows, each measured in a process of its own."""
    return [run_in_process("benchmarks.speed.growth", n, max(2, round(n_rows / n)), n_rounds) for n in sizes]


if __name__ == "__main__":
    print(json.dumps(measure_in_process(*map(int, sys.argv[1:]))))
