"""The fused kernel of an optimizer, called on the optimizer's own state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import optimizer as _optimizer

__all__ = ["FusedUpdate", "can_fuse", "find_own_method", "is_plain_step", "place_state"]

# What an optimizer counts of a parameter in host memory.
HOST_COUNTS = ("step", "mu_product")


@lru_cache(maxsize=32)
def _takes_fused(optimizer: type) -> bool:
    return "fused" in inspect.signature(optimizer).parameters


def can_fuse(
    optimizer: object, kwargs: Mapping[str, object], args: Sequence[Any], *, is_recorded: bool = False
) -> bool:
    """Whether the optimizer has a fused kernel that does for these parameters what its other ones do.

    Those of Adam and AdamW do. That of SGD leaves most numbers of half precision as they are on the CPU, and
    breaks off where momentum begins later for some parameters than for others, as after a freeze; neither it
    nor that of Adagrad takes sparse gradients. They are for steps that are recorded, which need them.
    """
    if not isinstance(optimizer, type) or not _takes_fused(optimizer):
        return False
    if not is_recorded and not issubclass(optimizer, torch.optim.Adam | torch.optim.AdamW):
        return False
    if kwargs.keys() & {"fused", "foreach", "capturable", "differentiable"}:
        return False
    parameters = [p for group in args[0] for p in group["params"]]
    return all(
        p.is_floating_point() and p.device.type in ("cpu", "cuda") and (is_lazy(p) or _fills_memory(p))
        for p in parameters
    )


def _fills_memory(p: Tensor) -> bool:
    """Whether a tensor has no gaps in memory: a fused kernel goes through it number by number."""
    expected = 1
    for stride, size in sorted(zip(p.stride(), p.shape, strict=True)):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


class FusedUpdate:
    """Does what ``optimizer.step()`` does, from the second step on without its Python.

    The first step goes through ``step``, which builds the state and tells learning-rate schedulers; the
    others call the kernel that it would call, on the same tensors, for the parameters that have a gradient.
    Optimizers other than Adam and AdamW with ``fused=True``, and those with hooks, always go through
    ``step``. With `in_place` gradients are written to the same tensors in every step, and nothing but the
    steps happens until :meth:`close`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, in_place: bool = False) -> None:
        self.optimizer = optimizer
        self.in_place = in_place
        self.kernels: list[_AdamKernel] | None = None
        self.idle: list[Tensor] = []  # of groups in which nothing had a gradient

    def __call__(self) -> None:
        """Descend by one step."""
        if self.kernels is None and _has_state(self.optimizer):
            self.kernels = self._bind_kernels()
        if self.kernels and (self.in_place or self._follow()):
            for kernel in self.kernels:
                kernel()
            return
        self.close()  # other parameters took part in this step, or nothing is known yet
        with torch.inference_mode(False):  # the state that is built here is to be trained on
            self.optimizer.step()
        self.kernels = self._bind_kernels() if self.kernels is None else []

    def _bind_kernels(self) -> list[_AdamKernel]:
        """Return the kernels that do a step; none where ``step`` must be called."""
        if not _has_plain_adam_step(self.optimizer):
            return []
        trained = [(group, _list_trained(group)) for group in self.optimizer.param_groups]
        self.idle = [p for group, parameters in trained if not parameters for p in group["params"]]
        return [_AdamKernel(self.optimizer, group, parameters) for group, parameters in trained if parameters]

    def _follow(self) -> bool:
        """Let the kernels follow a step; return whether the same parameters have a gradient."""
        return all(p.grad is None for p in self.idle) and all(
            kernel.follow() for kernel in self.kernels or []
        )

    def close(self) -> None:
        """Give the optimizer its counts of steps."""
        for kernel in self.kernels or []:
            kernel.close()


