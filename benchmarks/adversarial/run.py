"""Claim: mixup's networks are harder to fool with the sign of the gradient than ERM's.

In the paper: section 3.5 and Table 3, with ResNet-101 on ImageNet; here on the networks that ``cifar`` or
``imagenet`` have trained.

    python -m benchmarks cifar --data-dir DIR --models MODELS       train and keep the networks
    python -m benchmarks adversarial --data-dir DIR --models MODELS attack them

White box: each network is attacked by its own gradients. Black box: the examples are made with the
gradients of ERM's network of another seed. FGSM, I-FGSM with ten equal steps as in the paper, and PGD
(Madry et al. 2018) beside them, at several strengths, and AutoAttack (Croce and Hein 2020) by its package
(``pip install '.[attacks]'``), white box only. PGD and AutoAttack are the test of the claim: where FGSM
fails and they do not, the gradients are masked and the network is no more robust.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch

from benchmarks.adversarial.autoattack import AUTOATTACK, attack_by_package, check_package
from benchmarks.adversarial.summary import compare_attacks, draw_errors, summarise, tabulate
from benchmarks.cifar import run as cifar
from benchmarks.cifar.config import PRESETS as CIFAR_PRESETS
from benchmarks.data.cifar_images import DIGITS, load_image_set
from benchmarks.data.imagenet_files import FolderImages, find_folder, load_folders, make_test_transform
from benchmarks.harness.claims import Claim
from benchmarks.harness.command import BaseConfig, Command, UserError
from benchmarks.harness.experiment import conclude, list_records, make_stem, open_journal
from benchmarks.harness.fitting import measure_time
from benchmarks.harness.interleaved_timing import use_threads
from benchmarks.harness.journal import hash_identity
from benchmarks.harness.rules import NOT_EMPTY, Count, Known, Several, Within
from benchmarks.harness.runner import run_tasks
from benchmarks.image_training.kept_networks import (
    IMAGENET,
    Origin,
    PixelNet,
    list_trained,
    load_trained,
    name_problem,
)
from benchmarks.imagenet.training import count_errors as count_wrong
from sk_mixup.inspection import adversarial_examples

__all__ = ["COMMAND", "PRESETS", "Config", "run"]

ATTACKS = ("fgsm", "i-fgsm", "pgd")
BASELINE = "ERM"
TOP = (1, 5)
Attack = Callable[..., np.ndarray]
WHITE_ONLY = ("none", AUTOATTACK)


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the attacks on trained networks."""

    models: Path | None = None
    """Folder with the networks that cifar or imagenet have kept; the smoke preset trains some itself."""

    attacks: Annotated[tuple[str, ...], Known((*ATTACKS, AUTOATTACK)), NOT_EMPTY] = ATTACKS
    """Attacks: fgsm, i-fgsm, pgd, and autoattack, which takes longest and needs a package of its own."""

    eps: Annotated[tuple[float, ...], Within(1e-6, 255), NOT_EMPTY] = (1.0, 2.0, 4.0, 8.0)
    """Strengths, the most that a pixel of 0 to 255 is changed; the paper's is 4."""

    autoattack_eps: Annotated[tuple[float, ...], Within(1e-6, 255), NOT_EMPTY] = (4.0,)
    """Strengths of autoattack, whose time grows as they get weaker; the paper's alone."""

    n_steps: Count = 10
    """Steps of i-fgsm and pgd; the paper's."""

    test_rows: Several = 1000
    """So many test images are attacked, the first ones."""

    batch_size: Count = 250
    """Images that are attacked at a time."""

    n_threads: Count = 1
    """Threads of each process on a CPU."""

    def reads_files(self) -> bool:
        """Return whether the networks may be of images from files."""
        return self.models is not None or self.preset != "smoke"

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        if self.n_seeds is not None:
            raise UserError(
                f"--seeds must be left out here: the networks have theirs; got {self.n_seeds}. Give --seeds "
                "to cifar."
            )


PRESETS = {
    "cpu": Config(attacks=(*ATTACKS, AUTOATTACK), test_rows=500),
    "paper": Config(device="cuda", n_jobs=1, eps=(4.0,), test_rows=10_000, batch_size=500),
    "gpu": Config(device="cuda", n_jobs=1, test_rows=10_000, batch_size=500),
    "smoke": Config(n_jobs=1, eps=(4.0, 32.0), n_steps=3, test_rows=50, batch_size=20),
}


