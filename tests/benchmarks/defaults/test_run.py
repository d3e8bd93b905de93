from typing import Any

import numpy as np
import pytest

from benchmarks.data.tables import load_tables
from benchmarks.defaults.run import Config, choose_names, make_tasks, parse_schedule
from benchmarks.defaults.summary import describe_finding, draw_levels, summarise, tabulate
from benchmarks.harness.command import UserError

LEVELS = Config(alphas=(0.0, 0.2), schedules=(), batch_sizes=(16, 32)).make_levels()
METHODS = [level for levels in LEVELS.values() for level in levels]


def make_records(n_tables: int = 3) -> list[dict[str, Any]]:
    """Return records in which alpha=0 doubles the NLL and adds one point of error."""
    generator = np.random.default_rng(0)
    records = []
    for table in range(n_tables):
        for level in {str(level): level for level in METHODS}.values():
            scale = 2.0 if level["alpha"] == 0 else 1.0
            for repeat in range(2):
                nll = scale * (1 + table + 0.1 * repeat)
                error = 0.1 + 0.01 * (scale - 1) + 0.02 * repeat
                seconds = float(generator.uniform(0.9, 1.1))
                scores = {"nll": nll, "error": error, "seconds": seconds}
                records.append({"dataset": f"t{table}", **level, "repeat": repeat, **scores})
    return records


@pytest.fixture
def summary() -> list[dict[str, Any]]:
    return summarise(make_records(), levels=LEVELS)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("50", {"early_stopping": False, "max_epochs": 50}),
        (
            "early-0.1-20",
            {
                "early_stopping": True,
                "max_epochs": 200,
                "validation_fraction": 0.1,
                "n_iter_no_change": 20,
            },
        ),
    ],
)
def test_parse_schedule_gives_options(text: str, options: dict[str, Any]) -> None:
    assert parse_schedule(text) == options


@pytest.mark.parametrize("text", ["", "fifty", "early-0.1", "early-x-3", "early-0.1-2-3"])
def test_parse_schedule_refuses_anything_else(text: str) -> None:
    with pytest.raises(UserError, match="a schedule must be"):
        Config(schedules=(text,))


def test_make_levels_changes_one_option_at_a_time() -> None:
    base = {"alpha": 0.2, "schedule": "early-0.2-10", "batch_size": 32, "lam_per": "example"}
    for factor, levels in Config().make_levels().items():
        assert base in levels
        assert all(level | {factor: base[factor]} == base for level in levels)


def test_make_tasks_fits_the_base_point_once() -> None:
    config = Config(n_seeds=3)
    n_levels = sum(len(levels) for levels in config.make_levels().values())
    n_factors = len(config.make_levels())
    tasks = make_tasks(config, load_tables(["iris", "wine"]))
    assert len(tasks) == 2 * 3 * (n_levels - (n_factors - 1))


def test_choose_names_adds_the_smaller_uci_sets(tmp_path: Any) -> None:
    assert "abalone" not in choose_names(Config())
    assert "abalone" in choose_names(Config(data_dir=tmp_path))
    assert "htru2" not in choose_names(Config(data_dir=tmp_path))
    assert choose_names(Config(datasets=("wine",))) == ("wine",)


def test_summarise_compares_with_the_base_point(summary: list[dict[str, Any]]) -> None:
    rows = {(row["factor"], row["level"]): row for row in summary}
    erm, base = rows["alpha", "0.0"], rows["alpha", "0.2"]
    assert erm["nll_change"] == pytest.approx(100.0)
    assert erm["error_diff"] == pytest.approx(1.0)
    assert (erm["rank"], base["rank"]) == (2.0, 1.0)
    assert base["base"]
    assert not erm["base"]
    assert base["nll_change"] == 0.0


def test_finding_has_a_claim_for_each_factor(summary: list[dict[str, Any]]) -> None:
    assert len(describe_finding(summary).splitlines()) == len({row["factor"] for row in summary})


def test_tabulate_takes_a_single_table() -> None:
    document = {"summary": summarise(make_records(n_tables=1), levels=LEVELS)}
    (rows,) = tabulate(document).values()
    assert rows[0]["NLL against base, %"] == "+100.0"


def test_draw_levels_gives_a_small_png(summary: list[dict[str, Any]]) -> None:
    png = draw_levels(summary)
    assert png.startswith(b"\x89PNG")
    assert len(png) < 100_000
