"""Cases sampled from a cross product, in the place of all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
import itertools
import random
import re
from typing import Any

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator


def cover_pairs(
    *axes: Sequence[Any], allowed: Callable[..., bool] = lambda *_: True
) -> list[tuple[Any, ...]]:
    """Return few cases in which any two values of two axes meet that meet in an allowed case."""
    values = [list(axis) for axis in axes]
    cases = [
        case
        for case in itertools.product(*(range(len(axis)) for axis in values))
        if allowed(*(axis[k] for axis, k in zip(values, case, strict=True)))
    ]
    random.Random(0).shuffle(cases)
    pairs = {case: set(itertools.combinations(enumerate(case), 2)) for case in cases}
    left, chosen = set().union(*pairs.values()), []
    for n_new in range(len(axes) * (len(axes) - 1) // 2, 0, -1):
        for case in cases:
            if len(pairs[case] & left) >= n_new:
                chosen.append(case)
                left -= pairs[case]
    return [tuple(axis[k] for axis, k in zip(values, case, strict=True)) for case in sorted(chosen)]


def each_pair(axes: Mapping[str, Sequence[Any]]) -> pytest.MarkDecorator:
    """Parametrise by few cases in which any two values meet."""
    return _parametrise(axes, cover_pairs(*axes.values()))


def each_value(axes: Mapping[str, Sequence[Any]]) -> pytest.MarkDecorator:
    """Parametrise by as many cases as the longest axis has values, in which each value occurs."""
    n_cases = max(map(len, axes.values()))
    cycled = (itertools.islice(itertools.cycle(axis), n_cases) for axis in axes.values())
    return _parametrise(axes, list(zip(*cycled, strict=True)))


def share_checks(estimators: Mapping[Any, dict[str, str]]) -> pytest.MarkDecorator:
    """Parametrise by scikit-learn's checks, each of one estimator in turn; a value is what one may fail."""
    dealt: dict[str, list[Any]] = {}
    for estimator, exempt in estimators.items():
        for case in estimator_checks_generator(estimator, mark="xfail", expected_failed_checks=exempt):
            check = getattr(case, "values", case)[1]
            dealt.setdefault(f"{check.func.__name__}{check.keywords or ''}", []).append(case)
    cases = [found[k % len(found)] for k, found in enumerate(dealt.values())]
    return pytest.mark.parametrize(("estimator", "check"), cases, ids=_name_check)


def _name_check(value: Any) -> str:
    return value.func.__name__ if hasattr(value, "func") else type(value).__name__


def _parametrise(axes: Mapping[str, Sequence[Any]], cases: list[tuple[Any, ...]]) -> pytest.MarkDecorator:
    """Parametrise by cases; the values of an axis with several names, divided by commas, are tuples."""
    names = ",".join(axes)
    flat = [
        tuple(
            value
            for name, part in zip(axes, case, strict=True)
            for value in (part if "," in name else (part,))
        )
        for case in cases
    ]
    return pytest.mark.parametrize(names, flat, ids=_name)


def _name(value: Any) -> str | None:
    return spell(value) if isinstance(value, dict | list) or is_dataclass(value) else None


def spell(value: Any) -> str:
    """Return a value as text, without addresses in memory: the same in each process that runs tests."""
    return re.sub(r" at 0x\w+", "", str(value))
