"""A run with more seeds than a finished one goes on from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cli import main
from benchmarks.data.tables import Table
from benchmarks.harness.command import BaseConfig, Command
from benchmarks.harness.experiment import find_paths, run_experiment
from benchmarks.harness.figures import make_figure
from benchmarks.harness.journal import Journal
from benchmarks.harness.results import read_result
from benchmarks.harness.runner import Join, run_tasks


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    factor: int = 2
    seeds_small: int = 3
    seeds_large: int = 2

    def count_seeds(self, table: Table) -> int:
        return self.n_seeds or (self.seeds_small if table.name == "small" else self.seeds_large)


TABLES = [
    Table(name, np.zeros((size, 1)), np.zeros(size), "test") for name, size in (("small", 2), ("large", 4))
]
COMMAND = Command(
    "made-up",
    "none",
    "none",
    {},
    lambda _: 0,
    lambda document: {"rows": [{"n": "1"}]},
    draw=lambda _: make_figure(1),
)


class Experiment:
    """Counts what it computes."""

    def __init__(self, join: int | None = None) -> None:
        self.done: list[tuple[str, int]] = []
        self.sizes: list[int] = []
        self.size = join
        self.join: Join | None = None if join is None else lambda *_: join

    def work(self, config: Config, table: Table, repeat: int) -> dict[str, Any]:
        self.done.append((table.name, repeat))
        return {"dataset": table.name, "repeat": repeat, "value": config.factor * repeat + 0.1}

    def work_joined(self, config: Config, table: Table, repeats: Sequence[int]) -> dict[str, Any]:
        self.sizes.append(len(repeats))
        return {"records": [self.work(config, table, repeat) for repeat in repeats]}

    def run(self, config: Config) -> dict[str, Any]:
        """Return the document that the run leaves."""
        run_experiment(
            COMMAND,
            config,
            names=[],
            load=lambda names, **_: TABLES,
            make_tasks=lambda tables: {
                f"{table.name}/{repeat}": (config, table, repeat)
                for table in tables
                for repeat in range(config.count_seeds(table))
            },
            worker=self.work if self.join is None else self.work_joined,
            join=self.join,
            summarise=list,
            protocol="none",
        )
        document: dict[str, Any] = read_result(config.out / "made-up-embedded-cpu-cpu.json")
        return {name: value for name, value in document.items() if name != "date"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(out=tmp_path / "a", n_jobs=1)


@pytest.mark.parametrize("join", [None, 1, 2, 100])
@pytest.mark.parametrize("first", [2, None], ids=["fewer seeds", "the preset's seeds"])
def test_more_seeds_go_on_from_a_finished_run(
    config: Config, tmp_path: Path, join: int | None, first: int | None
) -> None:
    experiment, whole = Experiment(join), Experiment(join)
    experiment.run(replace(config, n_seeds=first))
    found = experiment.run(replace(config, n_seeds=7))
    expected = whole.run(replace(config, n_seeds=7, out=tmp_path / "b"))
    assert found == expected
    assert (
        sorted(experiment.done)
        == sorted(whole.done)
        == [(name, k) for name in ("large", "small") for k in range(7)]
    )
    assert max(experiment.sizes, default=0) <= (join or 0)


def test_a_chain_of_runs_computes_nothing_twice(config: Config) -> None:
    experiment = Experiment()
    for n_seeds in (2, 3, 5, 6):
        experiment.run(replace(config, n_seeds=n_seeds))
    assert len(experiment.done) == len(set(experiment.done)) == 12
    assert len(list((config.out / "finished").iterdir())) == 1


@pytest.mark.parametrize(
    "options", [{"n_seeds": 2}, {"n_seeds": 5}, {"n_seeds": 6, "factor": 3}, {"n_seeds": None}]
)
def test_another_run_starts_anew(config: Config, tmp_path: Path, options: dict[str, Any]) -> None:
    experiment, whole = Experiment(), Experiment()
    experiment.run(replace(config, n_seeds=5))
    experiment.done.clear()
    found = experiment.run(replace(config, **options))
    assert found == whole.run(replace(config, **options, out=tmp_path / "b"))
    assert sorted(experiment.done) == sorted(whole.done)


def test_fewer_seeds_in_between_cost_nothing_later(config: Config) -> None:
    experiment = Experiment()
    for n_seeds in (5, 2):
        experiment.run(replace(config, n_seeds=n_seeds))
    experiment.done.clear()
    experiment.run(replace(config, n_seeds=6))
    assert sorted(experiment.done) == [("large", 5), ("small", 5)]


@pytest.mark.parametrize(
    ("own", "other", "is_earlier"),
    [("3", "2", True), ("3-3", "3-2", True), ("2", "2", False), ("4-1", "2-2", False), ("10", "9", True)],
)
def test_earlier_runs_have_fewer_seeds(tmp_path: Path, own: str, other: str, is_earlier: bool) -> None:
    journal = Journal(**find_paths(tmp_path / f"a-cpu.0f.{other}"))
    journal.append("key", {"value": 1})
    journal.finish()
    later = Journal(**find_paths(tmp_path / f"a-cpu.0f.{own}"))
    assert later.read() == ({"key": {"value": 1}} if is_earlier else {})


def test_run_tasks_joins_only_tasks_that_share_all_but_the_repeat(tmp_path: Path) -> None:
    calls: list[tuple[str, list[int]]] = []

    def work(name: str, repeats: list[int]) -> dict[str, Any]:
        calls.append((name, repeats))
        return {"records": [{"repeat": repeat} for repeat in repeats]}

    tasks = {f"{name}/{repeat}": (name, repeat) for repeat in range(3) for name in ("a", "b")}
    records = run_tasks(
        work,
        tasks,
        Journal(tmp_path / "a.jsonl"),
        n_jobs=1,
        label="test",
        join=lambda name: 2 if name == "a" else 9,
    )
    assert calls == [("a", [0, 1]), ("a", [2]), ("b", [0, 1, 2])]
    assert records == [{"records": [{"repeat": arguments[-1]}]} for arguments in tasks.values()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["corrupted-tables", "cifar", "gan"])
def test_benchmarks_take_over_the_records_of_fewer_seeds(name: str, tmp_path: Path) -> None:
    documents = []
    for n_seeds in ("2", "3"):
        assert main([name, "--preset", "smoke", "--seeds", n_seeds, "--out", str(tmp_path)]) == 0
        (path,) = tmp_path.glob("*.json")
        documents.append(read_result(path))
    fewer, more = (document["records"]["rows"] for document in documents)
    # The seconds are among the values.
    assert [record for record in fewer if record not in more] == []
    assert len(more) > len(fewer)
