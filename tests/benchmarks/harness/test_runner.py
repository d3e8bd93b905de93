"""What a task is run in."""

from pathlib import Path
import re
from typing import Any
import warnings

import joblib
import numpy as np
import pytest

from benchmarks.harness.journal import Journal
from benchmarks.harness.runner import PostponedError, run_tasks
from sk_mixup import MixupClassifier


def fit_by_few() -> None:
    X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    MixupClassifier(max_epochs=1, early_stopping=True, random_state=0).fit(X, X[:, 0] > 0)


def run_one(_: int) -> dict[str, Any]:
    with warnings.catch_warnings(record=True) as caught:
        fit_by_few()
        warnings.warn("of the task", UserWarning, stacklevel=1)
    return {"messages": [str(each.message) for each in caught]}


@pytest.mark.filterwarnings("always:of the task")
@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_tasks_are_given_no_advice_for_tables_of_ones_own(tmp_path: Path, n_jobs: int) -> None:
    tasks = {"a": (0,), "b": (1,)}
    found = run_tasks(run_one, tasks, Journal(tmp_path / "journal"), n_jobs=n_jobs, label="test")
    assert [record["messages"] for record in found] == [["of the task"]] * 2
    with pytest.warns(UserWarning, match="validation_fraction must hold out"):
        fit_by_few()


def double(number: int) -> dict[str, int]:
    return {"twice": 2 * number}


def test_tasks_are_not_begun_when_the_time_is_up(tmp_path: Path) -> None:
    journal, both = Journal(tmp_path / "journal"), {"b": (1,), "a": (3,)}
    late: dict[str, Any] = {"n_jobs": 1, "label": "test", "until": 0.0}
    assert run_tasks(double, both, journal, is_partial=True, **late) == []
    assert run_tasks(double, {"a": (3,)}, journal, n_jobs=1, label="test") == [{"twice": 6}]
    assert run_tasks(double, both, journal, is_partial=True, **late) == [{"twice": 6}]
    with pytest.raises(PostponedError, match=r"^1 of 2 are done; the same command goes on\.$"):
        run_tasks(double, both, journal, **late)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_no_task_is_begun_after_the_time_is_up(tmp_path: Path, n_jobs: int) -> None:
    """Tasks are handed out before a process is free, and must not be begun when it is."""
    begun: list[int] = []

    def begin(number: int) -> dict[str, int]:
        begun.append(number)
        return {"number": number}

    tasks, journal = {str(number): (number,) for number in range(9)}, Journal(tmp_path / "journal")
    options: dict[str, Any] = {"n_jobs": n_jobs, "label": "test", "clock": lambda: float(len(begun))}
    with joblib.parallel_config(backend="threading"):
        records = run_tasks(begin, tasks, journal, until=3.0, is_partial=True, **options)
        assert 3 <= len(begun) <= 2 + n_jobs  # two may look at the clock before either begins
        assert sorted(record["number"] for record in records) == sorted(begun)
        assert len(run_tasks(begin, tasks, journal, **options)) == len(begun) == 9


def test_what_is_shared_goes_on_elsewhere(tmp_path: Path) -> None:
    shared, both = tmp_path / "tree" / "shared.jsonl", {"b": (1,), "a": (3,)}
    here = Journal(tmp_path / "here", shared=shared)
    run_tasks(double, {"a": (3,)}, here, n_jobs=1, label="test")
    with pytest.raises(PostponedError, match=re.escape(f"Commit '{shared}'")):
        run_tasks(double, both, here, n_jobs=1, label="test", until=0.0)
    there = Journal(tmp_path / "there", kept=tmp_path / "kept", shared=shared)
    assert there.read() == {"a": {"twice": 6}}
    assert run_tasks(double, both, there, n_jobs=1, label="test") == [{"twice": 2}, {"twice": 6}]
    there.finish()
    assert not shared.exists()
    assert Journal(tmp_path / "kept").read() == {"a": {"twice": 6}, "b": {"twice": 2}}
