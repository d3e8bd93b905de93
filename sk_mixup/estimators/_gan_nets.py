"""The two nets of a GAN: built from options, checked against the data, evaluated in padded blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import copy
import fnmatch
import inspect
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sk_mixup._data.storage import split_padded
from sk_mixup._random import unseen_draws
from sk_mixup._skorch.step import can_fuse
from sk_mixup.estimators._options import explaining_refusal
from sk_mixup.modules import MLP

__all__ = ["build_net", "build_optimizer", "check_nets", "evaluate"]

# Rows are generated and judged in blocks of one size: float32 products round differently by it.
BLOCK_SIZE = 256


def build_net(
    net: Callable[..., nn.Module] | nn.Module,
    options: Mapping[str, object],
    in_features: int,
    out_features: int,
) -> nn.Module:
    """Return a new net; an instance is copied, a class is told its sizes unless options say otherwise."""
    if isinstance(net, nn.Module):
        return type(net)(**options) if options else copy.deepcopy(net)
    known: dict[str, object] = {"in_features": in_features, "out_features": out_features}
    if inspect.isclass(net) and issubclass(net, MLP):
        known["hidden_layer_sizes"] = (512, 512, 512)
    accepted = inspect.signature(net).parameters if inspect.isclass(net) else {}
    return net(**{**{name: value for name, value in known.items() if name in accepted}, **options})


def build_optimizer(
    build: Callable[..., torch.optim.Optimizer], net: nn.Module, options: dict[str, object]
) -> torch.optim.Optimizer:
    """Return an optimizer of a net's weights, with a fused kernel where it has one.

    Parameters
    ----------
    build : callable
        Class of the optimizer.
    net : torch.nn.Module
        The net.
    options : dict
        Its options, and in ``param_groups`` patterns of names of weights, with options of theirs.
    """
    named, options = dict(net.named_parameters()), dict(options)
    patterns = cast(Iterable[tuple[str, dict[str, object]]], options.pop("param_groups", ()))
    groups: list[dict[str, object]] = []
    for pattern, own in patterns:
        groups.append({"params": [named.pop(name) for name in fnmatch.filter(named, pattern)], **own})
    groups.append({"params": list(named.values())})
    groups = [group for group in groups if group["params"]]
    if can_fuse(build, options, (groups,)):
        options["fused"] = True
    with explaining_refusal(build, options):
        optimizer = build(groups, **options)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError(
            "optimizer must step by one gradient; got LBFGS, which evaluates the loss several times a step. "
            "Use torch.optim.Adam, say."
        )
    return optimizer


def check_nets(generator: nn.Module, discriminator: nn.Module, X: np.ndarray, n_noise: int) -> None:
    """Raise unless the generator turns noise into rows like those of `X`, and they can be judged."""
    noise = np.zeros((2, n_noise), dtype=X.dtype)
    with unseen_draws():
        fake = _try_net(generator, noise, "generator", f"noise_features of size {n_noise}")
        if fake.shape[:1] != (2,) or fake[0].numel() != X[0].size:
            raise ValueError(
                f"generator must return rows of the shape of X, {X.shape[1:]}; got an output of shape "
                f"{tuple(fake.shape)} for 2 rows of noise. Let its last layer have {X[0].size} outputs."
            )
        logits = _try_net(discriminator, X[:2], "discriminator", f"X of size {X.shape[1:]}")
    if logits.shape not in ((2,), (2, 1)):
        raise ValueError(
            f"discriminator must return one logit for each row; got an output of shape "
            f"{tuple(logits.shape)} for 2 rows. Let its last layer have 1 output."
        )


def _try_net(module: nn.Module, x: np.ndarray, player: str, given: str) -> Tensor:
    try:
        return evaluate(module, x, block_size=len(x))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{given.split()[0]} must fit the {player}'s first layer; got {given} and, from its forward, "
            f"'{reason}'. Change one of them."
        ) from error


@torch.no_grad()
def evaluate(module: nn.Module, rows: np.ndarray, block_size: int = BLOCK_SIZE) -> Tensor:
    """Return the output of a net for many rows, in eval mode, the same whatever rows stand beside."""
    module.eval()
    device = next(module.parameters()).device
    blocks = split_padded(torch.as_tensor(rows), block_size)
    return torch.cat([module(block.to(device)).cpu() for block in blocks])[: len(rows)]
