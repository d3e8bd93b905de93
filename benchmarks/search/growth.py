"""Time per net of fits of many nets as one, beside that of fits one by one."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.harness.fitting import count_batches
from benchmarks.peers.contenders import ALPHA, make_net
from benchmarks.search.fits import Work, time_works
from sk_mixup import MixupClassifier, fit_stacked

__all__ = ["fit_lone", "fit_nets", "time_gpu", "time_growth", "time_single"]

Times = dict[str, list[float]]


def _make_nets(n_nets: int, **options: Any) -> list[MixupClassifier]:
    return [make_net(None, ALPHA, random_state=seed, **options) for seed in range(n_nets)]


def fit_nets(n_nets: int, X: np.ndarray, y: np.ndarray, **options: Any) -> list[MixupClassifier]:
    """Fit nets that differ in their seeds as one."""
    nets = _make_nets(n_nets, **options)
    fit_stacked((net, X, y) for net in nets)
    return nets


def fit_lone(n_nets: int, X: np.ndarray, y: np.ndarray, **options: Any) -> list[MixupClassifier]:
    """Fit the same nets one after another; parameters as those of :func:`fit_nets`."""
    return [net.fit(X, y) for net in _make_nets(n_nets, **options)]


def _make_work(fit: Any, n_nets: int, X: np.ndarray, y: np.ndarray, **options: Any) -> Work:
    n_steps = options["max_epochs"] * count_batches(len(X), options["batch_size"])
    return Work(partial(fit, n_nets, X, y, **options), n_nets * n_steps)


def time_single(n_rounds: int, X: np.ndarray, y: np.ndarray, **options: Any) -> Times:
    """Time a fit of one net with and without the stack round it."""
    fits = {"stacked": fit_nets, "lone": fit_lone}
    return time_works({name: _make_work(fit, 1, X, y, **options) for name, fit in fits.items()}, n_rounds)


def time_growth(
    n_rounds: int, X: np.ndarray, y: np.ndarray, *, numbers: Sequence[int], **options: Any
) -> Times:
    """Time fits of several numbers of nets as one, and the fit of a net alone."""
    works = {str(n_nets): _make_work(fit_nets, n_nets, X, y, **options) for n_nets in numbers}
    works["lone"] = _make_work(fit_lone, 1, X, y, **options)
    return time_works(works, n_rounds, device=options["device"])


def time_gpu(n_rounds: int, X: np.ndarray, y: np.ndarray, *, n_nets: int, **options: Any) -> Times:
    """Time many nets as one on a GPU, and four of them alone on the same."""
    works = {
        "stacked": _make_work(fit_nets, n_nets, X, y, **options),
        "lone": _make_work(fit_lone, 4, X, y, **options),
    }
    if torch.device(options["device"]).type == "cuda":
        works["lone-graph"] = _make_work(fit_lone, 4, X, y, cuda_graph=True, **options)
    return time_works(works, n_rounds, device=options["device"])
