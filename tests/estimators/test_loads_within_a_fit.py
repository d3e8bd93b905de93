"""Callbacks that load weights within a fit take nothing from it: neither temperature nor checks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from skorch.callbacks import Checkpoint, LoadInitState
from skorch.dataset import Dataset
from skorch.helper import predefined_split
import torch
from torch import nn

from sk_mixup import MixupClassifier

X = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
Y = (X[:, 0] + 0.8 * np.random.default_rng(1).normal(size=120) > 0).astype(int)
OPTIONS: dict[str, Any] = {
    "alpha": 1.0,
    "lr": 0.05,
    "max_epochs": 12,
    "early_stopping": True,
    "n_iter_no_change": 99,
    "train_split": predefined_split(Dataset(X[:40], Y[:40])),
    "random_state": 0,
}


@pytest.mark.parametrize("monitor", ["valid_loss_best", "valid_acc_best", None])
def test_the_temperature_is_that_of_the_best_weights(monitor: str | None, tmp_path: Path) -> None:
    best = Checkpoint(dirname=str(tmp_path), monitor=monitor, load_best=True)
    net = MixupClassifier(callbacks=[best], **OPTIONS).fit(X[40:], Y[40:])
    with torch.no_grad():
        logits = net.module_(torch.as_tensor(X[:40])).double().numpy()

    def loss(log: float) -> float:
        shares = log_softmax(logits / np.exp(log), axis=1)
        return -float(shares[np.arange(40), Y[:40]].sum()) + log**2 / (2 * 0.3**2)

    expected = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    assert net.temperature_ == pytest.approx(expected, rel=1e-3)


def test_outputs_are_looked_at_though_weights_were_loaded_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint(dirname=str(tmp_path), monitor=None)
    wide = {"module": nn.Linear, "module__in_features": 4, "module__out_features": 2}
    MixupClassifier(callbacks=[checkpoint], **wide, **OPTIONS).fit(X, Y)
    again = Checkpoint(dirname=str(tmp_path), monitor=None)
    net = MixupClassifier(callbacks=[LoadInitState(again), again], **wide, **OPTIONS)
    with pytest.raises(ValueError, match="module must return 3 logits"):
        net.fit(X, np.arange(120) % 3)
