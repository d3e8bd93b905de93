"""Claim: mixup lowers the validation error of residual networks on ImageNet.

In the paper: section 3.1, Table 1: 90 and 200 epochs, alpha = 0.2 for ResNets and 0.4 for ResNeXts.

    python -m benchmarks imagenet --data-dir DIR                    loading, and the machinery in small
    python -m benchmarks imagenet --preset gpu --data-dir DIR       ResNet-50, 90 epochs, on one GPU
    accelerate launch --multi_gpu -m benchmarks imagenet --preset paper --data-dir DIR    all of Table 1

DIR holds train/CLASS/*.JPEG and val/CLASS/*.JPEG. Batches are of 1,024 images over all processes that
``accelerate launch`` or ``torchrun`` starts; each has its share of the images and mixes its own
mini-batch. ERM and mixup have the same seeds: initial weights, orders, crops and flips. A checkpoint is
kept after each epoch, so a run that was killed goes on with the same command.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
import tempfile
from typing import Any

import torch

from benchmarks.data.imagenet_files import (
    MEAN,
    STD,
    FolderImages,
    ImageFolders,
    find_folder,
    load_folders,
    make_test_transform,
    make_training_transform,
    write_made_up_images,
)
from benchmarks.harness.checkpoints import find_checkpoint, open_checkpoints
from benchmarks.harness.claims import Claim
from benchmarks.harness.command import Command, UserError
from benchmarks.harness.experiment import conclude, list_records, make_stem
from benchmarks.harness.fitting import count_batches, derive_seed
from benchmarks.harness.interleaved_timing import use_threads
from benchmarks.harness.journal import Journal
from benchmarks.harness.several_processes import ParallelClassifier, Team, find_team, run_in_step
from benchmarks.image_training.augment_and_schedule import MOMENTUM, repeatable_convolutions
from benchmarks.image_training.kept_networks import IMAGENET, Origin, find_trained, save_trained
from benchmarks.imagenet.config import PRESETS, Config, list_milestones
from benchmarks.imagenet.protocol import describe_protocol
from benchmarks.imagenet.speed import (
    count_processes,
    list_worker_counts,
    make_loop,
    repeat_rows,
    time_loading,
)
from benchmarks.imagenet.summary import compare_errors, draw, summarise, tabulate
from benchmarks.imagenet.training import (
    HeldOutErrors,
    NumberEpochs,
    WarmupAndDecay,
    read_curves,
    train_together,
)
from benchmarks.networks.imagenet_networks import BATCH_NORMS, NETWORKS, PixelResNet, build_network
from benchmarks.peers.hand_written_loop import time_trainings
from sk_mixup import MixupClassifier

__all__ = ["COMMAND", "Run", "make_net", "run"]


@dataclass(frozen=True)
class Run:
    """One training."""

    network: str  # Key of ``NETWORKS``
    epochs: int  # How long
    alpha: float  # Mixup's; 0 for ERM
    repeat: int  # From 0; runs of one repeat share their seed

    @property
    def method(self) -> str:
        """How it is trained."""
        return "mixup" if self.alpha else "ERM"

    @property
    def key(self) -> str:
        """The run's name in the journal."""
        return f"{self.network}/{self.epochs}/{self.method}-{self.alpha:g}/{self.repeat}"

    @property
    def seed(self) -> int:
        """Seed of initial weights, orders, partners, weights, crops and flips."""
        return derive_seed("imagenet", self.repeat)


def run(config: Config) -> int:
    """Train, print tables and verdicts, and write the results."""
    team = find_team(config.device)
    check_batch_size(config, team)
    with provide_folders(config) as folders:
        return measure(config, folders, team)


def check_batch_size(config: Config, team: Team) -> None:
    """Raise :class:`UserError` unless each process has the same number of images of a batch, 2 or more."""
    if config.batch_size % team.size or config.batch_size < 2 * team.size:
        raise UserError(
            f"--batch-size must be a multiple of the number of processes, 2 images or more for each; got "
            f"{config.batch_size} for {team.size} processes. Start another number of them."
        )


@contextmanager
def provide_folders(config: Config) -> Iterator[ImageFolders]:
    """Give the images of ``--data-dir``; the smoke preset makes up its own where there is none."""
    with ExitStack() as stack:
        folder = config.data_dir
        if folder is None and config.preset == "smoke":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_made_up_images(folder)
        yield load_folders(find_folder(folder))


def measure(config: Config, folders: ImageFolders, team: Team) -> int:
    """Train and time all that the journal does not hold yet; the main process writes the results."""
    data = folders.describe()
    stem = make_stem("imagenet", config, embedded=config.data_dir is None)
    libraries = {name: version(name) for name in ("torchvision", "pillow")}
    facts = {"data": data, "libraries": libraries, "n_processes": team.size}
    journal = open_checkpoints(stem, config, models=config.models, **facts)
    with use_threads(config.n_threads), repeatable_convolutions():
        tasks: dict[str, tuple[Any, ...]] = {
            item.key: (config, folders, item, team, journal.folder) for item in list_runs(config)
        }
        records = run_in_step(train_once, tasks, journal, team, label="imagenet", until=config.end)
        # With other processes beside it on the machine, nothing is timed.
        if team.size == 1:
            records += time_all(config, folders, journal)
    if not team.is_main:
        return 0
    return conclude(
        COMMAND,
        config,
        stem,
        journal,
        list_records(records),
        data=[data],
        protocol=describe_protocol(config, folders, team.size),
        summarise=summarise,
    )


