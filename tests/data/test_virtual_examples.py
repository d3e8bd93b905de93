"""Vicinities and the form of the data: virtual examples do not depend on how rows are kept or joined."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
import skorch
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from sk_mixup._data.batches import PlannedBatches
from sk_mixup._data.planned_loader import PlannedLoader
from sk_mixup._data.storage import HostRows, Rows
from sk_mixup._training.trainer import Trainer
from sk_mixup.mixing import GaussianNoise, KernelPartners, ManifoldMixup, Mixup, NeighborPartners
from tests.helpers.architectures import (
    assert_close_nets,
    assert_same_nets,
    build_convolution,
    make_rows,
    note_epochs,
)
from tests.helpers.datasets import Pairs, Stream, make_tensor_dataset
from tests.helpers.nets import QUICK, Sum
from tests.helpers.sampling import each_value
from tests.helpers.vicinities import INF, OF_TABLES, OF_TARGETS, VICINITIES, Noted, get_shape, make_facts

N = 21
CODES = np.arange(N) % 3
PLANS = [name for name in VICINITIES if "manifold" not in name and "inside" not in name and "hid" not in name]
WITHIN_BATCH = ["erm", "mixup", "per_batch", "three", "noise", "cutmix", "manifold", "manifold_three"]
WITHIN_BATCH += ["extrapolation", "feature_extrapolation", "mixture_of_images", "mixture_with_noise"]
WITHOUT_ARRAYS = [*WITHIN_BATCH, "dataset", "same_class", "manifold_dataset", "cutmix_same_class"]


def draw_plan(name: str, batch_size: int = 4) -> Any:
    return VICINITIES[name](np.random.default_rng(3), N, batch_size, facts=make_facts(N, get_shape(name)))


def draw_rows(name: str, dtype: torch.dtype, *, on_host: bool = False) -> Rows:
    X = np.random.default_rng(0).normal(size=(N, *get_shape(name)))
    y = torch.as_tensor(np.random.default_rng(1).normal(size=(N, 2)), dtype=dtype)
    x: Any = HostRows(X, torch.device("cpu"), dtype) if on_host else torch.as_tensor(X, dtype=dtype)
    return Rows(x, y)


def collect(batches: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return inputs, targets and weights of all virtual examples."""
    parts = [(batch.get_mixed_inputs(), *batch.get_mixed_targets()[:2]) for batch in batches]
    x, y, lam = zip(*parts, strict=True)
    return torch.cat(x), torch.cat(y, dim=1), torch.cat(lam, dim=1)


# -- batches, blocks, loaders ------------------------------------------------------------


@each_value({"name": PLANS, "dtype": [torch.float32, torch.float64, torch.bfloat16]})
def test_virtual_examples_do_not_depend_on_how_batches_are_joined(name: str, dtype: torch.dtype) -> None:
    plan, rows = draw_plan(name), draw_rows(name, dtype)
    expected = collect(PlannedBatches(rows, plan, dtype))
    for n_joined in (1, 2, 3, 9):
        blocks = [block for block, _ in PlannedBatches(rows, plan, dtype).iterate_blocks(n_joined)]
        assert all(map(torch.equal, collect(blocks), expected))


@each_value({"name": PLANS, "dtype": [torch.float32, torch.float64]})
def test_parts_of_a_block_are_the_block(name: str, dtype: torch.dtype) -> None:
    plan, rows = draw_plan(name), draw_rows(name, dtype)
    ((whole, sizes),) = PlannedBatches(rows, plan, dtype).iterate_blocks(99)
    ((block, _),) = PlannedBatches(rows, plan, dtype).iterate_blocks(99)
    edges = [0, 4, 12, 16, sum(sizes)]
    parts = [block.get_mixed_inputs(*edge) for edge in pairwise(edges)]
    assert torch.equal(torch.cat(parts), whole.get_mixed_inputs())


@pytest.mark.parametrize("name", PLANS)
def test_loaded_rows_make_the_same_virtual_examples(name: str) -> None:
    plan, rows, dtype = draw_plan(name), draw_rows(name, torch.float64), torch.float64
    expected = collect(PlannedBatches(rows, plan, dtype))
    host = draw_rows(name, dtype, on_host=True)
    loader = PlannedLoader(DataLoader(rows, batch_sampler=[]), plan, torch.device("cpu"), dtype)
    assert all(map(torch.equal, collect(PlannedBatches(host, plan, dtype)), expected))
    assert all(map(torch.equal, collect(loader), expected))


@pytest.mark.parametrize("name", VICINITIES)
def test_batches_write_to_no_row(name: str) -> None:
    rows, copy = draw_rows(name, torch.float64), draw_rows(name, torch.float64)
    for batch in PlannedBatches(rows, draw_plan(name), torch.float64):
        x = batch.get_mixed_inputs()
        if batch.hidden is None:
            x.fill_(7)
    assert torch.equal(rows.x, copy.x)
    assert torch.equal(rows.targets, copy.targets)


