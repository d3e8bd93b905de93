"""Files of a fitted estimator: whole ones, and no pickle where none is wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
import json
import os
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from torch import Tensor

from sk_mixup.estimators._targets import Targets

__all__ = [
    "File",
    "Header",
    "Learned",
    "check_kind",
    "forget_learned",
    "from_json",
    "name_files",
    "read_header",
    "refuse_state",
    "to_json",
    "write_state",
]

# What a fit learns beside the weights and the targets.
LEARNED = ("feature_names_in_", "n_features_in_", "_shape_in", "_takes_integers")
# Where in the metadata of a safetensors file stands what a fit learned beside the weights.
METADATA = "sk_mixup"
File = str | os.PathLike[str] | BinaryIO


def name_files(**files: File | None) -> dict[str, File | None]:
    """Return files by option; ``f_module`` is skorch's other name of ``f_params``, which checkpoints use."""
    if files.get("f_params") is None:
        files["f_params"] = files.pop("f_module", None)
    return files


def refuse_state(files: Mapping[str, File | None], optimizers: Iterable[str]) -> None:
    """Raise if an optimizer's state, which is not of tensors alone, is to go to a safetensors file."""
    for name in optimizers:
        if (file := files.get(f"f_{name}")) is not None:
            raise ValueError(
                f"f_{name} must be None where use_safetensors=True, as such a file holds tensors alone; got "
                f"{file!r}. Save it by a call without use_safetensors."
            )


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

    def tells_of(self, learned: Learned, state: Mapping[str, Tensor]) -> bool:
        """Whether the file is of the same data, and of weights of the same shapes."""
        shapes = {name: list(tensor.shape) for name, tensor in state.items()}
        told = {} if self.learned is None else cast(dict[str, object], self.learned.get("targets", {}))
        # That of a fit that had not ended tells of no temperature.
        untold = {part.name for part in fields(learned.targets)} - told.keys()
        return self.learned == learned.describe(without=untold) and self.shapes == shapes


@dataclass(frozen=True)
class Learned:
    """What a fit of an estimator learned beside the weights.

    Attributes
    ----------
    values : dict of str to object
        Attributes of the estimator.
    targets : Targets
        What it knows of its targets.
    """

    values: dict[str, object]
    targets: Targets

    @classmethod
    def of(cls, attributes: Mapping[str, object], targets: Targets) -> Learned:
        """Return what stands among the attributes of an estimator."""
        return cls({name: attributes[name] for name in LEARNED if name in attributes}, targets)

    @classmethod
    def read(
        cls, described: Mapping[str, object] | None, kinds: Iterable[type[Targets]], owner: str
    ) -> Learned | None:
        """Return what :meth:`describe` wrote, for an estimator of these kinds of targets; None for None.

        Raises
        ------
        ValueError
            If the targets are of another kind.
        """
        if described is None:
            return None
        known = {kind.__name__: kind for kind in kinds}
        kind = known[check_kind(described, known, owner)]
        targets = cast(dict[str, object], described["targets"])
        parts = {part.name: from_json(targets[part.name]) for part in fields(kind) if part.name in targets}
        return cls({name: from_json(described[name]) for name in LEARNED if name in described}, kind(**parts))

    def describe(self, without: Collection[str] = ()) -> dict[str, object]:
        """Return it as JSON can hold it, without some of what the targets know."""
        known = [part.name for part in fields(self.targets) if part.name not in without]
        targets = {name: to_json(getattr(self.targets, name)) for name in known}
        values = {name: to_json(value) for name, value in self.values.items()}
        return values | {"targets": {"kind": type(self.targets).__name__, **targets}}


def check_kind(described: Mapping[str, object], known: Collection[str], owner: str) -> str:
    """Return the kind of targets that a file tells of, 'none' for a GAN, or raise if it is no known one."""
    targets = described.get("targets")
    kind = str(targets["kind"]) if isinstance(targets, dict) else "none"
    if kind not in known:
        raise ValueError(
            f"f_params must be a file of a {owner}, for targets of kind {', '.join(known)}; got one for "
            f"{kind}. Load it into the estimator that it is of."
        )
    return kind


def forget_learned(attributes: dict[str, object]) -> None:
    """Remove from the attributes of an estimator what an earlier fit learned."""
    for name in LEARNED:
        attributes.pop(name, None)


def read_header(file: File) -> Header:
    """Read the header of a safetensors file: 8 bytes of length, then JSON.

    Raises
    ------
    ValueError
        If it is another file, or a damaged one.
    """
    if isinstance(file, str | os.PathLike):
        with Path(file).open("rb") as stream:
            return read_header(stream)
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    name, length = getattr(file, "name", type(file).__name__), int.from_bytes(file.read(8), "little")
    begins = file.read(1) == b"{"  # else the length is none
    file.seek(start + 8)
    content = file.read(length) if begins and length <= size - 8 else b""
    file.seek(start)
    if not begins:
        raise ValueError(
            f"f_params must be a safetensors file where use_safetensors=True; got another, {name!r}. Leave "
            "the argument out for a file of torch.save."
        )
    try:
        header, end = _parse_header(content)
    except (AttributeError, KeyError, TypeError, ValueError):
        end = -1
    if end != size - 8 - length:
        raise ValueError(
            f"f_params must be a whole safetensors file; got one that is cut off or damaged, {name!r}. Copy "
            "or save it again."
        )
    return header


def _parse_header(content: bytes) -> tuple[Header, int]:
    """Return what a header says, and where the last of its tensors ends."""
    tensors = json.loads(content)
    text = tensors.pop("__metadata__", {}).get(METADATA)
    shapes = {name: tensor["shape"] for name, tensor in tensors.items()}
    end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    return Header(shapes, None if text is None else json.loads(text)), end


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
