"""Files of a fitted estimator: whole ones, and no pickle where none is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
import json
import os
from pathlib import Path
import tempfile
from typing import BinaryIO

import numpy as np
from torch import Tensor

__all__ = ["File", "Header", "from_json", "read_header", "to_json", "whole_files", "write_state"]

# Where in the metadata of a safetensors file stands what a fit learned beside the weights.
METADATA = "sk_mixup"
File = str | os.PathLike[str] | BinaryIO


@contextmanager
def whole_files(files: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """Give temporary names for the paths among `files`; rename them if all went well."""
    targets = {key: Path(f) for key, f in files.items() if isinstance(f, str | os.PathLike)}
    parts = {key: _make_part(path) for key, path in targets.items()}
    try:
        yield {**files, **{key: str(part) for key, part in parts.items()}}
        for key, part in parts.items():
            part.replace(targets[key])
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _make_part(path: Path) -> Path:
    """Return an empty file beside `path`, with the permissions that `path` would get."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    mask = os.umask(0)
    os.umask(mask)
    Path(name).chmod(0o666 & ~mask)
    return Path(name)


def write_state(file: File, state: Mapping[str, Tensor], learned: Mapping[str, object]) -> None:
    """Write a safetensors file of tensors, with JSON values in its header."""
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    content = save(tensors, metadata={METADATA: json.dumps(learned)})
    if isinstance(file, str | os.PathLike):
        Path(file).write_bytes(content)
    else:
        file.write(content)


@dataclass(frozen=True)
class Header:
    """What a safetensors file says before its tensors.

    Attributes
    ----------
    shapes : dict of str to list of int
        Shape of each tensor.
    learned : dict or None
        What :func:`write_state` was given; None in a file of others.
    """

    shapes: dict[str, list[int]]
    learned: dict[str, object] | None


def read_header(file: File) -> Header:
    """Read the header of a safetensors file: 8 bytes of length, then JSON."""
    if isinstance(file, str | os.PathLike):
        with Path(file).open("rb") as stream:
            return read_header(stream)
    start = file.tell()
    length = int.from_bytes(file.read(8), "little")
    begins = file.read(1) == b"{"  # else the length is none, and may be far too long
    file.seek(start + 8)
    content = json.loads(file.read(length)) if begins else None
    file.seek(start)
    if content is None:
        raise ValueError(
            "f_params must be a safetensors file where use_safetensors=True; got another. Leave the argument "
            "out for a file of torch.save."
        )
    text = content.pop("__metadata__", {}).get(METADATA)
    shapes = {name: tensor["shape"] for name, tensor in content.items()}
    return Header(shapes, None if text is None else json.loads(text))


def to_json(value: object) -> object:
    """Return a value, an array or a tuple as JSON can hold it; dates as numbers of their unit."""
    if isinstance(value, np.ndarray):
        plain = value.astype(np.int64) if value.dtype.kind in "mM" else value
        return {"dtype": value.dtype.str, "values": plain.tolist()}
    return list(value) if isinstance(value, tuple) else value


def from_json(value: object) -> object:
    """Return what :func:`to_json` was given."""
    if isinstance(value, dict):
        dtype = np.dtype(value["dtype"])
        plain = np.int64 if dtype.kind in "mM" else dtype
        return np.asarray(value["values"], dtype=plain).astype(dtype)
    return tuple(value) if isinstance(value, list) else value
