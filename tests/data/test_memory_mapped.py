"""Rows that stay in host memory or in a file are read in parts, and never written to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
import tracemalloc
from typing import Any

import numpy as np
import pytest

from sk_mixup import MixupClassifier
from sk_mixup._data.storage import HostRows
from sk_mixup._training.trainer import Trainer
from tests.helpers.nets import QUICK, Sum

N = 2000
pytestmark = [
    pytest.mark.slow,  # many dtypes and forms
    pytest.mark.filterwarnings("ignore:X must be near unit scale"),  # whole numbers, which every dtype holds
]
SHAPE = (N, 300)
OPTIONS = {**QUICK, "max_epochs": 1, "batch_size": 50, "module__hidden_layer_sizes": (4,)}
# The first row, twice: once a fit the module's output is looked at.
LOOK = 2


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Join two batches in training, and two blocks in prediction."""
    monkeypatch.setattr(Trainer, "block_elements", 100 * (300 + 2 * 3))
    monkeypatch.setattr("sk_mixup.estimators._prediction.TABLE_SIZE", 128)
    monkeypatch.setattr("sk_mixup.estimators._block_sizes.BLOCK_SIZE", 64)
    monkeypatch.setattr("sk_mixup.estimators._advice.MOST_NUMBERS", 2**8)


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return np.random.default_rng(0).integers(100, size=SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def y() -> np.ndarray:
    return np.arange(N) % 3


@pytest.fixture
def mapped(tmp_path: Path) -> Callable[..., np.ndarray]:
    """Write an array to a file and map the file into memory."""

    def write(array: Any, mode: str = "r") -> np.ndarray:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(file, array)
        return np.load(file, mmap_mode=mode)

    return write


@contextmanager
def limited_memory(n_bytes: float) -> Iterator[None]:
    """Check that never more than so many bytes are taken of the host's memory."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < n_bytes


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows are read at once from host memory, each time."""
    counts: list[int] = []
    read = HostRows.__getitem__

    def count(rows: HostRows, index: Any) -> Any:
        counts.append(np.size(index))
        return read(rows, index)

    monkeypatch.setattr(HostRows, "__getitem__", count)
    return counts


# -- in parts ----------------------------------------------------------------------------

FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "float32": lambda X, mapped: mapped(X),
    "float64": lambda X, mapped: mapped(X.astype(np.float64)),
    "float16": lambda X, mapped: mapped(X.astype(np.float16)),
    "uint8": lambda X, mapped: mapped(X.astype(np.uint8)),
    "int64": lambda X, mapped: mapped(X.astype(np.int64)),
    "big-endian": lambda X, mapped: mapped(X.astype(">f4")),
    "images": lambda X, mapped: mapped(X.reshape(N, 3, 10, 10)),
    "fortran": lambda X, mapped: mapped(np.asfortranarray(X)),
    "columns": lambda X, mapped: mapped(np.hstack([X, X]))[:, :300],
    "reversed": lambda X, mapped: mapped(X)[::-1],
    "unaligned": lambda X, mapped: (
        mapped(np.frombuffer(b" " + X.tobytes(), np.uint8))[1:].view(np.float32).reshape(SHAPE)
    ),
    "array": lambda X, mapped: mapped(X, None),
}


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"partners": "dataset"}], ids=str)
@pytest.mark.parametrize("name", FORMS)
def test_fit_never_copies_rows_whole(
    table: Any, y: Any, mapped: Any, name: str, options: dict[str, Any]
) -> None:
    X = FORMS[name](table, mapped)
    net = MixupClassifier(**{**OPTIONS, **options, "storage": "host" if name == "array" else "auto"})
    net.fit(X[:20], y[:20])
    with limited_memory(0.75 * X.nbytes):
        net.fit(X, y)


@pytest.mark.parametrize("name", FORMS)
def test_predict_never_copies_rows_whole(table: Any, y: Any, mapped: Any, name: str) -> None:
    X = FORMS[name](table, mapped)
    net = MixupClassifier(**{**OPTIONS, "iterator_valid__batch_size": 100}).fit(X[:20], y[:20])
    net.set_params(storage="host" if name == "array" else "auto").predict(X[:20])
    with limited_memory(0.75 * X.nbytes):
        net.predict(X)


