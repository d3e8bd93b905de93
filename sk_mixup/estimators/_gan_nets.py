"""The two nets of a GAN: built from options, checked against the data, evaluated in padded blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import fnmatch
import inspect
import math
from typing import Protocol, cast

import numpy as np
from skorch.utils import params_for
import torch
from torch import nn

from sk_mixup._data.storage import split_padded
from sk_mixup._random import unseen_draws
from sk_mixup._tensors import to_host
from sk_mixup._training.gan import Player
from sk_mixup._training.optimizer_step import can_fuse
from sk_mixup._validation import naming
from sk_mixup.estimators._gan_options import GanOptions, get_optimizer_options
from sk_mixup.estimators._options import check_module, copy_module, explaining_refusal, list_arguments
from sk_mixup.modules import MLP

__all__ = ["BuiltGan", "build_parts", "check_nets", "evaluate", "get_placement", "get_players"]

# Rows are generated and judged in blocks of one size: float32 products round differently by it.
BLOCK_SIZE = 256
# Logits of rows so far out are not all between 0 and 1; probabilities are.
FAR, N_FAR = 1e4, 64


class BuiltGan(GanOptions, Protocol):
    """A GAN whose nets are built."""

    generator_: nn.Module
    discriminator_: nn.Module
    generator_optimizer_: torch.optim.Optimizer
    discriminator_optimizer_: torch.optim.Optimizer


def get_players(gan: BuiltGan) -> dict[str, Player]:
    """Return nets and optimizers by name; none before the first fit."""
    if "generator_" not in vars(gan):
        return {}
    return {
        "generator": Player(gan.generator_, gan.generator_optimizer_),
        "discriminator": Player(gan.discriminator_, gan.discriminator_optimizer_),
    }


def replace_optimizers(gan: BuiltGan) -> dict[str, torch.optim.Optimizer]:
    """Return optimizers in the place of those of another class than is set now, by attribute."""
    return {
        f"{name}_optimizer_": _build_optimizer(
            gan.optimizer,
            getattr(player.module, "_orig_mod", player.module),
            get_optimizer_options(gan, name),
        )
        for name, player in get_players(gan).items()
        if isinstance(gan.optimizer, type) and type(player.optimizer) is not gan.optimizer
    }


def build_parts(gan: GanOptions, shape: tuple[int, ...]) -> dict[str, object]:
    """Return new nets for rows of a shape, and their optimizers, by the attributes' names in a fitted GAN."""
    n_features = math.prod(shape)
    parts: dict[str, object] = {}
    sizes = {"generator": (gan.noise_features, n_features), "discriminator": (n_features, 1)}
    for name, (n_in, n_out) in sizes.items():
        given = getattr(gan, name)
        with naming(name, given, f"Give a class, and its arguments as {name}__<name>."):
            net = _build_net(given, params_for(name, vars(gan)), n_in, n_out)
        check_module(name, net)
        net.to(gan.device)
        options = get_optimizer_options(gan, name)
        parts[f"{name}_optimizer_"] = _build_optimizer(gan.optimizer, net, options)
        compiled = torch.compile(net, **params_for("compile", vars(gan))) if gan.compile else net
        parts[f"{name}_"] = compiled
    return parts


def _build_net(
    net: Callable[..., nn.Module] | nn.Module,
    options: Mapping[str, object],
    in_features: int,
    out_features: int,
) -> nn.Module:
    """Return a new net; an instance is copied, a class is told its sizes unless options say otherwise."""
    if isinstance(net, nn.Module):
        return type(net)(**options) if options else copy_module(net)
    known: dict[str, object] = {"in_features": in_features, "out_features": out_features}
    if inspect.isclass(net) and issubclass(net, MLP):
        known["hidden_layer_sizes"] = (512, 512, 512)
    accepted = list_arguments(net)
    return net(**{**{name: value for name, value in known.items() if name in accepted}, **options})


