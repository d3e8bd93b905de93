"""Claim: mixup costs less here than plain training costs elsewhere.

Not in the paper, which says in section 2 that mixup "introduces minimal computation overhead".

    python -m benchmarks speed                    on the CPU, about eight minutes
    python -m benchmarks speed --preset gpu       the lines of a CUDA device

Every ratio is of times taken in turns, in one run: a round times each contender once, the ratio
is taken round by round, and its median and quartiles over the rounds are shown. All contenders
train the same net (hidden layers 128, 128) with Adam on the same data, with nothing held out.
timm and torchvision take part where they are installed (``pip install '.[peers]'``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.harness.claims import Claim
from benchmarks.harness.command import BaseConfig, Command, UserError
from benchmarks.harness.experiment import conclude, list_records, make_stem, open_journal
from benchmarks.harness.fitting import count_batches
from benchmarks.harness.interleaved_timing import interleave, list_times, use_threads
from benchmarks.harness.rules import Count, Several
from benchmarks.harness.runner import run_tasks
from benchmarks.peers.contenders import (
    SmallConvNet,
    make_fits,
    make_images,
    make_net,
    make_table,
    time_epochs,
    time_image_fits,
    time_predictions,
)
from benchmarks.speed.children import measure_first_fits, measure_growth, measure_threads
from benchmarks.speed.ensemble import time_ensemble
from benchmarks.speed.figure import draw
from benchmarks.speed.gpu import time_gpu
from benchmarks.speed.mixing import time_mixing
from benchmarks.speed.summary import compare_epochs, summarise, tabulate

__all__ = ["COMMAND", "Config", "run"]

ABALONE = (8, 28)
WIDE = (54, 7)
ENSEMBLE_SIZES = (32, 128)


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the measurement of time and memory."""

    n_rounds: Several = 5
    """Rounds of each comparison, unless --seeds is given."""

    abalone_rows: Several = 4177
    """Rows of the table of Abalone's shape: 8 features, 28 classes."""

    wide_rows: Several = 50_000
    """Rows of the table of 54 features and 7 classes."""

    batch_sizes: tuple[Several, ...] = (16, 128, 1024)
    """Batch sizes of the fits."""

    thread_batch_sizes: tuple[Several, ...] = (16, 32, 128)
    """Batch sizes of the fits at PyTorch's own number of threads."""

    n_steps: Count = 1000
    """About how many steps a fit at batch size 16 takes; larger batches take fewer."""

    image_rows: Several = 2048
    """Images of CIFAR's shape."""

    mixed_rows: Count = 50_000
    """Rows of an epoch that is mixed in a round of the mixing alone."""

    predict_rows: tuple[Count, ...] = (1, 10, 100, 1000, 100_000)
    """Numbers of rows that are predicted at once."""

    ensemble_rows: Several = 5000
    """Rows of the table of 20 features on which an ensemble is compared with one net."""

    ensemble_epochs: Count = 25
    """Epochs of those fits."""

    growth_rows: tuple[Several, ...] = (1_000, 10_000, 100_000, 1_000_000)
    """Numbers of rows of the fits whose growth is measured; the second is the base."""

    def reads_files(self) -> bool:
        """Return False: the data are made up."""
        return False

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        if len(self.growth_rows) < 2:
            raise UserError(f"--growth-rows must be two numbers or more; got {self.growth_rows}.")
        if self.n_jobs not in (-1, 1):
            raise UserError(f"--n-jobs must be 1: times are taken one by one; got {self.n_jobs}.")

    @property
    def rounds(self) -> int:
        """Rounds of each comparison."""
        return self.n_seeds or self.n_rounds


PRESETS = {
    "cpu": Config(),
    "gpu": Config(device="cuda", n_rounds=9),
    "paper": Config(n_rounds=25),
    "smoke": Config(
        n_rounds=2,
        abalone_rows=100,
        wide_rows=100,
        n_steps=4,
        image_rows=40,
        mixed_rows=2048,
        ensemble_rows=400,
        ensemble_epochs=1,
        growth_rows=(120, 60),
    ),
}


