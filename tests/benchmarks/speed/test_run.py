from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.harness.child_processes import run_in_process
from benchmarks.harness.command import UserError
from benchmarks.harness.interleaved_timing import interleave
from benchmarks.harness.results import pack_records
from benchmarks.peers.contenders import SmallConvNet, make_fits, make_images, make_table
from benchmarks.speed.figure import NAMES, QUESTIONS, draw
from benchmarks.speed.mixing import make_mixers
from benchmarks.speed.run import Config, describe_protocol, list_groups, measure_group
from benchmarks.speed.summary import LINES, compare_epochs, summarise, tabulate

TINY = Config(
    n_rounds=2,
    abalone_rows=60,
    wide_rows=60,
    batch_sizes=(16,),
    n_steps=4,
    image_rows=10,
    mixed_rows=300,
    predict_rows=(1, 20),
    growth_rows=(30, 40, 50),
    thread_batch_sizes=(16,),
)


def make_records(part: str, case: str, **values: list[float]) -> list[dict[str, Any]]:
    return [
        {"part": part, "case": case, "contender": name, "round": turn, "value": value, "unit": "step"}
        for name, times in values.items()
        for turn, value in enumerate(times)
    ]


def find_row(records: list[dict[str, Any]], part: str, peer: str | None = None) -> dict[str, Any]:
    rows = [row for row in summarise(records) if row["part"] == part and row["met"] != "not run"]
    (row,) = [row for row in rows if peer in (None, row["peer"])]
    return row


def test_interleave_takes_turns_and_leaves_the_warm_up_out() -> None:
    calls: list[str] = []
    seconds = interleave({name: lambda name=name: calls.append(name) for name in "abc"}, 3)
    assert "".join(calls) == "cab" + "abc" + "bca" + "cab"
    assert {name: len(times) for name, times in seconds.items()} == dict.fromkeys("abc", 3)


def test_ratio_is_the_median_of_the_rounds() -> None:
    records = make_records("fit", "abalone/16", mixup=[1, 2, 30], sklearn=[2, 4, 20])
    row = find_row(records, "fit")
    assert (row["ratio"], row["ours"], row["theirs"], row["rounds"]) == (0.5, 2, 4, 3)
    assert row["met"] == "stretch"


@pytest.mark.parametrize(
    ("ratio", "met"), [(0.65, "stretch"), (0.66, "target"), (0.854, "target"), (0.86, "missed")]
)
def test_target_is_judged_by_what_is_printed(ratio: float, met: str) -> None:
    records = make_records("fit", "abalone/16", mixup=[ratio] * 3, sklearn=[1] * 3)
    assert find_row(records, "fit")["met"] == met


@pytest.mark.parametrize(("ratio", "met"), [(0.95, "stretch"), (0.8, "target"), (0.79, "missed")])
def test_bandwidth_must_be_at_least_the_target(ratio: float, met: str) -> None:
    records = make_records("gpu", "mixing", mix=[ratio], copy=[1])
    assert find_row(records, "gpu")["met"] == met


def test_mixing_is_compared_with_the_fastest_peer() -> None:
    records = make_records("mixing", "1024x54", sk_mixup=[1, 1], formula=[3, 3], timm=[2, 2])
    assert (find_row(records, "mixing")["peer"], find_row(records, "mixing")["ratio"]) == ("timm", 0.5)


def test_mixing_without_a_peer_is_not_run() -> None:
    assert {row["met"] for row in summarise(make_records("mixing", "1024x54", sk_mixup=[1]))} == {"not run"}


def test_growth_is_compared_with_the_median_of_the_base() -> None:
    records = make_records("growth", "wide", base=[1, 2, 9], largest=[2, 4])
    assert find_row(records, "growth")["ratio"] == 1.5


def test_memory_is_a_share_of_the_data() -> None:
    assert find_row(make_records("memory", "wide", largest=[0.25]), "memory")["met"] == "target"


def test_nothing_measured_is_not_run_and_draws_no_target_as_met() -> None:
    rows = summarise([])
    assert [row["met"] for row in rows] == ["not run"] * len(LINES)
    (table, _) = tabulate({"summary": rows, "records": pack_records(make_records("a", "b", c=[1]))}).values()
    assert {row["measured"] for row in table} == {"not run"}


def test_fits_are_shown_by_batch_size() -> None:
    peers = {"sklearn": [2, 4], "skorch-shuffled": [2, 4], "loop": [2, 4]}
    records = [*make_records("fit", "wide/16", mixup=[1, 2], **peers), *make_records("a", "b", c=[1])]
    tables = tabulate({"summary": summarise(records), "records": pack_records(records)})
    rows = tables["Time of a mixup fit over that of a plain fit elsewhere, by batch size"]
    assert [row["table"] for row in rows] == ["wide"] * 3
    assert [row["16"] for row in rows] == ["0.50"] * 3


