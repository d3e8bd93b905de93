"""A stream that hands the same iterator out again is looked at without losing an example."""

from collections.abc import Callable, Iterator
import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup._skorch.dataset_items import keep_stream

N = 22
QUICK: dict[str, Any] = {
    "batch_size": 11,
    "max_epochs": 1,
    "random_state": 0,
    "early_stopping": False,
    "alpha": 0,
}


class GoesOn(IterableDataset[Any]):
    """Reads on where it was."""

    def __init__(self, start: int = 0, stop: int = N, dtype: Any = np.float32) -> None:
        self.rows = iter([(np.full(2, number, dtype), number % 2) for number in range(start, stop)])

    def __iter__(self) -> Iterator[Any]:
        return self.rows


class IsItsIterator(GoesOn):
    def __iter__(self) -> Iterator[Any]:
        return self  # type: ignore[return-value]

    def __next__(self) -> Any:
        return next(self.rows)


class BeginsAnew(IterableDataset[Any]):
    """Is its own iterator, which `iter` takes back to the start."""

    def __iter__(self) -> Iterator[Any]:
        self.number = -1
        return self  # type: ignore[return-value]

    def __next__(self) -> Any:
        self.number += 1
        if self.number == N:
            raise StopIteration
        return np.full(2, self.number, np.float32), self.number % 2


class Sized(GoesOn):
    def __len__(self) -> int:
        return N


class Generated(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from ((np.full(2, number, np.float32), number % 2) for number in range(N))


class Spy(nn.Module):
    """Notes which rows it is trained on; of numbers or, where it embeds, of codes."""

    def __init__(self, embeds: bool = False) -> None:
        super().__init__()
        self.linear = nn.Embedding(N, 2) if embeds else nn.Linear(2, 2)
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += x[:, 0].int().tolist()
        out: Tensor = self.linear(x)
        return out[:, 0] if out.ndim == 3 else out


@pytest.mark.parametrize("stream", [GoesOn, IsItsIterator, BeginsAnew, Sized, Generated])
def test_all_rows_are_trained_on_once(stream: Callable[[], Any]) -> None:
    net = MixupClassifier(Spy(), classes=[0, 1], **QUICK).fit(stream(), None)
    assert net.module_.seen == list(range(N))


def test_rows_are_begun_anew_in_each_epoch_where_they_can_be() -> None:
    for stream in (BeginsAnew(), Generated()):
        net = MixupClassifier(Spy(), classes=[0, 1], **QUICK | {"max_epochs": 3}).fit(stream, None)
        assert net.module_.seen == 3 * list(range(N))


def test_chunks_of_a_stream_are_trained_on_whole() -> None:
    net = MixupClassifier(Spy(), **QUICK)
    for start in (0, 11):
        net.partial_fit(GoesOn(start, start + 11), None, classes=[0, 1])
    assert net.module_.seen == list(range(N))


def test_codes_of_a_stream_are_trained_on_whole() -> None:
    net = MixupClassifier(Spy(embeds=True), classes=[0, 1], **QUICK).fit(GoesOn(dtype=np.int64), None)
    assert net.module_.seen == list(range(N))


def test_a_regressor_loses_nothing_either() -> None:
    class Real(GoesOn):
        def __iter__(self) -> Iterator[Any]:
            self.real = getattr(self, "real", ((x, np.float32(y)) for x, y in self.rows))
            return self.real

    module = nn.Sequential(Spy(), nn.Linear(2, 1))
    net = MixupRegressor(module, standardize_targets=False, **QUICK).fit(Real(), None)
    assert net.module_[0].seen == list(range(N))


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="X must hold at least one pair"):
        MixupClassifier(Spy(), classes=[0, 1], **QUICK).fit(GoesOn(0, 0), None)


def test_mixed_rows_are_all_there_too() -> None:
    options = QUICK | {"alpha": np.inf, "batch_size": N}
    net = MixupClassifier(Mean(), classes=[0, 1], **options).fit(GoesOn(), None)
    assert net.module_.mean == pytest.approx((N - 1) / 2)


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.mean = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = float(x.mean())
        out: Tensor = self.linear(x)
        return out


def test_draws_of_a_stream_are_not_seen() -> None:
    class Shuffled(BeginsAnew):
        def __iter__(self) -> Iterator[Any]:
            torch.rand(3)
            return super().__iter__()

    module, state = Spy(), torch.get_rng_state()
    MixupClassifier(module, classes=[0, 1], **QUICK).fit(Shuffled(), None)
    assert torch.equal(torch.get_rng_state(), state)


class Restarting(GoesOn):
    """Hands the same iterator out twice, and begins anew where it was copied."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self.rows = iter(numbers)

    def __iter__(self) -> Iterator[Any]:
        return self.rows


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_stream_that_is_kept_can_be_copied(again: Callable[[Any], Any]) -> None:
    stream: Any = keep_stream(Restarting([3, 4, 5]), 0)
    assert stream.peek() == 3
    other = again(stream)
    assert other.numbers == [3, 4, 5]
    assert next(iter(other)) in (3, 4)
    assert not hasattr(other, "more")
