"""Claim: mixup lowers the test error of convolutional networks on CIFAR.

In the paper: section 3.2, Figure 3(a) and 3(b): 200 epochs with alpha = 1.

    python -m benchmarks cifar --data-dir DIR     a narrow PreAct ResNet-18, 2,500 images of CIFAR-10
    python -m benchmarks cifar --preset gpu --data-dir DIR       PreAct ResNet-18, the paper's 200 epochs
    python -m benchmarks cifar --preset paper --data-dir DIR     three networks, CIFAR-10 and CIFAR-100

DIR holds the official archives or what they unpack to; ``--download`` fetches them through
torchvision. ERM and mixup have the same seeds: initial weights and orders of the rows. ERM is also run
with the weight decay that suits it (5e-4), as the authors' repository does. Training goes in pieces with
a checkpoint after each, so a run that was killed goes on with the same command; ``--models`` keeps the
trained networks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cifar.config import PRESETS, Config
from benchmarks.cifar.summary import compare_errors, compare_times, draw_errors, summarise, tabulate
from benchmarks.data.cifar_images import DIGITS, ImageSet, NormalizedImages, normalize_images
from benchmarks.harness.checkpoints import open_checkpoints
from benchmarks.harness.claims import Claim
from benchmarks.harness.command import Command
from benchmarks.harness.experiment import conclude, list_records, make_stem
from benchmarks.harness.fitting import derive_seed
from benchmarks.harness.interleaved_timing import use_threads
from benchmarks.harness.runner import run_tasks
from benchmarks.image_training.augment_and_schedule import (
    MOMENTUM,
    HeldOutScores,
    StepDecay,
    read_scores,
    repeatable_convolutions,
)
from benchmarks.image_training.config import MEMORISED
from benchmarks.image_training.fits import (
    describe_curves,
    describe_training,
    explain_lack_of_memory,
    make_image_net,
    train_images,
)
from benchmarks.image_training.kept_networks import Origin, find_trained, save_trained
from benchmarks.networks.cifar_networks import NETWORKS
from benchmarks.peers.hand_written_loop import make_loop, make_random_inputs, time_trainings
from sk_mixup import MixupClassifier
from sk_mixup.augmentation import crop_and_flip

__all__ = ["COMMAND", "Run", "make_net", "run"]


@dataclass(frozen=True)
class Run:
    """One training."""

    dataset: str  # Key of ``IMAGE_SET_TITLES``
    network: str  # Key of ``NETWORKS``
    method: str  # 'ERM' or 'mixup'
    weight_decay: float
    repeat: int  # From 0; runs of one data set and one repeat share their seed

    @property
    def key(self) -> str:
        """The run's name in the journal."""
        return f"{self.dataset}/{self.network}/{self.method}/{self.weight_decay:g}/{self.repeat}"

    @property
    def seed(self) -> int:
        """Seed of initial weights, orders, partners, weights, crops and flips."""
        return derive_seed(self.dataset, self.repeat)


def run(config: Config) -> int:
    """Train, print tables, a plot's path and a sentence, and write the results."""
    images = {name: config.load_images(name) for name in config.datasets}
    data = [images[name].describe() for name in config.datasets]
    stem = make_stem("cifar", config, embedded=set(config.datasets) == {DIGITS})
    digests = {entry["dataset"]: entry["sha256"] for entry in data}
    journal = open_checkpoints(stem, config, models=config.models, data=digests)
    tasks = make_tasks(config, images, journal.folder)
    trained = run_tasks(train_once, tasks, journal, n_jobs=config.n_jobs, label="cifar", until=config.end)
    # Times alone: no other fit runs beside them.
    speed_tasks = {
        f"speed/{network}": (config, images[config.datasets[0]], network) for network in config.networks
    }
    timed = run_tasks(time_network, speed_tasks, journal, n_jobs=1, label="cifar, times", until=config.end)
    records = list_records([*trained, *timed])
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
    """Return all trainings; those of one repeat next to each other, so that each repeat ends whole."""
    methods = [
        *(("ERM", weight_decay) for weight_decay in config.erm_weight_decays),
        *(("mixup", weight_decay) for weight_decay in config.mixup_weight_decays),
    ]
    return [
        Run(dataset, network, method, weight_decay, repeat)
        for dataset in config.datasets
        for network in config.networks
        for repeat in range(config.count_repeats())
        for method, weight_decay in methods
    ]