class _AdamKernel:
    """The fused Adam kernel for the parameters of one group that have a gradient."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, group: dict[str, Any], parameters: list[Tensor]
    ) -> None:
        states = [optimizer.state[p] for p in parameters]
        self.group = group
        self.parameters = parameters
        self.others = [p for p in group["params"] if p.grad is None]
        self._bind_weights()
        self.gradients = [p.grad for p in parameters]
        self.moments = [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq")]
        self.maxima = [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else []
        self.steps = [state["step"] for state in states]
        # On the CPU one count serves all parameters: to add 1 to each takes as long as the kernel. Beside a
        # rate that is a tensor, as in a recording, counts stay where they are.
        self.shares_count = self.steps[0].device.type == "cpu" and not isinstance(group["lr"], Tensor)
        self.counts = [self.steps[0].clone()] * len(self.steps) if self.shares_count else self.steps
        decoupled = group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
        self.kernel: Callable[..., object] = torch._fused_adamw_ if decoupled else torch._fused_adam_
        self.options = self._read_options()

    def _read_options(self) -> dict[str, Any]:
        group = self.group
        beta1, beta2 = group["betas"]
        options = {name: group[name] for name in ("amsgrad", "lr", "weight_decay", "eps", "maximize")}
        return options | {"beta1": beta1, "beta2": beta2, "grad_scale": None, "found_inf": None}

    def _bind_weights(self) -> None:
        self.weights = [p.detach() for p in self.parameters]
        self.places = self._find_places()

    def _find_places(self) -> list[int]:
        return [p.untyped_storage()._cdata for p in self.parameters]

    def follow(self) -> bool:
        """Take up gradients and options of the step; return whether the same parameters have a gradient."""
        if self._find_places() != self.places:  # `p.data = ...` has put others there
            self._bind_weights()
        self.gradients = [p.grad for p in self.parameters]
        self.options = self._read_options()
        if any(p.grad is not None for p in self.others):
            return False
        return not any(gradient is None for gradient in self.gradients)

    def __call__(self) -> None:
        if self.shares_count:
            self.counts[0].add_(1)
        else:
            torch._foreach_add_(self.counts, 1)
        self.kernel(self.weights, self.gradients, *self.moments, self.maxima, self.counts, **self.options)

    def close(self) -> None:
        if self.shares_count:
            for step in self.steps:
                step.copy_(self.counts[0])


def _list_trained(group: dict[str, Any]) -> list[Tensor]:
    """Return the parameters of a group that have a gradient."""
    return [p for p in group["params"] if p.grad is not None]


def place_state(optimizer: torch.optim.Optimizer, device: torch.device | str | None = None) -> None:
    """Move an optimizer's state to a device, or leave it where it is; what the host reads is kept there.

    Whatever moves or loads a net moves its counts of steps, too. An optimizer that is neither fused nor
    capturable would then wait for the device, in each step and for each parameter. A fused kernel reads
    weights and moments in the order of memory, which must be the same.
    """
    for group in optimizer.param_groups:
        is_read = not (group.get("fused") or group.get("capturable"))
        for p, state in ((p, state) for p in group["params"] if (state := optimizer.state.get(p))):
            stay = HOST_COUNTS if is_read and "eta" not in state else ()  # ASGD has its own on the device
            for name, value in state.items():
                where = "cpu" if name in stay else device
                if isinstance(value, Tensor) and where is not None and value.device != torch.device(where):
                    state[name] = value = value.to(where)
                if isinstance(value, Tensor) and value.shape == p.shape and value.stride() != p.stride():
                    state[name] = torch.empty_like(p, dtype=value.dtype, device=value.device).copy_(value)


def _has_state(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``step`` was called before, by the same schedulers, for every parameter with a gradient."""
    if "step" in vars(optimizer) and not getattr(optimizer, "_opt_called", False):
        return False
    return all(optimizer.state.get(p) for group in optimizer.param_groups for p in _list_trained(group))


def _has_plain_adam_step(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``step`` is Adam's own, and nothing looks on."""
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or not is_plain_step(optimizer):
        return False
    return all(_is_plain_group(optimizer, group) for group in optimizer.param_groups)


def is_plain_step(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``step`` is that of the optimizer's class, and nothing looks on."""
    # A learning-rate scheduler wraps `step` only to see that it is called at all.
    patch, own_step = vars(optimizer).get("step"), type(optimizer).step
    if patch is not None and not (hasattr(patch, "_wrapped_by_lr_sched") and patch.__wrapped__ is own_step):
        return False
    own = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    shared = (_optimizer._global_optimizer_pre_hooks, _optimizer._global_optimizer_post_hooks)
    return not any((*own, *shared))


def find_own_method(optimizer: torch.optim.Optimizer) -> str:
    """Return which of the two methods that a step calls is not torch's; '' for none.

    Another ``step`` may call its closure when, and as often as, it likes.
    """
    if not type(optimizer).step.__module__.startswith("torch.optim."):
        return "step"
    own = vars(optimizer).get("zero_grad", type(optimizer).zero_grad)
    return "" if own is torch.optim.Optimizer.zero_grad else "zero_grad"


def _is_plain_group(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> bool:
    lr = group["lr"]
    if not group["fused"] or group["differentiable"]:
        return False
    if isinstance(lr, Tensor) and any(p.device != lr.device for p in group["params"]):
        return False
    trained = _list_trained(group)
    if len({(p.dtype, p.device) for p in trained}) > 1:  # a kernel takes those of one kind
        return False
    steps = [optimizer.state[p]["step"] for p in trained]
    # Parameters that were frozen for a while count fewer steps.
    return not steps or steps[0].device.type != "cpu" or len({float(step.numpy()) for step in steps}) == 1
