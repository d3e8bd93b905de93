"""Data sets, streams, mappings and splits that skorch trains on."""

from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, cross_val_score
from skorch import NeuralNet
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import SliceDataset, predefined_split
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from sk_mixup.mixing import GaussianNoise
from tests.helpers.datasets import Items, Pairs, Stream, make_tensor_dataset
from tests.helpers.nets import Make, Net, Sum, get_accuracy
from tests.helpers.sampling import each_pair

DATASETS = {
    "skorch": Dataset,
    "tensors": make_tensor_dataset,
    "subset": lambda X, y: Subset(make_tensor_dataset(X, y), range(50)),
    "pairs": Pairs,
    "pairs-subset": lambda X, y: Subset(Pairs(X, y), range(50)),
}


# skorch itself cannot take the rows of a Subset of tensors out for prediction.
@pytest.mark.parametrize("name", ["skorch", "tensors", "pairs", "pairs-subset"])
def test_dataset_is_trained_on(make: Make, blobs: Any, name: str) -> None:
    dataset = DATASETS[name](blobs.X, blobs.y)
    net = make(train_split=None, max_epochs=20).fit(dataset, y=None)
    assert get_accuracy(net, blobs.X, blobs.y) > 0.8
    assert net.predict_proba(dataset).shape == (len(dataset), 3)


@pytest.mark.parametrize("wrap", DATASETS.values(), ids=DATASETS)
def test_dataset_is_split_with_its_targets(make: Make, blobs: Any, wrap: Any) -> None:
    dataset = wrap(blobs.X, blobs.y)
    y = np.array([int(dataset[row][1]) for row in range(len(dataset))])
    net = make(train_split=ValidSplit(5, stratified=True)).fit(dataset, y)
    assert "valid_acc" in net.history[-1]
    assert sum(net.history[0, "batches", :, "train_batch_size"]) == len(dataset) * 4 // 5


@pytest.mark.parametrize("wrap", DATASETS.values(), ids=DATASETS)
@pytest.mark.parametrize("partners", ["batch", "dataset"])
def test_dataset_is_mixed_as_arrays_are(blobs: Any, wrap: Any, partners: str) -> None:
    options = {"early_stopping": False, "max_epochs": 3, "partners": partners, "random_state": 0}
    dataset = wrap(blobs.X, blobs.y)
    n_rows = len(dataset)
    net = MixupClassifier(**options).fit(dataset)
    plain = MixupClassifier(**options).fit(blobs.X[:n_rows], blobs.y[:n_rows])
    np.testing.assert_array_equal(net.predict_proba(blobs.X), plain.predict_proba(blobs.X))


@pytest.mark.parametrize("wrap", DATASETS.values(), ids=DATASETS)
def test_dataset_is_mixed_within_classes(blobs: Any, wrap: Any) -> None:
    options = {"early_stopping": False, "max_epochs": 3, "partners": "same_class", "random_state": 0}
    dataset = wrap(blobs.X, blobs.y)
    n_rows = len(dataset)
    net = MixupClassifier(**options).fit(dataset)
    plain = MixupClassifier(**options).fit(blobs.X[:n_rows], blobs.y[:n_rows])
    np.testing.assert_array_equal(net.predict_proba(blobs.X), plain.predict_proba(blobs.X))


@pytest.mark.parametrize("wrap", DATASETS.values(), ids=DATASETS)
def test_dataset_is_stopped_early(blobs: Any, wrap: Any) -> None:
    net = MixupClassifier(early_stopping=True, n_iter_no_change=2, lr=0.1, max_epochs=50, random_state=0)
    net.fit(wrap(blobs.X, blobs.y))
    assert net.n_iter_ < 50
    assert "valid_loss" in net.history[-1]


@pytest.mark.parametrize("name", ["skorch", "tensors", "subset"])
def test_dataset_of_real_targets_is_trained_on(line: Any, name: str) -> None:
    net = MixupRegressor(early_stopping=False, max_epochs=30, lr=0.02, random_state=0)
    assert net.fit(DATASETS[name](line.X, line.y)).score(line.X, line.y) > 0.5


