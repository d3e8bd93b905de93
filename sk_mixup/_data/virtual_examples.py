"""How virtual examples are made: weighted sums and operations on them, at the input or inside the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sk_mixup._tensors import gather_rows, send
from sk_mixup.mixing import Operation, Sources, mix, mix_rows
from sk_mixup.mixing.plan import INPUT

__all__ = [
    "PLAIN",
    "HiddenBlock",
    "HiddenMixing",
    "Variation",
    "find_layers",
    "mixing_again",
    "mixing_at",
    "send_operations",
]


@dataclass(frozen=True)
class Variation:
    """How the inputs of virtual examples differ from the sum that their targets are.

    Parameters
    ----------
    lam : Tensor of shape (k, n), default=None
        Weights of the inputs; None for those of the targets.
    operations : sequence of (Operation, Tensor of shape (..., n)), default=()
        What is done to the inputs after they are mixed, and its values.
    start : int, default=0
        The place of the epoch at which the virtual examples begin.
    layer : str, default='input'
        The submodule whose output is mixed in the place of the inputs.
    absent : Tensor of shape (k - 1, n), dtype bool, default=None
        Partners that are none.
    """

    lam: Tensor | None = None
    operations: Sequence[tuple[Operation, Tensor]] = ()
    start: int = 0
    layer: str = INPUT
    absent: Tensor | None = None

    def vary(
        self,
        x: Tensor,
        index: Tensor,
        lam: Tensor | None,
        start: int = 0,
        stop: int | None = None,
        stream: int = 0,
    ) -> Tensor:
        """Return some of the virtual examples.

        Parameters
        ----------
        x : Tensor of shape (m, *features)
            The examples.
        index : Tensor of shape (k, n)
            Which of them go into each of those.
        lam : Tensor of shape (k, n) or None
            Their weights in the targets.
        start, stop : int
            Which virtual examples to return, of all that `self` describes: whole batches.
        stream : int, default=0
            Which of several inputs `x` is, for its noise.
        """
        lam = lam if self.lam is None else self.lam[:, start:stop]
        made = gather_rows(x, index[0]) if lam is None else mix_rows(x, index, lam)
        sources = Sources(x, index, self.start + start, stream)
        for operation, values in self.operations:
            made = operation.apply(made, values[..., start:stop], sources)
        return made

    def weigh(self, weight: Tensor) -> Tensor:
        """Return the weight of each virtual example, shape (n,), from those of its examples, (k, n)."""
        if self.absent is not None:
            weight = torch.cat([weight[:1], torch.where(self.absent, 1.0, weight[1:])])
        return weight.prod(dim=0)


@dataclass(frozen=True)
class HiddenMixing:
    """What is done to the output of a submodule.

    Parameters
    ----------
    layer : str
        Its name.
    index : Tensor of shape (k, n), dtype int64
        Rows of the output that go into each virtual example.
    lam : Tensor of shape (k, n)
        Their weights.
    n_rows : int
        Rows that the output has.
    """

    layer: str
    index: Tensor
    lam: Tensor
    n_rows: int

    def mix(self, hidden: Tensor) -> Tensor:
        """Return the mixed output, of n rows; autograd goes through it."""
        return mix(hidden[self.index], self.lam.to(hidden.dtype))

    def unmix(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the output from that of the mixed output."""
        own = gradient.new_zeros(self.n_rows, *gradient.shape[1:])
        for index, lam in zip(self.index, self.lam, strict=True):
            own.index_add_(0, index, gradient * lam.unsqueeze(1))
        return own


@dataclass(frozen=True)
class HiddenBlock:
    """What is done inside the network to several batches, each with partners of its own.

    Parameters
    ----------
    layers : tuple of str
        Where each batch is mixed; 'input' for none of this.
    index : Tensor of shape (k, n), dtype int64
        Rows that go into each virtual example, counted from the beginning of its batch.
    lam : Tensor of shape (k, n)
        Their weights.
    """

    layers: tuple[str, ...]
    index: Tensor
    lam: Tensor

    def split(self, sizes: Sequence[int]) -> list[HiddenMixing | None]:
        """Return what is done to each batch, of so many rows each."""
        indices, weights = (torch.split(part, list(sizes), dim=1) for part in (self.index, self.lam))
        parts = zip(self.layers, indices, weights, strict=True)
        return [
            None if layer == INPUT else HiddenMixing(layer, index, lam, index.shape[1])
            for layer, index, lam in parts
        ]

    def weigh(self, sizes: Sequence[int], levels: Mapping[str, int]) -> tuple[Tensor, Tensor]:
        """Return the mixing at each hidden layer of an MLP, the identity at most of them.

        Parameters
        ----------
        sizes : sequence of int
            Rows in each batch.
        levels : mapping of str to int
            The number of each layer, from 1.

        Returns
        -------
        index : Tensor of shape (n, k)
            Rows that go into each virtual example.
        weights : Tensor of shape (n, n_levels, k)
            Their weights at each layer.
        """
        levels_of = np.repeat([levels.get(layer, 0) for layer in self.layers], sizes)
        here = levels_of[:, None] == np.arange(1, len(levels) + 1)
        own = torch.zeros_like(self.lam[:, :1])
        own[0] = 1
        mask = send(here, self.lam.device).unsqueeze(2)
        return self.index.t(), torch.where(mask, self.lam.t().unsqueeze(1), own.t())


