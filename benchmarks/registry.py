"""The benchmarks, in the order of the list and of the report; a new one adds a line here."""

from benchmarks import (
    ablation,
    adversarial,
    between,
    cifar,
    corrupted,
    corrupted_tables,
    defaults,
    gan,
    imagenet,
    regression,
    search,
    semi,
    speech,
    speed,
    toy,
    uci,
)

__all__ = ["BENCHMARKS"]

BENCHMARKS = (
    toy.COMMAND,
    between.COMMAND,
    corrupted_tables.COMMAND,
    cifar.COMMAND,
    corrupted.COMMAND,
    adversarial.COMMAND,
    imagenet.COMMAND,
    speech.COMMAND,
    uci.COMMAND,
    gan.COMMAND,
    ablation.COMMAND,
    regression.COMMAND,
    defaults.COMMAND,
    speed.COMMAND,
    search.COMMAND,
    semi.COMMAND,
)
