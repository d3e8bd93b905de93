"""What the checks of a device share: networks, rows, options of a fit, and how nets are compared."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from sk_mixup.mixing import CutMix, GaussianNoise, ManifoldMixup

__all__ = [
    "CLOSE",
    "EXACT",
    "FITS",
    "QUICK",
    "Case",
    "Cases",
    "Check",
    "Conv",
    "Reading",
    "Tanh",
    "compare_nets",
    "find_data",
    "is_cuda",
    "make_net",
    "make_rows",
    "run_in_threads",
]

# What is at most its bound is right; what raises is not.
Case = tuple[Callable[[], float], float]
Cases = dict[str, Case]
Check = Callable[[str], Cases]

QUICK: dict[str, Any] = {
    **{"early_stopping": False, "max_epochs": 3, "lr": 0.02, "batch_size": 8, "random_state": 0}
}
EXACT, CLOSE = 1e-8, 1e-3  # of float64 and of float32


class Conv(nn.Sequential):
    """A convolution with batch normalisation for images of 3x8x8."""

    def __init__(self, width: int = 8) -> None:
        layers = (
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Flatten(),
        )
        super().__init__(*layers, nn.Linear(64 * width, 3))


class Tanh(nn.Sequential):
    """A network that is trained by autograd."""

    def __init__(self, dropout: float = 0.0, frozen: bool = False) -> None:
        super().__init__(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))
        self[0].requires_grad_(not frozen)


class Reading(Tanh):
    """A network that reads a number, which no graph can record."""

    def forward(self, x: Tensor) -> Tensor:
        """Wait for the device."""
        forward: Any = super().forward  # it carries no types
        return forward(x) * float(x.sum() * 0 + 1)


def make_rows(n: int = 45, shape: tuple[int, ...] = (6,)) -> tuple[Any, Any]:
    """Return rows of a shape, and their classes."""
    X = np.random.default_rng(1).normal(size=(n, *shape)).astype(_find_dtype())
    return X, np.arange(n) % 3


def _find_dtype() -> str:
    return str(torch.get_default_dtype()).removeprefix("torch.")


def is_cuda(device: str) -> bool:
    """Whether a device is one of CUDA."""
    return device.startswith("cuda")


def make_net(options: Mapping[str, Any], device: str, **more: Any) -> Any:
    """Return an estimator; `options` may name its class and whether it records graphs, which a CPU cannot."""
    own = QUICK | dict(options) | {"device": device} | more
    if not is_cuda(device):
        own.pop("cuda_graph", None)
    return own.pop("owner", MixupClassifier)(**own)


def compare_nets(nets: Any, others: Any) -> float:
    """Return the largest difference of weights, over the largest weight."""
    return max(_compare_pair(*pair) for pair in zip(nets, others, strict=True))


def _compare_pair(net: Any, other: Any) -> float:
    ours, theirs = ({k: v.double().cpu() for k, v in n.module_.state_dict().items()} for n in (net, other))
    gaps = [(ours[k] - theirs[k]).abs().max() / (theirs[k].abs().max() + 1e-30) for k in ours]
    return float(torch.stack(gaps).nan_to_num(torch.inf).max())


def find_data(options: Mapping[str, Any], n: int = 45) -> tuple[Any, Any]:
    """Return data that the module of some options takes."""
    return make_rows(n, (3, 8, 8)) if options.get("module") is Conv else make_rows(n)


FITS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "erm": {"alpha": 0},
    "four": {"n_mixed": 4, "partners": "dataset", "alpha": 1},
    "smooth": {"label_smoothing": 0.1},
    "penalty": {"confidence_penalty": 0.1},
    "weights": {"class_weight": "balanced"},
    "noise": {"vicinity": GaussianNoise(0.1)},
    "manifold": {"vicinity": ManifoldMixup(1.0)},
    "host": {"storage": "host"},
    "sgd": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    "adamw": {"optimizer": torch.optim.AdamW},
    "amsgrad": {"optimizer__amsgrad": True},
    "tanh": {"module": Tanh},
    "frozen": {"module": Tanh, "module__frozen": True},
    "conv": {"module": Conv},
    "channels_last": {"module": Conv, "channels_last": True},
    "cutmix": {"module": Conv, "vicinity": CutMix()},
    "stopping": {"early_stopping": True, "validation_fraction": 0.3, "max_epochs": 6},
}


def run_in_threads(functions: list[Callable[[], Any]]) -> list[Any]:
    """Call functions at once, each in a thread of its own."""
    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(lambda function: function(), functions))
