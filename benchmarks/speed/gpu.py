"""The lines of ``speed`` that need a CUDA device."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.fitting import count_batches
from benchmarks.harness.interleaved_timing import interleave, list_times
from benchmarks.peers.contenders import SmallConvNet, make_fits, make_images, make_net, make_table
from sk_mixup.mixing import mix_rows

__all__ = ["time_gpu", "time_mixing_kernel"]

N_ROWS, N_FEATURES, N_CLASSES, BATCH_SIZE = 50_000, 54, 7, 128
N_IMAGES, EPOCHS = 16_384, 3
MIX_SHAPE = (65_536, 1024)  # 256 MiB in float32: far beyond the caches


def time_gpu(case: str, n_rounds: int, device: str) -> Iterator[dict[str, Any]]:
    """Return the records of one comparison on a CUDA device."""
    if case == "mixing":
        speeds = time_mixing_kernel(n_rounds, device)
        return list_times(speeds, scale=1e-9, part="gpu", case=case, unit="GB/s")
    contenders = _make_table_fits(device) if case == "fit" else _make_image_fits(device)
    n_samples = N_ROWS if case == "fit" else N_IMAGES
    count = EPOCHS * count_batches(n_samples, BATCH_SIZE)
    return list_times(
        interleave(contenders, n_rounds, device=device), scale=1e6 / count, part="gpu", case=case, unit="step"
    )


def _make_table_fits(device: str) -> dict[str, Callable[[], Any]]:
    X, y = make_table(N_ROWS, N_FEATURES, N_CLASSES)
    fits = make_fits(X, y, batch_size=BATCH_SIZE, epochs=EPOCHS, device=device)
    graphed = make_fits(X, y, batch_size=BATCH_SIZE, epochs=EPOCHS, device=device, cuda_graph=True)
    return {**fits, "mixup-graph": graphed["mixup"]}


def _make_image_fits(device: str) -> dict[str, Callable[[], Any]]:
    X, y = make_images(N_IMAGES)
    shared = {"batch_size": BATCH_SIZE, "max_epochs": EPOCHS, "device": device}
    variants: dict[str, dict[str, Any]] = {
        "mixup": {},
        "mixup-channels-last": {"channels_last": True},
        "mixup-bfloat16": {"autocast": "bfloat16", "channels_last": True},
        "mixup-bfloat16-graph": {"autocast": "bfloat16", "channels_last": True, "cuda_graph": True},
    }

    def make_fit(alpha: float, options: dict[str, Any]) -> Callable[[], Any]:
        return lambda: make_net(SmallConvNet, alpha, **shared, **options).fit(X, y)

    fits = {name: make_fit(0.2, options) for name, options in variants.items()}
    return {**fits, "erm": make_fit(0, {})}


def time_mixing_kernel(
    n_rounds: int,
    device: str,
    *,
    shape: tuple[int, int] = MIX_SHAPE,
    dtype: torch.dtype = torch.float32,
    compiled: bool = False,
) -> dict[str, list[float]]:
    """Return bytes that must be read and written over the seconds it takes: the kernel, and a device copy.

    `compiled` adds the paper's formula, compiled.
    """
    x = torch.randn(shape, device=device).to(dtype)
    into = torch.empty_like(x)
    index = torch.stack([torch.arange(len(x)), torch.randperm(len(x))]).to(device)
    lam = torch.rand(1, len(x), device=device).to(dtype)
    weights, column = torch.cat([lam, 1 - lam]), lam.view(-1, 1)
    contenders: dict[str, Callable[[], Any]] = {
        "mix": lambda: mix_rows(x, index, weights),
        "copy": lambda: into.copy_(x),
    }
    if compiled:
        contenders["compiled"] = partial(torch.compile(_mix_pairs), x, index, column)
    repeats = 20
    seconds = interleave(
        {name: _repeat(function, repeats) for name, function in contenders.items()}, n_rounds, device=device
    )
    moved = {name: (2 if name == "copy" else 3) * repeats * x.nbytes for name in contenders}
    return {name: [moved[name] / value for value in values] for name, values in seconds.items()}


def _mix_pairs(x: Tensor, index: Tensor, lam: Tensor) -> Tensor:
    return torch.lerp(x[index[1]], x[index[0]], lam)


def _repeat(function: Callable[[], Any], times: int) -> Callable[[], None]:
    def call() -> None:
        for _ in range(times):
            function()

    return call
