"""Options that experiments on tables and small images share, and the tasks that follow from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from benchmarks.data.cifar_files import N_TEST, N_TRAIN
from benchmarks.data.small_images import IMAGE_TITLES, ConvNet
from benchmarks.data.tables import TABLE_TITLES, Table, TableConfig
from benchmarks.data.tables_and_images import Split, holds_images, take_part
from benchmarks.harness.command import UserError
from benchmarks.harness.fitting import derive_seed, split_rows
from benchmarks.harness.rules import Count, Known, Layers, NotNegative, Positive, Several, Share, Within

__all__ = ["TablesAndImagesConfig", "make_split_tasks"]

CIFAR10 = "cifar10"


@dataclass(frozen=True, kw_only=True)
class TablesAndImagesConfig(TableConfig):
    """Options of an experiment on tables and small images."""

    datasets: Annotated[tuple[str, ...], Known((*TABLE_TITLES, *IMAGE_TITLES))] = ()
    """Tables and images to use; none for those at hand (see the top of the benchmark's file)."""

    lr: Positive = 1e-3
    """Learning rate of Adam."""

    weight_decay: NotNegative = 1e-4
    """Weight decay; the paper's on CIFAR-10 is 1e-4, in Table 5 5e-4 too."""

    hidden_layer_sizes: Layers = (128, 128)
    """Units of the hidden layers on tables."""

    table_epochs: Count = 100
    """Most epochs on tables."""

    batch_size: Count = 32
    """Batch size on tables, small ones if there is another for large ones."""

    test_size: Share = 0.2
    """Share of a table's rows for testing, and of the digits."""

    widths: Layers = (16, 32, 64)
    """Channels of the net for images, one for each convolution of stride 2."""

    image_epochs: Count = 20
    """Epochs on images; the last one is scored."""

    image_batch_size: Several = 64
    """Batch size on images."""

    image_rows: Annotated[int, Within(10, N_TRAIN)] = 5000
    """Rows of CIFAR-10 for training, others in each repeat."""

    image_test_rows: Annotated[int, Within(10, N_TEST)] = 2000
    """Rows of CIFAR-10 for testing, others in each repeat."""

    seeds_tables: Several = 10
    """Repeats on each table, unless --seeds is given."""

    seeds_images: Several = 5
    """Repeats on images, unless --seeds is given."""

    def __post_init__(self) -> None:
        """Check the options that are here."""
        super().__post_init__()
        if (self.data_dir is None and not self.download) or (self.datasets and CIFAR10 not in self.datasets):
            return
        n_repeats = self.count_seeds(is_image=True)
        for option, n_rows, n_all in (
            ("--image-rows", self.image_rows, N_TRAIN),
            ("--image-test-rows", self.image_test_rows, N_TEST),
        ):
            if n_rows > n_all // n_repeats:
                raise UserError(
                    f"{option} must be at most {n_all // n_repeats}, as no two of {n_repeats} repeats "
                    f"(--seeds) share one of CIFAR-10's {n_all}; got {n_rows}. Lower it, or --seeds."
                )

    def count_seeds(self, *, is_image: bool) -> int:
        """Return the repeats on a set of data."""
        return self.n_seeds or (self.seeds_images if is_image else self.seeds_tables)

    def make_split(self, table: Table, repeat: int) -> Split:
        """Return the rows of one repeat: of CIFAR-10 a part of its own, otherwise a random split."""
        if table.name == CIFAR10:
            return take_part(table, repeat, self.image_rows, self.image_test_rows)
        return Split(table, *split_rows(table.y, self.test_size, derive_seed(table.name, repeat)))

    def make_options(self, table: Table) -> dict[str, Any]:
        """Return the classifier's options, but those of one method and one split."""
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
            **self.make_table_options(table),
        }

    def make_table_options(self, table: Table) -> dict[str, Any]:
        """Return how long a net is trained on a table, and in what batches."""
        return {"batch_size": self.batch_size, "early_stopping": False}


def make_split_tasks(
    config: TablesAndImagesConfig, tables: Sequence[Table], list_methods: Callable[[Table], Sequence[str]]
) -> dict[str, tuple[Any, ...]]:
    """Return configuration, split, methods and repeat of each task: on tables all methods, on images one."""
    tasks: dict[str, tuple[Any, ...]] = {}
    for table in tables:
        names, is_image = list_methods(table), holds_images(table)
        for repeat in range(config.count_seeds(is_image=is_image)):
            split = config.make_split(table, repeat)
            for group in [[name] for name in names] if is_image else [list(names)]:
                key = "/".join([table.name, str(repeat), *(group if is_image else [])])
                tasks[key] = (config, split, group, repeat)
    return tasks