def make_tasks(config: Config, images: dict[str, ImageSet], folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`train_once` for each run, by its key."""
    return {item.key: (config, images[item.dataset], item, folder) for item in list_runs(config)}


def train_once(config: Config, images: ImageSet, item: Run, folder: Path) -> dict[str, Any]:
    """Train a network, from its checkpoint on if there is one, and return its errors epoch by epoch.

    Errors and curves in per cent of the test images, seconds of training without tests.
    """
    scaled = normalize_images(images)
    last = range(config.epochs - config.last_epochs + 1, config.epochs + 1)
    callbacks = [
        StepDecay(config.list_milestones(item.network)),
        HeldOutScores({"test": (scaled.X_test, scaled.y_test)}),
        HeldOutScores({"train": (scaled.X_train, scaled.y_train)}, epochs=last),
    ]
    net = make_net(config, images, item, fill=scaled.black, callbacks=callbacks)
    train_images(
        config, net, scaled.X_train, scaled.y_train, network=item.network, folder=folder, key=item.key
    )
    if config.models is not None:
        origin = _describe_origin(config, images, item, scaled)
        save_trained(find_trained(config.models, item.key), net.module_, origin)
    errors = _describe_errors(config, describe_curves(net, len(scaled.y_train)))
    memorised = 100 * float(np.median(read_scores(net, "train_error")))
    return {
        "part": "run",
        **_describe_run(config, item, net),
        "train_error": round(memorised, 4),
        **errors,
    }


def _describe_origin(config: Config, images: ImageSet, item: Run, scaled: NormalizedImages) -> Origin:
    return Origin(
        network=item.network,
        options=config.make_network_options(item.network, images),
        dataset=item.dataset,
        train_rows=config.train_rows,
        test_rows=config.test_rows,
        sha256=images.describe()["sha256"],
        mean=scaled.mean,
        std=scaled.std,
        method=item.method,
        weight_decay=item.weight_decay,
        alpha=config.get_alpha(item.method),
        repeat=item.repeat,
        seed=item.seed,
        epochs=config.epochs,
    )


def _describe_run(config: Config, item: Run, net: MixupClassifier) -> dict[str, Any]:
    own = {name: getattr(item, name) for name in ("dataset", "network", "method", "weight_decay", "repeat")}
    n_parameters = sum(parameter.numel() for parameter in net.module_.parameters())
    return own | {"seed": item.seed, "epochs": config.epochs, "n_parameters": n_parameters}


def _describe_errors(config: Config, curves: dict[str, Any]) -> dict[str, Any]:
    """Return the error of a run beside what its curves say."""
    return {"error": round(float(np.median(curves["error_curve"][-config.last_epochs :])), 4)} | curves


def make_net(
    config: Config,
    images: ImageSet,
    item: Run,
    *,
    fill: tuple[float, ...],
    callbacks: list[Any] | None = None,
) -> MixupClassifier:
    """Return an untrained classifier."""
    return make_image_net(
        config,
        item.network,
        config.make_network_options(item.network, images),
        fill=fill,
        seed=item.seed,
        alpha=config.get_alpha(item.method),
        weight_decay=item.weight_decay,
        callbacks=callbacks,
    )


def time_network(config: Config, images: ImageSet, network: str) -> dict[str, Any]:
    """Time the estimator with and without mixup beside loops written by hand, in turns."""
    shared = {"part": "speed", "network": network, "case": f"{NETWORKS[network].title} on {config.device}"}
    weight_decay = config.mixup_weight_decays[0]
    runs = {method: Run(images.table.name, network, method, weight_decay, 0) for method in ("ERM", "mixup")}
    sizes = config.make_network_options(network, images)
    n_images = config.speed_batches * config.batch_size
    X, y = make_random_inputs(n_images, images.shape, images.n_classes)
    options: dict[str, Any] = {
        "lr": config.lr,
        "momentum": MOMENTUM,
        "weight_decay": weight_decay,
        "fused": True,
    }

    def make_contender(alpha: float) -> Callable[[], Any]:
        return make_loop(
            X,
            y,
            module=NETWORKS[network].module(**sizes),
            make_optimizer=partial(torch.optim.SGD, **options),
            alpha=alpha,
            batch_size=config.batch_size,
            n_epochs=config.speed_epochs,
            augment=crop_and_flip(config.padding),
            device=config.device,
            bfloat16=config.bfloat16,
            channels_last=config.channels_last,
            compile=config.compile,
        )

    with use_threads(config.n_threads), repeatable_convolutions(), explain_lack_of_memory(config, network):
        nets = {method: make_net(config, images, item, fill=(0.0,)) for method, item in runs.items()}
        rounds = {"n_rounds": config.speed_rounds, "n_epochs": config.speed_epochs}
        times = time_trainings(nets, make_contender, (X, y), **rounds)
        return {"records": [{**shared, **time} for time in times]}


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    return (
        f"{describe_training(config, config.networks)} Mixup: alpha = {config.alpha:g}, one λ and one "
        "permutation for each batch, after crop and flip. ERM and mixup have the same initial weights and "
        "orders of the rows. The error of a run is the "
        f"median of its test errors after each of the last {config.last_epochs} epochs (ten in the paper); "
        "best is the lowest of all epochs, chosen on the test images. The training error is that of the "
        "training images as they are, the median of the same last epochs; the cpu preset is the setting of "
        f"`regimes` with most images at which that of ERM is at most {MEMORISED:g} %, mean of three seeds, "
        "whatever mixup does there. Means over seeds with Student's 95 % "
        "intervals, differences in points, paired by seed. Times without tests. The authors' ERM with weight "
        "decay 5e-4 is from their repository; the spread of the published figures is not known. Ratios of "
        f"times: fits of {config.speed_epochs} epochs of {config.speed_batches} batches in turns, "
        f"{config.speed_rounds} rounds after a warm-up, median and quartiles of the rounds' ratios; the loop "
        "is written by hand, with the same net, precision, augmentation and fused SGD."
    )


COMMAND = Command(
    name="cifar",
    order=4,
    paper="section 3.2, Figure 3(a) and 3(b)",
    claim="test error on CIFAR-10 and CIFAR-100, ERM against mixup, epoch by epoch",
    presets=PRESETS,
    times={"cpu": "two to three hours of CPU time", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    draw=draw_errors,
    claims=(
        Claim(
            "Mixup lowers the test error on CIFAR-10 and CIFAR-100",
            "section 3.2, Figure 3(a)",
            "5.6 → 4.2 % (CIFAR-10, PreAct ResNet-18)",
            compare_errors,
        ),
        Claim(
            "Mixup adds next to no computation: an epoch of a ResNet takes at most 5 % longer",
            "section 2",
            '"minimal computation overhead"',
            compare_times,
        ),
    ),
    note=(
        "The cpu preset trains a network of a quarter of the paper's width on a few of its images, so its "
        "errors are to be compared with each other and not with the paper's. It is of a size at which ERM "
        "fits its training set, as the paper's networks do; `regimes` shows other sizes."
    ),
)
