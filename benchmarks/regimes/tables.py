"""Trainings on tables with noisy labels, many as one; each is looked at after several epochs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.corrupted_tables.methods import corrupt_labels
from benchmarks.data.tables import Table
from benchmarks.harness.fitting import derive_seed, make_net, measure_time, split_rows
from benchmarks.image_training.augment_and_schedule import HeldOutScores, read_scores
from benchmarks.regimes.config import Config
from benchmarks.regimes.design import BASELINE, name_alpha
from sk_mixup import MixupClassifier, fit_stacked

__all__ = ["fit_methods", "make_table_tasks"]

SCORES = ("train_error", "test_error", "test_nll")


def make_table_tasks(config: Config, tables: Sequence[Table]) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`fit_methods` for each table, share of noise and repeat."""
    # By content, so that a record is of this table whatever others are planned.
    names = {table.name: f"{table.name}/{table.describe()['sha256'][:8]}" for table in tables}
    return {
        f"tables/{names[table.name]}/{noise:g}/{repeat}": (config, table, noise, repeat)
        for table in tables
        for noise in config.noise
        for repeat in range(config.count_table_repeats())
    }


def fit_methods(config: Config, table: Table, noise: float, repeats: Sequence[int]) -> dict[str, Any]:
    """Fit ERM and mixup to several splits with noisy labels, all nets as one.

    ``records``, one for each split and method: training error in per cent against the labels that are
    trained on, test error in per cent and NLL in nats, after each of ``table_epochs``.
    """
    alphas = {BASELINE: 0.0} | {name_alpha(alpha): alpha for alpha in config.table_alphas}
    jobs = {
        (repeat, method): _prepare(config, table, noise, repeat, alpha)
        for repeat in repeats
        for method, alpha in alphas.items()
    }
    with measure_time() as watch:
        fit_stacked(jobs.values())
    seconds = round(watch.seconds / len(jobs), 3)
    shared = {"part": "tables", "dataset": table.name, "noise": noise}
    return {
        "records": [
            {**shared, "method": method, "repeat": repeat, **_describe(net), "seconds": seconds}
            for (repeat, method), (net, *_) in jobs.items()
        ]
    }


def _prepare(
    config: Config, table: Table, noise: float, repeat: int, alpha: float
) -> tuple[MixupClassifier, np.ndarray, np.ndarray]:
    """Return an untrained net that watches itself, with standardised rows and noisy labels."""
    seed = derive_seed(table.name, repeat)
    train, test = split_rows(table.y, config.test_size, seed)
    scaler = make_net(table.X)[:-1].fit(table.X[train])
    X, X_test = (scaler.transform(table.X[rows]).astype(np.float32) for rows in (train, test))
    classes, codes = np.unique(table.y, return_inverse=True)
    y = corrupt_labels(codes[train], noise, seed)
    parts = {"train": (X, y), "test": (X_test, codes[test])}
    net = MixupClassifier(
        module__hidden_layer_sizes=config.hidden_layer_sizes,
        alpha=alpha,
        early_stopping=False,
        max_epochs=max(config.table_epochs),
        lr=config.table_lr,
        batch_size=config.table_batch_size,
        device=config.device,
        classes=list(range(len(classes))),
        callbacks=[HeldOutScores(parts, epochs=config.table_epochs)],
        random_state=seed,
        verbose=0,
    )
    return net, X, y


def _describe(net: MixupClassifier) -> dict[str, list[float]]:
    scales = {name: 100 if name.endswith("error") else 1 for name in SCORES}
    return {
        name: [round(scale * value, 4) for value in read_scores(net, name)] for name, scale in scales.items()
    }
