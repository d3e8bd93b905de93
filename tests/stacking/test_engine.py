"""Which epochs the engine runs together, and on which threads."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sk_mixup import MixupClassifier
from sk_mixup._training.epoch import Epoch
from sk_mixup._training.module import ModuleTrainer
from sk_mixup._training.stacked_trainer import StackedTrainer
from sk_mixup.modules import MLP
from sk_mixup.stacking._engine import MOST, Engine, count_bytes
from tests.helpers.architectures import draw_batches, find_trainer
from tests.helpers.nets import QUICK
from tests.helpers.stacking import fit_stacked

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40) % 3


@pytest.fixture
def use_threads() -> Iterator[Callable[[int], None]]:
    yield torch.set_num_threads
    torch.set_num_threads(1)


def fit(n_nets: int, module: Any = MLP, **options: Any) -> list[Any]:
    settings = QUICK | {"max_epochs": 1} | options
    nets = [MixupClassifier(module, **settings | {"random_state": k}) for k in range(n_nets)]
    return fit_stacked([(net, X, Y) for net in nets])


def make_tanh() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def make_wide() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 300), nn.Tanh(), nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 3))


def make_epoch(module: Any, size: int) -> Epoch:
    net = MixupClassifier(module, **QUICK | {"max_epochs": 1, "batch_size": size}).fit(X, Y)
    batches = draw_batches(net, X, Y)
    trainer = find_trainer(net, batches)
    return Epoch(trainer, batches, lambda *_: None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n_nets", "n_threads", "expected"),
    [(2, 1, [2]), (7, 1, [7]), (7, 2, [3, 4]), (MOST + 1, 1, [16, 17])],
)
def test_default_nets_are_dealt_out_evenly(
    stacks: list[int], use_threads: Any, n_nets: int, n_threads: int, expected: list[int]
) -> None:
    use_threads(n_threads)
    fit(n_nets)
    assert sorted(stacks) == expected


def test_many_threads_get_no_stacks_that_are_too_small(stacks: list[int], use_threads: Any) -> None:
    use_threads(16)
    fit(25)
    assert sorted(stacks) == [5] * 5


FEWEST = ModuleTrainer.fewest_stacked


@pytest.mark.parametrize(("n_nets", "expected"), [(FEWEST - 1, []), (FEWEST, [FEWEST])])
def test_few_modules_are_trained_one_by_one_without_a_warning(
    stacks: list[int], n_nets: int, expected: list[int]
) -> None:
    fit(n_nets, make_tanh)
    assert stacks == expected


def test_large_modules_are_trained_one_by_one_without_a_warning(stacks: list[int]) -> None:
    fit(FEWEST, make_wide)
    assert stacks == []


def test_operations_are_counted_for_a_batch() -> None:
    for size in (16, 40):
        epoch: Any = make_epoch(make_tanh, size)
        assert epoch.trainer.count_flops(epoch.batches) == 2 * size * (6 * 8 + 8 * 3)


def test_memory_of_a_net_is_that_of_its_weights_units_and_rows() -> None:
    epoch = make_epoch(partial(MLP, 6, 3, hidden_layer_sizes=(8,)), 16)
    n_weights, n_units = 6 * 8 + 8 + 8 * 3 + 3, 6 + 8 + 8 + 3
    rows = 40 * (6 * 4 + 8)  # float32 and class codes
    # Weights, gradients and two moments; inputs and outputs of each layer, and their gradients.
    assert count_bytes(epoch) == 4 * 4 * n_weights + 2 * 4 * 16 * n_units + rows


def test_counting_leaves_a_module_as_it_is() -> None:
    epoch: Any = make_epoch(lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)), 16)
    module: Any = epoch.trainer.module
    before, state = [t.clone() for t in module.state_dict().values()], torch.get_rng_state()
    epoch.trainer.count_flops(epoch.batches)
    assert all(torch.equal(*pair) for pair in zip(before, module.state_dict().values(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training


def test_memory_that_is_too_small_halves_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run_epoch = StackedTrainer.run_epoch

    def run_small(self: StackedTrainer, check: Callable[[], None]) -> bool:
        sizes.append(len(self.epochs))
        if len(self.epochs) > 2:
            raise torch.OutOfMemoryError("too large")
        return run_epoch(self, check)

    single = fit(5)
    monkeypatch.setattr(StackedTrainer, "run_epoch", run_small)
    for one, other in zip(single, fit(5), strict=True):
        torch.testing.assert_close(one.module_.state_dict(), other.module_.state_dict())
    assert sizes == [5, 3, 2, 2]


def test_an_epoch_that_is_done_is_not_run_again() -> None:
    epoch = make_epoch(MLP, 16)
    epoch.done = True
    before = [p.clone() for p in epoch.trainer.optimizer.param_groups[0]["params"]]
    engine = Engine(1)
    engine.train([epoch], lambda: None)
    engine.close()
    after = epoch.trainer.optimizer.param_groups[0]["params"]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
