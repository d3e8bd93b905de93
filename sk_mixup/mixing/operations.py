"""What is done to the inputs of virtual examples after they are mixed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sk_mixup._tensors import gather_rows, send
from sk_mixup.mixing.functional import add_noise, paste_boxes, swap_features
from sk_mixup.mixing.noise_source import NoiseSource

__all__ = ["AddNoise", "Operation", "PasteBoxes", "Sources", "SwapFeatures", "fill_noise"]


@dataclass(frozen=True)
class Sources:
    """What some virtual examples are made of.

    Parameters
    ----------
    x : Tensor of shape (m, *features)
        Examples.
    index : Tensor of shape (k, n), dtype int64
        Which of them go into each virtual example, the example itself first.
    place : int
        The place in the epoch of the first virtual example; a batch begins there.
    stream : int
        The number of this input, where an example has several.
    """

    x: Tensor
    index: Tensor
    place: int = 0
    stream: int = 0

    def gather(self, k: int) -> Tensor:
        """Return the k-th example of each, shape (n, *features): 0 is the example itself, 1 its partner."""
        return gather_rows(self.x, self.index[k])


@dataclass(frozen=True)
class Operation(ABC):
    """A change of the inputs of virtual examples, made after they are mixed.

    Subclass it as a frozen dataclass for a vicinity of your own, and hand it to :class:`Plan`.

    Parameters
    ----------
    values : ndarray of shape (..., n_planned)
        What it needs of each virtual example of the epoch. Zeros leave an example as it is:
        so :class:`Mixture` keeps an operation off the examples of other vicinities.
    """

    values: np.ndarray

    @abstractmethod
    def apply(self, x: Tensor, values: Tensor, sources: Sources) -> Tensor:
        """Return changed inputs.

        Parameters
        ----------
        x : Tensor of shape (n, *features)
            Inputs of some virtual examples, already mixed; not to be written to.
        values : Tensor of shape (..., n)
            The part of `self.values` that belongs to them, on the device of `x`.
        sources : Sources
            What they are made of.

        Returns
        -------
        changed : Tensor of shape (n, *features)
        """

    def cut(self, part: slice) -> Operation:
        """Return the operation on some virtual examples."""
        return replace(self, values=self.values[..., part])

    def keep(self, chosen: np.ndarray) -> Operation:
        """Return the operation that leaves all virtual examples as they are but the chosen ones."""
        return replace(self, values=self.values * chosen)


@dataclass(frozen=True)
class PasteBoxes(Operation):
    """Fills a rectangle of each image from its first partner; see :func:`paste_boxes`.

    Parameters
    ----------
    values : ndarray of shape (4, n_planned), dtype int64
        Top, bottom, left and right in pixels; bottom and right are excluded.
    size : tuple of int or None, default=None
        Height and width of the images that the rectangles were drawn for; None takes any.
    """

    size: tuple[int, int] | None = None

    def apply(self, x: Tensor, values: Tensor, sources: Sources) -> Tensor:
        """Return the images with their rectangles; see :meth:`Operation.apply`."""
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            raise ValueError(
                f"X must hold images of one size for rectangles to have the shares of the labels; got "
                f"{tuple(x.shape[2:])} pixels where rectangles were drawn for {self.size}. Resize, or crop, "
                "them to one size in the Dataset or in `augment`."
            )
        return paste_boxes(x, sources.gather(1), values)


@dataclass(frozen=True)
class SwapFeatures(Operation):
    """Takes features of a table whole from the example or its first partner; see :func:`swap_features`.

    Parameters
    ----------
    values : ndarray of shape (n_features, n_planned), dtype int8
        Whose value each feature has: 1 for the example's own, 2 for its partner's; 0 leaves what
        is mixed.
    """

    def apply(self, x: Tensor, values: Tensor, sources: Sources) -> Tensor:
        """Return the rows with their features; see :meth:`Operation.apply`."""
        kept = swap_features(x, sources.gather(0), values == 1)
        return swap_features(kept, sources.gather(1), values == 2)


@dataclass(frozen=True)
class AddNoise(Operation):
    """Adds Gaussian noise; see :func:`add_noise`.

    Parameters
    ----------
    values : ndarray of shape (n_planned,)
        Standard deviation of the noise on each example.
    noise : NoiseSource
        What the noise is drawn from.
    """

    noise: NoiseSource

    def apply(self, x: Tensor, values: Tensor, sources: Sources) -> Tensor:
        """Return the inputs with their noise; see :meth:`Operation.apply`."""
        if not x.is_floating_point():
            raise TypeError(f"X must be of a floating dtype for noise; got {x.dtype}. Give X as float32.")
        return add_noise(x, self._draw(x, sources), values.to(x.dtype))

    def _draw(self, x: Tensor, sources: Sources) -> Tensor:
        place = sources.place, sources.place + len(x)
        if x.device.type != "cpu":  # numpy's numbers would come slower than they are used
            return fill_noise(
                torch.empty_like(x), self.noise, *place, torch.Generator(x.device), sources.stream
            )
        dtype = np.float64 if x.dtype == torch.float64 else np.float32
        noise = self.noise.draw(*place, tuple(x.shape[1:]), dtype, sources.stream)
        return send(noise, x.device, x.dtype)


def fill_noise(
    noise: Tensor, source: NoiseSource, start: int, stop: int, generator: torch.Generator, stream: int = 0
) -> Tensor:
    """Fill a tensor with normal numbers from a generator of its device; each batch has a stream of its own.

    `start`, `stop` and `stream` are those of :meth:`NoiseSource.draw`, and so are the laws: the same numbers
    whether batches are drawn together or one by one. The numbers differ from those on the CPU.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sk_mixup.mixing import NoiseSource
    >>> from sk_mixup.mixing.operations import fill_noise
    >>> source, generator = NoiseSource(0, np.array([0, 2, 4])), torch.Generator()
    >>> both = fill_noise(torch.empty(4, 1), source, 0, 4, generator)
    >>> bool((both[2:] == fill_noise(torch.empty(2, 1), source, 2, 4, generator)).all())
    True
    """
    first, last = np.searchsorted(source.bounds, (start, stop)).tolist()
    sizes = np.diff(source.bounds[first : last + 1]).tolist()
    for batch, part in enumerate(torch.split(noise, sizes), first):
        # Distinct for all batches and inputs of an epoch; a counter-based generator needs no more.
        seed = source.seed ^ (batch * 0x9E3779B97F4A7C15) ^ (stream * 0xBF58476D1CE4E5B9)
        part.normal_(generator=generator.manual_seed(seed % 2**64))
    return noise
