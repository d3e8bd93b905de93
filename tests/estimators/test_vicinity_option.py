"""Vicinities as an option of an estimator: clones, pickles, searches, stacks."""

from __future__ import annotations

import copy
from dataclasses import replace
from inspect import signature
from itertools import product
import pickle
from typing import Any
import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
import torch

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from sk_mixup._devices import LIMITS
from sk_mixup.mixing import (
    ERM,
    CutMix,
    Extrapolation,
    FeatureExtrapolation,
    FeatureInterpolation,
    GaussianNoise,
    ManifoldMixup,
    Mixture,
    Mixup,
)
from tests.helpers.architectures import (
    ARCHITECTURES,
    PROBLEMS,
    WEIGHT,
    assert_same_nets,
    get_tensors,
    make_net,
    make_rows,
)
from tests.helpers.nets import QUICK
from tests.helpers.stacking import fit_stacked, stacked
from tests.helpers.vicinities import OF_TABLES, OF_TARGETS, VICINITIES, fits, get_architecture

OWNERS = {"classes": MixupClassifier, "target": MixupRegressor}


# -- options -----------------------------------------------------------------------------


def make(name: str, **options: Any) -> Any:
    problem = "target" if name in OF_TARGETS else "classes"
    defaults = {"vicinity": VICINITIES[name], "max_epochs": 2, "batch_size": 8}
    return make_net(get_architecture(name), problem, **defaults | options)


def get_data(name: str, n: int = 21) -> tuple[Any, Any]:
    problem = "target" if name in OF_TARGETS else "classes"
    return make_rows(get_architecture(name))[:n], PROBLEMS[problem].y[:n]


# One of each kind; the others are slow.
SOME = ["erm", "near_class", "kernel", "noise", "cutmix", "manifold_dataset", "mixture_with_noise", "table"]
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in VICINITIES if name not in SOME]


@pytest.mark.parametrize("name", SOME + OTHERS)
def test_clone_of_a_fitted_net_fits_the_same_net(name: str) -> None:
    net = make(name).fit(*get_data(name))
    again = clone(net)
    assert again.vicinity == net.vicinity == VICINITIES[name]
    assert again.get_params(deep=False).keys() == net.get_params(deep=False).keys()
    assert_same_nets(again.fit(*get_data(name)), net)


@pytest.mark.parametrize("owner", OWNERS.values())
def test_mixup_by_itself_is_that_of_the_estimators(owner: type) -> None:
    X, y = make_rows("mlp"), PROBLEMS["target" if owner is MixupRegressor else "classes"].y
    assert_same_nets(owner(vicinity=Mixup(), **QUICK).fit(X, y), owner(**QUICK).fit(X, y))


def test_mixup_has_one_default_of_alpha() -> None:
    owners = [MixupClassifier, MixupRegressor, MixupNetMixin, Mixup]
    assert {signature(owner).parameters["alpha"].default for owner in owners} == {0.2}


@pytest.mark.parametrize("name", VICINITIES)
def test_options_round_trip(name: str) -> None:
    owner = OWNERS["target" if name in OF_TARGETS else "classes"]
    params = owner(vicinity=VICINITIES[name]).get_params(deep=False)
    assert owner().set_params(**params).get_params(deep=False) == params
    assert owner(**params).vicinity is VICINITIES[name]
    assert f"vicinity={type(VICINITIES[name]).__name__}(" in repr(owner(**params))


@pytest.mark.parametrize("name", ["cutmix", "mixture_with_noise", "manifold"])
def test_html_repr_shows_the_vicinity(name: str) -> None:
    html = make(name).fit(*get_data(name))._repr_html_()
    assert type(VICINITIES[name]).__name__ in html


