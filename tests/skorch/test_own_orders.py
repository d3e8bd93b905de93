"""An order of the user's own holds, batch by batch: a last row left over joins the batch before it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

from sk_mixup import MixupClassifier, MixupNetMixin
from tests.helpers.datasets import Items, Stream, make_tensor_dataset
from tests.helpers.nets import get_weights
from tests.helpers.sampling import each_pair

N = 12
X = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
CODES = np.arange(N) % 3


class Mixed(MixupNetMixin, NeuralNetClassifier):
    """A classifier of skorch's that mixes."""


class OwnLoader(DataLoader):
    """A loader of the user's own."""


class Sizes(Callback):
    """Notes how many rows a batch has."""

    def on_train_begin(self, net: Any, **kwargs: object) -> None:
        self.seen: list[int] = []

    def on_batch_begin(self, net: Any, batch: Any = None, training: bool = False, **kwargs: object) -> None:
        self.seen += [len(batch[1])] * training


OWNERS: dict[str, type] = {"net": Mixed, "estimator": MixupClassifier}
ORDERS: dict[str, dict[str, Any]] = {
    "sampler": {"iterator_train__sampler": SequentialSampler(range(N))},
    "class": {"iterator_train": OwnLoader},
    "function": {"iterator_train": lambda dataset, **options: DataLoader(dataset, **options)},
}


def make(owner: type, **options: Any) -> Any:
    torch.manual_seed(0)
    own = {"early_stopping": False} if issubclass(owner, MixupClassifier) else {}
    given = {"criterion": nn.CrossEntropyLoss, "optimizer": torch.optim.SGD, "train_split": None}
    return owner(nn.Linear(5, 3), **{**given, **own, "max_epochs": 1, "lr": 0.1, "verbose": 0, **options})


def list_sizes(net: Any, *data: Any) -> list[int]:
    sizes = Sizes()
    net.set_params(callbacks=[sizes]).fit(*data)
    return sizes.seen


EXPECTED = {1: [1] * N, 3: [3] * 4, 5: [5, 5, 2], 11: [N], N: [N]}


@each_pair(
    {
        "name": OWNERS,
        "order": ORDERS,
        "alpha": [0, 1],
        "size": EXPECTED,
    }
)
def test_batches_are_as_large_as_those_of_our_own_order(
    name: str, order: str, alpha: float, size: int
) -> None:
    options = {"alpha": alpha, "batch_size": size}
    assert list_sizes(make(OWNERS[name], **options, **ORDERS[order]), X, CODES) == EXPECTED[size]
    assert list_sizes(make(OWNERS[name], **options), X, CODES) == EXPECTED[size]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", OWNERS)
def test_steps_are_those_of_skorch(name: str, order: str, size: int) -> None:
    net = make(OWNERS[name], alpha=0, batch_size=size, **ORDERS[order]).fit(X, CODES)
    theirs = make(NeuralNetClassifier, batch_size=size, **ORDERS[order]).fit(X, CODES)
    for ours, expected in zip(get_weights(net).values(), get_weights(theirs).values(), strict=True):
        torch.testing.assert_close(ours, expected)


COMPOSITIONS = {
    "one in the middle": [[0, 1], [2], [3, 4, 5]],
    "one at first": [[0], [1, 2], [3, 4]],
    "two at last": [[0, 1], [2], [3]],
}


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("composition", COMPOSITIONS)
@pytest.mark.parametrize("name", OWNERS)
def test_composition_of_batches_holds(name: str, composition: str, alpha: float) -> None:
    batches = COMPOSITIONS[composition]
    net = make(OWNERS[name], alpha=alpha, iterator_train__batch_sampler=batches)
    assert list_sizes(net, X, CODES) == [len(batch) for batch in batches]


@pytest.mark.parametrize("name", OWNERS)
def test_stream_is_served_in_its_batches(name: str) -> None:
    classes = {"classes": [0, 1, 2]} if name == "estimator" else {}
    net = make(OWNERS[name], alpha=0, batch_size=1, **classes)
    assert list_sizes(net, Stream(make_tensor_dataset(X, CODES)), None) == [1] * N


class Endless(IterableDataset):
    """Yields rows for ever, and fails where far more of them are asked for than are trained on."""

    def __iter__(self) -> Iterator[Any]:
        for row in range(1000):
            yield X[row % N], CODES[row % N]
        raise AssertionError("the stream was read on")


class StopAfter(Sizes):
    """Ends the training after some batches."""

    def on_batch_end(self, net: Any, **kwargs: object) -> None:
        if len(self.seen) == 7:
            raise KeyboardInterrupt


@pytest.mark.parametrize("alpha", [0, 1])
def test_endless_stream_of_single_rows_is_trained_on(alpha: float) -> None:
    stop = StopAfter()
    make(Mixed, alpha=alpha, batch_size=1, callbacks=[stop]).fit(Endless(), None)
    assert stop.seen == [1] * 7


class Lengths(nn.Linear):
    """Averages sequences, and notes how long they are."""

    def __init__(self) -> None:
        super().__init__(1, 3)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes += [tuple(x.shape[:2])] * self.training
        return super().forward(x.mean(dim=1))


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"x": x}], ids=["tensor", "dict"])
@pytest.mark.parametrize("buckets", [[[0, 1], [2], [3, 4]], [[0, 1], [3, 4], [2]]])
def test_last_row_of_another_shape_stays_alone(buckets: list[list[int]], wrap: Any) -> None:
    lengths = [2, 2, 3, 4, 4]
    items = Items(len(lengths), lambda row: (wrap(torch.ones(lengths[row], 1)), row % 3))
    options = {"criterion": nn.CrossEntropyLoss, "train_split": None, "max_epochs": 1, "verbose": 0}
    net = Mixed(Lengths, **options, alpha=0, iterator_train__batch_sampler=buckets).fit(items, None)
    assert net.module_.shapes == [(len(bucket), lengths[bucket[0]]) for bucket in buckets]
