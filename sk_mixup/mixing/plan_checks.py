"""Checks of what vicinities and partners of a user's own have drawn; once an epoch, never row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sk_mixup.mixing.operations import Operation
from sk_mixup.mixing.plan import INPUT, Index, Plan, Weights
from sk_mixup.mixing.row_facts import RowFacts

__all__ = ["check_places", "check_plan", "is_ours"]

# How far from 1 weights of float64 may sum; those of a lower precision as far as they round.
TOLERANCE = 1e-6


def is_ours(policy: object) -> bool:
    """Whether this package has the class of a policy; what such draw follows the rules."""
    return type(policy).__module__.startswith("sk_mixup.")


def check_plan(
    plan: object, user: str, bounds: Index, order: Index, facts: RowFacts, *, shares_lam: bool
) -> Plan:
    """Return a plan that can be followed, or raise if what was drawn is none.

    Parameters
    ----------
    plan : object
        What a vicinity has drawn.
    user : str
        The vicinity, for the error.
    bounds, order, facts
        What it was given; see :meth:`Vicinity.draw`.
    shares_lam : bool
        Whether it says that all examples of a mini-batch have the same weights.

    Returns
    -------
    plan : Plan
        The same, with places of dtype int64 and weights of dtype float64.

    Raises
    ------
    TypeError, ValueError
        If a field of the plan breaks its rule.
    """
    if not isinstance(plan, Plan):
        given = _show(plan)
        raise TypeError(f"draw of {user} must return a Plan; got {given}. Return Plan(bounds, order, ...).")
    plan = _check_partners(_check_order(plan, user, bounds, order, facts), user, facts)
    if plan.lam is not None and shares_lam:
        _check_shared(plan.lam, user, bounds)
    _check_operations(plan, user)
    if plan.layers is not None:
        _check_layers(plan, plan.layers, user, facts)
    return plan


def check_places(
    place: object,
    within_batch: object,
    user: str,
    bounds: Index,
    n_samples: int,
    shapes: Sequence[tuple[int, ...]],
) -> Index:
    """Return places of partners as integers, or raise if they are none.

    Parameters
    ----------
    place : object
        What was drawn.
    within_batch : object
        Whether all partners are said to come from the example's own mini-batch.
    user : str
        Who has drawn them, for the error.
    bounds : ndarray of shape (n_batches + 1,)
        Where the mini-batches begin and end.
    n_samples : int
        How many places there are.
    shapes : sequence of tuple
        Shapes that `place` may have.

    Raises
    ------
    TypeError, ValueError
        If `place` or `within_batch` breaks its rule.
    """
    if not isinstance(within_batch, bool | np.bool_):
        hint = "Say whether all partners come from the example's own mini-batch."
        raise TypeError(_word("within_batch", user, "be True or False", repr(within_batch), hint))
    found = _as_array("place", user, place, "iu", np.int64, "integers")
    if found.shape not in shapes:
        rule = f"have the shape {' or '.join(map(str, dict.fromkeys(shapes)))}, one partner for each example"
        raise ValueError(_word("place", user, rule, f"shape {found.shape}", "Draw a place for each."))
    planned = found[..., : bounds[-1]]
    if planned.size and not (planned.min() >= 0 and planned.max() < n_samples):
        wrong = planned[(planned < 0) | (planned >= n_samples)][0]
        hint = "Give places in the order, not rows of another set."
        raise ValueError(_word("place", user, f"lie in [0, {n_samples})", str(wrong), hint))
    if within_batch:
        sizes = np.diff(bounds)
        start, stop = np.repeat(bounds[:-1], sizes), np.repeat(bounds[1:], sizes)
        outside = (planned < start) | (planned >= stop)
        if outside.any():
            at = int(np.argwhere(outside)[0, -1])
            got = f"place {planned[..., at].max()} for an example of the batch [{start[at]}, {stop[at]})"
            rule = "be False where a partner comes from another mini-batch"
            raise ValueError(_word("within_batch", user, rule, f"True with {got}", "Set it to False."))
    return found


def _word(field: str, user: str, rule: str, got: str, hint: str) -> str:
    return f"{field} of {user} must {rule}; got {got}. {hint}"


def _show(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"


def _as_array(field: str, user: str, values: object, kinds: str, dtype: type, name: str) -> np.ndarray:
    try:
        found = np.asarray(values)
    except ValueError:  # lines of different lengths
        found = np.empty((), dtype=object)
    if found.dtype.kind not in kinds:
        got = f"an array of dtype {found.dtype}" if isinstance(values, np.ndarray) else _show(values)
        raise TypeError(_word(field, user, f"be an array of {name}", got, "Give a NumPy array of them."))
    return np.require(found, dtype, ["C", "W"])


def _check_order(plan: Plan, user: str, bounds: Index, order: Index, facts: RowFacts) -> Plan:
    """Check that the plan has the batches and the rows that `draw` was given."""
    if plan.bounds is bounds and plan.order is order:
        return plan
    if not np.array_equal(plan.bounds, bounds):
        got = f"{np.size(plan.bounds)} bounds for {len(bounds)}, or other values"
        raise ValueError(_word("bounds", user, "be those that draw is given", got, "Hand them on."))
    rows = _as_array("order", user, plan.order, "iu", np.int64, "integers")
    same = np.array_equal(rows, order)
    if not same and (facts.is_stream or not np.array_equal(np.sort(rows, axis=None), np.sort(order))):
        rule = "be that which draw is given" if facts.is_stream else "hold the rows that draw is given"
        got = f"{rows.size} rows for {len(order)}, or others"
        raise ValueError(_word("order", user, rule, got, "Hand it on."))
    return replace(plan, bounds=bounds, order=rows)


def _check_partners(plan: Plan, user: str, facts: RowFacts) -> Plan:
    """Check partners and weights, which are given together."""
    fields: dict[str, object] = {"lam_x": plan.lam_x, "absent": plan.absent}
    if plan.place is None or plan.lam is None:
        fields |= {"place": plan.place, "lam": plan.lam}
        if given := [name for name, values in fields.items() if values is not None]:
            got = f"{given[0]} without {'place' if plan.place is None else 'lam'}"
            hint = "Give each example a partner and both their weights."
            raise ValueError(_word("place and lam", user, "be given together", got, hint))
        return plan
    n_planned = int(plan.bounds[-1])
    lam = _as_array("lam", user, plan.lam, "iuf", np.float64, "numbers")
    if lam.ndim != 2 or len(lam) < 2 or lam.shape[1] != n_planned:
        rule = f"have the shape (n_mixed, {n_planned}), with n_mixed at least 2"
        raise ValueError(_word("lam", user, rule, f"shape {lam.shape}", "Give a line for each partner."))
    _check_sums("lam", user, lam, plan.lam)
    shape = (len(lam) - 1, n_planned)
    place = check_places(plan.place, plan.within_batch, user, plan.bounds, len(plan.order), [shape])
    if facts.is_stream and not plan.within_batch:
        rule = "be True for a data set or iterator with an order of its own"
        raise ValueError(_word("within_batch", user, rule, "False", "Draw partners from the mini-batch."))
    lam_x = None if plan.lam_x is None else _check_input_weights(plan.lam_x, user, lam.shape)
    if lam_x is not None and plan.mixes_hidden:
        _check_sums("lam_x", user, lam_x, plan.lam_x)
    if plan.absent is not None:
        _check_absent(plan.absent, user, lam, lam_x)
    return replace(plan, place=place, lam=lam, lam_x=lam_x)


def _check_sums(name: str, user: str, weights: Weights, given: object) -> None:
    off = np.abs(weights.sum(axis=0) - 1.0)
    if not np.all(off <= max(TOLERANCE, _find_rounding(given))):
        at = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
        got = f"a sum of {weights[:, at].sum():g} at place {at}"
        raise ValueError(_word(name, user, "sum to 1 for each example", got, "Divide them by their sum."))


def _find_rounding(values: object) -> float:
    dtype = np.asarray(values).dtype
    return 4 * float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0


def _check_input_weights(values: object, user: str, shape: tuple[int, ...]) -> Weights:
    lam_x = _as_array("lam_x", user, values, "iuf", np.float64, "numbers")
    if lam_x.shape != shape:
        hint = "Give a weight for each of lam."
        raise ValueError(_word("lam_x", user, f"have the shape {shape}", f"shape {lam_x.shape}", hint))
    if not np.isfinite(lam_x).all():
        wrong = lam_x[~np.isfinite(lam_x)][0]
        raise ValueError(_word("lam_x", user, "be finite", str(wrong), "Give the weight of each input."))
    return lam_x


def _check_absent(values: object, user: str, lam: Weights, lam_x: Weights | None) -> None:
    absent = _as_array("absent", user, values, "b", np.bool_, "booleans")
    if absent.shape != lam[1:].shape:
        rule, got = f"have the shape {lam[1:].shape}", f"shape {absent.shape}"
        raise ValueError(_word("absent", user, rule, got, "Give one for each partner."))
    for weights in (lam, lam if lam_x is None else lam_x):
        if np.any(weights[1:][absent]):
            rule, hint = "be False for a partner that has a weight", "Set the weight to 0, or this to False."
            raise ValueError(_word("absent", user, rule, "True", hint))


def _check_shared(lam: Weights, user: str, bounds: Index) -> None:
    if not np.array_equal(lam, np.repeat(lam[:, bounds[:-1]], np.diff(bounds), axis=1)):
        rule = "be the same for all examples of a mini-batch where lam_per is 'batch'"
        hint = "Repeat the weights, or set lam_per to 'example'."
        raise ValueError(_word("lam", user, rule, "different weights", hint))


def _check_operations(plan: Plan, user: str) -> None:
    given, n_planned = plan.operations, int(plan.bounds[-1])
    if not isinstance(given, tuple | list) or not all(isinstance(each, Operation) for each in given):
        hint = "Give instances, such as (AddNoise(std, noise),)."
        raise TypeError(_word("operations", user, "be a tuple of Operation", repr(given), hint))
    for operation in given:
        name, values = f"values of {type(operation).__name__}", operation.values
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
            hint = "Give a NumPy array of them."
            raise TypeError(_word(name, user, "be an array of numbers", _show(values), hint))
        if not values.ndim or values.shape[-1] != n_planned:
            rule, hint = f"have {n_planned} columns, one for each example", "Draw them for each."
            raise ValueError(_word(name, user, rule, f"shape {values.shape}", hint))


def _check_layers(plan: Plan, layers: tuple[str, ...], user: str, facts: RowFacts) -> None:
    names = isinstance(layers, tuple | list) and all(isinstance(layer, str) for layer in layers)
    if not names or len(layers) != len(plan):
        rule, hint = (
            f"be a tuple of {len(plan)} names, one for each batch",
            "Name a submodule or 'input' for each.",
        )
        raise ValueError(_word("layers", user, rule, repr(layers), hint))
    if not plan.mixes_hidden:
        return
    facts.find_layers(tuple(sorted(set(layers))), user)
    if plan.lam is None:
        hint = "Give place and lam."
        raise ValueError(_word("layers", user, "be None where nothing is mixed", repr(layers), hint))
    hidden: NDArray[np.bool_] = np.repeat([layer != INPUT for layer in layers], np.diff(plan.bounds))
    for operation in plan.operations:
        if np.any(operation.values[..., hidden]):
            raise ValueError(
                f"operations of {user} must leave batches alone that are mixed at a hidden layer; got "
                f"{type(operation).__name__} with values other than 0 there. Set them to 0."
            )
