from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from benchmarks.harness.intervals import compute_t_interval
from benchmarks.harness.paired_differences import Metric, summarise_pairs

ERM, MIXED = [0.5, 0.25, 0.75], [0.25, 0.25, 0.25]


def make_records(dataset: str = "iris") -> list[dict[str, object]]:
    return [
        {"dataset": dataset, "method": method, "repeat": repeat, "error": error}
        for method, errors in (("ERM", ERM), ("mixup", MIXED))
        for repeat, error in enumerate(errors)
    ]


@pytest.mark.parametrize(
    ("change", "column", "expected"),
    [
        ("difference", "error_diff", 100 * (np.mean(MIXED) - np.mean(ERM))),
        ("per cent", "error_change", 100 * (np.mean(MIXED) / np.mean(ERM) - 1)),
        ("ratio", "error_change", 100 * (np.prod(np.divide(MIXED, ERM)) ** (1 / 3) - 1)),
    ],
)
def test_summarise_pairs_means_equal_a_reference(change: str, column: str, expected: float) -> None:
    metrics = {"error": Metric(100.0, change)}
    _, row = summarise_pairs(make_records(), metrics, by=["dataset"], baseline="ERM")
    assert row[column] == pytest.approx(expected, abs=1e-4)
    assert row["error"] == pytest.approx(100 * np.mean(MIXED))
    assert row["error_wins"] == pytest.approx((1 + 0.5 + 1) / 3, abs=1e-3)


def test_summarise_pairs_interval_is_of_the_paired_differences() -> None:
    _, row = summarise_pairs(make_records(), {"error": Metric()}, by=["dataset"], baseline="ERM")
    interval = compute_t_interval(np.subtract(MIXED, ERM))
    assert (row["error_diff_low"], row["error_diff_high"]) == pytest.approx(interval[1:], abs=1e-5)


@given(st.permutations(make_records() + make_records("wine")))
def test_summarise_pairs_does_not_depend_on_the_order(records: list[dict[str, object]]) -> None:
    arguments = {"by": ["dataset"], "baseline": "ERM"}
    expected = summarise_pairs(make_records() + make_records("wine"), {"error": Metric()}, **arguments)
    rows = summarise_pairs(records, {"error": Metric()}, **arguments)
    assert sorted(rows, key=str) == sorted(expected, key=str)


def test_summarise_pairs_of_the_baseline_differ_by_nothing() -> None:
    row, _ = summarise_pairs(make_records(), {"error": Metric()}, by=["dataset"], baseline="ERM")
    assert row["method"] == "ERM"
    assert (row["error_diff"], row["error_diff_low"], row["error_diff_high"]) == (0, 0, 0)


def test_summarise_pairs_adds_what_describe_says() -> None:
    rows = summarise_pairs(
        make_records(),
        {},
        by=["dataset"],
        baseline="ERM",
        describe=lambda part: {"first": part[0]["error"]},
    )
    assert [row["first"] for row in rows] == [ERM[0], MIXED[0]]
