"""The fitted module is one that `torch.export` takes, and the program returns what the module returns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupGAN, MixupRegressor, SemiSupervisedMixupClassifier
from sk_mixup.mixing import ManifoldMixup

RNG = np.random.default_rng(0)
CODES = np.arange(60) % 3
X = RNG.normal(size=(60, 4)) + CODES[:, None]
QUICK: dict[str, Any] = {"max_epochs": 2, "random_state": 0}

FITS: dict[str, Callable[[], Any]] = {
    "classifier": lambda: MixupClassifier(**QUICK).fit(X, CODES).module_,
    "multilabel": lambda: MixupClassifier(**QUICK).fit(X, np.eye(3, dtype=int)[CODES]).module_,
    "hidden layers mixed": lambda: MixupClassifier(**QUICK, vicinity=ManifoldMixup()).fit(X, CODES).module_,
    "dropout": lambda: MixupClassifier(**QUICK, module__dropout=0.5).fit(X, CODES).module_,
    "regressor": lambda: MixupRegressor(**QUICK).fit(X, X[:, :2]).module_,
    "semi-supervised": lambda: SemiSupervisedMixupClassifier(**QUICK).fit(X, CODES - 1).module_,
    "discriminator": lambda: MixupGAN(max_epochs=1, steps_per_epoch=2, random_state=0).fit(X).discriminator_,
}


def _export(module: nn.Module) -> torch.export.ExportedProgram:
    """Export a module for any number of rows."""
    rows = torch.as_tensor(X[:5], dtype=torch.float32)
    return torch.export.export(module, (rows,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))


def _run(program: torch.export.ExportedProgram, x: Tensor) -> Tensor:
    output: Tensor = program.module()(x)
    return output


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_program_returns_what_the_module_returns(fit: Callable[[], nn.Module]) -> None:
    module = fit()
    program = _export(module)
    for n in (2, 5, 60):
        x = torch.as_tensor(X[:n], dtype=torch.float32)
        torch.testing.assert_close(_run(program, x), module(x), rtol=0, atol=0)


def test_saved_program_gives_the_probabilities_of_the_net(tmp_path: Path) -> None:
    net = MixupClassifier(**QUICK).fit(X, CODES)
    torch.export.save(_export(net.module_), tmp_path / "net.pt2")
    logits = _run(torch.export.load(tmp_path / "net.pt2"), torch.as_tensor(X, dtype=torch.float32))
    probabilities = torch.softmax(logits.double(), dim=1).numpy(force=True)
    np.testing.assert_allclose(probabilities, net.predict_proba(X), rtol=0, atol=1e-6)