@pytest.mark.parametrize("name", VICINITIES)
def test_batch_unpacks_as_its_clean_rows(name: str) -> None:
    plan, rows = draw_plan(name), draw_rows(name, torch.float64)
    pairs = [tuple(batch) for batch in PlannedBatches(rows, plan, torch.float64)]
    x, y = map(torch.cat, zip(*pairs, strict=True))
    assert torch.equal(x, rows.x[plan.order])
    assert torch.equal(y, rows.targets[plan.order])


def test_epochs_of_a_plan_repeat_their_noise() -> None:
    batches = PlannedBatches(draw_rows("noise", torch.float64), draw_plan("noise"), torch.float64)
    assert torch.equal(collect(batches)[0], collect(batches)[0])


# -- whole fits --------------------------------------------------------------------------


def fit(name: Any, X: Any, y: Any = None, **options: Any) -> Any:
    policy = VICINITIES.get(name, name) if isinstance(name, str) else name
    defaults = QUICK | {"max_epochs": 2, "batch_size": 8}
    module = lambda: build_convolution(3)  # noqa: E731
    return MixupClassifier(module, vicinity=policy, **defaults | options).fit(X, y)


IMAGES = make_rows("convolution")[:N]
SOME = ["erm", "near_class", "noise", "cutmix", "manifold_dataset", "mixture_with_noise"]
OTHERS = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in VICINITIES
    if name not in (*SOME, *OF_TARGETS, *OF_TABLES)
]


@pytest.mark.parametrize(("block", "target"), [(1, 2**20), (1, 1), (2**18, 100)])
@pytest.mark.parametrize("name", ["noise", "mixture_with_noise", "mixture_of_images", "manifold"])
def test_training_does_not_depend_on_the_blocks(
    monkeypatch: pytest.MonkeyPatch, name: str, block: int, target: int
) -> None:
    expected = fit(name, IMAGES, CODES, batch_size=4)
    epochs = note_epochs(monkeypatch)
    monkeypatch.setattr(Trainer, "block_elements", block)
    monkeypatch.setattr(Trainer, "target_elements", target)
    assert_same_nets(fit(name, IMAGES, CODES, batch_size=4), expected)
    assert len(epochs) == 2


@pytest.mark.parametrize("name", SOME + OTHERS)
def test_rows_on_the_host_are_trained_on_alike(name: str) -> None:
    assert_same_nets(fit(name, IMAGES, CODES, storage="host"), fit(name, IMAGES, CODES))


@pytest.mark.parametrize("name", ["cutmix", "near_class", "mixture_with_noise"])
@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_rows_in_a_file_are_trained_on_alike(tmp_path: Path, name: str, dtype: Any) -> None:
    X = np.round(np.abs(IMAGES) * 16).astype(dtype)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert_same_nets(fit(name, mapped, CODES), fit(name, X.astype(np.float32), CODES))


@pytest.mark.parametrize(
    "name",
    [
        "neighbors",
        "near_class",
        "noise",
        "manifold_dataset",
        "mixture",
        "mixture_of_tables",
        "table_by_information",
    ],
)
def test_sparse_rows_are_trained_on_alike(name: str) -> None:
    X = np.maximum(make_rows("tanh")[:N], 0)

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    options = QUICK | {"max_epochs": 2, "batch_size": 8, "vicinity": VICINITIES[name]}
    nets = [MixupClassifier(build, **options).fit(rows, CODES) for rows in (X, sparse.csr_matrix(X))]
    assert_close_nets(*nets)


WRAPS: dict[str, Callable[..., Any]] = {
    "tensors": make_tensor_dataset,
    "pairs": Pairs,
    "subset": lambda X, y: Subset(Pairs(X, y), range(len(X))),
}


@each_value({"name": WITHOUT_ARRAYS, "wrap": WRAPS})
def test_data_sets_are_trained_on_as_arrays_are(name: str, wrap: str) -> None:
    net = fit(name, WRAPS[wrap](IMAGES, CODES))
    assert_close_nets(net, fit(name, IMAGES, CODES), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["noise", "mixture_of_images"])
def test_workers_change_no_virtual_example(name: str) -> None:
    dataset = make_tensor_dataset(IMAGES, CODES)
    nets = [fit(name, dataset, max_epochs=1, iterator_train__num_workers=n) for n in (0, 2)]
    assert_same_nets(*nets)


@pytest.mark.parametrize("name", WITHIN_BATCH)
def test_streams_are_trained_on(name: str) -> None:
    def fit_stream() -> Any:
        net = MixupClassifier(
            lambda: build_convolution(3),
            vicinity=VICINITIES[name],
            **QUICK | {"batch_size": 10, "max_epochs": 2},
        )
        return net.partial_fit(Stream(make_tensor_dataset(IMAGES, CODES)), classes=[0, 1, 2])

    net = fit_stream()
    assert net.history[0, "batches", :, "train_batch_size"] == [10, 11]  # the last row joins
    assert_same_nets(net, fit_stream())


