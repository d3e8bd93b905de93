"""Rules that options keep: annotations of a configuration's fields, such as ``epochs: Count = 10``."""

from collections.abc import Iterable
from dataclasses import dataclass
import difflib
import math
from typing import Annotated, Any, Protocol, get_args, get_type_hints, runtime_checkable

__all__ = [
    "FINITE",
    "NOT_EMPTY",
    "Alpha",
    "Count",
    "Known",
    "Layers",
    "NotNegative",
    "Positive",
    "Several",
    "Share",
    "UserError",
    "Within",
    "check_known",
    "check_range",
    "check_rules",
    "name_option",
]


class UserError(Exception):
    """A mistake of the user, printed by the command line in one line, without a traceback."""


def name_option(field: str) -> str:
    """Return what the command line calls a field of a configuration."""
    return "--seeds" if field == "n_seeds" else f"--{field.replace('_', '-')}"


def check_known(name: str, value: str, known: Iterable[str]) -> None:
    """Raise :class:`UserError` unless the option `name` has one of the values `known`; name the closest."""
    known = tuple(known)
    if value in known:
        return
    close = difflib.get_close_matches(value, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(f"{name} must be one of {', '.join(known)}; got {value!r}.{hint}")


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise :class:`UserError` unless ``low <= value <= high``; NaN fails."""
    if not low <= value <= high:
        rule = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
        raise UserError(f"{name} must be {rule}; got {value!r}.")


@runtime_checkable
class Rule(Protocol):
    """What the values of an option must keep: those in a tuple, or one."""

    def check(self, name: str, values: tuple[Any, ...]) -> None:
        """Raise :class:`UserError` if a value of the option `name` breaks the rule."""


@dataclass(frozen=True)
class Within:
    """Numbers in a range."""

    low: float
    high: float = float("inf")

    def check(self, name: str, values: tuple[float, ...]) -> None:
        """Raise :class:`UserError` unless all are."""
        for value in values:
            check_range(name, value, self.low, self.high)


@dataclass(frozen=True, eq=False)  # tyro hashes annotations
class Known:
    """Some of these names."""

    names: Iterable[str]

    def check(self, name: str, values: tuple[str, ...]) -> None:
        """Raise :class:`UserError` unless all are."""
        for value in values:
            check_known(name, value, self.names)


class NotEmpty:
    """At least one value."""

    def check(self, name: str, values: tuple[Any, ...]) -> None:
        """Raise :class:`UserError` unless there is."""
        if not values:
            raise UserError(f"{name} must name at least one; got none.")


class Finite:
    """Finite numbers."""

    def check(self, name: str, values: tuple[float, ...]) -> None:
        """Raise :class:`UserError` unless all are."""
        for value in values:
            if not math.isfinite(value):
                raise UserError(f"{name} must be finite; got {value!r}.")


NOT_EMPTY, FINITE = NotEmpty(), Finite()
Count = Annotated[int, Within(1)]
Several = Annotated[int, Within(2)]
Positive = Annotated[float, Within(1e-6), FINITE]
NotNegative = Annotated[float, Within(0), FINITE]
Alpha = Annotated[float, Within(1e-6)]  # infinity is the plain average
Share = Annotated[float, Within(0.05, 0.5)]
Layers = Annotated[tuple[Count, ...], NOT_EMPTY, "units of each layer"]


def check_rules(config: Any) -> None:
    """Raise :class:`UserError` for the first option whose value breaks its rule; None keeps them all.

    The values of a tuple must differ, except for :data:`Layers`: what is named twice would be measured twice.
    """
    for field, hint in get_type_hints(type(config), include_extras=True).items():
        name, value = name_option(field), getattr(config, field)
        values = value if isinstance(value, tuple) else (value,)
        for rule in _list_rules(hint) if value is not None else ():
            rule.check(name, values)
        if hint != Layers:
            _check_distinct(name, values)


def _check_distinct(name: str, values: tuple[Any, ...]) -> None:
    repeated = next((value for value in values if values.count(value) > 1), None)
    if repeated is not None:
        raise UserError(f"{name} must name each value once; got {repeated!r} several times.")


def _list_rules(hint: Any) -> list[Rule]:
    """Return the rules in an annotation, and in what it is made of."""
    found = [item for item in getattr(hint, "__metadata__", ()) if isinstance(item, Rule)]
    return found + [rule for inner in get_args(hint) for rule in _list_rules(inner)]
