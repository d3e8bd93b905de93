import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss

from benchmarks.data.cifar_images import ImageSet
from benchmarks.data.tables import Table
from benchmarks.harness.command import UserError
from benchmarks.harness.figures import render
from benchmarks.harness.results import describe_config, read_result
from benchmarks.harness.runner import PostponedError
from benchmarks.image_training.augment_and_schedule import HeldOutScores, read_scores
from benchmarks.regimes.config import PRESETS, Config
from benchmarks.regimes.curve import Cluster, find_crossing, fit_curves
from benchmarks.regimes.design import BASELINE, MIXUP, Setting
from benchmarks.regimes.images import take_images
from benchmarks.regimes.report import CLAIMS, find_largest, tabulate
from benchmarks.regimes.run import COMMAND, run
from benchmarks.regimes.summary import select, summarise
from tests.benchmarks.helpers import make_tiny

TINY = dataclasses.replace(
    PRESETS["smoke"],
    preset="smoke",
    first=("70/1/2",),
    further=("80/1/2",),
    anchors=("70/1/2",),
    choices=("same class",),
    other_decays=(),
    test_rows=20,
    checkpoint_every=1,
)
STEM = "regimes-embedded-smoke-cpu"


# -- the plan -------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["cpu", "gpu", "paper"])
def test_plan_begins_with_the_figure_and_names_no_run_twice(preset: str) -> None:
    config = PRESETS[preset]
    runs = config.make_plan().runs
    first = config.make_first_plan().runs
    assert runs[: len(first)] == first
    assert len({run.key for run in runs}) == len(runs)
    assert {run.method for run in first} == {BASELINE, MIXUP}
    assert config.count_repeats() >= 3


def test_every_method_has_its_baseline_in_the_plan() -> None:
    runs = PRESETS["cpu"].make_plan().runs
    known = {(run.setting, run.weight_decay, run.repeat) for run in runs if run.method == BASELINE}
    assert all((run.setting, run.weight_decay, run.repeat) in known for run in runs)


def test_methods_differ_from_mixup_in_one_thing() -> None:
    config = PRESETS["cpu"]
    mixup = config.get_mixing(MIXUP)
    assert mixup == {"alpha": 1.0, "lam_per": "batch"}
    assert config.get_mixing(BASELINE) == {"alpha": 0.0, "lam_per": "batch"}
    for method in {item.method for item in config.make_plan().runs} - {BASELINE, MIXUP}:
        changed = {name for name, value in config.get_mixing(method).items() if mixup.get(name) != value}
        assert len(changed) == 1, method


@pytest.mark.parametrize("text", ["2500/16", "2500/16/x", "0/16/100", "2500/16/100/1", "-5/16/100"])
def test_a_setting_has_three_numbers(text: str) -> None:
    with pytest.raises(UserError, match="--further must be images/width/epochs"):
        Config(further=(text,))


def test_training_error_is_of_epochs_that_there_are() -> None:
    with pytest.raises(UserError, match="--last-epochs must be between 1 and 5"):
        Config(first=("100/4/5",))


# -- rows and scores ------------------------------------------------------------------------------


def test_fewer_images_are_the_first_of_more() -> None:
    X = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1)
    images = ImageSet(Table("cifar10", X, np.arange(60) % 10, ""), 50, 10)
    few, many, other = (take_images(images, n, seed) for n, seed in ((8, 3), (20, 3), (20, 4)))
    assert (few.n_train, many.n_train) == (8, 20)
    assert few.table.X[:8].tolist() == many.table.X[:8].tolist()
    assert few.table.X[8:].ravel().tolist() == list(range(50, 60))
    assert many.table.y.tolist() == (many.table.X.ravel() % 10).tolist()
    assert len(set(many.table.X[:20].ravel().tolist())) == 20
    assert many.table.X[:20].tolist() != other.table.X[:20].tolist()


