"""Files of weights as torch writes them, with what predictions need beside the weights in their metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
import copy
from typing import Protocol

from torch import Tensor, nn

__all__ = ["reading_units", "unchanged_if_refused", "with_units"]

# Where in the metadata that torch keeps beside the weights of a module, and passes over.
KEY = "sk_mixup"


class Stateful(Protocol):
    """A module, or an optimizer."""

    def state_dict(self) -> dict[str, object]:
        """Return what it has learned."""

    def load_state_dict(self, state_dict: dict[str, object]) -> object:
        """Take it over."""


def with_units(state: dict[str, Tensor], units: Mapping[str, object]) -> dict[str, Tensor]:
    """Return the weights of a module, with the units of its outputs in their metadata."""
    metadata = getattr(state, "_metadata", None)  # a module of the user's own may return a dict without
    if metadata is not None:
        metadata.setdefault("", {})[KEY] = dict(units)
    return state


@contextmanager
def reading_units(module: nn.Module | None) -> Iterator[list[dict[str, object]]]:
    """Yield a list to which the units are added of weights that the module loads in the block."""
    found: list[dict[str, object]] = []
    if module is None:
        yield found
        return

    def read(state: object, prefix: str, metadata: dict[str, dict[str, object]], *_: object) -> None:
        if not prefix and KEY in metadata:
            found.append(metadata[KEY])

    # That of nn.Module itself: a scripted module refuses its own.
    handle = nn.Module._register_load_state_dict_pre_hook(module, read)  # type: ignore[no-untyped-call]
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def unchanged_if_refused(parts: Iterable[Stateful]) -> Iterator[None]:
    """Put back what modules and optimizers had learned where what is loaded in the block does not fit."""
    before = [(part, copy.deepcopy(part.state_dict())) for part in parts]
    try:
        yield
    except Exception:
        for part, state in before:
            part.load_state_dict(state)
        raise
