"""Weights and moments that lie in memory otherwise than row by row are trained as torch trains them."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F  # noqa: N812

from sk_mixup import MixupClassifier, MixupGAN
from sk_mixup._training.optimizer_step import FusedUpdate
from tests.helpers.stacking import fit_stacked

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype(np.float32)
Y = np.arange(24) % 3
IMAGES = RNG.normal(size=(24, 3, 5, 5)).astype(np.float32)
QUICK: dict[str, Any] = {
    "alpha": 0, "early_stopping": False, "max_epochs": 3, "lr": 0.1, "batch_size": -1, "random_state": 0
}  # fmt: skip


class Rows(nn.Module):
    """Multiplies by a weight that is given as it lies."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


def descend(weight: Tensor, n_steps: int, optimizer: Any = torch.optim.Adam) -> Tensor:
    """Return the weight after as many steps of torch's own loop, one number after the other."""
    trained = weight.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    steps = optimizer([trained], lr=0.1, foreach=False, fused=False)
    for _ in range(n_steps):
        steps.zero_grad()
        F.cross_entropy(torch.as_tensor(X) @ trained.T, torch.as_tensor(Y)).backward()
        steps.step()
    return trained.detach()


LAYOUTS = {
    "gaps between columns": lambda: torch.zeros(3, 8)[:, :4],
    "gaps between rows": lambda: torch.zeros(6, 4)[::2],
    "transposed": lambda: torch.zeros(4, 3).T,
    "of one number": lambda: torch.zeros(1).expand(3, 4).clone(),
}


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("way", ["fast", "stepwise"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_of_any_layout_are_trained(layout: str, way: str, optimizer: Any) -> None:
    weight = LAYOUTS[layout]()
    whole = weight if weight._base is None else weight._base
    outside = torch.ones_like(whole, dtype=torch.bool)
    outside.as_strided(weight.shape, weight.stride())[:] = False
    options = {"augment": lambda x: x} if way == "stepwise" else {}
    net = MixupClassifier(Rows, module__weight=weight, optimizer=optimizer, **QUICK, **options)
    net.initialize().partial_fit(X, Y)
    torch.testing.assert_close(net.module_.weight.detach(), descend(LAYOUTS[layout](), 3, optimizer))
    assert not whole[outside].any()  # what lies beside it is no weight


def test_nets_of_a_stack_go_on_alone_with_moments_that_lie_as_their_weights() -> None:
    def make() -> MixupClassifier:
        return MixupClassifier(Rows(0.1 * torch.arange(12.0).view(4, 3).T), **QUICK)

    nets = [make() for _ in range(4)]
    fit_stacked((net, X, Y) for net in nets)
    for net in nets:
        net.partial_fit(X, Y)
        expected = descend(0.1 * torch.arange(12.0).view(4, 3).T, 6)
        torch.testing.assert_close(net.module_.weight.detach(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("way", ["fast", "stepwise"])
def test_moments_follow_weights_whose_channels_are_last_from_now_on(way: str, amsgrad: bool) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3))
    options = {"augment": lambda x: x} if way == "stepwise" else {}
    net = MixupClassifier(module, optimizer__amsgrad=amsgrad, **QUICK, **options).fit(IMAGES, Y)
    plain = copy.deepcopy(net).partial_fit(IMAGES, Y)
    net.set_params(channels_last=True).partial_fit(IMAGES, Y)
    for found, expected in zip(net.module_.parameters(), plain.module_.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4, check_stride=False)


def test_loaded_moments_lie_as_the_weights(tmp_path: Any) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(36, 3))
    net = MixupClassifier(module, **QUICK).fit(IMAGES, Y)
    files = {"f_params": str(tmp_path / "weights.pt"), "f_optimizer": str(tmp_path / "moments.pt")}
    net.save_params(**files)
    other = MixupClassifier(module, channels_last=True, **QUICK).fit(IMAGES, Y)
    other.load_params(**files)
    for each in (net, other):
        each.partial_fit(IMAGES, Y)
    for found, expected in zip(other.module_.parameters(), net.module_.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4, check_stride=False)


class WithGaps(Rows):
    """Holds every fourth number."""

    def __init__(self) -> None:
        super().__init__(torch.ones(2, 8)[:, ::4])


def test_a_gan_trains_weights_with_gaps() -> None:
    gan = MixupGAN(generator=WithGaps, max_epochs=1, steps_per_epoch=2, random_state=0)
    gan.fit(X[:, :2])
    assert not gan.generator_optimizer_.defaults["fused"]
    assert gan.discriminator_optimizer_.defaults["fused"]


def test_a_kernel_takes_weights_of_one_dtype_only() -> None:
    # That of CUDA refuses several.
    weights = [torch.zeros(3, dtype=dtype, requires_grad=True) for dtype in (torch.float32, torch.float64)]
    for parameters, is_one in ((weights[:1], True), (weights, False)):
        update = FusedUpdate(torch.optim.Adam(parameters, fused=True))
        for _ in range(2):
            for p in parameters:
                p.grad = torch.ones_like(p)
            update()
        update.close()
        assert bool(update.kernels) is is_one


class Spectral(nn.Module):
    """Weighs frequencies by complex numbers, its first weights."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.ones(in_features // 2 + 1, dtype=torch.cfloat))
        self.out = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=x.shape[-1]))


class Precise(nn.Module):
    """Scales by a number of double precision, its first weight."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.out = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) * self.scale.float()


@pytest.mark.parametrize("module", [Spectral, Precise])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_first_weights_of_another_dtype_say_nothing_of_the_loss(module: Any, alpha: float) -> None:
    options = QUICK | {"alpha": alpha, "optimizer": torch.optim.SGD}
    fast, stepwise = (
        MixupClassifier(module, **options, **own).fit(X, Y) for own in ({}, {"augment": lambda x: x})
    )
    np.testing.assert_allclose(fast.predict_proba(X), stepwise.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(fast.loss_curve_, stepwise.loss_curve_, rtol=1e-5)
    assert fast.loss_curve_[-1] < fast.loss_curve_[0]


class Decayed(nn.Linear):
    """Adds a gradient of its own in ``forward``."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            (0.1 * self.weight.abs().sum()).backward()
        return super().forward(x)


@pytest.mark.parametrize("way", ["fast", "stepwise"])
def test_a_gradient_that_forward_leaves_counts(way: str) -> None:
    torch.manual_seed(0)
    module = Decayed(4, 3, bias=False)
    trained = module.weight.detach().clone().requires_grad_()
    options = {"augment": lambda x: x} if way == "stepwise" else {}
    net = MixupClassifier(module, optimizer=torch.optim.SGD, **QUICK, **options).fit(X, Y)
    for _ in range(3):
        loss = F.cross_entropy(torch.as_tensor(X) @ trained.T, torch.as_tensor(Y))
        (gradient,) = torch.autograd.grad(loss + 0.1 * trained.abs().sum(), trained)
        trained = (trained - 0.1 * gradient).detach().requires_grad_()
    torch.testing.assert_close(net.module_.weight, trained)
