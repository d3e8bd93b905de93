"""Mistakes of the user, each told in one line."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__all__ = ["UserError", "require"]


class UserError(Exception):
    """What the user can mend; the message says how."""


def require(name: str) -> ModuleType:
    """Import a package of the extra ``compare``, or say how to install it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"compare needs {name}, which is not installed. Run pip install matplotlib pandas pyarrow skrub."
        ) from error
