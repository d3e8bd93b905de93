"""What a subclass overrides of the way from X to batches, with skorch's signatures, holds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset, ValidSplit
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, WeightedRandomSampler, default_collate

from sk_mixup import MixupClassifier, MixupNetMixin
from sk_mixup.mixing import GaussianNoise, ManifoldMixup
from tests.helpers.nets import Net, get_weights

N = 24
X = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
CODES = np.arange(N) % 3
ORDER = [0, 0, 3, 3, 4, 9, 9, 7, 1, 2]


class Mixed(MixupNetMixin, NeuralNetClassifier):
    """A classifier of skorch's that mixes."""


WRAPPED: dict[str, Callable[..., Any]] = {
    "arrays": lambda X, y: (X, y),
    "Dataset": lambda X, y: (Dataset(X, y),),
}
OWNERS = {"net": Mixed, "estimator": MixupClassifier}


def subclass(owner: type, **methods: Callable[..., Any]) -> type:
    return type("Own", (owner,), methods)


def order_rows(self: Any, dataset: Any, training: bool = False) -> Any:
    """Serve some rows, in an order of the user's own."""
    if training:
        return DataLoader(dataset, batch_size=4, sampler=ORDER)
    return super(type(self), self).get_iterator(dataset, training=training)


def make(owner: type, **options: Any) -> Any:
    torch.manual_seed(0)
    quick: dict[str, Any] = {"max_epochs": 2, "batch_size": 8, "lr": 0.1, "train_split": None}
    if not issubclass(owner, NeuralNetClassifier) or issubclass(owner, MixupClassifier):
        quick["early_stopping"] = False
    given = {"criterion": nn.CrossEntropyLoss, "optimizer": torch.optim.SGD, "verbose": 0}
    return owner(Net(), **{**given, **quick, **options})


@pytest.mark.parametrize("name", OWNERS)
def test_order_of_an_iterator_is_that_of_training(name: str) -> None:
    net = make(subclass(OWNERS[name], get_iterator=order_rows), alpha=0).fit(X, CODES)
    theirs = make(subclass(NeuralNetClassifier, get_iterator=order_rows)).fit(X, CODES)
    for ours, expected in zip(get_weights(net).values(), get_weights(theirs).values(), strict=True):
        torch.testing.assert_close(ours, expected)
    assert net.history[:, "batches", :, "train_batch_size"] == [[4, 4, 2]] * 2


