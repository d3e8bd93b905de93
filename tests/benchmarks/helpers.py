"""A tiny convolutional net with all that draws, for tests of training in pieces."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.networks.cifar_networks import PreActResNet18
from sk_mixup import MixupClassifier
from sk_mixup.augmentation import crop_and_flip

N_CLASSES = 3


def make_tiny(**options: Any) -> MixupClassifier:
    """Return a net with all that draws: mixup, dropout, crops, flips, half precision."""
    known: dict[str, Any] = {
        "module__width": 2,
        "module__dropout": 0.3,
        "module__in_channels": 2,
        "module__out_features": N_CLASSES,
        "classes": list(range(N_CLASSES)),
        "alpha": 1.0,
        "lam_per": "batch",
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "lr": 0.1,
        "batch_size": 8,
        "early_stopping": False,
        "augment": crop_and_flip(1, fill=(0.0, 1.0)),
        "autocast": "bfloat16",
        "channels_last": True,
        "random_state": 5,
    }
    return MixupClassifier(PreActResNet18, **known | options)


class KilledError(Exception):
    """Stands for the end of a process."""


@contextmanager
def killed_after(module: Any, n_checkpoints: int) -> Iterator[None]:
    """Kill what runs inside after so many checkpoints that `module` saves."""
    save, written = module.save_checkpoint, []

    def save_and_die(*args: Any) -> None:
        save(*args)
        written.append(args)
        if len(written) == n_checkpoints:
            raise KilledError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "save_checkpoint", save_and_die)
        with pytest.raises(KilledError, match="killed"):
            yield


def get_state(net: MixupClassifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.module_.state_dict().items()}
