"""Checks of the options that all mixed nets share."""

from __future__ import annotations

import inspect
from typing import Any
import warnings

import torch

from sk_mixup._skorch.datasets import STORAGES
from sk_mixup._skorch.step import AUTOCAST, NetBase
from sk_mixup._validation import check_bool, check_choice, check_device, check_integer, check_real
from sk_mixup.mixing import Vicinity, as_partners
from sk_mixup.mixing.mixup import LAM_PER

__all__ = ["MixingOptionsMixin"]

# What a vicinity brings itself.
MIXUP_OPTIONS = ("alpha", "lam_per", "n_mixed", "partners")


class MixingOptionsMixin(NetBase):
    """Checks the options of mixing, storage and precision."""

    def check_mixing_options(self) -> None:
        """Raise if an option of mixing breaks its rule.

        Raises
        ------
        TypeError, ValueError
            If an option breaks its rule; the message names it.
        """
        hint = "Use alpha=0 for no mixing, 0.2 to 1 for mixup."
        check_real("alpha", self.alpha, low=0.0, hint=hint)
        check_choice("lam_per", self.lam_per, LAM_PER)
        check_integer("n_mixed", self.n_mixed, low=2, hint="Use 2 for pairs, as in the paper.")
        as_partners(self.partners)
        self._check_vicinity()
        check_integer("warmup_epochs", self.warmup_epochs, low=0, hint="Use 0 for none.")
        check_integer("cooldown_epochs", self.cooldown_epochs, low=0, hint="Use 0 for none.")
        check_integer("max_epochs", self.max_epochs, low=0, hint="Use 1 or more to train.")
        if self.batch_size != -1:
            hint = "Use -1 for the whole training set."
            check_integer("batch_size", self.batch_size, low=1, hint=hint)
        if self.autocast is not None:
            check_choice("autocast", self.autocast, tuple(AUTOCAST))
        check_choice("storage", self.storage, STORAGES)
        check_device(self.device)
        check_bool("channels_last", self.channels_last, hint="Use True for convolutions on a GPU.")
        check_bool("cuda_graph", self.cuda_graph, hint="Use True for a small net on a GPU.")
        if self.cuda_graph and torch.device(self.device).type != "cuda":
            raise ValueError(
                f"cuda_graph must be False for device {self.device!r}; got True. Use it with device='cuda'."
            )
        if self.augment is not None and not callable(self.augment):
            raise TypeError(
                f"augment must be callable or None; got {self.augment!r}. Give a function from a batch of "
                "inputs to as many rows."
            )

    def _check_vicinity(self) -> None:
        if self.vicinity is None:
            return
        if not isinstance(self.vicinity, Vicinity):
            raise TypeError(
                f"vicinity must be None or a policy of sk_mixup.mixing; got {self.vicinity!r}. Give an "
                "instance, such as GaussianNoise(0.1)."
            )

    def _warn_unused_options(self) -> None:
        """Say which options of mixup are not looked at because a vicinity brings its own."""
        if self.vicinity is None:
            return
        for name in MIXUP_OPTIONS:
            if getattr(self, name) != _find_default(type(self), name):
                warnings.warn(
                    f"{name} is not used where vicinity is given; got {getattr(self, name)!r} beside "
                    f"{self.vicinity!r}. Set it in the vicinity, such as Mixup({name}=...).",
                    UserWarning,
                    stacklevel=2,
                )


def _find_default(owner: type, name: str) -> Any:
    """Return the default of an option in the first constructor that names it."""
    for base in owner.__mro__:
        if "__init__" in vars(base):
            parameter = inspect.signature(base).parameters.get(name)
            if parameter is not None:
                return parameter.default
    raise AttributeError(name)
