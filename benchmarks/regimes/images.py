"""One training on images: the rows it is given, and what is recorded of it."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.cifar_images import ImageSet, normalize_images
from benchmarks.data.tables import Table
from benchmarks.image_training.augment_and_schedule import HeldOutScores, StepDecay, read_scores
from benchmarks.image_training.fits import make_image_net, train_images
from benchmarks.regimes.config import Config
from benchmarks.regimes.design import Run
from sk_mixup import MixupClassifier

__all__ = ["NETWORK", "take_images", "train_once"]

NETWORK = "preact_resnet18"


def take_images(images: ImageSet, n_images: int, seed: int) -> ImageSet:
    """Return a draw of the training images with all test images.

    With one seed, fewer images are the first of more.
    """
    drawn = np.random.default_rng(seed).permutation(images.n_train)[:n_images]
    table = images.table
    rows = np.concatenate([drawn, np.arange(images.n_train, len(table.y))])
    return ImageSet(
        Table(table.name, table.X[rows], table.y[rows], table.source), len(drawn), images.n_classes
    )


def train_once(config: Config, images: ImageSet, item: Run, folder: Path) -> dict[str, Any]:
    """Train a network, from its checkpoint on if there is one, and return its scores, errors in per cent.

    The training error is the median over the last epochs, on images as they are; ``test_curve`` is of the
    first test images, ``loss_curve`` of what was trained on, after the same epochs.
    """
    training, epochs = config.at(item.setting), item.setting.epochs
    part = take_images(images, item.setting.n_images, item.seed)
    scaled = normalize_images(part)
    test, watched = (
        (scaled.X_test[:n], scaled.y_test[:n]) for n in (len(scaled.y_test), config.watched_rows)
    )
    last = range(epochs - config.last_epochs + 1, epochs + 1)
    callbacks = [
        StepDecay(training.list_milestones(NETWORK)),
        HeldOutScores({"watched": watched}, epochs=config.list_watched(epochs)),
        HeldOutScores({"train": (scaled.X_train, scaled.y_train)}, epochs=last),
        HeldOutScores({"test": test}, epochs=(epochs,)),
    ]
    net = make_image_net(
        training,
        NETWORK,
        training.make_network_options(NETWORK, part),
        fill=scaled.black,
        seed=item.seed,
        alpha=0.0,
        weight_decay=item.weight_decay,
        callbacks=callbacks,
    ).set_params(**config.get_mixing(item.method))
    train_images(training, net, scaled.X_train, scaled.y_train, network=NETWORK, folder=folder, key=item.key)
    return {
        "part": "images",
        **describe_run(item),
        **describe_scores(net, config.list_watched(epochs)),
    }


def describe_run(item: Run) -> dict[str, Any]:
    """Return what a record says of the training itself."""
    setting = {name: getattr(item.setting, name) for name in ("n_images", "width", "epochs")}
    return setting | {name: getattr(item, name) for name in ("method", "weight_decay", "repeat", "seed")}


def describe_scores(net: MixupClassifier, watched: tuple[int, ...]) -> dict[str, Any]:
    """Return what the history of a training says: errors in per cent, NLL in nats, seconds of training."""
    losses, seconds = (np.array(net.history[:, name]) for name in ("train_loss", "dur"))
    return {
        "train_error": round(100 * float(np.median(read_scores(net, "train_error"))), 4),
        "train_nll": round(float(np.median(read_scores(net, "train_nll"))), 5),
        "test_error": round(100 * read_scores(net, "test_error")[-1], 4),
        "test_nll": round(read_scores(net, "test_nll")[-1], 5),
        "train_loss": round(float(losses[-1]), 5),
        "seconds": round(float(seconds.sum()), 2),
        "test_curve": [round(100 * error, 2) for error in read_scores(net, "watched_error")],
        "loss_curve": [round(float(losses[epoch - 1]), 4) for epoch in watched],
    }
