"""What all trainings on images share: sizes, schedule, precision, checkpoints."""

from dataclasses import dataclass
from typing import Any

from benchmarks.data.cifar_images import ImageSet
from benchmarks.harness.command import BaseConfig, check_range

__all__ = ["DROPS", "ImageConfig"]

# Shares of the epochs after which the learning rate falls: 100 and 150 of 200; 60, 120 and 180.
DROPS = {"preact_resnet18": (0.5, 0.75), "wide_resnet28_10": (0.3, 0.6, 0.9), "densenet_bc190": (0.5, 0.75)}


@dataclass(frozen=True, kw_only=True)
class ImageConfig(BaseConfig):
    """Options of every training on images."""

    width: int = 16
    """Channels of the first stage of PreAct ResNet-18; the paper's network has 64."""

    epochs: int = 50
    """Epochs of each run."""

    lr: float = 0.1
    """Learning rate at first, of SGD with momentum 0.9; it falls tenfold two or three times."""

    batch_size: int = 128
    """Images in a batch."""

    padding: int = 4
    """Pixels by which a random crop moves at most."""

    train_rows: int | None = None
    """Use only so many training images, the first ones."""

    test_rows: int | None = None
    """Use only so many test images, the first ones."""

    checkpoint_every: int = 10
    """Epochs between checkpoints."""

    bfloat16: bool = True
    """Autocast forward passes to bfloat16."""

    channels_last: bool = True
    """Keep the channels of images and weights last in memory."""

    compile: bool = False
    """Compile the networks."""

    n_threads: int = 1
    """Threads of each fit on a CPU, whose last digits depend on them; fits side by side share no barriers."""

    seeds_each: int = 3
    """Seeds, unless --seeds is given."""

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        check_range("--lr", self.lr, 1e-6)
        for name, low in (
            *(("width", 1), ("epochs", 1), ("batch_size", 2), ("padding", 0), ("checkpoint_every", 1)),
            *(("n_threads", 1), ("seeds_each", 1)),
        ):
            check_range(f"--{name.replace('_', '-')}", getattr(self, name), low)
        for name in ("train_rows", "test_rows"):
            if getattr(self, name) is not None:
                check_range(f"--{name.replace('_', '-')}", getattr(self, name), 2)

    def count_repeats(self) -> int:
        """Return how many seeds there are."""
        return self.n_seeds or self.seeds_each

    def list_milestones(self, network: str) -> list[int]:
        """Return the epochs after which the learning rate falls."""
        return [int(share * self.epochs) for share in DROPS[network]]

    def make_network_options(self, network: str, images: ImageSet) -> dict[str, Any]:
        """Return what the network's class is called with."""
        own = {"width": self.width} if network == "preact_resnet18" else {}
        return {"out_features": images.n_classes, "in_channels": images.shape[0]} | own
