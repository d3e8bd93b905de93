"""Claim: on images too, mixup memorises corrupted labels less than ERM, and less than dropout.

In the paper: section 3.4 and Table 2, on CIFAR-10 with PreAct ResNet-18.

    python -m benchmarks corrupted --data-dir DIR       half of the labels, a narrow network, few images
    python -m benchmarks corrupted --preset gpu --data-dir DIR     20, 50 and 80 %, the paper's 200 epochs
    python -m benchmarks corrupted --preset paper --data-dir DIR   the same in float32

DIR holds CIFAR-10's official archive or what it unpacks to; ``--download`` fetches it through torchvision.
Of the training labels a share is replaced by draws from all classes; test labels are clean. Nothing is
chosen by a search: every value of every option has its own row. Training goes in pieces with a checkpoint
after each, so a run that was killed goes on with the same command.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from benchmarks.corrupted.summary import compare_errors, compare_memorised, draw_errors, summarise, tabulate
from benchmarks.corrupted_tables.methods import corrupt_labels, make_methods
from benchmarks.data.cifar_images import (
    DIGITS,
    IMAGE_SET_TITLES,
    ImageSet,
    NormalizedImages,
    normalize_images,
)
from benchmarks.harness.checkpoints import open_checkpoints
from benchmarks.harness.claims import Claim
from benchmarks.harness.command import Command
from benchmarks.harness.experiment import conclude, make_stem
from benchmarks.harness.fitting import derive_seed
from benchmarks.harness.interleaved_timing import use_threads
from benchmarks.harness.rules import NOT_EMPTY, Alpha, Count, Known, NotNegative, Within
from benchmarks.harness.runner import run_tasks
from benchmarks.image_training.augment_and_schedule import HeldOutScores, StepDecay, predict_logits
from benchmarks.image_training.config import ImageConfig
from benchmarks.image_training.fits import (
    describe_curves,
    describe_training,
    make_image_net,
    train_images,
)
from sk_mixup import MixupClassifier
from sk_mixup.inspection import memorization_errors

__all__ = ["COMMAND", "PRESETS", "Config", "Run", "run"]

NETWORK = "preact_resnet18"


@dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Options of the comparison on images with corrupted labels."""

    dataset: Annotated[str, Known(IMAGE_SET_TITLES)] = "cifar10"
    """Images to learn: cifar10, cifar100, or scikit-learn's digits (digit_images)."""

    noise: Annotated[tuple[float, ...], Within(0.01, 1.0), NOT_EMPTY] = (0.2, 0.5, 0.8)
    """Shares of the training labels that are replaced; the paper's."""

    dropouts: Annotated[tuple[float, ...], Within(0.0, 0.99)] = (0.5, 0.7, 0.8, 0.9)
    """Probabilities of dropout between the two convolutions of each block; the paper's."""

    dropout_width: Count | None = None
    """Width of the networks with dropout, which need more of it; None for that of all others."""

    alphas: tuple[Alpha, ...] = (1.0, 2.0, 8.0, 32.0)
    """Values of mixup's alpha; the paper's. One weight is drawn for each batch."""

    weight_decay: NotNegative = 1e-4
    """Of every run; the paper's."""

    def reads_files(self) -> bool:
        """Return whether the images come from files."""
        return self.dataset != DIGITS

    def make_methods(self) -> dict[str, dict[str, Any]]:
        """Return the classifier's options of each method, by its name."""
        return make_methods(dropouts=self.dropouts, smoothings=(), alphas=self.alphas)

    def resize(self, method: str) -> dict[str, Any]:
        """Return what the network of a method is called with beside the options of all."""
        dropout = self.make_methods()[method].get("module__dropout")
        if dropout is None:
            return {}
        return {"dropout": dropout, "width": self.dropout_width or self.width}


PRESETS = {
    # The size of the `cpu` preset of cifar, where ERM memorises.
    "cpu": Config(
        noise=(0.5,),
        dropouts=(0.3, 0.5),
        dropout_width=32,
        alphas=(1.0, 8.0, 32.0),
        train_rows=2500,
        test_rows=2000,
        epochs=100,
        checkpoint_every=20,
        bfloat16=False,
    ),
    "paper": Config(
        device="cuda", n_jobs=1, width=64, epochs=200, bfloat16=False, channels_last=False, seeds_each=1
    ),
    "gpu": Config(device="cuda", n_jobs=1, width=64, epochs=200, compile=True, seeds_each=1),
    "smoke": Config(
        n_seeds=2,
        n_jobs=1,
        dataset=DIGITS,
        noise=(0.5,),
        dropouts=(0.5,),
        alphas=(8.0,),
        width=4,
        epochs=3,
        batch_size=64,
        padding=1,
        train_rows=300,
        test_rows=100,
        checkpoint_every=2,
    ),
}


@dataclass(frozen=True)
class Run:
    """One training."""

    dataset: str  # Key of ``IMAGE_SET_TITLES``
    noise: float  # Share of the labels that are replaced
    method: str  # As ``make_methods`` names it
    repeat: int  # From 0; runs of one repeat share their seed

    @property
    def key(self) -> str:
        """The run's name in the journal."""
        return f"{self.dataset}/{self.noise:g}/{self.method.replace(' ', '_')}/{self.repeat}"

    @property
    def seed(self) -> int:
        """Seed of the corruption, of initial weights, and of all that training draws."""
        return derive_seed(self.dataset, self.repeat)