PLAIN = Variation()


def send_operations(
    operations: Sequence[Operation], device: torch.device, dtype: torch.dtype
) -> list[tuple[Operation, Tensor]]:
    """Return operations with their values on a device, those that are floats in a dtype."""
    kinds = [dtype if operation.values.dtype.kind == "f" else None for operation in operations]
    return [(each, send(each.values, device, kind)) for each, kind in zip(operations, kinds, strict=True)]


@contextmanager
def mixing_at(module: nn.Module, hidden: HiddenMixing | None) -> Iterator[None]:
    """Mix the output of one of a module's layers in the forward pass inside; None mixes nothing.

    Raises
    ------
    ValueError
        If the layer is not called just once, or returns no tensor with a row for each
        example.
    """
    if hidden is None:
        yield
        return
    n_calls = 0

    def mix_output(layer: nn.Module, args: Any, output: Any) -> Tensor:
        nonlocal n_calls
        n_calls += 1
        if n_calls > 1:
            raise ValueError(_describe_calls(hidden.layer, n_calls))
        if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != hidden.n_rows:
            found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"layers must name submodules that return a tensor with a row for each of {hidden.n_rows} "
                f"examples; got {hidden.layer!r}, which returns {found}. Name another."
            )
        return hidden.mix(output)

    handle = module.get_submodule(hidden.layer).register_forward_hook(mix_output)
    try:
        yield
    finally:
        handle.remove()
    if n_calls == 0:
        raise ValueError(_describe_calls(hidden.layer, n_calls))


def mixing_again(module: nn.Module, hidden: HiddenMixing | None) -> AbstractContextManager[object]:
    """Mix the output of a layer in the backward pass inside, which computes it anew where it is checkpointed.

    ``torch.utils.checkpoint`` repeats in it what was computed in :func:`mixing_at`.
    """
    if hidden is None:
        return nullcontext()
    return module.get_submodule(hidden.layer).register_forward_hook(lambda *call: hidden.mix(call[-1]))


def _describe_calls(layer: str, n_calls: int) -> str:
    return (
        f"layers must name submodules that are called once in a forward pass; got {layer!r}, which was "
        f"called {n_calls} times. Name another."
    )


def find_layers(module: nn.Module, wanted: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the places of a network that can be mixed at.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    wanted : 'auto' or tuple of str
        Names of submodules, or 'input'. 'auto' is, in an ``nn.Sequential``, the input and
        what each further layer with a matrix of weights is given; in another network the
        input and its parts that have parts, but for the last part with weights.

    Returns
    -------
    layers : tuple of str

    Raises
    ------
    ValueError
        If a name is none of the network's, or 'auto' finds no hidden layer.

    Examples
    --------
    >>> from sk_mixup.modules import MLP
    >>> from sk_mixup._data.virtual_examples import find_layers
    >>> find_layers(MLP(4, 3), "auto")
    ('input', 'layers.2', 'layers.4')
    """
    if isinstance(wanted, str):
        return _find_hidden(module)
    known = {name for name, _ in module.named_modules() if name}
    for name in wanted:
        if name != INPUT and name not in known:
            raise ValueError(
                f"layers must name submodules of {type(module).__name__}, or 'input'; got {name!r}. Its "
                f"submodules are {', '.join(sorted(known)) or 'none'}."
            )
    return tuple(wanted)


def _find_hidden(module: nn.Module) -> tuple[str, ...]:
    prefix, container = "", module
    children = _list_children(container)
    while len(children) == 1:
        prefix, container = f"{prefix}{children[0][0]}.", children[0][1]
        children = _list_children(container)
    if isinstance(container, nn.Sequential):
        starts = [k for k, (_, child) in enumerate(children) if _has_matrix(child)]
        uses = Counter(id(child) for _, child in children)
        names = [children[k - 1][0] for k in starts[1:] if uses[id(children[k - 1][1])] == 1]
    else:
        weighted = [(name, part) for name, part in _list_parts(container) if _has_matrix(part)]
        names = [name for name, part in weighted[:-1] if list(part.children())]
    if not names:
        raise ValueError(
            f"layers must be named for {type(module).__name__}, in which no hidden layers that are used once "
            "were found; got 'auto'. Name submodules, such as ('input', 'block1')."
        )
    return (INPUT, *(prefix + name for name in names))


def _list_children(container: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return what a module calls in turn, with each use of what stands in it twice."""
    return [(name, part) for name, part in container._modules.items() if part is not None]


def _list_parts(container: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of a module by name; those of a list in its place, for it is never called itself."""
    for name, part in container.named_children():
        if type(part) in (nn.ModuleList, nn.ModuleDict):
            yield from ((f"{name}.{inner}", each) for inner, each in _list_parts(part))
        else:
            yield name, part


def _has_matrix(module: nn.Module) -> bool:
    """Whether a layer has a matrix of weights; normalisations and activations have none."""
    return any(p.ndim > 1 for p in module.parameters())
