"""Training steps that are recorded as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["GraphedStep"]


class GraphedStep:
    """A :class:`Trainer`'s step for batches of one size, recorded as a CUDA graph: one launch for dozens.

    The first steps are run as they are, on the stream that the recording needs; recording itself computes
    nothing. What the step reads from Python, such as the learning rate, stays what it was when recorded.
    """

    n_warmup = 3

    def __init__(self, step: Callable[..., bool]) -> None:
        self.step = step
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.n_done = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []

    def __call__(self, x: Tensor, kept: Tensor, *target: Tensor) -> bool:
        """Do one step; see :meth:`Trainer.step`."""
        if self.n_done < self.n_warmup:
            self.n_done += 1
            return self._run_as_it_is(x, kept, *target)
        if self.graph is None:
            self.graph = self._record(x, kept, *target)
        x_read, kept_written, *target_read = self.inputs
        x_read.copy_(x)
        for read, part in zip(target_read, target, strict=True):
            read.copy_(part)
        self.graph.replay()
        kept.copy_(kept_written)
        return True

    def _run_as_it_is(self, *tensors: Tensor) -> bool:
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            done = self.step(*tensors)
        current.wait_stream(self.stream)
        return done

    def _record(self, *tensors: Tensor) -> torch.cuda.CUDAGraph:
        self.inputs = [tensor.clone() for tensor in tensors]
        self.stream.wait_stream(torch.cuda.current_stream())
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self.stream):
            graph.capture_begin()
            try:
                self.step(*self.inputs)
            finally:
                graph.capture_end()
        return graph
