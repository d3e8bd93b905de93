"""What a subclass of a net may override, and in what order its bases must stand."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from skorch import NeuralNet
from skorch.hf import AccelerateMixin as SkorchAccelerateMixin

__all__ = ["STEPS", "VALIDATION_STEPS", "check_bases", "find_overridden", "is_foreign", "list_below"]

# What a subclass may override of a training step, and of one of validation.
STEPS = (
    "train_step",
    "train_step_single",
    "mix_inputs",
    "infer",
    "get_batch_loss",
    "get_mixed_loss",
    "get_row_losses",
    "get_loss",
    "_augment_batch",
    "_step_optimizer",
    "_zero_grad_optimizer",
    "get_train_step_accumulator",
)
VALIDATION_STEPS = ("validation_step", "infer", "get_batch_loss", "get_loss")
# What a mixin does in place of the net's class, without calling it.
REPLACED = (
    "fit_loop",
    "run_single_epoch",
    "get_split_datasets",
    "forward_iter",
    "get_iterator",
    "train_step_single",
    "validation_step",
)
PLAIN_MODULES = ("skorch.net", "skorch.classifier", "skorch.regressor")


def is_foreign(method: object) -> bool:
    """Whether a method, or a property, is neither this library's nor one of skorch's plain nets'."""
    # Where its code stands: a decorator may have given it another's name and module.
    owner = getattr(getattr(method, "fget", method), "__globals__", {}).get("__name__", "")
    return owner not in PLAIN_MODULES and not owner.startswith("sk_mixup.")


def find_overridden(net: object, names: Iterable[str]) -> str:
    """Return the first of these methods that is a subclass's, or was put on this very net; '' for none."""
    owner = type(net)
    below: Collection[str] = getattr(owner, "_overridden_below", ())
    found = (name for name in names if name in below or name in vars(net) or is_foreign(getattr(owner, name)))
    return next(found, "")


def list_below(owner: type, mixin: type) -> dict[str, str]:
    """Return what nets of the user's own define, which stand behind the mixin among the bases, and which."""
    behind = owner.__mro__[owner.__mro__.index(mixin) + 1 :]
    own = [base for base in behind if issubclass(base, NeuralNet) and base.__module__ not in PLAIN_MODULES]
    return {
        name: base.__name__
        for base in reversed(own)
        for name, value in vars(base).items()
        if is_foreign(value) and not base.__module__.startswith("sk_mixup.")
    }


def check_bases(owner: type, mixin: type, *, trains_by_processes: bool) -> None:
    """Raise a TypeError unless the bases of a mixin's subclass stand in the order that it needs.

    `trains_by_processes` says that our own form of Accelerate's mixin is among them.
    """
    order, names = owner.__mro__, ", ".join(base.__name__ for base in owner.__bases__)
    before = [base for base in order[: order.index(mixin)] if base.__module__ in PLAIN_MODULES]
    if before:
        raise TypeError(
            f"{mixin.__name__} must stand before the net's class among the bases; got class {owner.__name__}"
            f"({names}). Write class {owner.__name__}({mixin.__name__}, {before[0].__name__})."
        )
    below = list_below(owner, mixin)
    settled = {name for base in order[: order.index(mixin)] for name in vars(base)}  # in front of the mixin
    for name in (name for name in REPLACED if name in below and name not in settled):
        raise TypeError(
            f"{mixin.__name__} must stand before a net that leaves {name} to skorch, for it has its own; got "
            f"{below[name]}.{name}, which would never be called. Define {name} in {owner.__name__} and call "
            f"super(), or derive {owner.__name__} from a plain net of skorch's."
        )
    if SkorchAccelerateMixin not in order:
        return
    is_first = order.index(SkorchAccelerateMixin) < order.index(mixin)
    if not trains_by_processes or not is_first:
        raise TypeError(
            "AccelerateMixin must be that of sk_mixup, before the net's class among the bases; got "
            f"class {owner.__name__}({names}). Write class {owner.__name__}(sk_mixup.AccelerateMixin, ...)."
        )
