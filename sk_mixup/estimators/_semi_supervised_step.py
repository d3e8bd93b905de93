"""Methods of semi-supervised training: what they mix, guess, weigh and average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sk_mixup._data.joint_batches import JointBatch
from sk_mixup._training.consistency_losses import update_average
from sk_mixup.mixing import mix_rows, soft_targets

__all__ = [
    "METHODS",
    "AveragedWeights",
    "Method",
    "build_virtual_examples",
    "check_logits",
    "choose_method",
]


@dataclass(frozen=True)
class Method:
    """What tells one semi-supervised method from another.

    Whether labelled and unlabelled rows are mixed `across`, with λ folded; whether the averaged weights guess
    the targets or the trained ones; the shape of the ramp; and values of options that are None.
    """

    across: bool
    averaged_guesses: bool
    ramp: str
    temperature: float
    n_augmentations: int


METHODS = {
    "ict": Method(
        across=False,
        averaged_guesses=True,
        ramp="sigmoid",
        temperature=1.0,
        n_augmentations=1,
    ),
    "mixmatch": Method(
        across=True,
        averaged_guesses=False,
        ramp="linear",
        temperature=0.5,
        n_augmentations=2,
    ),
}


def choose_method(name: str, temperature: float | None, n_augmentations: int | None) -> Method:
    """Return a method, with what is given and not None in the place of its own."""
    own = METHODS[name]
    return replace(
        own,
        temperature=own.temperature if temperature is None else temperature,
        n_augmentations=own.n_augmentations if n_augmentations is None else n_augmentations,
    )


def check_logits(output: object) -> Tensor:
    """Return the module's output, or raise if it is not one row of logits each."""
    if not isinstance(output, Tensor) or output.ndim != 2:
        found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else "several"
        raise ValueError(
            f"module must return a tensor of logits of shape (n, n_classes); got {found}. Return the "
            "logits only."
        )
    return output


class AveragedWeights:
    """The trained weights of a module and their average: the module holds one set, this the other.

    Parameters, buffers and, so, the optimizer's references stay the same objects; what they hold is
    exchanged.
    """

    def __init__(self, module: nn.Module) -> None:
        self.others = [tensor.detach().clone() for tensor in _list_tensors(module)]
        self.n_steps = 0

    def swap(self, module: nn.Module) -> None:
        """Exchange the set in the module for the other."""
        for place, tensor in enumerate(_list_tensors(module)):
            other = self.others[place].to(tensor.device)
            self.others[place], tensor.data = tensor.data, other

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """Exchange the sets inside."""
        self.swap(module)
        try:
            yield
        finally:
            self.swap(module)

    def update(self, module: nn.Module, decay: float) -> None:
        """Move the average, which this holds, towards the weights that the module holds.

        The first steps are averaged uniformly: an exponential average over few steps is mostly
        what it began with.
        """
        self.n_steps += 1
        update_average(self.others, _list_tensors(module), min(decay, 1 - 1 / self.n_steps))

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "others": [tensor.cpu() for tensor in self.others]}


def _list_tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def build_virtual_examples(
    batch: JointBatch, x: Tensor, guesses: Tensor, *, mixes_weights: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return what one step trains on: mixed inputs, mixed targets (n, n_classes), and weights (n,) or None.

    `x` are views of the rows, those of labelled ones first; `guesses` (n_unlabeled, n_classes) the targets of
    the others. Where rows are mixed a virtual example weighs the product of their weights.
    """
    labels = batch[1]
    share = guesses.new_ones(1, len(labels))
    known = soft_targets(labels.unsqueeze(0), share, guesses.shape[1])
    target = torch.cat([known, *[guesses] * batch.n_views])
    index = torch.stack([torch.arange(len(x), device=x.device), batch.place])
    weight, lam = batch.joint_weight, batch.joint_lam
    if weight is not None and mixes_weights:
        weight = weight * weight[batch.place]
    return mix_rows(x, index, lam), mix_rows(target, index, lam), weight