@pytest.mark.parametrize("copies", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("name", ["noise", "mixture_with_noise", "manifold_dataset", "kernel", "cutmix"])
def test_copy_of_a_fitted_net_goes_on_as_the_net(name: str, copies: Any) -> None:
    X, y = get_data(name)
    net = make(name).fit(X, y)
    twin = copies(net)
    assert_same_nets(twin, net)
    assert_same_nets(twin.partial_fit(X, y), net.partial_fit(X, y))


@pytest.mark.parametrize("name", SOME + OTHERS)
def test_chunks_are_trained_on_one_after_the_other(name: str) -> None:
    X, y = get_data(name)
    net = make(name, max_epochs=1, train_split=None)
    known = {} if name in OF_TARGETS else {"classes": [0, 1, 2]}
    net.partial_fit(X[:10], y[:10], **known).partial_fit(X[10:], y[10:])
    assert net.history[:, "batches", :, "train_batch_size"] == [[8, 2], [8, 3]]


@pytest.mark.parametrize("name", ["noise", "manifold_dataset", "mixture_of_images", "near_class"])
def test_warm_start_takes_up_another_vicinity(name: str) -> None:
    X, y = get_data(name)
    nets = []
    for _ in range(2):
        net = make("mixup", warm_start=True).fit(X, y)
        before = get_tensors(net)["0.weight"].clone()
        net.set_params(vicinity=VICINITIES[name]).fit(X, y)
        assert not torch.equal(get_tensors(net)["0.weight"], before)
        assert net.n_iter_ == 4
        nets.append(net)
    assert_same_nets(*nets)


@pytest.mark.parametrize("name", ["noise", "cutmix", "manifold", "mixture_with_noise"])
def test_fit_is_repeated_by_its_seed_and_by_nothing_else(name: str) -> None:
    X, y = get_data(name)
    nets = [make(name, random_state=seed).fit(X, y) for seed in (1, 1, 2)]
    assert_same_nets(*nets[:2])
    assert not torch.equal(get_tensors(nets[0])["0.weight"], get_tensors(nets[2])["0.weight"])


@pytest.mark.parametrize("name", SOME + OTHERS)
def test_fit_leaves_the_global_generators_alone(name: str) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    make(name, max_epochs=1).fit(*get_data(name))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize("random_state", [np.random.RandomState(3), np.random.default_rng(3), None], ids=str)
@pytest.mark.parametrize("name", ["noise", "manifold"])
def test_any_random_state_serves(name: str, random_state: Any) -> None:
    assert make(name, random_state=random_state).fit(*get_data(name)).n_iter_ == 2


def test_weights_are_routed_to_a_net_with_a_vicinity() -> None:
    X, y = make_rows("tanh"), PROBLEMS["classes"].y
    net = MixupClassifier(vicinity=GaussianNoise(), **QUICK | {"max_epochs": 1})
    expected = clone(net).fit(StandardScaler().fit_transform(X), y, sample_weight=WEIGHT)
    with sklearn.config_context(enable_metadata_routing=True):
        piped = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False), net.set_fit_request(sample_weight=True)
        )
        piped.fit(X, y, sample_weight=WEIGHT)
    assert_same_nets(piped[-1], expected)


# -- searches ----------------------------------------------------------------------------

SEARCHED = {
    "classes": [None, GaussianNoise(), ManifoldMixup(), FeatureInterpolation(), Extrapolation()],
    "target": [None, GaussianNoise(), Mixup(partners="kernel"), Mixture((ERM(), Extrapolation()))],
}


def search(problem: str, vicinities: Any) -> Any:
    net = OWNERS[problem](**QUICK | {"max_epochs": 1})
    grid = GridSearchCV(net, {"vicinity": vicinities}, cv=2, error_score="raise")
    return grid.fit(make_rows("mlp"), PROBLEMS[problem].y)


@pytest.mark.parametrize("problem", SEARCHED)
def test_search_goes_over_vicinities(problem: str) -> None:
    grid = search(problem, SEARCHED[problem])
    assert grid.cv_results_["param_vicinity"].tolist() == SEARCHED[problem]
    assert grid.best_estimator_.vicinity == grid.best_params_["vicinity"]


