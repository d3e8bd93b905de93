from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.data.frames import Frame
from benchmarks.harness.fitting import compute_scores, derive_seed
from benchmarks.tabular.contenders import prepare
from benchmarks.tabular.run import spoil_labels
from benchmarks.tabular_alpha.run import PRESETS, compare, make_tasks, summarise
from sk_mixup import MixupClassifier

SMOKE = PRESETS["smoke"]


def make_frame(n_rows: int = 120) -> Frame:
    generator = np.random.default_rng(0)
    X = pd.DataFrame(generator.normal(size=(n_rows, 3)), columns=list("abc"))
    return Frame("wine", X, (X["a"] + X["b"] > 0).map({True: "p", False: "q"}).to_numpy(str), "test")


def make_records(**change: float) -> list[dict[str, Any]]:
    return [
        {"dataset": name, "rows": 100, "noise": 0.2, "alpha": alpha, "repeat": repeat}
        | {"nll": scale * (1 + repeat) * (1 + alpha * change["nll"]), "error": 0.2 - 0.1 * alpha}
        for name, scale in {"iris": 1.0, "wine": 10.0}.items()
        for alpha in (0, 0.5, 1)
        for repeat in range(2)
    ]


def test_each_net_is_that_of_a_single_fit() -> None:
    table, seed = make_frame(), derive_seed("wine", 1)
    records = compare(SMOKE, table, 50, 1)["records"]
    codes = (table.y == "q").astype(int)
    order = np.random.default_rng(seed).permutation(120)
    train, test = order[:50], order[50:]
    scale = prepare(MixupClassifier())[:-1].fit(table.X.iloc[train])
    X, X_test = (np.asarray(scale.transform(table.X.iloc[rows]), np.float32) for rows in (train, test))
    for record in records:
        net = MixupClassifier(alpha=record["alpha"], max_epochs=3, random_state=seed)
        net.fit(X, spoil_labels(codes, train, record["noise"], seed)[train])
        assert record["nll"] == pytest.approx(compute_scores(net, X_test, codes[test]).nll, rel=1e-4)
    assert [(record["noise"], record["alpha"]) for record in records] == [(0, 0), (0, 1), (0.4, 0), (0.4, 1)]


def test_a_table_takes_part_where_rows_are_left_for_testing() -> None:
    tasks = make_tasks(replace(SMOKE, rows=(50, 70, 71)), [make_frame(120)])
    assert sorted(tasks) == ["wine/50/0", "wine/50/1", "wine/70/0", "wine/70/1"]


def test_changes_are_differences_of_the_tables_means() -> None:
    summary = summarise(make_records(nll=-0.2))
    rows = {row["alpha"]: row for row in summary}
    # Means over repeats of 1.5 and 15, of which a fifth is gone at alpha 1.
    assert rows[1]["nll_diff"] == pytest.approx(-(0.3 + 3) / 2)
    assert rows[0.5]["nll_diff"] == pytest.approx(-(0.15 + 1.5) / 2)
    assert rows[1]["error_diff"] == pytest.approx(-10)
