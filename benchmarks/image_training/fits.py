"""How a network is trained on images, whatever the experiment: in pieces, with a checkpoint after each."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.checkpoints import find_checkpoint, train_in_pieces
from benchmarks.harness.command import UserError
from benchmarks.harness.interleaved_timing import use_threads
from benchmarks.image_training.augment_and_schedule import MOMENTUM, repeatable_convolutions
from benchmarks.image_training.config import ImageConfig, TrainingConfig
from benchmarks.networks.cifar_networks import NETWORKS
from sk_mixup import MixupClassifier
from sk_mixup.augmentation import crop_and_flip

__all__ = [
    "describe_curves",
    "describe_inputs",
    "describe_training",
    "explain_lack_of_memory",
    "make_image_net",
    "train_images",
]

TEST_BATCH = 500


def make_image_net(
    config: TrainingConfig,
    network: str,
    sizes: Mapping[str, Any],
    *,
    fill: tuple[float, ...],
    seed: int,
    alpha: float,
    weight_decay: float,
    callbacks: list[Any] | None = None,
) -> MixupClassifier:
    """Return an untrained classifier."""
    options: dict[str, Any] = {f"module__{name}": value for name, value in sizes.items()}
    if config.compile:
        options |= {"compile": True, "compile__dynamic": False}
    return MixupClassifier(
        NETWORKS[network].module,
        alpha=alpha,
        lam_per="batch",
        optimizer=torch.optim.SGD,
        optimizer__momentum=MOMENTUM,
        optimizer__weight_decay=weight_decay,
        lr=config.lr,
        batch_size=config.batch_size,
        iterator_valid__batch_size=TEST_BATCH,
        early_stopping=False,
        augment=crop_and_flip(config.padding, fill=fill),
        autocast="bfloat16" if config.bfloat16 else None,
        channels_last=config.channels_last,
        storage="device",
        device=config.device,
        classes=list(range(sizes["out_features"])),
        callbacks=callbacks,
        random_state=seed,
        **options,
    )


def train_images(
    config: ImageConfig,
    net: MixupClassifier,
    X: np.ndarray,
    y: np.ndarray,
    *,
    network: str,
    folder: Path,
    key: str,
) -> None:
    """Train a classifier for all epochs, from its checkpoint on if there is one."""
    with (
        use_threads(config.n_threads),
        repeatable_convolutions(),
        explain_lack_of_memory(config, network),
    ):
        train_in_pieces(
            net,
            X,
            y,
            n_epochs=config.epochs,
            every=config.checkpoint_every,
            path=find_checkpoint(folder, key),
            identity=f"{folder.name}/{key}",
        )


@contextmanager
def explain_lack_of_memory(config: TrainingConfig, network: str) -> Iterator[None]:
    """Say what to do where the device's memory does not hold a network or its data."""
    try:
        yield
    except (torch.OutOfMemoryError, ValueError) as error:
        if isinstance(error, ValueError) and "free memory" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--device must have memory for {NETWORKS[network].title} and the images; got {config.device!r} "
            f"with too little ({reason}). Lower --batch-size (now {config.batch_size}), or use a larger GPU."
        ) from None


def describe_curves(net: MixupClassifier, n_images: int) -> dict[str, Any]:
    """Return what the history of a training with ``HeldOutScores`` says, with errors in per cent.

    Of the last and of the best epoch, times without tests, and curves over the epochs.
    """
    errors = 100 * np.array(net.history[:, "test_error"])
    losses, seconds = (np.array(net.history[:, name]) for name in ("train_loss", "dur"))
    return {
        "last_error": round(float(errors[-1]), 4),
        "best_error": round(float(errors.min()), 4),
        "best_epoch": int(errors.argmin()) + 1,
        "train_loss": round(float(losses[-1]), 5),
        "seconds": round(float(seconds.sum()), 2),
        "images_per_second": round(n_images / float(np.median(seconds)), 1),
        "error_curve": np.round(errors, 3).tolist(),
        "loss_curve": np.round(losses, 4).tolist(),
    }


def describe_training(config: ImageConfig, networks: Sequence[str]) -> str:
    """Return how all networks are trained, in words, to stand before the numbers."""
    drops = "; ".join(
        f"{' and '.join(map(str, config.list_milestones(network)))} ({NETWORKS[network].title})"
        for network in networks
    )
    narrow = f" PreAct ResNet-18 of width {config.width}." if "preact_resnet18" in networks else ""
    part = "" if config.train_rows is None else f" The first {config.train_rows} training images only."
    part += "" if config.test_rows is None else f" The first {config.test_rows} test images only."
    return (
        f"{config.epochs} epochs (200 in the paper) of SGD with momentum {MOMENTUM:g}, batches of "
        f"{config.batch_size}, learning rate {config.lr:g}, divided by ten after epochs {drops}."
        f"{narrow}{part} {describe_inputs(config)}"
    )


def describe_inputs(config: TrainingConfig) -> str:
    """Return what is done to images on their way through a network, and in which precision."""
    precision = "bfloat16 autocast" if config.bfloat16 else "float32"
    layout = ", channels last" if config.channels_last else ""
    return (
        "Inputs normalised by mean and deviation of each channel of the training images; "
        f"random crop with padding {config.padding} (black, padded before normalising, torchvision's usual "
        "order) and flip. "
        f"{precision}{layout}{', compiled' * config.compile}; trained in pieces of {config.checkpoint_every} "
        "epochs."
    )
