"""What crosses to a device, and the most that it holds meanwhile: on a device without numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sk_mixup import _tensors
from sk_mixup._skorch.datasets import Placement
from tests.helpers.sampling import each_pair

DEVICE = torch.device("meta")
X = np.arange(240, dtype=np.float64).reshape(10, 2, 3, 4)


class Held(TorchDispatchMode):
    """Counts the bytes that the device holds, and notes the dtypes of what is sent there."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self.sent: set[torch.dtype] = set()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        before, after = (
            [t for t in tree_leaves(tree) if isinstance(t, Tensor)] for tree in ((args, kwargs), out)
        )
        if any(t.is_meta for t in (*before, *after)):
            self.sent.update(t.dtype for t in before if not t.is_meta)
        for storage in [t.untyped_storage() for t in after if t.is_meta]:
            self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        self.most = max(self.most, sum(n for _, n in self.alive.values()))
        return out


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda X: X,
    "float32": lambda X: X.astype(np.float32),
    "columns_first": np.asfortranarray,
    "read_only": lambda X: np.broadcast_to(X[:1], X.shape),
    "tensor": torch.as_tensor,
    "bfloat16": lambda X: torch.as_tensor(X).bfloat16(),
    "int32": lambda X: X.astype(np.int32),
}


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tensors, "PART_BYTES", 200)


@each_pair(
    {
        "form": list(FORMS),
        "dtype": [torch.float32, torch.float64, torch.bfloat16],
        "channels_last": [False, True],
        "flat": [False, True],
    }
)
def test_the_device_holds_what_is_counted_and_one_part(
    form: str, dtype: torch.dtype, channels_last: bool, flat: bool
) -> None:
    values = FORMS[form](X.reshape(10, 24) if flat else X)
    placement = Placement("device", DEVICE, dtype, channels_last)
    with Held() as held:
        rows = placement.make_rows(values, np.arange(10) % 3)
    kept = torch.int32 if form == "int32" else dtype
    assert rows.x.dtype == kept
    assert rows.x.shape == values.shape
    layout = torch.channels_last if channels_last and not flat else torch.contiguous_format
    assert rows.x.is_contiguous(memory_format=layout)
    assert held.sent <= {kept, torch.int64}
    assert held.most <= placement._count_bytes(values) + 10 * 8 + 200


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_targets_weights_and_sparse_values_cross_as_the_device_uses_them(dtype: torch.dtype) -> None:
    matrix = sparse.csr_matrix(X.reshape(10, 24))
    with Held() as held:
        rows = Placement("auto", DEVICE, dtype).make_rows(matrix, X[:, 0, 0, 0], np.ones(10))
    wide = torch.promote_types(dtype, torch.float32)
    assert (rows.targets.dtype, rows.weight.dtype, rows.x.values.dtype) == (wide, dtype, dtype)  # type: ignore[union-attr]
    assert held.sent <= {dtype, wide, torch.int64}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_targets_stay_as_they_are_on_the_cpu(dtype: torch.dtype) -> None:
    y = np.linspace(0, 1, 10)
    rows = Placement("auto", torch.device("cpu"), dtype).make_rows(X, y)
    assert rows.targets.dtype == torch.float64
    assert rows.targets.data_ptr() == y.ctypes.data


def test_integers_are_counted_as_what_they_may_become() -> None:
    placement = Placement("device", DEVICE, torch.float32)
    small, large = np.zeros(6, np.uint8), np.zeros(6, np.int64)
    assert (placement._count_bytes(small), placement._count_bytes(large)) == (24, 48)
