"""The options of ``cifar`` and its presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from benchmarks.data.cifar_images import DIGITS, IMAGE_SET_TITLES
from benchmarks.data.tables import needs_files
from benchmarks.harness.command import check_folder
from benchmarks.harness.rules import NOT_EMPTY, Alpha, Count, Known, NotNegative, Several, check_range
from benchmarks.image_training.config import ImageConfig
from benchmarks.networks.cifar_networks import NETWORKS

__all__ = ["PRESETS", "Config"]


@dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Options of the comparison of ERM and mixup on CIFAR."""

    datasets: Annotated[tuple[str, ...], Known(IMAGE_SET_TITLES), NOT_EMPTY] = ("cifar10",)
    """Images to learn: cifar10, cifar100, or scikit-learn's digits (digit_images)."""

    networks: Annotated[tuple[str, ...], Known(NETWORKS), NOT_EMPTY] = ("preact_resnet18",)
    """Networks to train: preact_resnet18, wide_resnet28_10, densenet_bc190."""

    alpha: Alpha = 1.0
    """Mixup's alpha; one weight is drawn for each batch, as in the paper."""

    erm_weight_decays: Annotated[tuple[NotNegative, ...], NOT_EMPTY] = (1e-4,)
    """Weight decays of ERM, the paper's first."""

    mixup_weight_decays: Annotated[tuple[NotNegative, ...], NOT_EMPTY] = (1e-4,)
    """Weight decays of mixup, the paper's first."""

    seeds_each: Several = 3
    """Seeds, unless --seeds is given."""

    last_epochs: int = 10
    """The test error of a run is the median over so many last epochs; the paper has ten."""

    models: Path | None = None
    """Folder in which to keep the trained networks, for the command adversarial; None keeps none."""

    speed_batches: Count = 4
    """Batches in an epoch of the fits that are timed."""

    speed_epochs: Count = 4
    """Epochs of the fits that are timed."""

    speed_rounds: Several = 9
    """Rounds of each comparison of times."""

    def reads_files(self) -> bool:
        """Return whether a set of images comes from files."""
        return needs_files(self.datasets)

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        if self.models is not None:
            check_folder("--models", self.models)
        check_range("--last-epochs", self.last_epochs, 1, self.epochs)

    def get_alpha(self, method: str) -> float:
        """Return mixup's alpha, and 0 for ERM."""
        return self.alpha if method == "mixup" else 0.0


PRESETS = {
    # Chosen by the rule that the protocol states, whatever mixup does there.
    "cpu": Config(train_rows=2500, test_rows=4000, width=16, epochs=100, checkpoint_every=20, bfloat16=False),
    "paper": Config(
        device="cuda",
        n_jobs=1,
        datasets=("cifar10", "cifar100"),
        networks=tuple(NETWORKS),
        width=64,
        erm_weight_decays=(1e-4, 5e-4),
        epochs=200,
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
