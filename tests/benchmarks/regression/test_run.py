import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.data import uci_files
from benchmarks.data.tables import Table
from benchmarks.data.uci_download import CONTENT_DIGESTS, compute_content_digest
from benchmarks.harness.command import UserError
from benchmarks.regression.data import REGRESSION_NAMES, choose_names, load_regression_tables
from benchmarks.regression.run import PRESETS, STEP, Config, compare, make_search, make_tasks
from benchmarks.regression.summary import PUBLISHED, summarise, tabulate
from sk_mixup.mixing import ERM, KernelPartners, ManifoldMixup

SMOKE = PRESETS["smoke"]
METHODS = ("ERM", "mixup", "manifold mixup", "C-Mixup")


def make_table(name: str = "airfoil") -> Table:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(40, 3))
    return Table(name, X, 100 + 7 * X[:, 0] + generator.normal(size=40), "test")


def make_records(dataset: str, factors: dict[str, float]) -> list[dict[str, Any]]:
    """Return records in which a method's errors are ERM's times a factor."""
    return [
        {
            "dataset": dataset,
            "method": method,
            "repeat": repeat,
            "lr": 0.01,
            "alpha": None if method == "ERM" else 2.0,
            "bandwidth": 0.5 if method == "C-Mixup" else None,
            "rmse": factor * (2 + 0.1 * repeat),
            "mape": factor * (1 + 0.1 * repeat),
        }
        for method, factor in factors.items()
        for repeat in range(4)
    ]


def make_summary(*datasets: str) -> list[dict[str, Any]]:
    factors = dict(zip(METHODS, (1.0, 1.2, 1.0, 0.9), strict=True))
    records = [record for dataset in datasets for record in make_records(dataset, factors)]
    return summarise(records, test_ratio=0.25)


def test_summarise_pairs_each_method_with_erm() -> None:
    rows = {row["method"]: row for row in make_summary("airfoil")}
    assert rows["mixup"]["rmse_change"] == pytest.approx(20.0)
    assert rows["C-Mixup"]["mape_change"] == pytest.approx(-10.0)
    assert rows["ERM"]["rmse_change_low"] == rows["ERM"]["rmse_change_high"] == 0.0
    assert (rows["C-Mixup"]["rmse_wins"], rows["manifold mixup"]["rmse_wins"]) == (1.0, 0.5)
    assert (rows["mixup"]["published_rmse"], rows["manifold mixup"]["published_rmse"]) == (3.730, None)


def test_tabulate_shows_published_figures_and_what_was_not_run() -> None:
    tables = tabulate({"summary": make_summary("diabetes", "airfoil")})
    rows = {(row["data"], row["method"]): row for row in tables["Test RMSE"]}
    assert rows["airfoil", "C-Mixup"]["published"] == "2.717"
    assert rows["airfoil", "C-Mixup"]["median choice"] == "lr 0.01, alpha 2, h 0.5"
    assert rows["no2", "mixup"]["ours"] == "not run"
    assert rows["diabetes", "mixup"]["published"] == ""
    assert [row["published"] for row in tables["Test MAPE, %"][-3:]] == ["13.615", "13.534", "12.998"]


def test_published_figures_belong_to_known_tables_and_methods() -> None:
    assert {dataset for dataset, _ in PUBLISHED} <= set(REGRESSION_NAMES)
    assert {method for _, method in PUBLISHED} < set(SMOKE.make_methods()) == set(METHODS)


def test_make_methods_gives_each_search_its_own_options() -> None:
    methods = Config(alphas=(1.0, 2.0), bandwidths=(0.1, 0.3, 1.0)).make_methods()
    assert methods["ERM"] == [ERM()]
    assert methods["manifold mixup"] == [ManifoldMixup(1.0), ManifoldMixup(2.0)]
    chosen = {(policy.alpha, policy.partners.bandwidth) for policy in methods["C-Mixup"]}  # type: ignore[attr-defined]
    assert chosen == {(alpha, bandwidth) for alpha in (1.0, 2.0) for bandwidth in (0.1, 0.3, 1.0)}
    assert all(isinstance(policy.partners, KernelPartners) for policy in methods["C-Mixup"])  # type: ignore[attr-defined]


def test_every_search_tries_every_learning_rate() -> None:
    grids = [make_search(Config(), method, 0, 100).param_grid for method in METHODS]
    assert all(grid[f"{STEP}lr"] == [1e-3, 1e-2] for grid in grids)


