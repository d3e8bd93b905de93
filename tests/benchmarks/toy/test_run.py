import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.command import UserError
from benchmarks.toy.run import (
    PRESETS,
    TOYS,
    Config,
    Toy,
    describe_protocol,
    fit_nets,
    fit_pair,
    flip_labels,
    make_pictures,
    make_points,
    make_tasks,
    measure_plane,
    take_points,
)
from benchmarks.toy.summary import TITLES, compare_slopes, summarise, tabulate

SMOKE = PRESETS["smoke"]
SQUARE = Toy(TOYS["moons"].make, 0.1, ((-2.0, -1.0), (2.0, 1.0)))


class Sigmoid:
    """A classifier whose probability depends on the first feature alone."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the logistic function of the feature times four slopes; its slope at 0 is `slope`."""
        second = 1 / (1 + np.exp(-4 * self.slope * X[:, 0]))
        return np.column_stack([1 - second, second])


def make_records(shift: float = 0.1) -> list[dict[str, Any]]:
    """Return records in which mixup differs from ERM by a shift, and by its opposite in NLL."""
    return [
        {
            "dataset": dataset,
            "wrong_share": share,
            "method": method,
            "repeat": repeat,
            "error": 0.2 + 0.01 * repeat + gap,
            "nll": 0.5 + 0.1 * repeat - gap,
            "band": 0.1 + 2 * gap,
            "slope": 10 - 50 * gap,
        }
        for dataset in ("circles", "moons")
        for share in (0.0, 0.2)
        for method, gap in (("ERM", 0.0), ("mixup", shift))
        for repeat in range(3)
    ]


@pytest.mark.parametrize("slope", [0.7, 3.0, 10.0])
def test_measure_plane_knows_a_logistic_function(slope: float) -> None:
    softness = measure_plane(Sigmoid(slope), SQUARE, 401)
    # p lies in [0.05, 0.95] where |4 slope x| <= log(19), of a square from -2 to 2.
    half = np.log(19) / (4 * slope)
    assert softness["band"] == pytest.approx(min(half / 2, 1), abs=0.01)
    assert softness["slope"] == pytest.approx(slope, rel=0.01)


def test_measure_plane_gives_no_slope_without_a_boundary() -> None:
    softness = measure_plane(Sigmoid(0.0), SQUARE, 11)
    assert softness == {"band": 1.0, "slope": 0.0}


def test_measure_plane_finds_a_boundary_along_either_axis() -> None:
    class Turned(Sigmoid):
        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return super().predict_proba(X[:, ::-1])

    assert measure_plane(Turned(2.0), SQUARE, 201)["slope"] == pytest.approx(2.0, rel=0.01)


def test_flip_labels_makes_a_share_wrong_and_leaves_its_input() -> None:
    y = np.repeat([0, 1], 50)
    wrong = flip_labels(y, 0.2, seed=1)
    assert (wrong != y).sum() == 20
    assert set(wrong) == {0, 1}
    assert y.tolist() == [0] * 50 + [1] * 50
    np.testing.assert_array_equal(flip_labels(y, 0, seed=1), y)