def test_scores_are_those_of_scikit_learn(images: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = images
    net = make_tiny(
        max_epochs=3,
        autocast=None,
        channels_last=False,
        callbacks=[HeldOutScores({"some": (X[:9], y[:9])}, epochs=(1, 3))],
    ).fit(X, y)
    assert ["some_error" in epoch for epoch in net.history] == [True, False, True]
    assert read_scores(net, "some_error")[-1] == pytest.approx(1 - net.score(X[:9], y[:9]))
    expected = log_loss(y[:9], net.predict_proba(X[:9]), labels=[0, 1, 2])
    assert read_scores(net, "some_nll")[-1] == pytest.approx(expected, rel=1e-4)


# -- curves ---------------------------------------------------------------------------------------


def make_clusters(n: int = 8) -> list[Cluster]:
    generator = np.random.default_rng(0)
    x = generator.uniform(0, 40, size=(n, 1, 3))
    y = np.log10(x + 0.1) + generator.normal(scale=0.3, size=x.shape) + (np.arange(n) % 2)[:, None, None]
    return [Cluster(place % 2, x[place], y[place]) for place in range(n)]


def test_curve_is_the_parabola_of_numpy() -> None:
    clusters = make_clusters()
    found = fit_curves(clusters, n_resamples=20)
    x = np.log10([cluster.x.mean() + 0.1 for cluster in clusters])
    y = np.array([cluster.y.mean() for cluster in clusters])
    grid = np.log10(np.array(found["grid"]) + 0.1)
    np.testing.assert_allclose(found["curve"], np.polyval(np.polyfit(x, y, 2), grid), atol=2e-3)
    np.testing.assert_allclose(found["slope"], np.polyfit(x, y, 1)[0], atol=1e-4)
    groups = np.array([cluster.group for cluster in clusters])
    design = np.column_stack([x, groups == 0, groups == 1])
    np.testing.assert_allclose(found["slope_within"], np.linalg.lstsq(design, y)[0][0], atol=1e-4)
    assert all(np.array(found["curve_low"]) <= np.array(found["curve_high"]))


def test_interval_of_a_curve_without_noise_has_no_width() -> None:
    x = np.linspace(0.5, 30, 6)[:, None, None]
    clusters = [Cluster(0, values, 2 * np.log10(values + 0.1) - 1) for values in x]
    found = fit_curves(clusters, n_resamples=30)
    assert (found["slope_low"], found["slope"], found["slope_high"]) == pytest.approx((2, 2, 2))
    assert found["crossing"] == pytest.approx(10**0.5 - 0.1, abs=0.05)


def test_crossing_says_on_which_side_a_curve_stays() -> None:
    grid = np.array([1.0, 2.0])
    assert find_crossing(grid, np.array([-2.0, -1.0])) == np.inf
    assert find_crossing(grid, np.array([1.0, -1.0])) == -np.inf


# -- summary --------------------------------------------------------------------------------------


def make_record(setting: str, method: str, repeat: int, train: float, test: float) -> dict[str, Any]:
    n_images, width, epochs = map(int, setting.split("/"))
    return {
        "part": "images",
        **{"n_images": n_images, "width": width, "epochs": epochs, "method": method},
        **{"weight_decay": 1e-4, "repeat": repeat, "train_error": train, "test_error": test},
        **{"test_nll": test / 10, "test_curve": [80.0, test], "loss_curve": [2.0, 1.0], "seconds": 60.0},
    }


def make_records() -> list[dict[str, Any]]:
    records = []
    for setting, gain in (("70/1/2", 1.0), ("80/1/2", -4.0)):
        for repeat in range(2):
            memorised = 0.5 if setting == "80/1/2" else 9.0
            records.append(make_record(setting, BASELINE, repeat, memorised, 50.0 + repeat))
            test = 50.0 + repeat + gain + 0.1 * repeat
            records.append(make_record(setting, MIXUP, repeat, memorised + 2, test))
    records += [make_record("70/1/2", "alpha ∞", 1, 20.0, 55.1)]
    for method, error in ((BASELINE, 3.0), ("alpha 1", 2.5)):
        rest = {"train_error": [9.0, error], "test_error": [20.0, error + 10], "test_nll": [1.0, error]}
        records += [
            {"part": "tables", "dataset": "iris", "noise": 0.4, "method": method, "repeat": repeat, **rest}
            for repeat in range(2)
        ]
    return records


CONFIG = dataclasses.replace(TINY, table_epochs=(1, 3))


def test_summary_pairs_seeds_and_names_what_was_not_run() -> None:
    summary = summarise(make_records(), config=CONFIG, n_classes=10)
    rows = {(row["n_images"], row["method"]): row for row in select(summary, "images")}
    assert rows[80, MIXUP]["test_error_diff"] == pytest.approx(-3.95)
    assert rows[80, MIXUP]["erm_train_error"] == 0.5
    assert rows[70, MIXUP]["gap_diff"] == pytest.approx(1.05 - 2)
    assert (rows[70, "alpha ∞"]["n_seeds"], rows[70, "alpha ∞"]["n_planned"]) == (1, 2)
    assert rows[70, "alpha ∞"]["test_error_diff"] == pytest.approx(4.1)
    assert rows[70, "same class"]["n_seeds"] == 0
    (contrast,) = select(summary, "contrast")
    assert contrast["label"] == "70/1/2: alpha ∞ - alpha 1"
    assert contrast["test_error_change"] == pytest.approx(3.0)
    tables = {(row["method"], row["epochs"]): row for row in select(summary, "tables")}
    assert tables["alpha 1", 3]["test_error_diff"] == pytest.approx(-0.5)
    assert tables["alpha 1", 3]["erm_train_error"] == 3.0
    assert {row["metric"] for row in select(summary, "curve")} == {"test_error", "test_nll"}


def test_claims_are_of_settings_in_which_erm_has_memorised() -> None:
    summary = summarise(make_records(), config=CONFIG, n_classes=10)
    document = {"summary": summary, "config": {"weight_decay": 1e-4}}
    (memorised,) = CLAIMS[0].compare(document)
    assert (memorised.label, memorised.ours.find_sign()) == ("80/1/2", -1)
    raised = next(claim for claim in CLAIMS if "raises the training error" in claim.text)
    assert {item.label for item in raised.compare(document)} == {"70/1/2", "80/1/2"}
    assert (find_largest(summary) or {})["n_images"] == 80
    tables = tabulate(document)
    (largest,) = next(rows for title, rows in tables.items() if title.startswith("Most images"))
    assert largest["images"] == "80"
    assert [row["seeds run"] for row in tables["Not run"]] == ["1 of 2", "0 of 2"]


def test_epochs_may_be_named_in_any_order() -> None:
    tables = [
        select(summarise(make_records(), config=config, n_classes=10), "tables")
        for config in (CONFIG, dataclasses.replace(CONFIG, table_epochs=(3, 1)))
    ]
    assert tables[0] == tables[1]


def test_settings_without_an_anchor_are_summarised_and_drawn() -> None:
    config = dataclasses.replace(CONFIG, anchors=())
    summary = summarise(make_records(), config=config, n_classes=10)
    assert not [
        row for row in select(summary, "contrast") if row["question"] in ("alpha", "choices", "decay")
    ]
    document = {"summary": summary, "config": describe_config(config)}
    assert render(COMMAND.draw, document)["png"].startswith(b"\x89PNG")


def test_a_first_training_alone_is_drawn_and_counted() -> None:
    summary = summarise(make_records()[:1], config=CONFIG, n_classes=10)
    document = {"summary": summary, "config": describe_config(CONFIG)}
    assert render(COMMAND.draw, document)["png"].startswith(b"\x89PNG")
    assert list(tabulate(document)) == ["Not run"]
    assert not any(claim.compare(document) for claim in CLAIMS)


def test_settings_next_to_each_other_tell_what_width_and_epochs_change() -> None:
    config = dataclasses.replace(
        TINY, first=("70/1/2", "70/2/2", "70/2/4"), further=(), anchors=("70/1/2",), alphas=(), choices=()
    )
    gains = {"70/1/2": 0.0, "70/2/2": -2.0, "70/2/4": -5.0}
    records = [
        make_record(setting, method, repeat, 1.0, 50.0 + gain * (method == MIXUP))
        for setting, gain in gains.items()
        for method in (BASELINE, MIXUP)
        for repeat in range(2)
    ]
    rows = select(summarise(records, config=config, n_classes=10), "contrast")
    found = {row["question"]: row["test_error_change"] for row in rows}
    assert found == {"capacity": pytest.approx(-2.0), "length": pytest.approx(-3.0)}


# -- whole runs -----------------------------------------------------------------------------------


def read_records(out: Path) -> list[dict[str, Any]]:
    """Return what a run found, without its times."""
    records = read_result(out / f"{STEM}.json")["records"]
    rows = [dict(zip(records["columns"], row, strict=True)) for row in records["rows"]]
    return [{name: row[name] for name in row if name != "seconds"} for row in rows]


def test_no_minutes_and_nothing_done_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--minutes must let one training end"):
        run(dataclasses.replace(TINY, out=tmp_path, minutes=0.0))


def test_too_many_images_are_an_error(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, out=tmp_path, further=("5000/1/2",))
    with pytest.raises(UserError, match="at most 1437 images of digit_images; got 5000/1/2"):
        run(config)


@pytest.mark.slow  # trains networks
def test_a_part_is_shown_and_gone_on_from_by_a_longer_plan(tmp_path: Path) -> None:
    shorter = dataclasses.replace(TINY, further=(), alphas=(), choices=(), tables=("iris",))
    whole, parts = (dataclasses.replace(TINY, out=tmp_path / name) for name in ("a", "b"))
    run(whole)
    part = dataclasses.replace(shorter, out=parts.out)
    run(part)
    (kept,) = (parts.out / "finished").iterdir()
    kept.rename(parts.out / f"{kept.stem}.partial.jsonl")
    run(dataclasses.replace(parts, minutes=0.0))
    found = read_result(parts.out / f"{STEM}.json")
    assert [row["n_seeds"] for row in select(found["summary"], "images")] == [2, 2, 0, 0, 0, 0]
    assert list(parts.out.glob("*.partial.jsonl"))
    with pytest.raises(PostponedError, match=r"0 of 14 are done; the same command goes on\."):
        run(dataclasses.replace(parts, minutes=0.0, record=True))  # what was not recorded is no part of it
    run(parts)
    assert read_records(whole.out) == read_records(parts.out)
    assert not list(parts.out.glob("*.partial.jsonl"))


def test_settings_are_written_as_they_are_typed() -> None:
    assert str(Setting.parse("2500/16/100")) == "2500/16/100"