@pytest.mark.parametrize(
    "options",
    [
        *({"alpha": 1}, {"n_mixed": 3}, {"vicinity": GaussianNoise(0.1)}),
        {"vicinity": ManifoldMixup(layers=("first",))},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", OWNERS)
def test_rows_of_an_iterator_are_mixed(name: str, options: dict[str, Any]) -> None:
    seen: list[Tensor] = []

    class Looking(Net):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.append(x.detach().clone())
            return super().forward(x)

    owner = subclass(OWNERS[name], get_iterator=order_rows)
    given = {"criterion": nn.CrossEntropyLoss, "train_split": None, "max_epochs": 1, "verbose": 0}
    if name == "estimator":
        given["early_stopping"] = False
    owner(Looking, **given, **options, random_state=0).fit(X, CODES)
    served = torch.as_tensor(X[ORDER])
    assert [len(x) for x in seen] == [4, 4, 2]
    low, high = served.amin(0) - 0.6, served.amax(0) + 0.6
    assert all(((x >= low) & (x <= high)).all() for x in seen)
    is_plain = torch.equal(torch.cat(seen), served)
    assert is_plain == isinstance(options.get("vicinity"), ManifoldMixup)


@pytest.mark.parametrize("partners", ["same_class", "dataset", "neighbors"])
@pytest.mark.parametrize("name", OWNERS)
def test_partners_from_elsewhere_are_refused(name: str, partners: str) -> None:
    owner = subclass(OWNERS[name], get_iterator=order_rows)
    with pytest.raises(ValueError, match="partners must be 'batch' for a data set or iterator with an"):
        make(owner, partners=partners).fit(X, CODES)


def balance(self: Any, dataset: Any, training: bool = False) -> Any:
    """Serve the last class only."""
    if not training:
        return super(type(self), self).get_iterator(dataset, training=training)
    y = np.array([int(y) for _, y in dataset])
    sampler = WeightedRandomSampler((y == y.max()).astype(float), len(dataset))
    return DataLoader(dataset, batch_size=8, sampler=sampler)


@pytest.mark.parametrize(
    "wrap", [lambda X, y: (X, y), lambda X, y: (Dataset(X, y),)], ids=["arrays", "Dataset"]
)
@pytest.mark.parametrize("labels", [CODES, CODES * 5 - 3])
def test_sampler_of_an_iterator_is_drawn_from(labels: np.ndarray, wrap: Any) -> None:
    owner = subclass(MixupClassifier, get_iterator=balance)
    options: dict[str, Any] = {"max_epochs": 40, "early_stopping": False, "lr": 0.01, "random_state": 0}
    net = owner(**options, alpha=0).fit(*wrap(X, labels))
    assert set(net.predict(X)) == {labels.max()}


ASKED: list[bool] = []


def hand_on(self: Any, dataset: Any, training: bool = False) -> Any:
    """Take a note, and leave all as it is."""
    ASKED.append(training)
    return super(type(self), self).get_iterator(dataset, training=training)


@pytest.mark.parametrize(
    "options", [{}, {"partners": "dataset"}, {"iterator_train__num_workers": 0}], ids=str
)
@pytest.mark.parametrize(
    "wrap", [lambda X, y: (X, y), lambda X, y: (Dataset(X, y),)], ids=["arrays", "Dataset"]
)
@pytest.mark.parametrize("name", OWNERS)
def test_iterator_that_hands_on_changes_nothing(name: str, wrap: Any, options: dict[str, Any]) -> None:
    owners = OWNERS[name], subclass(OWNERS[name], get_iterator=hand_on)
    ASKED.clear()
    nets = [make(owner, **options, random_state=0).fit(*wrap(X, CODES)) for owner in owners]
    for ours, expected in zip(*(get_weights(net).values() for net in nets), strict=True):
        assert torch.equal(ours, expected)
    assert True in ASKED


def test_iterator_put_on_a_net_is_asked() -> None:
    net = make(Mixed, alpha=0, random_state=0)
    net.get_iterator = lambda dataset, training=False: DataLoader(dataset, batch_size=3, sampler=ORDER)
    net.fit(X, CODES)
    assert net.history[:, "batches", :, "train_batch_size"] == [[3, 3, 4]] * 2  # a last row by itself joins


@pytest.mark.parametrize("params", [{"sample_weight": np.ones(N) + CODES}, {}])
def test_iterator_cannot_serve_weights(params: dict[str, Any]) -> None:
    owner = subclass(MixupClassifier, get_iterator=order_rows)
    options = {} if params else {"class_weight": {0: 2, 1: 1, 2: 1}}
    with pytest.raises(ValueError, match="get_iterator must be left at its default for sample_weight"):
        make(owner, **options).fit(X, CODES, **params)


def double(self: Any, dataset: Any, training: bool = False) -> Any:
    """Serve rows twice as large."""

    def collate(items: list[Any]) -> Any:
        x, y = default_collate(items)
        return x * 2, y

    return DataLoader(dataset, batch_size=7, collate_fn=collate)


@pytest.mark.parametrize("wrap", [lambda X: X, lambda X: Dataset(X, CODES)], ids=["arrays", "Dataset"])
@pytest.mark.parametrize("name", OWNERS)
def test_iterator_serves_what_is_predicted_and_held_out(name: str, wrap: Any) -> None:
    options: dict[str, Any] = {"alpha": 0, "max_epochs": 1, "train_split": ValidSplit(4), "random_state": 0}
    net = make(subclass(OWNERS[name], get_iterator=double), **options).fit(X, CODES)
    logits = net.module_.eval()(torch.as_tensor(X * 2)).detach()
    np.testing.assert_allclose(net.predict_proba(wrap(X)), torch.softmax(logits, 1), rtol=1e-5)
    loss = nn.functional.cross_entropy(logits[:6], torch.as_tensor(CODES[:6]))
    assert net.history[-1, "valid_loss"] == pytest.approx(float(loss), rel=1e-5)


def shift(self: Any, X: Any, y: Any = None) -> Any:
    """Return the data with rows that lie elsewhere, as skorch's signature has it."""
    return Dataset(np.asarray(X) + 1, y)


@pytest.mark.parametrize("name", OWNERS)
def test_dataset_of_the_users_own_knows_of_no_weights(name: str) -> None:
    owner = subclass(OWNERS[name], get_dataset=shift)
    net = make(owner, alpha=0, iterator_train__shuffle=False).fit(X, CODES)
    theirs = make(NeuralNetClassifier).fit(X + 1, CODES)
    for ours, expected in zip(get_weights(net).values(), get_weights(theirs).values(), strict=True):
        torch.testing.assert_close(ours, expected)
    logits = net.module_.eval()(torch.as_tensor(X + 1)).detach()
    np.testing.assert_allclose(net.predict_proba(X), torch.softmax(logits, 1), rtol=1e-5)
    with pytest.raises(ValueError, match="get_dataset must be left at its default for sample_weight"):
        make(owner).fit(X, CODES, sample_weight=np.ones(N) + CODES)


def split_own(self: Any, X: Any, y: Any = None, **fit_params: Any) -> Any:
    """Split as skorch does, and hand all that is left to `train_split`."""
    return self.train_split(self.get_dataset(X, y), y, **fit_params)


@pytest.mark.parametrize("name", OWNERS)
def test_split_of_the_users_own_is_given_what_fit_was_given(name: str) -> None:
    owner = subclass(OWNERS[name], get_split_datasets=split_own)
    net = make(owner, train_split=ValidSplit(4)).fit(X, CODES)
    assert sum(net.history[0, "batches", :, "train_batch_size"]) == 18
