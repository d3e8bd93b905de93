"""Normal numbers that can be drawn batch by batch, in any order and again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["NoiseSource"]


class NoiseSource:
    """Standard normal numbers for the examples of an epoch: each batch has a stream of its own.

    Parameters
    ----------
    seed : int
        Which numbers, in [0, 2**63).
    bounds : ndarray of shape (n_batches + 1,)
        Where the mini-batches begin and end.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import NoiseSource
    >>> noise = NoiseSource(0, np.array([0, 2, 4]))
    >>> both, second = noise.draw(0, 4, (1,)), noise.draw(2, 4, (1,))
    >>> bool((both[2:] == second).all())
    True
    """

    def __init__(self, seed: int, bounds: NDArray[np.int64]) -> None:
        self.seed = seed
        self.bounds = bounds

    def draw(
        self, start: int, stop: int, shape: tuple[int, ...], dtype: type = np.float64, stream: int = 0
    ) -> NDArray[np.floating]:
        """Draw the noise of the examples from one bound to another.

        Parameters
        ----------
        start, stop : int
            Places of the epoch; each is a bound.
        shape : tuple of int
            Of the noise on one example.
        dtype : type, default=numpy.float64
            float32 or float64; the numbers of both differ.
        stream : int, default=0
            Which of several inputs of an example.

        Returns
        -------
        noise : ndarray of shape (stop - start, *shape)
            Standard normal numbers; the same at each call.
        """
        noise: NDArray[np.floating] = np.empty((stop - start, *shape), dtype=dtype)
        bits = np.random.Philox(key=0)
        generator, state = np.random.Generator(bits), bits.state
        first, last = np.searchsorted(self.bounds, (start, stop))
        for batch in range(first, last):
            # To set the state takes half the time that a new generator does.
            state["state"]["key"][:] = self.seed, batch
            state["state"]["counter"][:] = 0, 0, 0, stream
            bits.state = state
            own = noise[self.bounds[batch] - start : self.bounds[batch + 1] - start]
            generator.standard_normal(out=own, dtype=dtype)
        return noise
