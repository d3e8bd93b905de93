from pathlib import Path

import pytest

from benchmarks.harness.journal import Journal, hash_identity
from benchmarks.harness.runner import run_tasks


def square(value: int) -> dict[str, int]:
    return {"value": value, "square": value * value}


class Killed(BaseException):
    """Stands for a kill in the middle of a run."""


TASKS = {f"task/{value}": (value,) for value in range(6)}


def test_journal_reads_back_what_was_appended(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "a.journal")
    assert journal.read() == {}
    journal.append("a", {"x": 0.1})
    journal.append("b", {"x": None})
    assert journal.read() == {"a": {"x": 0.1}, "b": {"x": None}}


@pytest.mark.parametrize("cut", [1, 2, 5, 20])
def test_journal_leaves_out_a_line_cut_short(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path / "a.journal")
    journal.append("a", {"x": 1})
    journal.append("b", {"x": 2})
    journal.path.write_bytes(journal.path.read_bytes()[:-cut])
    assert "a" in journal.read()
    journal.append("c", {"x": 3})
    assert journal.read()["c"] == {"x": 3}


@pytest.mark.parametrize("line", ["[]", "3", '{"key": "b"}', "\x00\x00", "\udcff"])
def test_journal_leaves_out_a_damaged_line(tmp_path: Path, line: str) -> None:
    journal = Journal(tmp_path / "a.journal")
    journal.append("a", {"x": 1})
    with journal.path.open("ab") as file:
        file.write(line.encode("utf-8", "surrogateescape") + b"\n")
    assert journal.read() == {"a": {"x": 1}}


def test_journal_finish_deletes_the_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.journal")
    journal.finish()
    journal.append("a", {})
    journal.finish()
    assert not list(tmp_path.iterdir())


def test_journal_finish_keeps_all_records_in_one_file(tmp_path: Path) -> None:
    first = Journal(tmp_path / "a.journal", kept=tmp_path / "kept" / "a")
    first.append("a", {"x": 1})
    first.finish()
    second = Journal(tmp_path / "b.journal", kept=tmp_path / "kept" / "b", earlier=[tmp_path / "kept" / "a"])
    second.append("b", {"x": 2})
    second.finish()
    (path,) = (tmp_path / "kept").iterdir()
    assert Journal(path).read() == {"a": {"x": 1}, "b": {"x": 2}}


def test_journal_of_a_run_in_two_processes_keeps_the_records_of_both(tmp_path: Path) -> None:
    one, other = (Journal(tmp_path / "a.journal", kept=tmp_path / "kept") for _ in range(2))
    one.append("a", {"x": 1})
    other.append("b", {"x": 2})
    one.finish()
    other.append("c", {"x": 3})
    other.finish()
    assert Journal(tmp_path / "kept").read() == {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}}


def test_hash_identity_depends_on_content_not_on_order() -> None:
    assert hash_identity({"a": 1, "b": (2, 3)}) == hash_identity({"b": [2, 3], "a": 1})
    assert hash_identity({"a": 1}) != hash_identity({"a": 2})


@pytest.mark.parametrize("n_before", [0, 1, 4, 6])
def test_run_tasks_goes_on_after_a_kill(tmp_path: Path, n_before: int) -> None:
    done: list[int] = []

    def work(value: int) -> dict[str, int]:
        if len(done) == n_before and not journal_was_killed:
            raise Killed
        done.append(value)
        return square(value)

    journal, journal_was_killed = Journal(tmp_path / "a.journal"), False
    if n_before < len(TASKS):
        with pytest.raises(Killed):
            run_tasks(work, TASKS, journal, n_jobs=1, label="test")
    journal_was_killed = True
    resumed = run_tasks(work, TASKS, journal, n_jobs=1, label="test")
    whole = run_tasks(square, TASKS, Journal(tmp_path / "b.journal"), n_jobs=1, label="test")
    assert resumed == whole
    assert sorted(done) == list(range(6))


def test_run_tasks_ignores_records_of_other_tasks(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.journal")
    journal.append("other", {"value": 99})
    records = run_tasks(square, TASKS, journal, n_jobs=1, label="test")
    assert [record["value"] for record in records] == list(range(6))


@pytest.mark.slow
def test_run_tasks_in_processes_keeps_the_order(tmp_path: Path) -> None:
    tasks = {str(value): ([("value", value)],) for value in range(4)}
    records = run_tasks(dict, tasks, Journal(tmp_path / "a.journal"), n_jobs=2, label="test")
    assert records == [{"value": value} for value in range(4)]
