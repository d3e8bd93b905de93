"""Where layers='auto' mixes: before each further layer of a sequence, after each block of another network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from sk_mixup._data.virtual_examples import find_layers
from sk_mixup.mixing import FeatureInterpolation, ManifoldMixup
from sk_mixup.modules import MLP
from tests.helpers.architectures import assert_same_nets
from tests.helpers.nets import QUICK

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
CODES = np.arange(40) % 3


def block(n_outputs: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(5, n_outputs), nn.Tanh())


class Network(nn.Module):
    """Parts that are called in their order, each once; lists of parts too."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            for each in part if isinstance(part, nn.ModuleList) else [part]:
                x = each(x)
        return x


def nest(*parts: nn.Module, **named: nn.Module) -> nn.Module:
    return Network(inner=Network(**named)) if named else Network(inner=nn.Sequential(*parts))


CASES: dict[str, tuple[nn.Module, tuple[str, ...]]] = {
    "encoder and head": (Network(a=block(), b=nn.Linear(5, 3)), ("a",)),
    "encoder and deep head": (Network(a=block(), b=block(3)), ("a",)),
    "two blocks and a head": (Network(a=block(), c=block(), b=nn.Linear(5, 3)), ("a", "c")),
    "two blocks and a deep head": (Network(a=block(), c=block(), b=block(3)), ("a", "c")),
    "what has no weights is no last part": (Network(a=block(), b=block(3), end=nn.Identity()), ("a",)),
    "dropout that was made last": (Network(a=block(), b=nn.Linear(5, 3), drop=nn.Dropout(0)), ("a",)),
    "residual network": (
        Network(
            conv1=nn.Linear(5, 5),
            bn1=nn.BatchNorm1d(5),
            relu=nn.ReLU(),
            **{f"layer{k}": block() for k in range(1, 5)},
            avgpool=nn.Identity(),
            fc=nn.Linear(5, 3),
        ),
        ("layer1", "layer2", "layer3", "layer4"),
    ),
    "list of blocks": (
        Network(first=nn.Linear(5, 5), blocks=nn.ModuleList([block(), block()]), head=nn.Linear(5, 3)),
        ("blocks.0", "blocks.1"),
    ),
    "list that ends": (Network(blocks=nn.ModuleList([block(), block(), block(3)])), ("blocks.0", "blocks.1")),
    "wrapped": (nest(a=block(), b=nn.Linear(5, 3)), ("inner.a",)),
    "wrapped sequence": (nest(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)), ("inner.1",)),
    "sequence of blocks": (nn.Sequential(block(), block(), nn.Linear(5, 3)), ("0", "1")),
    "default network": (MLP(5, 3), ("layers.2", "layers.4")),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_are_found_that_a_user_would_name(case: str) -> None:
    module, names = CASES[case]
    assert find_layers(module, "auto") == ("input", *names)


@pytest.mark.parametrize("owner", [ManifoldMixup, FeatureInterpolation])
@pytest.mark.parametrize("case", CASES)
def test_found_layers_train_like_named_ones(case: str, owner: Any) -> None:
    module, names = CASES[case]
    options = QUICK | {"max_epochs": 1, "optimizer": torch.optim.SGD}
    wanted = ("auto", ("input", *names))
    assert_same_nets(
        *(
            MixupClassifier(module, vicinity=owner(layers=layers, partners="batch"), **options).fit(X, CODES)
            for layers in wanted
        )
    )


@pytest.mark.parametrize(
    "module",
    [Network(a=nn.Linear(5, 5), b=nn.Linear(5, 3)), Network(b=block(3)), MLP(5, 3, ()), nn.Linear(5, 3)],
    ids=["layers alone", "one block", "linear", "layer"],
)
def test_network_without_blocks_is_refused(module: nn.Module) -> None:
    with pytest.raises(
        ValueError,
        match=r"layers must be named for .*no hidden layers that are used once were found; got 'auto'",
    ):
        find_layers(module, "auto")


@pytest.mark.parametrize("kind", [nn.ReLU, nn.Tanh])
def test_layers_that_are_used_twice_are_left_out(kind: type[nn.Module]) -> None:
    act = kind()
    module = nn.Sequential(
        nn.Linear(5, 8), act, nn.Linear(8, 8), act, nn.Linear(8, 8), kind(), nn.Linear(8, 3)
    )
    assert find_layers(module, "auto") == ("input", "5")
    options = QUICK | {"max_epochs": 4, "batch_size": 10}
    MixupClassifier(module, vicinity=ManifoldMixup(1.0), **options).fit(X, CODES)
    with pytest.raises(ValueError, match="got '1', which was called 2 times"):
        MixupClassifier(module, vicinity=ManifoldMixup(1.0, layers=("1",)), **options).fit(X, CODES)


def test_a_layer_is_found_behind_one_that_is_used_twice() -> None:
    act, tied = nn.Tanh(), nn.Linear(5, 5)
    module = nn.Sequential(tied, nn.Tanh(), tied, act, nn.Linear(5, 3), act)
    assert find_layers(module, "auto") == ("input", "1")
