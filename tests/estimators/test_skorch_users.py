"""What scikit-learn leaves open is as in skorch."""

from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from skorch.exceptions import NotInitializedError
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier

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