@pytest.mark.usefixtures("stack_two")
@pytest.mark.parametrize("problem", SEARCHED)
def test_stacked_search_over_vicinities_finds_the_same(
    float64: None, stacks: list[int], problem: str
) -> None:
    alone = search(problem, SEARCHED[problem])
    with stacked():
        together = search(problem, SEARCHED[problem])
    scores = [grid.cv_results_["mean_test_score"] for grid in (together, alone)]
    np.testing.assert_allclose(*scores, rtol=1e-9, atol=1e-9)
    assert max(stacks) > len(SEARCHED[problem])


def fit_both(nets: list[Any], X: Any, y: Any, weights: Any = None) -> tuple[list[Any], list[Any]]:
    weights = [None] * len(nets) if weights is None else weights
    alone = [clone(net).fit(X, y, sample_weight=w) for net, w in zip(nets, weights, strict=True)]
    jobs = [(clone(net), X, y, {"sample_weight": w}) for net, w in zip(nets, weights, strict=True)]
    return fit_stacked(jobs), alone


def assert_equal(together: list[Any], alone: list[Any]) -> None:
    pairs = [[get_tensors(net) for net in nets] for nets in (together, alone)]
    torch.testing.assert_close(*pairs, rtol=1e-9, atol=1e-9)
    losses = [[epoch["train_loss"] for net in nets for epoch in net.history] for nets in (together, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


STACKS = [("flattened", "classes", True), ("convolution", "target", False)]
ALL_STACKS = product(("flattened", "tanh", "convolution"), ("classes", "target"), (False, True))
STACKS += [pytest.param(*case, marks=pytest.mark.slow) for case in ALL_STACKS if case not in STACKS]


@pytest.mark.usefixtures("stack_two")
@pytest.mark.parametrize(("architecture", "problem", "weighted"), STACKS)
def test_all_vicinities_are_trained_as_one_stack(
    float64: None, stacks: list[int], architecture: str, problem: str, weighted: bool
) -> None:
    names = [
        name
        for name in VICINITIES
        if fits(name, classes=problem == "classes", shape=ARCHITECTURES[architecture].shape)
        and not any(word in name for word in ("manifold", "inside", "hidden"))
    ]
    nets = [
        make_net(architecture, problem, vicinity=VICINITIES[name], batch_size=8, random_state=k)
        for k, name in enumerate(names)
    ]
    X, y = make_rows(architecture)[:21], PROBLEMS[problem].y[:21]
    weights = [WEIGHT[:21] if weighted and k % 2 else None for k in range(len(nets))]
    assert_equal(*fit_both(nets, X, y, weights))
    assert stacks == [len(nets)] * 2


@pytest.mark.usefixtures("stack_two")
def test_vicinities_of_tables_are_trained_as_one_stack(float64: None, stacks: list[int]) -> None:
    nets = [make(name, max_epochs=1, random_state=k) for k, name in enumerate(OF_TABLES)]
    assert_equal(*fit_both(nets, *get_data("table")))
    assert stacks == [len(nets)]


@pytest.mark.usefixtures("stack_two")
@pytest.mark.parametrize("elements", [1, 300])
def test_stacks_of_many_blocks_have_the_same_noise(
    monkeypatch: pytest.MonkeyPatch, float64: None, elements: int
) -> None:
    monkeypatch.setitem(LIMITS, "cpu", replace(LIMITS["cpu"], stack_elements=elements))
    names = ["noise", "mixture_with_noise", "cutmix", "mixture_of_images"]
    nets = [make(name, random_state=k) for k, name in enumerate(names)]
    assert_equal(*fit_both(nets, *get_data("noise")))


@pytest.mark.usefixtures("stack_two")
@pytest.mark.parametrize(
    "name",
    ["manifold_three", "manifold_dataset", "manifold_kernel", "interpolation_inside", "mixture_with_hidden"],
)
def test_nets_that_are_mixed_inside_are_refused_a_stack_once_and_equal(
    float64: None, stacks: list[int], name: str
) -> None:
    nets = [make(name, random_state=k) for k in range(3)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        both = fit_both(nets, *get_data(name))
    assert_equal(*both)
    (message,) = {str(w.message) for w in caught}
    assert "trained one by one where they cannot be stacked: hidden layers are mixed" in message
    assert len(caught) == 1


INSIDE = {
    "one": ManifoldMixup(layers=("layers.2",)),
    "found": ManifoldMixup(0.5),
    "per_batch": ManifoldMixup(lam_per="batch", layers=("input", "layers.4")),
    "step": FeatureExtrapolation(layers=("layers.2", "layers.4"), partners="batch"),
}


@pytest.mark.usefixtures("stack_two")
@pytest.mark.parametrize("problem", ["classes", "targets"])
@pytest.mark.parametrize("name", INSIDE)
def test_perceptrons_that_are_mixed_inside_equal_lone_ones(
    float64: None, stacks: list[int], name: str, problem: str
) -> None:
    nets = [make_net("deep", problem, vicinity=INSIDE[name], batch_size=8, random_state=k) for k in range(3)]
    assert_equal(*fit_both(nets, make_rows("deep")[:21], PROBLEMS[problem].y[:21]))
    assert set(stacks) <= {2, 3}
    assert stacks


@pytest.mark.usefixtures("stack_two")
def test_perceptrons_that_are_mixed_in_many_ways_equal_lone_ones(float64: None) -> None:
    policies = [*INSIDE.values(), Mixup(), GaussianNoise(), ManifoldMixup(n_mixed=3), *INSIDE.values()]
    nets = [
        make_net("deep", vicinity=policy, batch_size=4 + k % 2, random_state=k)
        for k, policy in enumerate(policies)
    ]
    weights = [WEIGHT[:21] if k % 3 == 0 else None for k in range(len(nets))]
    assert_equal(*fit_both(nets, make_rows("deep")[:21], PROBLEMS["classes"].y[:21], weights))


@pytest.mark.usefixtures("stack_two")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"vicinity": ManifoldMixup(layers=("layers.1",))},
            "of a module that is no plain multilayer perceptron",
        ),
        ({"vicinity": ManifoldMixup(partners="dataset")}, "with partners from outside the mini-batch"),
        ({"vicinity": ManifoldMixup(), "storage": "host"}, "of rows that are sent batch by batch"),
    ],
)
def test_perceptrons_that_are_mixed_elsewhere_are_refused_a_stack_and_equal(
    float64: None, options: Any, reason: str
) -> None:
    nets = [make_net("deep", batch_size=8, random_state=k, **options) for k in range(2)]
    with pytest.warns(UserWarning, match=f"cannot be stacked: hidden layers are mixed {reason}"):
        both = fit_both(nets, make_rows("deep")[:21], PROBLEMS["classes"].y[:21])
    assert_equal(*both)


@pytest.mark.usefixtures("stack_two")
def test_nets_of_a_stack_stay_together_beside_one_that_is_mixed_inside(
    float64: None, stacks: list[int]
) -> None:
    names = ["noise", "cutmix", "manifold_three", "erm", "mixup"]
    nets = [make(name, random_state=k) for k, name in enumerate(names)]
    with pytest.warns(UserWarning, match="cannot be stacked: hidden layers are mixed"):
        both = fit_both(nets, *get_data("noise"))
    assert_equal(*both)
    assert stacks == [4, 4]


def test_cutmix_learns_on_images() -> None:
    X = np.zeros((60, 1, 6, 6), dtype=np.float32)
    y = np.arange(60) % 2
    X[y == 1, :, ::2] = 1
    X += np.random.default_rng(0).normal(scale=0.1, size=X.shape).astype(np.float32)
    net = MixupClassifier(vicinity=CutMix(), **QUICK | {"max_epochs": 20}).fit(X, y)
    assert net.score(X, y) > 0.95
