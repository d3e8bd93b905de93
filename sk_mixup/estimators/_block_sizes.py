"""In how many rows at once a table is predicted: few where there are few, if no bit of a row changes."""

from __future__ import annotations

from collections.abc import Hashable
import copy
import math
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from sk_mixup._data.storage import split_padded
from sk_mixup._devices import LIMITS, get_limits
from sk_mixup._random import unseen_torch_draws
from sk_mixup._training.module_structure import describe_module, is_hooked
from sk_mixup.modules import MLP

__all__ = ["BLOCK_SIZE", "choose_size_on_device", "looks_at_batch", "split_table"]

# Float32 matrix products choose their kernel by the number of rows: rows predicted one by one differed
# from rows predicted together by up to 3e-7. So a table is predicted in padded blocks of this size, ...
BLOCK_SIZE = LIMITS["cpu"].prediction_rows
# ... or of a multiple of one of these, where a trial has shown that each row comes out the same, bit by bit.
STEPS = (4, 8, 32)
LARGEST = 1024
# Sizes that are no multiple of 32 are tried where nothing rounds a number by its place in a vector, as a
# sigmoid, softplus or ELU does on some processors: so rarely that the rows of a trial may not show it.
# What is exact, ...
EXACT = (MLP, nn.Sequential, nn.Linear, nn.ReLU, nn.Dropout, nn.Identity, nn.Flatten)
# ... and what may be; a module of another kind is taken to round.
ACTIVATIONS = (
    *(nn.CELU, nn.ELU, nn.GELU, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU6),
    *(nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Softsign, nn.Tanh),
)
N_TRIED = 2**16
NUMPY_TYPES = (torch.float32, torch.float64)

# What the trials have shown: of modules at hand and, by the hash of what they are made of, of all alike.
_OF_MODULES: WeakKeyDictionary[nn.Module, dict[Hashable, bool]] = WeakKeyDictionary()
_OF_DESCRIPTIONS: dict[int, bool] = {}
# The same of activations, by what they are and the dtype.
_OF_ACTIVATIONS: dict[tuple[str, torch.dtype], bool] = {}


_LOOKING: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def looks_at_batch(module: nn.Module | None) -> bool:
    """Whether rows are predicted by the rows beside them: by batch normalisation without running statistics.

    Of such rows none may be padding.
    """
    if module is None:
        return False
    if _LOOKING.get(module) is None:
        norms = (part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm))
        _LOOKING[module] = any(part.running_mean is None for part in norms)
    return _LOOKING[module]


def split_table(x: Tensor, module: nn.Module | None) -> list[Tensor]:
    """Return the rows of a table in blocks, the last one padded.

    Parameters
    ----------
    x : Tensor of shape (n_samples, n_features)
        The rows.
    module : torch.nn.Module or None
        What predicts them, in eval mode; None where that is not the module alone.
    """
    if x.device.type != "cpu":
        return split_padded(x, choose_size_on_device(x.device, x.shape[1]))
    if module is None or x.dtype not in NUMPY_TYPES:
        return split_padded(x, BLOCK_SIZE)
    n_samples = x.shape[0]  # len takes ten times as long
    if n_samples < LARGEST:
        size = _choose_size(x, n_samples, module)
        return [_pad(x, n_samples, size)] if n_samples <= size else split_padded(x, size)
    n_whole = n_samples // LARGEST * LARGEST
    parts = [part for part in (x[:n_whole], x[n_whole:]) if len(part)]
    return [block for part in parts for block in split_padded(part, _choose_size(part, len(part), module))]


def _pad(x: Tensor, n_samples: int, size: int) -> Tensor:
    """Return one padded block: by numpy, whose calls take a third of the time of torch's."""
    rows = x.numpy()
    block = np.empty((size, rows.shape[1]), dtype=rows.dtype)
    block[:n_samples], block[n_samples:] = rows, rows[-1]
    return torch.from_numpy(block)


def choose_size_on_device(device: torch.device, width: int) -> int:
    """Return one size for all tables of a width, whatever number of rows they have."""
    limits = get_limits(device)
    return max(BLOCK_SIZE, min(limits.prediction_rows, limits.stack_elements // max(1, width)))


def _choose_size(x: Tensor, n_samples: int, module: nn.Module) -> int:
    sizes = (min(-(-n_samples // step) * step, LARGEST) for step in STEPS)
    return next((size for size in sizes if _agrees(module, x, size)), BLOCK_SIZE)


def _agrees(module: nn.Module, x: Tensor, size: int) -> bool:
    """Whether blocks of a size give what blocks of :data:`BLOCK_SIZE` give."""
    # All that the choice of a kernel may depend on.
    key = (size, x.shape[1], x.dtype, torch.get_num_threads(), torch.get_float32_matmul_precision())
    found = _OF_MODULES.setdefault(module, {})
    if key not in found:
        may_agree = size % STEPS[-1] == 0 or all(_is_exact(part, x.dtype) for part in module.modules())
        found[key] = size == BLOCK_SIZE or (may_agree and _look_up(module, key))
    return found[key]


def _is_exact(part: nn.Module, dtype: torch.dtype) -> bool:
    """Whether a part of a module rounds a number the same wherever it stands."""
    if type(part) in EXACT:
        return True
    if type(part) not in ACTIVATIONS or is_hooked(part):
        return False
    made = repr(part), dtype
    if made not in _OF_ACTIVATIONS:
        values = torch.linspace(-9, 9, N_TRIED, dtype=dtype, device="cpu")
        # Numbers that do not lie side by side are computed one by one, as those at the end of a vector are.
        apart = values.repeat_interleave(2)[::2]
        _OF_ACTIVATIONS[made] = torch.equal(part(values), part(apart))
    return _OF_ACTIVATIONS[made]


def _look_up(module: nn.Module, key: tuple[int, int, torch.dtype, int, str]) -> bool:
    """Return whether blocks of another size give the same; tried once for all modules that are made alike."""
    try:
        made = hash((describe_module(module), key))
    except TypeError:  # it has hooks, which a trial must not call, or is made of what cannot be compared
        return False
    if made not in _OF_DESCRIPTIONS:
        _OF_DESCRIPTIONS[made] = _try_size(module, *key[:3])
    return _OF_DESCRIPTIONS[made]


def _try_size(module: nn.Module, size: int, n_features: int, dtype: torch.dtype) -> bool:
    """Compare blocks of two sizes on random rows.

    A copy with random weights is tried, for trained ones may hide a difference, where all units of a layer
    are off, and a module may remember what it was called with.
    """
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(max(size, BLOCK_SIZE), n_features, generator=generator).to(dtype)
    try:
        with unseen_torch_draws(), torch.no_grad():
            trial = copy.deepcopy(module).eval()
            for weight in trial.parameters():
                weight.normal_(std=math.prod(weight.shape[1:]) ** -0.5, generator=generator)
            small, large = (_predict(trial, rows, n) for n in (size, BLOCK_SIZE))
    except Exception:  # of whatever kind: it is code of the user's that refuses such rows
        return False
    return torch.equal(small, large)


def _predict(module: nn.Module, rows: Tensor, size: int) -> Tensor:
    return torch.cat([module(block) for block in split_padded(rows, size)])[: len(rows)]