def time_all(config: Config, folders: ImageFolders, journal: Journal) -> list[dict[str, Any]]:
    """Return the records of all times that one process takes."""
    loading: dict[str, tuple[Any, ...]] = {"speed/loader": (config, folders)}
    training: dict[str, tuple[Any, ...]] = {
        f"speed/{network}": (config, folders, network) for network in config.networks
    }
    one = Team(None)
    groups = run_in_step(time_feeds, loading, journal, one, label="imagenet, loading", until=config.end)
    return groups + run_in_step(
        time_network, training, journal, one, label="imagenet, times", until=config.end
    )


def list_runs(config: Config) -> list[Run]:
    """Return all trainings; those of one network, length and repeat next to each other."""
    return [
        Run(network, epochs, alpha, repeat)
        for network in config.networks
        for epochs in config.list_epochs(network)
        for repeat in range(config.n_seeds or config.seeds_each)
        for alpha in (0.0, config.get_alpha(network))
    ]


def train_once(config: Config, folders: ImageFolders, item: Run, team: Team, folder: Path) -> dict[str, Any]:
    """Train a network, from its checkpoint on if there is one, and return its errors epoch by epoch.

    Errors and curves in per cent of the validation images, seconds of training without tests.
    """
    train = FolderImages(folders.train, make_training_transform(config.image_size), seed=item.seed)
    net = make_net(config, folders, item, team, callbacks=make_callbacks(config, folders, item, team))
    with explain_lack_of_memory(config, item.network):
        train_together(
            net,
            train,
            team,
            n_epochs=item.epochs,
            every=config.checkpoint_every,
            path=find_checkpoint(folder, item.key),
            identity=f"{folder.name}/{item.key}",
        )
    module = getattr(net.module_, "_orig_mod", net.module_).net  # compiled modules keep the plain one
    if config.models is not None and team.is_main:
        origin = _describe_origin(config, folders, item)
        save_trained(find_trained(config.models, item.key), module, origin)
    own = {name: getattr(item, name) for name in ("network", "epochs", "method", "alpha", "repeat", "seed")}
    own |= {"n_parameters": sum(parameter.numel() for parameter in module.parameters())}
    own |= {"n_processes": team.size, "image_size": config.image_size}
    counts = folders.describe()
    own |= {name: counts[name] for name in ("n_train", "n_val", "n_classes")}
    return {"part": "run", **own, **_describe_history(net, len(folders.train))}


def _describe_origin(config: Config, folders: ImageFolders, item: Run) -> Origin:
    return Origin(
        network=item.network,
        options={"out_features": len(folders.classes)},
        dataset=IMAGENET,
        train_rows=None,
        test_rows=None,
        sha256=folders.sha256,
        mean=tuple(255 * value for value in MEAN),
        std=tuple(255 * value for value in STD),
        method=item.method,
        weight_decay=config.weight_decay,
        alpha=item.alpha,
        repeat=item.repeat,
        seed=item.seed,
        epochs=item.epochs,
        image_size=config.image_size,
    )


