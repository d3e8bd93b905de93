"""A plan that a user's own vicinity, or partners, draw: followed as it is, or refused by field and rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from numpy.typing import NDArray
import pytest
from skorch import NeuralNetClassifier
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from sk_mixup.mixing import (
    ERM,
    AddNoise,
    Mixture,
    Mixup,
    NoiseSource,
    Partners,
    Plan,
    RowFacts,
    Vicinity,
    draw_partners,
)
from tests.helpers.datasets import Pairs, Stream
from tests.helpers.nets import QUICK
from tests.helpers.stacking import fit_stacked

N, SIZE = 21, 8  # 2 batches of 8 and one of 5
GENERATOR = np.random.default_rng(0)
X, Y = GENERATOR.normal(size=(N, 5)).astype(np.float32), np.arange(N) % 3

Change = Callable[[Plan], Any]


@dataclass(frozen=True)
class Own(Vicinity):
    """Draws mixup's plan, and changes it."""

    change: Change
    lam_per: str = "example"

    def draw(self, *args: Any) -> Any:
        return self.change(Mixup().draw(*args))


@dataclass(frozen=True)
class Mates(Partners):
    """Draws a place for each example by a function of the number of examples."""

    find: Callable[[int], Any]
    within_batch: Any = False

    def draw(self, generator: Any, bounds: Any, order: Any, facts: Any) -> Any:
        return self.find(len(order))


def change(**fields: Callable[[Plan], Any]) -> Change:
    return lambda plan: replace(plan, **{name: compute(plan) for name, compute in fields.items()})


def spoil(name: str, value: Any) -> Change:
    """Put a value into the last column of one field."""

    def spoiled(plan: Plan) -> Any:
        values = getattr(plan, name).copy()
        values[0, -1] = value
        return replace(plan, **{name: values})

    return spoiled


def take(name: str, *shape: Any) -> Change:
    """Take a part of one field, of another shape."""
    return lambda plan: replace(plan, **{name: getattr(plan, name)[shape]})


def noise(width: int) -> Callable[[Plan], Any]:
    return lambda plan: (AddNoise(np.ones(width), NoiseSource(0, plan.bounds)),)


