"""Claim: between training examples, mixup misses less often and has smaller gradients than plain training.

In the paper: Figure 2, of two nets trained on CIFAR-10, one with ERM and one with mixup.

    python -m benchmarks between                  scikit-learn's digits
    python -m benchmarks between --data-dir DIR   and 5,000 images of CIFAR-10, if they are in DIR

``sk_mixup.inspection.between`` measures both on the segments between random pairs of training
rows, the same for every net of a repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from numpy.typing import NDArray

from benchmarks.between.summary import (
    BASELINE,
    compare_gradients,
    compare_misses,
    draw_curves,
    summarise,
    tabulate,
)
from benchmarks.data.cifar_files import BATCHES, CIFAR_SETS, FOLDER
from benchmarks.data.small_images import scale_images
from benchmarks.data.tables import Table, refuse_empty
from benchmarks.data.tables_and_images import Split, holds_images, load_data
from benchmarks.harness.claims import Claim
from benchmarks.harness.command import Command, UserError
from benchmarks.harness.experiment import run_experiment
from benchmarks.harness.fitting import compute_scores, derive_seed, make_net, measure_time
from benchmarks.harness.rules import NOT_EMPTY, Alpha, Count, Within
from benchmarks.image_training.tables_and_images import TablesAndImagesConfig, make_split_tasks
from sk_mixup import MixupClassifier, fit_stacked
from sk_mixup.inspection.between import between_curves

__all__ = ["COMMAND", "Config", "run"]

OUTPUTS = {"logit_gradient": "logits", "proba_gradient": "probabilities"}
N_DIGITS = 5


@dataclass(frozen=True, kw_only=True)
class Config(TablesAndImagesConfig):
    """Options of the comparison between examples."""

    alphas: Annotated[tuple[Alpha, ...], NOT_EMPTY] = (0.2, 1.0)
    """Mixup's values of alpha; ERM stands beside them."""

    n_pairs: Count = 1000
    """Random pairs of training rows."""

    n_points: Annotated[int, Within(3)] = 21
    """Values of λ on each segment, from 0 to 1; an odd number, so that 1/2 is among them."""

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        if self.n_points % 2 == 0:
            raise UserError(f"--n-points must be odd; got {self.n_points}. Then λ = 1/2 is among them.")

    def list_alphas(self) -> dict[str, float]:
        """Return alpha of each method by its name: ERM first, then from weak to strong mixing."""
        return {BASELINE: 0.0} | {f"mixup {alpha:g}": alpha for alpha in sorted(self.alphas)}


PRESETS = {
    "cpu": Config(),
    "paper": Config(image_rows=10_000, widths=(64, 128, 256), image_epochs=200, table_epochs=200),
    "gpu": Config(device="cuda", n_jobs=2, image_rows=10_000, widths=(64, 128, 256), image_epochs=100),
    "smoke": Config(
        datasets=("digits",),
        n_seeds=2,
        n_jobs=1,
        n_pairs=40,
        n_points=5,
        hidden_layer_sizes=(16,),
        table_epochs=3,
    ),
}


def run(config: Config) -> int:
    """Measure, print tables and claims, and write the results."""
    return run_experiment(
        COMMAND,
        config,
        names=choose_names(config.datasets, config.data_dir),
        worker=fit_methods,
        make_tasks=partial(make_tasks, config),
        summarise=partial(summarise, test_ratio=config.test_ratio),
        protocol=describe_protocol(config),
        load=load_data,
    )


def choose_names(names: Sequence[str], data_dir: Path | None) -> tuple[str, ...]:
    """Return the data asked for; without names the digits and, where its files are, CIFAR-10."""
    folders = [] if data_dir is None else [data_dir / FOLDER, data_dir]
    names_at_hand = (*BATCHES, CIFAR_SETS["cifar10"].archive)
    is_at_hand = any((folder / name).is_file() for folder in folders for name in names_at_hand)
    if not names and not is_at_hand:
        refuse_empty(data_dir, ["cifar10"])
    return tuple(names) or ("digits", *(["cifar10"] if is_at_hand else []))


