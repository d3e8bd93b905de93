from typing import Any

import numpy as np
import pytest
from skorch.callbacks import Callback
import torch

from benchmarks.data.frames import REPORT, load_frames
from benchmarks.defaults.levels import FACTORS, OF_CLASSES, AverageWeights, EmbeddedMLP, clip_smoothly
from benchmarks.defaults.run import Config, fit_levels, load_tuned, make_preparation, make_tasks
from benchmarks.defaults.summary import summarise, tabulate
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


def test_robust_scaling_keeps_the_middle_and_bounds_the_ends() -> None:
    (table,) = load_frames(["wine"])
    prepared = make_preparation(table, is_robust=True).fit_transform(table.X)
    np.testing.assert_allclose(np.median(prepared, axis=0), 0, atol=1e-9)
    assert np.abs(prepared).max() < 3
    values = np.array([-1e6, -0.01, 0.0, 0.01, 1e6])
    np.testing.assert_allclose(clip_smoothly(values), [-3, -0.01, 0, 0.01, 3], atol=1e-5)


def test_averaged_weights_are_the_mean_of_the_later_epochs() -> None:
    kept: list[torch.Tensor] = []

    class Keep(Callback):
        def on_epoch_end(self, net: Any, **_: Any) -> None:
            kept.append(torch.nn.utils.parameters_to_vector(net.module_.parameters()).detach().clone())

    X, y = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
    callbacks = [Keep(), AverageWeights(3)]
    net = MixupClassifier(early_stopping=False, max_epochs=5, callbacks=callbacks, random_state=0).fit(X, y)
    found = torch.nn.utils.parameters_to_vector(net.module_.parameters())
    torch.testing.assert_close(found, torch.stack(kept[2:]).mean(dim=0), rtol=1e-5, atol=1e-6)


def test_embeddings_are_those_of_each_number() -> None:
    pytest.importorskip("rtdl_num_embeddings")
    module = EmbeddedMLP(3, 2)
    assert module(torch.randn(5, 3)).shape == (5, 2)
    assert module.embed(torch.randn(5, 3)).shape == (5, 3, 8)


@pytest.mark.slow  # a stack of forty nets
def test_few_rows_change_every_option_and_many_only_some() -> None:
    pytest.importorskip("rtdl_num_embeddings")
    (table,) = load_frames(["iris"])
    config = Config(many_rows=60)
    few, many = (fit_levels(config, table, n, 0)["records"] for n in (30, 60))
    assert {row["factor"] for row in few} == {"", "number of nets", *FACTORS}
    assert {row["factor"] for row in many} == {"", "number of nets", "schedule", "alpha"}
    assert all(np.isfinite(row["loss"]) for row in few)
    # Scaled otherwise, the same net is another.
    losses = {row["factor"]: row["loss"] for row in few}
    assert losses["scaling"] != losses[""]


def test_summarise_compares_with_the_defaults(summary: list[dict[str, Any]]) -> None:
    rows = {(row["task"], row["rows"], row["factor"], row["level"]): row for row in summary}
    assert len(rows) == 2 * 2 * len(LEVELS)
    changes = [rows["classification", 50, *name]["loss_change"] for name in LEVELS]
    assert changes == pytest.approx([0, 100, -50, -75])
    assert rows["classification", 200, "alpha", "0"]["error_diff"] == pytest.approx(1.0)
    assert [rows["regression", 50, "alpha", level]["rank"] for level in ("0", "1")] == [3, 1]


def test_tabulate_takes_a_single_table() -> None:
    tables = tabulate({"summary": summarise(make_records(n_tables=1))})
    assert len(tables) == 4
    assert {rows[1]["loss against default, %"] for rows in tables.values()} == {"+100.0"}
