import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skorch.history import History

from benchmarks.corrupted_tables.methods import (
    BASELINE,
    FAMILIES,
    PUBLISHED,
    corrupt_labels,
    find_family,
    make_methods,
)
from benchmarks.corrupted_tables.run import (
    COMMAND,
    PRESETS,
    Case,
    Config,
    describe_fit,
    fit_methods,
    make_tasks,
)
from benchmarks.corrupted_tables.summary import (
    aggregate_tables,
    summarise,
    tabulate,
)
from benchmarks.data.tables import Table
from benchmarks.harness.command import UserError
from benchmarks.harness.experiment import make_stem
from benchmarks.harness.fitting import derive_seed, split_rows
from benchmarks.harness.intervals import compute_corrected_interval

SMOKE = PRESETS["smoke"]
TINY = dataclasses.replace(SMOKE, alphas=(8.0,), hidden_layer_sizes=(8,), max_epochs=3, batch_size=8)
EPOCHS = [1, 2, 4]
METHODS = {"ERM": 0.30, "dropout 0.5": 0.15, "smoothing 0.1": 0.30, "mixup alpha 8": 0.20}


def make_table(name: str = "digits") -> Table:
    generator = np.random.default_rng(0)
    y = np.repeat(["cat", "dog", "owl"], 20)
    X = generator.normal(size=(60, 4))
    X[:, 0] += 2 * np.repeat([0, 1, 2], 20)
    return Table(name, X, y, "test")


def make_records(dataset: str, noise: float, *, has_curves: bool = False) -> list[dict[str, Any]]:
    """Return records of four repeats in which a method's errors differ from ERM's by a constant."""
    curve = [500, 400, 300] if has_curves else None
    return [
        {
            "dataset": dataset,
            "noise": noise,
            "method": method,
            "repeat": repeat,
            "test_error_best": 0.05 + 0.01 * repeat,
            "best_epoch": repeat + 1,
            "test_error_last": error + 0.01 * repeat,
            "train_error_true": 0.02,
            "train_error_corrupted": 1 - error,
            "seconds": 1.0,
            **dict.fromkeys(
                ("test_error_curve", "train_error_true_curve", "train_error_corrupted_curve"), curve
            ),
        }
        for repeat in range(4)
        for method, error in METHODS.items()
    ]


def make_summary(*datasets: str, noise: tuple[float, ...] = (0.2, 0.5)) -> list[dict[str, Any]]:
    records = [
        record
        for dataset in datasets
        for share in noise
        for record in make_records(dataset, share, has_curves=dataset == datasets[0])
    ]
    return summarise(records, test_ratio=0.25, epochs=EPOCHS)


@pytest.mark.parametrize("noise", [0.25, 0.5, 1.0])
def test_corrupt_labels_replaces_by_chance_from_all_classes(noise: float) -> None:
    y = np.repeat([5, 7, 9, 11], 1000)
    before = y.copy()
    corrupted = corrupt_labels(y, noise, seed=1)
    np.testing.assert_array_equal(y, before)
    # One replaced label in four is the true one again.
    assert np.mean(corrupted != y) == pytest.approx(0.75 * noise, abs=0.02)
    changed = corrupted[corrupted != y]
    shares = (changed[:, None] == np.unique(changed)).mean(axis=0)
    np.testing.assert_allclose(shares, 0.25, atol=0.06)


def test_corrupt_labels_replaces_as_many_as_it_says() -> None:
    corrupted = corrupt_labels(np.arange(1000), 0.5, seed=0)
    n_changed = int((corrupted != np.arange(1000)).sum())
    assert 495 <= n_changed <= 500


def test_corrupt_labels_keeps_at_more_noise_what_is_wrong_at_less() -> None:
    y = np.repeat(["a", "b", "c"], 50)
    less, more = (corrupt_labels(y, noise, seed=3) for noise in (0.2, 0.8))
    np.testing.assert_array_equal(more[less != y], less[less != y])
    assert (more != y).sum() > (less != y).sum()
    assert (less != corrupt_labels(y, 0.2, seed=4)).any()


def test_make_methods_mixes_in_mixup_alone() -> None:
    methods = make_methods(dropouts=[0.2, 0.8], smoothings=[0.4], alphas=[1, 32])
    assert next(iter(methods)) == BASELINE
    assert [find_family(name) for name in methods] == [
        "ERM",
        "dropout",
        "dropout",
        "smoothing",
        "mixup",
        "mixup",
    ]
    assert [options["alpha"] for options in methods.values()] == [0, 0, 0, 0, 1, 32]
    assert set(map(find_family, methods)) == set(FAMILIES)