def _build_optimizer(
    build: Callable[..., torch.optim.Optimizer], net: nn.Module, options: dict[str, object]
) -> torch.optim.Optimizer:
    """Return an optimizer of a net's weights, with a fused kernel where that does the same.

    Options in ``param_groups`` are patterns of names of weights, with options of theirs.
    """
    named, options = dict(net.named_parameters()), dict(options)
    patterns = cast(Iterable[tuple[str, dict[str, object]]], options.pop("param_groups", ()))
    groups: list[dict[str, object]] = []
    for pattern, own in patterns:
        groups.append({"params": [named.pop(name) for name in fnmatch.filter(named, pattern)], **own})
    groups.append({"params": list(named.values())})
    groups = [group for group in groups if group["params"]]
    with explaining_refusal(build, options):
        if can_fuse(build, options, (groups,)):
            options["fused"] = True
        optimizer = build(groups, **options)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError(
            "optimizer must step by one gradient; got LBFGS, which evaluates the loss several times a step. "
            "Use torch.optim.Adam, say."
        )
    return optimizer


def check_nets(generator: nn.Module, discriminator: nn.Module, X: np.ndarray, n_noise: int) -> None:
    """Raise unless the generator turns noise into rows like those of `X`, and they can be judged."""
    dtypes = [get_placement(net)[1] for net in (generator, discriminator)]
    if dtypes[0] != dtypes[1]:
        raise ValueError(
            f"generator must have weights of the dtype of the discriminator's, {dtypes[1]}; got {dtypes[0]}. "
            "Convert one of them."
        )
    noise = np.zeros((2, n_noise), dtype=X.dtype)
    with unseen_draws():
        fake = _try_net(generator, noise, "generator", f"noise_features of size {n_noise}")
        if fake.shape[:1] != (2,) or fake[0].size != X[0].size:
            raise ValueError(
                f"generator must return rows of the shape of X, {X.shape[1:]}; got an output of shape "
                f"{fake.shape} for 2 rows of noise. Let its last layer have {X[0].size} outputs."
            )
        logits = _try_net(discriminator, X[:2], "discriminator", f"X of size {X.shape[1:]}")
        n = len(X[:2])
        if logits.shape not in ((n,), (n, 1)):
            raise ValueError(
                f"discriminator must return one logit for each row; got an output of shape {logits.shape} "
                f"for {n} rows. Let its last layer have 1 output."
            )
        largest = float(np.abs(X[:N_FAR]).max(initial=0)) or 1.0
        rows = FAR * (X[:N_FAR] / min(largest, 1.0))  # far from 0, in whatever unit X is
        far = np.concatenate([rows, -rows])
        logits = _try_net(discriminator, far, "discriminator", f"X of size {X.shape[1:]}")
    if far.any() and np.all((logits >= 0) & (logits <= 1)):
        raise ValueError(
            "discriminator must return logits, which may be any number; got numbers between 0 and 1 for rows "
            "however large. Remove its last sigmoid: the loss applies it."
        )


def _try_net(module: nn.Module, x: np.ndarray, player: str, given: str) -> np.ndarray:
    try:
        return evaluate(module, x, block_size=len(x))
    except TypeError as error:  # of several outputs, or none
        raise TypeError(
            f"{player} must return one tensor: {error}. Return the examples, or logits, only."
        ) from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{given.split()[0]} must fit the {player}'s first layer; got {given} and, from its forward, "
            f"'{reason}'. Change one of them."
        ) from error


@torch.no_grad()
def evaluate(module: nn.Module, rows: np.ndarray, block_size: int = BLOCK_SIZE) -> np.ndarray:
    """Return the output of a net for many rows, in eval mode, the same whatever rows stand beside."""
    module.eval()
    device, dtype = get_placement(module)
    blocks = split_padded(torch.tensor(np.ascontiguousarray(rows), dtype=dtype), block_size)
    outputs = torch.cat([module(block.to(device)) for block in blocks])
    return np.asarray(to_host(outputs.to(dtype)[: len(rows)]))  # a region of autocast has another dtype


def get_placement(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device and the floating dtype of a net's weights."""
    weight = next(p for p in module.parameters() if p.is_floating_point())
    return weight.device, weight.dtype
