from itertools import pairwise
from typing import Any

import joblib
import numpy as np
import pytest
import torch

from benchmarks.harness.command import UserError
from benchmarks.harness.fitting import count_batches
from benchmarks.harness.results import pack_records
from benchmarks.peers.contenders import make_table
from benchmarks.search import memory as search_memory
from benchmarks.search.fits import Work, make_alphas, make_searches, time_works
from benchmarks.search.floor import compute_loss, make_batches, make_weights, time_floor, train_floor
from benchmarks.search.growth import fit_lone, fit_nets, time_gpu
from benchmarks.search.run import PRESETS, Config, describe_protocol, list_groups, measure_group
from benchmarks.search.summary import LINES, draw, summarise, tabulate

TINY = PRESETS["smoke"]
CONTENDERS = ("stacked", "lone", "skorch", "sklearn")


def make_records(part: str, case: str, **values: list[float]) -> list[dict[str, Any]]:
    return [
        {"part": part, "case": case, "contender": name, "round": turn, "value": value, "unit": "step"}
        for name, times in values.items()
        for turn, value in enumerate(times)
    ]


def make_growth(**values: list[float]) -> list[dict[str, Any]]:
    return make_records(
        "growth", "abalone", **{name.removeprefix("n"): times for name, times in values.items()}
    )


def find_row(records: list[dict[str, Any]], part: str, peer: str) -> dict[str, Any]:
    rows = [row for row in summarise(records) if row["part"] == part and row["met"] != "not run"]
    (row,) = [row for row in rows if row["peer"] == peer]
    return row


def test_ratio_is_the_median_of_the_rounds() -> None:
    records = make_records("search", "abalone", stacked=[1, 2, 30], lone=[4, 5, 50])
    row = find_row(records, "search", "lone")
    assert (row["ratio"], row["ours"], row["theirs"], row["rounds"]) == (0.4, 2, 5, 3)
    assert row["met"] == "target"


@pytest.mark.parametrize(
    ("part", "ours", "peer", "target", "stretch"),
    [
        ("search", "stacked", "lone", 1 / 2, 1 / 3),
        ("search", "stacked", "skorch", 1 / 8, 1 / 12),
        ("search", "stacked", "sklearn", 1 / 3.5, 1 / 5),
        ("floor", "stack", "floor", 1.25, 1.1),
        ("gpu", "stacked", "lone", 1 / 50, 1 / 100),
    ],
)
def test_target_is_judged_by_what_is_printed(
    part: str, ours: str, peer: str, target: float, stretch: float
) -> None:
    for ratio, met in (
        (stretch, "stretch"),
        (stretch + 0.001, "target"),
        (target, "target"),
        (target + 0.001, "missed"),
    ):
        records = make_records(part, "abalone", **{ours: [ratio], peer: [1.0]})
        assert find_row(records, part, peer)["met"] == met


@pytest.mark.parametrize(("ratio", "met"), [(1.1, "target"), (1.101, "missed")])
def test_single_net_has_a_target_and_no_stretch(ratio: float, met: str) -> None:
    records = make_records("single", "abalone", stacked=[ratio], lone=[1])
    assert find_row(records, "single", "lone")["met"] == met


@pytest.mark.parametrize(("share", "met"), [(0.7, "target"), (1.0, "target"), (1.01, "missed")])
def test_memory_is_a_share_of_the_budget(share: float, met: str) -> None:
    row = find_row(make_records("memory", "wide", budget=[share], default=[3.0]), "memory", "budget")
    assert (row["ratio"], row["met"]) == (share, met)


def test_nothing_measured_is_not_run() -> None:
    rows = summarise([])
    assert [row["met"] for row in rows] == ["not run"] * len(LINES)
    tables = tabulate({"summary": rows, "records": pack_records(make_growth(lone=[2]))})
    assert {row["measured"] for row in tables["Ratios and targets"]} == {"not run"}


