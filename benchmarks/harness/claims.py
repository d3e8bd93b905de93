"""What the paper says, and what a result says of it: the rows of the verdict, the points of its figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import math
from typing import Any, NamedTuple

from benchmarks.harness.intervals import Interval

__all__ = ["NOT_RUN", "RULE", "Claim", "Comparison", "count_clear", "format_claim", "judge"]

NOT_RUN = "not run"
RULE = (
    "A difference is clear, and marked †, where its 95 % interval excludes 0, of times where the quartiles "
    "do; where a claim names a bound, it is the difference from that bound. *Reproduced*: as the paper says, "
    "and clear where it says that there is a difference, in more than half of the comparisons; *at small "
    "scale* where networks or data are smaller than the paper's. *Opposite*: clear the other way in more "
    "than half. *Not reproduced*: anything else. One seed has no interval, and counts as not run."
)


class Comparison(NamedTuple):
    """One difference of a result, mixup less what it is compared with."""

    label: str  # What is compared, such as "Iris"
    text: str  # Our figures, such as "19.7 → 22.1 %"
    ours: Interval  # The difference; in points of error where ``paper`` is one
    paper: float | None = None  # The paper's difference, in points of error; None where it is not one


@dataclass(frozen=True)
class Claim:
    """A claim of the paper."""

    text: str
    place: str  # Where it stands in the paper, such as "Table 4"
    paper: str  # The paper's figure, in its words
    # ``compare(document)`` returns the comparisons of a result; none where it does not hold what is asked
    compare: Callable[[Mapping[str, Any]], Sequence[Comparison]]
    # Signs of the difference that agree with the paper: -1 clearly below 0, 0 not clear, 1 clearly above
    expected: tuple[int, ...] = (-1,)
    is_full: bool = False  # Networks and data are those of the paper


def count_clear(comparisons: Sequence[Comparison]) -> tuple[int, int]:
    """Return how many differences are clearly below 0, and how many clearly above."""
    signs = [item.ours.find_sign() for item in comparisons]
    return signs.count(-1), signs.count(1)


def judge(claim: Claim, comparisons: Sequence[Comparison]) -> str:
    """Return the verdict on a claim by the rule of ``RULE``; without an interval it was not run.

    Examples
    --------
    >>> from benchmarks.harness.claims import Claim, Comparison, judge
    >>> from benchmarks.harness.intervals import Interval
    >>> claim = Claim("Mixup lowers the error", "Table 4", "", compare=lambda _: [])
    >>> judge(claim, [Comparison("Iris", "", Interval(-2, -3, -1))])
    'reproduced at small scale'
    >>> judge(claim, [])
    'not run'
    """
    signs = [item.ours.find_sign() for item in comparisons if not math.isnan(item.ours.low)]
    if not signs:
        return NOT_RUN
    other = {-sign for sign in claim.expected if sign} - set(claim.expected)
    if 2 * sum(sign in claim.expected for sign in signs) > len(signs):
        return "reproduced" if claim.is_full else "reproduced at small scale"
    return "opposite" if 2 * sum(sign in other for sign in signs) > len(signs) else "not reproduced"


def format_claim(claim: Claim, comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Return the printed row of a claim; no comparisons stand for a benchmark that was not run."""
    return {
        "the paper says": claim.text,
        "verdict": judge(claim, comparisons),
        "ours": _describe(comparisons),
        "its figure": claim.paper,
        "where": claim.place,
    }


def _describe(comparisons: Sequence[Comparison]) -> str:
    """Return our figures; of more than two comparisons, how many are clear."""
    if not comparisons:
        return NOT_RUN
    if len(comparisons) <= 2:
        return "; ".join(item.text + _mark(item.ours) for item in comparisons)
    lower, higher = count_clear(comparisons)
    return f"clearly lower in {lower}, clearly higher in {higher} of {len(comparisons)}"


def _mark(interval: Interval) -> str:
    if math.isnan(interval.low):
        return " (one seed)"
    return " †" * (interval.find_sign() != 0)
