from collections.abc import Callable
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
import torch
from torch import Tensor, nn

from benchmarks.gan import run as gan
from benchmarks.gan import scores as gan_scores
from benchmarks.gan import speed as gan_speed
from benchmarks.gan.densities import DENSITIES
from benchmarks.gan.run import (
    LOSSES,
    PRESETS,
    Config,
    Setting,
    describe_protocol,
    draw_rows,
    fit_stack,
    make_tasks,
    score_snapshots,
    time_width,
)
from benchmarks.gan.scores import (
    MODE_SHARE,
    N_STD,
    compute_energy_distance,
    compute_mode_scores,
    compute_sample_scores,
)
from benchmarks.gan.speed import compute_mixed_loss, fit_gan_by_hand, make_sequential
from benchmarks.gan.summary import compare_last, summarise, tabulate
from benchmarks.harness.command import UserError
from benchmarks.harness.paired_differences import fill_columns

SMOKE = PRESETS["smoke"]
SETTING = Setting(
    part="picture", dataset="ring", generator_loss=LOSSES[0], alpha=0.2, lr=1e-3, width=SMOKE.width
)
MIXTURES = ("ring", "grid")
PLAIN, MIXUP = (2.0, 2.2, 2.1), (0.5, 0.6, 0.1)
TIMES = {
    "estimator": (1050.0, 1040.0),
    "loop": (1000.0, 1000.0),
    "stack": (900.0, 900.0),
    "singles": (1000.0, 1000.0),
}


def make_records() -> list[dict[str, Any]]:
    """Return records of the ring and the swiss roll, of a grid of two settings, and of times."""
    records = []
    for part, dataset, lr in (
        ("picture", "ring", 1e-3),
        ("picture", "swiss_roll", 1e-3),
        ("grid", "ring", 1e-4),
        ("grid", "ring", 1e-2),
    ):
        for alpha, energies in ((0.0, PLAIN), (0.2, MIXUP)):
            shared = {
                "part": part,
                "dataset": dataset,
                "generator_loss": "minimax",
                "alpha": alpha,
                "lr": lr,
                "width": 8,
            }
            has_modes = dataset == "ring"
            for repeat, energy in enumerate(energies):
                for step in (10, 4000) if part == "picture" else (1000,):
                    scores = {"modes": 2 if alpha == 0 else 7, "near": 0.25} if has_modes else {}
                    records.append(
                        dict(
                            **shared,
                            repeat=repeat,
                            iteration=step,
                            energy=energy + (step == 10),
                            seconds=2.0,
                            **scores,
                        )
                    )
    for contender, values in TIMES.items():
        for turn, value in enumerate(values):
            case = "width 8 on cpu"
            records.append(
                {"part": "speed", "case": case, "contender": contender, "round": turn, "value": value}
            )
    return fill_columns(records)


def raise_error(message: str) -> Callable[..., None]:
    """Return a fit of a stack that ends with an error."""

    def fit(jobs: Any) -> None:
        raise ValueError(message)

    return fit


@pytest.fixture
def summary() -> list[dict[str, Any]]:
    return summarise(make_records())


@pytest.mark.parametrize("name", DENSITIES)
def test_densities_have_a_deviation_of_about_one_and_repeat_with_the_generator(name: str) -> None:
    points, again = (DENSITIES[name].draw(20_000, np.random.default_rng(3)) for _ in range(2))
    assert points.shape == (20_000, 2)
    np.testing.assert_array_equal(points, again)
    np.testing.assert_allclose(points.std(axis=0), 1, atol=0.05)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_covers_its_own_modes(name: str) -> None:
    density = DENSITIES[name]
    covered, near = compute_mode_scores(density.draw(20_000, np.random.default_rng(0)), density)
    assert covered == len(density.modes)
    # The share of a round Gaussian of the plane within r standard deviations is 1 - exp(-r^2 / 2).
    assert near == pytest.approx(1 - math.exp(-(N_STD**2) / 2), abs=0.003)


def test_modes_stand_on_a_ring_and_on_a_grid() -> None:
    ring, grid = (DENSITIES[name].modes for name in MIXTURES)
    np.testing.assert_allclose(np.linalg.norm(ring, axis=1), math.sqrt(2))
    np.testing.assert_allclose(
        np.linalg.norm(ring - np.roll(ring, 1, axis=0), axis=1), 2**1.5 * math.sin(math.pi / 8)
    )
    for axis in grid.T:
        np.testing.assert_allclose(np.unique(axis.round(9)), np.arange(-2, 3) / math.sqrt(2))
    assert len(np.unique(grid.round(9), axis=0)) == 25


