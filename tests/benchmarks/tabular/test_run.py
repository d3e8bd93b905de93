from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import brier_score_loss, log_loss, root_mean_squared_error

from benchmarks.data.frames import BUNDLED_FRAMES, REPORT, Frame
from benchmarks.harness.command import UserError
from benchmarks.harness.fitting import derive_seed, make_folds
from benchmarks.harness.runner import PostponedError
from benchmarks.tabular import contenders
from benchmarks.tabular.contenders import (
    CONTENDERS,
    ENSEMBLE,
    OURS,
    PLAIN,
    Contender,
    Job,
    find_missing_contenders,
    list_packages,
)
from benchmarks.tabular.run import PRESETS, Config, compare, make_tasks, run, spoil_labels
from benchmarks.tabular.summary import (
    _choose_parts,
    _list_pairs,
    _list_parts,
    _spread_out,
    summarise,
    tabulate,
)

DUMMY = "linear"  # takes the place of a contender's name


@pytest.fixture(autouse=True)
def dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one contender predict the training rows' class shares, or mean."""

    def make(job: Job) -> Any:
        return job.choose(lambda: DummyClassifier(strategy="prior"), DummyRegressor)()

    monkeypatch.setitem(CONTENDERS, DUMMY, Contender(make, ()))


def make_frame(name: str = "car", n_rows: int = 60, *, is_real: bool = False) -> Frame:
    generator = np.random.default_rng(0)
    X = pd.DataFrame({"size": generator.normal(size=n_rows), "colour": generator.choice(["r", "g"], n_rows)})
    X["colour"] = X["colour"].astype("category")
    X.iloc[3] = np.nan
    y = generator.normal(3, 2, n_rows) if is_real else generator.choice(["a", "b", "c"], n_rows)
    return Frame(name, X, y, "test")


def make_records(**scores: list[float]) -> list[dict[str, Any]]:
    """Return records of contenders whose NLL on each table, the same in two folds, is given."""
    return [
        {
            "dataset": f"t{place}",
            "task": "classification",
            "noise": 0,
            "contender": name,
            "repeat": 0,
            "fold": fold,
        }
        | {
            "nll": nll * (1 + fold),
            "error": nll / 10,
            "brier": 0.1,
            "ece": 0.1,
            "fit_seconds": 2.0,
            "predict_seconds": 0.1,
        }
        for name, values in scores.items()
        for place, nll in enumerate(values)
        for fold in range(2)
    ]


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_scores_of_labels_are_scikit_learns(noise: float) -> None:
    table, config = make_frame(), Config(n_folds=3)
    records = compare(config, table, DUMMY, noise, 1)["records"]
    codes = np.unique(table.y, return_inverse=True)[1]
    folds = make_folds(codes, 3, derive_seed("car", 1))
    for record, (train, test) in zip(records, folds, strict=True):
        labels = spoil_labels(codes, train, noise, derive_seed("car", 1))
        shares = np.bincount(labels[train], minlength=3) / train.size
        proba = np.tile(shares, (test.size, 1))
        assert record["nll"] == pytest.approx(log_loss(codes[test], proba, labels=[0, 1, 2]), abs=1e-6)
        assert record["brier"] == pytest.approx(
            brier_score_loss(codes[test], proba, labels=[0, 1, 2]), abs=1e-6
        )
        right = (codes[test] == shares.argmax()).mean()
        assert record["error"] == pytest.approx(1 - right, abs=1e-6)
        assert record["ece"] == pytest.approx(abs(right - shares.max()), abs=1e-6)  # one bin


def test_scores_of_targets_are_in_their_standard_deviations() -> None:
    table = make_frame(is_real=True)
    (record, *_) = compare(Config(), table, DUMMY, 0, 0)["records"]
    train, test = make_folds(np.arange(60), 3, derive_seed("car", 0))[0]
    expected = root_mean_squared_error(table.y[test], np.full(test.size, table.y[train].mean()))
    assert record["rmse"] == pytest.approx(expected / table.y.std(), abs=1e-6)


def test_a_class_that_was_not_learnt_costs_the_clipped_likelihood() -> None:
    table = make_frame(n_rows=40)
    table.y[:] = "a"
    table.y[7] = "b"
    records = compare(Config(n_folds=2), table, DUMMY, 0, 0)["records"]
    assert max(record["nll"] for record in records) == pytest.approx(-np.log(1e-12) / 20, abs=1e-6)


def test_spoiled_labels_are_wrong_and_of_training_rows() -> None:
    codes, train = np.random.default_rng(0).integers(0, 4, 400), np.arange(300)
    spoiled = spoil_labels(codes, train, 0.2, 0)
    assert (spoiled != codes)[:300].sum() == 60
    np.testing.assert_array_equal(spoiled[300:], codes[300:])
    shifts = (spoiled - codes)[spoiled != codes] % 4
    assert stats.chisquare(np.bincount(shifts, minlength=4)[1:]).pvalue > 0.01


