"""Masked numbers are not known, and are refused as missing ones are."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from sk_mixup import MixupClassifier, MixupEnsembleClassifier, MixupRegressor

X = np.random.default_rng(0).normal(size=(30, 4))
Y = np.arange(30) % 3


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor, MixupEnsembleClassifier])
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
@pytest.mark.parametrize("is_masked", [True, False], ids=["masked", "nothing masked"])
def test_masked_values_are_refused(owner: type[BaseEstimator], name: str, is_masked: bool) -> None:
    data: dict[str, Any] = {"X": X, "y": Y, "sample_weight": np.ones(30)}
    data[name] = np.ma.masked_array(data[name], mask=np.zeros(data[name].shape, dtype=bool))
    short = (
        {"estimator__max_epochs": 1, "n_members": 2}
        if owner is MixupEnsembleClassifier
        else {"max_epochs": 1}
    )
    net = owner(**short)
    if not is_masked:
        net.fit(**data)
        return
    data[name][3] = np.ma.masked
    with pytest.raises(ValueError, match=f"{name} must be known everywhere; got an array that masks"):
        net.fit(**data)


def test_masked_rows_are_not_predicted() -> None:
    net = MixupClassifier(max_epochs=1, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="X must be known everywhere"):
        net.predict(np.ma.masked_greater(X, 1))