@pytest.mark.parametrize("name", MIXTURES)
def test_mode_scores_equal_a_slow_count(name: str) -> None:
    density = DENSITIES[name]
    generator = np.random.default_rng(1)
    centers = density.modes[generator.integers(4, size=300)]
    samples = centers + 2 * density.std * generator.standard_normal((300, 2))
    counts = [0] * len(density.modes)
    for sample in samples:
        for place, mode in enumerate(density.modes):
            counts[place] += math.dist(sample, mode) <= N_STD * density.std
    covered, near = compute_mode_scores(samples, density)
    assert covered == sum(count >= MODE_SHARE * 300 / len(counts) for count in counts)
    assert near == pytest.approx(sum(counts) / 300, abs=1e-6)


@pytest.mark.parametrize(("n_near", "covered"), [(2, 0), (3, 1)])
def test_a_stray_sample_covers_no_mode(n_near: int, covered: int) -> None:
    ring = DENSITIES["ring"]
    samples = np.zeros((2400, 2))  # a fair share is 300 of them, a hundredth of it 3
    samples[:n_near] = ring.modes[0]
    assert compute_mode_scores(samples, ring) == (covered, pytest.approx(n_near / 2400, abs=1e-6))


def test_a_density_without_modes_has_no_mode_scores() -> None:
    assert compute_mode_scores(np.zeros((5, 2)), DENSITIES["swiss_roll"]) == (None, None)


def test_a_net_that_diverged_has_large_and_finite_scores() -> None:
    samples = np.array([[np.nan, np.inf], [1e30, 1e30]])
    scores = compute_sample_scores(samples, np.zeros((4, 2)), DENSITIES["ring"])
    assert scores == {"energy": pytest.approx(200 * math.sqrt(2)), "modes": 0, "near": 0.0}


def test_energy_distance_equals_a_slow_sum() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(6, 2)), generator.normal(size=(5, 2)) + 1
    between = np.mean([math.dist(a, b) for a in x for b in y])
    within = [
        np.mean([math.dist(a, b) for i, a in enumerate(part) for j, b in enumerate(part) if i != j])
        for part in (x, y)
    ]
    assert compute_energy_distance(x, y) == pytest.approx(2 * between - sum(within))


def test_energy_distance_is_about_zero_for_fresh_points_alone() -> None:
    generator = np.random.default_rng(0)
    ring, roll = DENSITIES["ring"], DENSITIES["swiss_roll"]
    fresh = ring.draw(2500, generator)
    assert abs(compute_energy_distance(ring.draw(2500, generator), fresh)) < 0.003
    assert compute_energy_distance(roll.draw(2500, generator), fresh) > 0.01
    # All on one mode: 2 E|X - c| - E|X - X'|, and X' is as good as a mode.
    lost = compute_energy_distance(np.repeat(ring.modes[:1], 2500, axis=0), fresh)
    assert lost == pytest.approx(np.linalg.norm(ring.modes - ring.modes[0], axis=1).mean(), abs=0.15)


def test_mixed_loss_equals_a_slow_sum() -> None:
    torch.manual_seed(0)
    net, x, fake, lam = nn.Linear(2, 1), torch.randn(3, 2), torch.randn(3, 2), torch.rand(3, 1)
    total = 0.0
    for row, made, weight in zip(x, fake, lam[:, 0].tolist(), strict=True):
        for mixed, target in (
            (weight * row + (1 - weight) * made, weight),
            ((1 - weight) * row + weight * made, 1 - weight),
        ):
            probability = torch.sigmoid(net(mixed)).item()
            total -= target * math.log(probability) + (1 - target) * math.log(1 - probability)
    assert compute_mixed_loss(net, x, fake, lam).item() == pytest.approx(total / 6, rel=1e-5)


