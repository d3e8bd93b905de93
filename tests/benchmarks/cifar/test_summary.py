from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.cifar.summary import compare_errors, compare_times, summarise, tabulate

ERM, FAIR, MIXED = (6.0, 5.5, 5.75), (5.2, 5.1, 5.3), (4.5, 4.4, 4.0)
TIMES = {"estimator, ERM": 101.0, "loop, ERM": 100.0, "estimator, mixup": 102.0, "loop, mixup": 96.0}


def make_records(
    datasets: tuple[str, ...] = ("cifar10", "cifar100"), mixed: Any = MIXED
) -> list[dict[str, Any]]:
    records = [
        {
            "part": "run",
            "dataset": dataset,
            "network": "preact_resnet18",
            "method": method,
            "weight_decay": weight_decay,
            "repeat": repeat,
            "epochs": 4,
            "n_parameters": 11_173_962,
            "error": error,
            "last_error": error,
            "best_error": error - 1,
            "best_epoch": 3 + repeat % 2,
            "train_error": 0.5 + repeat,
            "train_loss": 0.5,
            "seconds": 60.0,
            "images_per_second": 1000.0,
            "error_curve": [60.0, 30.0, error - 1, error],
        }
        for dataset in datasets
        for method, weight_decay, errors in (("ERM", 1e-4, ERM), ("ERM", 5e-4, FAIR), ("mixup", 1e-4, mixed))
        for repeat, error in enumerate(errors)
    ]
    for contender, value in TIMES.items():
        for turn in range(2):
            case = "PreAct ResNet-18 on cpu"
            records.append(
                {"part": "speed", "case": case, "contender": contender, "round": turn, "value": value}
            )
    return records


def make_document(records: list[dict[str, Any]]) -> dict[str, Any]:
    return {"summary": summarise(records), "config": {"last_epochs": 2}}


def test_summary_has_students_intervals_over_seeds() -> None:
    rows = summarise(make_records())
    assert len({tuple(row) for row in rows}) == 1
    row = rows[2]
    low, high = stats.t.interval(0.95, 2, np.mean(MIXED), stats.sem(MIXED))
    assert (row["error"], row["error_low"], row["error_high"]) == pytest.approx((4.3, low, high), abs=1e-5)
    for name, base in (("diff", ERM), ("fair_diff", FAIR)):
        gaps = np.subtract(MIXED, base)
        low, high = stats.t.interval(0.95, 2, gaps.mean(), stats.sem(gaps))
        found = row[name], row[f"{name}_low"], row[f"{name}_high"]
        assert found == pytest.approx((gaps.mean(), low, high), abs=1e-5)
    assert (rows[0]["diff"], rows[1]["fair_diff"]) == (0, 0)
    assert (row["curve"][-1], row["curve_low"][-1], row["curve_high"][-1]) == (4.3, 4.0, 4.5)
    assert (row["best_error"], row["best_epoch"], row["minutes"]) == (3.3, 3, 1)


def test_ratios_are_of_throughput_and_of_time() -> None:
    erm, mixup, overhead = (row for row in summarise(make_records()) if row["part"] == "speed")
    assert (erm["ratio"], erm["met"]) == (round(100 / 101, 4), "target")
    assert (mixup["ratio"], mixup["met"]) == (round(96 / 102, 4), "missed")
    assert (overhead["ratio"], overhead["met"]) == (round(102 / 101, 4), "target")


def test_tables_stand_beside_the_paper() -> None:
    main, best, ratios = tabulate(make_document(make_records())).values()
    ten, hundred = main
    assert (ten["paper: ERM → mixup"], hundred["paper: ERM → mixup"]) == ("5.6 → 4.2", "25.6 → 21.1")
    assert (ten["authors: ERM, 5e-4"], hundred["authors: ERM, 5e-4"]) == ("5.18", "")
    assert ten["mixup, 1e-4 - ERM, 1e-4"].startswith("-1.45 [")
    assert ten["mixup, 1e-4 - ERM, 5e-4"].startswith("-0.90 [")
    assert best[1]["method, weight decay"] == "ERM, 5e-4"
    assert best[0]["million parameters"] == "11.17"
    assert best[0]["training error, %"] == "1.50"
    assert [row["target"] for row in ratios] == ["≥ 0.97", "≥ 0.97", "≤ 1.02"]


def test_tables_do_without_a_second_weight_decay() -> None:
    records = [record for record in make_records() if record.get("weight_decay") != 5e-4]
    (row, _) = next(iter(tabulate(make_document(records)).values()))
    assert [title for title in row if " - " in title] == ["mixup, 1e-4 - ERM, 1e-4"]


@pytest.mark.parametrize(("mixed", "sign"), [((4.0, 4.3, 4.6), -1), ((9.0, 2.0, 6.0), 0)])
def test_errors_stand_beside_figure_3a(mixed: tuple[float, ...], sign: int) -> None:
    (found,) = compare_errors(make_document(make_records(("cifar10",), mixed=mixed)))
    assert found.paper == pytest.approx(4.2 - 5.6)
    assert found.ours.find_sign() == sign
    assert found.text.endswith(f" → {np.mean(mixed):.1f} %")


def test_times_are_clear_below_the_five_per_cent_that_are_allowed() -> None:
    document = make_document(make_records(("cifar10",)))
    for row in document["summary"]:
        if row["part"] == "speed":
            row |= {"ratio": 1.01, "low": 1.0, "high": 1.04}
    (found,) = compare_times(document)
    assert found.ours == pytest.approx((-4, -5, -1))
    assert found.text == "+1.0 % of an epoch (quartiles +0.0, +4.0)"