def test_growth_is_shown_beside_the_lone_fit() -> None:
    records = make_growth(n1=[4, 4], n10=[1, 3], lone=[4, 2])
    table = tabulate({"summary": summarise(records), "records": pack_records(records)})
    rows = table["Time per net by number of nets"]
    assert [row["nets"] for row in rows] == ["1", "10", "lone"]
    assert [row["÷ lone"] for row in rows] == ["1.500", "0.875", "1.000"]


def test_ratios_of_a_device_are_drawn_beside_the_growth() -> None:
    records = make_growth(n1=[4, 4], n10=[1, 3], lone=[4, 2])
    records += make_records("gpu", "abalone", stacked=[1], lone=[60])
    axes = draw({"summary": summarise(records), "records": pack_records(records)}).axes
    titles = [ax.get_title() or ax.get_title(loc="right") for ax in axes]
    assert titles == ["What does training as one cost?", "How long does one of many nets take?"]
    assert list(axes[1].get_lines()[1].get_ydata()) == [4, 2]


def test_every_line_with_a_target_is_measured() -> None:
    groups = {*list_groups(Config()), *list_groups(Config(device="cuda"))}
    assert {(line.part, line.case) for line in LINES} <= groups


# The smoke run in test_cli.py measures the others.
@pytest.mark.parametrize("group", [("single", "abalone"), ("growth", "abalone")], ids="/".join)
def test_contenders_of_a_line_are_timed(group: tuple[str, str]) -> None:
    records = measure_group(TINY, *group)["records"]
    names = {record["contender"] for record in records}
    for line in LINES:
        if (line.part, line.case) == group:
            assert {line.ours, line.theirs} <= names
    assert {record["part"] for record in records} == {group[0]}
    assert all(record["value"] > 0 for record in records)


def test_gpu_part_fits_on_the_device_that_it_is_given() -> None:
    X, y = make_table(30, 4, 3)
    times = time_gpu(1, X, y, n_nets=2, batch_size=16, max_epochs=1, device="cpu")
    assert set(times) == {"stacked", "lone"}
    assert all(len(values) == 1 and values[0] > 0 for values in times.values())


def test_growth_on_a_gpu_takes_the_place_of_the_searches() -> None:
    assert list_groups(PRESETS["gpu"]) == [("gpu", "abalone"), ("growth", "abalone")]


def test_time_is_per_step() -> None:
    works = {"few": Work(lambda: None, 1), "many": Work(lambda: None, 10**9)}
    times = time_works(works, 2)
    assert [len(values) for values in times.values()] == [2, 2]
    assert max(times["many"]) < min(times["few"])


def test_alphas_are_as_many_as_asked_for_and_all_mix() -> None:
    alphas = make_alphas(8)
    assert len(set(alphas)) == 8
    assert (min(alphas), max(alphas)) == pytest.approx((0.05, 1))
    ratios = [high / low for low, high in pairwise(alphas)]
    np.testing.assert_allclose(ratios, ratios[0])


@pytest.mark.slow
def test_searches_train_as_many_nets_for_as_many_steps() -> None:
    X, y = make_table(100, 4, 3)
    searches = make_searches(X, y, n_candidates=3, n_folds=2, batch_size=16, epochs=2)
    assert tuple(searches) == CONTENDERS
    for name, start in searches.items():
        search = start()
        assert len(search.cv_results_["params"]) * search.n_splits_ == 6, name
        assert len({tuple(params.values()) for params in search.cv_results_["params"]}) == 3
        assert np.all(np.isfinite(search.cv_results_["mean_test_score"]))
        assert _count_steps(search.best_estimator_[-1], len(X)) == 2 * count_batches(len(X), 16), name


def _count_steps(net: Any, n_samples: int) -> int:
    if hasattr(net, "history"):
        return sum(len(epoch["batches"]) for epoch in net.history)
    assert net.t_ == net.n_iter_ * n_samples  # rows that were visited
    return net.n_iter_ * count_batches(n_samples, net.batch_size)


