import json
from typing import Any

import numpy as np
import pytest

from benchmarks.imagenet.summary import PUBLISHED, compare_errors, draw, is_imagenet, summarise, tabulate

REAL = {"n_train": 1_281_167, "n_val": 50_000, "n_classes": 1000, "image_size": 224}


def make_run(
    network: str, epochs: int, method: str, repeat: int, last: float, **sizes: int
) -> dict[str, Any]:
    """Return a record whose top-1 error falls to `last`, and whose top-5 error is a quarter of it."""
    curve = last + 60 * np.exp(-np.arange(epochs) / 4)
    curve[-1] = last
    known = {"part": "run", "network": network, "epochs": epochs, "method": method, "repeat": repeat}
    known |= {"alpha": 0.2 if method == "mixup" else 0.0, "n_parameters": 25_557_032, "n_processes": 8}
    known |= {"top1": last, "top5": last / 4, "best_top1": last, "best_epoch": epochs, "train_loss": 1.5}
    known |= {"seconds": 36_000.0, "images_per_second": 3000.0, "top1_curve": curve.tolist()}
    known |= {"top5_curve": (curve / 4).tolist(), "loss_curve": curve.tolist()}
    return known | (sizes or REAL)


def make_runs(n_seeds: int = 1, **sizes: int) -> list[dict[str, Any]]:
    return [
        make_run(
            network, epochs, method, repeat, round(published[method][0] + 0.1 * repeat * rise, 3), **sizes
        )
        for (network, epochs), published in PUBLISHED.items()
        for repeat in range(n_seeds)
        for method, rise in (("ERM", 1.0), ("mixup", 1.1))
    ]


def make_times() -> list[dict[str, Any]]:
    values = {
        ("loader", "0 loading processes"): {"feed": 100.0, "bare loop": 95.0},
        ("loader", "2 loading processes"): {"feed": 100.0, "bare loop": 85.0},
        ("speed", "ResNet-50 on cuda, 224 pixels"): {
            **{"estimator, ERM": 10.0, "loop, ERM": 9.9},
            **{"estimator, mixup": 10.1, "loop, mixup": 10.1},
        },
    }
    return [
        {"part": part, "case": case, "contender": name, "round": turn, "value": value}
        for (part, case), contenders in values.items()
        for name, value in contenders.items()
        for turn in range(3)
    ]


def test_table_has_the_papers_figures_beside_ours() -> None:
    document = {"summary": summarise([*make_runs(), *make_times()])}
    errors, runs, ratios = tabulate(document).values()
    assert len(errors) == len(PUBLISHED) == 7
    by_name = {(row["network"], row["epochs"]): row for row in errors}
    row = by_name["ResNet-50", "90"]
    assert (row["paper: ERM"], row["paper: mixup"]) == ("23.5 / -", "23.3 / 6.6")
    assert (row["ERM"], row["mixup"], row["mixup - ERM, top-1"]) == ("23.50 / 5.88", "23.30 / 5.83", "-0.20")
    assert by_name["ResNeXt-101 64x4d", "90"]["paper: ERM"] == "20.4 / 5.3"
    assert by_name["ResNeXt-101 32x4d", "200"]["paper: mixup"] == "20.1 / 5.0"
    assert [row["hours a run"] for row in runs] == ["10"] * 14
    assert [row["met"] for row in ratios] == ["target", "missed", "target", "target", "target"]
    assert [row["measured"] for row in ratios] == ["0.95", "0.85", "0.99", "1.00", "1.01"]


def test_figures_of_the_paper_are_those_of_table_1() -> None:
    for (_, epochs), figures in PUBLISHED.items():
        assert figures["mixup"][0] < figures["ERM"][0]
        assert (figures["ERM"][1] is None) <= (epochs == 90)
        assert 0.2 < figures["mixup"][1] / figures["mixup"][0] < 0.3


def test_one_seed_has_no_interval_and_json_can_hold_it() -> None:
    summary = summarise(make_runs())
    assert summary[1]["top1_diff"] == pytest.approx(-0.2)
    assert summary[1]["top1_diff_low"] is None
    json.dumps(summary, allow_nan=False)
    assert {item.ours.find_sign() for item in compare_errors({"summary": summary})} == {0}


def test_differences_are_paired_by_seed() -> None:
    summary = summarise(make_runs(3))
    first = next(row for row in summary if row["method"] == "mixup")
    assert first["n_seeds"] == 3
    assert first["top1"] == pytest.approx(23.3 + 0.11)
    # In each seed: -0.2, and 0.01 more from one to the next, so the interval is narrow.
    assert (first["top1_diff"], first["top1_diff_high"] < 0) == (pytest.approx(-0.19), True)
    compared = compare_errors({"summary": summary})
    assert {item.ours.find_sign() for item in compared} == {-1}
    assert compared[0].label == "ResNet-50, 90 epochs"
    assert compared[0].text == "ResNet-50, 90 epochs: 23.6 → 23.4 %"
    published = [-0.2, -0.6, -0.5, -0.6, -1.5, -1.2, -1.2]
    assert [item.paper for item in compared] == pytest.approx(published)
    json.dumps(summary, allow_nan=False)


def test_no_error_of_other_images_is_shown() -> None:
    sizes = {"n_train": 64, "n_val": 64, "n_classes": 64, "image_size": 64}
    document = {"summary": summarise([*make_runs(2, **sizes), *make_times()])}
    assert not any(is_imagenet(row) for row in document["summary"] if row["part"] == "run")
    assert not compare_errors(document)
    tables = tabulate(document)
    assert list(tables) == ["Ratios of times", "How the runs went"]
    assert not [title for rows in tables.values() for row in rows for title in row if "error" in title]
    assert [ax.get_ylabel() for ax in draw(document).axes] == [""] * 3


@pytest.mark.parametrize("n_problems", [1, pytest.param(7, marks=pytest.mark.slow)])
def test_errors_of_imagenet_are_drawn_and_without_times_none_are_told(n_problems: int) -> None:
    document = {"summary": summarise(make_runs()[: 2 * n_problems])}
    assert len(tabulate(document)) == 2
    axes = draw(document).axes
    assert [ax.get_ylabel() for ax in axes if ax.get_visible()] == ["validation error, %"] * n_problems
