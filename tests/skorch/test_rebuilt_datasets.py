"""A split that makes data sets of its own, as ``type(dataset)(X, y)``, and what callbacks find in one."""

from collections.abc import Callable
import copy
import pickle
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import EpochScoring
from skorch.dataset import Dataset
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Subset

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from tests.helpers.nets import Sum, get_weights
from tests.helpers.sampling import each_pair

N, N_TRAIN = 90, 60
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
CODES = np.digitize(X[:, 0], [-0.4, 0.4])
WEIGHT = np.random.default_rng(1).uniform(0.1, 3, size=N)

Split = Callable[..., Any]


def take(dataset: Any, y: object = None) -> Any:
    """Divide the rows by their numbers."""
    return Subset(dataset, range(N_TRAIN)), Subset(dataset, range(N_TRAIN, N))


def take_twice(dataset: Any, y: object = None) -> Any:
    """Divide the rows by numbers within numbers."""
    turned = Subset(dataset, range(N - 1, -1, -1))
    return Subset(turned, range(N - 1, N - N_TRAIN - 1, -1)), Subset(turned, range(N - N_TRAIN - 1, -1, -1))


def build(dataset: Any, y: object = None) -> Any:
    """Build both sets anew."""
    kind, rest = type(dataset), slice(N_TRAIN, N)
    return kind(dataset.X[:N_TRAIN], dataset.y[:N_TRAIN]), kind(dataset.X[rest], y=dataset.y[rest])


def build_held_out(dataset: Any, y: object = None) -> Any:
    """Build the held-out set anew."""
    return take(dataset)[0], build(dataset)[1]


class NetClassifier(MixupNetMixin, NeuralNetClassifier):
    """A classifier of skorch's that mixes."""


class NetRegressor(MixupNetMixin, NeuralNetRegressor):
    """A regressor of skorch's that mixes."""


LINEAR = {"module": nn.Linear, "module__in_features": 3, "verbose": 0}
CASES: dict[str, tuple[type, dict[str, Any], np.ndarray]] = {
    "codes": (MixupClassifier, {}, CODES),
    "labels": (MixupClassifier, {}, CODES * 2 + 1),
    "two labels": (MixupClassifier, {}, (CODES > 0) + 1),
    "strings": (MixupClassifier, {}, np.array(["b", "a", "c"])[CODES]),
    "indicators": (MixupClassifier, {}, (X > 0).astype(int)),
    "targets": (MixupRegressor, {}, X[:, 0] * 100 + 1000),
    "plain targets": (MixupRegressor, {"standardize_targets": False}, X[:, 0]),
    "columns": (MixupRegressor, {}, X[:, :2] * np.array([1, 100])),
    "net": (NetClassifier, LINEAR | {"module__out_features": 3, "criterion": nn.CrossEntropyLoss}, CODES),
    "real net": (NetRegressor, LINEAR | {"module__out_features": 1}, X[:, :1]),
}


def fit(name: str, split: Split, **fit_params: object) -> Any:
    owner, options, y = CASES[name]
    return owner(**options, train_split=split, max_epochs=3, random_state=0).fit(X, y, **fit_params)


@pytest.mark.parametrize("split", [build, build_held_out, take_twice])
@pytest.mark.parametrize("name", CASES)
def test_set_that_is_built_anew_is_that_of_its_rows(name: str, split: Split) -> None:
    expected, found = fit(name, take), fit(name, split)
    losses = (np.array(net.history[:, ("train_loss", "valid_loss")]) for net in (found, expected))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for ours, theirs in zip(get_weights(found).values(), get_weights(expected).values(), strict=True):
        torch.testing.assert_close(ours, theirs)


WEIGHTED: dict[str, tuple[type, dict[str, Any], dict[str, Any], np.ndarray]] = {
    "rows": (MixupClassifier, {}, {"sample_weight": WEIGHT}, CODES),
    "classes": (MixupClassifier, {"class_weight": "balanced"}, {}, CODES),
    "both": (MixupClassifier, {"class_weight": {1: 3, 3: 0.5}}, {"sample_weight": WEIGHT}, CODES + 1),
    "targets": (MixupRegressor, {}, {"sample_weight": WEIGHT}, X[:, 0]),
    "net": (NetRegressor, LINEAR | {"module__out_features": 1}, {"sample_weight": WEIGHT}, X[:, :1]),
}


