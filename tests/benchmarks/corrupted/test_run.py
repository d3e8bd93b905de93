import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.corrupted import run as corrupted
from benchmarks.corrupted.run import PRESETS, Config, Run, describe_protocol, list_runs, run
from benchmarks.corrupted.summary import compare_errors, compare_memorised, summarise, tabulate
from benchmarks.corrupted_tables.methods import corrupt_labels
from benchmarks.data.cifar_images import load_image_set, normalize_images
from benchmarks.harness import checkpoints
from benchmarks.harness.command import UserError
from benchmarks.harness.results import read_result
from tests.benchmarks.helpers import killed_after

TINY = dataclasses.replace(
    PRESETS["smoke"],
    preset="smoke",
    noise=(0.5,),
    alphas=(8.0,),
    epochs=2,
    checkpoint_every=1,
    width=1,
    train_rows=70,
    test_rows=20,
)
STEM = "corrupted-embedded-smoke-cpu"


def read_records(out: Path) -> list[dict[str, Any]]:
    """Return what a run found, without its times."""
    records = read_result(out / f"{STEM}.json")["records"]
    rows = [dict(zip(records["columns"], row, strict=True)) for row in records["rows"]]
    return [{name: row[name] for name in row if name not in ("seconds", "images_per_second")} for row in rows]


@pytest.mark.slow
def test_run_writes_its_results_and_leaves_nothing_else(tmp_path: Path) -> None:
    assert run(dataclasses.replace(TINY, out=tmp_path)) == 0
    assert {path.name for path in tmp_path.glob("*.*")} == {
        f"{STEM}.{kind}" for kind in ("json", "csv", "png", "svg")
    }
    records = read_records(tmp_path)
    assert [row["method"] for row in records] == 2 * ["ERM", "dropout 0.5", "mixup alpha 8"]
    # all methods of a repeat see the same labels
    assert len({(row["repeat"], row["n_corrupted"]) for row in records}) == 2
    document = read_result(tmp_path / f"{STEM}.json")
    assert len(tabulate(document)) == 1


@pytest.mark.slow
def test_a_broken_command_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, broken = (dataclasses.replace(TINY, out=tmp_path / name) for name in ("a", "b"))
    run(whole)
    with killed_after(checkpoints, 4):  # all epochs of the second run are done, and nothing is recorded of it
        run(broken)
    assert not (broken.out / f"{STEM}.json").exists()
    run(broken)
    assert read_records(whole.out) == read_records(broken.out)


def test_memorization_is_measured_on_the_labels_that_were_trained_on(tmp_path: Path) -> None:
    # One epoch of a rate this small leaves the net as it was: it predicts one class, more or less.
    config = dataclasses.replace(TINY, lr=1e-6, epochs=1)
    images = load_image_set("digit_images", None, train_rows=70, test_rows=20)
    item = Run("digit_images", 0.5, "ERM", 0)
    nets: list[Any] = []
    make = corrupted.make_image_net

    def keep(*args: Any, **options: Any) -> Any:
        nets.append(make(*args, **options))
        return nets[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corrupted, "make_image_net", keep)
        record = corrupted.train_once(config, images, item, tmp_path)
    scaled = normalize_images(images)
    y = corrupt_labels(scaled.y_train, 0.5, item.seed)
    is_true = y == scaled.y_train
    assert record["n_corrupted"] == (~is_true).sum()
    codes = nets[0].evaluation_step((torch.tensor(scaled.X_train), None)).argmax(1).numpy()
    assert record["train_error_true"] == pytest.approx(100 * (codes != y)[is_true].mean(), abs=1e-3)
    assert record["train_error_corrupted"] == pytest.approx(100 * (codes != y)[~is_true].mean(), abs=1e-3)


def make_records(n_seeds: int) -> list[dict[str, Any]]:
    """Return records whose errors follow from method, share and repeat."""
    levels = {"ERM": 40.0, "dropout 0.8": 20.0, "mixup alpha 8": 15.0, "mixup alpha 32": 10.0}
    return [
        {
            **{"dataset": "cifar10", "noise": noise, "method": method, "repeat": repeat, "epochs": 2},
            **{"best_error": level / 2 + repeat, "last_error": level + 2 * repeat, "best_epoch": 1},
            **{"train_error_true": 1.0, "train_error_corrupted": 100 - level, "seconds": 60.0},
            "error_curve": [level + 5, level + 2 * repeat],
        }
        for noise in (0.5, 0.8)
        for method, level in levels.items()
        for repeat in range(n_seeds)
    ]


