"""Hidden layers of a stack are mixed as those of single nets, whatever the widths and numbers of layers."""

import warnings

import numpy as np
import pytest

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup.mixing import ManifoldMixup
from tests.helpers.sampling import each_pair
from tests.helpers.stacking import fit_stacked


@pytest.mark.usefixtures("float64")
@each_pair(
    {
        "n_nets": [2, 3],
        "sizes": [(2,), (16,), (128,), (16, 16), (8, 32, 16)],
        "owner": [MixupClassifier, MixupRegressor],
    }
)
def test_stacked_hidden_mixing_equals_single_fits(
    owner: type[MixupClassifier | MixupRegressor], sizes: tuple[int, ...], n_nets: int
) -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(40, 5))
    y = np.arange(40) % 3 if owner is MixupClassifier else X[:, 0] - X[:, 1]

    def make() -> list[MixupClassifier | MixupRegressor]:
        options = {"module__hidden_layer_sizes": sizes, "max_epochs": 2, "batch_size": 16}
        return [
            owner(vicinity=ManifoldMixup(1.0), early_stopping=False, random_state=seed, **options)
            for seed in range(n_nets)
        ]

    together, single = make(), [net.fit(X, y) for net in make()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as that the nets cannot be stacked
        fit_stacked([(net, X, y) for net in together])
    for net, other in zip(together, single, strict=True):
        for weight, expected in zip(net.module_.parameters(), other.module_.parameters(), strict=True):
            np.testing.assert_allclose(weight.detach(), expected.detach(), rtol=0, atol=1e-9)
