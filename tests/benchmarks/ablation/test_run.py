import dataclasses
import hashlib
from pathlib import Path
import pickle
from typing import Any

import numpy as np
import pytest
from scipy import stats
import torch

from benchmarks.ablation.methods import BASELINE, PUBLISHED, STANDARD
from benchmarks.ablation.run import CLAIMS, PRESETS, Config, fit_methods, make_tasks
from benchmarks.ablation.summary import (
    aggregate_tables,
    compare_mixup,
    summarise,
    tabulate,
)
from benchmarks.data import cifar_files
from benchmarks.data.cifar_files import BATCHES, read_cifar10
from benchmarks.data.small_images import ConvNet, load_images, scale_images
from benchmarks.data.tables import Table, load_tables
from benchmarks.data.tables_and_images import choose_names, load_data, take_part
from benchmarks.harness.command import UserError
from benchmarks.harness.results import pack_records
from sk_mixup import MixupClassifier

SMOKE = PRESETS["smoke"]
SHIFTS = {"ERM": 0.0, "mixup": -0.02, "k = 3": 0.03}


def make_records(dataset: str, shifts: dict[str, float]) -> list[dict[str, Any]]:
    """Return records in which a method differs from ERM by a shift."""
    return [
        {
            "dataset": dataset,
            "group": "mixup",
            "method": method,
            "repeat": repeat,
            "error": 0.2 + 0.01 * repeat + shift,
            "nll": (1 + shift) * (0.5 + 0.1 * repeat),
        }
        for method, shift in shifts.items()
        for repeat in range(4)
    ]


def make_summary(*datasets: str) -> list[dict[str, Any]]:
    records = []
    for dataset in datasets:
        more = {"CutMix": 0.01} if dataset == "cifar10" else {}
        records += make_records(dataset, SHIFTS | more)
    return summarise(records, test_ratio=0.25)


def test_summarise_pairs_each_method_with_erm() -> None:
    rows = {row["method"]: row for row in make_summary("iris")}
    assert rows["mixup"]["error_diff"] == pytest.approx(-2.0)
    assert rows["mixup"]["error_diff_low"] == pytest.approx(rows["mixup"]["error_diff_high"])
    assert rows["k = 3"]["nll_change"] == pytest.approx(3.0)
    assert rows["ERM"]["error"] == pytest.approx(21.5)


def test_summarise_corrects_for_shared_rows_where_there_are_any() -> None:
    shares, own = (
        next(row for row in make_summary(name) if row["method"] == "mixup") for name in ("iris", "cifar10")
    )
    widths = [row["nll_change_high"] - row["nll_change_low"] for row in (shares, own)]
    assert widths[0] / widths[1] == pytest.approx(np.sqrt((1 / 4 + 0.25) / (1 / 4)), rel=1e-3)


def test_aggregate_tables_compares_over_tables() -> None:
    rows = aggregate_tables(make_summary("iris", "wine", "cifar10"))
    assert set(rows) == set(SHIFTS)
    assert rows["mixup"]["error_diff"] == pytest.approx(-2.0)
    assert rows["mixup"]["nll_change"] == pytest.approx(-2.0, abs=1e-3)
    assert [rows[name]["error_rank"] for name in SHIFTS] == [2.0, 1.0, 3.0]


def test_tabulate_shows_published_figures_beside_their_rows_only() -> None:
    tables = tabulate({"summary": make_summary("iris", "wine", "cifar10")})
    compared, errors, _ = tables.values()
    assert [row["Table 5, error %"] for row in compared] == ["5.53 / 5.18", "4.24 / 4.68", "", ""]
    assert [row["row"] for row in errors] == ["ERM", "mixup", "k = 3", "CutMix"]
    assert compared[3]["2 tables: error, points"] == errors[3]["iris"] == ""
    assert errors[1]["iris"] == "19.5 †"
    assert compared[1]["CIFAR-10: error, points"] == "-2.0 [-2.0, -2.0]"


def test_tabulate_keeps_the_alphas_together() -> None:
    records = make_records("iris", {"ERM": 0.0, "alpha 0.1": 0.0, "alpha 1": 0.0})
    records += make_records("cifar10", {"ERM": 0.0, "alpha 0.1": 0.0, "alpha 0.2": 0.0})
    records = [record | {"group": "λ" if "alpha" in record["method"] else "plain"} for record in records]
    rows, *_ = tabulate({"summary": summarise(records, test_ratio=0.25)}).values()
    assert [row["row"] for row in rows] == ["ERM", "alpha 0.1", "alpha 0.2", "alpha 1"]


