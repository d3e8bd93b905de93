"""Claim: with few labels, unlabelled rows lower the test error of a small net.

Not in the mixup paper; the methods are those of Verma et al. 2019 (arXiv 1903.03825) and
Berthelot et al. 2019 (arXiv 1905.02249), which report on images only.

    python -m benchmarks semi                digits with 4, 10 and 25 labels a class

Plain training (ERM) and mixup on the labelled rows stand against interpolation consistency
training and MixMatch (``SemiSupervisedMixupClassifier``) and against scikit-learn's
``SelfTrainingClassifier``, around the same net as ERM's, and ``LabelSpreading``. All see the
same labelled rows and are scored on the same test rows. Each method has one option, of which it
may choose among as many values as every other, by cross-validation on the labelled rows alone:
nobody with 4 labels a class has a validation set. The values were fixed beforehand.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np

from benchmarks.data.tables import Table, TableConfig, TableNames, load_tables
from benchmarks.harness.command import Command, UserError
from benchmarks.harness.experiment import run_experiment
from benchmarks.harness.fitting import compute_scores, derive_seed, measure_time, split_rows
from benchmarks.harness.rules import (
    NOT_EMPTY,
    Alpha,
    Count,
    Known,
    Layers,
    NotNegative,
    Several,
    Within,
    check_range,
)
from benchmarks.semi.methods import METHODS, PartlyLabeled, choose_fit, hide_labels
from benchmarks.semi.summary import draw_errors, summarise, tabulate

__all__ = ["COMMAND", "Config", "run"]


@dataclass(frozen=True, kw_only=True)
class Config(TableConfig):
    """Options of the comparison of methods that learn from few labels."""

    datasets: TableNames = ("digits",)
    """Tables to use."""

    methods: Annotated[tuple[str, ...], Known(METHODS)] = tuple(METHODS)
    """Methods to compare; ERM is always among them."""

    n_labels: Annotated[tuple[Count, ...], NOT_EMPTY] = (4, 10, 25)
    """Labels a class; the other training rows are unlabelled."""

    erm_epochs: Annotated[tuple[Count, ...], NOT_EMPTY] = (50, 200)
    """Numbers of epochs that ERM chooses from."""

    alphas: Annotated[tuple[Alpha, ...], NOT_EMPTY] = (0.1, 1.0)
    """Values of alpha that mixup chooses from."""

    unlabeled_weights: Annotated[tuple[NotNegative, ...], NOT_EMPTY] = (3.0, 30.0)
    """Weights of the unlabelled loss that ICT and MixMatch choose from."""

    thresholds: Annotated[tuple[float, ...], Within(0, 0.999), NOT_EMPTY] = (0.75, 0.95)
    """Probabilities from which self-training takes a label; 0.75 is scikit-learn's default."""

    n_neighbors: Annotated[tuple[Count, ...], NOT_EMPTY] = (3, 7)
    """Neighbours in the graph of label spreading; 7 is scikit-learn's default."""

    n_folds: Several = 2
    """Folds of the choice, over the labelled rows."""

    supervised_epochs: Count = 100
    """Epochs of mixup."""

    self_training_epochs: Count = 50
    """Epochs of each net of self-training, which has more rows in each round."""

    semi_epochs: Count = 60
    """Epochs of ICT and MixMatch."""

    n_rounds: Count = 5
    """The most rounds of self-training."""

    hidden_layer_sizes: Layers = (128, 128)
    """Units of the hidden layers of every net."""

    seeds_each: Several = 10
    """Repeats, unless --seeds is given."""

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        for n_labels in self.n_labels:
            check_range("--n-labels", n_labels, self.n_folds)
        grids = {len(values) for values in self.list_grids()}
        if len(grids) != 1:
            raise UserError(
                "--erm-epochs, --alphas, --unlabeled-weights, --thresholds and --n-neighbors must hold as "
                "many values each, so that the choice is fair; got "
                f"{[len(grid) for grid in self.list_grids()]}."
            )

    def list_grids(self) -> tuple[tuple[float, ...], ...]:
        """Return the values that the methods choose from."""
        return self.erm_epochs, self.alphas, self.unlabeled_weights, self.thresholds, self.n_neighbors


