"""What is done otherwise on an accelerator, on devices without numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import stats
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sk_mixup._data.batches import PlannedBatches
from sk_mixup._data.storage import Rows
from sk_mixup._devices import ACCELERATOR
from sk_mixup._training.consistency_losses import update_average
from sk_mixup._training.losses import CrossEntropy
from sk_mixup._training.module import ModuleTrainer
from sk_mixup.estimators._block_sizes import BLOCK_SIZE, split_table
from sk_mixup.estimators._prediction import TablePredictor
from sk_mixup.mixing import ERM, GaussianNoise
from sk_mixup.mixing import operations as module_of_operations
from sk_mixup.mixing.operations import AddNoise, Sources, fill_noise

META = torch.device("meta")

# -- which modules are stacked -----------------------------------------------------------


def make_trainer(width: int, size: int, device: torch.device) -> tuple[ModuleTrainer, PlannedBatches]:
    """Return what trains a convolution of so many channels on images of so many pixels a side."""
    layers = nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(width * size**2, 2)
    module = nn.Sequential(*layers).to(device)
    rows = Rows(
        torch.empty(32, 3, size, size, device=device), torch.zeros(32, dtype=torch.int64, device=device)
    )
    batches = PlannedBatches(rows, ERM()(np.random.default_rng(0), 32, 32), torch.float32)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    return ModuleTrainer(module, CrossEntropy(2), 2, optimizer, dtype=torch.float32), batches


@pytest.mark.parametrize(("width", "size", "worth"), [(4, 8, True), (8, 16, True), (64, 64, False)])
def test_large_modules_are_not_stacked_on_an_accelerator(width: int, size: int, worth: bool) -> None:
    trainer, batches = make_trainer(width, size, META)
    flops = 2 * 32 * size**2 * width * (3 * 9 + 2)
    assert (flops <= ACCELERATOR.stack_flops) == worth
    assert trainer.is_worth_stacking(batches, 20) == worth
    assert not trainer.is_worth_stacking(batches, 1)


def test_two_small_modules_are_stacked_on_an_accelerator_alone() -> None:
    assert make_trainer(4, 4, META)[0].is_worth_stacking(make_trainer(4, 4, META)[1], 2)
    assert not make_trainer(4, 4, torch.device("cpu"))[0].is_worth_stacking(
        make_trainer(4, 4, torch.device("cpu"))[1], 2
    )


# -- blocks of predictions ---------------------------------------------------------------


@pytest.mark.parametrize("module", [None, nn.Linear(5, 2)])
@pytest.mark.parametrize(("n", "n_blocks"), [(1, 1), (257, 1), (2**14, 1), (2**14 + 1, 2), (60_000, 4)])
def test_tables_are_predicted_in_large_blocks_of_one_size(n: int, n_blocks: int, module: Any) -> None:
    blocks = split_table(torch.empty(n, 5, device=META), module)
    assert [tuple(block.shape) for block in blocks] == [(2**14, 5)] * n_blocks


def test_blocks_of_wide_tables_are_smaller_but_not_by_their_rows() -> None:
    sizes = {len(split_table(torch.empty(n, 50_000, device=META), None)[0]) for n in (1, 300, 9000)}
    assert len(sizes) == 1
    assert BLOCK_SIZE < sizes.pop() <= 2**27 / 50_000


def test_blocks_too_large_for_the_device_become_small_ones() -> None:
    seen: list[int] = []

    def evaluate(blocks: list[Tensor]) -> list[Any]:
        seen.append(len(blocks[0]))
        if len(blocks[0]) > BLOCK_SIZE:
            raise torch.OutOfMemoryError("too large")
        return [block.sum(dim=1, keepdim=True) for block in blocks]

    predictor = TablePredictor(evaluate, None, lambda n: n, in_batches=False)
    (output,) = predictor.predict(torch.empty(1000, 5, device=META))
    assert isinstance(output, Tensor)
    assert output.shape == (1000, 1)
    assert seen == [2**14, BLOCK_SIZE]


def test_no_smaller_blocks_are_tried_than_the_smallest() -> None:
    def evaluate(blocks: list[Tensor]) -> list[Any]:
        raise torch.OutOfMemoryError("no room at all")

    predictor = TablePredictor(evaluate, None, lambda n: n, in_batches=False)
    with pytest.raises(torch.OutOfMemoryError, match="no room at all"):
        predictor.predict(torch.ones(1000, 5))


# -- averaged weights --------------------------------------------------------------------


class Calls(TorchDispatchMode):
    """Notes the operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def make_tensors(n: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    kinds = [torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.int64, torch.bool]
    return [torch.randn(3, 2, generator=generator).mul_(9).to(kinds[k % len(kinds)]) for k in range(n)]


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("n", [0, 1, 12])
def test_averages_are_those_of_each_tensor_by_itself(n: int, decay: float) -> None:
    average, values = make_tensors(n, 0), make_tensors(n, 1)
    expected = [
        mean.lerp(value, 1 - decay) if mean.is_floating_point() or mean.is_complex() else value.clone()
        for mean, value in zip(average, values, strict=True)
    ]
    update_average(average, values, decay)
    torch.testing.assert_close(average, expected, rtol=0, atol=0)


def test_averages_take_as_many_operations_whatever_the_number_of_weights() -> None:
    counts = []
    for n in (6, 60):
        with Calls() as calls:
            update_average(make_tensors(0, 0) + [torch.ones(2)] * n, [torch.zeros(2)] * n, 0.9)
        counts.append(calls.seen.count("_foreach_lerp_"))
        assert "lerp_" not in calls.seen
    assert counts == [1, 1]


# -- noise -------------------------------------------------------------------------------


def draw_operation(n: int = 4000, size: int = 1000) -> AddNoise:
    (operation,) = GaussianNoise(std=0.5)(np.random.default_rng(0), n, size).operations
    assert isinstance(operation, AddNoise)
    return operation


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_of_a_device_is_normal_and_that_of_each_batch_its_own(dtype: torch.dtype) -> None:
    source = draw_operation().noise
    fill = partial(fill_noise, source=source, generator=torch.Generator())
    whole = fill(torch.empty(4000, 3, dtype=dtype), start=0, stop=4000)
    parts = [fill(torch.empty(1000, 3, dtype=dtype), start=k, stop=k + 1000) for k in (3000, 0, 2000, 1000)]
    torch.testing.assert_close(whole, torch.cat([parts[1], parts[3], parts[2], parts[0]]), rtol=0, atol=0)
    other = fill(torch.empty(4000, 3, dtype=dtype), start=0, stop=4000, stream=1)
    for values in (*whole.T, *other.T, *parts[0].T):
        assert stats.kstest(values.numpy(), "norm").pvalue > 1e-4
    columns = np.stack([part.numpy().ravel() for part in (*parts, other[:1000], other[1000:2000])])
    assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < 0.1


@pytest.mark.parametrize("shape", [(20, 3), (20, 2, 4, 4)])
def test_noise_is_drawn_where_the_rows_are(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    made: list[Any] = []

    def make_generator(device: torch.device) -> torch.Generator:
        made.append(device)
        return real()

    real = torch.Generator
    monkeypatch.setattr(torch, "Generator", make_generator)
    monkeypatch.setattr(module_of_operations, "send", lambda *_: pytest.fail("numbers were sent"))
    x = torch.empty(shape, device=META)
    noisy = draw_operation(20, 8).apply(x, torch.ones(20, device=META), Sources(x, torch.empty(1, 20)))
    assert (noisy.device, noisy.shape, made) == (META, x.shape, [META])
