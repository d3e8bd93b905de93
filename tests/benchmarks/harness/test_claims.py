from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.claims import Claim, Comparison, format_claim, judge
from benchmarks.harness.intervals import Interval
from benchmarks.verdict import find_comparisons

BELOW, UNCLEAR, ABOVE = Interval(-2, -3, -1), Interval(-1, -3, 1), Interval(2, 1, 3)
ONE_SEED = Interval(-2, np.nan, np.nan)


def compare(*intervals: Interval) -> list[Comparison]:
    return [Comparison(str(place), f"text {place}", interval) for place, interval in enumerate(intervals)]


@pytest.mark.parametrize(
    ("expected", "found", "verdict"),
    [
        ((-1,), [BELOW], "reproduced at small scale"),
        ((-1,), [UNCLEAR], "not reproduced"),
        ((-1,), [ABOVE], "opposite"),
        ((1,), [ABOVE], "reproduced at small scale"),
        ((1,), [BELOW], "opposite"),
        # More than half, not half.
        ((-1,), [BELOW, UNCLEAR], "not reproduced"),
        ((-1,), [BELOW, BELOW, ABOVE], "reproduced at small scale"),
        ((-1,), [ABOVE, ABOVE, BELOW], "opposite"),
        ((-1,), [BELOW, ABOVE], "not reproduced"),
        # That there is no difference cannot have an opposite; that there is no gain can.
        ((0,), [UNCLEAR, UNCLEAR, BELOW], "reproduced at small scale"),
        ((0,), [BELOW, ABOVE, ABOVE], "not reproduced"),
        ((0, 1), [UNCLEAR, ABOVE], "reproduced at small scale"),
        ((0, 1), [BELOW], "opposite"),
        ((-1,), [], "not run"),
        ((-1,), [ONE_SEED], "not run"),
        ((-1,), [ONE_SEED, BELOW], "reproduced at small scale"),
    ],
)
def test_verdict_follows_the_rule(expected: tuple[int, ...], found: Sequence[Interval], verdict: str) -> None:
    claim = Claim("It helps", "Table 1", "2 points", lambda _: compare(*found), expected)
    assert judge(claim, compare(*found)) == verdict


def test_a_result_of_the_papers_size_is_reproduced_without_reserve() -> None:
    claim = Claim("It helps", "Table 1", "2 points", lambda _: compare(BELOW), is_full=True)
    assert judge(claim, claim.compare({})) == "reproduced"


def test_a_row_shows_two_comparisons_and_counts_more() -> None:
    two, three = (
        Claim("It helps", "Table 1", "2 points", lambda _, found=found: compare(*found))
        for found in ((BELOW, UNCLEAR), (BELOW, ABOVE, UNCLEAR))
    )
    rows = [format_claim(claim, claim.compare({})) for claim in (two, three)]
    assert format_claim(two, compare(ONE_SEED))["ours"] == "text 0 (one seed)"
    assert rows[0]["ours"] == "text 0 †; text 1"
    assert rows[1]["ours"] == "clearly lower in 1, clearly higher in 1 of 3"
    assert [format_claim(two, [])[name] for name in ("ours", "verdict")] == ["not run", "not run"]


def test_a_result_of_one_seed_stands_for_no_other() -> None:
    """Without an interval a result tells nothing, however large it was."""
    one, several = Interval(-5.0, np.nan, np.nan), Interval(-2.0, -3.0, -1.0)
    documents = {
        preset: {"command": "tiny", "preset": preset, "ours": ours}
        for preset, ours in (("cpu", several), ("gpu", one))
    }
    claim = Claim("text", "place", "", lambda document: [Comparison("a", "a", document["ours"])])
    command: Any = SimpleNamespace(name="tiny")
    assert [item.ours for item in find_comparisons(command, claim, documents)] == [several]
    assert [item.ours for item in find_comparisons(command, claim, {"gpu": documents["gpu"]})] == [one]
    assert find_comparisons(command, claim, {}) == []