@pytest.mark.slow
def test_compare_gives_each_split_the_same_whatever_it_is_fitted_with() -> None:
    table = make_table()
    together = compare(SMOKE, table, [0, 1])["records"]
    alone = [record for repeat in (0, 1) for record in compare(SMOKE, table, [repeat])["records"]]
    for record in (*together, *alone):
        del record["seconds"]
    assert together == alone
    assert [record["method"] for record in together[:4]] == list(METHODS)
    assert all(np.isfinite([record["rmse"], record["mape"]]).all() for record in together)
    assert (together[0]["n_train"], together[0]["n_test"]) == (32, 8)
    assert (together[3]["alpha"], together[3]["bandwidth"], together[0]["alpha"]) == (2.0, 0.5, None)


def test_make_tasks_does_every_repeat_once() -> None:
    tasks = make_tasks(dataclasses.replace(SMOKE, n_seeds=7), [make_table()])
    assert [repeat for *_, repeat in tasks.values()] == list(range(7))


@pytest.mark.parametrize(("n_samples", "batch_size"), [(1999, 8), (2000, 64)])
def test_config_takes_large_tables_in_larger_batches(n_samples: int, batch_size: int) -> None:
    config = Config(large_rows=2000, batch_size=8, batch_size_large=64)
    assert config.make_options(n_samples)["batch_size"] == batch_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ("airfoils",)}, "Did you mean 'airfoil'"),
        ({"alphas": (0.0,)}, "--alphas must be at least"),
        ({"bandwidths": (float("nan"),)}, "--bandwidths must be at least"),
        ({"n_folds": 1}, "--n-folds must be at least 2"),
        ({"seeds_each": 1}, "--seeds-each must be at least 2"),
    ],
)
def test_config_names_the_option_that_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


@pytest.fixture
def regression_dir(uci_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny files in the archives' formats."""
    values = np.random.default_rng(0).normal(size=(500, 8)).round(3)
    np.savetxt(uci_dir / "NO2.dat", values, fmt="%g")
    (uci_dir / "airfoil_self_noise.dat").write_text("800\t0\t0.3\t71.3\t0.003\t126.2\n" * 2)
    monkeypatch.delitem(uci_files.SHA256, "airfoil_self_noise.dat", raising=False)
    return uci_dir


def test_load_regression_tables_reads_the_archives_formats(regression_dir: Path) -> None:
    diabetes, abalone, airfoil, no2 = load_regression_tables(REGRESSION_NAMES, data_dir=regression_dir)
    assert (diabetes.X.shape, abalone.X.shape) == ((442, 10), (12, 6))
    assert airfoil.X.tolist() == [[800, 0, 0.3, 71.3, 0.003]] * 2
    assert airfoil.y.tolist() == [126.2] * 2
    table = np.loadtxt(regression_dir / "NO2.dat")
    np.testing.assert_array_equal(np.column_stack([no2.y, no2.X]), table)
    assert no2.source.endswith("not compared with a checksum")
    assert all(item.y.dtype == np.float64 for item in (diabetes, abalone, airfoil, no2))
    assert airfoil.describe()["n_classes"] is None


def test_load_regression_tables_says_where_a_file_is_to_be_had(uci_dir: Path) -> None:
    with pytest.raises(UserError, match=r"NO2\.dat  \(http://lib\.stat\.cmu\.edu/datasets/NO2\.dat\)"):
        load_regression_tables(["no2"], data_dir=uci_dir)


def test_load_regression_tables_refuses_a_table_of_another_size(regression_dir: Path) -> None:
    (regression_dir / "NO2.dat").write_text("1 2 3\n")
    with pytest.raises(UserError, match="500 rows of 8 numbers"):
        load_regression_tables(["no2"], data_dir=regression_dir)


def test_download_leaves_out_what_has_no_checksum() -> None:
    with pytest.raises(UserError, match="--download must leave no2 out"):
        load_regression_tables(["no2"], download=True)


def test_choose_names_takes_what_is_at_hand(uci_dir: Path) -> None:
    assert choose_names((), None, download=False) == ("diabetes",)
    assert choose_names((), uci_dir, download=False) == ("diabetes", "abalone")
    assert choose_names((), None, download=True) == ("diabetes", "abalone", "airfoil")
    assert choose_names(("no2",), None, download=False) == ("no2",)


def test_real_airfoil_has_the_content_that_is_expected(real_data_dir: Path) -> None:
    if "airfoil" not in choose_names((), real_data_dir, download=False):
        pytest.skip("no airfoil_self_noise.dat at hand")
    (table,) = load_regression_tables(["airfoil"], data_dir=real_data_dir)
    assert (*table.X.shape, np.unique(table.y).size) == uci_files.REGRESSION_SETS["airfoil"].shape
    assert compute_content_digest(table.X, table.y) == CONTENT_DIGESTS["airfoil"]
