"""Moving tensors and gathering rows, without a wait and without a change of layout."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

__all__ = [
    "copy_all",
    "gather_rows",
    "is_foreign_array",
    "send",
    "send_whole",
    "to_double",
    "to_host",
    "view_tensor",
]

# What numpy has floating types for.
SHARED = (torch.float16, torch.float32, torch.float64)
# What is sent to a device at a time where all rows are kept there.
PART_BYTES = 2**26
PLAIN_LAYOUT = torch.contiguous_format


def view_tensor(values: np.ndarray | np.generic | Tensor) -> Tensor:
    """Return values as a tensor that shares their memory, if torch takes it as it is."""
    if isinstance(values, np.ndarray):  # torch takes neither read-only nor reversed arrays
        values = np.require(values, requirements=["C", "W"])
    return torch.as_tensor(values)


def send(
    values: np.ndarray | np.generic | Tensor, device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """Copy host values to the device without waiting for the end; shared where they are there already."""
    tensor = view_tensor(values)
    if dtype is not None:
        tensor = tensor.to(dtype)
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # from other memory the host would have to wait
    return tensor.to(device, non_blocking=True)


def send_whole(
    rows: Tensor, device: torch.device, dtype: torch.dtype, layout: torch.memory_format = PLAIN_LAYOUT
) -> Tensor:
    """Copy all rows to the device in their dtype and layout there; shared where nothing changes.

    From the host they come a part at a time, which is cast and laid out there: on the device there is then
    never more than the result and one part.
    """
    if device.type == "cpu" or rows.device.type != "cpu" or rows.ndim == 0:
        return rows.to(device, dtype).contiguous(memory_format=layout)
    sent = torch.empty(rows.shape, dtype=dtype, device=device, memory_format=layout)
    n_rows = max(1, PART_BYTES // max(1, rows[:1].numel() * dtype.itemsize))
    for into, part in zip(torch.split(sent, n_rows), torch.split(rows, n_rows), strict=True):
        into.copy_(part.to(dtype).contiguous(memory_format=layout))
    return sent


def is_foreign_array(values: object) -> bool:
    """Whether values are an array of the array API standard that is neither numpy's nor torch's."""
    return (
        not isinstance(values, np.ndarray | Tensor)
        and hasattr(values, "__array_namespace__")
        and hasattr(values, "__dlpack__")
    )


def to_double(values: Tensor) -> Tensor:
    """Return values in double precision: in host memory where their device has none, as mps."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def to_host(values: object) -> object:
    """Turn a tensor, or an array of the array API standard, into one of numpy; leave everything else alone.

    A floating type that numpy lacks, such as bfloat16, becomes float32; a sparse tensor becomes dense.

    Raises
    ------
    TypeError
        If a tensor is on the meta device, where none has values.
    """
    if is_foreign_array(values):
        values = from_dlpack(values)
    if not isinstance(values, Tensor):
        return values
    if values.is_meta:
        raise TypeError("X, y and weights must hold values; got a tensor on device meta. Load it on 'cpu'.")
    if values.layout != torch.strided:
        values = values.to_dense()
    if values.is_floating_point() and values.dtype not in SHARED:
        values = values.float()
    return values.numpy(force=True)


def copy_all(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Copy tensors into others, those of one kind by one call: of each pair the second into the first."""
    kinds: dict[tuple[torch.dtype, torch.device], list[tuple[Tensor, Tensor]]] = {}
    for pair in pairs:
        kinds.setdefault((pair[0].dtype, pair[0].device), []).append(pair)
    for alike in kinds.values():
        into, values = zip(*alike, strict=True)
        torch._foreach_copy_(into, values)


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """Return the rows of `x` at `index`; images whose channels come last keep them there."""
    if x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)
    return x.index_select(0, index)
