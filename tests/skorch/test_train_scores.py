"""A score of the rows trained on is one of the clean rows, never of mixed batches."""

from typing import Any

import numpy as np
import pytest
from skorch.callbacks import BatchScoring, Callback, EpochScoring
import torch
from torch import Tensor

from sk_mixup import MixupClassifier


def _make_still(**options: Any) -> MixupClassifier:
    """Return a net that never learns, so that its weights are known at every moment."""
    options = {"early_stopping": False, "max_epochs": 2, "random_state": 0, "batch_size": 16, **options}
    return MixupClassifier(lr=1e-30, optimizer=torch.optim.SGD, **options)


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 1.0},
        {"alpha": np.inf, "lam_per": "batch"},
        {"n_mixed": 3, "partners": "dataset"},
        {"partners": "same_class"},
        {"module__dropout": 0.5},
        {"augment": lambda x: -x},
    ],
    ids=lambda options: "-".join(options),
)
def test_train_score_is_that_of_the_clean_rows(
    blobs: Any, options: dict[str, Any], use_caching: bool
) -> None:
    scored = EpochScoring("accuracy", name="train_acc", on_train=True, use_caching=use_caching)
    net = _make_still(callbacks=[scored], **options).fit(blobs.X, blobs.y)
    assert net.history[:, "train_acc"] == [net.score(blobs.X, blobs.y)] * 2


def test_train_score_of_a_batch_is_that_of_the_clean_rows(blobs: Any) -> None:
    def score(net: Any, X: Any, y: Any) -> float:
        return float(np.mean(net.predict(X) == np.asarray(y)))

    scored = BatchScoring(score, name="train_acc", on_train=True)
    net = _make_still(callbacks=[scored]).fit(blobs.X, blobs.y)
    assert net.history[-1, "train_acc"] == pytest.approx(net.score(blobs.X, blobs.y))


def test_predictions_in_a_hook_of_the_users_are_of_the_clean_rows(blobs: Any) -> None:
    hits = []

    class Score(Callback):
        def on_batch_end(self, net: Any, batch: Any, training: bool, y_pred: Tensor, **_: Any) -> None:
            if training:
                hits.extend((y_pred.argmax(dim=1) == batch[1]).tolist())

    net = _make_still(callbacks=[Score()], max_epochs=1).fit(blobs.X, blobs.y)
    assert np.mean(hits) == pytest.approx(net.score(blobs.X, blobs.y))


def test_train_score_does_not_change_the_training(blobs: Any) -> None:
    options = {"early_stopping": False, "max_epochs": 3, "module__dropout": 0.3, "random_state": 0}
    scored = EpochScoring("accuracy", name="train_acc", on_train=True)
    plain = MixupClassifier(**options).fit(blobs.X, blobs.y)
    watched = MixupClassifier(**options, callbacks=[scored]).fit(blobs.X, blobs.y)
    assert watched.loss_curve_ == pytest.approx(plain.loss_curve_, rel=1e-6)