BROKEN: dict[str, tuple[Change, type[Exception], str]] = {
    "none": (lambda plan: None, TypeError, r"draw@return a Plan; got None"),
    "tuple": (
        lambda plan: (plan.bounds, plan.order),
        TypeError,
        r"draw@return a Plan; got .*tuple",
    ),
    "sum": (change(lam=lambda p: 1.8 * p.lam), ValueError, r"lam@sum to 1 .*; got a sum of 1\.8"),
    "one sum": (spoil("lam", 1.5), ValueError, r"lam@sum to 1 .*; got .* at place 20"),
    "negative": (change(lam=lambda p: -p.lam), ValueError, r"lam@sum to 1 .*; got a sum of -1"),
    "nan": (spoil("lam", np.nan), ValueError, r"lam@sum to 1 .*; got a sum of nan at place 20"),
    "inf": (spoil("lam", np.inf), ValueError, r"lam@sum to 1 .*; got a sum of inf"),
    "lam columns": (
        take("lam", ..., slice(5)),
        ValueError,
        r"lam@have the shape \(n_mixed, 21\)",
    ),
    "lam line": (take("lam", 0), ValueError, r"lam@have the shape .*; got shape \(21,\)"),
    "lam of one": (
        take("lam", slice(1)),
        ValueError,
        r"lam@have .*n_mixed at least 2; got shape",
    ),
    "lam text": (
        change(lam=lambda p: p.lam.astype(str)),
        TypeError,
        r"lam@be an array of numbers",
    ),
    "lam ragged": (
        change(lam=lambda p: [[1.0], [0.0, 0.0]]),
        TypeError,
        r"lam@be .*; got .*list",
    ),
    "no lam": (change(lam=lambda p: None), ValueError, r"place and lam@be given together"),
    "no place": (change(place=lambda p: None), ValueError, r"place and lam of Own .*; got lam without place"),
    "place line": (
        take("place", 0),
        ValueError,
        r"place@have the shape \(1, 21\).*; got shape \(21,\)",
    ),
    "place columns": (
        take("place", ..., slice(9)),
        ValueError,
        r"place@have .*; got shape \(1, 9\)",
    ),
    "place float": (
        change(place=lambda p: 1.0 * p.place),
        TypeError,
        r"place@be .*; got .*float64",
    ),
    "place bool": (
        change(place=lambda p: p.place > 3),
        TypeError,
        r"place@be .*integers; got .*bool",
    ),
    "place high": (spoil("place", N), ValueError, r"place@lie in \[0, 21\); got 21"),
    "place low": (spoil("place", -1), ValueError, r"place@lie in \[0, 21\); got -1"),
    "other batch": (
        spoil("place", 0),
        ValueError,
        r"within_batch@be False .* place 20|True with place",
    ),
    "within none": (
        change(within_batch=lambda p: None),
        TypeError,
        r"within_batch@be True or False",
    ),
    "inputs within the net": (
        change(lam_x=lambda p: 0.5 * p.lam, layers=lambda p: ("a", "input", "a")),
        ValueError,
        r"lam_x@sum to 1 .*; got a sum of 0.5",
    ),
    "few rows": (
        take("order", slice(9)),
        ValueError,
        r"order@hold the rows .*; got 9 rows for 21",
    ),
    "other rows": (
        change(order=lambda p: 0 * p.order),
        ValueError,
        r"order@hold the rows that draw",
    ),
    "order float": (
        change(order=lambda p: 1.0 * p.order),
        TypeError,
        r"order@be an array of integers",
    ),
    "few batches": (
        take("bounds", slice(2)),
        ValueError,
        r"bounds@be those .*; got 2 bounds for 4",
    ),
    "no bounds": (
        change(bounds=lambda p: None),
        ValueError,
        r"bounds@be those that draw is given",
    ),
    "input nan": (
        change(lam_x=lambda p: np.nan * p.lam),
        ValueError,
        r"lam_x@be finite; got nan",
    ),
    "input shape": (
        change(lam_x=lambda p: p.lam[0]),
        ValueError,
        r"lam_x@have the shape \(2, 21\)",
    ),
    "input alone": (
        change(lam=lambda p: None, place=lambda p: None, lam_x=lambda p: p.lam),
        ValueError,
        r"place and lam@be given together; got lam_x without place",
    ),
    "absent": (
        change(absent=lambda p: np.ones((1, N), dtype=bool)),
        ValueError,
        r"absent@be False for a partner that has a weight",
    ),
    "absent shape": (
        change(absent=lambda p: p.lam < 0),
        ValueError,
        r"absent@have the shape \(1, 21\)",
    ),
    "layers few": (
        change(layers=lambda p: ("input",)),
        ValueError,
        r"layers@be a tuple of 3 names",
    ),
    "layers text": (
        change(layers=lambda p: "abc"),
        ValueError,
        r"layers@be a tuple of 3 names, one",
    ),
    "no operation": (
        change(operations=lambda p: AddNoise),
        TypeError,
        r"operations@be a tuple of Op",
    ),
    "operation columns": (
        change(operations=noise(3)),
        ValueError,
        r"values of AddNoise@have 21 columns, one for each example; got shape \(3,\)",
    ),
}


def spell(message: str) -> str:
    return message.replace("@", " of Own must ")


def redraw(vicinity: Vicinity) -> Plan:
    return vicinity(np.random.default_rng(0), N, SIZE)