def test_stream_is_trained_on(make: Make, blobs: Any) -> None:
    stream = Stream(Pairs(blobs.X, blobs.y))
    net = make(train_split=None, max_epochs=20, classes=[0, 1, 2]).fit(stream, y=None)
    assert get_accuracy(net, blobs.X, blobs.y) > 0.8


@pytest.mark.parametrize("alpha", [0, 1])
def test_stream_is_trained_on_with_the_defaults(blobs: Any, alpha: float) -> None:
    stream = Stream(Pairs(blobs.X, blobs.y))
    net = MixupClassifier(alpha=alpha, classes=[0, 1, 2], max_epochs=20, lr=0.02, random_state=0)
    assert get_accuracy(net.fit(stream), blobs.X, blobs.y) > 0.8


def test_dataset_is_predicted_in_labels(blobs: Any) -> None:
    names = np.array(["ash", "beech", "cedar"])
    net = MixupClassifier(max_epochs=3, random_state=0).fit(blobs.X, names[blobs.y])
    dataset = make_tensor_dataset(blobs.X, blobs.y)
    np.testing.assert_array_equal(net.predict(dataset), net.predict(blobs.X))
    assert net.score(dataset, names[blobs.y]) == net.score(blobs.X, names[blobs.y])


def test_dataset_of_real_targets_is_predicted_in_their_shape(line: Any) -> None:
    net = MixupRegressor(max_epochs=3, random_state=0).fit(line.X, line.y)
    found = net.predict(make_tensor_dataset(line.X, line.y))
    np.testing.assert_allclose(found, net.predict(line.X), rtol=1e-5, atol=1e-6)


def test_slices_of_a_dataset_are_cross_validated(make: Make, blobs: Any) -> None:
    dataset = Dataset(blobs.X, blobs.y)
    X, y = SliceDataset(dataset, idx=0), SliceDataset(dataset, idx=1)
    scores = cross_val_score(make(max_epochs=9), X, np.asarray(y), cv=2, error_score="raise")
    assert scores.min() > 0.5


def test_mapping_is_trained_on(make: Make, blobs: Any) -> None:
    X = {"a": blobs.X, "b": blobs.X}
    net = make(Sum, max_epochs=20).fit(X, blobs.y)
    assert net.score(X, blobs.y) > 0.8
    assert net.forward(X).shape == (60, 3)


@pytest.mark.parametrize(
    ("split", "n_train"),
    [
        (ValidSplit(3), 40),
        (ValidSplit(0.25, random_state=0), 45),
        (ValidSplit(GroupKFold(4)), 45),
        (lambda dataset, y, **_: (Subset(dataset, range(50)), Subset(dataset, range(50, 60))), 50),
        (None, 60),
    ],
    ids=["folds", "share", "groups", "function", "none"],
)
def test_rows_are_held_out_by_the_users_split(make: Make, blobs: Any, split: Any, n_train: int) -> None:
    class Ignoring(Net):
        def forward(self, x: Tensor, **_: Any) -> Tensor:
            return super().forward(x)

    groups = {"groups": np.arange(60) % 4} if isinstance(getattr(split, "cv", None), GroupKFold) else {}
    net = make(Ignoring, train_split=split).fit(blobs.X, blobs.y, **groups)
    assert sum(net.history[0, "batches", :, "train_batch_size"]) == n_train
    assert ("valid_loss" in net.history[-1]) == (n_train < 60)


def test_held_out_set_may_be_given(make: Make, blobs: Any) -> None:
    split = predefined_split(Dataset(blobs.X[:10], blobs.y[:10]))
    net = make(train_split=split).fit(blobs.X[10:], blobs.y[10:])
    assert net.history[0, "batches", -1, "valid_batch_size"] == 10
    assert sum(net.history[0, "batches", :, "train_batch_size"]) == 50


