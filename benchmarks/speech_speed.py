"""Times of ``speech``: an epoch beside a loop written by hand, and spectrograms beside real time."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from benchmarks.interleave import interleave
from benchmarks.speech_features import BLOCK, transform
from benchmarks.speech_files import N_SAMPLES, SAMPLE_RATE, Clips, read_clips
from sk_mixup import MixupClassifier

__all__ = ["make_adam_loop", "make_random_inputs", "time_extraction", "time_trainings"]


def make_random_inputs(n_clips: int, shape: tuple[int, ...], n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return normal inputs (float32) and labels: times do not depend on the values."""
    X = np.random.default_rng(0).standard_normal((n_clips, *shape), dtype=np.float32)
    return X, np.arange(n_clips) % n_classes


def time_extraction(clips: Clips, n_clips: int, n_rounds: int, device: str) -> Iterator[dict[str, Any]]:
    """Yield how many times faster than real time WAV files become spectrograms, reading included.

    Parameters
    ----------
    clips : Clips
        The files; the first ones are read.
    n_clips : int
        How many, at most.
    n_rounds : int
        Rounds that count.
    device : str
        Torch device of the transform.

    Yields
    ------
    record : dict
        Contender, round and seconds of sound a second; a clip counts as the second that it fills.
    """
    names = clips.names[:n_clips]
    sound = len(names) * N_SAMPLES / SAMPLE_RATE

    def extract() -> None:
        for waves in read_clips(clips.folder, names, BLOCK):
            transform(waves, device)

    for turn, seconds in enumerate(interleave({"extraction": extract}, n_rounds)["extraction"]):
        yield {"contender": "extraction", "round": turn, "value": round(sound / seconds, 1)}


def time_trainings(
    nets: Mapping[str, MixupClassifier],
    make_module: Callable[[], nn.Module],
    X: np.ndarray,
    y: np.ndarray,
    *,
    n_rounds: int,
    n_epochs: int,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Yield times of estimators and of loops written by hand, all in turns.

    Parameters
    ----------
    nets : mapping of str to MixupClassifier
        Untrained classifiers by the name of their method, without a warm-up; their ``alpha`` is
        the loop's too.
    make_module : callable
        Returns a new network for a loop.
    X, y : ndarray
        Inputs (float32) and class codes.
    n_rounds : int
        Rounds that count.
    n_epochs : int
        Epochs of each fit; the next round goes on from there.
    **options : Any
        Of :func:`make_adam_loop`; they must be those of ``nets``.

    Yields
    ------
    record : dict
        Contender ("estimator, ..." or "loop, ..."), round and microseconds per clip.
    """
    contenders: dict[str, Callable[[], None]] = {}
    for method, net in nets.items():
        net.set_params(max_epochs=n_epochs)
        loop = make_adam_loop(X, y, module=make_module(), alpha=net.alpha, n_epochs=n_epochs, **options)
        contenders[f"estimator, {method}"] = _wait_for(partial(net.partial_fit, X, y), net.device)
        contenders[f"loop, {method}"] = _wait_for(loop, net.device)
    scale = 1e6 / (len(X) * n_epochs)
    for contender, seconds in interleave(contenders, n_rounds).items():
        for turn, value in enumerate(seconds):
            yield {"contender": contender, "round": turn, "value": round(scale * value, 3)}


def _wait_for(train: Callable[[], Any], device: str) -> Callable[[], None]:
    """Return a call that ends when the device has ended its work."""

    def call() -> None:
        train()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)

    return call


def make_adam_loop(
    X: np.ndarray,
    y: np.ndarray,
    *,
    module: nn.Module,
    alpha: float,
    lr: float,
    batch_size: int,
    n_epochs: int,
    device: str = "cpu",
    bfloat16: bool = False,
    channels_last: bool = False,
    compile: bool = False,
) -> Callable[[], list[float]]:
    """Return a loop as a PyTorch user writes it who keeps the inputs on the device.

    Parameters
    ----------
    X : ndarray of shape (n_samples, *features)
        Inputs, float32.
    y : ndarray of shape (n_samples,), dtype int64
        Class codes.
    module : torch.nn.Module
        What is trained; moved to the device.
    alpha : float
        Of λ's Beta distribution, one λ for each batch; 0 for plain training.
    lr : float
        Of Adam.
    batch_size : int
        Rows in a batch.
    n_epochs : int
        Epochs of each call.
    device : str, default="cpu"
        Torch device.
    bfloat16, channels_last, compile : bool, default=False
        Whether the forward pass is autocast to bfloat16, inputs of four axes and weights have
        their channels last in memory, and the module is compiled.

    Returns
    -------
    train : callable
        Trains for ``n_epochs`` epochs more and returns their mean losses.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    inputs, labels = torch.as_tensor(X, device=device), torch.as_tensor(y, device=device)
    inputs = inputs.contiguous(memory_format=layout) if inputs.ndim == 4 else inputs
    model: Any = module.to(device).train()
    model.to(memory_format=layout)
    model = torch.compile(model, dynamic=False) if compile else model
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    generator = np.random.default_rng(0)

    def autocast() -> AbstractContextManager[Any]:
        kind = torch.device(device).type
        return torch.autocast(kind, dtype=torch.bfloat16) if bfloat16 else nullcontext()

    def step(rows: Tensor) -> Tensor:
        x, target = inputs[rows], labels[rows]
        partner, lam = target, 1.0
        if alpha:
            index, lam = torch.randperm(len(x), device=device), generator.beta(alpha, alpha)
            x, partner = torch.lerp(x[index], x, lam), target[index]
        optimizer.zero_grad()
        with autocast():
            logits = model(x)
            loss = F.cross_entropy(logits, target)
            if alpha:
                loss = lam * loss + (1 - lam) * F.cross_entropy(logits, partner)
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    def train() -> list[float]:
        means = []
        for _ in range(n_epochs):
            order = torch.randperm(len(inputs), device=device)
            means.append(torch.stack([step(rows) for rows in torch.split(order, batch_size)]).mean().item())
        return means

    return train
