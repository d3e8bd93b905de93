"""The default network: its sizes are checked where it is built."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sk_mixup.modules import MLP


@pytest.mark.parametrize("name", ["in_features", "out_features", "hidden_layer_sizes"])
@pytest.mark.parametrize("size", [4.0, "4", None, True, 0, -1], ids=repr)
def test_size_that_is_none_is_refused(name: str, size: object) -> None:
    sizes = {"in_features": 4, "out_features": 3} | {name: size}
    rule = "at least 1" if size in (0, -1) and size is not False else "an integer"
    with pytest.raises((TypeError, ValueError), match=rf"{name} must be {rule}; got {size!r}\."):
        MLP(**sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("integer", [int, np.int32, np.int64])
def test_integers_of_numpy_are_sizes(integer: type) -> None:
    assert MLP(integer(1), integer(1), (integer(1),))(torch.zeros(2, 1)).shape == (2, 1)
