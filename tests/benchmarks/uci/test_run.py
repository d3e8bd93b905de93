import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.data.tables import Table, load_tables
from benchmarks.harness.command import UserError
from benchmarks.harness.results import read_result, unpack_records
from benchmarks.uci import run as uci
from benchmarks.uci.run import PRESETS, Config, compare, make_tasks
from benchmarks.uci.summary import OVERVIEW, compare_errors, summarise, tabulate

SMOKE = PRESETS["smoke"]
CLOCKS = {"seconds"}


def make_record(dataset: str, protocol: str, repeat: int, shift: float) -> dict[str, Any]:
    """Return a record in which mixup differs from ERM by ``shift``."""
    return {
        "dataset": dataset,
        "protocol": protocol,
        "repeat": repeat,
        "alpha": 0.2,
        "erm_error": 0.2 + 0.001 * repeat,
        "mixup_error": 0.2 + 0.001 * repeat + shift,
        "erm_nll": 0.5,
        "mixup_nll": 0.5 + shift + 0.0001 * repeat,
    }


def make_summary(shifts: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    records = [
        make_record(dataset, protocol, repeat, shift)
        for (dataset, protocol), shift in shifts.items()
        for repeat in range(4)
    ]
    return summarise(records, test_ratio=0.25)


def drop_clocks(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in CLOCKS}


def test_summarise_pairs_the_two_methods() -> None:
    (row,) = make_summary({("iris", "paper"): -0.01})
    assert row["n_repeats"] == 4
    assert row["error_diff"] == pytest.approx(-1.0)
    assert row["error_diff_low"] == pytest.approx(row["error_diff_high"])
    assert row["nll_wins"] == 1.0
    assert (row["paper_erm_error"], row["paper_mixup_error"]) == (21.3, 17.3)


def test_errors_are_compared_where_the_paper_has_one() -> None:
    shifts = {("iris", "paper"): 0.01, ("wine", "paper"): 0.02, ("iris", "converged"): -0.01}
    (iris,) = compare_errors({"summary": make_summary(shifts)})
    assert (iris.label, iris.ours.mean) == ("Iris", pytest.approx(1.0))
    assert iris.paper == pytest.approx(17.3 - 21.3)


def test_tabulate_shows_the_paper_beside_its_protocol_only() -> None:
    shifts = {("iris", "converged"): 0.0, ("iris", "paper"): 0.0, ("wine", "paper"): 0.0}
    rows = tabulate({"summary": make_summary(shifts)})["Test error, %"]
    assert [row["paper's Table 4"] for row in rows] == ["21.3 → 17.3", "", ""]
    assert [row["protocol"] for row in rows] == ["paper", "paper", "converged"]


def test_overview_has_a_row_for_each_table_and_marks_clear_differences() -> None:
    shifts = {("iris", "converged"): -0.01, ("iris", "paper"): 0.0, ("wine", "paper"): 0.0}
    iris, wine = tabulate({"summary": make_summary(shifts)})[OVERVIEW]
    assert (iris["data"], wine["data"]) == ("iris", "wine")
    assert iris["Table 4, error"] == "21.3 → 17.3"
    assert iris["converged, error"].endswith(" †")
    assert "†" not in iris["paper, error"]
    assert wine["converged, nll"] == ""


@pytest.mark.slow
def test_compare_gives_each_split_the_same_whatever_it_is_fitted_with() -> None:
    (table,) = load_tables(["iris"])
    together = compare(SMOKE, table, "converged", [0, 1])["records"]
    alone = [record for k in (0, 1) for record in compare(SMOKE, table, "converged", [k])["records"]]
    assert [drop_clocks(record) for record in together] == [drop_clocks(record) for record in alone]
    assert together[0]["alpha"] in SMOKE.alphas
    assert (together[0]["n_train"], together[0]["n_test"]) == (120, 30)


def test_compare_takes_missing_values_and_rare_classes() -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(60, 4))
    X[3, 2] = np.nan
    y = np.array(["a", "b"] * 29 + ["rare", "b"])
    (record,) = compare(SMOKE, Table("made_up", X, y, "test"), "converged", [0])["records"]
    assert 0 <= record["erm_error"] <= 1
    assert 0 < record["mixup_nll"] < 28


def test_make_tasks_does_every_repeat_once() -> None:
    config = Config(seeds_small=7, protocols=("paper",))
    tasks = make_tasks(config, load_tables(["iris"]))
    assert [repeat for *_, repeat in tasks.values()] == list(range(7))


@pytest.mark.parametrize(("size", "n_joined"), [(1, 20), (600, 3), (1801, 1)])
def test_splits_are_joined_up_to_so_many_numbers(size: int, n_joined: int) -> None:
    assert Config(joined_numbers=3 * 600).count_joined(size) == n_joined


@pytest.mark.parametrize(("n_samples", "size"), [(1999, "small"), (2000, "large")])
def test_config_takes_large_tables_in_larger_batches(n_samples: int, size: str) -> None:
    config = Config(
        large_rows=2000,
        converged_batch_size=8,
        converged_batch_size_large=64,
        seeds_small=7,
        seeds_large=3,
    )
    batch_size, n_seeds = {"small": (8, 7), "large": (64, 3)}[size]
    assert config.make_options("converged", n_samples)["batch_size"] == batch_size
    assert config.make_options("paper", n_samples)["batch_size"] == 16
    assert config.count_seeds(n_samples) == n_seeds
    assert dataclasses.replace(config, n_seeds=5).count_seeds(n_samples) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_seeds": 1}, "--seeds must be at least 2; got 1"),
        ({"n_jobs": 0}, "--n-jobs must be -1 or at least 1"),
        ({"alphas": (float("nan"),)}, "--alphas must be at least 0; got nan"),
        ({"n_folds": 1}, "--n-folds must be at least 2"),
        ({"test_size": 0.9}, "--test-size must be between 0.05 and 0.5"),
        ({"protocols": ("papers",)}, "Did you mean 'paper'"),
        ({"datasets": ("wines",)}, "Did you mean 'wine'"),
    ],
)
def test_config_names_the_option_that_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


@pytest.mark.slow
def test_run_goes_on_after_a_kill_with_the_same_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (dataclasses.replace(SMOKE, out=tmp_path / name) for name in ("whole", "broken"))
    uci.run(whole)
    calls = []

    def compare_until_killed(*arguments: Any) -> dict[str, Any]:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt("killed")
        return compare(*arguments)

    monkeypatch.setattr(uci, "compare", compare_until_killed)
    with pytest.raises(KeyboardInterrupt, match="killed"):
        uci.run(broken)
    (journal,) = broken.out.iterdir()
    assert journal.name.endswith(".partial.jsonl")
    uci.run(broken)
    # One done, one interrupted, one more after that: none was done twice.
    assert len(calls) == 3
    documents = [read_result(out / "uci-embedded-cpu-cpu.json") for out in (whole.out, broken.out)]
    records = [unpack_records(document["records"]) for document in documents]
    assert [drop_clocks(record) for record in records[0]] == [drop_clocks(record) for record in records[1]]
    assert not list(broken.out.glob("*.partial.jsonl"))
