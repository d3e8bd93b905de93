from typing import Any

import numpy as np
import pytest

from benchmarks.data.frames import REPORT, load_frames
from benchmarks.defaults.run import FACTORS, OF_CLASSES, Config, load_tuned, make_preparation, make_tasks
from benchmarks.defaults.summary import describe_finding, draw_levels, summarise, tabulate
from sk_mixup import MixupClassifier, MixupRegressor

LEVELS = {("", "default"): 1.0, ("alpha", "0"): 2.0, ("alpha", "1"): 0.5, ("number of nets", "8"): 0.25}


def make_records(n_tables: int = 3) -> list[dict[str, Any]]:
    """Return records in which a level multiplies the loss, and alpha=0 adds one point of error."""
    return [
        {"dataset": f"t{table}", "task": task, "rows": n, "factor": factor, "level": level, "repeat": repeat}
        | {"loss": scale * (1 + table + 0.1 * repeat), "error": 0.1 + 0.01 * (scale == 2) + 0.02 * repeat}
        for task in ("classification", "regression")
        for n in (50, 200)
        for table in range(n_tables)
        for (factor, level), scale in LEVELS.items()
        for repeat in range(2)
    ]


@pytest.fixture
def summary() -> list[dict[str, Any]]:
    return summarise(make_records())


def test_no_table_that_results_are_reported_on_is_used() -> None:
    names = {table.name for table in load_tuned((), data_dir=None, download=False)}
    assert names == {"iris", "wine", "breast_cancer", "digits", "diabetes"}
    assert not names & {name for part in REPORT.values() for name in part}


def test_make_tasks_leaves_out_tables_with_too_few_rows() -> None:
    tables = load_frames(["iris", "digits"])
    tasks = make_tasks(Config(rows=(50, 120, 121), n_seeds=2), tables)
    assert len(tasks) == 2 * (3 + 2)


@pytest.mark.parametrize("kind", [MixupClassifier, MixupRegressor])
def test_levels_are_options_of_the_estimator(kind: type[Any]) -> None:
    for factor, levels in FACTORS.items():
        for level in levels.values():
            if kind is MixupClassifier or factor not in OF_CLASSES:
                kind(**level).check_options()


def test_preparation_gives_numbers_near_unit_scale() -> None:
    (table,) = load_frames(["wine"])
    prepared = make_preparation(table).fit_transform(table.X)
    np.testing.assert_allclose(prepared.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(prepared.std(axis=0), 1)


def test_summarise_compares_with_the_defaults(summary: list[dict[str, Any]]) -> None:
    rows = {(row["task"], row["rows"], row["factor"], row["level"]): row for row in summary}
    assert len(rows) == 2 * 2 * len(LEVELS)
    changes = [rows["classification", 50, *name]["loss_change"] for name in LEVELS]
    assert changes == pytest.approx([0, 100, -50, -75])
    assert rows["classification", 200, "alpha", "0"]["error_diff"] == pytest.approx(1.0)
    assert [rows["regression", 50, "alpha", level]["rank"] for level in ("0", "1")] == [3, 1]


def test_finding_names_the_best_single_net(summary: list[dict[str, Any]]) -> None:
    lines = describe_finding(summary).splitlines()
    assert len(lines) == 4
    assert all("alpha 1, -50.0 %" in line for line in lines)


def test_tabulate_takes_a_single_table() -> None:
    tables = tabulate({"summary": summarise(make_records(n_tables=1))})
    assert len(tables) == 4
    assert {rows[1]["loss against default, %"] for rows in tables.values()} == {"+100.0"}


def test_draw_levels_gives_a_small_png(summary: list[dict[str, Any]]) -> None:
    png = draw_levels(summary)
    assert png.startswith(b"\x89PNG")
    assert len(png) < 100_000
