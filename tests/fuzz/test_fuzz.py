"""Anything that a user may give: a fit that is right, or an error that names what is wrong.

A case that fails prints a script. CI tries ten thousand cases; ``python -m tests.fuzz FIRST_SEED N_CASES``
tries others.
"""

from typing import Any

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
import pytest

from tests.fuzz.__main__ import count_failures
from tests.fuzz.cases import KINDS, judge, make_case

EACH_KIND = pytest.mark.parametrize("kind", KINDS)
PHASES = [Phase.explicit, Phase.generate, Phase.shrink]


def check(data: Any, kind: str) -> None:
    case = make_case(lambda options: data.draw(st.sampled_from(options)), kind)
    assume(not case.is_pending)
    complaints = judge(case)
    assert not complaints, "\n".join([*complaints, "", str(case)])


@EACH_KIND
@settings(max_examples=20, phases=PHASES, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_given_is_trained_on_rightly_or_refused_in_words(data: Any, kind: str) -> None:
    check(data, kind)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 10_000, 500))
def test_ten_thousand_cases(first: int) -> None:
    assert count_failures(first, 500) == 0
