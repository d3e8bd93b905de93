"""A module may work in place, as many of torchvision's do: no array of the user's changes, nor any result.

Each net's twin does the same out of place, so its results are right.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from skorch.callbacks import Callback, EpochScoring
from skorch.helper import predefined_split
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from sk_mixup import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
)
from sk_mixup.inspection import adversarial_examples, between_curves, robustness_curve
from tests.helpers.sampling import each_pair

N_FEATURES = 6
OPTIONS: dict[str, Any] = {"max_epochs": 2, "batch_size": 32, "random_state": 0, "verbose": 0}


class Shift(nn.Module):
    """Changes its input, in place or not, before a linear layer."""

    def __init__(self, out_features: int = 1, *, in_place: bool = False, also_sum: bool = False) -> None:
        super().__init__()
        self.in_place, self.also_sum = in_place, also_sum
        self.linear = nn.Linear(N_FEATURES, out_features)

    def forward(self, x: Tensor) -> Any:
        """Return the outputs for an array, or for a mapping of one."""
        x = x.sub_(1).mul_(2) if self.in_place else (x - 1) * 2
        output = self.linear(x.flatten(1))
        return (output, output.sum().reshape(1)) if self.also_sum else output


class FirstEntropy(nn.CrossEntropyLoss):
    """The cross-entropy of the first of several outputs."""

    def forward(self, outputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        """Return the loss."""
        return super().forward(outputs[0], target)


def make_rows(form: str, n_rows: int) -> Any:
    rows = np.random.default_rng(0).normal(size=(n_rows, N_FEATURES)).astype(np.float32)
    images = rows.reshape(n_rows, 1, 2, 3)
    forms: dict[str, Callable[[], Any]] = {
        "table": lambda: rows,
        "float64": lambda: rows.astype(np.float64),
        "columns": lambda: np.asfortranarray(rows),
        "part": lambda: np.concatenate([rows, rows])[n_rows:],
        "tensor": lambda: torch.from_numpy(rows),
        "images": lambda: images,
        "image tensor": lambda: torch.from_numpy(images),
        "mapping": lambda: {"x": rows},
        "mapping of tensors": lambda: {"x": torch.from_numpy(images)},
        "data set": lambda: TensorDataset(torch.from_numpy(rows), torch.zeros(n_rows).long()),
    }
    return forms[form]()


def copy_of(X: Any) -> Any:
    if isinstance(X, dict):
        return {name: copy_of(part) for name, part in X.items()}
    if isinstance(X, Dataset):
        return [copy_of(X[i][0]) for i in range(len(X))]  # type: ignore[arg-type]
    return X.clone() if isinstance(X, Tensor) else X.copy()


def assert_unchanged(X: Any, before: Any) -> None:
    if isinstance(X, Dataset):
        X = [X[i][0] for i in range(len(before))]
    parts = (X.values(), before.values()) if isinstance(X, dict) else ([X], [before])
    for now, then in zip(*parts, strict=True):
        np.testing.assert_array_equal(now, then)


def make_net(estimator: type, *, in_place: bool, **options: Any) -> Any:
    own: dict[str, Any] = {**OPTIONS, "module": Shift, "module__in_place": in_place, **options}
    if "Ensemble" not in estimator.__name__:
        return estimator(**own)
    seed = own.pop("random_state")
    return estimator(n_members=2, random_state=seed, **{f"estimator__{k}": v for k, v in own.items()})


def predict_all(net: Any, X: Any) -> list[np.ndarray]:
    names = ("predict", "predict_proba", "predict_log_proba", "predict_uncertainty", "forward")
    found: list[np.ndarray] = []
    for name in names:
        if not callable(getattr(net, name, None)):
            continue
        result = getattr(net, name)(X)
        found += [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,))]
    return found


LEARNED = ("oof_predict_proba_", "oof_prediction_", "transduction_", "label_distributions_", "temperature_")


def read_learned(net: Any) -> list[np.ndarray]:
    return [np.asarray(getattr(net, name)) for name in LEARNED if hasattr(net, name)]


@pytest.mark.filterwarnings("ignore:stacked:UserWarning")
@each_pair(
    {
        "estimator": [
            MixupClassifier,
            MixupRegressor,
            SemiSupervisedMixupClassifier,
            MixupEnsembleClassifier,
            MixupEnsembleRegressor,
        ],
        "form": ["table", "float64", "columns", "part", "tensor", "images", "image tensor", "mapping"],
        "n_rows": [1, 33, 512, 1024, 2048, 4100],
        "options": [
            {},
            {"storage": "host"},
            {"iterator_valid__batch_size": 7},
            {"alpha": 0.0},
        ],
    }
)
def test_what_is_predicted_and_learned_is_that_of_a_module_out_of_place(estimator, form, n_rows, options):
    X = make_rows(form, 90)
    y: Any = np.arange(90) % 3
    if estimator is SemiSupervisedMixupClassifier:
        y[::2] = -1
    if "Regressor" in estimator.__name__:
        y = np.sin(np.arange(90.0))
    if form == "mapping" and estimator is SemiSupervisedMixupClassifier:
        X, form = make_rows("images", 90), "images"  # it takes arrays only
    before, more = copy_of(X), make_rows(form, n_rows)
    more_before = copy_of(more)
    nets = [make_net(estimator, in_place=in_place, **options).fit(X, y) for in_place in (True, False)]
    assert_unchanged(X, before)
    own, expected = (predict_all(net, more) + predict_all(net, more) + read_learned(net) for net in nets)
    assert_unchanged(more, more_before)
    assert len(own) == len(expected) > 2
    for mine, right in zip(own, expected, strict=True):
        np.testing.assert_array_equal(mine, right)


def test_a_module_is_asked_twice_that_returns_more_than_rows():
    X, y = make_rows("table", 90), np.arange(90) % 3
    before = X.copy()
    options = {"module__also_sum": True, "criterion": FirstEntropy, "module__out_features": 3, "alpha": 0.0}
    own, expected = (
        [
            np.asarray(part)
            for part in make_net(MixupClassifier, in_place=in_place, **options).fit(X, y).forward(X)
        ]
        for in_place in (True, False)
    )
    np.testing.assert_array_equal(X, before)
    for mine, right in zip(own, expected, strict=True):
        np.testing.assert_array_equal(mine, right)


def test_modules_are_inspected_as_out_of_place():
    X, y = make_rows("table", 90), np.arange(90) % 3
    before = X.copy()
    found = []
    for in_place in (True, False):
        net = make_net(MixupClassifier, in_place=in_place).fit(X, y)
        curves = between_curves(net, X, y, n_pairs=20, random_state=0)
        moved = adversarial_examples(net, X, y, eps=0.1, attack="pgd", random_state=0)
        found.append([curves.misses, curves.gradient_norm, moved, robustness_curve(net, X, y).error])
    np.testing.assert_array_equal(X, before)
    for own, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(own, expected)


SCORES = ("train_loss", "valid_loss", "train_score")


class Watch(Callback):
    """Watches each batch, so that a net goes step by step."""

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        """Do nothing."""


@pytest.mark.parametrize("form", ["table", "images", "mapping", "data set"])
@pytest.mark.parametrize("step_by_step", [False, True])
def test_sets_that_are_seen_in_each_epoch_stay_as_they_are(form, step_by_step):
    X, held_out = make_rows(form, 64), make_rows(form, 32)
    befores = [copy_of(part) for part in (X, held_out)]
    y = None if form == "data set" else np.arange(64) % 3
    scoring = EpochScoring("neg_log_loss", name="train_score", on_train=True, use_caching=False)
    callbacks: list[Any] = [] if form == "data set" else [("train_score", scoring)]
    options: dict[str, Any] = {"callbacks": callbacks, "module__out_features": 3}
    if step_by_step:
        callbacks.append(("watch", Watch()))
    histories = []
    for in_place in (True, False):
        if form == "data set":
            options["train_split"] = predefined_split(held_out)
            options |= {"classes": [0, 1, 2]}
        net = make_net(MixupClassifier, in_place=in_place, **{**options, "max_epochs": 4})
        net.fit(X, y)
        histories.append(
            [[row.get(name) for name in ("train_loss", "valid_loss", "train_score")] for row in net.history]
        )
    assert histories[0] == histories[1]
    for part, before in zip((X, held_out), befores, strict=True):
        assert_unchanged(part, before)
