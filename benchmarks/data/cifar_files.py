"""Read CIFAR in its own format: pickled batches of numpy arrays, read without running anything."""

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import io
from pathlib import Path
import pickle
import tarfile
from typing import Any

import numpy as np
from sklearn.datasets import get_data_home

from benchmarks.data.torchvision_import import import_torchvision
from benchmarks.harness.command import UserError

__all__ = [
    "BATCHES",
    "CIFAR10_URL",
    "CIFAR_SETS",
    "FILE_MD5",
    "FOLDER",
    "N_TEST",
    "N_TRAIN",
    "PIXEL_SHA256",
    "CifarSet",
    "fetch_cifar",
    "read_cifar",
    "read_cifar10",
]

FOLDER = "cifar-10-batches-py"
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
BATCHES = (*TRAIN_BATCHES, "test_batch")
N_TRAIN, N_TEST = 50_000, 10_000
IMAGE_SHAPE = (3, 32, 32)
# Of the pixels, as files differ in what pickle writes round them.
PIXEL_SHA256 = {
    "data_batch_1": "a50e8b48728e1667d682a807155c375279d5ae321fb12242c02e3104a6bc8b21",
    "data_batch_2": "0b825e5592c3b72ea18d6ec2ff5f5b19d33e41a75f5039054a9bb87be3cf69a0",
    "data_batch_3": "c6ee1dd4601a69ec085d8ebf53ee6441775491a6839a0a9ae8fa198e88a3a429",
    "data_batch_4": "1f6b6c799cff375a9f8fae2fac909d51ee09f38a6a60eebb9e8fec6f47ddc48f",
    "data_batch_5": "58e3bbf713e28357476a351d3a05d056372f94c681d04ca9d62a076fdf2a643b",
    "test_batch": "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
}
# Of the whole files of CIFAR-100, as its archive and torchvision have them.
FILE_MD5 = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}


@dataclass(frozen=True)
class CifarSet:
    """One of the two sets, as its archive holds it."""

    title: str  # Name in messages
    url: str  # Where the archive is
    folder: str  # What the archive unpacks to
    files: tuple[str, ...]  # Its batches, those for training first
    label_key: bytes  # What a batch calls its labels
    n_classes: int  # Labels are from 0 to ``n_classes - 1``

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return self.url.rpartition("/")[2]


CIFAR_SETS: Mapping[str, CifarSet] = {
    "cifar10": CifarSet("CIFAR-10", CIFAR10_URL, FOLDER, BATCHES, b"labels", 10),
    "cifar100": CifarSet(
        "CIFAR-100",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "cifar-100-python",
        ("train", "test"),
        b"fine_labels",
        100,
    ),
}


def read_cifar10(data_dir: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Return CIFAR-10; see :func:`read_cifar`."""
    return read_cifar("cifar10", data_dir)


def read_cifar(name: str, data_dir: Path | None, *, download: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return all images and labels, the 50,000 training rows first.

    Images are (60000, 3, 32, 32) bytes, labels int64 (the fine ones of CIFAR-100). `data_dir` is what the
    archive unpacks to, or holds that folder or the archive.

    ``pickle.load`` runs what a file tells it to. Here a file may name numpy's arrays and
    nothing else. An archive is read where it is; nothing is unpacked to disk.
    """
    cifar = CIFAR_SETS[name]
    contents = _find_contents(cifar, data_dir)
    if download and len(contents) < len(cifar.files):
        data_dir = fetch_cifar(name)
        contents = _find_contents(cifar, data_dir)
    parts = [_read_batch(cifar, *_pick(cifar, contents, data_dir, file)) for file in cifar.files]
    X = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, *IMAGE_SHAPE)
    return X, np.concatenate([labels for _, labels in parts])


Contents = dict[str, tuple[Path, bytes | None]]


def _find_contents(cifar: CifarSet, data_dir: Path | None) -> Contents:
    """Return where each batch is; its bytes too where it is in an archive."""
    if data_dir is None:
        return {}
    found: Contents = {}
    for folder in (data_dir, data_dir / cifar.folder):
        found |= {name: (folder / name, None) for name in cifar.files if (folder / name).is_file()}
    archive = data_dir / cifar.archive
    return found or (_read_archive(cifar, archive) if archive.is_file() else {})


