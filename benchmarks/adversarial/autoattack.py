"""AutoAttack by the package of its authors, an optional one."""

from importlib.util import find_spec

import numpy as np
import torch
from torch import nn

from benchmarks.harness.command import UserError

__all__ = ["AUTOATTACK", "attack_by_package", "check_package"]

AUTOATTACK = "autoattack"
PACKAGE = "pyautoattack"


def check_package() -> None:
    """Raise :class:`UserError` unless the package is installed."""
    if find_spec(PACKAGE) is None:
        raise UserError(
            f"The package {PACKAGE} must be installed for the attack {AUTOATTACK}; got none. "
            "Run pip install '.[attacks]' in a clone, or name other --attacks."
        )


def attack_by_package(
    module: nn.Module, X: np.ndarray, y: np.ndarray, *, eps: float, batch_size: int, device: str
) -> np.ndarray:
    """Return the examples of AutoAttack's standard version [1]_, images of 0 to 1 changed by at most `eps`.

    APGD on cross-entropy, targeted APGD, targeted FAB and Square one after the other, each on the images
    that are still classified rightly; an image that none of them fools, or that is wrong already, stays as
    it is. There must be ten classes or more.

    References
    ----------
    .. [1] F. Croce and M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
       parameter-free attacks", ICML 2020, https://arxiv.org/abs/2003.01690
    """
    from pyautoattack import AutoAttack

    attack = AutoAttack(module, eps=eps, seed=0, device=device)
    examples, _ = attack.run_standard_evaluation(
        torch.from_numpy(X), torch.from_numpy(y), batch_size=batch_size
    )
    return np.asarray(examples.cpu().numpy())