@dataclass(frozen=True)
class Target:
    """A trained network, its file, and how the file is told from others."""

    path: Path
    origin: Origin

    @property
    def problem(self) -> tuple[str, str]:
        """Names of images and network."""
        return self.origin.dataset, self.origin.network

    def describe(self) -> dict[str, Any]:
        """Return what a record says of the network."""
        names = ("dataset", "network", "method", "weight_decay", "repeat", "epochs")
        return {name: getattr(self.origin, name) for name in names}

    def find_digest(self) -> str:
        """Return SHA-256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def run(config: Config) -> int:
    """Attack, print tables and verdicts, and write the results."""
    if config.models is not None:
        return _run_on(config, config.models)
    if config.preset != "smoke":
        raise UserError(
            "--models must be the folder with the networks to attack; got none. Train them with "
            "python -m benchmarks cifar --models FOLDER."
        )
    with TemporaryDirectory() as folder:
        train_stand_ins(Path(folder))
        return _run_on(config, Path(folder))


def train_stand_ins(folder: Path) -> None:
    """Train some networks for seconds, on digits, so that there is something to attack."""
    shorter: dict[str, Any] = {"epochs": 1, "last_epochs": 1, "erm_weight_decays": (1e-4,)}
    config = replace(CIFAR_PRESETS["smoke"], models=folder, **shorter)
    images = config.load_images(DIGITS)
    for item in cifar.list_runs(config):
        cifar.train_once(config, images, item, folder / "checkpoints")


def _run_on(config: Config, folder: Path) -> int:
    if AUTOATTACK in config.attacks:
        check_package()
    targets = [Target(path, origin) for path, origin in list_trained(folder).items()]
    images = load_images(config, targets)
    data = [part.facts for part in images.values()]
    stem = make_stem("adversarial", config, embedded=set(images) == {DIGITS})
    facts = {part["dataset"]: part["sha256"] for part in data}
    journal = open_journal(stem, config, seeds=(len(targets),), data=facts)
    tasks = make_tasks(config, targets, images)
    done = run_tasks(attack_once, tasks, journal, n_jobs=config.n_jobs, label="adversarial", until=config.end)
    records = list_records(done)
    return conclude(
        COMMAND,
        config,
        stem,
        journal,
        records,
        data=data,
        protocol=describe_protocol(config, targets),
        summarise=summarise,
        draw_from={"/".join(target.problem): describe_network(target.origin) for target in targets},
    )


@dataclass(frozen=True, eq=False)
class Images:
    """Test images that are attacked."""

    pixels: np.ndarray  # (n_samples, channels, height, width), uint8
    y: np.ndarray  # Class codes, int64
    facts: dict[str, Any]  # Description of all images, of which these are a part


def load_images(config: Config, targets: list[Target]) -> dict[str, Images]:
    """Return the images to attack by the name of their set."""
    images: dict[str, Images] = {}
    origins: dict[str, Origin] = {}
    trained: dict[tuple[object, ...], Origin] = {}
    for target in targets:
        origin = target.origin
        key = (*target.problem, origin.method, origin.weight_decay)
        _check_training(target, trained.setdefault(key, origin))
        known = origins.setdefault(origin.dataset, origin)
        if (known.sha256, known.image_size) != (origin.sha256, origin.image_size):
            raise UserError(
                f"--models must hold networks of the same images; got '{target.path}' with others of "
                f"{origin.dataset}. Give it a folder of its own."
            )
        if origin.dataset in images:
            continue
        load = _load_photographs if origin.dataset == IMAGENET else _load_small_images
        found = load(config, origin)
        if found.facts["sha256"] != origin.sha256:
            raise UserError(
                f"'{target.path}' must have been trained on these images of {origin.dataset}; got others. "
                "Give the --data-dir of its training, or train it anew."
            )
        images[origin.dataset] = found
    return images


def _check_training(target: Target, known: Origin) -> None:
    """Raise unless a network was trained as those were whose seeds it is averaged with."""
    for name in ("alpha", "epochs", "options"):
        found, expected = getattr(target.origin, name), getattr(known, name)
        if found != expected:
            raise UserError(
                f"--models must hold networks of one training of {known.method}; got '{target.path}' with "
                f"{name} {found} beside others with {expected}. Give it a folder of its own."
            )


def _load_small_images(config: Config, origin: Origin) -> Images:
    """Return the first test images of CIFAR or of the digits."""
    rows = {"train_rows": origin.train_rows, "test_rows": origin.test_rows}
    found = load_image_set(origin.dataset, config.data_dir, download=config.download, **rows)
    test = slice(found.n_train, found.n_train + config.test_rows)
    return Images(found.table.X[test], found.table.y[test].astype(np.int64), found.describe())


def _load_photographs(config: Config, origin: Origin) -> Images:
    """Return validation images of ImageNet, uniformly spaced, so that they are of all classes."""
    assert origin.image_size is not None, "imagenet says it"
    folders = load_folders(find_folder(config.data_dir))
    photographs = FolderImages(folders.val, make_test_transform(origin.image_size))
    n_images = min(config.test_rows, len(photographs))
    rows = np.linspace(0, len(photographs) - 1, n_images).round().astype(int).tolist()
    loaded = [photographs[row] for row in rows]
    pixels = np.stack([image.permute(2, 0, 1).numpy() for image, _ in loaded])
    return Images(pixels, np.array([label for _, label in loaded], dtype=np.int64), folders.describe())


def make_tasks(
    config: Config, targets: list[Target], images: Mapping[str, Images]
) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`attack_once` for each network that makes examples."""
    digests = {target.path: target.find_digest() for target in targets}
    tasks: dict[str, tuple[Any, ...]] = {}
    for target in targets:
        victims = find_victims(target, targets)
        # Of the files' content, so that a run with more networks goes on from a finished one.
        contents = hash_identity({"networks": [digests[part.path] for part in (target, *victims)]})
        tasks[f"{target.path.stem}/{contents}"] = (config, images[target.origin.dataset], target, victims)
    return tasks


