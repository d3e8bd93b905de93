"""What needs a process of its own: growth with the rows, the first fit, and torch's own number of threads.

python -m benchmarks.speed.children growth 10000 20 3

prints a record in JSON: 10,000 rows, fits of 20 epochs, three of them timed.
"""

from collections.abc import Callable, Mapping
from itertools import chain
import json
import sys
from typing import Any

from benchmarks.harness.child_processes import Peak, run_in_process
from benchmarks.harness.fitting import measure_time
from benchmarks.harness.interleaved_timing import Contender, interleave, use_threads
from benchmarks.peers.contenders import make_fits, make_net, make_table

__all__ = ["measure_first_fits", "measure_growth", "measure_in_process", "measure_threads"]

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
        seconds = [_time(lambda: _make_net(epochs).fit(X, y)) for _ in range(n_rounds)]
    sizes = {"n_samples": n_samples, "epochs": epochs, "peak": peak.growth, "data": X.nbytes}
    return {**sizes, "seconds": seconds}


def _make_net(epochs: int) -> Any:
    return make_net(None, 0.2, max_epochs=epochs, batch_size=BATCH_SIZE)


def _time(function: Contender) -> float:
    with measure_time() as watch:
        function()
    return watch.seconds


def _fit_first(contender: str) -> dict[str, Any]:
    """Return the seconds of the first fit in this process beyond those of the second."""
    fit = make_fits(*make_table(2000, N_FEATURES, N_CLASSES), batch_size=BATCH_SIZE, epochs=1)[contender]
    with use_threads(1):
        return {"seconds": _time(fit) - _time(fit)}


def _fit_with_threads(
    n_rounds: int, n_samples: int, n_features: int, n_classes: int, *cases: int
) -> dict[str, Any]:
    """Return times by batch size; `cases` are batch sizes, each followed by the epochs of a fit."""
    X, y = make_table(n_samples, n_features, n_classes)
    seconds = {}
    for size, epochs in zip(cases[::2], cases[1::2], strict=True):
        fits = make_fits(X, y, batch_size=size, epochs=epochs)
        seconds[str(size)] = interleave({name: fits[name] for name in ("mixup", "sklearn")}, n_rounds)
    return seconds


def measure_growth(sizes: tuple[int, ...], n_rows: int, n_rounds: int) -> list[dict[str, Any]]:
    """Return a record for each number of rows, each measured in a process of its own."""
    return [_run("growth", n, max(2, round(n_rows / n)), n_rounds) for n in sizes]


def measure_first_fits(n_rounds: int) -> dict[str, list[float]]:
    """Return what the first fit adds, ours and that of a loop by hand: processes that take turns."""
    seconds: dict[str, list[float]] = {"mixup": [], "loop": []}
    for turn in range(n_rounds):
        for name in sorted(seconds, reverse=turn % 2 == 0):
            seconds[name].append(_run("first", name)["seconds"])
    return seconds


def measure_threads(
    n_rounds: int, sizes: tuple[int, int, int], epochs: Mapping[int, int]
) -> dict[int, dict[str, list[float]]]:
    """Return times of fits where nothing has said how many threads there are to be, by batch size."""
    seconds = _run("threads", n_rounds, *sizes, *chain.from_iterable(epochs.items()))
    return {size: seconds[str(size)] for size in epochs}


def _run(*arguments: str | int) -> dict[str, Any]:
    return run_in_process("benchmarks.speed.children", *arguments)


MEASURES: dict[str, Callable[..., dict[str, Any]]]
MEASURES = {"growth": measure_in_process, "first": _fit_first, "threads": _fit_with_threads}

if __name__ == "__main__":
    given = [int(text) if text.isdigit() else text for text in sys.argv[2:]]
    print(json.dumps(MEASURES[sys.argv[1]](*given)))
