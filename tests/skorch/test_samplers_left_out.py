"""Options of a DataLoader that are given their default mean what they mean left out."""

from typing import Any

import numpy as np
import pytest
from skorch import NeuralNetClassifier
import torch
from torch import nn
from torch.utils.data import TensorDataset

from sk_mixup import MixupClassifier, MixupNetMixin
from sk_mixup.modules import MLP

X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
Y = np.arange(30) % 2


class Net(MixupNetMixin, NeuralNetClassifier):
    pass


def fit(owner: Any, data: Any, **options: Any) -> torch.Tensor:
    own: dict[str, Any] = {"early_stopping": False}
    if owner is Net:
        own = {"criterion": nn.CrossEntropyLoss, "verbose": 0, "module__in_features": 3}
        own |= {"module__out_features": 2, "train_split": None}
    net = owner(MLP, max_epochs=2, batch_size=8, partners="dataset", random_state=0, **own, **options)
    net.fit(*data)
    return torch.cat([p.detach().flatten() for p in net.module_.parameters()])


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize("iterator", ["iterator_train", "iterator_valid"])
@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("sampler", None),
        ("batch_sampler", None),
        ("shuffle", None),
        ("generator", None),
        ("collate_fn", None),
        ("worker_init_fn", None),
        ("multiprocessing_context", None),
        ("drop_last", False),
        ("num_workers", 0),
        ("pin_memory", False),
    ],
)
@pytest.mark.parametrize("form", ["arrays", "Dataset"])
def test_a_default_changes_nothing(owner: Any, iterator: str, name: str, default: object, form: str) -> None:
    data = (X, Y) if form == "arrays" else (TensorDataset(torch.tensor(X), torch.tensor(Y)), None)
    given = fit(owner, data, **{f"{iterator}__{name}": default})
    torch.testing.assert_close(given, fit(owner, data), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sampler", "batch_sampler"])
def test_weights_of_rows_are_taken_beside_no_sampler(name: str) -> None:
    net = MixupClassifier(max_epochs=1, early_stopping=False, **{f"iterator_train__{name}": None})
    assert net.fit(X, Y, np.arange(30)).n_iter_ == 1
