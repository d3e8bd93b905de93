import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.between.run import (
    PRESETS,
    Config,
    choose_names,
    describe_protocol,
    fit_methods,
    make_tasks,
    measure_between,
)
from benchmarks.between.summary import compare_gradients, compare_misses, summarise, tabulate
from benchmarks.data.tables_and_images import load_data
from benchmarks.harness.command import UserError
from sk_mixup import MixupClassifier
from sk_mixup.inspection.between import between_curves

SMOKE = PRESETS["smoke"]
LAM = (0.0, 0.25, 0.5, 0.75, 1.0)
SHIFTS = {"ERM": 0.0, "mixup 0.2": 0.01, "mixup 1": -0.04}


def make_records(*datasets: str) -> list[dict[str, Any]]:
    """Return records in which a method differs from ERM by a shift at every λ."""
    bump = np.array([0.0, 0.1, 0.2, 0.1, 0.0])
    return [
        {
            "dataset": dataset,
            "method": method,
            "repeat": repeat,
            "error": 0.2 + 0.01 * repeat - shift,
            "nll": 0.5 + 0.1 * repeat,
            "lam": list(LAM),
            "miss": (0.1 + 0.01 * repeat + bump + shift).tolist(),
            "logit_gradient": (5 + repeat + 10 * (bump + shift)).tolist(),
            "proba_gradient": (1 + bump + shift).tolist(),
        }
        for dataset in datasets
        for method, shift in SHIFTS.items()
        for repeat in range(4)
    ]


def find_row(summary: list[dict[str, Any]], method: str, quantity: str, lam: float | None) -> dict[str, Any]:
    (row,) = [
        row for row in summary if (row["method"], row["quantity"], row["lam"]) == (method, quantity, lam)
    ]
    return row


def test_summarise_pairs_each_lam_with_erm() -> None:
    summary = summarise(make_records("digits"), test_ratio=0.25)
    row = find_row(summary, "mixup 1", "miss", 0.5)
    assert row["value"] == pytest.approx(100 * (0.1 + 0.015 + 0.2 - 0.04))
    assert row["diff"] == row["diff_low"] == pytest.approx(-4.0)
    assert find_row(summary, "ERM", "logit_gradient", 0.25)["value"] == pytest.approx(5 + 1.5 + 1)
    assert find_row(summary, "ERM", "nll", None)["diff_high"] == 0
    assert {row["n_repeats"] for row in summary} == {4}


def test_mean_over_lam_is_the_area_under_the_curve() -> None:
    summary = summarise(make_records("digits"), test_ratio=0.25)
    # The bump is a triangle of height 0.2 on a base of 1.
    assert find_row(summary, "ERM", "proba_gradient_mean", None)["value"] == pytest.approx(1.1)


def test_summarise_corrects_for_shared_rows_where_there_are_any() -> None:
    widths = []
    for dataset in ("digits", "cifar10"):
        row = find_row(summarise(make_records(dataset), test_ratio=0.25), "ERM", "error", None)
        widths.append(row["value_high"] - row["value_low"])
    assert widths[0] / widths[1] == pytest.approx(np.sqrt((1 / 4 + 0.25) / (1 / 4)), rel=1e-3)


def test_tabulate_shows_means_and_differences_of_each_set() -> None:
    tables = tabulate({"summary": summarise(make_records("digits", "cifar10"), test_ratio=0.25)})
    assert [len(rows) for rows in tables.values()] == [3, 2, 3, 2]
    assert list(tables)[1::2] == ["Digits, minus ERM", "CIFAR-10, minus ERM"]
    weak, strong = tables["CIFAR-10, minus ERM"]
    assert weak["misses at λ = ½, %"] == "+1.0 [+1.0, +1.0]"
    assert strong["test error, %"] == "+4.0 [+4.0, +4.0]"


def test_comparisons_are_of_every_mixup_halfway_between_examples() -> None:
    document = {"summary": summarise(make_records("digits", "cifar10"), test_ratio=0.25)}
    misses, gradients = compare_misses(document), compare_gradients(document)
    assert [item.label for item in misses[:2]] == ["Digits, mixup 0.2", "Digits, mixup 1"]
    # At λ = 1/2 of ERM 10 % + 1.5 % over the repeats + 20 %.
    assert [item.text for item in misses] == ["31.5 → 32.5 %", "31.5 → 27.5 %"] * 2
    assert [item.ours.mean for item in misses] == pytest.approx([1.0, -4.0] * 2)
    assert [item.label for item in gradients[2:4]] == [
        "Digits, mixup 1, logits",
        "Digits, mixup 1, probabilities",
    ]
    assert [item.ours.mean for item in gradients[2:4]] == pytest.approx([-0.4, -0.04])
    assert len(gradients) == 8