def _describe_history(net: MixupClassifier, n_train: int) -> dict[str, Any]:
    curves = read_curves(net)
    top1, top5, losses, seconds = (curves[name] for name in ("top1", "top5", "loss", "seconds"))
    return {
        "top1": round(float(top1[-1]), 4),
        "top5": round(float(top5[-1]), 4),
        "best_top1": round(float(top1.min()), 4),
        "best_epoch": int(top1.argmin()) + 1,
        "train_loss": round(float(losses[-1]), 5),
        "seconds": round(float(seconds.sum()), 2),
        "images_per_second": round(n_train / sorted(seconds)[len(seconds) // 2], 1),
        "top1_curve": top1.round(3).tolist(),
        "top5_curve": top5.round(3).tolist(),
        "loss_curve": losses.round(4).tolist(),
    }


def make_callbacks(config: Config, folders: ImageFolders, item: Run, team: Team) -> list[Any]:
    """Return the callbacks of a training: the epoch's number, the schedule, validation errors."""
    test = FolderImages(folders.val, make_test_transform(config.image_size))
    n_rows = count_batches(len(folders.train), team.size)  # those of one process, rounded up
    schedule = WarmupAndDecay(
        config.lr_start,
        warmup=config.lr_warmup,
        milestones=list_milestones(item.epochs),
        n_batches=count_batches(n_rows, config.batch_size // team.size),
    )
    errors = HeldOutErrors(
        test,
        team,
        bfloat16=config.bfloat16,
        n_workers=config.count_workers(),
    )
    return [NumberEpochs(), schedule, errors]


def make_net(
    config: Config,
    folders: ImageFolders,
    item: Run,
    team: Team,
    *,
    callbacks: list[Any] | None = None,
    n_workers: int | None = None,
) -> MixupClassifier:
    """Return an untrained classifier."""
    options: dict[str, Any] = {"compile": True, "compile__dynamic": False} if config.compile else {}
    make: Any = partial(MixupClassifier, device=config.device)
    if team.size > 1:
        make = partial(ParallelClassifier, accelerator=team.accelerator, unwrap_after_train=False)
    on_gpu = torch.device(config.device).type == "cuda"
    net: MixupClassifier = make(
        module=PixelResNet,
        module__name=item.network,
        module__out_features=len(folders.classes),
        module__channels_last=config.channels_last,
        alpha=item.alpha,
        lam_per="batch",
        optimizer=torch.optim.SGD,
        optimizer__momentum=MOMENTUM,
        optimizer__nesterov=True,
        optimizer__weight_decay=config.weight_decay,
        optimizer__param_groups=[(pattern, {"weight_decay": 0.0}) for pattern in BATCH_NORMS],
        lr=config.lr,
        batch_size=config.batch_size // team.size,
        iterator_train__num_workers=config.count_workers() if n_workers is None else n_workers,
        iterator_train__pin_memory=on_gpu,
        early_stopping=False,
        augment=torch.Tensor.float,  # bytes cannot be mixed
        autocast="bfloat16" if config.bfloat16 else None,
        classes=list(range(len(folders.classes))),
        callbacks=callbacks,
        random_state=item.seed,
        **options,
    )
    return net


@contextmanager
def explain_lack_of_memory(config: Config, network: str) -> Iterator[None]:
    """Say what to do where the device's memory does not hold a network and a batch."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--device must have memory for {NETWORKS[network].title} and a batch; got {config.device!r} "
            f"with too little ({reason}). Start more processes with accelerate launch, or lower "
            f"--batch-size (now {config.batch_size}) and the learning rates with it."
        ) from None


def time_feeds(config: Config, folders: ImageFolders) -> dict[str, Any]:
    """Time the net's batches beside loops that only read and transform the files."""
    transform = make_training_transform(config.loader_size)
    images = FolderImages(repeat_rows(folders.train, config.loader_images), transform, seed=0)
    item = Run("resnet18", 1, 0.2, 0)
    nets = {
        n_workers: make_net(config, folders, item, Team(None), n_workers=n_workers).initialize()
        for n_workers in list_worker_counts(config.count_workers())
    }
    times = time_loading(nets, images, n_rounds=config.speed_rounds)
    shared = {"part": "loader", "image_size": config.loader_size}
    return {"records": [{**shared, **time} for time in times]}


def time_network(config: Config, folders: ImageFolders, network: str) -> dict[str, Any]:
    """Time epochs of the estimator with and without mixup beside loops written by hand."""
    transform = make_training_transform(config.image_size)
    split = repeat_rows(folders.train, config.speed_batches * config.batch_size)
    runs = [Run(network, 1, alpha, 0) for alpha in (0.0, config.get_alpha(network))]
    images = FolderImages(split, transform, seed=0)
    plain = FolderImages(split, make_training_transform(config.image_size, as_pixels=False))

    def make_contender(alpha: float) -> Callable[[], Any]:
        return make_loop(
            plain,
            module=build_network(network, len(folders.classes)),
            alpha=alpha,
            lr=config.lr,
            weight_decay=config.weight_decay,
            batch_size=config.batch_size,
            device=config.device,
            bfloat16=config.bfloat16,
            channels_last=config.channels_last,
            compile=config.compile,
            n_workers=config.count_workers(),
        )

    with explain_lack_of_memory(config, network):
        nets = {item.method: make_net(config, folders, item, Team(None)) for item in runs}
        times = time_trainings(nets, make_contender, (images,), n_rounds=config.speed_rounds, n_epochs=1)
        case = f"{NETWORKS[network].title} on {config.device}, {config.image_size} pixels, "
        case += count_processes(config.count_workers())
        shared = {"part": "speed", "network": network, "case": case, "image_size": config.image_size}
        return {"records": [{**shared, **time} for time in times]}


COMMAND = Command(
    name="imagenet",
    order=7,
    paper="section 3.1, Table 1",
    claim="top-1 and top-5 validation error on ImageNet, ERM against mixup, 90 and 200 epochs",
    presets=PRESETS,
    times={"cpu": "6 minutes on two cores with 64 photographs", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    draw=draw,
    claims=(
        Claim(
            "Mixup lowers the top-1 error on ImageNet",
            "Table 1",
            "ResNet-50: 23.5 → 23.3 % in 90 epochs, 23.6 → 22.1 % in 200",
            compare_errors,
            is_full=True,
        ),
    ),
    note=(
        "The cpu preset runs the whole machinery on a folder of few photographs, with a small network on "
        "small images for a few epochs: it measures loading and throughput. Nothing can be learnt from so "
        "few images, and no error is shown. Loading processes are started anew for each epoch, which "
        "counts for more the fewer images there are, and the process that they load for needs a core too."
    ),
)