def test_no_two_repeats_share_a_point() -> None:
    config = dataclasses.replace(SMOKE, seeds_each=2)
    (table,) = make_points(config, ["moons"], data_dir=None, download=False)
    parts = [part for repeat in range(5) for part in take_points(config, table, repeat)]
    assert [len(part.X) for part in parts] == [SMOKE.n_train, SMOKE.n_test] * 5
    assert len(np.unique(np.concatenate([part.X for part in parts]), axis=0)) == 5 * (len(table.X) // 2)


def test_points_of_a_repeat_do_not_depend_on_the_number_of_seeds() -> None:
    few, many = (dataclasses.replace(SMOKE, n_seeds=n_seeds) for n_seeds in (2, 30))
    tables = [make_points(config, ["moons"])[0] for config in (few, many)]
    assert tables[0].describe() == tables[1].describe()
    for one, other in zip(take_points(few, tables[0], 1), take_points(many, tables[1], 1), strict=True):
        np.testing.assert_array_equal(one.X, other.X)


def test_points_of_a_problem_do_not_depend_on_the_other_problems() -> None:
    alone = make_points(SMOKE, ["moons"])[0]
    together = make_points(SMOKE, ["circles", "moons"])[1]
    assert alone.describe() == together.describe()


def test_tasks_hold_each_problem_share_and_repeat() -> None:
    tasks = make_tasks(PRESETS["cpu"], make_points(PRESETS["cpu"], list(TOYS)))
    assert len(tasks) == 2 * 2 * 20


def test_nearly_all_points_lie_where_the_plane_is_measured() -> None:
    for table in make_points(PRESETS["cpu"], list(TOYS)):
        low, high = TOYS[table.name].corners
        inside = np.all((table.X - low >= 0) & (table.X - high <= 0), axis=1)
        assert inside.mean() > 0.99


def test_fit_pair_scores_both_methods_on_true_labels() -> None:
    config = dataclasses.replace(SMOKE, max_epochs=30, n_train=120, lr=2e-2)
    (table,) = make_points(config, ["moons"])
    train, test = take_points(config, table, 0)
    erm, mixup = fit_pair(config, train, test, 0.2, 0)["records"]
    assert (erm["method"], mixup["method"]) == ("ERM", "mixup")
    assert erm["error"] < 0.25
    assert mixup["slope"] < erm["slope"]


def test_net_with_another_share_of_wrong_labels_is_another() -> None:
    train, _ = take_points(SMOKE, make_points(SMOKE, ["circles"])[0], 0)
    first, again, other = (
        fit_nets(SMOKE, train, share, 0)["mixup"].predict_proba(train.X) for share in (0.0, 0.0, 0.4)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ("moon",)}, "--datasets must be one of circles, moons; got 'moon'.*'moons'"),
        ({"wrong_shares": (0.5,)}, "--wrong-shares must be between 0 and 0.49; got 0.5"),
        ({"alpha": float("nan")}, "--alpha must be at least 1e-06; got nan"),
        ({"grid_size": 1}, "--grid-size must be at least 5; got 1"),
    ],
)
def test_config_explains_a_wrong_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_summarise_pairs_mixup_with_erm() -> None:
    rows = {row["method"]: row for row in summarise(make_records()) if row["dataset"] == "moons"}
    assert rows["ERM"]["error"] == pytest.approx(21.0)
    assert rows["ERM"]["error_diff"] == rows["ERM"]["error_diff_high"] == 0
    assert rows["mixup"]["error_diff_low"] == pytest.approx(10.0)
    assert rows["mixup"]["nll_diff"] == pytest.approx(-0.1)
    assert rows["mixup"]["band"] == pytest.approx(30.0)
    assert rows["mixup"]["slope"] == pytest.approx(5.0)


def test_tabulate_gives_a_table_for_each_metric() -> None:
    tables = tabulate({"summary": summarise(make_records())})
    assert [len(rows) for rows in tables.values()] == [4] * 4
    first = tables["Test error, %"][1]
    assert (first["problem"], first["wrong labels"], first["n"]) == ("Circles", "20%", "3")
    assert first["mixup minus ERM"] == "+10.0 [+10.0, +10.0]"


def test_slopes_are_compared_for_each_problem_and_share() -> None:
    found = compare_slopes({"summary": summarise(make_records())})
    assert [item.label for item in found[:2]] == ["Circles, true labels", "Circles, 20% wrong labels"]
    assert [item.text for item in found] == ["10.0 → 5.0 per unit of length"] * 4
    # 10 - 50 * 0.1 less 10, whatever the repeat.
    assert [item.ours.high for item in found] == pytest.approx([-5.0] * 4)


def test_protocol_names_the_noise_of_each_problem() -> None:
    text = describe_protocol(Config())
    assert all(f"{name} {toy.noise:g}" in text for name, toy in TOYS.items())
    assert set(TITLES) == set(TOYS)


def test_pictures_hold_what_the_nets_of_the_first_repeat_say() -> None:
    config = dataclasses.replace(SMOKE, datasets=("moons",), wrong_shares=(0.4,))
    (picture,) = make_pictures(config)
    train, _ = take_points(config, make_points(config, ["moons"])[0], 0)
    (left, low), (right, high) = TOYS["moons"].corners
    for method, net in fit_nets(config, train, 0.4, 0).items():
        drawn = np.array(picture["proba"][method]).reshape(picture["size"], picture["size"])
        # The first row of the grid goes along the lower edge.
        corners = net.predict_proba(np.array([[left, low], [right, low], [left, high]]))[:, 1]
        np.testing.assert_allclose([drawn[0, 0], drawn[0, -1], drawn[-1, 0]], 100 * corners, atol=0.51)
    assert (np.array(picture["y"]) != train.y).sum() == 16
    np.testing.assert_allclose(picture["X"], train.X, atol=0.0051)