@pytest.mark.slow
def test_only_the_stacked_search_stays_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_table(60, 4, 3)
    backends: list[str] = []
    original = joblib.Parallel.__call__

    def call(self: Any, iterable: Any) -> Any:
        backends.append(type(self._backend).__name__)
        return original(self, iterable)

    monkeypatch.setattr(joblib.Parallel, "__call__", call)
    for start in make_searches(X, y, n_candidates=2, n_folds=2, batch_size=16, epochs=1).values():
        start()
    assert [name for name in backends if "Sequential" not in name] == ["StackedBackend", *["LokyBackend"] * 3]


def test_floor_learns() -> None:
    X, y = make_table(64, 8, 4)
    x, target = make_batches(X, y, n_nets=3, batch_size=16)
    assert (x.shape, target.shape) == ((4, 3, 16, 8), (4, 3, 16, 4))
    torch.testing.assert_close(target.sum(dim=-1), torch.ones(4, 3, 16))
    weights = make_weights(3, 8, 4)
    before = compute_loss(weights, x[0], target[0]).item()
    train_floor(weights, x, target, 200)
    after = compute_loss(weights, x[0], target[0]).item()
    assert before == pytest.approx(3 * np.log(4), rel=0.2)
    assert after < 0.5 * before


@pytest.mark.usefixtures("float64")
def test_floor_trains_each_net_as_torch_would() -> None:
    X, y = make_table(32, 5, 3)
    x, target = (part.double() for part in make_batches(X, y, n_nets=2, batch_size=16))
    weights = make_weights(2, 5, 3)
    layers = [torch.nn.Linear(*weight.shape[1:]) for weight in weights[::2]]
    for layer, weight, bias in zip(layers, weights[::2], weights[1::2], strict=True):
        layer.load_state_dict({"weight": weight[1].detach().T, "bias": bias[1, 0].detach()})
    net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for step in range(4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[step % 2, 1]), target[step % 2, 1]).backward()
        optimizer.step()
    train_floor(weights, x, target, 4)
    for layer, weight in zip(layers, weights[::2], strict=True):
        torch.testing.assert_close(weight[1].T, layer.weight, atol=1e-9, rtol=0)


@pytest.mark.slow
def test_floor_part_times_every_contender() -> None:
    X, y = make_table(40, 8, 3)
    times = time_floor(2, X, y, n_nets=12, batch_size=16, epochs=(1, 2))
    assert {name: len(values) for name, values in times.items()} == dict.fromkeys(
        ("stack", "floor", "floor-tens", "lone"), 2
    )
    assert min(times["floor"] + times["floor-tens"]) > 0


def test_stacked_and_lone_fits_train_the_same_nets() -> None:
    X, y = make_table(40, 4, 3)
    options = {"batch_size": 16, "max_epochs": 2}
    for ours, theirs in zip(fit_nets(2, X, y, **options), fit_lone(2, X, y, **options), strict=True):
        assert len(ours.history[:, "batches"][0]) == 3
        np.testing.assert_allclose(ours.history[:, "train_loss"], theirs.history[:, "train_loss"], rtol=1e-4)


@pytest.mark.slow
def test_memory_of_a_search_is_measured_in_this_process() -> None:
    record = search_memory.measure_in_process(200, 2, 2, 64, budget=2**30)
    assert record["peak"] >= 0
    assert record["seconds"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"abalone_rows": 100}, "--abalone-rows must be at least 280; got 100"),
        ({"growth_nets": (0, 2)}, "--growth-nets must be at least 1; got 0"),
        ({"floor_epochs": (3, 2)}, r"--floor-epochs must be a smaller and a larger number; got \(3, 2\)"),
        ({"n_jobs": 4}, "--n-jobs must be 1: times are taken one by one; got 4"),
        ({"memory_mib": 0}, "--memory-mib must be at least 1; got 0"),
    ],
)
def test_config_refuses_what_cannot_be_timed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_protocol_names_the_sizes() -> None:
    text = describe_protocol(Config())
    assert "8 candidates and 5 folds, 40 nets" in text
    assert "3341 rows of abalone" in text
    assert "a share of 1024 MiB" in text
    assert "200 nets of 10 epochs" in describe_protocol(Config(device="cuda"))