def test_slow_contenders_have_fewer_repeats_and_no_large_tables() -> None:
    config = Config(noise=(0, 0.2), seeds_small=3, large_rows=100, slow_rows=100)
    tables = [make_frame("splice", 200), make_frame("car"), make_frame("stock", is_real=True)]
    keys = [key.split("/") for key in make_tasks(config, tables, ["TabM-D", DUMMY])]
    found = {(name, contender, noise, int(repeat)) for name, _, contender, noise, repeat in keys}
    quick = {("car", DUMMY, "0", r) for r in range(3)} | {("stock", DUMMY, "0", r) for r in range(3)}
    noisy = {("car", DUMMY, "0.2", 0), ("splice", DUMMY, "0.2", 0)}
    slow = {("car", "TabM-D", "0", 0), ("stock", "TabM-D", "0", 0)}
    assert found == quick | noisy | slow | {("splice", DUMMY, "0", 0)}
    assert len(keys) == len(found)
    assert not make_tasks(config, tables[:1], ["CatBoost"])


def test_tables_are_those_to_report_on(tmp_path: Path) -> None:
    assert Config().choose_names() == BUNDLED_FRAMES
    assert set(Config(data_dir=tmp_path).choose_names()) == {*REPORT["classification"], *REPORT["regression"]}


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer", "ignore:early_stopping must find")
@pytest.mark.parametrize("name", CONTENDERS)
@pytest.mark.parametrize("is_real", [False, True])
def test_each_contender_takes_categories_and_missing_values(name: str, is_real: bool) -> None:
    if name in find_missing_contenders() or CONTENDERS[name].is_slow:
        pytest.skip(f"{name} is slow or not installed")
    table = make_frame(n_rows=40, is_real=is_real)
    y = table.y if is_real else np.unique(table.y, return_inverse=True)[1]
    model = CONTENDERS[name].make(Job(table.X, is_real, 0, 1))
    model.set_params(**_shorten(model))
    predicted = (model.fit(table.X, y).predict if is_real else model.fit(table.X, y).predict_proba)(table.X)
    assert np.isfinite(predicted).all()


def _shorten(model: Any) -> dict[str, Any]:
    """Return options with which a model is fitted at once."""
    short = {"max_epochs": 1, "iterations": 2, "n_estimators": 2, "n_members": 2, "max_iter": 2}
    return {name: short[last] for name in model.get_params() if (last := name.split("__")[-1]) in short}


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "find_spec", lambda name: None if name == "catboost" else object())
    assert find_missing_contenders()["CatBoost"] == "catboost"


def test_packages_are_named_with_their_versions() -> None:
    pytest.importorskip("skrub")
    pytest.importorskip("tabm")
    assert list_packages([DUMMY, "TabM with mixup"]) == [
        f"skrub {version('skrub')}",
        f"tabm {version('tabm')}",
    ]


def test_ranks_are_over_folds_that_all_have() -> None:
    records = make_records(**{OURS: [0.1, 0.2, 0.3], DUMMY: [0.2, 0.1, 0.4], "TabM-D": [0.3, 0.3]})
    rows = {
        (row["scope"], row["contender"]): row for row in summarise(records, test_ratio=0.5) if row["n_tables"]
    }
    assert rows["2 contenders", OURS]["nll_rank"] == pytest.approx((1 + 2 + 1) / 3, abs=1e-3)
    assert rows["2 contenders", OURS]["nll"] == pytest.approx(0.3)
    assert rows["3 contenders", OURS]["nll"] == pytest.approx(0.225)
    assert rows["3 contenders", "TabM-D"]["nll_rank"] == 3
    assert rows["3 contenders", OURS]["n_folds"] == 4


def test_differences_from_ours_are_paired_by_fold() -> None:
    rows = summarise(make_records(**{OURS: [0.1, 0.2], DUMMY: [0.4]}), test_ratio=0.5)
    (row,) = [row for row in rows if row["contender"] == DUMMY and row["dataset"] == "t0"]
    # The variance of Nadeau and Bengio, by hand.
    low = 0.45 - stats.t.ppf(0.975, 1) * np.sqrt((1 / 2 + 0.5) * np.var([0.3, 0.6], ddof=1))
    assert (row["nll_diff"], row["nll_diff_low"], row["n_repeats"]) == (
        pytest.approx(0.45),
        pytest.approx(low, abs=1e-5),
        2,
    )


@pytest.mark.parametrize("heights", [[0.1, 0.1, 0.1], [0.2, 0.9, 0.95, 1.0], [0.0, 0.5, 1.0], [0.3]])
def test_names_are_spread_out_in_order(heights: list[float]) -> None:
    spread = _spread_out(np.array(heights), 0.1)
    assert np.all(np.diff(spread) >= 0.06)  # squeezed where they would leave the panel
    assert spread.max() <= 1 + 1e-12
    apart = np.diff(heights).min(initial=1) >= 0.1
    assert not apart or np.allclose(spread, heights)