@pytest.mark.parametrize("make_set", [Dataset, pytest.param(make_tensor_dataset, id="_make_tensor_dataset")])
def test_held_out_set_of_other_dtypes_is_taken(blobs: Any, make_set: Any) -> None:
    valid = make_set(blobs.X[:10].astype(np.float64), blobs.y[:10])
    valid = Dataset(*valid[:]) if make_set is make_tensor_dataset else valid
    net = MixupClassifier(max_epochs=1, train_split=predefined_split(valid), random_state=0)
    assert np.isfinite(net.fit(blobs.X[10:], blobs.y[10:]).history[-1, "valid_loss"])


def test_held_out_set_with_labels_is_coded(blobs: Any) -> None:
    names = np.array(["ash", "beech", "cedar"])[blobs.y]
    split = predefined_split(Dataset(blobs.X[:30], names[:30]))
    net = MixupClassifier(max_epochs=30, lr=0.02, train_split=split, random_state=0)
    net.fit(blobs.X[30:], names[30:])
    assert net.history[-1, "valid_acc"] > 0.6


# -- targets of several parts ------------------------------------------------------------


def get_own_loss(self: Any, y_pred: Tensor, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
    """Score a class by the first part, and weigh it by the second."""
    first, second = y_true.values() if isinstance(y_true, dict) else y_true
    return (nn.functional.cross_entropy(y_pred, first, reduction="none") * second).mean()


PARTS: dict[str, Any] = {
    "tuple": lambda code: (code, 0.5),
    "list": lambda code: [torch.tensor(code), torch.tensor(0.5)],
    "dict": lambda code: {"code": code, "weight": 0.5},
}
SERVED: dict[str, tuple[Any, dict[str, Any]]] = {
    "rows": (lambda items: items, {}),
    "own loader": (lambda items: items, {"iterator_train": type("OwnLoader", (DataLoader,), {})}),
    "stream": (Stream, {}),
}


def make_of_parts(base: type, **options: Any) -> Any:
    torch.manual_seed(0)
    given = {"criterion": nn.CrossEntropyLoss, "train_split": None, "batch_size": 4, "lr": 0.1, "verbose": 0}
    owner: Any = type("Own", (base,), {"get_loss": get_own_loss})
    return owner(nn.Linear(5, 3), **{**given, "max_epochs": 2, **options})


class MixedNet(MixupNetMixin, NeuralNet):
    """A net of skorch's that mixes."""


@pytest.mark.parametrize("served", SERVED)
@pytest.mark.parametrize("parts", PARTS)
def test_targets_of_several_parts_are_trained_on_unmixed(parts: str, served: str) -> None:
    wrap, options = SERVED[served]
    items = wrap(Items(12, lambda row: (torch.arange(row, row + 5.0) / 12, PARTS[parts](row % 3))))
    in_order = {"iterator_train__shuffle": False} if served == "rows" else {}
    net = make_of_parts(MixedNet, alpha=0, **options, **in_order)
    theirs = make_of_parts(NeuralNet, **options).fit(items, None)
    assert net.fit(items, None).history[:, "train_loss"] == pytest.approx(theirs.history[:, "train_loss"])


@each_pair(
    {
        "parts": PARTS,
        "served": SERVED,
        "mixing": [{"alpha": 1}, {"alpha": 1, "warmup_epochs": 1}, {"vicinity": GaussianNoise()}],
    }
)
def test_targets_of_several_parts_are_not_mixed(parts: str, served: str, mixing: dict[str, Any]) -> None:
    wrap, options = SERVED[served]
    items = wrap(Items(12, lambda row: (torch.arange(row, row + 5.0) / 12, PARTS[parts](row % 3))))
    net = make_of_parts(MixedNet, **mixing, **options)
    with pytest.raises(ValueError, match=r"or one array; got a .* leave rows unmixed, by alpha=0"):
        net.fit(items, None)