def test_fit_methods_measures_every_method_on_a_table() -> None:
    (table,) = load_data(["digits"], data_dir=None, download=False)
    records = fit_methods(SMOKE, SMOKE.make_split(table, 0), list(SMOKE.list_alphas()), 0)["records"]
    assert [record["method"] for record in records] == ["ERM", "mixup 0.2", "mixup 1"]
    for record in records:
        assert record["lam"] == list(LAM)
        assert all(0 <= value <= 1 for value in (record["error"], *record["miss"]))
        assert min(*record["logit_gradient"], *record["proba_gradient"]) > 0
    assert len({record["nll"] for record in records}) == 3


def test_fit_methods_measures_images() -> None:
    config = dataclasses.replace(SMOKE, widths=(4,), image_epochs=1, image_batch_size=256, n_pairs=10)
    (table,) = load_data(["digit_images"], data_dir=None, download=False)
    (record,) = fit_methods(config, config.make_split(table, 0), ["mixup 1"], 0)["records"]
    assert record["method"] == "mixup 1"
    assert len(record["miss"]) == len(record["logit_gradient"]) == 5


def test_measure_between_looks_at_the_net_behind_the_scaler() -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(40, 3)) * [1, 10, 100]
    y = np.tile([0, 1], 20)
    net = MixupClassifier(max_epochs=2, early_stopping=False, random_state=0)
    model = make_pipeline(StandardScaler(), net).fit(X, y)
    curves = measure_between(SMOKE, model, X, y, 3)
    direct = between_curves(
        model[-1], model[0].transform(X), y, n_pairs=SMOKE.n_pairs, n_points=SMOKE.n_points, random_state=3
    )
    np.testing.assert_allclose(curves["logit_gradient"], direct.gradient_norm, rtol=1e-4)
    np.testing.assert_allclose(curves["miss"], direct.miss_rate)


def test_tasks_take_tables_whole_and_images_method_by_method() -> None:
    tables = load_data(["iris", "digit_images"], data_dir=None, download=False)
    tasks = make_tasks(SMOKE, tables)
    assert [len(names) for _, _, names, _ in tasks.values()] == [3] * 2 + [1] * 6


def test_choose_names_takes_cifar_where_its_files_are(tmp_path: Path) -> None:
    assert choose_names((), None) == ("digits",)
    with pytest.raises(UserError, match="--data-dir must hold files of cifar10"):
        choose_names((), tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").touch()
    assert choose_names((), tmp_path) == choose_names((), folder) == ("digits", "cifar10")
    assert choose_names(("wine",), tmp_path) == ("wine",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ("cifar",)}, "Did you mean 'cifar10'"),
        ({"alphas": ()}, "--alphas must name at least one; got none"),
        ({"alphas": (0.0,)}, "--alphas must be at least 1e-06; got 0.0"),
        ({"n_points": 20}, "--n-points must be odd; got 20"),
        (
            {"seeds_images": 6, "image_rows": 9000, "download": True},
            "--image-rows must be at most 8333",
        ),
    ],
)
def test_config_explains_a_wrong_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_alphas_go_from_weak_to_strong_mixing() -> None:
    assert list(Config(alphas=(1.0, 0.2)).list_alphas()) == ["ERM", "mixup 0.2", "mixup 1"]


def test_protocol_says_what_is_differentiated() -> None:
    text = describe_protocol(Config())
    assert "Jacobian of the logits, or of the probabilities" in text
    assert "mixup alpha 0.2, 1" in text


@pytest.mark.slow
def test_mixup_misses_less_between_digits() -> None:
    config = dataclasses.replace(PRESETS["cpu"], table_epochs=20, n_pairs=500, n_points=5)
    (table,) = load_data(["digits"], data_dir=None, download=False)
    erm, *_, mixup = fit_methods(config, config.make_split(table, 0), list(config.list_alphas()), 0)[
        "records"
    ]
    assert np.mean(mixup["miss"]) < np.mean(erm["miss"]) / 2