@pytest.mark.parametrize(("catboost", "verdict"), [(0.106, "yes"), (0.105, "no"), (0.09, "no")])
def test_targets_are_judged(catboost: float, verdict: str) -> None:
    records = make_records(**{OURS: [0.3, 0.3], ENSEMBLE: [0.1, 0.1], "CatBoost": [catboost, catboost]})
    summary = summarise(records, test_ratio=0.5)
    targets = {row["target"].partition(": ")[2]: row for row in tabulate({"summary": summary})["Targets"]}
    assert targets["the ensemble's mean NLL is 5 % below CatBoost's"]["reached"] == verdict
    assert targets["the ensemble is first by NLL rank"]["reached"] == ("yes" if catboost > 0.1 else "no")


def test_differences_by_table_are_in_per_cent_of_the_others_score() -> None:
    records = make_records(**{OURS: [0.3, 0.1], PLAIN: [0.4, 0.1]})
    summary = summarise(records, test_ratio=0.5)
    pairs = _list_pairs(summary)
    assert list(pairs) == [("classification", "t0"), ("classification", "t1")]
    # Means over two folds, of NLL and of its double: 0.45 less 0.6.
    interval = pairs["classification", "t0"][PLAIN]
    (row,) = [row for row in summary if (row["dataset"], row["contender"]) == ("t0", PLAIN)]
    assert interval.mean == pytest.approx(-25)
    assert interval.high == pytest.approx(-100 * row["nll_diff_low"] / 0.6)
    assert pairs["classification", "t1"][PLAIN] == pytest.approx((0, 0, 0))


def test_most_contenders_on_enough_tables_are_drawn() -> None:
    many, few = {OURS: 5 * [0.3], PLAIN: 5 * [0.2], DUMMY: 5 * [0.1]}, {"TabM-D": 2 * [0.1]}
    parts = _list_parts(summarise(make_records(**many | few), test_ratio=0.5))
    assert [scope for *_, scope in parts] == ["3 contenders", "4 contenders"]
    assert [scope for *_, scope in _choose_parts(parts)] == ["3 contenders"]


@pytest.mark.slow
def test_a_run_goes_on_with_more_contenders_and_repeats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(PRESETS["smoke"], preset="smoke", datasets=("iris",), out=tmp_path, contenders=(DUMMY,))
    run(config)
    (journal,) = tmp_path.glob("finished/*.jsonl")
    first = journal.read_text()
    run(replace(config, contenders=(DUMMY, "forest"), seeds_small=2))
    assert journal.read_text().startswith(first)
    assert len([line for line in journal.read_text().splitlines() if line]) == 4
    assert "TabPFN" in capsys.readouterr().out
    (tmp_path / "tabular-embedded-smoke-cpu.csv").unlink()
    run(replace(config, contenders=(DUMMY, "forest", OURS), measured_only=True))
    assert len([line for line in journal.read_text().splitlines() if line]) == 4
    assert "forest" in (tmp_path / "tabular-embedded-smoke-cpu.csv").read_text()
    with pytest.raises(UserError, match="must name one that can be run"):
        run(replace(config, contenders=(OURS,), measured_only=True))


def test_a_recorded_run_drops_no_contender_and_goes_on_elsewhere(tmp_path: Path) -> None:
    one = replace(PRESETS["smoke"], preset="cpu", datasets=("iris",), out=tmp_path / "a", contenders=(DUMMY,))
    run(replace(one, seeds_small=2))
    recorded = replace(one, record=True)
    with pytest.raises(UserError, match=r"--record must keep each contender .* got none for linear"):
        run(replace(recorded, contenders=("forest",)))
    work = {"out": tmp_path / "b", "record": True, "noise": (0,)}
    with pytest.raises(PostponedError, match="0 of 1 are done"):
        run(replace(one, minutes=0, work=tmp_path / "here", **work))
    run(replace(one, work=tmp_path / "here", **work))
    run(replace(one, seeds_small=2, measured_only=True, work=tmp_path / "here", **work))
    (shared,) = (tmp_path / "b" / "unfinished").iterdir()
    with pytest.raises(PostponedError, match="1 of 2 are done"):
        run(replace(one, seeds_small=2, minutes=0, work=tmp_path / "there", **work))
    run(replace(one, seeds_small=2, work=tmp_path / "there", **work))
    assert not shared.exists()


@pytest.mark.parametrize("n_rows", [500, 9000])
def test_more_seeds_are_more_repeats(n_rows: int) -> None:
    table = Frame(
        "iris", pd.DataFrame({"a": np.arange(n_rows, dtype=float)}), np.arange(n_rows) % 2, "made up"
    )
    config, default = replace(PRESETS["cpu"], n_seeds=10), PRESETS["cpu"]
    assert config.count_repeats(table, OURS, 0) == 10
    assert config.count_repeats(table, OURS, 0.2) == config.seeds_slow
    assert default.count_repeats(table, OURS, 0) == (5 if n_rows == 500 else 1)