def test_overhead_of_mixup_is_clear_below_5_per_cent() -> None:
    records = make_records("epoch", "abalone/16", mixup=[110, 98, 120], erm=[100, 100, 100])
    records += make_records("epoch", "images/128", mixup=[101, 102, 103], erm=[100, 100, 100])
    table, images = compare_epochs({"summary": summarise(records)})
    assert table.text == "+10.0 % [+4.0, +15.0], a table in batches of 16"
    assert (table.ours, table.ours.find_sign()) == (pytest.approx((5, -1, 10)), 0)
    assert (images.ours, images.ours.find_sign()) == (pytest.approx((-3, -3.5, -2.5)), -1)
    assert not compare_epochs({"summary": summarise([])})


def test_every_line_answers_a_question() -> None:
    answered = [label for column in QUESTIONS for labels in column.values() for label in labels]
    assert sorted(set(answered)) == sorted(answered) == sorted({line.label for line in LINES})
    assert {(line.part, line.case) for line in LINES} <= set(NAMES)


def test_questions_without_a_ratio_are_not_drawn() -> None:
    records = make_records("fit", "wide/16", mixup=[1], sklearn=[1], loop=[2])
    titles = [
        ax.get_title(loc="right").partition(" ÷ ")[2] for ax in draw({"summary": summarise(records)}).axes
    ]
    assert titles == ["scikit-learn's MLPClassifier", "a PyTorch loop by hand"]


def test_every_line_with_a_target_is_measured() -> None:
    groups = {*list_groups(Config()), *list_groups(Config(device="cuda"))}
    lines = {(line.part, line.case) for line in LINES}
    threads = {("threads", f"abalone/{size}") for size in Config().thread_batch_sizes}  # in one process
    assert lines - groups == {("memory", "wide"), *threads}  # the former measured with the growth


def test_a_process_of_its_own_is_told_no_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tell.py").write_text("import json, os, sys; print(json.dumps([*os.environ, *sys.argv[1:]]))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    told = run_in_process("tell", "first", 7)
    assert {"first", "7", "PYTHONPATH"} <= set(told)
    assert {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}.isdisjoint(told)


# The smoke run in test_cli.py measures the others.
@pytest.mark.parametrize("group", [("fit", "abalone/16"), ("prediction", "wide/1")], ids="-".join)
def test_contenders_of_a_line_are_timed(group: tuple[str, str]) -> None:
    records = measure_group(TINY, *group)["records"]
    names = {record["contender"] for record in records}
    for line in LINES:
        if (line.part, line.case) == group:
            assert {line.ours, line.theirs} <= names
    assert all(record["value"] > 0 for record in records)
    assert {record["round"] for record in records} == {0, 1}


def test_contenders_take_as_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_table(50, 4, 3)
    steps: dict[str, int] = {}
    original = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam,
        "step",
        lambda self, *args: (steps.update({name: steps[name] + 1}), original(self, *args))[1],
    )
    fits = make_fits(X, y, batch_size=16, epochs=2)
    for name in ("skorch", "skorch-shuffled", "loop"):
        steps[name] = 0
        fits[name]()
    assert steps == {"skorch": 8, "skorch-shuffled": 8, "loop": 8}
    net = fits["mixup"]()
    assert len(net.history[:, "batches"][0]) == 4
    assert (len(net.history), net.alpha, fits["erm"]().alpha) == (2, 0.2, 0)


@pytest.mark.parametrize("shape", [(6, 3, 8, 8), (10, 4)])
def test_mixers_mix_inputs_and_labels(shape: tuple[int, ...]) -> None:
    mixers = make_mixers(2 * shape[0], shape, n_classes=3)
    assert {"sk_mixup", "formula"} <= set(mixers)
    for name, start in mixers.items():
        x, y = torch.rand(shape), torch.arange(shape[0]) % 3
        before = x.clone()
        mixed, target, *rest = start()(x, y)
        assert mixed.shape == before.shape, name
        assert before.amin() <= mixed.amin()
        assert mixed.amax() <= before.amax() + 1e-6
        if not rest:
            torch.testing.assert_close(target.sum(dim=1), torch.ones(shape[0]))
        torch.testing.assert_close(mixed.mean(), before.mean())


@pytest.mark.skipif(not find_spec("timm"), reason="timm is not installed")
@pytest.mark.skipif(not find_spec("torchvision"), reason="torchvision is not installed")
def test_peers_that_are_installed_take_part() -> None:
    assert set(make_mixers(4, (2, 3, 8, 8), 3)) == {"sk_mixup", "formula", "timm", "torchvision"}
    assert set(make_mixers(4, (2, 8), 3)) == {"sk_mixup", "formula", "timm"}


def test_conv_net_takes_the_images() -> None:
    X, y = make_images(12)
    assert SmallConvNet()(torch.as_tensor(X)).shape == (12, 10)
    assert np.all((y >= 0) & (y < 10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"growth_rows": (10,)}, "--growth-rows must be two numbers or more"),
        ({"batch_sizes": (1,)}, "--batch-sizes must be at least 2; got 1"),
        ({"n_jobs": 4}, "--n-jobs must be 1: times are taken one by one; got 4"),
        ({"n_rounds": 1}, "--n-rounds must be at least 2; got 1"),
    ],
)
def test_config_refuses_what_cannot_be_timed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_protocol_names_the_sizes() -> None:
    assert "60 rows of 8 features" in describe_protocol(TINY)
