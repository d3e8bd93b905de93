"""Rows of a wide sparse table are made dense few at a time, in predictions as in training."""

from typing import Any

import numpy as np
import pytest
from scipy import sparse
import torch

from sk_mixup import MixupClassifier, MixupEnsembleClassifier, MixupRegressor, SemiSupervisedMixupClassifier
from sk_mixup._data.storage import SparseRows
from sk_mixup.estimators import _prediction
from sk_mixup.estimators._block_sizes import split_table

X = sparse.random(700, 1000, density=0.01, format="csr", dtype=np.float32, random_state=0)
Y = np.arange(700) % 2
QUICK: dict[str, Any] = {"max_epochs": 1, "module__hidden_layer_sizes": (4,), "random_state": 0}
OWNERS = [MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier, MixupEnsembleClassifier]


def make(owner: type) -> Any:
    if owner is not MixupEnsembleClassifier:
        return owner(**QUICK)
    named = {f"estimator__{name}": value for name, value in QUICK.items() if name != "random_state"}
    return owner(n_members=2, random_state=0, **named)


@pytest.mark.parametrize("owner", OWNERS)
def test_few_rows_are_made_dense_at_once(owner: type, monkeypatch: pytest.MonkeyPatch) -> None:
    most, take = [0], SparseRows.__getitem__

    def note(rows: Any, index: Any) -> Any:
        dense = take(rows, index)
        most.append(len(dense))
        return dense

    net = make(owner).fit(X, Y)
    expected = net.predict(X)
    monkeypatch.setattr(SparseRows, "__getitem__", note)
    monkeypatch.setattr(_prediction, "TABLE_NUMBERS", 300_000)
    np.testing.assert_array_equal(net.predict(X), expected)
    assert max(most) == 256
    np.testing.assert_array_equal(net.predict(X.toarray()), expected)


CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("width", "n_rows"),
    [(0, 2**14), (1, 2**14), (54, 2**14), (1024, 2**14), (1025, 2**13), (2**15, 512), (2**18, 256)],
)
def test_rows_at_once_hold_so_many_numbers(width: int, n_rows: int) -> None:
    assert _prediction.count_at_once(width, CPU) == n_rows
    assert n_rows * width <= 2**24 or n_rows == _prediction.BLOCK_SIZE


@pytest.mark.parametrize("width", [1, 100, 8192, 20_000, 2**20])
def test_rows_at_once_fill_their_blocks_on_a_device(width: int) -> None:
    n_rows = _prediction.count_at_once(width, torch.device("cuda"))
    blocks = split_table(torch.empty(n_rows, width, device="meta"), None)  # takes the limits of accelerators
    assert sum(map(len, blocks)) == n_rows
