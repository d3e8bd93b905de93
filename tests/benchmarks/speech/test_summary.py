from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.speech.networks import SPEECH_NETWORKS
from benchmarks.speech.summary import (
    PUBLISHED,
    compare_errors,
    draw_errors,
    name_method,
    summarise,
    tabulate,
)

ERRORS = {0.0: (20.0, 21.0, 20.5), 0.1: (16.0, 17.5, 16.0), 0.2: (20.5, 19.0, 22.0)}
TIMES = {"estimator, ERM": 101.0, "loop, ERM": 100.0, "estimator, mixup": 102.0, "loop, mixup": 96.0}


def make_records(*, valid: bool = True) -> list[dict[str, Any]]:
    records = [
        {
            "part": "run",
            "network": network,
            "alpha": alpha,
            "repeat": repeat,
            "epochs": 4,
            "n_parameters": 16_321_570,
            "valid_error": error + 1 if valid else None,
            "test_error": error,
            "train_loss": 0.5,
            "seconds": 60.0,
            "clips_per_second": 1000.0,
            "test_curve": [60.0, 30.0, error + 1, error],
        }
        for network in SPEECH_NETWORKS
        for alpha, errors in ERRORS.items()
        for repeat, error in enumerate(errors)
    ]
    shared = {"part": "speed"}
    records += [
        dict(**shared, case="LeNet on cpu", contender=contender, round=turn, value=value)
        for contender, value in TIMES.items()
        for turn in range(2)
    ]
    extraction = {"case": "spectrograms on cpu, one core", "contender": "extraction"}
    return [*records, *(dict(**shared, **extraction, round=turn, value=900.0) for turn in range(2))]


def test_summary_has_students_intervals_over_seeds() -> None:
    rows = summarise(make_records())
    assert len({tuple(row) for row in rows}) == 1
    row = rows[1]
    assert (row["network"], row["alpha"], row["n_seeds"]) == ("lenet", 0.1, 3)
    gaps = np.subtract(ERRORS[0.1], ERRORS[0.0])
    for name, values in (
        ("test_error", ERRORS[0.1]),
        ("valid_error", np.add(ERRORS[0.1], 1)),
        ("diff", gaps),
    ):
        low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        found = row[name], row[f"{name}_low"], row[f"{name}_high"]
        assert found == pytest.approx((np.mean(values), low, high), abs=1e-5)
    assert row["curve"] == pytest.approx([60, 30, 17.5, 16.5])
    assert (row["curve_low"][-1], row["curve_high"][-1], row["minutes"]) == (16.0, 17.5, 1.0)
    assert rows[0]["diff"] == 0


def test_ratios_of_times_have_their_targets() -> None:
    ratios = {(row["label"], row["case"]): row for row in summarise(make_records()) if row["part"] == "speed"}
    expected = {
        "training throughput ÷ loop by hand, ERM": (100 / 101, "target"),
        "training throughput ÷ loop by hand, mixup": (96 / 102, "missed"),
        "mixup ÷ ERM, time of an epoch": (102 / 101, "target"),
    }
    for label, (ratio, met) in expected.items():
        row = ratios[label, "LeNet on cpu"]
        assert (row["ratio"], row["met"]) == (pytest.approx(ratio, abs=1e-4), met)
    row = ratios["seconds of sound a second", "spectrograms on cpu, one core"]
    assert (row["ratio"], row["target"], row["met"]) == (900.0, 300, "target")


@pytest.mark.parametrize("valid", [True, False])
def test_tables_put_the_papers_figures_beside(valid: bool) -> None:
    document = {"summary": summarise(make_records(valid=valid))}
    errors, sizes, times = tabulate(document).values()
    assert ("validation" in errors[0]) == valid
    assert [row["paper: validation / test"] for row in errors[:3]] == [
        "9.8 / 10.3",
        "10.1 / 10.8",
        "10.2 / 11.3",
    ]
    assert [row["paper: validation / test"] for row in errors[3:]] == ["5.0 / 4.6", "4.0 / 3.8", "3.9 / 3.4"]
    assert errors[0]["test, less ERM"] == ""
    assert errors[1]["test, less ERM"].startswith("-4.00 [")
    assert sizes[0]["million parameters"] == "16.32"
    assert [row["µs a clip"] for row in times] == ["100.0 / 101.0", "96.0 / 102.0", "102.0 / 101.0", ""]


def test_published_figures_are_of_the_papers_methods() -> None:
    assert set(PUBLISHED) == {(network, alpha) for network in SPEECH_NETWORKS for alpha in (0.0, 0.1, 0.2)}
    assert [name_method(alpha) for alpha in (0.0, 0.1)] == ["ERM", "mixup, alpha = 0.1"]


@pytest.mark.parametrize(("network", "papers"), [("lenet", (0.5, 1.0)), ("vgg11", (-0.8, -1.2))])
def test_errors_are_compared_with_those_of_figure_4(network: str, papers: tuple[float, float]) -> None:
    first, second = compare_errors({"summary": summarise(make_records())}, network)
    assert (first.paper, second.paper) == pytest.approx(papers)
    assert first.label == f"{SPEECH_NETWORKS[network].title}, alpha = 0.1"
    assert first.text == "20.5 → 16.5 % (alpha = 0.1)"
    assert (first.ours.mean, first.ours.find_sign()) == (pytest.approx(-4), -1)
    assert second.ours.find_sign() == 0


def test_figure_4_stands_beside_the_whole_archive_only() -> None:
    document = {"summary": summarise(make_records()), "config": {"width": 64, "warmup_epochs": 2}}
    labels = []
    for n_words in (12, 30):
        figure = draw_errors(document | {"data": [{"n_train": 1200, "n_classes": n_words}]})
        labels.append({label for ax in figure.axes for label in ax.get_legend_handles_labels()[1]})
    assert labels[1] - labels[0] == {"Figure 4"}
