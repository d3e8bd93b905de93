"""Files and pickles of a GAN: the weights of both nets in a file, and what of its state lives on a device."""

from __future__ import annotations

from collections.abc import Mapping
import copy
import io
import os
from pathlib import Path
from typing import cast

from skorch.utils import get_map_location
import torch
from torch import Tensor

from sk_mixup._files import whole_files
from sk_mixup._training.gan import Player
from sk_mixup.estimators._persistence import LEARNED, File, to_json, write_state

__all__ = ["ON_DEVICE", "describe_learned", "load_nets", "pack", "read_nets", "save_nets", "unpack"]

# What of a fitted GAN lives on a device.
ON_DEVICE = ("generator_", "discriminator_", "generator_optimizer_", "discriminator_optimizer_")
PACKED = "_on_device"


def describe_learned(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return what a fit learned beside the weights, as JSON can hold it."""
    return {name: to_json(attributes[name]) for name in LEARNED if name in attributes}


def save_nets(players: Mapping[str, Player], file: File, learned: Mapping[str, object] | None) -> None:
    """Write the weights of both nets; a safetensors file where it is to tell what was learned, too."""
    nets = {name: player.module.state_dict() for name, player in players.items()}
    state = {f"{name}.{key}": value for name, part in nets.items() for key, value in part.items()}
    with whole_files({"f_params": file}) as files:
        target: File = files["f_params"]  # type: ignore[assignment]
        if learned is None:
            torch.save(state, target)
        else:
            write_state(target, state, learned)


def read_nets(file: File, options: Mapping[str, object] | None) -> Mapping[str, Tensor]:
    """Return the weights in a file: by options of ``torch.load``, or from a safetensors file for None."""
    if options is not None:
        state: Mapping[str, Tensor] = torch.load(file, **options)  # type: ignore[arg-type]
        return state
    from safetensors.torch import load

    return load(Path(file).read_bytes() if isinstance(file, str | os.PathLike) else file.read())


def load_nets(players: Mapping[str, Player], state: Mapping[str, Tensor]) -> None:
    """Load weights; what does not fit is refused before any is loaded."""
    nets = {name: player.module for name, player in players.items()}
    for attempt in (copy.deepcopy(nets), nets):
        for name, net in attempt.items():
            own = [key for key in state if key.startswith(f"{name}.")]
            net.load_state_dict({key.removeprefix(f"{name}."): state[key] for key in own})


def pack(state: Mapping[str, object]) -> dict[str, object]:
    """Return a state with nets and optimizers as bytes, which can be read without the device they are on."""
    buffer = io.BytesIO()
    torch.save({name: state[name] for name in ON_DEVICE if name in state}, buffer)
    kept = {name: value for name, value in state.items() if name not in ON_DEVICE}
    return {**kept, PACKED: buffer.getvalue()}


def unpack(state: Mapping[str, object]) -> dict[str, object]:
    """Return what :func:`pack` was given, on the device it was on, or on the CPU if there is none such."""
    kept = dict(state)
    given = cast(str | torch.device | None, state["device"])
    location = get_map_location(given)
    own = {"weights_only": False, "map_location": location}  # whole modules, which were packed here
    options = {**(cast(dict[str, object] | None, state["torch_load_kwargs"]) or {}), **own}
    parts = torch.load(io.BytesIO(cast(bytes, kept.pop(PACKED))), **options)
    is_there = given is None or torch.device(given).type == location.type
    return {**kept, **parts, "device": given if is_there else "cpu"}
