"""Categorical columns: the recipe of examples/categories.py on real data."""

from pathlib import Path
import runpy

import numpy as np
import pytest
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
import torch

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup.mixing import Mixup, mix_rows

load_penguins = pytest.importorskip("palmerpenguins").load_penguins

NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm"]


@pytest.fixture(scope="module")
def make_model():
    return runpy.run_path(str(Path(__file__).parents[2] / "examples" / "categories.py"))["make_model"]


@pytest.fixture(scope="module")
def penguins():
    return load_penguins()


def mix(columns):
    """Mix the rows of some columns as a training epoch does."""
    plan = Mixup(alpha=float("inf"))(np.random.default_rng(0), len(columns), 32)
    lam = torch.as_tensor(plan.lam)
    return mix_rows(torch.as_tensor(columns), torch.as_tensor(plan.index), lam).numpy()


def test_mixed_one_hot_columns_are_shares_of_the_categories(penguins):
    columns = OneHotEncoder(sparse_output=False).fit_transform(penguins[["species"]])
    mixed = mix(columns)
    np.testing.assert_allclose(mixed.sum(axis=1), 1)
    assert mixed.min() == 0
    # A row says which species went into it: half and half, or one alone.
    assert set(np.unique(mixed)) == {0, 0.5, 1}


def test_mixed_codes_claim_a_category_that_nobody_mixed(penguins):
    codes = OrdinalEncoder().fit_transform(penguins[["species"]])
    outer = codes[codes[:, 0] != 1]  # the first and the last of three species
    assert 1 in mix(outer)


@pytest.mark.parametrize("alpha", [0, 0.2])
def test_recipe_predicts_the_sex_of_penguins(make_model, penguins, alpha):
    table = penguins.dropna(subset=["sex"])
    train, test = train_test_split(table, stratify=table["sex"], random_state=0)
    net = MixupClassifier(alpha=alpha, lr=1e-2, max_epochs=30, random_state=0)
    model = make_model(net, NUMBERS, ["species", "island"], ["year"]).fit(train, train["sex"])
    assert model.score(test, test["sex"]) > 0.8
    assert set(model.predict(test)) == {"female", "male"}


def test_recipe_takes_missing_values_and_new_categories(make_model, penguins):
    table = penguins.dropna(subset=["sex"])
    model = make_model(MixupClassifier(max_epochs=2, random_state=0), NUMBERS, ["island"]).fit(
        table, table["sex"]
    )
    odd = table.head(2).assign(island=["Atlantis", None], bill_length_mm=[None, 40.0])
    assert np.isfinite(model.predict_proba(odd)).all()


def test_recipe_serves_regression(make_model, penguins):
    table = penguins.dropna(subset=["body_mass_g"])
    mass = table["body_mass_g"] / 1000
    net = MixupRegressor(lr=1e-2, max_epochs=40, random_state=0)
    model = make_model(net, NUMBERS, ["species", "sex"], ["island"]).fit(table, mass)
    assert model.score(table, mass) > 0.7