def _read_archive(cifar: CifarSet, path: Path) -> Contents:
    """Return the batches in an archive, read in one pass."""
    found: Contents = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and Path(member.name).name in cifar.files:
                    found[Path(member.name).name] = path / member.name, file.read()
    # A damaged archive raises errors of gzip, of zlib or of tarfile.
    except Exception as error:
        raise UserError(
            f"'{path}' must be the whole archive of {cifar.title}; got {_explain(error)}. Fetch it again "
            f"from {cifar.url}."
        ) from None
    return found


def _pick(cifar: CifarSet, contents: Contents, data_dir: Path | None, name: str) -> tuple[Path, bytes]:
    if name in contents:
        path, content = contents[name]
        return path, path.read_bytes() if content is None else content
    lacking = "got none" if data_dir is None else f"'{data_dir}' lacks {name}"
    raise UserError(
        f"--data-dir must hold {cifar.title} as a folder {cifar.folder}; {lacking}. Unpack {cifar.url} "
        "there, or use --download."
    )


def _read_batch(cifar: CifarSet, path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    try:
        record = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = record[b"data"], np.asarray(record[cifar.label_key], dtype=np.int64)
        raw = np.ascontiguousarray(pixels, dtype=np.uint8).tobytes()
        if labels.shape != (len(pixels),) or not 0 <= labels.min() <= labels.max() < cifar.n_classes:
            raise ValueError(f"not one label from 0 to {cifar.n_classes - 1} for each image")
    # A damaged pickle raises nearly anything.
    except Exception as error:
        raise UserError(
            f"'{path}' must be a batch of {cifar.title}; got {_explain(error)}. Fetch it again."
        ) from None
    _check_sum(cifar, path, raw, content)
    return pixels, labels


def _check_sum(cifar: CifarSet, path: Path, pixels: bytes, content: bytes) -> None:
    """Raise unless a batch has the official checksum, of its pixels or of the whole file."""
    if path.name in PIXEL_SHA256:
        what, kind, expected = "pixels", "SHA-256", PIXEL_SHA256[path.name]
        found = hashlib.sha256(pixels).hexdigest()
    else:
        what, kind, expected = "own bytes", "MD5", FILE_MD5[path.name]
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise UserError(
            f"'{path}' must hold {cifar.title}'s {what} ({kind} {expected[:12]}…); got {found[:12]}…. "
            "Fetch it again."
        )


def _explain(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def fetch_cifar(name: str) -> Path:
    """Fetch a set through torchvision, unless it is there, and return the folder that holds it."""
    cifar = CIFAR_SETS[name]
    folder = Path(get_data_home()) / "sk_mixup"
    try:
        datasets = import_torchvision("datasets")
    except ImportError:
        raise UserError(
            f"--download must find the package torchvision for {cifar.title}. Run pip install torchvision, "
            f"or unpack {cifar.url} in a folder and use --data-dir."
        ) from None
    try:
        {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name](folder, download=True)
    # Networks fail in many ways, and torchvision raises RuntimeError for a wrong checksum.
    except Exception as error:
        raise UserError(
            f"--download must reach the network for {cifar.title}; got {_explain(error)}. Try again, or "
            f"unpack {cifar.url} in a folder and use --data-dir."
        ) from error
    return folder


class _ArrayUnpickler(pickle.Unpickler):
    """Reads built-in values and numpy arrays; anything else that a file names is an error."""

    def find_class(self, module: str, name: str) -> Any:
        # numpy 1 and 2 keep one of them in different places.
        known = {
            ("_codecs", "encode"): _encode,
            ("numpy", "dtype"): np.dtype,
            ("numpy", "ndarray"): "ndarray",
            ("numpy.core.multiarray", "_reconstruct"): _make_empty,
            ("numpy._core.multiarray", "_reconstruct"): _make_empty,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no array needs")
        return known[module, name]


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes that protocol 2 writes as text."""
    return text.encode("latin1")


def _make_empty(*_: Any) -> np.ndarray:
    """Return the array that the next entry of a pickle fills."""
    return np.empty(0, dtype=np.uint8)
