"""Trained networks on disk, so that one command measures what another has trained."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
import torch
from torch import Tensor, nn

from benchmarks.data.cifar_images import IMAGE_SET_TITLES
from benchmarks.harness.command import UserError
from benchmarks.harness.results import write_bytes
from benchmarks.networks import imagenet_networks
from benchmarks.networks.cifar_networks import NETWORKS

__all__ = [
    "IMAGENET",
    "Origin",
    "PixelNet",
    "find_trained",
    "list_trained",
    "load_trained",
    "name_problem",
    "save_trained",
]

IMAGENET = "imagenet"
SUFFIX = ".safetensors"
ORIGIN = "sk_mixup.benchmarks.origin"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How a network came about: what it takes to build it anew, and to find its test images."""

    network: str  # Key of the ``NETWORKS`` of ``cifar`` or, for ImageNet's images, of ``imagenet``
    options: dict[str, Any]  # What the network was built with
    dataset: str
    train_rows: int | None  # The most images of each part; None for all
    test_rows: int | None
    sha256: str  # Of those images
    mean: tuple[float, ...]  # Of each channel of the training images, in units of a pixel's bytes
    std: tuple[float, ...]
    method: str
    weight_decay: float
    alpha: float  # Mixup's; 0 for ERM
    repeat: int
    seed: int
    epochs: int
    image_size: int | None = None  # Pixels of a side of ImageNet's images; None for images of one size


class PixelNet(nn.Module):
    """A network behind the normalisation of its inputs, so that it takes pixels from 0 to 1.

    Mean and deviation of each channel are in units of a pixel's bytes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).reshape(-1, 1, 1) / 255)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (n, n_classes) for `x` of shape (n, channels, height, width)."""
        logits: Tensor = self.net((x - self.mean) / self.std)
        return logits


def find_trained(folder: Path, key: str) -> Path:
    """Return the file of the run that a journal knows as `key`."""
    return folder / f"{key.replace('/', '-')}{SUFFIX}"


def save_trained(path: Path, module: nn.Module, origin: Origin) -> None:
    """Write weights and origin into one safetensors file, in one piece."""
    plain: Any = getattr(module, "_orig_mod", module)  # compiled modules keep the plain one
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in plain.state_dict().items()}
    write_bytes(path, save(weights, {ORIGIN: json.dumps(asdict(origin))}))


def list_trained(folder: Path) -> dict[Path, Origin]:
    """Return the origin of every network in a folder, in the order of the names."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise UserError(
            f"--models must be a folder with trained networks; got '{folder}' with none. Train them with "
            f"python -m benchmarks cifar --models {folder}, or imagenet."
        )
    return {path: _read_origin(path) for path in paths}


def _read_origin(path: Path) -> Origin:
    try:
        with safe_open(path, framework="pt") as file:
            found = json.loads((file.metadata() or {})[ORIGIN])
        tuples = {name: tuple(found[name]) for name in ("mean", "std")}
        return Origin(**(found | tuples))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _make_error(path, error) from None


def _make_error(path: Path, error: Exception) -> UserError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return UserError(
        f"'{path}' must be a network that `cifar --models` or `imagenet --models` wrote; got {reason}. Move "
        "it away, or train it anew."
    )


def name_problem(dataset: str, network: str) -> str:
    """Return images and network in words."""
    if dataset == IMAGENET:
        return f"ImageNet, {imagenet_networks.NETWORKS[network].title}"
    return f"{IMAGE_SET_TITLES[dataset]}, {NETWORKS[network].title}"


def _build(origin: Origin) -> nn.Module:
    if origin.dataset == IMAGENET:
        return imagenet_networks.build_network(origin.network, **origin.options)
    return NETWORKS[origin.network].module(**origin.options)


def load_trained(path: Path, origin: Origin) -> PixelNet:
    """Build a network anew, with its weights, to be called on pixels from 0 to 1."""
    try:
        net = _build(origin)
        with safe_open(path, framework="pt") as file:
            net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _make_error(path, error) from None
    return PixelNet(net, origin.mean, origin.std).eval()
