"""The options of ``imagenet`` and its presets."""

from dataclasses import dataclass
import os
from pathlib import Path
from typing import Annotated, Any

import joblib

from benchmarks.harness.command import BaseConfig, UserError, check_folder
from benchmarks.harness.rules import NOT_EMPTY, Alpha, Count, Known, NotNegative, Positive, Several, Within
from benchmarks.networks.imagenet_networks import NETWORKS

__all__ = ["PRESETS", "Config", "list_milestones"]

PAPER_NETWORKS = ("resnet50", "resnet101", "resnext101_32x4d", "resnext101_64x4d")
# Section 3.1: of 90 epochs after 30, 60 and 80; of 200 after 60, 120 and 180.
SHORT, LONG = (30 / 90, 60 / 90, 80 / 90), (60 / 200, 120 / 200, 180 / 200)
LONG_EPOCHS = 200


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the comparison of ERM and mixup on ImageNet."""

    n_jobs: int = 1
    """Processes that load images for each training process; 1 loads them in the training process
    itself, -1 uses every core. Errors do not depend on it."""

    networks: Annotated[tuple[str, ...], Known(NETWORKS), NOT_EMPTY] = ("resnet18",)
    """Networks: resnet50, resnet101, resnext101_32x4d, resnext101_64x4d, and resnet18 for trials."""

    epochs: tuple[Count, ...] = (4,)
    """Lengths of training, each a run of its own; none takes those of Table 1 for each network."""

    alpha: Alpha | None = None
    """Mixup's alpha; None takes that of Table 1: 0.2 for ResNets, 0.4 for ResNeXts."""

    batch_size: Several = 16
    """Images in a batch, all data-parallel processes together; the paper has 1,024."""

    lr_start: Positive = 0.01
    """Learning rate of the first step; the paper has 0.1."""

    lr: Positive = 0.04
    """Learning rate after the warm-up; it falls tenfold three times. The paper has 0.4."""

    lr_warmup: Annotated[int, Within(0)] = 1
    """Epochs in which the learning rate grows, step by step; the paper has 5."""

    weight_decay: NotNegative = 1e-4
    """Of all weights but those of batch normalisations."""

    image_size: Annotated[int, Within(32)] = 64
    """Pixels of a side, in training and testing; the paper has 224."""

    checkpoint_every: Count = 1
    """Epochs between checkpoints."""

    bfloat16: bool = False
    """Autocast forward passes to bfloat16."""

    channels_last: bool = False
    """Keep the channels of images and weights last in memory."""

    compile: bool = False
    """Compile the networks."""

    models: Path | None = None
    """Folder in which to keep the trained networks, for the command adversarial; None keeps none."""

    n_threads: Count = 1
    """Threads of a training on a CPU, whose last digits depend on them."""

    seeds_each: Count = 1
    """Seeds, unless --seeds is given; Table 1 has one run for each row."""

    loader_size: Annotated[int, Within(32)] = 224
    """Pixels of a side where loading is timed."""

    loader_images: Several = 2048
    """Images, repeated where there are fewer, of each pass of loading that is timed."""

    speed_batches: Count = 12
    """Batches in an epoch of the trainings that are timed."""

    speed_rounds: Several = 7
    """Rounds of each comparison of times."""

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        if self.models is not None:
            check_folder("--models", self.models)
        if self.download:
            raise UserError(
                "--download must be left out for imagenet; got it. Its terms allow no copies: ask for "
                "ILSVRC2012 at https://image-net.org, unpack it to DIR/train/CLASS and DIR/val/CLASS, and "
                "give --data-dir DIR."
            )

    def get_alpha(self, network: str) -> float:
        """Return mixup's alpha for a network."""
        return NETWORKS[network].alpha if self.alpha is None else self.alpha

    def list_epochs(self, network: str) -> tuple[int, ...]:
        """Return the lengths of training of a network."""
        return self.epochs or NETWORKS[network].epochs

    def count_workers(self) -> int:
        """Return how many processes load images for each training process; 0 for itself."""
        n_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        n_jobs = max(1, joblib.cpu_count() // n_local) if self.n_jobs == -1 else self.n_jobs
        return 0 if n_jobs == 1 else n_jobs


def list_milestones(epochs: int) -> list[int]:
    """Return the epochs after which the learning rate falls, as section 3.1 has them.

    Examples
    --------
    >>> from benchmarks.imagenet.config import list_milestones
    >>> list_milestones(90), list_milestones(200)
    ([30, 60, 80], [60, 120, 180])
    """
    shares = LONG if epochs >= LONG_EPOCHS else SHORT
    return [round(share * epochs) for share in shares]


PAPER: dict[str, Any] = {
    **{"device": "cuda", "n_jobs": -1, "image_size": 224, "batch_size": 1024},
    **{"lr_start": 0.1, "lr": 0.4, "lr_warmup": 5, "loader_images": 20_480, "speed_batches": 20},
}
PRESETS = {
    "cpu": Config(n_seeds=2, n_jobs=-1),
    "paper": Config(**PAPER, networks=PAPER_NETWORKS, epochs=()),
    "gpu": Config(
        **PAPER, networks=("resnet50",), epochs=(90,), bfloat16=True, channels_last=True, compile=True
    ),
    "smoke": Config(
        epochs=(2,),
        checkpoint_every=2,
        batch_size=4,
        image_size=32,
        loader_size=32,
        loader_images=8,
        speed_batches=2,
        speed_rounds=2,
    ),
}