def run(config: Config) -> int:
    """Measure, print tables and verdicts, and write the results."""
    stem = make_stem("speed", config, embedded=False)
    journal = open_journal(stem, config, by_repeat=False)
    tasks = {"/".join(map(str, group)): (config, *group) for group in list_groups(config)}
    with use_threads(1):
        measured = run_tasks(measure_group, tasks, journal, n_jobs=1, label="speed", until=config.end)
    records = list_records(measured)
    return conclude(
        COMMAND,
        config,
        stem,
        journal,
        records,
        protocol=describe_protocol(config),
        summarise=summarise,
    )


def list_groups(config: Config) -> list[tuple[str, str]]:
    """Return part and case of everything that is measured."""
    if config.device != "cpu":
        return [("gpu", case) for case in ("fit", "images", "mixing")]
    fits = [f"{table}/{size}" for table in ("abalone", "wide") for size in config.batch_sizes]
    epochs = [f"abalone/{size}" for size in config.batch_sizes if size < 1024]
    groups = {
        "fit": fits,
        "epoch": [*epochs, "images/128"],
        "images": ["images/128"],
        "mixing": ["128x3x32x32", "1024x54"],
        "prediction": [f"wide/{n_rows}" for n_rows in config.predict_rows],
        "ensemble": [f"table/{size}" for size in ENSEMBLE_SIZES],
        "growth": ["wide"],
        "threads": ["abalone"],
        "first": ["fit"],
    }
    return [(part, case) for part, cases in groups.items() for case in cases]


def measure_group(config: Config, part: str, case: str) -> dict[str, Any]:
    """Measure the contenders of one comparison in turns."""
    return {"records": list(MEASURES[part](config, part, case))}


