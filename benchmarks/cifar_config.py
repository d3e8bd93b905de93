"""The options of ``cifar`` and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cifar_images import DIGITS, IMAGE_SET_TITLES, ImageSet
from benchmarks.command import BaseConfig, UserError, check_range
from benchmarks.networks import NETWORKS
from benchmarks.tables import check_names

__all__ = ["PRESETS", "Config"]

# Shares of the epochs after which the learning rate falls: 100 and 150 of 200; 60, 120 and 180.
DROPS = {"preact_resnet18": (0.5, 0.75), "wide_resnet28_10": (0.3, 0.6, 0.9), "densenet_bc190": (0.5, 0.75)}


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the comparison of ERM and mixup on CIFAR."""

    datasets: tuple[str, ...] = ("cifar10",)
    """Images to learn: cifar10, cifar100, or scikit-learn's digits (digit_images)."""

    networks: tuple[str, ...] = ("preact_resnet18",)
    """Networks to train: preact_resnet18, wide_resnet28_10, densenet_bc190."""

    width: int = 16
    """Channels of the first stage of PreAct ResNet-18; the paper's network has 64."""

    alpha: float = 1.0
    """Mixup's alpha; one weight is drawn for each batch, as in the paper."""

    erm_weight_decays: tuple[float, ...] = (1e-4,)
    """Weight decays of ERM, the paper's first."""

    mixup_weight_decays: tuple[float, ...] = (1e-4,)
    """Weight decays of mixup, the paper's first."""

    epochs: int = 50
    """Epochs of each run."""

    lr: float = 0.1
    """Learning rate at first, of SGD with momentum 0.9; it falls tenfold two or three times."""

    batch_size: int = 128
    """Images in a batch."""

    padding: int = 4
    """Pixels by which a random crop moves at most."""

    last_epochs: int = 10
    """The test error of a run is the median over so many last epochs; the paper has ten."""

    train_rows: int | None = 10_000
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

    models: Path | None = None
    """Folder in which to keep the trained networks, for the command adversarial; None keeps none."""

    n_threads: int = 1
    """Threads of each fit on a CPU, whose last digits depend on them; fits side by side share no barriers."""

    seeds_each: int = 3
    """Seeds, unless --seeds is given."""

    speed_batches: int = 4
    """Batches in an epoch of the fits that are timed."""

    speed_epochs: int = 4
    """Epochs of the fits that are timed."""

    speed_rounds: int = 9
    """Rounds of each comparison of times."""

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        check_names(self.datasets, tuple(IMAGE_SET_TITLES))
        check_names(self.networks, tuple(NETWORKS), "--networks")
        for name in ("datasets", "networks", "erm_weight_decays", "mixup_weight_decays"):
            if not getattr(self, name):
                raise UserError(f"--{name.replace('_', '-')} must name at least one; got none.")
        for name in ("alpha", "lr"):
            check_range(f"--{name}", getattr(self, name), 1e-6)
        for weight_decay in (*self.erm_weight_decays, *self.mixup_weight_decays):
            check_range("--erm-weight-decays and --mixup-weight-decays", weight_decay, 0)
        for name, low in (
            *(("width", 1), ("epochs", 1), ("batch_size", 2), ("padding", 0), ("checkpoint_every", 1)),
            *(("n_threads", 1), ("seeds_each", 2)),
            *(("speed_batches", 1), ("speed_epochs", 1), ("speed_rounds", 2)),
        ):
            check_range(f"--{name.replace('_', '-')}", getattr(self, name), low)
        check_range("--last-epochs", self.last_epochs, 1, self.epochs)
        for name in ("train_rows", "test_rows"):
            if getattr(self, name) is not None:
                check_range(f"--{name.replace('_', '-')}", getattr(self, name), 2)

    def get_alpha(self, method: str) -> float:
        """Return mixup's alpha, and 0 for ERM."""
        return self.alpha if method == "mixup" else 0.0

    def list_milestones(self, network: str) -> list[int]:
        """Return the epochs after which the learning rate falls."""
        return [int(share * self.epochs) for share in DROPS[network]]

    def make_network_options(self, network: str, images: ImageSet) -> dict[str, Any]:
        """Return what the network's class is called with."""
        own = {"width": self.width} if network == "preact_resnet18" else {}
        return {"out_features": images.n_classes, "in_channels": images.shape[0]} | own


PRESETS = {
    "cpu": Config(),
    "paper": Config(
        device="cuda",
        n_jobs=1,
        datasets=("cifar10", "cifar100"),
        networks=tuple(NETWORKS),
        width=64,
        erm_weight_decays=(1e-4, 5e-4),
        epochs=200,
        train_rows=None,
        bfloat16=False,
        channels_last=False,
        speed_batches=20,
        speed_epochs=5,
        speed_rounds=5,
    ),
    "gpu": Config(
        device="cuda",
        n_jobs=1,
        width=64,
        erm_weight_decays=(1e-4, 5e-4),
        epochs=200,
        train_rows=None,
        compile=True,
        speed_batches=20,
        speed_epochs=20,
    ),
    "smoke": Config(
        n_seeds=2,
        n_jobs=1,
        datasets=(DIGITS,),
        width=4,
        erm_weight_decays=(1e-4, 5e-4),
        epochs=3,
        batch_size=64,
        padding=1,
        last_epochs=2,
        train_rows=300,
        test_rows=100,
        checkpoint_every=2,
        speed_batches=1,
        speed_epochs=1,
        speed_rounds=2,
    ),
}
