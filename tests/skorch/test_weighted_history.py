"""What the history says of weighted rows is their weighted mean, whatever the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from skorch.helper import predefined_split
import torch
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from sk_mixup import (
    MixupClassifier,
    MixupNetMixin,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
)
from sk_mixup.modules import MLP
from tests.helpers.stacking import fit_stacked

N, N_TRAIN = 60, 40
_generator = np.random.default_rng(0)
X = _generator.normal(size=(N, 4)).astype(np.float32)
Y = np.where(_generator.random(N) < 0.75, "many", "few")
T = _generator.normal(size=N).astype(np.float32)
WEIGHT = np.where(np.arange(N) % 10 < 5, 9.0, 0.2) * _generator.uniform(0.5, 2, N)
QUICK: dict[str, Any] = {"max_epochs": 2, "early_stopping": False, "random_state": 0, "lr": 0.05}
HELD_OUT = slice(N_TRAIN, N)

each_size = pytest.mark.parametrize("size", [1, 7, 32, -1])


class Watch(Callback):
    """Makes an epoch go step by step."""

    def on_batch_end(self, net: Any, **_: Any) -> None:
        pass


class Conv(nn.Module):
    """No multilayer perceptron: validated batch by batch."""

    def __init__(self, n_outputs: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def split_off_the_last(dataset: Any, y: Any = None, **_: Any) -> tuple[Subset, Subset]:
    return Subset(dataset, range(N_TRAIN)), Subset(dataset, range(N_TRAIN, N))


@pytest.mark.parametrize(
    "options",
    [{}, {"callbacks": [Watch()]}, {"module": Conv}, {"alpha": 0.0}],
    ids=["plain", "watched", "images", "erm"],
)
@each_size
def test_held_out_rows_of_a_classifier_count_by_their_weights(size: int, options: dict[str, Any]) -> None:
    net = MixupClassifier(**QUICK | options, batch_size=size, train_split=split_off_the_last)
    net.fit(X, Y, sample_weight=WEIGHT)
    p, own = net.predict_proba(X[HELD_OUT]), WEIGHT[HELD_OUT]
    found = net.history[-1, "valid_loss"], net.history[-1, "valid_acc"]
    expected = (
        log_loss(Y[HELD_OUT], p, sample_weight=own),
        accuracy_score(Y[HELD_OUT], net.classes_[p.argmax(axis=1)], sample_weight=own),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@each_size
def test_held_out_rows_of_a_regressor_count_by_their_weights(size: int) -> None:
    net = MixupRegressor(**QUICK, batch_size=size, train_split=split_off_the_last)
    net.fit(X, T, sample_weight=WEIGHT)
    expected = mean_squared_error(T[HELD_OUT], net.predict(X[HELD_OUT]), sample_weight=WEIGHT[HELD_OUT])
    assert net.history[-1, "valid_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("size", [7, -1])
def test_held_out_rows_with_several_labels_count_by_their_weights(size: int, use_caching: bool) -> None:
    y = (X[:, :3] > 0.3).astype(int)
    net = MixupClassifier(
        **QUICK, batch_size=size, train_split=split_off_the_last, use_caching=use_caching
    ).fit(X, y, sample_weight=WEIGHT)
    p, own = net.predict_proba(X[HELD_OUT]).astype(float), WEIGHT[HELD_OUT]
    losses = -np.where(y[HELD_OUT] == 1, np.log(p), np.log1p(-p)).mean(axis=1)
    assert net.history[-1, "valid_loss"] == pytest.approx(np.average(losses, weights=own), rel=1e-5)
    right = (y[HELD_OUT] == (p > 0.5)).all(axis=1)
    assert net.history[-1, "valid_acc"] == pytest.approx(np.average(right, weights=own))


@pytest.mark.parametrize("size", [7, -1])
@pytest.mark.parametrize("class_weight", [{"few": 20.0}, "balanced"], ids=str)
def test_held_out_rows_of_a_semi_supervised_classifier_count_by_their_weights(
    size: int, class_weight: Any
) -> None:
    # Of the labelled rows, which come first, the last are held out.
    y = np.where(np.arange(N) < 50, Y.astype(object), -1)

    def split(dataset: Any, y: Any = None, **_: Any) -> tuple[Subset, Subset]:
        return Subset(dataset, range(30)), Subset(dataset, range(30, 50))

    net = SemiSupervisedMixupClassifier(
        **QUICK, batch_size=size, train_split=split, class_weight=class_weight
    ).fit(X, y, sample_weight=WEIGHT)
    if class_weight == "balanced":
        n_few = np.sum(Y[:50] == "few")
        by_label = {"few": 25 / n_few, "many": 25 / (50 - n_few)}
    else:
        by_label = {"many": 1.0, **class_weight}
    own = WEIGHT[30:50] * np.array([by_label[label] for label in Y[30:50]])
    expected = log_loss(Y[30:50], net.predict_proba(X[30:50]), sample_weight=own)
    assert net.history[-1, "valid_loss"] == pytest.approx(expected, rel=1e-5)


DATASETS = {
    "skorch": lambda codes: Dataset(X[HELD_OUT], Y[HELD_OUT]),
    "tensors": lambda codes: TensorDataset(torch.as_tensor(X[HELD_OUT]), torch.as_tensor(codes)),
}


@pytest.mark.parametrize("form", DATASETS)
@pytest.mark.parametrize("size", [1, 7, -1])
@pytest.mark.parametrize("class_weight", [{"few": 20.0, "many": 0.5}, "balanced"], ids=str)
def test_class_weight_holds_for_a_predefined_split(form: str, size: int, class_weight: Any) -> None:
    codes = np.unique(Y, return_inverse=True)[1]
    valid = DATASETS[form](codes[HELD_OUT])
    net = MixupClassifier(
        **QUICK, batch_size=size, train_split=predefined_split(valid), class_weight=class_weight
    ).fit(X[:N_TRAIN], Y[:N_TRAIN])
    by_code = {0: 20.0, 1: 0.5}
    if class_weight == "balanced":
        by_code = dict(enumerate(N_TRAIN / 2 / np.bincount(codes[:N_TRAIN])))
    own = [by_code[code] for code in codes[HELD_OUT]]
    p = net.predict_proba(X[HELD_OUT])
    expected = log_loss(Y[HELD_OUT], p, sample_weight=own)
    assert net.history[-1, "valid_loss"] == pytest.approx(expected, rel=1e-5)
    expected = accuracy_score(codes[HELD_OUT], p.argmax(axis=1), sample_weight=own)
    assert net.history[-1, "valid_acc"] == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:early_stopping must find a best epoch")
def test_early_stopping_follows_the_weighted_loss() -> None:
    net = MixupClassifier(
        Conv, early_stopping=True, max_epochs=40, lr=0.2, n_iter_no_change=3, batch_size=5, random_state=0
    ).fit(X, Y, sample_weight=WEIGHT)
    losses = net.history[:, "valid_loss"]
    assert len(losses) == min(40, int(np.argmin(losses)) + 1 + 3)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_training_loss_is_the_weighted_mean_of_its_batches(alpha: float) -> None:
    options = QUICK | {"alpha": alpha, "batch_size": 7}
    nets = [MixupClassifier(**options, callbacks=own) for own in (None, [Watch()])]
    nets = [net.fit(X, Y, sample_weight=WEIGHT) for net in nets]
    nets += fit_stacked((MixupClassifier(**options), X, Y, {"sample_weight": WEIGHT}) for _ in range(2))
    for net in nets:
        rows = net.history[-1, "batches"]
        weights = [row["train_batch_weight"] for row in rows]
        expected = np.average([row["train_loss"] for row in rows], weights=weights)
        assert net.history[-1, "train_loss"] == pytest.approx(expected)
        assert net.history[-1, "train_loss"] == pytest.approx(nets[0].history[-1, "train_loss"], rel=1e-4)
        if not alpha:  # each row once
            assert sum(weights) == pytest.approx(N, rel=1e-5)


class Classifier(MixupNetMixin, NeuralNetClassifier):
    """skorch's classifier with our training."""


