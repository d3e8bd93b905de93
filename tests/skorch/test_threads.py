"""A fit uses as many threads as its net is worth: never more than are set, and no other thread notices."""

from collections.abc import Callable, Iterator
import threading
from typing import Any

import numpy as np
import pytest
import skorch
from skorch.callbacks import Callback
import torch
from torch import nn
from torch.utils.data import TensorDataset

from sk_mixup import (
    MixupClassifier,
    MixupGAN,
    MixupNetMixin,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
)
from tests.helpers.stacking import fit_stacked

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
Y = np.arange(40) % 2


class Net(MixupNetMixin, skorch.NeuralNetClassifier):
    pass


class Watch(Callback):
    """Notes the number of threads within a fit: in its own thread, in one that is there, in a new one."""

    def __init__(self, raises: bool = False) -> None:
        self.raises = raises
        self.seen: list[tuple[int, int, int]] = []
        self.started, self.asked = threading.Event(), threading.Event()
        self.found: list[int] = []
        self.thread = threading.Thread(target=self.wait, daemon=True)
        self.thread.start()
        self.started.wait()

    def __deepcopy__(self, memo: object) -> "Watch":
        return self

    def wait(self) -> None:
        torch.get_num_threads()
        self.started.set()
        self.asked.wait()
        self.found.append(torch.get_num_threads())

    def on_epoch_end(self, net: object, **kwargs: object) -> None:
        self.asked.set()
        self.thread.join()
        self.seen.append((torch.get_num_threads(), self.found[0], count_in_new_thread()))
        if self.raises:
            raise RuntimeError("on purpose")


def count_in_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """What sets the number, which is 1 in all other tests."""
    yield torch.set_num_threads
    torch.set_num_threads(1)


def fit_net(watch: Watch) -> None:
    options: dict[str, Any] = {"train_split": None, "max_epochs": 1, "verbose": 0}
    Net(nn.Linear(5, 2), criterion=nn.CrossEntropyLoss, callbacks=[watch], **options).fit(X, Y)


class LookingAtBatches(Watch):
    """Makes training go step by step."""

    def on_batch_end(self, net: object, **kwargs: object) -> None:
        assert torch.get_num_threads() == 1


OPTIONS: dict[str, Any] = {"max_epochs": 1, "random_state": 0}
DATASET = TensorDataset(torch.as_tensor(X), torch.as_tensor(Y))
SMALL: dict[str, Any] = {
    "generator__hidden_layer_sizes": 8,
    "discriminator__hidden_layer_sizes": 8,
    "steps_per_epoch": 2,
}
FITS: dict[str, Callable[[Any], Any]] = {
    "classifier": lambda w: MixupClassifier(early_stopping=False, callbacks=[w], **OPTIONS).fit(X, Y),
    "held out": lambda w: MixupClassifier(callbacks=[w], **OPTIONS).fit(X, Y),
    "regressor": lambda w: MixupRegressor(callbacks=[w], early_stopping=False, **OPTIONS).fit(X, X[:, 0]),
    "partial": lambda w: MixupClassifier(callbacks=[w], **OPTIONS).partial_fit(X, Y),
    "Dataset": lambda w: MixupClassifier(early_stopping=False, callbacks=[w], **OPTIONS).fit(DATASET),
    "semi-supervised": lambda w: SemiSupervisedMixupClassifier(callbacks=[w], **OPTIONS).fit(
        X, np.where(np.arange(40) < 20, Y, -1)
    ),
    "GAN": lambda w: MixupGAN(callbacks=[w], **SMALL, **OPTIONS).fit(X),
    "net": fit_net,
}


@pytest.mark.parametrize("fit", FITS)
def test_small_net_is_trained_by_one_thread_and_nobody_notices(fit: str, set_threads: Any) -> None:
    set_threads(2)
    watch = Watch()
    FITS[fit](watch)
    assert watch.seen == [(1, 2, 2)]
    assert (torch.get_num_threads(), count_in_new_thread()) == (2, 2)


def test_step_by_step_is_trained_by_one_thread_too(set_threads: Any) -> None:
    set_threads(2)
    FITS["classifier"](LookingAtBatches())
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("fit", ["classifier", "GAN", "net"])
def test_number_of_threads_is_put_back_after_an_error(fit: str, set_threads: Any) -> None:
    set_threads(3)
    with pytest.raises(RuntimeError, match="on purpose"):
        FITS[fit](Watch(raises=True))
    assert (torch.get_num_threads(), count_in_new_thread()) == (3, 3)


def test_number_that_another_thread_sets_meanwhile_stays(set_threads: Any) -> None:
    class Setting(Callback):
        def on_epoch_end(self, net: object, **kwargs: object) -> None:
            thread = threading.Thread(target=torch.set_num_threads, args=(4,))
            thread.start()
            thread.join()

    set_threads(2)
    FITS["classifier"](Setting())
    assert (torch.get_num_threads(), count_in_new_thread()) == (2, 4)


def make_large(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 2000), *layers, nn.Linear(2000, 2))


class Odd(nn.Module):
    """A module whose work cannot be told from its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(5, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


@pytest.mark.parametrize(
    ("make", "n_set", "n_used"),
    [
        (lambda: make_large(nn.ReLU(), nn.Linear(2000, 2000), nn.ReLU()), 2, 2),
        (Odd, 2, 2),
        (lambda: nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 2, 5), nn.Flatten()), 2, 2),
        (lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2)), 2, 1),
        (lambda: make_large(nn.ReLU(), nn.Linear(2000, 2000), nn.ReLU()), 1, 1),
    ],
)
def test_large_and_unknown_nets_keep_the_number_that_is_set(
    make: Callable[[], nn.Module], n_set: int, n_used: int, set_threads: Any
) -> None:
    set_threads(n_set)
    watch = Watch()
    MixupClassifier(make(), early_stopping=False, callbacks=[watch], **OPTIONS).fit(X, Y)
    assert [seen[0] for seen in watch.seen] == [n_used]


def test_net_that_cannot_be_stacked_is_trained_as_by_itself(set_threads: Any) -> None:
    seen: list[int] = []

    def note(module: nn.Module, *_: object) -> None:
        if module.training:
            seen.append(torch.get_num_threads())

    def make(seed: int) -> Any:
        module = nn.Sequential(nn.Linear(5, 2))
        module.register_forward_hook(note)
        return MixupClassifier(module, early_stopping=False, max_epochs=1, random_state=seed)

    set_threads(2)
    with pytest.warns(UserWarning, match="one by one"):
        fit_stacked([(make(seed), X, Y) for seed in (0, 1)])
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


def test_fits_in_several_threads_leave_the_number_for_new_ones(set_threads: Any) -> None:
    set_threads(2)
    threads = [threading.Thread(target=FITS["classifier"], args=(Callback(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (torch.get_num_threads(), count_in_new_thread()) == (2, 2)
