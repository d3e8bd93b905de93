"""A step of ``MixupGAN`` beside a loop written by hand, and seeds as one stack beside seeds in turn."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor, nn
from torch.distributions import Beta
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from benchmarks.harness.interleaved_timing import interleave, list_times, use_threads
from sk_mixup import fit_stacked

__all__ = ["compute_mixed_loss", "fit_gan_by_hand", "make_sequential", "time_gans"]

Make = Callable[[int], Any]


def make_sequential(sizes: tuple[int, ...]) -> nn.Sequential:
    """Return linear layers between these sizes, with a ReLU after each but the last."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def compute_mixed_loss(
    discriminator: nn.Module, x: Tensor, fake: Tensor, lam: Tensor, *, is_swapped: bool = False
) -> Tensor:
    """Return the mean cross-entropy of both virtual examples of each pair, their targets λ and 1 - λ."""
    mixed = torch.cat([torch.lerp(fake, x, lam), torch.lerp(x, fake, lam)])
    targets = torch.cat([1 - lam, lam] if is_swapped else [lam, 1 - lam])
    return F.binary_cross_entropy_with_logits(discriminator(mixed), targets)


def fit_gan_by_hand(
    X: NDArray[np.float32],
    *,
    alpha: float,
    n_iterations: int,
    hidden_layer_sizes: tuple[int, ...],
    batch_size: int,
    lr: float,
    discriminator_steps: int = 5,
    device: str = "cpu",
) -> nn.Sequential:
    """Train a non-saturating GAN as a PyTorch user writes it who knows of fused Adam and lerp."""
    data = torch.as_tensor(X, device=device)
    generator = make_sequential((2, *hidden_layer_sizes, data.shape[1])).to(device)
    discriminator = make_sequential((data.shape[1], *hidden_layer_sizes, 1)).to(device)
    weights = list(generator.parameters())
    generator_optimizer = torch.optim.Adam(weights, lr=lr, fused=True)
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=lr, fused=True)
    ones = torch.ones(batch_size, 1, device=device)
    beta = Beta(torch.tensor(alpha, device=device), torch.tensor(alpha, device=device)) if alpha else None

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.randint(len(data), (batch_size,), device=device)
        lam = ones if beta is None else beta.sample((batch_size, 1))
        return data[rows], torch.randn(batch_size, 2, device=device), lam

    for _ in range(n_iterations):
        for _ in range(discriminator_steps):
            x, z, lam = draw()
            with torch.no_grad():
                fake = generator(z)
            discriminator_optimizer.zero_grad()
            torch.autograd.backward(compute_mixed_loss(discriminator, x, fake, lam))
            discriminator_optimizer.step()
        x, z, lam = draw()
        generator_optimizer.zero_grad()
        loss = compute_mixed_loss(discriminator, x, generator(z), lam, is_swapped=True)
        torch.autograd.backward(loss, inputs=weights)
        generator_optimizer.step()
    return generator


def time_gans(
    make: Make, X: NDArray[np.float32], *, n_seeds: int, n_rounds: int, n_iterations: int, **options: Any
) -> Iterator[dict[str, Any]]:
    """Yield times per generator step, the estimator's and the loop's, then a stack's and single fits'.

    Contender, round and microseconds per generator step of a net: "estimator" and "loop" were timed in
    turns, and so were "stack" and "singles".
    """
    steps = {
        "estimator": lambda: make(0).fit(X),
        "loop": lambda: fit_gan_by_hand(X, n_iterations=n_iterations, **options),
    }
    stacks = {
        "stack": lambda: fit_stacked([(make(seed), X) for seed in range(n_seeds)]),
        "singles": lambda: [make(seed).fit(X) for seed in range(n_seeds)],
    }
    for contenders, n_nets in ((steps, 1), (stacks, n_seeds)):
        with use_threads(1):
            seconds = interleave(contenders, n_rounds, device=options["device"])
        yield from list_times(seconds, scale=1e6 / (n_iterations * n_nets), digits=3)
