"""A fit of an ensemble, beside a fit of one of its members."""

from collections.abc import Callable

import numpy as np

from benchmarks.harness.interleaved_timing import interleave, use_threads
from benchmarks.peers.contenders import LR
from sk_mixup import MixupClassifier, MixupEnsembleClassifier

__all__ = ["time_ensemble"]

N_FEATURES, N_THREADS = 20, 2


def time_ensemble(n_rounds: int, n_samples: int, *, batch_size: int, epochs: int) -> dict[str, list[float]]:
    """Time a fit of eight members on two threads, and fits of one net on one thread and on two, in turns.

    All hold out rows as they do by default, and none stops early.
    """
    X = np.random.default_rng(0).standard_normal((n_samples, N_FEATURES), dtype=np.float32)
    y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)  # to be learned, so that no first epoch is the best
    net = MixupClassifier(
        batch_size=batch_size, max_epochs=epochs, n_iter_no_change=epochs + 1, lr=LR, random_state=0
    )
    ensemble = MixupEnsembleClassifier(net, random_state=0)

    def make_fit(model: MixupClassifier | MixupEnsembleClassifier, n_threads: int) -> Callable[[], None]:
        def fit() -> None:
            with use_threads(n_threads):
                model.fit(X, y)

        return fit

    singles = {f"single-{n_threads}": make_fit(net, n_threads) for n_threads in (1, N_THREADS)}
    return interleave({"ensemble": make_fit(ensemble, N_THREADS), **singles}, n_rounds)
