"""Claim: which of mixup's design choices matter, on tables and small images: layers, partners, k, λ.

In the paper: Table 5, the ablation on CIFAR-10 with PreAct ResNet-18 and 200 epochs (section 3.8).
Here the same choices, and relatives of mixup, at the scale of a CPU.

    python -m benchmarks ablation                  scikit-learn's tables, its digits as images
    python -m benchmarks ablation --data-dir DIR   and UCI's tables of at most 5,000 rows;
                                                   CIFAR-10 in the place of the digits

The cpu preset with ``--data-dir`` took 19 minutes on two cores.

Every row has the same splits, seeds, net, optimizer and budget; one choice at a time is changed from
mixup. The tables with n and 95 % intervals, and the published figures beside, are in
benchmarks/README.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.ablation.methods import BASELINE, Method, make_methods
from benchmarks.ablation.summary import describe_finding, draw_changes, summarise, tabulate
from benchmarks.data.cifar_files import N_TEST, N_TRAIN
from benchmarks.data.small_images import IMAGE_TITLES, ConvNet, scale_images
from benchmarks.data.tables import TABLE_TITLES, Table, check_names, needs_files
from benchmarks.data.tables_and_images import Split, choose_names, holds_images, load_data, take_part
from benchmarks.harness.command import BaseConfig, Command, check_range
from benchmarks.harness.experiment import run_experiment
from benchmarks.harness.fitting import compute_scores, derive_seed, make_net, measure_time, split_rows
from sk_mixup import MixupClassifier, fit_stacked

__all__ = ["COMMAND", "Config", "run"]


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the ablation."""

    datasets: tuple[str, ...] = ()
    """Tables and images to use; none for all at hand (of UCI's, those of at most 5,000 rows)."""

    methods: tuple[str, ...] = ()
    """Rows to run beside ERM, such as "k = 3"; none for all."""

    table_alpha: float = 0.2
    """Mixup's alpha on tables, where a row names no other; the estimator's default."""

    image_alpha: float = 1.0
    """Mixup's alpha on images, where a row names no other; the paper's on CIFAR."""

    lr: float = 1e-3
    """Learning rate of Adam."""

    weight_decay: float = 1e-4
    """Weight decay; Table 5 has 1e-4 and 5e-4."""

    hidden_layer_sizes: tuple[int, ...] = (128, 128)
    """Units of the hidden layers on tables."""

    table_epochs: int = 100
    """Most epochs on tables."""

    patience: int = 20
    """Epochs without a better validation loss before a fit on a table stops."""

    batch_size: int = 32
    """Batch size on small tables."""

    batch_size_large: int = 128
    """Batch size on large tables."""

    large_rows: int = 2000
    """Rows from which a table is large."""

    test_size: float = 0.2
    """Share of a table's rows for testing, and of the digits."""

    widths: tuple[int, ...] = (16, 32, 64)
    """Channels of the net for images, one for each convolution of stride 2."""

    image_epochs: int = 20
    """Epochs on images."""

    image_batch_size: int = 64
    """Batch size on images."""

    image_rows: int = 5000
    """Rows of CIFAR-10 for training, others in each repeat."""

    image_test_rows: int = 2000
    """Rows of CIFAR-10 for testing, others in each repeat."""

    seeds_tables: int = 10
    """Repeats on each table, unless --seeds is given."""

    seeds_images: int = 5
    """Repeats on images, unless --seeds is given."""

    def reads_files(self) -> bool:
        """Return whether a set of data comes from files."""
        return needs_files(self.datasets)

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        check_names(self.datasets, (*TABLE_TITLES, *IMAGE_TITLES))
        check_names(self.methods, tuple(self._make_all(is_image=True)), "--methods")
        for name in ("table_alpha", "image_alpha", "lr"):
            check_range(f"--{name.replace('_', '-')}", getattr(self, name), 1e-6)
        check_range("--weight-decay", self.weight_decay, 0)
        check_range("--test-size", self.test_size, 0.05, 0.5)
        check_range("--seeds-tables", self.seeds_tables, 2)
        check_range("--seeds-images", self.seeds_images, 2)
        n_repeats = self.count_seeds(is_image=True)
        check_range("--image-rows", self.image_rows, 10, N_TRAIN // n_repeats)
        check_range("--image-test-rows", self.image_test_rows, 10, N_TEST // n_repeats)

    def count_seeds(self, *, is_image: bool) -> int:
        """Return the repeats on a set of data."""
        return self.n_seeds or (self.seeds_images if is_image else self.seeds_tables)

    def make_methods(self, *, is_image: bool) -> dict[str, Method]:
        """Return the rows asked for, by name; ERM is always among them."""
        return {
            name: method
            for name, method in self._make_all(is_image=is_image).items()
            if not self.methods or name in (BASELINE, *self.methods)
        }

    def _make_all(self, *, is_image: bool) -> dict[str, Method]:
        step = 2  # a linear layer or a convolution, then its ReLU
        first = 1 if is_image else 2  # a table's net begins with nn.Flatten
        n_layers = len(self.widths if is_image else self.hidden_layer_sizes)
        layers = [f"layers.{first + step * number}" for number in range(n_layers)]
        methods = make_methods(self.image_alpha if is_image else self.table_alpha, layers)
        return {name: method for name, method in methods.items() if is_image or not method.is_for_images}

    def make_split(self, table: Table, repeat: int) -> Split:
        """Return the rows of one repeat: of CIFAR-10 a part of its own, otherwise a random split."""
        if table.name == "cifar10":
            return take_part(table, repeat, self.image_rows, self.image_test_rows)
        return Split(table, *split_rows(table.y, self.test_size, derive_seed(table.name, repeat)))

    def make_options(self, table: Table) -> dict[str, Any]:
        """Return the classifier's options, but those of one row and one split."""
        shared = {
            "lr": self.lr,
            "optimizer__weight_decay": self.weight_decay,
            "device": self.device,
            "classes": np.unique(table.y).tolist(),
        }
        if holds_images(table):
            return shared | {
                "module": ConvNet,
                "module__shape": table.X.shape[1:],
                "module__widths": self.widths,
                "max_epochs": self.image_epochs,
                "batch_size": self.image_batch_size,
                "early_stopping": False,
            }
        return shared | {
            "module__hidden_layer_sizes": self.hidden_layer_sizes,
            "max_epochs": self.table_epochs,
            "n_iter_no_change": self.patience,
            "batch_size": self.batch_size_large if len(table.X) >= self.large_rows else self.batch_size,
        }


PRESETS = {
    "cpu": Config(),
    "paper": Config(
        seeds_tables=50,
        table_epochs=200,
        widths=(64, 128, 256),
        image_epochs=200,
        image_rows=10_000,
    ),
    "gpu": Config(device="cuda", n_jobs=2, image_rows=10_000, widths=(64, 128, 256), image_epochs=100),
    "smoke": Config(
        datasets=("iris", "digit_images"),
        methods=("mixup", "k = 3", "10 neighbours", "hidden layer 1", "ERM, smoothing 0.1", "CutMix"),
        n_seeds=2,
        n_jobs=1,
        hidden_layer_sizes=(16,),
        table_epochs=3,
        patience=2,
        widths=(4,),
        image_epochs=1,
        image_batch_size=128,
    ),
}


def run(config: Config) -> int:
    """Measure, print tables, a plot's path and one sentence, and write the results."""
    return run_experiment(
        COMMAND,
        config,
        names=choose_names(config.datasets, config.data_dir, download=config.download),
        worker=fit_methods,
        make_tasks=partial(make_tasks, config),
        summarise=partial(summarise, test_ratio=config.test_size / (1 - config.test_size)),
        describe_finding=describe_finding,
        draw=draw_changes,
        protocol=describe_protocol(config),
        load=load_data,
    )


def make_tasks(config: Config, tables: list[Table]) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`fit_methods`: on tables all rows at once, on images one."""
    tasks = {}
    for table in tables:
        names = list(config.make_methods(is_image=holds_images(table)))
        for repeat in range(config.count_seeds(is_image=holds_images(table))):
            split = config.make_split(table, repeat)
            for group in [[name] for name in names] if holds_images(table) else [names]:
                key = "/".join([table.name, str(repeat), *(group if holds_images(table) else [])])
                tasks[key] = (config, split, group, repeat)
    return tasks


def fit_methods(config: Config, split: Split, names: Sequence[str], repeat: int) -> dict[str, Any]:
    """Fit rows of the ablation to one split and score them on its test rows.

    ``records``: error in [0, 1], NLL in nats, an equal share of the seconds.
    """
    table, train, test = split.table, split.train, split.test
    methods = config.make_methods(is_image=holds_images(table))
    options = config.make_options(table) | {"random_state": derive_seed(table.name, repeat)}
    X = scale_images(table.X, train) if holds_images(table) else table.X
    make = partial(make_net, X) if not holds_images(table) else MixupClassifier
    jobs = [(make(**options | methods[name].options), X[train], table.y[train]) for name in names]
    with measure_time() as watch:
        if holds_images(table):  # convolutions are not faster as one on a CPU
            for net, rows, labels in jobs:
                net.fit(rows, labels)
        else:
            fit_stacked(jobs)
    records = []
    for name, (net, *_) in zip(names, jobs, strict=True):
        scores = compute_scores(net, X[test], table.y[test])
        record = {
            "dataset": table.name,
            "group": methods[name].group,
            "method": name,
            "repeat": repeat,
            "error": round(scores.error, 5),
            "nll": round(scores.nll, 5),
            "seconds": round(watch.seconds / len(names), 2),
        }
        records.append(record)
    return {"records": records}


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    layers, widths = ("x".join(map(str, sizes)) for sizes in (config.hidden_layer_sizes, config.widths))
    return (
        "Every row has the same splits, seeds and net; one choice is changed from *mixup*: pairs from the "
        "mini-batch, one λ per example, mixed at the input. Adam with learning rate "
        f"{config.lr:g} and weight decay {config.weight_decay:g}. Tables: hidden layers {layers}, "
        f"standardised inputs, alpha {config.table_alpha:g}, early stopping on a tenth of the training rows "
        f"(patience {config.patience}, at most {config.table_epochs} epochs), batch {config.batch_size}, "
        f"{config.batch_size_large} from {config.large_rows} rows on, random "
        f"{1 - config.test_size:.0%}/{config.test_size:.0%} splits. Images: convolutions of stride 2 with "
        f"{widths} channels and a linear layer, alpha {config.image_alpha:g}, {config.image_epochs} epochs, "
        f"batch {config.image_batch_size}, the last epoch scored; of CIFAR-10 {config.image_rows} training "
        f"and {config.image_test_rows} test rows, of which no two repeats share one; without --data-dir "
        "scikit-learn's digits stand in for CIFAR-10, split like a table. Noise is in standard deviations of "
        "the inputs; neighbours are Euclidean. Errors are compared by the difference from ERM, in points; "
        "NLL (nats, probabilities clipped at 1e-12) by its change in per cent of ERM's. Over tables: mean "
        "and 95 % t-interval of the tables' means, and the mean rank among the rows (1 is best). For one set "
        "of data: paired by split, intervals of the corrected resampled t-test (Nadeau and Bengio 2003), on "
        "CIFAR-10, whose repeats share no row, of the plain one. Of so many intervals one in twenty excludes "
        "0 by chance."
    )


COMMAND = Command(
    name="ablation",
    order=11,
    paper="Table 5",
    claim="mixup's choices one at a time: λ, k, partners, layers, labels, noise and relatives",
    presets=PRESETS,
    times={"cpu": "19 minutes on two cores", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    note=(
        "Table 5 is of PreAct ResNet-18 on all of CIFAR-10 for 200 epochs, with weight decay 1e-4 / 5e-4; "
        "its figures stand beside rows of the same choice, not of the same scale. Of its rows those of ERM "
        "and of mixup (all classes, random pairs) are at hand. Rows that mix a hidden layer have mixup's "
        "alpha and λ, so that only the layer differs."
    ),
)
