"""What a module is made of: linear layers with ReLUs between them, or anything else."""

from __future__ import annotations

import pytest
from torch import nn

from sk_mixup._training.module_structure import find_linear_layers
from sk_mixup.modules import MLP


def hook(criterion: nn.Module) -> nn.Module:
    criterion.register_forward_hook(lambda *_: None)
    return criterion


A, B, C = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
RELU, FLAT = nn.ReLU(), nn.Flatten()
HOOKED, FROZEN, TIED = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
HOOKED.register_forward_hook(lambda *_: None)
FROZEN.bias.requires_grad_(False)
TIED.weight = A.weight


class OwnSequential(nn.Sequential):
    """A container of the user's own."""


@pytest.mark.parametrize(
    ("module", "ndim", "expected"),
    [
        (nn.Sequential(A), 2, [A]),
        (nn.Sequential(A, RELU, B), 2, [A, B]),
        (nn.Sequential(A, nn.ReLU(), B, nn.ReLU(), C), 2, [A, B, C]),
        (nn.Sequential(FLAT, A, RELU, B), 2, [A, B]),
        (nn.Sequential(FLAT, A, RELU, B), 4, [A, B]),
        (nn.Sequential(A, nn.ReLU(inplace=True), B), 2, [A, B]),
        (nn.Sequential(A, RELU, B), 3, None),
        (nn.Sequential(), 2, None),
        (nn.Sequential(FLAT), 2, None),
        (nn.Sequential(A, B), 2, None),
        (nn.Sequential(A, RELU), 2, None),
        (nn.Sequential(RELU, A), 2, None),
        (nn.Sequential(A, RELU, RELU, B), 2, None),
        (nn.Sequential(A, RELU, B, C), 2, None),
        (nn.Sequential(A, FLAT, B), 2, None),
        (nn.Sequential(FLAT, FLAT, A), 2, None),
        (nn.Sequential(nn.Flatten(0), A), 2, None),
        (nn.Sequential(nn.Flatten(1, 2), A), 4, None),
        (nn.Sequential(A, nn.Tanh(), B), 2, None),
        (nn.Sequential(A, nn.LeakyReLU(), B), 2, None),
        (nn.Sequential(A, RELU, nn.Dropout(0.0), B), 2, None),
        (nn.Sequential(A, nn.BatchNorm1d(4), RELU, B), 2, None),
        (nn.Sequential(nn.Sequential(A, RELU), B), 2, None),
        (nn.Sequential(A, RELU, A), 2, None),
        (nn.Sequential(A, RELU, TIED), 2, None),
        (nn.Sequential(A, RELU, HOOKED), 2, None),
        (nn.Sequential(A, RELU, FROZEN), 2, None),
        (OwnSequential(A, RELU, B), 2, None),
        (hook(nn.Sequential(A, RELU, B)), 2, None),
        (A, 2, None),
        (nn.Bilinear(4, 4, 4), 2, None),
        (MLP(4, 3, dropout=0.5), 2, None),
    ],
)
def test_linear_layers_are_found_where_there_are_some(
    module: nn.Module, ndim: int, expected: list[nn.Linear] | None
) -> None:
    assert find_linear_layers(module, ndim) == expected


@pytest.mark.parametrize("sizes", [(), (8,), (8, 7)])
@pytest.mark.parametrize("ndim", [2, 4])
def test_linear_layers_of_the_default_network_are_found(sizes: tuple[int, ...], ndim: int) -> None:
    layers = find_linear_layers(MLP(4, 3, hidden_layer_sizes=sizes), ndim)
    assert layers is not None
    assert [layer.out_features for layer in layers] == [*sizes, 3]


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooked_weight_leaves_no_linear_layers(name: str, register: str) -> None:
    module = MLP(4, 3)
    getattr(getattr(module.layers[1], name), register)(lambda *_: None)
    assert find_linear_layers(module) is None


def test_compiled_module_has_no_linear_layers() -> None:
    module = MLP(4, 3)
    module._compiled_call_impl = module.forward  # as nn.Module.compile leaves it
    assert find_linear_layers(module) is None
