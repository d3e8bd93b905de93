"""What ``defaults`` changes: the levels of each option, and what some of them need."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch.callbacks import Callback, LRScheduler
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sk_mixup.modules import MLP

__all__ = ["FACTORS", "OF_CLASSES", "SCALING", "AverageWeights", "EmbeddedMLP", "clip_smoothly"]

Level = Mapping[str, Any]


class AverageWeights(Callback):
    """Replaces the weights by their mean over the later epochs, when training ends [1]_.

    References
    ----------
    .. [1] P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov and A. G. Wilson, "Averaging Weights Leads to
       Wider Optima and Better Generalization", UAI 2018, arXiv 1803.05407.
    """

    def __init__(self, first: int) -> None:
        self.first = first

    def on_train_begin(self, net: Any, **_: Any) -> None:
        """Begin anew."""
        self.average_ = AveragedModel(net.module_)

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        """Take the weights of an epoch from ``first`` on into the mean."""
        if len(net.history) >= self.first:
            self.average_.update_parameters(net.module_)

    def on_train_end(self, net: Any, **_: Any) -> None:
        """Let the net have the mean."""
        net.module_.load_state_dict(self.average_.module.state_dict())


class EmbeddedMLP(nn.Module):
    """The default network on periodic embeddings of each number [1]_, 8 numbers for one.

    References
    ----------
    .. [1] Y. Gorishniy, I. Rubachev and A. Babenko, "On Embeddings for Numerical Features in Tabular Deep
       Learning", NeurIPS 2022, arXiv 2203.05556.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        from rtdl_num_embeddings import PeriodicEmbeddings  # of the extra benchmarks

        self.embed = PeriodicEmbeddings(in_features, 8, lite=True)
        self.rest = MLP(in_features=8 * in_features, out_features=out_features)

    def forward(self, X: Tensor) -> Tensor:
        """Return the outputs of rows of shape (n, in_features)."""
        return self.rest(self.embed(X).flatten(1))


def clip_smoothly(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers between -3 and 3 of which those near 0 are as they were [1]_.

    References
    ----------
    .. [1] D. Holzmüller, L. Grinsztajn and I. Steinwart, "Better by Default: Strong Pre-Tuned MLPs and
       Boosted Trees on Tabular Data", NeurIPS 2024, arXiv 2407.04491.
    """
    return np.asarray(X / np.sqrt(1 + (X / 3) ** 2))


def _stop_early(fraction: float, patience: int) -> Level:
    return {"early_stopping": True, "validation_fraction": fraction, "n_iter_no_change": patience}


def _train_for(n_epochs: int, **others: Any) -> Level:
    return {"early_stopping": False, "max_epochs": n_epochs, **others}


def _anneal(n_epochs: int) -> Level:
    return _train_for(n_epochs, callbacks=[LRScheduler("CosineAnnealingLR", T_max=n_epochs)])


def _average(n_epochs: int) -> Level:
    return _train_for(n_epochs, callbacks=[AverageWeights(n_epochs // 2 + 1)])


def _decay(weight_decay: float) -> Level:
    return {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": weight_decay}


# Not an option of the estimators: how numbers are scaled before.
SCALING = "scaling"
FACTORS: Mapping[str, Mapping[str, Level]] = {
    "schedule": {
        **{f"{n} epochs": _train_for(n) for n in (25, 50, 100, 200)},
        "a tenth held out": _stop_early(0.1, 20),
        "a tenth, patience 10": _stop_early(0.1, 10),
        "a tenth, patience 40": _stop_early(0.1, 40),
        "a fifth held out": _stop_early(0.2, 20),
    },
    "lr to 0 by a cosine": {f"{n} epochs": _anneal(n) for n in (50, 100)},
    "mean of later weights": {f"{n} epochs": _average(n) for n in (50, 100)},
    "alpha": {f"{alpha:g}": {"alpha": alpha} for alpha in (0.0, 0.1, 0.4, 1.0)},
    "one weight for": {"a batch": {"lam_per": "batch"}},
    "label smoothing": {f"{share:g}": {"label_smoothing": share} for share in (0.05, 0.1)},
    "lr": {f"{lr:g}": {"lr": lr} for lr in (3e-4, 3e-3)},
    "batch_size": {f"{size}": {"batch_size": size} for size in (16, 64)},
    "weight decay": {f"{weight:g}": _decay(weight) for weight in (0.1, 1.0)},
    "dropout": {f"{share:g}": {"module__dropout": share} for share in (0.1, 0.5)},
    "temperature": {"none": {"calibrate": False}},
    "hidden units": {"256, 256": {"module__hidden_layer_sizes": (256, 256)}},
    "embeddings": {"periodic": {"module": EmbeddedMLP}},
    SCALING: {"robust, smooth clip": {}},
}
# Options that regressors do not have.
OF_CLASSES = ("label smoothing", "temperature")
