"""The loaders of a fit: each is made once, and a user's own orders rows anew in each epoch."""

from collections.abc import Callable, Iterator
import os
import pickle
from typing import Any

import numpy as np
import pytest
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from sk_mixup import MixupNetMixin, MixupRegressor

N = 12
X = np.arange(N, dtype=np.float32)[:, None]


class OwnLoader(DataLoader):
    """A loader of the user's own, as other libraries have theirs."""


class Seen(nn.Linear):
    """Keeps what it is given, and learns nothing."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.batches: list[tuple[bool, list[float]]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append((self.training, x[:, 0].tolist()))
        return super().forward(x * 0)


class Net(MixupNetMixin, NeuralNetRegressor):
    """A regressor of skorch's."""

    n_loaders = 0

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        self.n_loaders += 1
        return super().get_iterator(dataset, training=training)


def make(seed: int = 0, owner: Any = Net, **options: Any) -> Any:
    quick = {"alpha": 0, "max_epochs": 3, "batch_size": N, "train_split": None, "verbose": 0, "lr": 0.0}
    return owner(**{"module": Seen, **quick, **options, "random_state": seed})


def list_orders(net: Any) -> list[tuple[float, ...]]:
    return [tuple(rows) for training, rows in net.module_.batches if training]


def load_shuffled(dataset: Any, **options: Any) -> DataLoader[Any]:
    """Return a loader, as a function that is no class."""
    return DataLoader(dataset, shuffle=True, **options)


SHUFFLED: dict[str, dict[str, Any]] = {
    "own class": {"iterator_train": OwnLoader, "iterator_train__shuffle": True},
    "own class, drop_last": {
        **{"iterator_train": OwnLoader, "iterator_train__shuffle": True, "iterator_train__drop_last": True}
    },
    "function": {"iterator_train": load_shuffled},
    "sampler": {"iterator_train__sampler": RandomSampler(range(N))},
    "own class, sampler": {"iterator_train": OwnLoader, "iterator_train__sampler": RandomSampler(range(N))},
    "planned": {},
    "workers": {"iterator_train__num_workers": 1},
    "own class, workers": {
        **{"iterator_train": OwnLoader, "iterator_train__shuffle": True, "iterator_train__num_workers": 1}
    },
}


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("name", SHUFFLED)
def test_rows_come_in_another_order_in_each_epoch_and_for_each_seed(name: str, alpha: float) -> None:
    nets = [make(seed, alpha=alpha, **SHUFFLED[name]).fit(X, X) for seed in (0, 1, 0)]
    orders = [list_orders(net) for net in nets]
    if not alpha:  # else virtual examples are seen
        assert all(sorted(order) == X[:, 0].tolist() for order in orders[0])
    assert len({*orders[0], *orders[1]}) == 6
    assert orders[0] == orders[2]


def test_order_without_shuffling_is_that_of_the_rows() -> None:
    orders = list_orders(make(iterator_train=OwnLoader).fit(X, X))
    assert orders == [tuple(X[:, 0])] * 3


class Estimator(MixupRegressor):
    """A regressor of this library, with the arguments of skorch's."""

    def __init__(self, module: Any, **options: Any) -> None:
        options |= {"lr": 1e-30, "early_stopping": False, "standardize_targets": False}
        super().__init__(module, **options)

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        return super().fit(X, None if y is None else y.ravel(), **fit_params)


FORMS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "arrays": lambda: (X, X),
    "tensors": lambda: (torch.as_tensor(X), torch.as_tensor(X)),
    "Dataset": lambda: (TensorDataset(torch.as_tensor(X), torch.as_tensor(X)), None),
}
OWN: dict[str, Any] = {"iterator_train": OwnLoader, "iterator_train__shuffle": True}