def find_victims(source: Target, targets: list[Target]) -> list[Target]:
    """Return the networks that a network makes black-box examples for.

    Of ERM with the lowest weight decay, the paper's, each seed attacks all networks of the seed before it,
    the first those of the last; other networks, and a single seed, none.
    """
    alike = [target for target in targets if target.problem == source.problem]
    erm = [target for target in alike if target.origin.method == BASELINE]
    decay = min((target.origin.weight_decay for target in erm), default=None)
    if source.origin.method != BASELINE or source.origin.weight_decay != decay:
        return []
    repeats = sorted({target.origin.repeat for target in erm if target.origin.weight_decay == decay})
    before = repeats[repeats.index(source.origin.repeat) - 1]
    if before == source.origin.repeat:
        return []
    return [target for target in alike if target.origin.repeat == before]


def attack_once(config: Config, images: Images, source: Target, victims: list[Target]) -> dict[str, Any]:
    """Make a network's adversarial examples, and count the errors on them, its own and its victims'.

    ``records``: top-1 and top-5 errors in per cent for each network, attack and strength; strength 0 stands
    for the images as they are.
    """
    pixels, y = images.pixels.astype(np.float32) / np.float32(255), images.y
    with use_threads(config.n_threads):
        module = _load(config, source)
        boxes = [("white", source, module)]
        boxes += [("black", victim, _load(config, victim)) for victim in victims]
        records = [
            {"box": box, **target.describe(), **made, **count_errors(net, examples, y, config.batch_size)}
            for made, examples in _iterate_examples(config, module, pixels, y)
            for box, target, net in (boxes[:1] if made["attack"] in WHITE_ONLY else boxes)
        ]
    return {"records": records}


def _load(config: Config, target: Target) -> PixelNet:
    return load_trained(target.path, target.origin).to(config.device)


