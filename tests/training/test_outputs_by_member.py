"""A module with several rows of outputs for each example is run once a step, whatever the way of an epoch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor
from tests.helpers.stacking import fit_stacked

X = np.random.default_rng(0).normal(size=(44, 2)).astype(np.float32)
Y = np.arange(44) % 2
QUICK: dict[str, Any] = {"batch_size": 11, "max_epochs": 2, "early_stopping": False}


class Members(nn.Module):
    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.drop = nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)
        self.last, self.n_outputs = nn.Linear(8, 2 * n_outputs), n_outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.drop(self.norm(self.first(x))))
        return out.view(-1, 2, self.n_outputs)


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_steps_do_the_same(owner: Any) -> None:
    class Stepwise(owner):
        def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
            return super().train_step_single(batch, **fit_params)

    n_outputs = 2 if owner is MixupClassifier else 1
    nets = [kind(Members(n_outputs), random_state=0, **QUICK) for kind in (owner, Stepwise)]
    fast, steps = (net.fit(X, Y.astype(np.float32) if n_outputs == 1 else Y).module_ for net in nets)
    assert int(fast.norm.num_batches_tracked) == 8
    for name, value in fast.state_dict().items():
        assert torch.equal(value, steps.state_dict()[name]), name


@pytest.mark.filterwarnings("ignore:stacked. nets are trained one by one")
def test_a_stack_does_the_same() -> None:
    nets = [MixupClassifier(Members(2), random_state=seed, **QUICK) for seed in range(3)]
    stacked = fit_stacked((net, X, Y) for net in nets)
    for seed, net in enumerate(stacked):
        alone = MixupClassifier(Members(2), random_state=seed, **QUICK).fit(X, Y)
        for name, value in alone.module_.state_dict().items():
            torch.testing.assert_close(net.module_.state_dict()[name], value)


def test_an_output_is_looked_at_anew_in_another_fit() -> None:
    net = MixupClassifier(Members(2), random_state=0, **QUICK).fit(X, Y)
    net.set_params(module=nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2)))
    again = MixupClassifier(net.module, random_state=0, **QUICK).fit(X, Y)
    np.testing.assert_array_equal(net.fit(X, Y).predict_proba(X), again.predict_proba(X))
    assert net._gives_rows