def test_mixup_is_compared_with_what_was_run_on_the_papers_data() -> None:
    shifts = SHIFTS | {"noise 0.1": 0.005}
    records = make_records("iris", shifts | {"same class": 0.0}) + make_records("cifar10", shifts)
    for repeat, record in enumerate(row for row in records[-4:] if row["method"] == "noise 0.1"):
        record["error"] += (0.0, 0.0, 0.0, 0.004)[repeat]
    erm, noise = compare_mixup(
        {"records": pack_records(records)}, others=["ERM", "same class", "noise 0.1", "no such row"]
    )
    assert (erm.label, erm.text) == ("CIFAR-10, ERM", "21.5 → 19.5 %")
    assert erm.ours == pytest.approx((-2.0, -2.0, -2.0))
    assert erm.paper == pytest.approx(4.24 - 5.53)
    # Differences -2.5, -2.5, -2.5 and -2.9 points: a standard error of 0.1, and 3 degrees of freedom.
    half = 0.1 * stats.t.ppf(0.975, 3)
    assert noise.ours == pytest.approx((-2.6, -2.6 - half, -2.6 + half), abs=1e-4)
    assert noise.paper is None


def test_claims_name_rows_of_the_ablation() -> None:
    methods = Config().make_methods(is_image=True)
    assert {name for *_, others in CLAIMS for name in others} <= set(methods)


@pytest.mark.parametrize("is_image", [False, True])
def test_make_methods_are_options_that_the_estimator_knows(is_image: bool) -> None:
    methods = Config().make_methods(is_image=is_image)
    assert set(PUBLISHED) == {BASELINE, STANDARD} <= set(methods)
    for method in methods.values():
        net = MixupClassifier(**method.options)
        assert {name: getattr(net, name) for name in method.options} == method.options
    assert ("CutMix" in methods, "feature swap" in methods) == (is_image, not is_image)
    n_layers = len(Config().widths if is_image else Config().hidden_layer_sizes)
    assert sum(name.startswith("hidden layer") for name in methods) == n_layers


@pytest.mark.parametrize("is_image", [False, True])
def test_hidden_layers_are_what_follows_a_relu(is_image: bool) -> None:
    config = dataclasses.replace(SMOKE, widths=(4, 4), hidden_layer_sizes=(4, 4), methods=())
    (table,) = load_data(["digit_images" if is_image else "iris"], data_dir=None, download=False)
    options = config.make_options(table) | {"max_epochs": 0, "early_stopping": False}
    net = MixupClassifier(**options).fit(table.X.astype(np.float32), table.y)
    modules = dict(net.module_.named_modules())
    methods = config.make_methods(is_image=is_image)
    for number in (1, 2):
        (name,) = methods[f"hidden layer {number}"].options["vicinity"].layers
        assert isinstance(modules[name], torch.nn.ReLU)


@pytest.mark.slow
def test_fit_methods_gives_each_row_the_same_whatever_it_is_fitted_with() -> None:
    (table,) = load_tables(["iris"])
    split = SMOKE.make_split(table, 0)
    names = list(SMOKE.make_methods(is_image=False))
    together = fit_methods(SMOKE, split, names, 0)["records"]
    alone = [fit_methods(SMOKE, split, [name], 0)["records"][0] for name in names]
    for record in (*together, *alone):
        del record["seconds"]
    assert together == alone
    assert [record["method"] for record in together] == names
    assert len({record["nll"] for record in together}) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wine", "digit_images"])
def test_every_row_can_be_fitted(name: str) -> None:
    config = dataclasses.replace(SMOKE, methods=())
    tasks = make_tasks(config, load_data([name], data_dir=None, download=False))
    records = [record for task in tasks.values() for record in fit_methods(*task)["records"]]
    assert all(np.isfinite(record["nll"]) and 0 <= record["error"] <= 1 for record in records)
    assert {record["method"] for record in records} == set(
        config.make_methods(is_image=name == "digit_images")
    )


def test_make_tasks_takes_tables_whole_and_images_row_by_row() -> None:
    tasks = make_tasks(SMOKE, load_data(["iris", "digit_images"], data_dir=None, download=False))
    sizes = [len(names) for _, _, names, _ in tasks.values()]
    n_of_table, n_of_images = (len(SMOKE.make_methods(is_image=is_image)) for is_image in (False, True))
    assert sizes == [n_of_table] * 2 + [1] * (2 * n_of_images)


