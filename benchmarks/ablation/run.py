"""Claim: which of mixup's design choices matter, on tables and small images: layers, partners, k, λ.

In the paper: Table 5, the ablation on CIFAR-10 with PreAct ResNet-18 and 200 epochs (section 3.8).
Here the same choices, and relatives of mixup, at the scale of a CPU.

    python -m benchmarks ablation                  scikit-learn's tables, its digits as images
    python -m benchmarks ablation --data-dir DIR   and UCI's tables of at most 5,000 rows;
                                                   CIFAR-10 in the place of the digits

Every row has the same splits, seeds, net, optimizer and budget; one choice at a time is changed from
mixup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.ablation.methods import BASELINE, PUBLISHED, STANDARD, Method, make_methods
from benchmarks.ablation.summary import compare_mixup, draw_changes, summarise, tabulate
from benchmarks.data.small_images import scale_images
from benchmarks.data.tables import Table
from benchmarks.data.tables_and_images import Split, choose_names, holds_images, load_data
from benchmarks.harness.claims import Claim
from benchmarks.harness.command import Command
from benchmarks.harness.experiment import run_experiment
from benchmarks.harness.fitting import compute_scores, derive_seed, make_net, measure_time
from benchmarks.harness.rules import Alpha, Count, check_known
from benchmarks.image_training.tables_and_images import TablesAndImagesConfig, make_split_tasks
from sk_mixup import MixupClassifier, fit_stacked

__all__ = ["COMMAND", "Config", "run"]


@dataclass(frozen=True, kw_only=True)
class Config(TablesAndImagesConfig):
    """Options of the ablation."""

    methods: tuple[str, ...] = ()
    """Rows to run beside ERM, such as "k = 3"; none for all."""

    table_alpha: Alpha = 0.2
    """Mixup's alpha on tables, where a row names no other; the estimator's default."""

    image_alpha: Alpha = 1.0
    """Mixup's alpha on images, where a row names no other; the paper's on CIFAR."""

    patience: Count = 20
    """Epochs without a better validation loss before a fit on a table stops."""

    batch_size_large: Count = 128
    """Batch size on large tables."""

    large_rows: Count = 2000
    """Rows from which a table is large."""

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        for method in self.methods:
            check_known("--methods", method, self._make_all(is_image=True) | self._make_all(is_image=False))

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
        other = "tables" if is_image else "images"
        return {name: method for name, method in methods.items() if method.only_for != other}

    def make_table_options(self, table: Table) -> dict[str, Any]:
        """Return how long a net is trained on a table, and in what batches."""
        size = self.batch_size_large if len(table.X) >= self.large_rows else self.batch_size
        return {"n_iter_no_change": self.patience, "batch_size": size}


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
        methods=(
            "mixup",
            "k = 3",
            "10 neighbours",
            "hidden layer 1",
            "ERM, smoothing 0.1",
            "feature swap by information",
            "table mixup",
            "CutMix",
        ),
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
    """Measure, print tables and claims, and write the results."""
    return run_experiment(
        COMMAND,
        config,
        names=choose_names(config.datasets, config.data_dir, download=config.download),
        worker=fit_methods,
        make_tasks=partial(make_tasks, config),
        summarise=partial(summarise, test_ratio=config.test_ratio),
        protocol=describe_protocol(config),
        load=load_data,
    )


def make_tasks(config: Config, tables: list[Table]) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`fit_methods`: on tables all rows at once, on images one."""
    return make_split_tasks(
        config, tables, lambda table: list(config.make_methods(is_image=holds_images(table)))
    )


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
        "the inputs; neighbours are Euclidean. On tables logits are divided, ERM's too, by a temperature "
        "that is fitted to the held-out rows. Errors are compared by the difference from ERM, in points; "
        "NLL (nats, probabilities clipped at 1e-12) by its change in per cent of ERM's. Over tables: mean "
        "and 95 % t-interval of the tables' means, and the mean rank among the rows (1 is best). For one set "
        "of data: paired by split, intervals of the corrected resampled t-test (Nadeau and Bengio 2003), on "
        "CIFAR-10, whose repeats share no row, of the plain one. Of so many intervals one in twenty excludes "
        "0 by chance."
    )


PLACE = "section 3.8, Table 5"
# What the paper says, its figure, and the rows that mixup is set beside.
CLAIMS = (
    (
        "Mixing inputs and labels of random pairs beats ERM",
        " → ".join(f"{PUBLISHED[name][0]:.2f}" for name in (BASELINE, STANDARD)) + " %",
        (BASELINE,),
    ),
    (
        "Pairs of all classes gain more than pairs of one class, as in SMOTE",
        "SMOTE does not gain noticeably",
        ("same class", "200 of the same class", "10 of the same class"),
    ),
    (
        "Random pairs gain more than pairs of near neighbours",
        "random pairs of all classes gain most",
        ("200 neighbours", "10 neighbours"),
    ),
    (
        "Mixup gains more than label smoothing or noise on the inputs",
        "these two gain little",
        tuple(f"{name} {value:g}" for name in ("ERM, smoothing", "noise") for value in (0.05, 0.1, 0.2)),
    ),
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
    draw=draw_changes,
    claims=tuple(
        Claim(text, PLACE, paper, partial(compare_mixup, others=others)) for text, paper, others in CLAIMS
    ),
    note=(
        "Table 5 is of PreAct ResNet-18 on all of CIFAR-10 for 200 epochs, with weight decay 1e-4 / 5e-4; "
        "its figures stand beside rows of the same choice, not of the same scale. Of its rows those of ERM "
        "and of mixup (all classes, random pairs) are at hand. Rows that mix a hidden layer have mixup's "
        "alpha and λ, so that only the layer differs."
    ),
)