def test_summary_pairs_seeds() -> None:
    summary = summarise(make_records(3))
    assert len(summary) == 8
    row = next(row for row in summary if row["method"] == "mixup alpha 32")
    assert (row["last_error"], row["n_seeds"]) == (12.0, 3)
    # the repeats raise both alike, so that the difference has no spread
    assert [row[f"last_error_diff{end}"] for end in ("", "_low", "_high")] == [-30.0] * 3
    assert row["curve"] == [15.0, 12.0]


def test_table_has_the_papers_figures_beside() -> None:
    tables = tabulate({"summary": summarise(make_records(3))})
    assert [title.split(", ")[1] for title in tables] == [
        "50 % of the labels replaced; errors in %",
        "80 % of the labels replaced; errors in %",
    ]
    cells = {row["method"]: row for row in next(iter(tables.values()))}
    assert cells["mixup alpha 32"]["Table 2: best / last"] == "11.3 / 12.7"
    assert cells["mixup alpha 8"]["Table 2: best / last"] == ""
    assert cells["ERM"]["last, against ERM"] == ""


def test_one_seed_has_no_interval() -> None:
    summary = summarise(make_records(1))
    cells = next(iter(tabulate({"summary": summary}).values()))[1]
    assert (cells["last test error"], cells["last, against ERM"]) == ("20.0", "-20.0")


def test_comparisons_stand_beside_table_2() -> None:
    document = {"summary": summarise(make_records(3))}
    half, most = compare_errors(document)
    assert (half.label, half.ours.mean, half.paper) == ("50 %", -30.0, pytest.approx(12.7 - 44.6))
    assert (most.label, most.paper) == ("80 %", pytest.approx(30.9 - 73.9))
    assert half.text == "42.0 → 12.0 % with 50 % replaced"
    fitted = compare_memorised(document)[0]
    assert (fitted.ours.find_sign(), fitted.paper) == (1, None)


def test_runs_of_a_repeat_share_their_seed() -> None:
    runs = list_runs(dataclasses.replace(PRESETS["paper"], seeds_each=2))
    assert len({item.key for item in runs}) == len(runs) == 3 * 2 * 9
    assert len({item.seed for item in runs}) == 2


def test_presets_have_the_papers_protocol() -> None:
    for name in ("paper", "gpu"):
        config = PRESETS[name]
        assert (config.epochs, config.batch_size, config.lr, config.width) == (200, 128, 0.1, 64)
        assert (config.noise, config.dropouts) == ((0.2, 0.5, 0.8), (0.5, 0.7, 0.8, 0.9))
        assert (config.alphas, config.weight_decay) == ((1.0, 2.0, 8.0, 32.0), 1e-4)
        assert config.list_milestones("preact_resnet18") == [100, 150]
    assert 0.5 in PRESETS["cpu"].noise
    assert PRESETS["cpu"].count_repeats() == 3


def test_networks_with_dropout_may_be_wider() -> None:
    config = dataclasses.replace(TINY, dropouts=(0.5,))
    wider = dataclasses.replace(config, dropout_width=3)
    assert config.resize("dropout 0.5") == {"dropout": 0.5, "width": 1}
    assert wider.resize("dropout 0.5") == {"dropout": 0.5, "width": 3}
    assert (wider.resize("ERM"), wider.resize("mixup alpha 8")) == ({}, {})
    assert "probability 0.5, in networks of width 3;" in describe_protocol(wider)


def test_protocol_says_how_many_seeds() -> None:
    assert "One seed each, so no interval" in describe_protocol(PRESETS["paper"])
    assert "Student's 95 % intervals" in describe_protocol(TINY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "cifar"}, "--dataset must be one of .* Did you mean 'cifar10'"),
        ({"noise": ()}, "--noise must name at least one; got none"),
        ({"noise": (1.5,)}, "--noise must be between 0.01 and 1.0; got 1.5"),
        ({"dropouts": (1.0,)}, "--dropouts must be between 0.0 and 0.99"),
        ({"alphas": (0.0,)}, "--alphas must be at least 1e-06"),
        ({"weight_decay": -1.0}, "--weight-decay must be at least 0"),
        ({"epochs": 0}, "--epochs must be at least 1"),
    ],
)
def test_config_names_the_option_that_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_run_without_data_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data-dir must hold CIFAR-10 .*got none"):
        run(dataclasses.replace(PRESETS["cpu"], preset="cpu", out=tmp_path))
    assert not list(tmp_path.iterdir())