def test_fit_with_weights_of_zero_never_copies_rows_whole(table: Any, y: Any, mapped: Any) -> None:
    X = mapped(table)
    net = MixupClassifier(**OPTIONS).fit(X[:20], y[:20])
    with limited_memory(table.nbytes / 2):
        net.fit(X, y, sample_weight=np.arange(N) > 2)


def test_fit_never_copies_arrays_of_a_mapping_whole(table: Any, y: Any, mapped: Any) -> None:
    X = {name: mapped(table[:, :5].astype(np.float64)) for name in "ab"}
    options = {**OPTIONS, "max_epochs": 0}
    del options["module__hidden_layer_sizes"]
    net = MixupClassifier(Sum, **options).fit({name: values[:20] for name, values in X.items()}, y[:20])
    with limited_memory(X["a"].nbytes):
        net.fit(X, y)


@pytest.mark.parametrize(
    ("options", "n_each", "largest"),
    [
        ({}, 1, 100),
        ({"partners": "dataset"}, 2, 200),
        ({"partners": "same_class", "n_mixed": 3}, 3, 300),
        ({"alpha": 0}, 1, 100),
        ({"augment": abs}, 1, 50),
        ({"max_epochs": 3}, 3, 100),
    ],
    ids=str,
)
def test_fit_reads_each_row_once_an_epoch_and_block_by_block(
    table: Any, y: Any, mapped: Any, reads: list[int], options: dict[str, Any], n_each: int, largest: int
) -> None:
    MixupClassifier(**{**OPTIONS, **options}).fit(mapped(table), y)
    assert sum(reads) == n_each * N + LOOK
    assert max(reads) <= largest


@pytest.mark.parametrize("n_features", [300, 3000])
def test_held_out_rows_are_read_a_block_at_a_time(
    y: Any, mapped: Any, reads: list[int], n_features: int
) -> None:
    table = np.random.default_rng(0).normal(size=(N, n_features)).astype(np.float32)
    MixupClassifier(**{**OPTIONS, "early_stopping": True}).fit(mapped(table), y)
    # The held-out tenth is read once more at the end, for the temperature.
    assert sum(reads) == N + LOOK + N // 10
    assert max(reads) <= max(2**18 // n_features, OPTIONS["batch_size"], 100)


@pytest.mark.parametrize("shape", [SHAPE, (N, 3, 10, 10)], ids=["table", "images"])
def test_predict_reads_each_row_once_and_block_by_block(
    table: Any, y: Any, mapped: Any, reads: list[int], shape: tuple[int, ...]
) -> None:
    X = mapped(table.reshape(shape))
    net = MixupClassifier(**OPTIONS).fit(X[:20], y[:20])
    reads.clear()
    net.predict(X)
    assert sum(reads) == N
    assert max(reads) <= 128


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int64])
def test_data_set_shares_the_file_and_keeps_its_dtype(table: Any, y: Any, mapped: Any, dtype: Any) -> None:
    X = mapped(table[:20].astype(dtype))
    net = MixupClassifier(**OPTIONS).fit(X, y[:20])
    dataset = net.get_dataset(X, y[:20])
    assert np.shares_memory(dataset.x.array, X)
    assert dataset.x.array.dtype == dtype
    x, _, _ = dataset.take(np.arange(3))
    assert str(x.dtype) == "torch.float32"
    np.testing.assert_array_equal(x, X[:3].astype(np.float32))


# -- never written to --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("storage", ["auto", "device", "host"])
def test_mapped_file_is_not_written_to(table: Any, y: Any, mapped: Any, mode: str, storage: str) -> None:
    X = mapped(table[:100], mode)
    before = Path(X.filename).read_bytes()
    net = MixupClassifier(**{**OPTIONS, "storage": storage, "augment": lambda x: x.mul_(2)}).fit(X, y[:100])
    net.predict(X)
    X.flush()
    assert Path(X.filename).read_bytes() == before


@pytest.mark.parametrize("storage", ["auto", "device", "host"])
def test_augment_in_place_leaves_the_array_alone(table: Any, y: Any, storage: str) -> None:
    X = table[:100].copy()
    MixupClassifier(**{**OPTIONS, "storage": storage, "augment": lambda x: x.mul_(2)}).fit(X, y[:100])
    np.testing.assert_array_equal(X, table[:100])
