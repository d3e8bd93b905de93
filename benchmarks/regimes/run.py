"""Claim: mixup pays where ERM has memorised its training set.

In the paper: sections 2, 3.1 and 5, and Figure 3(b), at one scale; a map over scales is not in the paper,
which leaves "the sweet spot" open.

    python -m benchmarks regimes --data-dir DIR                 real CIFAR-10 and UCI's tables
    python -m benchmarks regimes --data-dir DIR --minutes 60    a part of it; the same command goes on
    python -m benchmarks regimes --data-dir DIR --minutes 0     show what there is, and train nothing
    python -m benchmarks regimes --preset gpu --data-dir DIR    all of CIFAR-10, the paper's width and epochs

PreAct ResNet-18 of several widths, numbers of images and of epochs, not all combinations: first the settings
that carry the figure, then tables with noisy labels, other values of alpha, the choices of section 2, another
weight decay, and further settings. A run that was stopped goes on from its checkpoints with the same command;
what was planned and not run is named in the results.
"""

from functools import partial
from typing import Any

from benchmarks.data.cifar_images import DIGITS, ImageSet, load_image_set
from benchmarks.data.tables import load_tables
from benchmarks.harness.checkpoints import CheckpointedJournal, open_checkpoints
from benchmarks.harness.command import Command, UserError
from benchmarks.harness.experiment import conclude, list_records, make_stem
from benchmarks.harness.runner import postpone, run_tasks
from benchmarks.image_training.augment_and_schedule import MOMENTUM
from benchmarks.image_training.config import MEMORISED
from benchmarks.image_training.fits import describe_inputs
from benchmarks.regimes.config import PRESETS, Config
from benchmarks.regimes.design import Plan
from benchmarks.regimes.figure import draw_map
from benchmarks.regimes.images import train_once
from benchmarks.regimes.report import CLAIMS, tabulate
from benchmarks.regimes.summary import summarise
from benchmarks.regimes.tables import fit_methods, make_table_tasks

__all__ = ["COMMAND", "run"]


def run(config: Config) -> int:
    """Train, print tables, a plot's path and some sentences, and write the results."""
    images = load_image_set(
        config.dataset, config.data_dir, download=config.download, test_rows=config.test_rows
    )
    check_sizes(config, images)
    tables = load_tables(config.tables, data_dir=config.data_dir, download=config.download)
    data = [images.describe(), *(table.describe() for table in tables)]
    stem = make_stem("regimes", config, embedded=config.dataset == DIGITS)
    journal = open_checkpoints(stem, config.forget_plan(), images=data[0]["sha256"])
    options: dict[str, Any] = {"n_jobs": config.n_jobs, "until": config.end, "is_partial": True}
    first, whole, on_tables = (
        make_tasks(config, config.make_first_plan(), images, journal),
        make_tasks(config, config.make_plan(), images, journal),
        make_table_tasks(config, sorted(tables, key=lambda table: -table.size)),
    )
    run_tasks(train_once, first, journal, label="regimes, first", **options)
    joined = run_tasks(
        fit_methods, on_tables, journal, label="regimes, tables", join=lambda *_: config.n_joined, **options
    )
    trained = run_tasks(train_once, whole, journal, label="regimes", **options)
    records = list_records([*trained, *joined])
    n_done, n_tasks = len(trained) + len(joined), len(whole) + len(on_tables)
    if config.record and n_done < n_tasks:  # a part takes no recorded result's place
        raise postpone(journal, n_done, n_tasks)
    if not records:
        raise UserError("--minutes must let one training end; got none. Give it more, or leave it out.")
    return conclude(
        COMMAND,
        config,
        stem,
        journal,
        records,
        data=data,
        protocol=describe_protocol(config),
        summarise=partial(summarise, config=config, n_classes=images.n_classes),
        is_complete=n_done == n_tasks,
    )


def check_sizes(config: Config, images: ImageSet) -> None:
    """Raise :class:`UserError` if a setting asks for more training images than there are."""
    largest = max(config.make_plan().runs, key=lambda item: item.setting.n_images).setting
    if largest.n_images > images.n_train:
        raise UserError(
            f"--first, --further and --anchors must ask for at most {images.n_train} images of "
            f"{config.dataset}; got {largest}. Use fewer images."
        )


def make_tasks(
    config: Config, plan: Plan, images: ImageSet, journal: CheckpointedJournal
) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`train_once` for each training, by its key."""
    return {item.key: (config, images, item, journal.folder) for item in plan.runs}


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    noise = ", ".join(f"{100 * share:g}" for share in config.noise)
    looked = ", ".join(map(str, config.table_epochs))
    splits = f"{1 - config.test_size:.0%} and {config.test_size:.0%}"
    layers = "x".join(map(str, config.hidden_layer_sizes))
    return (
        "Images: PreAct ResNet-18; a setting is images/width/epochs, the width that of the first stage (64 "
        "in the paper). Each seed draws its own images; with one seed fewer images are the first of more, "
        "and all methods of a setting have the same images, initial weights and orders of the rows. SGD with "
        f"momentum {MOMENTUM:g}, batches of {config.batch_size}, learning rate {config.lr:g}, divided by ten "
        f"after half and three quarters of the epochs, weight decay {config.weight_decay:g} for ERM and "
        f"mixup alike. {describe_inputs(config)} Mixup: alpha = 1, pairs from the batch, one λ a batch, but "
        "where a name says otherwise. *Train* is the error on the training images, neither cut, flipped nor "
        f"mixed, the median of the last {config.last_epochs} epochs; *test* is that of all test images after "
        "the last epoch, *gap* their difference. Means over "
        f"{config.count_repeats()} seeds with Student's 95 % intervals, differences paired by seed; nothing "
        "is chosen by the outcome. *90 % of the way*: the epoch, of those looked at, from which the error of "
        f"{config.watched_rows} test images has come nine tenths of the way from chance to its last value. "
        f"Tables: {noise} % of the training labels replaced by draws from all classes, hidden layers "
        f"{layers}, Adam with learning rate {config.table_lr:g}, batch {config.table_batch_size}, no early "
        f"stopping; one training is looked at after {looked} epochs; {config.count_table_repeats()} random "
        f"splits of {splits} a table, intervals of the corrected resampled t-test (Nadeau and Bengio 2003); "
        "training errors are against the labels trained on. Curves: a parabola by least squares over "
        "log10(training error in % + 0.1), every point with equal weight; the band and the intervals are of "
        f"{config.n_resamples} resamples of settings (of tables: all points of a table together) and of "
        f"their seeds. *Memorised*: ERM's training error is at most {MEMORISED:g} %. The rule by which "
        "`cifar` chose its `cpu` preset: the setting with most images, of these the cheapest by epochs x "
        "width, at which ERM has memorised, mean of all its seeds, whatever mixup does there. Points of one "
        "figure share images and seeds, so the intervals are of these seeds and test images only."
    )


COMMAND = Command(
    name="regimes",
    order=4,
    paper="sections 2, 3.1 and 5, Figure 3(b)",
    claim="when mixup pays: its gain over ERM's training error, by images, width, epochs and alpha",
    presets=PRESETS,
    run=run,
    tabulate=tabulate,
    draw=draw_map,
    claims=CLAIMS,
    times={"smoke": "seconds"},
    note=(
        "The paper's networks are four to eight times as wide and see all 50,000 images for 200 epochs: "
        "signs and orders may be compared with it, sizes not."
    ),
)
