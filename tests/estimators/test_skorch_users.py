"""What scikit-learn leaves open is as in skorch."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold
from skorch import NeuralNetClassifier
from skorch.dataset import ValidSplit
from skorch.exceptions import NotInitializedError
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor, SemiSupervisedMixupClassifier
from tests.helpers.sampling import each_pair

QUICK = {"max_epochs": 2, "early_stopping": False, "random_state": 0}


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier])
@pytest.mark.parametrize("error", [NotFittedError, NotInitializedError])
def test_unfitted_net_raises_the_error_of_both_libraries(blobs: Any, owner: type, error: type) -> None:
    with pytest.raises(error, match=r"not initialized yet\. Call 'initialize' or 'fit'"):
        owner().predict(blobs.X)


def test_method_of_an_instance_is_no_option(blobs: Any) -> None:
    net = MixupClassifier(alpha=0, **QUICK)
    net.get_loss = lambda y_pred, y_true, **_: y_pred.square().mean()
    assert "get_loss" not in net.get_params()
    assert net.fit(blobs.X, blobs.y).n_iter_ == 2


def test_nonlinearity_of_the_users_own_sees_batches(blobs: Any) -> None:
    sizes = []

    def link(output: Tensor) -> Tensor:
        sizes.append(len(output))
        return output.softmax(dim=1)

    net = MixupClassifier(predict_nonlinearity=link, batch_size=25, **QUICK).fit(blobs.X, blobs.y)
    sizes.clear()
    net.predict_proba(blobs.X)
    assert sizes == [25, 25, 10]


class Halves(nn.Linear):
    """Returns logits, and every other row of them."""

    def __init__(self) -> None:
        super().__init__(5, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        output = super().forward(x)
        return output, output[::2]


def test_outputs_may_have_other_numbers_of_rows(blobs: Any) -> None:
    net = MixupClassifier(Halves, batch_size=20, classes=[0, 1, 2], **QUICK).initialize()
    logits, halves = net.forward(blobs.X)
    assert logits.shape == (60, 3)
    torch.testing.assert_close(halves, logits[::2])


def test_split_of_the_users_own_is_given_the_targets_that_were_given(blobs: Any) -> None:
    dataset = torch.utils.data.TensorDataset(torch.as_tensor(blobs.X), torch.as_tensor(blobs.y))
    seen = []

    def split(rows: Any, y: Any = None) -> tuple[Any, None]:
        seen.append(y)
        return rows, None

    MixupClassifier(train_split=split, **QUICK).fit(dataset)
    MixupClassifier(train_split=split, **QUICK).fit(dataset, blobs.y)
    assert seen[0] is None
    np.testing.assert_array_equal(seen[1], blobs.y)


class Named(torch.utils.data.Dataset):
    """Examples of which each is a mapping."""

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        self.X, self.targets = X, y

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, row: int) -> tuple[dict[str, np.ndarray], int]:
        return {"input": self.X[row]}, int(self.targets[row])


def test_examples_that_only_a_loader_joins_are_trained_on(blobs: Any) -> None:
    net = MixupClassifier(nn.Linear(5, 3), alpha=0, **QUICK).fit(Named(blobs.X, blobs.y))
    assert net.n_iter_ == 2


class Shifted(nn.Linear):
    """Shifts the logits of rows."""

    def __init__(self) -> None:
        super().__init__(5, 3)

    def forward(self, x: Tensor, shift: Any = 0.0) -> Tensor:
        return super().forward(x) + torch.as_tensor(shift, dtype=x.dtype).reshape(-1, 1)


class OwnLoop(MixupNetMixin, NeuralNetClassifier):
    """A plain skorch net that mixes."""


@each_pair(
    {
        "make_values": [
            np.ones,
            torch.ones,
            lambda n: [1.0] * n,
            lambda n: pd.Series([1.0] * n),
            lambda n: np.ones((n, 1)),
        ],
        "early_stopping": [False, True],
        "method": ["fit", "partial_fit"],
    }
)
def test_values_of_rows_beside_x_are_refused_but_not_in_x(
    blobs: Any, make_values: Any, early_stopping: bool, method: str
) -> None:
    values = make_values(60)
    net = MixupClassifier(Shifted, **{**QUICK, "early_stopping": early_stopping})
    with pytest.raises(ValueError, match=r"shift must not hold one value per row of X.*\{'X': X, 'shift'"):
        getattr(net, method)(blobs.X, blobs.y, shift=values)
    with pytest.raises(ValueError, match="shift must not hold"):
        OwnLoop(Shifted, criterion=nn.CrossEntropyLoss, verbose=0).fit(
            blobs.X.astype(np.float32), blobs.y, shift=values
        )
    getattr(net, method)(blobs.X, blobs.y, shift=make_values(1))  # of all rows
    shift = np.asarray(values, dtype=np.float32).reshape(-1)
    getattr(net, method)({"x": blobs.X.astype(np.float32), "shift": shift}, blobs.y)


def test_a_value_that_is_for_the_split_is_left_to_it(blobs: Any) -> None:
    class Open(nn.Linear):
        def __init__(self) -> None:
            super().__init__(5, 3)

        def forward(self, x: Tensor, **_: Any) -> Tensor:
            return super().forward(x)

    split = ValidSplit(GroupKFold(3))
    net = MixupClassifier(Open, train_split=split, **QUICK)
    assert net.fit(blobs.X, blobs.y, groups=np.arange(60) % 6).n_iter_ == 2