def _iterate_examples(
    config: Config, module: PixelNet, pixels: np.ndarray, y: np.ndarray
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yield the images as they are, then the examples of each attack and strength."""
    yield {"attack": "none", "eps": 0.0, "seconds": 0.0}, pixels
    shared: dict[str, Any] = {"batch_size": config.batch_size}
    by_gradient = partial(
        adversarial_examples, clip=(0.0, 1.0), n_steps=config.n_steps, random_state=0, **shared
    )
    by_package = partial(attack_by_package, device=config.device, **shared)
    for attack in config.attacks:
        make: Attack = by_package if attack == AUTOATTACK else partial(by_gradient, attack=attack)
        for strength in config.autoattack_eps if attack == AUTOATTACK else config.eps:
            with measure_time() as watch:
                examples = make(module, pixels, y, eps=strength / 255)
            yield {"attack": attack, "eps": strength, "seconds": round(watch.seconds, 2)}, examples


def count_errors(module: PixelNet, X: np.ndarray, y: np.ndarray, batch_size: int) -> dict[str, float]:
    """Return the shares of images whose class is not the most probable one, nor among the first five."""
    device = module.mean.device
    with torch.no_grad():
        parts = [module(part.to(device)) for part in torch.split(torch.from_numpy(X), batch_size)]
    wrong = count_wrong(torch.cat(parts), torch.from_numpy(y).to(device))
    return {f"top{k}_error": round(100 * n / len(y), 4) for k, n in zip(TOP, wrong.tolist(), strict=True)}


def describe_protocol(config: Config, targets: list[Target]) -> str:
    """Return what was done, in words, to stand before the numbers."""
    strengths = ", ".join(f"{strength:g}" for strength in config.eps)
    origins = [target.origin for target in targets]
    networks = "; ".join(dict.fromkeys(map(describe_network, origins)))
    epochs = ", ".join(map(str, sorted({origin.epochs for origin in origins})))
    rows = sorted({origin.train_rows for origin in origins}, key=lambda rows: rows or 0)
    sizes = ", ".join("all" if count is None else f"{count}" for count in rows)
    return (
        f"{networks}, trained for {epochs} epochs on {sizes} training images, see `cifar` and `imagenet`. "
        f"The first {config.test_rows} test images (of ImageNet so many validation images, uniformly spaced) "
        "are attacked in float32; no pixel of 0 to 255 is changed by "
        f"more than ε = {strengths}, and none leaves that range. FGSM is one step along the sign of the "
        "gradient of the true label's cross-entropy; I-FGSM takes "
        f"{config.n_steps} steps of ε / {config.n_steps} (section 3.5); PGD starts "
        f"at a random point of the ball and takes {config.n_steps} steps of 2.5 ε / {config.n_steps}, each "
        f"projected onto the ball (Madry et al. 2018), one start. {_describe_autoattack(config)}"
        "White box: the gradients are the network's own. Black box: they are those of "
        "ERM with the lowest weight decay and the next seed; ERM's own row is of the seeds among each "
        "other, as in the paper. Means over seeds with Student's 95 % intervals, differences in points, "
        "paired by seed; they do not count the chance in the choice of test images."
    )


def describe_network(origin: Origin) -> str:
    """Return images and network in words, with the network's width where it has one."""
    width = f" of width {origin.options['width']}" if "width" in origin.options else ""
    return name_problem(origin.dataset, origin.network) + width


def _describe_autoattack(config: Config) -> str:
    if AUTOATTACK not in config.attacks:
        return ""
    strengths = ", ".join(f"{strength:g}" for strength in config.autoattack_eps)
    return (
        f"AutoAttack (Croce and Hein 2020, standard version, by its package, ε = {strengths}) is run on "
        "images that are still classified rightly and aims at top-1, white box only. "
    )


COMMAND = Command(
    name="adversarial",
    order=6,
    paper="section 3.5, Table 3",
    claim="error on adversarial examples, white box and black box, ERM against mixup",
    presets=PRESETS,
    times={"cpu": "an hour of CPU time", "smoke": "seconds"},
    more_seeds="With more networks in --models than a finished run had, it goes on with those.",
    run=run,
    tabulate=tabulate,
    draw=draw_errors,
    claims=(
        Claim(
            "Mixup is more robust than ERM to white-box attacks, FGSM and I-FGSM",
            "Table 3",
            "top-1 error 90.7 → 75.2 % and 99.9 → 99.6 %",
            partial(compare_attacks, box="white"),
        ),
        Claim(
            "Mixup is more robust than ERM to black-box attacks, FGSM and I-FGSM",
            "Table 3",
            "top-1 error 57.0 → 46.0 % and 57.3 → 40.9 %",
            partial(compare_attacks, box="black"),
        ),
    ),
    note=(
        "Table 3 is of ResNet-101 on ImageNet, ours of a network on CIFAR-10: signs may be compared, sizes "
        "not. An error that is lower under FGSM only is masked gradients, not robustness; PGD tells."
    ),
)
