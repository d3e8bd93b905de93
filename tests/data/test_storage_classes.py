"""Rows on the device, in host memory and sparse: one set, whatever holds it."""

import numpy as np
import pytest
from scipy import sparse
import torch

from sk_mixup._data.batches import PlannedBatches, RowSlices
from sk_mixup._data.storage import HostRows, Rows, SparseRows, map_features
from sk_mixup._tensors import gather_rows, send
from sk_mixup._training.losses import CrossEntropy
from sk_mixup._training.module import ModuleTrainer
from sk_mixup._training.module_structure import find_linear_layers
from sk_mixup._training.perceptron import PerceptronTrainer
from sk_mixup.mixing import ERM, Mixup
from sk_mixup.modules import MLP
from tests.helpers.sampling import each_pair, each_value

CPU = torch.device("cpu")
N = 11
SHAPES = [(N,), (N, 3), (N, 3, 2), (N, 3, 4, 2), (N, 1, 4, 2), (N, 3, 1, 1), (N, 2, 2, 2, 2)]
INDICES = [0, 10, -1, [0], [3, 1, 1, 10], list(range(N)), []]


def make_array(shape=(N, 3), dtype=np.float32):
    return np.random.default_rng(0).integers(-50, 50, size=shape).astype(dtype)


def as_index(index):
    return np.array(index, dtype=np.int64) if isinstance(index, list) else index


# -- rows in host memory -----------------------------------------------------------------


