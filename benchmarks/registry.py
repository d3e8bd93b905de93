"""The benchmarks, in the order of the list and of the report; a new one adds a line here."""

from benchmarks import defaults, search, speed, uci

__all__ = ["BENCHMARKS"]

BENCHMARKS = (uci.COMMAND, defaults.COMMAND, speed.COMMAND, search.COMMAND)
