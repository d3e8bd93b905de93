"""What all trainings on images share: sizes, schedule, precision, checkpoints."""

from dataclasses import dataclass
from typing import Annotated, Any

from benchmarks.data.cifar_images import ImageSet, load_image_set
from benchmarks.harness.command import BaseConfig
from benchmarks.harness.rules import Count, Positive, Several, Within

__all__ = ["DROPS", "MEMORISED", "ImageConfig", "TrainingConfig"]

# A training set is memorised where ERM's training error at the end is at most so many per cent.
MEMORISED = 1.0

# Shares of the epochs after which the learning rate falls: 100 and 150 of 200; 60, 120 and 180.
DROPS = {"preact_resnet18": (0.5, 0.75), "wide_resnet28_10": (0.3, 0.6, 0.9), "densenet_bc190": (0.5, 0.75)}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(BaseConfig):
    """How every network is trained on images, whatever its size, their number and the epochs."""

    lr: Positive = 0.1
    """Learning rate at first, of SGD with momentum 0.9; it falls tenfold two or three times."""

    batch_size: Several = 128
    """Images in a batch."""

    padding: Annotated[int, Within(0)] = 4
    """Pixels by which a random crop moves at most."""

    test_rows: Several | None = None
    """Use only so many test images, the first ones."""

    checkpoint_every: Count = 10
    """Epochs between checkpoints."""

    bfloat16: bool = True
    """Autocast forward passes to bfloat16."""

    channels_last: bool = True
    """Keep the channels of images and weights last in memory."""

    compile: bool = False
    """Compile the networks."""

    n_threads: Count = 1
    """Threads of each fit on a CPU, whose last digits depend on them; fits side by side share no barriers."""

    seeds_each: Count = 3
    """Seeds, unless --seeds is given."""

    def count_repeats(self) -> int:
        """Return how many seeds there are."""
        return self.n_seeds or self.seeds_each


@dataclass(frozen=True, kw_only=True)
class ImageConfig(TrainingConfig):
    """Options of a training on images whose networks and epochs are all alike."""

    width: Count = 16
    """Channels of the first stage of PreAct ResNet-18; the paper's network has 64."""

    epochs: Count = 50
    """Epochs of each run."""

    train_rows: Several | None = None
    """Use only so many training images, the first ones."""

    def list_milestones(self, network: str) -> list[int]:
        """Return the epochs after which the learning rate falls."""
        return [int(share * self.epochs) for share in DROPS[network]]

    def load_images(self, name: str) -> ImageSet:
        """Return a set of images, or the first ones of its two parts."""
        rows = {"train_rows": self.train_rows, "test_rows": self.test_rows}
        return load_image_set(name, self.data_dir, download=self.download, **rows)

    def make_network_options(self, network: str, images: ImageSet) -> dict[str, Any]:
        """Return what the network's class is called with."""
        own = {"width": self.width} if network == "preact_resnet18" else {}
        return {"out_features": images.n_classes, "in_channels": images.shape[0]} | own
