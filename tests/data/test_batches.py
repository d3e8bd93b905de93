"""Whole tensors and loaders serve the same batches."""

import numpy as np
import pytest
from scipy import sparse
import torch
from torch.utils.data import DataLoader, TensorDataset

from sk_mixup._data.batches import Batch, PlannedBatches, RowSlices
from sk_mixup._data.planned_loader import PlannedLoader
from sk_mixup._data.storage import HostRows, Rows, SparseRows
from sk_mixup._skorch.loading import Loading
from sk_mixup._skorch.processes import Processes
from sk_mixup.mixing import ERM, Mixup, RowFacts
from tests.helpers.reference import mix_row
from tests.helpers.sampling import each_pair

N = 23
CPU = torch.device("cpu")
POLICIES = [
    ERM(),
    *(Mixup(partners=p, n_mixed=k) for p in ("batch", "dataset", "same_class") for k in (2, 3)),
    Mixup(lam_per="batch"),
]


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
    rows = SparseRows(matrix, CPU, torch.float64)
    assert len(rows) == N
    np.testing.assert_array_equal(rows[np.array(index, dtype=int)], matrix.toarray()[index])


def test_sparse_rows_add_up_duplicates():
    matrix = sparse.csr_matrix((np.ones(3), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    rows = SparseRows(matrix, CPU, torch.float32)
    assert rows[np.array([0, 1])].tolist() == [[0.0, 2.0], [1.0, 0.0]]
    assert matrix.nnz == 3


def test_sparse_rows_give_one_row_as_a_vector():
    rows = SparseRows(sparse.eye(3, format="csr"), CPU, torch.float32)
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
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_loader_serves_the_batches_of_whole_tensors(table, policy, num_workers):
    plan = policy(np.random.default_rng(0), N, 5, facts=RowFacts(labels=table[1].numpy()))
    whole = PlannedBatches(Rows(*table), plan, torch.float32)
    rows = DataLoader(TensorDataset(*table), batch_sampler=[], num_workers=num_workers)
    loader = PlannedLoader(rows, plan, CPU, torch.float32)
    assert len(whole) == len(loader) == len(plan)
    for ours, theirs in zip(whole, loader, strict=True):
        assert torch.equal(ours.loaded, theirs.loaded)
        assert torch.equal(ours.targets, theirs.targets)
        assert (ours.lam is None) == (theirs.lam is None)
        assert ours.lam is None or torch.equal(ours.lam, theirs.lam)


def make_rows(kind, n_samples=N):
    """Return weighted rows in float64, on the device or elsewhere, and the same rows as an array."""
    x = np.random.default_rng(0).normal(size=(n_samples, 3, 2, 2))
    table = x.reshape(n_samples, -1)
    device = torch.as_tensor(table)
    forms = {
        "device": device,
        "images": torch.as_tensor(x).to(memory_format=torch.channels_last),
        "host": HostRows(table, CPU, torch.float64),
        "sparse": SparseRows(sparse.csr_matrix(table), CPU, torch.float64),
        "mapping": {"a": device, "b": HostRows(-table, CPU, torch.float64)},
    }
    y, weight = torch.arange(n_samples) % 4, torch.linspace(0.5, 2, n_samples, dtype=torch.float64)
    return Rows(forms[kind], y, weight), (x if kind == "images" else table)


def draw_plan(policy, n_samples=N, batch_size=5, **options):
    labels = np.arange(n_samples) % 4
    return policy(np.random.default_rng(1), n_samples, batch_size, facts=RowFacts(labels=labels), **options)


KINDS = ["device", "images", "host", "sparse", "mapping"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_batches_hold_the_virtual_examples_of_the_plan(policy, kind):
    rows, table = make_rows(kind)
    plan = draw_plan(policy)
    lam = np.ones((1, N)) if plan.lam is None else plan.lam
    expected = [mix_row(table[index], weights) for index, weights in zip(plan.index.T, lam.T, strict=True)]
    batches = list(PlannedBatches(rows, plan, torch.float64))
    inputs = [batch.get_mixed_inputs() for batch in batches]
    if kind == "mapping":
        np.testing.assert_allclose(torch.cat([x["b"] for x in inputs]), -np.array(expected), rtol=1e-12)
        inputs = [x["a"] for x in inputs]
    np.testing.assert_allclose(torch.cat(inputs), expected, rtol=1e-12)
    y, lams, weight = zip(*(batch.get_mixed_targets() for batch in batches), strict=True)
    assert torch.cat(y, dim=1).tolist() == (plan.index % 4).tolist()
    np.testing.assert_array_equal(torch.cat(lams, dim=1), lam)
    np.testing.assert_allclose(torch.cat(weight), rows.weight.numpy()[plan.index].prod(axis=0), rtol=1e-15)


def assert_same_mixing(mixed, other):
    """Check that two batches hold the same virtual examples, bit for bit."""
    x, other_x = mixed.get_mixed_inputs(), other.get_mixed_inputs()
    pairs = [(x[name], other_x[name]) for name in x] if isinstance(x, dict) else [(x, other_x)]
    for values, expected in [*pairs, *zip(mixed.get_mixed_targets(), other.get_mixed_targets(), strict=True)]:
        assert torch.equal(values, expected)
        assert values.dtype == expected.dtype


class Joined:
    """Batches joined by hand."""

    def __init__(self, batches):
        self.batches = batches

    def get_mixed_inputs(self):
        inputs = [batch.get_mixed_inputs() for batch in self.batches]
        if isinstance(inputs[0], dict):
            return {name: torch.cat([x[name] for x in inputs]) for name in inputs[0]}
        return torch.cat(inputs)

    def get_mixed_targets(self):
        y, lam, weight = zip(*(batch.get_mixed_targets() for batch in self.batches), strict=True)
        return torch.cat(y, dim=1), torch.cat(lam, dim=1), torch.cat(weight)


@each_pair({"policy": POLICIES, "kind": KINDS, "n_batches": [1, 2, 3, 100]})
def test_blocks_join_the_batches_of_the_plan(policy, kind, n_batches):
    rows, _ = make_rows(kind)
    batches = PlannedBatches(rows, draw_plan(policy), torch.float64)
    singles = iter(batches)
    for block, sizes in batches.iterate_blocks(n_batches):
        assert 1 <= len(sizes) <= n_batches
        joined = Joined([next(singles) for _ in sizes])
        assert_same_mixing(block, joined)
        if kind != "mapping":
            part = slice(1, sum(sizes) - 1)
            inner = block.get_mixed_inputs(part.start, part.stop)
            assert torch.equal(inner, joined.get_mixed_inputs()[part])
    assert next(singles, None) is None


SIZES = [(1, 4), (2, 1), (3, 5), (20, 5), (21, 5), (23, 5), (24, 5), (23, -1), (9, 4), (8, 8)]


@each_pair(
    {
        "kind": ["device", "host"],
        "n_samples,batch_size": SIZES,
        "drop_last": [False, True],
        "n_batches": [1, 2, 3, 100],
    }
)
def test_blocks_hold_the_batches_of_the_plan(kind, n_samples, batch_size, drop_last, n_batches):
    rows, _ = make_rows(kind, n_samples)
    plan = draw_plan(Mixup(), n_samples, batch_size, drop_last=drop_last)
    counts = []
    for block, sizes in PlannedBatches(rows, plan, torch.float64).iterate_blocks(n_batches):
        assert len(block.get_mixed_inputs()) == sum(sizes)
        assert len(sizes) <= n_batches
        counts += sizes
    assert counts == np.diff(plan.bounds).tolist()


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_blocks_of_a_subset_hold_its_rows(policy):
    rows, table = make_rows("host")
    chosen = np.array([20, 3, 7, 11, 0, 15, 2])
    part, whole = rows.subset(chosen), Rows(torch.as_tensor(table[chosen]), rows.targets[chosen])
    whole.weight = rows.weight[chosen]
    plan = draw_plan(policy, len(chosen), 3)
    for ours, theirs in zip(
        PlannedBatches(part, plan, torch.float64).iterate_blocks(2),
        PlannedBatches(whole, plan, torch.float64).iterate_blocks(2),
        strict=True,
    ):
        assert_same_mixing(ours[0], theirs[0])
        assert ours[1] == theirs[1]


@pytest.mark.parametrize("kind", ["device", "host", "mapping"])
@pytest.mark.parametrize("blocks", [False, True])
def test_integers_are_not_mixed(kind, blocks):
    x = {
        "device": torch.arange(6),
        "host": HostRows(np.arange(6), CPU, None),
        "mapping": {"a": torch.arange(6)},
    }
    batches = PlannedBatches(Rows(x[kind], torch.arange(6)), draw_plan(Mixup(), 6, 3), torch.float32)
    batch = next(batches.iterate_blocks(2))[0] if blocks else next(iter(batches))
    with pytest.raises(TypeError, match=r"X must be of a floating dtype to be mixed; got torch\.int64\."):
        batch.get_mixed_inputs()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_of_a_batch_have_the_dtype_of_the_inputs(table, dtype):
    rows = Rows(table[0].to(dtype), table[1])
    batches = PlannedBatches(rows, draw_plan(Mixup()), dtype)
    block, _ = next(batches.iterate_blocks(2))
    for mixed in (next(iter(batches)), block):
        assert mixed.get_mixed_inputs().dtype == mixed.get_mixed_targets()[1].dtype == dtype


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
    loading = Loading(DataLoader, {}, 5, CPU, torch.float32, lambda pair: pair)
    generator, before = np.random.default_rng(0), torch.get_rng_state()
    epoch = loading.draw_epoch(TensorDataset(*table), ERM(), RowFacts(), generator, Processes(), None)
    assert isinstance(epoch, PlannedLoader)
    assert len(list(epoch)) == -(-N // 5)
    assert torch.equal(torch.get_rng_state(), before)
