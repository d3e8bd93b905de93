"""The tables and images of ``ablation``, and how they are parted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.data.cifar_files import N_TEST, N_TRAIN
from benchmarks.data.small_images import IMAGE_TITLES, load_images
from benchmarks.data.tables import Table, choose_smaller_tables, load_tables
from benchmarks.harness.fitting import derive_seed

__all__ = ["Split", "choose_names", "holds_images", "load_data", "take_part"]


@dataclass(frozen=True)
class Split:
    """Rows to learn from and rows to score."""

    table: Table  # The rows of one repeat
    train: np.ndarray  # Row numbers
    test: np.ndarray


def holds_images(table: Table) -> bool:
    """Return whether the rows are images."""
    return table.X.ndim == 4


def choose_names(names: Sequence[str], data_dir: Path | None, *, download: bool) -> tuple[str, ...]:
    """Return the data asked for; without names the smaller tables and one set of images."""
    tables = choose_smaller_tables(data_dir, download=download)
    return tuple(names) or (*tables, "digit_images" if data_dir is None else "cifar10")


def load_data(names: Sequence[str], *, data_dir: Path | None, download: bool) -> list[Table]:
    """Load tables and images; see ``tables.load_tables`` and ``images.load_images``."""
    names_of_tables = [name for name in names if name not in IMAGE_TITLES]
    # Without names load_tables would load all.
    tables = load_tables(names_of_tables, data_dir=data_dir, download=download) if names_of_tables else []
    return tables + [load_images(name, data_dir) for name in names if name in IMAGE_TITLES]


def take_part(table: Table, repeat: int, n_train: int, n_test: int) -> Split:
    """Return rows of CIFAR-10 that no other repeat has.

    The table is one of its own, so that a task carries no more than its rows.
    """
    # One permutation for all repeats, so that their parts share no row.
    generator = np.random.default_rng(derive_seed(table.name, 0))
    train, test = generator.permutation(N_TRAIN), N_TRAIN + generator.permutation(N_TEST)
    rows = np.concatenate([part[repeat * n :][:n] for part, n in ((train, n_train), (test, n_test))])
    part = Table(table.name, table.X[rows], table.y[rows], table.source)
    return Split(part, np.arange(n_train), np.arange(n_train, n_train + n_test))
