"""What a subclass of a net may override, and in what order its bases must stand."""

from __future__ import annotations

from collections.abc import Iterable

from skorch.hf import AccelerateMixin as SkorchAccelerateMixin

__all__ = ["STEPS", "VALIDATION_STEPS", "check_bases", "find_overridden", "is_foreign"]

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
)
VALIDATION_STEPS = ("validation_step", "infer", "get_batch_loss", "get_loss")
PLAIN_MODULES = ("skorch.net", "skorch.classifier", "skorch.regressor")


def is_foreign(method: object) -> bool:
    """Whether a method, or a property, is neither this library's nor one of skorch's plain nets'."""
    # Where its code stands: a decorator may have given it another's name and module.
    owner = getattr(getattr(method, "fget", method), "__globals__", {}).get("__name__", "")
    return owner not in PLAIN_MODULES and not owner.startswith("sk_mixup.")


def find_overridden(net: object, names: Iterable[str]) -> str:
    """Return the first of these methods that is a subclass's, or was put on this very net; '' for none."""
    return next((name for name in names if name in vars(net) or is_foreign(getattr(type(net), name))), "")


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
    if SkorchAccelerateMixin not in order:
        return
    is_first = order.index(SkorchAccelerateMixin) < order.index(mixin)
    if not trains_by_processes or not is_first:
        raise TypeError(
            "AccelerateMixin must be that of sk_mixup, before the net's class among the bases; got "
            f"class {owner.__name__}({names}). Write class {owner.__name__}(sk_mixup.AccelerateMixin, ...)."
        )
