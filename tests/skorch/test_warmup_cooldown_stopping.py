"""Which epochs are mixed, and where training ends: warm-up, cool-down, early stopping, interrupts."""

from typing import Any

import numpy as np
import pytest
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import ValidSplit
from torch import Tensor

from sk_mixup import MixupClassifier
from tests.helpers.nets import get_weights, is_equal


class Mixing(Callback):
    """Note of each epoch whether its batches were mixed, and the weights before and after."""

    def on_train_begin(self, net: Any, **_: Any) -> None:
        self.epochs: dict[int, bool] = {}
        self.before: list[dict[str, Tensor]] = []
        self.after: list[dict[str, Tensor]] = []

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self.before.append(get_weights(net))

    def on_batch_begin(self, net: Any, batch: Any = None, training: bool = False, **_: Any) -> None:
        if training:
            self.epochs[len(net.history)] = batch.lam is not None

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        self.after.append(get_weights(net))


def _fit_watched(table: Any, **options: Any) -> tuple[Any, Mixing]:
    mixing = Mixing()
    callbacks = [("mixing", mixing), *options.pop("callbacks", [])]
    options = {"early_stopping": False, "random_state": 0, "lr": 0.1, **options}
    net = MixupClassifier(**options, callbacks=callbacks).fit(table.X, table.y)
    return net, mixing


@pytest.mark.parametrize(
    ("warmup_epochs", "cooldown_epochs", "expected"),
    [(0, 0, "mmmmm"), (2, 0, "ppmmm"), (0, 2, "mmmpp"), (1, 1, "pmmmp"), (5, 0, "ppppp"), (2, 3, "ppppp")],
)
def test_plain_epochs_stand_round_the_mixed_ones(
    blobs: Any, warmup_epochs: int, cooldown_epochs: int, expected: str
) -> None:
    options = {"warmup_epochs": warmup_epochs, "cooldown_epochs": cooldown_epochs, "max_epochs": 5}
    _, mixing = _fit_watched(blobs, **options)
    assert "".join("m" if mixed else "p" for mixed in mixing.epochs.values()) == expected


@pytest.mark.parametrize("own_callback", [False, True])
def test_plain_epochs_run_after_early_stopping(blobs: Any, own_callback: bool) -> None:
    options = {"cooldown_epochs": 3, "max_epochs": 60}
    if own_callback:
        stopping = EarlyStopping(patience=3, load_best=True)
        options |= {"callbacks": [("stop", stopping)], "train_split": ValidSplit(4, stratified=True)}
    else:
        options |= {"early_stopping": True, "n_iter_no_change": 3}
    _, mixing = _fit_watched(blobs, **options)
    kinds = list(mixing.epochs.values())
    assert len(kinds) < 60
    assert kinds[-3:] == [False] * 3
    assert all(kinds[:-3])


def test_plain_epochs_begin_from_the_best_weights(blobs: Any) -> None:
    options = {"early_stopping": True, "n_iter_no_change": 3, "cooldown_epochs": 2, "max_epochs": 60}
    net, mixing = _fit_watched(blobs, **options)
    best = int(np.argmin(net.history[:-2, "valid_loss"]))
    assert net.n_iter_ == best + 1 + 3 + 2
    assert is_equal(mixing.before[-2], mixing.after[best])
    assert is_equal(get_weights(net), mixing.after[-1])


def test_plain_epochs_before_mixing_are_not_stopped(blobs: Any) -> None:
    options = {"early_stopping": True, "n_iter_no_change": 1, "warmup_epochs": 10, "max_epochs": 40}
    _, mixing = _fit_watched(blobs, **options)
    assert list(mixing.epochs.values())[:10] == [False] * 10
    assert mixing.epochs[11]


def test_stop_in_the_warm_up_ends_training(blobs: Any) -> None:
    class Stop(Callback):
        def on_epoch_end(self, net: Any, **_: Any) -> None:
            if len(net.history) == 2:
                raise KeyboardInterrupt

    net, _ = _fit_watched(blobs, warmup_epochs=3, max_epochs=6, callbacks=[("end", Stop())])
    assert net.n_iter_ == 2


def test_warm_up_is_not_repeated_by_partial_fit(blobs: Any) -> None:
    net, mixing = _fit_watched(blobs, warmup_epochs=2, max_epochs=3)
    net.partial_fit(blobs.X, blobs.y)
    assert list(mixing.epochs.values()) == [True] * 3


def test_interrupted_epoch_has_no_loss(blobs: Any) -> None:
    class Stop(Callback):
        def on_batch_end(self, net: Any, **_: Any) -> None:
            if len(net.history) == 2:
                raise KeyboardInterrupt

    net, _ = _fit_watched(blobs, max_epochs=5, callbacks=[("end", Stop())])
    assert len(net.loss_curve_) == 1
    assert net.predict(blobs.X).shape == (60,)
