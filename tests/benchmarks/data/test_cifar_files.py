from collections.abc import Callable
import hashlib
import io
from pathlib import Path
import pickle
import shutil
import tarfile
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.data import cifar_files
from benchmarks.data.cifar_files import BATCHES, CIFAR_SETS, fetch_cifar, read_cifar
from benchmarks.harness.command import UserError

N_ROWS = 4


def write_batch(path: Path, labels: list[int], label_key: bytes, seed: int) -> bytes:
    """Write made-up images as an official batch has them, and return the file's content."""
    pixels = np.random.default_rng(seed).integers(0, 256, size=(len(labels), 3072), dtype=np.uint8)
    record = {b"batch_label": b"made up", label_key: labels, b"coarse_labels": [0], b"data": pixels}
    path.parent.mkdir(exist_ok=True)
    content = pickle.dumps(record, protocol=2)
    path.write_bytes(content)
    return content


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with both sets, tiny, whose sums the reader expects."""
    folder = tmp_path / "data"
    folder.mkdir()
    pixel_sums = {}
    for number, name in enumerate(BATCHES):
        content = write_batch(folder / "cifar-10-batches-py" / name, [number, 1, 2, 9], b"labels", number)
        pixel_sums[name] = hashlib.sha256(pickle.loads(content)[b"data"].tobytes()).hexdigest()
    file_sums = {}
    for number, name in enumerate(("train", "test")):
        content = write_batch(folder / "cifar-100-python" / name, [number, 0, 50, 99], b"fine_labels", number)
        file_sums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(cifar_files, "PIXEL_SHA256", pixel_sums)
    monkeypatch.setattr(cifar_files, "FILE_MD5", file_sums)
    return folder


def pack(data_dir: Path, name: str, where: Path) -> Path:
    """Write the official archive of a set, and return its path."""
    where.mkdir(exist_ok=True)
    path = where / CIFAR_SETS[name].archive
    with tarfile.open(path, "w:gz") as archive:
        archive.add(data_dir / CIFAR_SETS[name].folder, CIFAR_SETS[name].folder)
        readme = tarfile.TarInfo("readme.html")
        archive.addfile(readme, io.BytesIO())
    return path


def make_datasets(fetch: Callable[..., Any]) -> Callable[[], Any]:
    """Return what stands in for the import of torchvision."""
    return lambda: SimpleNamespace(CIFAR10=fetch, CIFAR100=fetch)


@pytest.mark.parametrize(("inside", "name"), [(False, "cifar100"), (True, "cifar100"), (False, "cifar10")])
def test_read_cifar_joins_the_batches(data_dir: Path, inside: bool, name: str) -> None:
    cifar = CIFAR_SETS[name]
    X, y = read_cifar(name, data_dir / cifar.folder if inside else data_dir)
    assert (X.shape, X.dtype) == ((N_ROWS * len(cifar.files), 3, 32, 32), np.uint8)
    last = pickle.loads((data_dir / cifar.folder / cifar.files[-1]).read_bytes(), encoding="bytes")
    np.testing.assert_array_equal(X[-N_ROWS:].reshape(N_ROWS, -1), last[b"data"])
    assert y[-N_ROWS:].tolist() == last[cifar.label_key]


@pytest.mark.parametrize("name", CIFAR_SETS)
def test_read_cifar_takes_the_archive_as_it_takes_the_folder(
    data_dir: Path, tmp_path: Path, name: str
) -> None:
    pack(data_dir, name, tmp_path / "packed")
    for read, expected in zip(read_cifar(name, tmp_path / "packed"), read_cifar(name, data_dir), strict=True):
        np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("damage", [lambda content: content[:-2000], lambda content: b"", lambda _: b"no"])
def test_read_cifar_says_which_archive_is_cut_short(
    data_dir: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = pack(data_dir, "cifar100", tmp_path / "packed")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"cifar-100-python\.tar\.gz' must be the whole archive of CIFAR-100"):
        read_cifar("cifar100", tmp_path / "packed")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 100], "must be a batch of CIFAR-100; got ValueError: not one label from 0 to 99"),
        ([0, 1, 2, -1], "not one label from 0 to 99"),
        ([0, 1, 2, 3], r"must hold CIFAR-100's own bytes \(MD5 .*Fetch it again"),
    ],
)
def test_read_cifar_checks_labels_and_sums(data_dir: Path, labels: list[int], message: str) -> None:
    write_batch(data_dir / "cifar-100-python" / "test", labels, b"fine_labels", 1)
    with pytest.raises(UserError, match=message):
        read_cifar("cifar100", data_dir)


def test_read_cifar_says_what_is_missing(data_dir: Path) -> None:
    (data_dir / "cifar-100-python" / "test").unlink()
    with pytest.raises(UserError, match=r"'.*data' lacks test\. Unpack https://www\.cs\.toronto"):
        read_cifar("cifar100", data_dir)
    with pytest.raises(UserError, match=r"--data-dir must hold CIFAR-10 as a folder .*; got none"):
        read_cifar("cifar10", None)


def test_download_fetches_what_is_lacking(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(root: Path, *, download: bool) -> None:
        assert download
        shutil.copytree(data_dir / "cifar-100-python", root / "cifar-100-python")

    monkeypatch.setattr(cifar_files, "import_torchvision", lambda name: make_datasets(fetch)())
    monkeypatch.setattr(cifar_files, "get_data_home", lambda: str(tmp_path / "home"))
    X, _ = read_cifar("cifar100", None, download=True)
    np.testing.assert_array_equal(X, read_cifar("cifar100", data_dir, download=True)[0])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("no route"), "must reach the network for CIFAR-10; got OSError: no route"),
        (RuntimeError("File not found or corrupted."), "got RuntimeError: File not found or corrupted"),
    ],
)
def test_download_says_why_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fetch(root: Path, *, download: bool) -> None:
        raise error

    monkeypatch.setattr(cifar_files, "import_torchvision", lambda name: make_datasets(fetch)())
    monkeypatch.setattr(cifar_files, "get_data_home", lambda: str(tmp_path))
    with pytest.raises(UserError, match=message):
        fetch_cifar("cifar10")


def test_download_names_the_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError

    monkeypatch.setattr(cifar_files, "import_torchvision", refuse)
    monkeypatch.setattr(cifar_files, "get_data_home", lambda: str(tmp_path))
    with pytest.raises(UserError, match="must find the package torchvision"):
        fetch_cifar("cifar10")


@pytest.mark.slow
def test_torchvision_expects_the_same_archives() -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    for name, peer in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        cifar = CIFAR_SETS[name]
        assert (peer.url, peer.filename, peer.base_folder) == (cifar.url, cifar.archive, cifar.folder)
        assert tuple(file for file, _ in peer.train_list + peer.test_list) == cifar.files
    sums = dict(datasets.CIFAR100.train_list + datasets.CIFAR100.test_list)
    assert sums == cifar_files.FILE_MD5
