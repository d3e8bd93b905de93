"""The benchmarks, in the order of the list and of the report; a new one adds a line here."""

from benchmarks import ablation, defaults, regression, search, semi, speed, uci

__all__ = ["BENCHMARKS"]

BENCHMARKS = (
    uci.COMMAND,
    ablation.COMMAND,
    regression.COMMAND,
    defaults.COMMAND,
    speed.COMMAND,
    search.COMMAND,
    semi.COMMAND,
)