def test_mixed_loss_without_mixing_is_that_of_a_real_and_a_fake_batch() -> None:
    torch.manual_seed(0)
    net, x, fake = nn.Linear(2, 1), torch.randn(4, 2), torch.randn(4, 2)
    plain = torch.cat([-nn.functional.logsigmoid(net(x)), -nn.functional.logsigmoid(-net(fake))]).mean()
    assert compute_mixed_loss(net, x, fake, torch.ones(4, 1)).item() == pytest.approx(plain.item())


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_the_loop_takes_five_discriminator_steps_a_generator_step(
    alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_generator, weights = [], []

    def note(net: nn.Module, x: Tensor, fake: Tensor, lam: Tensor, *, is_swapped: bool = False) -> Tensor:
        from_generator.append((fake.requires_grad, is_swapped))
        weights.append(lam)
        return compute_mixed_loss(net, x, fake, lam, is_swapped=is_swapped)

    monkeypatch.setattr(gan_speed, "compute_mixed_loss", note)
    X = draw_rows(SMOKE, SETTING, seed=0)
    net = fit_gan_by_hand(X, alpha=alpha, n_iterations=3, hidden_layer_sizes=(8,), batch_size=16, lr=1e-3)
    assert from_generator == 3 * [*5 * [(False, False)], (True, True)]
    assert net(torch.randn(7, 2)).shape == (7, 2)
    assert ((torch.cat(weights) == 1).float().mean() > 0.9) == (alpha == 0)


def test_make_sequential_has_a_relu_between_linear_layers() -> None:
    assert [type(layer) for layer in make_sequential((2, 3, 1))] == [nn.Linear, nn.ReLU, nn.Linear]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"densities": ("rings",)}, "--densities must be one of .*Did you mean 'ring'"),
        (
            {"generator_losses": ("max",)},
            "--generator-losses must be one of non-saturating, minimax; got 'max'",
        ),
        ({"alphas": (0.0,)}, "--alphas must be at least"),
        ({"grid_lrs": (math.nan,)}, "--grid-lrs must be at least .*; got nan"),
        ({"width": 0}, "--width must be at least 1; got 0"),
        ({"iterations": 150}, "--iterations must be a multiple of 100, or fewer; got 150"),
        ({"seeds_grid": 1}, "--seeds-grid must be at least 2; got 1"),
    ],
)
def test_config_explains_a_wrong_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


@pytest.mark.parametrize(
    ("iterations", "steps"),
    [(4000, (10, 100, 1000, 4000)), (20_000, (10, 100, 1000, 10_000, 20_000)), (5, (5,))],
)
def test_snapshots_end_with_the_last_step(iterations: int, steps: tuple[int, ...]) -> None:
    assert Config(iterations=iterations).list_snapshots() == steps


def test_tasks_hold_the_plain_gan_of_every_setting() -> None:
    tasks = make_tasks(PRESETS["cpu"])
    settings = [setting for _, setting, _ in tasks.values()]
    assert len(settings) == 5 * 3 * 2 + 3 * 2 * 3 * 3 * 4
    plain = {dataclasses.replace(setting, alpha=0.0) for setting in settings}
    assert plain <= set(settings)
    assert PRESETS["cpu"].iterations == 4000
    assert PRESETS["cpu"].seeds_each == 5


@pytest.mark.parametrize("part", ["picture", "grid"])
def test_fit_stack_scores_each_seed_after_each_snapshot(part: str) -> None:
    setting = dataclasses.replace(SETTING, part=part)
    group = fit_stack(SMOKE, setting, range(2))
    steps = (5, 12) if part == "picture" else (5,)
    assert [(record["repeat"], record["iteration"]) for record in group["records"]] == [
        (repeat, step) for repeat in range(2) for step in steps
    ]
    assert np.isfinite([record["energy"] for record in group["records"]]).all()
    assert [picture["repeat"] for picture in group["pictures"]] == ([0] if part == "picture" else [])


@pytest.mark.slow
def test_only_the_first_generator_loss_is_drawn() -> None:
    config = dataclasses.replace(SMOKE, generator_losses=LOSSES, iterations=2, snapshots=())
    pictures = [
        fit_stack(config, dataclasses.replace(SETTING, generator_loss=loss), [1, 0])["pictures"]
        for loss in LOSSES
    ]
    assert [[*picture["samples"]] for found in pictures for picture in found] == [["2"]]
    assert pictures[1] == []


def test_scores_are_against_points_that_were_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        gan_scores, "compute_energy_distance", lambda samples, fresh: seen.append(fresh) or 0.0
    )
    rows, others = draw_rows(SMOKE, SETTING, seed=1), draw_rows(SMOKE, SETTING, seed=2)
    score_snapshots(SMOKE, SETTING, 1, {5: rows})
    points = {tuple(point) for part in (rows, others) for point in part.tolist()}
    assert len(points) == len(rows) + len(others)
    assert not points & {tuple(point) for point in seen[0].astype(np.float32).tolist()}


def test_a_net_that_diverges_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gan, "fit_stacked", raise_error("generator_loss must stay finite; got nan in epoch 1")
    )
    monkeypatch.setattr(gan.Snapshots, "samples_", {5: np.zeros((SMOKE.n_samples, 2))}, raising=False)
    records = fit_stack(SMOKE, SETTING, range(2))["records"]
    assert [record["energy"] > 100 for record in records] == 2 * [False, True]


def test_other_errors_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan, "fit_stacked", raise_error("X must hold numbers"))
    with pytest.raises(ValueError, match="X must hold numbers"):
        fit_stack(SMOKE, SETTING, range(2))