@pytest.mark.parametrize("index", INDICES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_host_rows_equal_the_rows_of_a_tensor(shape, index):
    array = make_array(shape)
    rows = HostRows(array, CPU, None)
    assert (len(rows), rows.shape, rows.ndim) == (N, shape, len(shape))
    expected = torch.as_tensor(array)[as_index(index)]
    assert torch.equal(rows[as_index(index)], expected)
    assert rows[as_index(index)].dtype == expected.dtype


@pytest.mark.parametrize("index", [np.int64(3), np.array(3), torch.tensor(3), torch.tensor([3, 0])], ids=repr)
@pytest.mark.parametrize("shape", [(N,), (N, 3)], ids=str)
def test_host_rows_take_every_kind_of_index(shape, index):
    array = make_array(shape)
    assert torch.equal(HostRows(array, CPU, None)[index], torch.as_tensor(array)[index])


FORMS = {
    "read-only": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
    "reversed": lambda array: array[::-1].copy()[::-1],
    "fortran": np.asfortranarray,
    "columns": lambda array: np.hstack([array, array])[:, : array.shape[1]],
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
}


@each_value({"name": FORMS, "dtype": [np.float16, np.float32, np.float64, np.uint8, np.int64, np.bool_]})
def test_host_rows_of_every_layout_are_read(name, dtype):
    array = make_array(dtype=dtype)
    rows = HostRows(FORMS[name](array), CPU, None)
    assert torch.equal(rows[np.array([4, 0])], torch.as_tensor(array[[4, 0]]))
    assert torch.equal(rows[4], torch.as_tensor(array[4]))


@pytest.mark.parametrize("index", [2, [2, 5]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("given", [np.float64, np.float32, np.uint8, np.int64])
def test_host_rows_are_cast_as_a_tensor_is(given, dtype, index):
    array = make_array(dtype=given)
    rows = HostRows(array, CPU, dtype)[as_index(index)]
    assert rows.dtype == dtype
    assert torch.equal(rows, torch.as_tensor(array).to(dtype)[as_index(index)])


@pytest.mark.parametrize("index", [2, [2, 5]], ids=str)
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
def test_host_rows_are_tensors_of_their_own(dtype, index):
    array = make_array()
    HostRows(array, CPU, dtype)[as_index(index)].fill_(7)
    np.testing.assert_array_equal(array, make_array())


@pytest.mark.parametrize("cast", [None, torch.float64])
def test_host_rows_have_the_memory_format_they_are_asked_for(cast):
    array = make_array((N, 3, 4, 2))
    rows = HostRows(array, CPU, cast, torch.channels_last)[np.array([3, 1])]
    assert rows.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(rows, array[[3, 1]])


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_sent_values_are_the_values(dtype):
    values = make_array()
    sent = send(values, CPU, dtype)
    np.testing.assert_array_equal(sent, values)
    assert sent.dtype == (dtype or torch.float32)


# -- rows of a tensor --------------------------------------------------------------------


@each_pair(
    {
        "format": [torch.contiguous_format, torch.channels_last],
        "shape": SHAPES,
        "index": [[0], [3, 1, 1, 10], list(range(N)), []],
    }
)
def test_gathered_rows_are_those_of_the_index_and_keep_their_layout(shape, index, format):
    x = torch.as_tensor(make_array(shape))
    if len(shape) == 4:
        x = x.to(memory_format=format)
    rows = gather_rows(x, torch.as_tensor(as_index(index)))
    assert torch.equal(rows, x[as_index(index)])
    if len(shape) == 4:
        assert rows.is_contiguous(memory_format=format)
    rows.fill_(100)
    assert torch.equal(x, torch.as_tensor(make_array(shape)))


# -- sets of rows ------------------------------------------------------------------------


def make_x(kind):
    array, images = make_array((N, 6), np.float32), make_array((N, 3, 2, 2))
    device = torch.as_tensor(array)
    return {
        "device": device,
        "images": torch.as_tensor(images).to(memory_format=torch.channels_last),
        "host": HostRows(array, CPU, None),
        "host-images": HostRows(images, CPU, None, torch.channels_last),
        "sparse": SparseRows(sparse.csr_matrix(array), CPU, torch.float32),
        "mapping": {"a": device, "b": HostRows(array, CPU, None), "c": device[:, 0]},
        "device-mapping": {"a": device, "b": 2 * device},
    }[kind]


KINDS = ["device", "images", "host", "host-images", "sparse", "mapping", "device-mapping"]
WEIGHT = torch.linspace(1, 2, N)


def make_rows(kind, weighted=True, index=None):
    return Rows(make_x(kind), torch.arange(N) * 10, WEIGHT if weighted else None, index=index)


def assert_same_rows(taken, other):
    """Check that examples, targets and weights agree, bit for bit, in value and layout."""
    x, other_x = (part[0] if isinstance(part[0], dict) else {"": part[0]} for part in (taken, other))
    assert x.keys() == other_x.keys()
    pairs = [(x[name], other_x[name]) for name in x] + [(taken[1], other[1])]
    if taken[2] is not None or other[2] is not None:
        pairs.append((taken[2], other[2]))
    for values, expected in pairs:
        assert torch.equal(values, expected)
        assert values.stride() == expected.stride()


@each_pair(
    {
        "kind": KINDS,
        "weighted": [False, True],
        "index": [None, np.arange(N)[::-1].copy()],
        "start,stop": [(0, N), (2, 5), (10, 11), (3, 3)],
    }
)
def test_slice_is_what_is_taken_at_its_rows(kind, weighted, index, start, stop):
    rows = make_rows(kind, weighted, index)
    assert_same_rows(rows.slice(start, stop), rows.take(np.arange(start, stop)))


@pytest.mark.parametrize("index", [None, np.array([4, 2, 9, 9])], ids=["all", "subset"])
@pytest.mark.parametrize("kind", KINDS)
def test_take_locates_stages_and_loads(kind, index):
    rows = make_rows(kind, index=index)
    chosen = np.array([3, 0, 1, 1])
    located = rows.locate(chosen)
    assert located.tolist() == (chosen if index is None else index[chosen]).tolist()
    assert rows.on_device == (kind in ("device", "images", "device-mapping"))
    staged = rows.stage(located)
    assert isinstance(staged, torch.Tensor) == rows.on_device
    assert_same_rows(rows.load(staged), rows.take(chosen))
    assert_same_rows(rows.load(staged[1:3]), rows.take(chosen[1:3]))
    assert rows.take(chosen)[1].tolist() == (10 * located).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_subset_of_a_subset_is_a_subset(kind):
    rows = make_rows(kind)
    part = rows.subset(np.array([5, 2, 9, 0])).subset([3, 0, 1])
    direct = rows.subset(np.array([0, 5, 2]))
    assert part.x is rows.x
    assert part.index.tolist() == direct.index.tolist() == [0, 5, 2]
    assert len(part) == 3
    assert_same_rows(part.take(np.arange(3)), rows.take(np.array([0, 5, 2])))
    assert part.get_targets().tolist() == [0, 50, 20]
    assert_same_rows((part.X, part.y, None), (*rows.take(np.array([0, 5, 2]))[:2], None))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", [None, np.array([4, 2, 9, 9])], ids=["all", "subset"])
def test_pairs_are_the_rows_one_by_one(kind, index):
    rows = make_rows(kind, index=index)
    for row in range(len(rows)):
        x, y, _ = rows.take(np.array([row]))
        pair = rows[row]
        first = map_features(lambda t: t[0].contiguous(), x)
        assert_same_rows((map_features(torch.Tensor.contiguous, pair[0]), pair[1], None), (first, y[0], None))


def test_targets_are_given_back_as_the_user_gave_them():
    names = np.array(["a", "b", "c"])
    rows = Rows(torch.zeros(3, 1), torch.tensor([2, 0, 1]), decode=lambda y: names[y.numpy()])
    assert rows.y.tolist() == ["c", "a", "b"]
    assert rows.subset(np.array([1])).y.tolist() == ["a"]
    assert rows.get_targets().tolist() == [2, 0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_taken_rows_are_tensors_of_their_own(kind):
    rows = make_rows(kind)
    map_features(lambda t: t.fill_(100), rows.take(np.arange(4))[0])
    assert_same_rows(rows.take(np.arange(N)), make_rows(kind).take(np.arange(N)))


# -- a storage from outside --------------------------------------------------------------


class Chunks:
    """Rows in arrays of a few rows each."""

    def __init__(self, array, size=4):
        self.shape = array.shape
        self.parts = [array[start : start + size].copy() for start in range(0, len(array), size)]
        self.size = size

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        rows = np.atleast_1d(np.asarray(index))
        taken = [self.parts[row // self.size][row % self.size] for row in rows]
        return torch.as_tensor(np.stack(taken) if np.ndim(index) else taken[0])


def train_steps(x, policy, trained):
    """Return weights and losses after an epoch on rows, the fast way."""
    torch.manual_seed(0)
    module = trained(6, 3)
    rows = Rows(x, torch.arange(45) % 3, 0.5 + torch.arange(45) % 2)
    plan = policy(np.random.default_rng(0), 45, 16)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    layers = find_linear_layers(module)
    if layers is None:
        trainer = ModuleTrainer(module, CrossEntropy(3), 3, optimizer, dtype=torch.float32)
    else:
        trainer = PerceptronTrainer(layers, CrossEntropy(3), optimizer)
    losses = []
    assert trainer.run_epoch(PlannedBatches(rows, plan, torch.float32), lambda *given: losses.append(given))
    return [*module.parameters(), losses[0][0]]


@pytest.mark.parametrize("policy", [ERM(), Mixup(), Mixup(partners="dataset")], ids=str)
@pytest.mark.parametrize("trained", [MLP, torch.nn.Linear])
def test_storage_from_outside_trains_as_a_tensor(policy, trained):
    array = np.random.default_rng(1).normal(size=(45, 6)).astype(np.float32)
    kept = [train_steps(x, policy, trained) for x in (torch.as_tensor(array), Chunks(array))]
    assert all(map(torch.equal, *kept))


def test_storage_from_outside_is_read_as_a_tensor():
    array = make_array((N, 3))
    rows, expected = (Rows(x, torch.arange(N)) for x in (Chunks(array), torch.as_tensor(array)))
    assert torch.equal(rows.X, expected.X)
    for one, other in zip(RowSlices(rows, 4), RowSlices(expected, 4), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    part, other = (both.subset(np.array([7, 2])) for both in (rows, expected))
    assert torch.equal(part.X, other.X)
    assert torch.equal(part[1][0], other[1][0])
