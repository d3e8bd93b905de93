"""Read CIFAR-10 in its own format: pickled batches of numpy arrays, read without running anything."""

import hashlib
import io
from pathlib import Path
import pickle
from typing import Any

import numpy as np

from benchmarks.command import UserError

__all__ = ["BATCHES", "CIFAR10_URL", "N_TEST", "N_TRAIN", "PIXEL_SHA256", "read_cifar10"]

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
FOLDER = "cifar-10-batches-py"
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


def read_cifar10(data_dir: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Return all images and labels, the 50,000 training rows first.

    Parameters
    ----------
    data_dir : Path or None
        The folder ``cifar-10-batches-py``, or the one above it.

    Returns
    -------
    X : ndarray of shape (60000, 3, 32, 32), dtype uint8
        Red, green and blue from 0 to 255.
    y : ndarray of shape (60000,), dtype int64
        Classes from 0 to 9.

    Raises
    ------
    UserError
        If a file is missing, is no such batch, or does not hold the official pixels.

    Notes
    -----
    ``pickle.load`` runs what a file tells it to. Here a file may name numpy's arrays and
    nothing else.
    """
    parts = [_read_batch(_find_batch(data_dir, name)) for name in BATCHES]
    X = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, *IMAGE_SHAPE)
    return X, np.concatenate([labels for _, labels in parts])


def _find_batch(data_dir: Path | None, name: str) -> Path:
    folders = [] if data_dir is None else [data_dir / FOLDER, data_dir]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"--data-dir must hold CIFAR-10 as a folder {FOLDER}; '{data_dir}' lacks {name}. Unpack "
        f"{CIFAR10_URL} there, or choose other data with --datasets."
    )


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        record = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        pixels, labels = record[b"data"], np.asarray(record[b"labels"], dtype=np.int64)
        found = hashlib.sha256(np.ascontiguousarray(pixels, dtype=np.uint8).tobytes()).hexdigest()
        if labels.shape != (len(pixels),) or not 0 <= labels.min() <= labels.max() < 10:
            raise ValueError("not one label from 0 to 9 for each image")
    # A damaged pickle raises nearly anything.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"'{path}' must be a batch of CIFAR-10; got {reason}. Fetch it again.") from None
    if found != PIXEL_SHA256[path.name]:
        raise UserError(
            f"'{path}' must hold CIFAR-10's pixels (SHA-256 {PIXEL_SHA256[path.name][:12]}…); got "
            f"{found[:12]}…. Fetch it again."
        )
    return pixels, labels


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