PRESETS = {
    "cpu": Config(),
    "paper": Config(
        seeds_each=50,
        semi_epochs=200,
        erm_epochs=(50, 100, 200),
        alphas=(0.1, 0.4, 1.0),
        unlabeled_weights=(3.0, 10.0, 30.0),
        thresholds=(0.75, 0.9, 0.99),
        n_neighbors=(3, 7, 15),
    ),
    "gpu": Config(device="cuda", n_jobs=4),
    "smoke": Config(
        datasets=("iris",),
        n_seeds=2,
        n_jobs=1,
        n_labels=(4,),
        erm_epochs=(3,),
        alphas=(0.4,),
        unlabeled_weights=(10.0,),
        thresholds=(0.75,),
        n_neighbors=(7,),
        supervised_epochs=3,
        self_training_epochs=3,
        semi_epochs=2,
        n_rounds=2,
        hidden_layer_sizes=(16,),
    ),
}


def run(config: Config) -> int:
    """Measure, print tables and write the results."""
    return run_experiment(
        COMMAND,
        config,
        names=config.datasets,
        worker=fit_once,
        make_tasks=partial(make_tasks, config),
        summarise=partial(summarise, test_ratio=config.test_ratio),
        protocol=describe_protocol(config),
        load=load_tables,
    )


def make_tasks(config: Config, tables: list[Table]) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`fit_once` for each table, number of labels, method and repeat."""
    methods = [method for method in METHODS if method in {"erm", *config.methods}]
    return {
        f"{table.name}/{n_labels}/{method}/{repeat}": (config, table, n_labels, method, repeat)
        for table in tables
        for n_labels in config.n_labels
        for method in methods
        for repeat in range(config.n_seeds or config.seeds_each)
    }


def fit_once(config: Config, table: Table, n_labels: int, method: str, repeat: int) -> dict[str, Any]:
    """Choose one method's option, fit it to one split, and score it on the test rows.

    What was chosen, test error in [0, 1], test NLL in nats, seconds of choice and fit.
    """
    seed = derive_seed(table.name, repeat)
    y = np.unique(table.y, return_inverse=True)[1]  # codes, for -1 is no label
    train, test = split_rows(y, config.test_size, seed)
    data = PartlyLabeled.make(table.X[train], hide_labels(y[train], n_labels, seed))
    with measure_time() as watch:
        net, chosen = choose_fit(METHODS[method], config, data, seed)
    scores = compute_scores(net, data.scale(table.X[test]), y[test])
    return {
        "dataset": table.name,
        "n_labels": n_labels,
        "method": method,
        "repeat": repeat,
        "seed": seed,
        "n_labeled": int(data.labeled.sum()),
        "n_train": len(train),
        "n_test": len(test),
        "chosen": chosen,
        "error": round(scores.error, 6),
        "nll": round(scores.nll, 6),
        "seconds": round(watch.seconds, 3),
    }


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    choices = "; ".join(
        f"{method.title}: {method.option} in {', '.join(f'{value:g}' for value in method.get_values(config))}"
        for name, method in METHODS.items()
        if name in {"erm", *config.methods}
    )
    layers = "x".join(map(str, config.hidden_layer_sizes))
    return (
        f"Random {1 - config.test_size:.0%}/{config.test_size:.0%} splits; of the training rows some a class "
        "are labelled, the others unlabelled. Inputs standardised by all training rows. Each method chooses "
        f"one option by {config.n_folds}-fold cross-validation on the labelled rows, for the best "
        f"likelihood, with all unlabelled rows in each training part: {choices}. Nets have hidden layers "
        f"{layers} and Adam with learning rate 0.001; {config.supervised_epochs} epochs for mixup, "
        f"{config.semi_epochs} over the unlabelled rows for ICT and MixMatch. Self-training: at most "
        f"{config.n_rounds} rounds around the plain net of {config.self_training_epochs} epochs. Label "
        "spreading: graph of nearest neighbours. All methods on the same splits and labels, with the same "
        "seeds. Means with 95 % intervals of the corrected resampled t-test (Nadeau and Bengio 2003), "
        "differences from ERM paired. NLL in nats, probabilities clipped at 1e-12."
    )


COMMAND = Command(
    name="semi",
    order=16,
    paper="none; semi-supervised learning by mixing (arXiv 1903.03825, 1905.02249)",
    claim="few labels: ERM and mixup against ICT, MixMatch, self-training and label spreading",
    presets=PRESETS,
    times={"cpu": "11 minutes on two busy cores", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    draw=draw_errors,
    note=(
        "The defaults of `SemiSupervisedMixupClassifier` (noise, rise of the weight, decay) were set on "
        "other splits of digits and on wine, iris, breast cancer and made-up tables; scikit-learn's were not."
    ),
)