def join(dataset: Any, y: object = None) -> Any:
    """Take some rows twice."""
    train, valid = take(dataset)
    return ConcatDataset([train, train]), valid


@pytest.mark.parametrize("split", [build, join])
@pytest.mark.parametrize("name", WEIGHTED)
def test_training_set_without_the_weights_is_refused(name: str, split: Split) -> None:
    owner, options, params, y = WEIGHTED[name]
    with pytest.raises(ValueError, match=r"train_split must return a subset .* by sample_weight or class_w"):
        owner(**options, train_split=split, max_epochs=1, random_state=0).fit(X, y, **params)


@pytest.mark.parametrize("name", ["codes", "targets", "real net"])
def test_subset_of_a_subset_keeps_the_weights(name: str) -> None:
    once, twice = (fit(name, split, sample_weight=WEIGHT) for split in (take, take_twice))
    plain = fit(name, take)
    for ours, theirs in zip(get_weights(twice).values(), get_weights(once).values(), strict=True):
        assert torch.equal(ours, theirs)
    assert once.history[-1, "train_loss"] != plain.history[-1, "train_loss"]


def test_held_out_set_without_targets_is_scored() -> None:
    def forget(dataset: Any, y: object = None) -> Any:
        return dataset, type(dataset)(dataset.X, y=None)

    net = fit("real net", forget)  # skorch puts a 0 for each
    predicted = net.predict(X)
    assert net.history[-1, "valid_loss"] == pytest.approx(float((predicted**2).mean()), rel=1e-5)


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda X: X,
    "float64": lambda X: X.astype(np.float64),
    "fortran": np.asfortranarray,
    "tensor": torch.as_tensor,
    "sparse": sparse.csr_matrix,
    "mapping": lambda X: {"a": X, "b": X * 2},
}


@each_pair(
    {
        "form": FORMS,
        "part": [take, take_twice, None],
        "storage": ["auto", "host"],
    }
)
def test_scoring_is_given_what_the_user_gave(form: str, part: Split | None, storage: str) -> None:
    given, seen = FORMS[form](np.resize(X, (N, 5))), []

    def look(net: Any, X: Any, y: Any) -> float:
        seen.append((X, y))
        return 0.0

    module: dict[str, Any] = {"module": Sum} if form == "mapping" else {"module": nn.Linear(5, 3)}
    scoring = EpochScoring(look, use_caching=False, on_train=part is None, name="looked")
    options: dict[str, Any] = {**module, "criterion": nn.CrossEntropyLoss, "max_epochs": 1, "verbose": 0}
    net = NetClassifier(**options, train_split=part, callbacks=[scoring], storage=storage)
    net.fit(given, CODES)
    (found, y), rows = seen[0], np.arange(N) if part is None else np.arange(N_TRAIN, N)
    assert type(found) is type(given)
    np.testing.assert_array_equal(y, CODES[rows])
    if form == "mapping":
        assert all(np.array_equal(found[name], given[name][rows]) for name in given)
    else:
        dense = (np.asarray(values.todense() if form == "sparse" else values) for values in (found, given))
        assert np.array_equal(next(dense), next(dense)[rows])
        assert found.dtype == given.dtype


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda rows: pickle.loads(pickle.dumps(rows))])
def test_copy_of_a_set_holds_the_same(copied: Callable[[Any], Any]) -> None:
    net = MixupClassifier(max_epochs=1, random_state=0).fit(X, CODES + 1)
    rows = net.get_dataset(X, CODES).subset(np.arange(5, 50))
    other = copied(rows)
    assert isinstance(other, Dataset)
    assert len(other) == 45
    np.testing.assert_array_equal(other.X, X[5:50])
    np.testing.assert_array_equal(other.y, CODES[5:50] + 1)