@pytest.mark.parametrize("options", [{}, {"iterator_train__num_workers": 1}, OWN], ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("owner", [Net, Estimator])
def test_generator_of_the_users_own_decides(owner: Any, form: str, options: dict[str, Any]) -> None:
    def fit(seed: int, of_generator: int) -> list[tuple[float, ...]]:
        generator = torch.Generator().manual_seed(of_generator)
        net = make(seed, owner, **options, iterator_train__generator=generator)
        return list_orders(net.fit(*FORMS[form]()))

    orders = fit(0, 5)
    assert orders == fit(1, 5)
    assert len({*orders, *fit(0, 6)}) == 6


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("owner", [Net, Estimator])
def test_generator_goes_on_from_fit_to_fit(owner: Any, form: str, alpha: float) -> None:
    generator = torch.Generator().manual_seed(5)
    nets = [make(0, owner, alpha=alpha, iterator_train__generator=generator) for _ in range(2)]
    orders = [order for net in nets for order in list_orders(net.fit(*FORMS[form]()))]
    assert len(set(orders)) == 6


@pytest.mark.parametrize("name", ["iterator_train", "iterator_valid"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("owner", [Net, Estimator])
def test_no_generator_is_none_given(owner: Any, form: str, name: str) -> None:
    given = make(0, owner, **{f"{name}__generator": None}).fit(*FORMS[form]())
    assert list_orders(given) == list_orders(make(0, owner).fit(*FORMS[form]()))


@pytest.mark.parametrize("generator", [5, np.random.default_rng(0)], ids=["int", "numpy"])
def test_generator_of_another_kind_is_refused(generator: Any) -> None:
    with pytest.raises(TypeError, match=r"iterator_train__generator must be a torch\.Generator"):
        make(iterator_train__generator=generator).fit(X, X)


class Narrow(DataLoader):
    """A loader with few arguments."""

    def __init__(self, dataset: Any, batch_size: int = 4) -> None:
        super().__init__(dataset, batch_size)


class NarrowShuffled(DataLoader):
    """A loader with few arguments, and an order of its own."""

    def __init__(self, dataset: Any, batch_size: int = 4) -> None:
        super().__init__(dataset, batch_size, shuffle=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("owner", [Net, Estimator])
def test_loader_need_not_take_a_generator(owner: Any, form: str) -> None:
    net = make(0, owner, iterator_train=Narrow, iterator_valid=Narrow, batch_size=5).fit(*FORMS[form]())
    assert list_orders(net) == [tuple(X[k : k + 5, 0]) for k in (0, 5, 10)] * 3
    np.testing.assert_allclose(net.predict(X), make(0, owner).fit(X, X).predict(X))  # nothing is learned


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("owner", [Net, Estimator])
def test_seed_decides_in_what_order_such_a_loader_serves(owner: Any, alpha: float) -> None:
    orders = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed + 7 * len(orders))
        orders.append(list_orders(make(seed, owner, alpha=alpha, iterator_train=NarrowShuffled).fit(X, X)))
    assert len({*orders[0], *orders[1]}) == 6
    assert orders[0] == orders[2]


@pytest.mark.parametrize("loader", [DataLoader, OwnLoader, Narrow])
@pytest.mark.parametrize("owner", [Net, Estimator])
def test_global_generator_is_left_alone(owner: Any, loader: Any) -> None:
    before = torch.get_rng_state()
    net = make(0, owner, iterator_train=loader, iterator_valid=loader).fit(X, X)
    net.predict(FORMS["Dataset"]()[0])
    assert torch.equal(torch.get_rng_state(), before)


class FromWorker(Dataset):
    """Tells which process has read a row."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return torch.tensor([float(os.getpid() % 2**20)]), torch.tensor([float(row)])


@pytest.mark.parametrize("own", [{}, {"iterator_train": OwnLoader, "iterator_valid": OwnLoader}])
@pytest.mark.parametrize("persistent", [False, True])
def test_persistent_workers_go_on(own: dict[str, Any], persistent: bool) -> None:
    options: dict[str, Any] = {}
    for name in ("iterator_train", "iterator_valid"):
        options |= {f"{name}__num_workers": 1, f"{name}__persistent_workers": persistent}
    net = make(**own, **options, train_split=ValidSplit(3)).fit(FromWorker(), None)
    for training in (False, True):
        batches = (batch for was_training, batch in net.module_.batches if was_training is training)
        pids = {pid for batch in batches for pid in batch}
        assert len(pids) == (1 if persistent else 3)


@pytest.mark.parametrize(
    "options",
    [{}, {"iterator_train": OwnLoader}, {"iterator_valid": OwnLoader}],
    ids=["none", "train", "valid"],
)
def test_loader_is_made_once_a_fit(options: dict[str, Any]) -> None:
    split = {"train_split": ValidSplit(3), "warmup_epochs": 1, "cooldown_epochs": 1}
    net = make(**split, **options).fit(X, X)
    assert net.n_loaders == 2  # as in skorch
    net.partial_fit(X, X)
    assert net.n_loaders == 4


def test_iterator_that_ends_is_made_for_each_epoch() -> None:
    def yield_once(dataset: Any, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        rows = torch.as_tensor(np.stack([dataset[row][0] for row in range(len(dataset))]))
        yield rows, rows * 0

    options: dict[str, Any] = {"iterator_train": yield_once, "iterator_valid": yield_once}
    net = make(**options, train_split=ValidSplit(3)).fit(X, X)
    assert net.history[:, "train_batch_count"] == net.history[:, "valid_batch_count"] == [1, 1, 1]


class Pickler(Callback):
    """Saves the net in the middle of a fit."""

    def on_epoch_end(self, net: Any, **kwargs: object) -> None:
        self.saved_ = pickle.dumps(net)


def test_net_is_saved_within_a_fit_that_has_workers() -> None:
    workers = {"iterator_train__num_workers": 1, "iterator_train__persistent_workers": True}
    pickler = Pickler()
    net = make(**workers, callbacks=[pickler]).fit(FromWorker(), None)
    assert pickle.loads(pickler.saved_).predict(X).shape == net.predict(X).shape