def run(config: Config) -> int:
    """Train, print tables, a plot's path and a sentence, and write the results."""
    images = config.load_images(config.dataset)
    data = [images.describe()]
    stem = make_stem("corrupted", config, embedded=config.dataset == DIGITS)
    journal = open_checkpoints(stem, config, data=data[0]["sha256"])
    tasks = {item.key: (config, images, item, journal.folder) for item in list_runs(config)}
    records = run_tasks(train_once, tasks, journal, n_jobs=config.n_jobs, label="corrupted", until=config.end)
    return conclude(
        COMMAND,
        config,
        stem,
        journal,
        records,
        data=data,
        protocol=describe_protocol(config),
        summarise=summarise,
    )


def list_runs(config: Config) -> list[Run]:
    """Return all trainings; those of one repeat next to each other."""
    return [
        Run(config.dataset, noise, method, repeat)
        for noise in config.noise
        for repeat in range(config.count_repeats())
        for method in config.make_methods()
    ]


def train_once(config: Config, images: ImageSet, item: Run, folder: Path) -> dict[str, Any]:
    """Train a network, from its checkpoint on if there is one, and return its errors.

    Errors in per cent: on the test images after each epoch, on the training images, as they are, after the
    last.
    """
    scaled = normalize_images(images)
    y = corrupt_labels(scaled.y_train, item.noise, item.seed)
    own = config.make_methods()[item.method]
    watch = HeldOutScores({"test": (scaled.X_test, scaled.y_test)})
    net = make_image_net(
        config,
        NETWORK,
        config.make_network_options(NETWORK, images) | config.resize(item.method),
        fill=scaled.black,
        seed=item.seed,
        alpha=own["alpha"],
        weight_decay=config.weight_decay,
        callbacks=[StepDecay(config.list_milestones(NETWORK)), watch],
    )
    train_images(config, net, scaled.X_train, y, network=NETWORK, folder=folder, key=item.key)
    with use_threads(config.n_threads):
        memorised = _measure_memorization(net, scaled, y)
    return {
        **{name: getattr(item, name) for name in ("dataset", "noise", "method", "repeat", "seed")},
        "epochs": config.epochs,
        **memorised,
        **describe_curves(net, len(y)),
    }


def _measure_memorization(net: MixupClassifier, scaled: NormalizedImages, y: np.ndarray) -> dict[str, Any]:
    """Return the errors on training images with true and with corrupted labels, in per cent."""
    codes = predict_logits(net, net.get_dataset(scaled.X_train, y)).argmax(1).numpy(force=True)
    true, corrupted = memorization_errors(codes, y, scaled.y_train)
    return {
        "n_corrupted": int((y != scaled.y_train).sum()),
        "train_error_true": round(100 * true, 4),
        "train_error_corrupted": round(100 * corrupted, 4),
    }


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    noise = ", ".join(f"{100 * share:g}" for share in config.noise)
    dropouts, alphas = (
        ", ".join(f"{value:g}" for value in values) for values in (config.dropouts, config.alphas)
    )
    width = "" if config.dropout_width is None else f", in networks of width {config.dropout_width}"
    n_repeats = config.count_repeats()
    spread = (
        "One seed each, so no interval: differences of a point or two mean nothing."
        if n_repeats == 1
        else "Means over seeds with Student's 95 % intervals, differences paired by seed."
    )
    return (
        f"Of the training labels, {noise} % are replaced by draws from all classes, each class as likely, "
        "so that some draws hit the true label; *corrupted* are the labels that differ from the true one, "
        f"*true* all others. Test labels are clean. {describe_training(config, [NETWORK])} Weight decay "
        f"{config.weight_decay:g}. Dropout between the two convolutions of each block with probability "
        f"{dropouts}{width}; mixup with alpha {alphas}, one λ and one permutation for each batch, after crop "
        "and flip. No option is chosen: each value has its row, and which is best is known from the clean "
        "test images only, which nobody with corrupted labels has. All methods have the same labels, those "
        "of one width also the same initial weights and orders of the rows. *Last* is the test error after "
        "the last epoch; *best* the lowest of all epochs, as in Table 2: its epoch is chosen on the test "
        "images, so it is a bound and not what early stopping reaches. Training errors after the last "
        "epoch, on images that are neither cut, flipped nor mixed, are against the label that was trained "
        "on: a low one on corrupted labels means "
        f"that they were memorised. {spread}"
    )


COMMAND = Command(
    name="corrupted",
    order=5,
    paper="section 3.4, Table 2",
    claim="CIFAR-10 with corrupted labels: ERM, dropout and mixup, what each memorises",
    presets=PRESETS,
    times={"cpu": "seven to eight hours of CPU time", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    draw=draw_errors,
    claims=(
        Claim(
            "With wrong labels the error at the last epoch stays lower with mixup",
            "section 3.4, Table 2",
            "16.6 → 6.4, 44.6 → 12.7, 73.9 → 30.9 % with 20, 50, 80 % replaced",
            compare_errors,
        ),
        Claim(
            "Mixup memorises fewer of the wrong labels",
            "section 3.4, Table 2",
            "training error on them 0.3 → 86.3, 0.6 → 85.7, 0.8 → 85.4 %",
            compare_memorised,
            expected=(1,),
        ),
    ),
    note=(
        "Table 2 is of PreAct ResNet-18 on all of CIFAR-10 for 200 epochs; its rows stand beside ours of the "
        "same method and option. The cpu preset has a quarter of its width and a twentieth of its images: "
        "its errors are to be compared with each other and not with the paper's. Dropout of 0.7 and more "
        "left a network of width 16 too little to learn with: it is given twice the width, and smaller "
        "probabilities."
    ),
)
