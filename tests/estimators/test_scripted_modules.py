"""A module that torch.jit has scripted is trained like the one it was made of."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from skorch.callbacks import Checkpoint
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupEnsembleClassifier, MixupGAN, MixupRegressor
from sk_mixup.inspection import between_curves, robustness_curve
from tests.helpers.nets import QUICK
from tests.helpers.stacking import fit_stacked

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:stacked")

X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
Y = np.arange(60) % 3


class Line(nn.Module):
    """A line whose bias is not trained."""

    def __init__(self, n_outputs: int = 3, scale: float = 1.0) -> None:
        super().__init__()
        self.line = nn.Linear(6, n_outputs)
        self.line.bias.requires_grad_(False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.line(x)


def make_both(*args: Any) -> tuple[nn.Module, nn.Module]:
    module = Line(*args)
    return module, torch.jit.script(copy.deepcopy(module))


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_scripted_module_is_loaded_from_files_and_within_a_fit(owner: Any, tmp_path: Any) -> None:
    y = 100.0 + 5.0 * Y if owner is MixupRegressor else Y
    n_outputs = 1 if owner is MixupRegressor else 3
    checkpoint = Checkpoint(monitor="train_loss_best", dirname=str(tmp_path), load_best=True)
    options = {**QUICK, "callbacks": [checkpoint]}
    plain, scripted = (owner(module, **options).fit(X, y) for module in make_both(n_outputs))
    np.testing.assert_allclose(scripted.predict(X), plain.predict(X), rtol=1e-5)
    scripted.save_params(f_params=str(tmp_path / "weights.pt"))
    other = owner(make_both(n_outputs)[1], **QUICK).fit(X, y[::-1].copy())
    other.load_params(f_params=str(tmp_path / "weights.pt"))
    np.testing.assert_allclose(other.predict(X), scripted.predict(X), rtol=1e-6)


@pytest.mark.parametrize("gradients", [False, True])
def test_scripted_module_is_looked_into(gradients: bool) -> None:
    plain, scripted = (MixupClassifier(module, **QUICK).fit(X, Y) for module in make_both())
    options = {"n_pairs": 20, "n_points": 3, "gradients": gradients, "random_state": 0}
    found, expected = (between_curves(net, X, Y, **options) for net in (scripted, plain))
    for name in (name for name in found if expected[name] is not None):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4)
    errors = [robustness_curve(net, X, Y, eps=[0, 0.3], attack="fgsm").error for net in (scripted, plain)]
    np.testing.assert_allclose(*errors)
    assert scripted.module_.line.weight.requires_grad


WAYS: dict[str, dict[str, Any]] = {
    "plain": {"alpha": 0},
    "mixed": {},
    "stepwise": {"augment": lambda x: x},
    "descent": {"optimizer": torch.optim.SGD, "lr": 0.1},
    "stopped": {"early_stopping": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_scripted_module_is_trained_like_the_plain_one(owner: Any, way: str) -> None:
    n_outputs, y = (3, Y) if owner is MixupClassifier else (1, Y.astype(np.float32))
    plain, scripted = make_both(n_outputs)
    begun = scripted.line.weight.clone()
    nets = [owner(module, **QUICK | WAYS[way]).fit(X, y) for module in (plain, scripted)]
    nets.append(clone(nets[1]).fit(X, y).fit(X, y))
    predicted, *others = (net.predict(X) for net in nets)
    for other in others:
        np.testing.assert_array_equal(other, predicted)
    torch.testing.assert_close(nets[1].module_.state_dict(), nets[0].module_.state_dict())
    assert not torch.equal(nets[1].module_.line.weight, begun)
    assert torch.equal(nets[1].module_.line.bias, scripted.line.bias)
    assert torch.equal(scripted.line.weight, begun)


def test_scripted_modules_of_a_stack_stay_different() -> None:
    pairs = [make_both(3, scale) for scale in (1.0, 2.0, 1.0, 2.0)]
    plain, scripted = zip(*pairs, strict=True)
    single = [MixupClassifier(module, **QUICK).fit(X, Y) for module in plain]
    together = fit_stacked((MixupClassifier(module, **QUICK), X, Y) for module in scripted)
    for net, other in zip(single, together, strict=True):
        np.testing.assert_array_equal(net.predict_proba(X), other.predict_proba(X))


def test_ensemble_takes_a_scripted_module() -> None:
    members = [MixupClassifier(module, **QUICK | WAYS["stopped"]) for module in make_both()]
    nets = [MixupEnsembleClassifier(member, n_members=3, random_state=0) for member in members]
    probabilities = [net.fit(X, Y, groups=np.arange(60) // 4).predict_proba(X) for net in nets]
    np.testing.assert_allclose(*probabilities, rtol=1e-5)


def test_gan_takes_a_scripted_module() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)))
    gan = MixupGAN(discriminator=scripted, max_epochs=1, steps_per_epoch=3, random_state=0).fit(X)
    assert gan.sample(4).shape == (4, 6)