def test_published_figures_are_of_rows_of_the_table_or_named_in_the_note() -> None:
    rows = {(noise, method) for noise in Config().noise for method in Config().make_methods()}
    assert set(PUBLISHED) - rows == {(0.2, "dropout 0.7")}
    assert "8.8 / 10.4" in COMMAND.note


def test_case_corrupts_training_labels_alone_and_standardises_by_training_rows() -> None:
    table = make_table()
    train, test = split_rows(table.y, TINY.test_size, derive_seed(table.name, 3))
    case = Case.make(TINY, table, 0.5, 3)
    np.testing.assert_array_equal(case.y_true, table.y[train])
    np.testing.assert_array_equal(case.y_test, table.y[test])
    assert 0 < (case.y != case.y_true).sum() <= len(train) // 2
    mean, std = table.X[train].mean(axis=0), table.X[train].std(axis=0)
    np.testing.assert_allclose(case.X, (table.X[train] - mean) / std, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(case.X_test, (table.X[test] - mean) / std, rtol=1e-5, atol=1e-6)


def test_cases_of_one_repeat_share_split_and_true_labels() -> None:
    low, high = (Case.make(TINY, make_table(), noise, 1) for noise in (0.2, 0.8))
    for name in ("X", "y_true", "X_test", "y_test"):
        np.testing.assert_array_equal(getattr(low, name), getattr(high, name))


@pytest.mark.slow
def test_fit_methods_gives_each_split_the_same_whatever_it_is_fitted_with() -> None:
    table = make_table()
    together = fit_methods(TINY, table, 0.5, True, [0, 1])["records"]
    alone = [
        record for repeat in (0, 1) for record in fit_methods(TINY, table, 0.5, True, [repeat])["records"]
    ]
    for record in (*together, *alone):
        del record["seconds"]
    assert together == alone
    assert [record["method"] for record in together[:4]] == list(METHODS)


def test_describe_fit_agrees_with_the_net_that_was_fitted() -> None:
    case = Case.make(TINY, make_table(), 0.5, 0)
    net = case.make_net(TINY.make_options(make_table().y) | {"alpha": 0, "max_epochs": 6, "lr": 0.05})
    net.fit(case.X, case.y)
    record = describe_fit(case, net, [1, 6])
    guesses = list(zip(net.predict(case.X), case.y, case.y_true, strict=True))
    for name, is_kind in (
        ("train_error_true", lambda given, true: given == true),
        ("train_error_corrupted", lambda given, true: given != true),
    ):
        wrong = [guess != given for guess, given, true in guesses if is_kind(given, true)]
        assert record[name] == round(sum(wrong) / len(wrong), 4)
        assert record[f"{name}_curve"][-1] == round(1000 * sum(wrong) / len(wrong))
    wrong = [guess != true for guess, true in zip(net.predict(case.X_test), case.y_test, strict=True)]
    assert record["test_error_last"] == round(sum(wrong) / len(wrong), 4)
    assert record["n_corrupted"] == sum(given != true for _, given, true in guesses)


def test_describe_fit_takes_the_first_of_the_best_epochs() -> None:
    @dataclasses.dataclass
    class Fitted:
        history: History

    history = History()
    for error in (0.5, 0.25, 0.25, 0.75):
        history.new_epoch()
        for name in ("test_error", "train_error_true", "train_error_corrupted"):
            history.record(name, error)
    record = describe_fit(Case.make(TINY, make_table(), 0.5, 0), Fitted(history), None)  # type: ignore[arg-type]
    assert (record["test_error_best"], record["best_epoch"], record["test_error_last"]) == (0.25, 2, 0.75)
    assert record["train_error_true"] == record["train_error_corrupted"] == 0.75
    assert record["test_error_curve"] is None


def test_make_tasks_does_every_repeat_once_and_keeps_the_curves_of_one_table() -> None:
    config = dataclasses.replace(SMOKE, n_seeds=7, noise=(0.2, 0.8))
    tasks = make_tasks(config, [make_table("wine"), make_table("digits")])
    assert len(tasks) == 2 * 2 * 7
    for name in ("wine", "digits"):
        for noise in (0.2, 0.8):
            own = [task for task in tasks.values() if (task[1].name, task[2]) == (name, noise)]
            assert [repeat for *_, repeat in own] == list(range(7))
    assert {task[1].name for task in tasks.values() if task[3]} == {"digits"}
    assert all(task[3] for task in make_tasks(config, [make_table("wine")]).values())


def test_list_epochs_rises_from_the_first_to_the_last() -> None:
    epochs = Config(max_epochs=100).list_epochs()
    assert (epochs[0], epochs[-1]) == (1, 100)
    assert epochs == sorted(set(epochs))
    assert Config(max_epochs=1).list_epochs() == [1]


def test_summarise_pairs_each_method_with_erm() -> None:
    records = make_records("digits", 0.5)
    for record in records:
        if record["method"] == "mixup alpha 8":
            record["test_error_last"] += 0.02 * (record["repeat"] % 2)
    rows = {row["method"]: row for row in summarise(records[::-1], test_ratio=0.25)}
    expected = compute_corrected_interval([-10.0, -8.0, -10.0, -8.0], 0.25)
    row = rows["mixup alpha 8"]
    assert row["test_error_last_diff"] == pytest.approx(-9.0)
    assert row["test_error_last_diff_low"] == pytest.approx(expected.low, abs=1e-4)
    assert row["test_error_last_diff_high"] == pytest.approx(expected.high, abs=1e-4)
    assert row["train_error_corrupted"] == pytest.approx(80.0)
    assert (row["median_best_epoch"], row["n_repeats"], row["curve_epochs"]) == (2.5, 4, None)
    assert rows["ERM"]["test_error_last_diff_low"] == rows["ERM"]["test_error_last_diff_high"] == 0.0


def test_summarise_averages_curves_over_repeats() -> None:
    records = make_records("digits", 0.5, has_curves=True)
    for record in records:
        record["test_error_curve"] = [500 + 10 * record["repeat"], 400, 300]
    (row, *_) = summarise(records, test_ratio=0.25, epochs=EPOCHS)
    assert (row["test_error_curve"], row["curve_epochs"]) == ([51.5, 40.0, 30.0], EPOCHS)


def test_aggregate_tables_means_over_tables_and_counts_clear_differences() -> None:
    rows = {(row["noise"], row["method"]): row for row in aggregate_tables(make_summary("digits", "wine"))}
    row = rows[0.5, "dropout 0.5"]
    assert row["n_tables"] == 2
    assert row["test_error_last_diff"] == pytest.approx(-15.0)
    assert (row["test_error_last_lower"], row["test_error_last_higher"]) == (2, 0)
    assert (row["test_error_best_lower"], row["test_error_best_higher"]) == (0, 0)
    (alone, *_) = [row for row in aggregate_tables(make_summary("wine")) if row["method"] == "mixup alpha 8"]
    assert alone["test_error_last_diff_low"] == pytest.approx(-10.0, abs=1e-4)


def test_tabulate_sets_published_figures_beside_rows_of_the_same_method() -> None:
    tables = tabulate({"summary": make_summary("digits", "wine")})
    (over, digits, wine) = tables
    assert over.startswith("Mean over 2 tables")
    assert (digits, wine) == ("Digits, errors in %", "Wine, errors in %")
    rows = {(row["replaced"], row["method"]): row for row in tables[over]}
    assert rows["20 %", "mixup alpha 8"]["Table 2: best / last"] == "5.9 / 6.4"
    assert rows["50 %", "ERM"]["Table 2: train"] == "0.26 / 0.64"
    assert rows["50 %", "mixup alpha 8"]["Table 2: train"] == ""
    assert rows["50 %", "mixup alpha 8"]["last, against ERM"].startswith("-10.0 [")
    assert rows["50 %", "ERM"]["last, against ERM"] == ""
    assert {row["train, corrupted labels"] for row in tables[digits]} == {
        "70.0 ± 0.0",
        "85.0 ± 0.0",
        "80.0 ± 0.0",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ("digit",)}, "Did you mean 'digits'"),
        ({"noise": (0.0,)}, "--noise must be between"),
        ({"noise": (float("nan"),)}, "--noise must be between"),
        ({"dropouts": (1.0,)}, "--dropouts must be between"),
        ({"smoothings": (-0.1,)}, "--smoothings must be between"),
        ({"alphas": (0.0,)}, "--alphas must be at least"),
        ({"lr": 0.0}, "--lr must be at least"),
        ({"max_epochs": 0}, "--max-epochs must be at least 1"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"test_size": 0.9}, "--test-size must be between"),
        ({"seeds_each": 1}, "--seeds-each must be at least 2"),
        ({"n_joined": 0}, "--n-joined must be at least 1"),
    ],
)
def test_config_names_the_option_that_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_choose_names_adds_what_the_folder_holds(tmp_path: Path) -> None:
    assert Config().choose_names() == ("iris", "wine", "breast_cancer", "digits")
    assert Config(data_dir=tmp_path).choose_names()[-1] == "phishing"
    assert Config(datasets=("wine",), download=True).choose_names() == ("wine",)


def test_results_are_named_after_the_command() -> None:
    assert make_stem(COMMAND.name, Config(), embedded=False) == "corrupted-tables-cpu-cpu"
