"""What one training step of a skorch net is made of: precision, batches, overridden steps, optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
import inspect
from typing import Any

from skorch.dataset import unpack_data
import torch
from torch import Tensor

from sk_mixup._data.batches import Batch

__all__ = [
    "AUTOCAST",
    "STEPS",
    "as_batch",
    "can_fuse",
    "find_overridden",
    "is_foreign",
    "make_autocast",
    "to_float32",
]

# What a subclass may override of a training step.
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
PLAIN_MODULES = ("skorch.net", "skorch.classifier", "skorch.regressor")
AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def is_foreign(method: object) -> bool:
    """Whether a method is neither this library's nor one of skorch's plain nets'."""
    # Where its code stands: a decorator may have given it another's name and module.
    owner = getattr(method, "__globals__", {}).get("__name__", "")
    return owner not in PLAIN_MODULES and not owner.startswith("sk_mixup.")


def find_overridden(net: object, names: Iterable[str]) -> str:
    """Return the first of these methods that is a subclass's, or was put on this very net; '' for none."""
    return next((name for name in names if name in vars(net) or is_foreign(getattr(type(net), name))), "")


def as_batch(batch: object) -> Batch:
    """Return a batch of ours, of what any iterator yields."""
    return batch if isinstance(batch, Batch) else Batch(*unpack_data(batch))


def to_float32(output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """Return one output of a module, or several, in single precision."""
    return tuple(part.float() for part in output) if isinstance(output, tuple) else output.float()


def make_autocast(autocast: str | None, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes the context of a forward pass in mixed precision."""
    if autocast is None:
        return nullcontext
    return partial(torch.autocast, device.type, dtype=AUTOCAST[autocast])


def can_fuse(optimizer: object, kwargs: Mapping[str, object], args: Sequence[Any]) -> bool:
    """Whether the optimizer has a fused kernel for these parameters."""
    if not inspect.isclass(optimizer) or "fused" not in inspect.signature(optimizer).parameters:
        return False
    if kwargs.keys() & {"fused", "foreach", "capturable", "differentiable"}:
        return False
    parameters = [p for group in args[0] for p in group["params"]]
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