@pytest.mark.slow
def test_times_are_taken_in_turns() -> None:
    records = time_width(SMOKE, 8)["records"]
    assert {record["contender"] for record in records} == {"estimator", "loop", "stack", "singles"}
    assert len(records) == 4 * SMOKE.speed_rounds
    assert all(record["value"] > 0 for record in records)


def test_summary_has_students_intervals_over_seeds(summary: list[dict[str, Any]]) -> None:
    row = next(row for row in summary if row["alpha"] == 0.2 and row["iteration"] == 4000)
    low, high = stats.t.interval(0.95, 2, np.mean(MIXUP), stats.sem(MIXUP))
    assert (row["energy"], row["energy_low"], row["energy_high"]) == pytest.approx((0.4, low, high), abs=1e-5)
    gaps = np.subtract(MIXUP, PLAIN)
    low, high = stats.t.interval(0.95, 2, gaps.mean(), stats.sem(gaps))
    assert (row["energy_diff_low"], row["energy_diff_high"]) == pytest.approx((low, high), abs=1e-5)
    assert (row["modes"], row["near"], row["n_seeds"]) == (7, 25, 3)


def test_summary_rows_share_their_columns(summary: list[dict[str, Any]]) -> None:
    assert len({tuple(row) for row in summary}) == 1
    assert all(row["modes"] is None for row in summary if row["dataset"] == "swiss_roll")


def test_a_stack_has_no_target_on_a_cpu(summary: list[dict[str, Any]]) -> None:
    step, stack = (row for row in summary if row["part"] == "speed")
    assert (step["ratio"], step["met"]) == (1.045, "target")
    assert (stack["ratio"], stack["met"]) == (0.9, "no target on a CPU")


def test_tables_stand_beside_the_prototype(summary: list[dict[str, Any]]) -> None:
    tables = tabulate({"summary": summary})
    ring, roll = tables["Samples after 4,000 generator steps"]
    assert ring["prototype's distance, plain → mixup"] == "1.96 → 0.19"
    assert (ring["modes, plain"], ring["modes, mixup"]) == ("2.0 ± 0.0 of 8", "7.0 ± 0.0 of 8")
    assert ring["mixup - plain"].startswith("-1.700 [")
    assert (roll["modes, plain"], roll["prototype's distance, plain → mixup"]) == ("", "")
    snapshots = tables["Energy distance by generator steps"]
    assert [row["GAN"] for row in snapshots] == 2 * ["plain", "mixup, alpha = 0.2"]
    assert [row["10"][:5] for row in snapshots] == 2 * ["3.100", "1.400"]


def test_grid_counts_the_settings_in_which_mixup_is_better(summary: list[dict[str, Any]]) -> None:
    tables = tabulate({"summary": summary})
    _, mixup = tables["Grid: mean energy distances of all settings of learning rate and width"]
    assert (mixup["settings"], mixup["lower than plain"], mixup["clearly lower"]) == ("2", "2", "2")
    assert (mixup["clearly higher"], mixup["worst"]) == ("0", "0.400")
    cells = next(rows for title, rows in tables.items() if title.startswith("Grid: energy distance"))
    assert [row["learning rate"] for row in cells] == ["0.0001", "0.01"]
    assert all(row["mixup, alpha = 0.2"].endswith("†") and "†" not in row["plain"] for row in cells)


def test_times_table_says_where_the_target_holds(summary: list[dict[str, Any]]) -> None:
    step, stack = tabulate({"summary": summary})["Ratios of times"]
    assert (step["target"], stack["target"]) == ("≤ 1.05", "≤ 0.6 on a GPU")
    assert stack["ms per generator step of a net"] == "0.90 / 1.00"


def test_last_samples_of_the_loss_that_is_drawn_are_compared(summary: list[dict[str, Any]]) -> None:
    ring, roll = compare_last({"summary": summary, "config": {"generator_losses": ["minimax"]}})
    assert (ring.label, roll.label) == ("ring of eight, alpha 0.2", "swiss roll, alpha 0.2")
    assert ring.text == "2.10 → 0.40"
    # Differences of the seeds: -1.5, -1.6 and -2.0.
    gaps = np.subtract(MIXUP, PLAIN)
    half = stats.t.ppf(0.975, 2) * gaps.std(ddof=1) / math.sqrt(3)
    assert ring.ours == pytest.approx((gaps.mean(), gaps.mean() - half, gaps.mean() + half), abs=1e-4)
    other = {"summary": summary, "config": {"generator_losses": ["non-saturating", "minimax"]}}
    assert compare_last(other) == []


def test_protocol_says_what_was_run() -> None:
    text = describe_protocol(Config())
    for part in ("512 ReLU units", "5 seeds", "10000 training rows", "1000 generator steps, 3 seeds"):
        assert part in text