@pytest.mark.parametrize(("change", "error", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plan_is_refused_by_field_and_rule(
    change: Change, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=spell(message)):
        redraw(Own(change))


class MixedNet(MixupNetMixin, NeuralNetClassifier):
    """A skorch net of the user's own."""


def build(way: str, vicinity: Vicinity) -> Any:
    options: dict[str, Any] = QUICK | {"vicinity": vicinity, "max_epochs": 1, "batch_size": SIZE}
    if way == "stream":
        options["classes"] = [0, 1, 2]
    if way == "mixin":
        del options["early_stopping"]
        plain = {
            "module__in_features": 5,
            "module__out_features": 3,
            "criterion": nn.CrossEntropyLoss,
            "train_split": None,
            "verbose": 0,
        }
        return MixedNet(nn.Linear, **options, **plain)
    if way == "regressor":
        return MixupRegressor(**options)
    return MixupClassifier(**options, augment=(lambda x: x) if way == "stepwise" else None)


def fit(way: str, vicinity: Vicinity) -> Any:
    """Train a net on the same rows, in one of the ways that a plan can be followed."""
    net = build(way, vicinity)
    if way in ("dataset", "stream"):
        return net.fit(Pairs(X, Y) if way == "dataset" else Stream(Pairs(X[:SIZE], Y[:SIZE])), None)
    if way == "stacked":
        return fit_stacked([(net, X, Y), (build(way, Own(lambda plan: plan)), X, Y)])[0]
    return net.partial_fit(X, Y) if way == "partial_fit" else net.fit(X, X[:, 0] if way == "regressor" else Y)


WAYS = ["fast", "stepwise", "stacked", "dataset", "partial_fit", "mixin", "regressor"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["none", "sum", "place line", "place high", "other batch", "few rows"])
def test_a_broken_plan_is_refused_in_every_way(way: str, name: str) -> None:
    change, error, message = BROKEN[name]
    with pytest.raises(error, match=spell(message)):
        fit(way, Own(change))


@pytest.mark.parametrize("per", ["batch", "example"])
def test_a_mixture_names_the_part_that_is_broken(per: str) -> None:
    change, error, message = BROKEN["sum"]
    with pytest.raises(error, match=spell(message)):
        redraw(Mixture((ERM(), Own(change)), per=per))


def test_a_mixture_of_rows_refuses_hidden_layers_that_no_attribute_tells() -> None:
    hidden = Own(change(layers=lambda plan: ("input", "layers.2", "input")))
    with pytest.raises(ValueError, match=r"per must be 'batch' where hidden layers are mixed; got 'example'"):
        redraw(Mixture((hidden, Mixup()), per="example"))


def test_weights_that_are_said_to_be_shared_must_be() -> None:
    with pytest.raises(ValueError, match=r"lam of Own must be the same for all .* where lam_per is 'batch'"):
        redraw(Own(lambda plan: plan, lam_per="batch"))


def test_partners_from_elsewhere_are_refused_in_a_stream() -> None:
    with pytest.raises(ValueError, match=r"within_batch of Own must be True for a data set or iterator"):
        fit("stream", Own(change(within_batch=lambda plan: False)))


# -- what is followed --------------------------------------------------------------------


def reverse(values: NDArray) -> NDArray:
    """Return equal values in an array of negative strides."""
    return values[:, ::-1].copy()[:, ::-1]


def lock(values: NDArray) -> NDArray:
    locked = values.copy()
    locked.flags.writeable = False
    return locked


def each(convert: Callable[[Any], Any], *names: str) -> Change:
    """Put some fields into another form."""
    return lambda plan: replace(plan, **{name: convert(getattr(plan, name)) for name in names})


FORMS: dict[str, Change] = {
    "reversed": each(reverse, "lam", "place"),
    "columns first": each(np.asfortranarray, "lam", "place"),
    "read-only": each(lock, "lam", "place", "order"),
    "lists": each(list, "lam", "place", "bounds"),
    "small integers": each(lambda values: values.astype(np.uint8), "place", "order"),
    "big-endian": each(lambda values: values.astype(values.dtype.newbyteorder(">")), "lam", "place"),
    "tensors": each(torch.as_tensor, "lam", "place"),
    "elsewhere": change(within_batch=lambda p: False),
    "inputs alike": change(lam_x=lambda p: reverse(p.lam)),
    "all there": change(absent=lambda p: np.zeros((1, N), dtype=bool)),
    "all at the input": change(layers=lambda p: ["input"] * 3),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FORMS)
def test_a_plan_in_another_form_trains_the_same_net(way: str, name: str) -> None:
    net, other = fit(way, Own(FORMS[name])), fit(way, Mixup())
    assert net.history[-1]["train_loss"] == pytest.approx(other.history[-1]["train_loss"], rel=1e-6)
    torch.testing.assert_close(net.module_.state_dict(), other.module_.state_dict())


def test_rows_may_be_visited_in_another_order() -> None:
    plan = redraw(Own(change(order=lambda plan: plan.order[::-1])))
    assert np.array_equal(plan.order, redraw(Mixup()).order[::-1])


def is_sound(plan: Plan) -> bool:
    """Whether places and weights can be followed: the rules, one example at a time."""
    batches = [range(start, stop) for start, stop in pairwise(plan.bounds.tolist())]
    for batch in batches:
        for i in batch:
            places, weights = plan.place[:, i].tolist(), plan.lam[:, i].tolist()
            if not all(place in (batch if plan.within_batch else range(N)) for place in places):
                return False
            if not abs(math.fsum(weights) - 1) < 1e-6:
                return False
    return True


@settings(max_examples=60)
@given(st.data())
def test_a_plan_is_followed_just_where_a_slow_check_agrees(data: Any) -> None:
    plan = redraw(Mixup(n_mixed=data.draw(st.sampled_from([2, 3])), partners="batch"))
    place, lam = plan.place.copy(), plan.lam.copy()
    at = data.draw(st.integers(0, N - 1))
    place[0, at] = data.draw(st.one_of(st.just(place[0, at]), st.integers(-2, N + 1)))
    lam[-1, at] += data.draw(st.sampled_from([0.0, 1e-9, -1e-3, 0.8, -2.0, np.nan, np.inf]))
    changed = replace(plan, place=place, lam=lam, within_batch=data.draw(st.booleans()))
    if is_sound(changed):
        assert np.array_equal(redraw(Own(lambda _: changed)).place, place)
    else:
        with pytest.raises(ValueError, match=r"^(lam|place|within_batch) of Own must .*; got .*\. \w"):
            redraw(Own(lambda _: changed))


# -- partners ----------------------------------------------------------------------------

WRONG_PARTNERS: dict[str, tuple[Mates, type[Exception], str]] = {
    "none": (
        Mates(lambda n: None),
        TypeError,
        r"place of Mates must be an array of integers; got None",
    ),
    "float": (
        Mates(lambda n: np.zeros(n)),
        TypeError,
        r"place of Mates must be .*; got .*float64",
    ),
    "few": (Mates(lambda n: np.zeros(3, int)), ValueError, r"place of Mates must have the shape"),
    "table": (
        Mates(lambda n: np.zeros((1, n), int)),
        ValueError,
        r"place of Mates must have the shape",
    ),
    "high": (
        Mates(lambda n: np.arange(n) + 1),
        ValueError,
        r"place of Mates must lie in .*; got 21",
    ),
    "low": (
        Mates(lambda n: np.arange(n) - 2),
        ValueError,
        r"place of Mates must lie in .*; got -2",
    ),
    "within": (
        Mates(lambda n: np.arange(n)[::-1], within_batch=True),
        ValueError,
        r"within_batch of Mates must be False .*; got True with place 20 for .* \[0, 8\)",
    ),
    "word": (
        Mates(lambda n: np.arange(n), within_batch="no"),
        TypeError,
        r"within_batch of Mates must be True or False; got 'no'",
    ),
}


@pytest.mark.parametrize("n_mixed", [2, 3])
@pytest.mark.parametrize(("partners", "error", "message"), WRONG_PARTNERS.values(), ids=WRONG_PARTNERS)
def test_partners_that_are_none_are_refused(
    partners: Mates, error: type[Exception], message: str, n_mixed: int
) -> None:
    with pytest.raises(error, match=message):
        redraw(Mixup(partners=partners, n_mixed=n_mixed))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_partners_in_another_form_are_followed(dtype: type) -> None:
    partners = Mates(lambda n: np.arange(n, dtype=dtype)[::-1])
    plan = redraw(Mixup(partners=partners))
    assert np.array_equal(plan.place, np.arange(N)[None, ::-1])
    place, within = draw_partners(GENERATOR, plan.bounds, plan.order, RowFacts(), partners=partners)
    assert np.array_equal(place, plan.place)
    assert not within
