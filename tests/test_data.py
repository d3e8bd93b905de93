"""Whole tensors and loaders serve the same batches."""

import numpy as np
import pytest
from scipy import sparse
import torch
from torch.utils.data import TensorDataset

from sk_mixup.data import Batch, PlannedBatches, PlannedLoader, RowSlices
from sk_mixup.mixing import ERM, Mixup
from sk_mixup.rows import Rows, SparseRows

N = 23


@pytest.fixture
def table():
    generator = np.random.default_rng(0)
    x = torch.as_tensor(generator.normal(size=(N, 3)), dtype=torch.float32)
    return x, torch.arange(N) % 4


@pytest.mark.parametrize("index", [[0], [3, 1, 1, 22], list(range(N)), []], ids=str)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_sparse_rows_equal_dense_rows(density, index):
    generator = np.random.default_rng(0)
    kept = generator.random((N, 7)) < density
    matrix = sparse.csr_matrix(generator.normal(size=(N, 7)) * kept)
    rows = SparseRows(matrix, torch.device("cpu"), torch.float64)
    assert len(rows) == N
    np.testing.assert_array_equal(rows[np.array(index, dtype=int)], matrix.toarray()[index])


def test_sparse_rows_add_up_duplicates():
    matrix = sparse.csr_matrix((np.ones(3), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    rows = SparseRows(matrix, torch.device("cpu"), torch.float32)
    assert rows[np.array([0, 1])].tolist() == [[0.0, 2.0], [1.0, 0.0]]
    assert matrix.nnz == 3


def test_sparse_rows_give_one_row_as_a_vector():
    rows = SparseRows(sparse.eye(3, format="csr"), torch.device("cpu"), torch.float32)
    assert rows[1].tolist() == [0.0, 1.0, 0.0]


def test_subset_shares_tensors_and_keeps_order(table):
    rows = Rows(*table, weight=torch.arange(N, dtype=torch.float32))
    part = rows.subset(np.array([5, 2, 9])).subset(np.array([2, 0]))
    x, y, weight = part.take(np.arange(2))
    assert part.x is rows.x
    assert torch.equal(x, table[0][[9, 5]])
    assert torch.equal(y, table[1][[9, 5]])
    assert weight.tolist() == [9.0, 5.0]
    assert torch.equal(part.X, x)
    assert torch.equal(part.y, y)
    assert [pair[1].item() for pair in part] == y.tolist()


def test_rows_of_a_mapping_are_taken_by_name(table):
    rows = Rows({"a": table[0], "b": table[0] * 2}, table[1])
    x, _, _ = rows.take(np.array([4, 1]))
    assert torch.equal(x["b"], 2 * table[0][[4, 1]])


@pytest.mark.parametrize("size", [1, 5, 23, 100])
def test_row_slices_cover_the_set_in_order(table, size):
    slices = RowSlices(Rows(*table), size)
    batches = list(slices)
    assert len(batches) == len(slices)
    assert torch.equal(torch.cat([x for x, _ in batches]), table[0])


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "policy",
    [ERM(), *(Mixup(partners=p, n_mixed=k) for p in ("batch", "dataset", "same_class") for k in (2, 3))],
    ids=str,
)
def test_loader_serves_the_batches_of_whole_tensors(table, policy, num_workers):
    plan = policy(np.random.default_rng(0), N, 5, labels=table[1].numpy())
    whole = PlannedBatches(Rows(*table), plan, torch.float32)
    device = torch.device("cpu")
    loader = PlannedLoader(TensorDataset(*table), plan, device, torch.float32, num_workers=num_workers)
    assert len(whole) == len(loader) == len(plan)
    for ours, theirs in zip(whole, loader, strict=True):
        assert torch.equal(ours.loaded, theirs.loaded)
        assert torch.equal(ours.targets, theirs.targets)
        assert (ours.lam is None) == (theirs.lam is None)
        assert ours.lam is None or torch.equal(ours.lam, theirs.lam)


def test_batch_unpacks_as_its_own_clean_examples(table):
    position = torch.tensor([[2, 3]])
    batch = Batch(table[0][:4], table[1][:4], None, position, torch.full((2, 2), 0.5))
    x, y = batch
    assert torch.equal(x, table[0][:2])
    assert torch.equal(y, table[1][:2])


def test_batch_without_mixing_has_one_target_of_full_weight(table):
    y, lam, weight = Batch(*table).get_mixed_targets()
    assert torch.equal(y, table[1].unsqueeze(0))
    assert torch.equal(lam, torch.ones(1, N))
    assert weight is None


def test_loader_leaves_the_global_generator_alone(table):
    plan = ERM()(np.random.default_rng(0), N, 5)
    before = torch.get_rng_state()
    list(PlannedLoader(TensorDataset(*table), plan, torch.device("cpu"), torch.float32))
    assert torch.equal(torch.get_rng_state(), before)