class Regressor(MixupNetMixin, NeuralNetRegressor):
    """skorch's regressor with our training."""


@pytest.mark.parametrize("owner", [MixupClassifier, Classifier])
@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_batches_without_weight_change_nothing(owner: Any, alpha: float) -> None:
    weight = np.repeat([0.0, 1.0], N // 2)
    options = {"alpha": alpha, "max_epochs": 2, "batch_size": 5, "verbose": 0, "random_state": 0}
    options["criterion"] = nn.CrossEntropyLoss
    codes = np.unique(Y, return_inverse=True)[1]
    # Held out are rows of weight 0 too.
    split = predefined_split(Dataset(X, codes))
    net = owner(MLP(4, 2), train_split=split, iterator_train__shuffle=False, **options)
    net.fit(X, codes, sample_weight=weight)
    assert np.isfinite(net.history[:, ("train_loss", "valid_loss")]).all()
    assert all(torch.isfinite(p).all() for p in net.module_.parameters())


@pytest.mark.parametrize("size", [1, 7, -1])
def test_class_of_weight_zero_counts_for_nothing_where_it_is_held_out(size: int) -> None:
    valid = Dataset(X[HELD_OUT], Y[HELD_OUT])
    net = MixupClassifier(
        **QUICK, batch_size=size, class_weight={"few": 0.0}, train_split=predefined_split(valid)
    ).fit(X[:N_TRAIN], Y[:N_TRAIN])
    kept = Y[HELD_OUT] == "many"
    p = net.predict_proba(X[HELD_OUT][kept])[:, 1].astype(float)
    assert net.history[-1, "valid_loss"] == pytest.approx(-np.log(p).mean(), rel=1e-5, abs=1e-6)
    assert net.history[-1, "valid_acc"] == pytest.approx(np.mean(p > 0.5))


class Fourth(nn.Module):
    """A criterion of a user's own without losses per row."""

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        return ((output - y) ** 4).mean()


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("owner", [MixupRegressor, Regressor])
def test_weights_without_losses_per_row_are_refused(owner: Any, alpha: float) -> None:
    options = {"max_epochs": 1, "alpha": alpha, "lam_per": "batch", "train_split": None}
    net = owner(module=MLP(4, 1), criterion=Fourth, **options)
    with pytest.raises(ValueError, match=r"criterion must offer reduction='none'.*or weights; got Fourth"):
        net.fit(X, T if owner is MixupRegressor else T[:, None], sample_weight=WEIGHT)


@pytest.mark.parametrize("form", DATASETS)
def test_held_out_rows_that_all_weigh_nothing_are_refused(form: str) -> None:
    few = np.flatnonzero(Y[HELD_OUT] == "few")
    valid = Subset(DATASETS[form](np.unique(Y, return_inverse=True)[1][HELD_OUT]), few)
    net = MixupClassifier(**QUICK, class_weight={"few": 0.0}, train_split=predefined_split(valid))
    with pytest.raises(ValueError, match="valid_loss must be an average of rows that count"):
        net.fit(X[:N_TRAIN], Y[:N_TRAIN])