def test_take_part_shares_no_row_between_repeats() -> None:
    rows = np.arange(60_000)
    table = Table("cifar10", rows[:, None, None, None], rows, "test")
    splits = [take_part(table, repeat, 100, 20) for repeat in range(3)]
    train, test = (
        np.concatenate([split.table.y[getattr(split, name)] for split in splits])
        for name in ("train", "test")
    )
    assert len(set(train)) == 300
    assert len(set(test)) == 60
    assert train.max() < 50_000 <= test.min()


def test_choose_names_has_digits_stand_in_for_cifar(tmp_path: Path) -> None:
    assert choose_names((), None, download=False) == (
        "iris",
        "wine",
        "breast_cancer",
        "digits",
        "digit_images",
    )
    names = choose_names((), tmp_path, download=False)
    assert "abalone" in names
    assert names[-1] == "cifar10"
    assert choose_names(("wine",), tmp_path, download=False) == ("wine",)


def test_scale_images_gives_each_channel_mean_0_and_deviation_1() -> None:
    X = np.random.default_rng(0).integers(0, 256, size=(30, 3, 4, 4), dtype=np.uint8)
    scaled = scale_images(X, np.arange(20))[:20].astype(np.float64)
    np.testing.assert_allclose(scaled.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=(0, 2, 3)), 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 9, 5)])
def test_conv_net_takes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    assert ConvNet(7, shape, (2, 3, 4))(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ("cifar",)}, "Did you mean 'cifar10'"),
        ({"methods": ("mixups",)}, "--methods must be one of .* Did you mean 'mixup'"),
        (
            {"seeds_images": 5, "image_rows": 10_001, "download": True},
            "--image-rows must be at most 10000",
        ),
        (
            {"n_seeds": 10, "image_test_rows": 2000, "download": True},
            r"--image-test-rows must be at most 1000, as no two of 10 repeats \(--seeds\) share",
        ),
        ({"weight_decay": -1.0}, "--weight-decay must be at least 0"),
    ],
)
def test_config_names_the_option_that_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


class Call:
    """What pickle would run when it reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (b"N.",)


@pytest.fixture
def cifar_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny batches in CIFAR-10's format, whose pixels the loader expects."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    generator = np.random.default_rng(0)
    sums = {}
    for number, name in enumerate(BATCHES):
        pixels = generator.integers(0, 256, size=(4, 3072), dtype=np.uint8)
        record = {b"batch_label": b"made up", b"labels": [number, 1, 2, 9], b"data": pixels}
        (folder / name).write_bytes(pickle.dumps(record, protocol=2))
        sums[name] = hashlib.sha256(pixels.tobytes()).hexdigest()
    monkeypatch.setattr(cifar_files, "PIXEL_SHA256", sums)
    return tmp_path


@pytest.mark.parametrize("inside", [False, True])
def test_read_cifar10_joins_the_batches(cifar_dir: Path, inside: bool) -> None:
    X, y = read_cifar10(cifar_dir / "cifar-10-batches-py" if inside else cifar_dir)
    assert (X.shape, X.dtype) == ((24, 3, 32, 32), np.uint8)
    assert y.reshape(6, 4).tolist() == [[number, 1, 2, 9] for number in range(6)]
    first = pickle.loads((cifar_dir / "cifar-10-batches-py" / "data_batch_1").read_bytes())
    np.testing.assert_array_equal(X[0].ravel(), first[b"data"][0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Call(), r"it names _?pickle\.loads, which no array needs"),
        (print, r"it names (__builtin__|builtins)\.print"),
        ({b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 3]}, "must hold CIFAR-10's pixels"),
        ({b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1]}, "one label from 0 to 9"),
        ({b"data": np.zeros((4, 3072), np.uint8)}, "KeyError"),
    ],
    ids=["call", "name", "pixels", "labels", "no labels"],
)
def test_read_cifar10_runs_nothing_and_says_what_is_wrong(
    cifar_dir: Path, content: object, message: str
) -> None:
    path = cifar_dir / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UserError, match=message):
        read_cifar10(cifar_dir)


def test_read_cifar10_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks data_batch_1\. Unpack https://www\.cs\.toronto"):
        read_cifar10(tmp_path)


@pytest.mark.slow
def test_real_cifar10_has_the_pixels_that_are_expected(real_data_dir: Path) -> None:
    table = load_images("cifar10", real_data_dir)
    assert table.X.shape == (60_000, 3, 32, 32)
    assert np.bincount(table.y[:50_000]).tolist() == [5000] * 10
