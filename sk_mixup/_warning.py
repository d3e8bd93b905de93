"""Warnings that point at the user's line, wherever in the package they arise."""

from __future__ import annotations

import re
import sys
import threading
from types import FrameType
from typing import NamedTuple
import warnings

__all__ = ["Place", "enter_thread", "find_place", "warn_user"]

# Packages whose lines are not the user's; and those that only the foot of a thread is of.
PASSED = frozenset({"sk_mixup", "skorch", "sklearn", "joblib", "threading", "concurrent"})
# What Python does with a warning that it shows once a line, or less often.
ONCE = frozenset({"default", "module", "once"})


class Place(NamedTuple):
    """A line of code."""

    file: str
    line: int
    module: str


_LOCAL = threading.local()
_SHOWN: set[tuple[Place, str]] = set()


def _is_passed(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in PASSED


def find_place() -> Place:
    """Return the line outside of the package, and of those it runs in, that led here.

    In a thread without such a line it is the one that `enter_thread` was given.
    """
    frame = sys._getframe()
    while _is_passed(frame) and frame.f_back is not None:
        frame = frame.f_back
    if _is_passed(frame) and hasattr(_LOCAL, "place"):
        place: Place = _LOCAL.place
        return place
    return Place(frame.f_code.co_filename, frame.f_lineno, str(frame.f_globals.get("__name__")))


def enter_thread(place: Place) -> None:
    """Say which line this thread works for."""
    _LOCAL.place = place


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the user's line.

    Where Python shows a warning once a line, those that differ in what was seen alone ("; got ...") are
    one: the fits of a search see other rows each, and scikit-learn gives each fresh filters, by which Python
    forgets what it has shown.
    """
    place = find_place()
    if _find_action(message, category, place) in ONCE:
        shown = place, message.partition("; got ")[0]
        if shown in _SHOWN:
            return
        _SHOWN.add(shown)
    warnings.warn_explicit(message, category, place.file, place.line, place.module)


def _find_action(message: str, category: type[Warning], place: Place) -> str:
    """Return what the first filter that matches does, as `warnings` finds it."""
    for action, text, kind, module, line in warnings.filters:
        is_match = _matches(text, message) and issubclass(category, kind) and _matches(module, place.module)
        if is_match and line in (0, place.line):
            return action
    return "default"


def _matches(pattern: re.Pattern[str] | str | None, text: str) -> bool:
    # Python's own first filters hold plain words, for which it wants the whole name.
    return pattern is None or (pattern == text if isinstance(pattern, str) else bool(pattern.match(text)))