def _measure_fit(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    X, y, size = _make_case(config, case)
    epochs = _count_epochs(config, len(X), size)
    fits = make_fits(X, y, batch_size=size, epochs=epochs)
    seconds = interleave(fits, config.rounds)
    return _make_records(part, case, seconds, epochs * count_batches(len(X), size), "step")


def _measure_epoch(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    if case.startswith("images"):
        X, y = make_images(config.image_rows)
        size, epochs, module = 128, 4, SmallConvNet
    else:
        X, y, size = _make_case(config, case)
        epochs, module = 1 + _count_epochs(config, len(X), size), None
    make = partial(make_net, module, batch_size=size, max_epochs=epochs)
    seconds = time_epochs(config.rounds, make, X, y)
    return _make_records(part, case, seconds, (epochs - 1) * count_batches(len(X), size), "step")


def _measure_images(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    seconds = time_image_fits(config.rounds, config.image_rows, epochs=3)
    return _make_records(part, case, seconds, 3 * count_batches(config.image_rows, 128), "step")


def _measure_mixing(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    shape = tuple(map(int, case.split("x")))
    n_batches = max(1, config.mixed_rows // shape[0])
    seconds = time_mixing(config.rounds, shape, 10 if len(shape) == 4 else 7, n_batches)
    return _make_records(part, case, seconds, n_batches, "batch")


def _measure_prediction(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    n_rows = int(case.split("/")[1])
    return _make_records(part, case, time_predictions(config.rounds, n_rows), n_rows, "row")


def _measure_ensemble(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    epochs, size = config.ensemble_epochs, int(case.split("/")[1])
    seconds = time_ensemble(config.rounds, config.ensemble_rows, batch_size=size, epochs=epochs)
    return _make_records(part, case, seconds, epochs, "epoch")


def _measure_growth(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    largest, base = max(config.growth_rows), config.growth_rows[1]
    names = {largest: "largest", base: "base"}
    for grown in measure_growth(config.growth_rows, n_rows=largest, n_rounds=max(2, config.rounds // 2)):
        n_rows = grown["n_samples"]
        name = names.get(n_rows, str(n_rows))
        yield from _make_records(part, case, {name: grown["seconds"]}, n_rows * grown["epochs"], "row")
        share = grown["peak"] / grown["data"]
        yield {"part": "memory", "case": case, "contender": name, "round": 0, "value": share, "unit": "data"}


def _measure_threads(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    n_rows = config.abalone_rows
    epochs = {size: _count_epochs(config, n_rows, size) for size in config.thread_batch_sizes}
    for size, seconds in measure_threads(config.rounds, (n_rows, *ABALONE), epochs).items():
        n_steps = epochs[size] * count_batches(n_rows, size)
        yield from _make_records(part, f"{case}/{size}", seconds, n_steps, "step")


def _measure_first(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    return _make_records(part, case, measure_first_fits(max(1, config.rounds // 2)), 1, "process")


def _measure_gpu(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    return time_gpu(case, config.rounds, config.device)


MEASURES = {
    "fit": _measure_fit,
    "epoch": _measure_epoch,
    "images": _measure_images,
    "mixing": _measure_mixing,
    "prediction": _measure_prediction,
    "ensemble": _measure_ensemble,
    "growth": _measure_growth,
    "threads": _measure_threads,
    "first": _measure_first,
    "gpu": _measure_gpu,
}


def _make_case(config: Config, case: str) -> tuple[Any, Any, int]:
    table, size = case.split("/")
    sizes = {"abalone": (config.abalone_rows, *ABALONE), "wide": (config.wide_rows, *WIDE)}
    return *make_table(*sizes[table]), int(size)


def _count_epochs(config: Config, n_samples: int, batch_size: int) -> int:
    """Return epochs enough for the steps asked for; steps of larger batches take longer."""
    n_steps = config.n_steps * (16 / batch_size) ** 0.5
    return max(1, round(n_steps / count_batches(n_samples, batch_size)))


def _make_records(
    part: str, case: str, seconds: dict[str, list[float]], count: int, unit: str
) -> Iterable[dict[str, Any]]:
    return list_times(seconds, scale=1e6 / count, part=part, case=case, unit=unit)


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    where = "one thread" if config.device == "cpu" else f"device {config.device}"
    return (
        f"Times on {where}, taken in turns in one run: {config.rounds} rounds after a warm-up, each of "
        "which times every contender once. A ratio is taken round by round; its median and quartiles are "
        "shown. All train hidden layers of 128 and 128 units with Adam on the same random float32 data, "
        f"nothing held out: {config.abalone_rows} rows of 8 features and 28 classes (abalone), "
        f"{config.wide_rows} rows of 54 features and 7 classes (wide). mixup is MixupClassifier with "
        "alpha=0.2; the others train without mixing. The loop is written by hand: whole tensors, a random "
        f"permutation, fused Adam. skorch has train_split=None and shuffles. The {config.image_rows} images "
        "are of CIFAR's shape, their net is that of PyTorch's tutorial, two convolutions and three linear "
        f"layers. Mixing alone: inputs and labels of {config.mixed_rows} rows, batch by batch, with the "
        "draws, one weight a batch; the peer is the fastest of timm, torchvision (images only) and the "
        "paper's formula. Ensemble: MixupEnsembleClassifier with its eight members on two threads, beside a "
        "fit of MixupClassifier on one thread and on two, of which the faster counts, on "
        f"{config.ensemble_rows} rows of 20 features and 2 classes, {config.ensemble_epochs} epochs with "
        "held-out rows and without a stop. Growth: fits at batch size 128, each number of rows in a process "
        "of its own; memory is the peak resident size beyond what was held before the fit, when the data "
        "were there already. Own threads: PyTorch's own number, in a process that is told none. First fit: "
        "what it takes beyond the second, each in a process of its own."
    )


COMMAND = Command(
    name="speed",
    order=14,
    paper='section 2, "minimal computation overhead"',
    claim="time and memory of a fit against scikit-learn, skorch, a loop written by hand and other mixups",
    presets=PRESETS,
    times={"cpu": "7 to 10 minutes on two quiet cores", "smoke": "seconds"},
    more_seeds="More --seeds than a finished run has begin anew: only times of one run can be compared.",
    run=run,
    tabulate=tabulate,
    draw=draw,
    claims=(
        Claim(
            "Mixup adds next to no computation: an epoch of a small net takes at most 5 % longer",
            "section 2",
            '"minimal computation overhead"',
            compare_epochs,
        ),
    ),
)