def make_tasks(config: Config, tables: list[Table]) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`fit_methods`: on tables all methods at once, on images one."""
    return make_split_tasks(config, tables, lambda _: list(config.list_alphas()))


def fit_methods(config: Config, split: Split, names: Sequence[str], repeat: int) -> dict[str, Any]:
    """Fit methods to one split, score them on its test rows and measure them between training rows.

    ``records``: error in [0, 1], NLL in nats, the curves of :func:`measure_between`, and an equal share of
    the seconds of fitting and measuring.
    """
    table, train, test = split.table, split.train, split.test
    seed = derive_seed(table.name, repeat)
    alphas = config.list_alphas()
    records = []
    with measure_time() as watch:
        models = _fit_models(config, split, [alphas[name] for name in names], seed)
        X = scale_images(table.X, train) if holds_images(table) else table.X
        for name, model in zip(names, models, strict=True):
            scores = compute_scores(model, X[test], table.y[test])
            record = {
                "dataset": table.name,
                "method": name,
                "repeat": repeat,
                "error": round(scores.error, 5),
                "nll": round(scores.nll, 5),
                **measure_between(config, model, X[train], table.y[train], seed),
            }
            records.append(record)
    for record in records:
        record["seconds"] = round(watch.seconds / len(records), 2)
    return {"records": records}


def _fit_models(config: Config, split: Split, alphas: Sequence[float], seed: int) -> list[Any]:
    """Return a fitted net for each alpha; on tables it is the last step of a pipeline."""
    table, train = split.table, split.train
    options = config.make_options(table) | {"random_state": seed}
    if holds_images(table):  # convolutions are not faster as one on a CPU
        X = scale_images(table.X, train)
        return [MixupClassifier(alpha=alpha, **options).fit(X[train], table.y[train]) for alpha in alphas]
    models = [make_net(table.X, alpha=alpha, **options) for alpha in alphas]
    fit_stacked([(model, table.X[train], table.y[train]) for model in models])
    return models


def measure_between(
    config: Config, model: Any, X: NDArray[Any], y: NDArray[Any], seed: int
) -> dict[str, list[float]]:
    """Return the curves of one model over λ.

    ``lam``; ``miss``, in [0, 1]; ``logit_gradient`` and ``proba_gradient``, mean norms of the gradients of
    logits and of probabilities with respect to the scaled input.
    """
    net, rows = (model, X) if isinstance(model, MixupClassifier) else (model[-1], model[:-1].transform(X))
    measured = {
        name: between_curves(
            net,
            rows,
            y,
            n_pairs=config.n_pairs,
            n_points=config.n_points,
            gradients=True,
            output=output,
            random_state=seed,
        )
        for name, output in OUTPUTS.items()
    }
    first = measured["logit_gradient"]
    norms = {name: curves.gradient_norm for name, curves in measured.items()}
    return {
        name: [float(f"{value:.{N_DIGITS}g}") for value in curve]
        for name, curve in {"lam": first.lam, "miss": first.miss_rate, **norms}.items()
    }


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    layers, widths = ("x".join(map(str, sizes)) for sizes in (config.hidden_layer_sizes, config.widths))
    alphas = ", ".join(f"{alpha:g}" for alpha in config.alphas)
    return (
        f"{config.n_pairs} random pairs of training rows a repeat, the same for every net of it, at "
        f"{config.n_points} values of λ from 0 to 1. A miss is a prediction that is the label of neither "
        "row. The gradient norm is the Frobenius norm of the Jacobian of the logits, or of the "
        "probabilities, with respect to the input, which is scaled to mean 0 and deviation 1 (images: for "
        f"each channel). ERM is alpha 0, mixup alpha {alphas}; Adam with learning rate {config.lr:g} and "
        f"weight decay {config.weight_decay:g}, no early stopping. Tables: hidden layers {layers}, "
        f"{config.table_epochs} epochs, batch {config.batch_size}, random "
        f"{1 - config.test_size:.0%}/{config.test_size:.0%} splits. Images: convolutions of stride 2 with "
        f"{widths} channels and a linear layer, {config.image_epochs} epochs, batch "
        f"{config.image_batch_size}; of CIFAR-10 {config.image_rows} training and {config.image_test_rows} "
        "test rows, of which no two repeats share one. NLL in nats, probabilities clipped at 1e-12. Means "
        "with 95 % intervals, differences paired by repeat: of the corrected resampled t-test (Nadeau and "
        "Bengio 2003), on CIFAR-10 of the plain one."
    )


COMMAND = Command(
    name="between",
    order=2,
    paper="Figure 2",
    claim="misses and gradient norms between training examples, ERM against mixup",
    presets=PRESETS,
    times={"cpu": "9 minutes of CPU time with CIFAR-10, 2 without", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    draw=draw_curves,
    claims=(
        Claim(
            "Halfway between two examples mixup predicts neither label less often",
            "section 2, Figure 2a",
            "a picture",
            compare_misses,
        ),
        Claim(
            "Halfway between two examples the gradients are smaller with mixup",
            "section 2, Figure 2b",
            "a picture",
            compare_gradients,
        ),
    ),
    note=(
        "The paper does not say which output its gradient norm is of; here are those of the logits and of "
        "the probabilities. It shows curves, without figures that could stand beside."
    ),
)
