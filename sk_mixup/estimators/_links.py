"""Links from what a module returns to probabilities and to their logarithms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from sk_mixup._training.module_structure import iterate_parts

__all__ = [
    "MAP_SIGMOID_COLUMNS",
    "MAP_SOFTMAX",
    "SIGMOID",
    "SIGMOID_COLUMNS",
    "SOFTMAX",
    "Link",
    "clip",
    "divide_by_sum",
    "keep",
    "make_columns",
    "squash",
    "takes_probabilities",
]


@dataclass(frozen=True)
class Link:
    """A link that is evident from the criterion: called with logits, it returns probabilities.

    Attributes
    ----------
    link : callable
        Returns probabilities.
    log_link : callable
        Returns their logarithms, finite wherever the logits are.
    looks_applied : callable
        Whether an output of a module looks as if the module had applied the link itself.
    temperature : float, default=1.0
        What logits are divided by.
    """

    link: Callable[[Tensor], Tensor]
    log_link: Callable[[Tensor], Tensor]
    looks_applied: Callable[[Tensor], bool]
    temperature: float = 1.0

    def __call__(self, output: Tensor) -> Tensor:
        """Return probabilities."""
        return self.link(output if self.temperature == 1 else output / self.temperature)

    def log(self, output: Tensor) -> Tensor:
        """Return the logarithms of probabilities."""
        return self.log_link(output if self.temperature == 1 else output / self.temperature)

    @property
    def is_by_column(self) -> bool:
        """Whether each column has a probability of its own."""
        return self.link is squash

    def at(self, temperature: float) -> Link:
        """Return the link for logits that are divided by a temperature."""
        return self if temperature == self.temperature else replace(self, temperature=temperature)


def keep(output: Tensor) -> Tensor:
    """Return probabilities as the module gives them."""
    return output


def clip(output: Tensor) -> Tensor:
    """Return probabilities that the module gives but for what a distance leaves below 0 and above 1."""
    return output.clamp(0, 1)


def divide_by_sum(output: Tensor) -> Tensor:
    """Return shares that sum to 1, of outputs that are near them; none above 0 are all alike."""
    shares = output.clamp_min(0)
    total = shares.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, shares / total, 1 / output.shape[-1])


def squash(logit: Tensor) -> Tensor:
    """Return the sigmoid; torch's own rounds a number by where it stands in a vector."""
    return 1 / (1 + torch.exp(-logit))


def make_columns(probability: Tensor) -> Tensor:
    """Return the probabilities of both classes, of that of the second per row."""
    column = probability.unsqueeze(-1) if probability.ndim == 1 else probability
    return torch.cat([1 - column, column], dim=-1)


def takes_probabilities(criterion: nn.Module) -> bool:
    """Whether a criterion is known for one of probabilities; ``NLLLoss`` is, as in skorch."""
    parts = iterate_parts(criterion) if isinstance(criterion, nn.Module) else ()
    return isinstance(criterion, nn.NLLLoss) or any(isinstance(part, nn.BCELoss) for part in parts)


def _sum_to_one(output: Tensor, dim: int) -> bool:
    total = output.sum(dim=dim)
    return bool(torch.all(output >= 0)) and torch.allclose(total, torch.ones_like(total))


def _is_sigmoid(output: Tensor) -> bool:
    # Numbers between 0 and 1 may well be logits of an untrained module.
    return output.grad_fn is not None and output.grad_fn.name() == "SigmoidBackward0"


def _make_softmax(dim: int) -> Link:
    log, looks_applied = partial(torch.log_softmax, dim=dim), partial(_sum_to_one, dim=dim)
    return Link(partial(torch.softmax, dim=dim), log, looks_applied)


def _as_columns(logit: Tensor, dim: int) -> Tensor:
    """Return what the sigmoid of is the probability of either class, of one logit per row or pixel."""
    logit = logit.unsqueeze(-1) if logit.ndim == 1 else logit
    return torch.cat([-logit, logit], dim=dim)


def _make_sigmoid_columns(dim: int) -> Link:
    return Link(
        lambda logit: squash(_as_columns(logit, dim)),
        lambda logit: logsigmoid(_as_columns(logit, dim)),
        _is_sigmoid,
    )


SOFTMAX, MAP_SOFTMAX = _make_softmax(-1), _make_softmax(1)
SIGMOID = Link(squash, logsigmoid, _is_sigmoid)
SIGMOID_COLUMNS, MAP_SIGMOID_COLUMNS = _make_sigmoid_columns(-1), _make_sigmoid_columns(1)
