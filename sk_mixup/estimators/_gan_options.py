"""Options of a GAN: which there are beside those in the signature, and their rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
from skorch.callbacks import Callback
from skorch.utils import params_for
import torch
from torch import nn

from sk_mixup._skorch.options import check_callbacks
from sk_mixup._training.gan import GENERATOR_LOSSES
from sk_mixup._validation import check_bool, check_choice, check_device, check_integer, check_real
from sk_mixup.estimators._options import (
    check_epochs_per_call,
    check_options_of,
    check_prefixes,
    check_shared_options,
    refuse_arrays,
)
from sk_mixup.mixing.mixup import LAM_PER, LamPer

__all__ = [
    "PLAYERS",
    "Callbacks",
    "GanOptions",
    "RandomState",
    "check_gan_options",
    "get_components",
    "get_optimizer_options",
    "list_extra_options",
]

PLAYERS = ("generator", "discriminator")
OPTIMIZERS = ("optimizer", "generator_optimizer", "discriminator_optimizer")

RandomState = int | np.random.RandomState | np.random.Generator | None
Callbacks = Sequence[Callback | type[Callback] | tuple[str, Callback]] | str | None


class GanOptions(Protocol):
    """The options in the signature of a GAN."""

    generator: Callable[..., nn.Module] | nn.Module
    discriminator: Callable[..., nn.Module] | nn.Module
    alpha: float
    lam_per: LamPer
    generator_loss: Literal["non-saturating", "minimax"]
    noise_features: int
    discriminator_steps: int
    max_epochs: int
    epochs_per_partial_fit: int | None
    steps_per_epoch: int
    batch_size: int
    lr: float
    optimizer: Callable[..., torch.optim.Optimizer]
    callbacks: Callbacks
    warm_start: bool
    verbose: int
    device: str | torch.device
    compile: bool
    torch_load_kwargs: dict[str, object] | None
    random_state: RandomState

    @classmethod
    def _get_param_names(cls) -> list[str]: ...


def list_extra_options(gan: GanOptions) -> list[str]:
    """Return the names of options that are not in the signature, such as ``optimizer__betas``."""
    extra = set(vars(gan)) - set(gan._get_param_names())
    return sorted(name for name in extra if not name.startswith("_") and not name.endswith("_"))


def get_components(gan: GanOptions) -> dict[str, object]:
    """Return what has options of its own, by prefix."""
    players = {prefix: getattr(gan, prefix) for prefix in PLAYERS}
    return {**players, **dict.fromkeys(OPTIMIZERS, gan.optimizer)}


def get_optimizer_options(gan: GanOptions, player: str) -> dict[str, object]:
    """Return the options of the generator's or the discriminator's optimizer."""
    own, shared = (params_for(prefix, vars(gan)) for prefix in (f"{player}_optimizer", "optimizer"))
    return {"lr": gan.lr, **shared, **own}


def check_gan_options(gan: GanOptions) -> None:
    """Raise if an option breaks its rule; the message names it."""
    known = gan._get_param_names()
    refuse_arrays({name: getattr(gan, name) for name in known})
    check_shared_options(gan)
    components = get_components(gan)
    check_prefixes(type(gan), list_extra_options(gan), known, {**components, "compile": None})
    for prefix, component in components.items():
        check_options_of(prefix, component, params_for(prefix, vars(gan)))
    check_callbacks(gan.callbacks)
    check_real("alpha", gan.alpha, low=0.0, hint="Use alpha=0 for the plain GAN, 0.2 for mixup.")
    check_choice("lam_per", gan.lam_per, LAM_PER)
    check_choice("generator_loss", gan.generator_loss, GENERATOR_LOSSES)
    _check_counts(gan)
    check_bool("warm_start", gan.warm_start, hint="Use True to go on from the last fit.")
    check_device(gan.device)


def _check_counts(gan: GanOptions) -> None:
    hint = "Give the number of normal inputs of the generator, such as 2."
    check_integer("noise_features", gan.noise_features, low=1, hint=hint)
    check_integer("discriminator_steps", gan.discriminator_steps, low=1, hint="Use 5, as in the paper.")
    check_integer("max_epochs", gan.max_epochs, low=0, hint="Use 1 or more to train.")
    check_epochs_per_call(gan.epochs_per_partial_fit)
    check_integer("steps_per_epoch", gan.steps_per_epoch, low=1, hint="Give generator steps.")
    if gan.batch_size != -1:
        check_integer("batch_size", gan.batch_size, low=1, hint="Use -1 for all rows.")