@pytest.mark.parametrize("name", ["noise", "mixup"])
def test_noise_of_a_stream_differs_from_batch_to_batch(name: str) -> None:
    seen: list[torch.Tensor] = []

    class Looking(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append(x.clone())
            return super().forward(x)

    rows = make_tensor_dataset(np.zeros((8, 4), dtype=np.float32), np.arange(8) % 2)
    net = MixupClassifier(
        Looking,
        module__in_features=4,
        module__out_features=2,
        vicinity=VICINITIES[name],
        **QUICK | {"batch_size": 4},
    )
    net.partial_fit(Stream(rows), classes=[0, 1])
    assert len(seen) == 6
    distinct = {tuple(x.ravel().tolist()) for x in seen}
    assert len(distinct) == (6 if name == "noise" else 1)


@pytest.mark.parametrize("partners", ["batch", "dataset"])
def test_hidden_layers_are_mixed_where_inputs_have_several_parts(partners: str) -> None:
    # The output of a linear layer is linear: to mix it is to mix the inputs.
    X = {"a": make_rows("mlp")[:N, :5], "b": make_rows("mlp")[:N, 1:]}
    options = QUICK | {"max_epochs": 1, "batch_size": -1, "random_state": 3, "optimizer": torch.optim.SGD}
    policies = ManifoldMixup(INF, layers=("line",), partners=partners), Mixup(INF, partners=partners)
    inside, outside = (Noted(policy) for policy in policies)
    nets = [MixupClassifier(Sum, vicinity=policy, **options).fit(X, CODES) for policy in (inside, outside)]
    assert inside.plans[0].index.tolist() == outside.plans[0].index.tolist()
    assert_close_nets(*nets)


@pytest.mark.parametrize("vicinity", [GaussianNoise(0.5), Mixup(partners="same_class")], ids=str)
def test_inputs_of_several_parts_are_varied_each(vicinity: Any) -> None:
    X = {"a": make_rows("mlp")[:N, :5], "b": make_rows("mlp")[:N, 1:]}
    nets = [
        MixupClassifier(Sum, **QUICK | {"vicinity": vicinity, "storage": storage}).fit(X, CODES)
        for storage in ("device", "host")
    ]
    assert_same_nets(*nets)


# -- neighbours and kernels follow the rows that are trained on ---------------------------


@pytest.mark.parametrize("fraction", [0.3, 0.5])
def test_neighbors_are_sought_among_the_rows_that_are_trained_on(fraction: float) -> None:
    seen: list[bool] = []

    class Net(MixupClassifier):
        def get_training_batches(self, dataset: Any, policy: Any, facts: Any = None) -> Any:
            batches = super().get_training_batches(dataset, policy, facts)
            own, partner = dataset.x[dataset.locate(batches.plan.index)].squeeze(-1)
            kept = dataset.x[dataset.index].squeeze(-1)
            nearest = (own[:, None] - kept).abs().topk(2, largest=False).values[:, 1]
            seen.append(torch.equal((own - partner).abs(), nearest))
            return batches

    X, y = np.arange(40, dtype=np.float32)[:, None] / 64, np.arange(40) % 2
    options = QUICK | {"early_stopping": True, "validation_fraction": fraction}
    net = Net(vicinity=Mixup(partners=NeighborPartners(1)), **options).fit(X, y)
    assert seen == [True] * len(net.history)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_kernel_partners_of_a_fit_have_similar_targets(n_outputs: int) -> None:
    X, y = make_rows("mlp"), np.repeat(np.arange(45.0)[:, None], n_outputs, axis=1) ** 2
    policy = Mixup(partners=KernelPartners(0.05))
    net = MixupRegressor(vicinity=policy, **QUICK | {"max_epochs": 1, "lr": 1e-6})
    net.fit(X, y.squeeze())
    dataset = net.get_dataset(X, y.astype(np.float32))
    plan = net.get_training_batches(dataset, policy, net.get_facts(dataset)).plan
    assert np.abs(np.diff(y[plan.index], axis=0)).max() < 10 * 0.05 * y.std()


class PlainNet(MixupNetMixin, skorch.NeuralNet):
    """A net of skorch's with the mixed training."""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["kernel", "noise", "mixup", "manifold_kernel"])
def test_net_of_skorch_takes_a_vicinity(name: str, dtype: Any) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1))

    y = np.linspace(0, 1, N, dtype=dtype)[:, None]
    net = PlainNet(
        build,
        nn.MSELoss,
        vicinity=VICINITIES[name],
        train_split=None,
        verbose=0,
        random_state=0,
        max_epochs=2,
    )
    net.fit(make_rows("tanh")[:N].astype(dtype), y.astype(np.float32))
    assert np.isfinite(net.history[-1]["train_loss"])
