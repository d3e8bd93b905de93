"""The plan of a semi-supervised epoch and the batches that follow it."""

from typing import Any

import numpy as np
import pytest
import torch

from sk_mixup._data.joint_batches import JointBatches, draw_joint_plan
from sk_mixup._data.storage import Rows


def draw(n_labeled: int = 5, n_unlabeled: int = 23, **options: Any) -> Any:
    defaults = {"n_views": 2, "alpha": 0.75}
    generator = np.random.default_rng(options.pop("seed", 0))
    sizes = options.pop("sizes", (3, 8))
    return draw_joint_plan(generator, (n_labeled, n_unlabeled), sizes, **defaults | options)


@pytest.mark.parametrize(
    ("n_labeled", "n_unlabeled", "sizes", "n_steps"),
    [(5, 23, (3, 8), 3), (23, 5, (3, 8), 8), (5, 23, (-1, -1), 1), (1, 1, (32, 64), 1), (2, 7, (9, 2), 4)],
)
def test_every_row_is_visited_in_an_epoch(
    n_labeled: int, n_unlabeled: int, sizes: tuple[int, int], n_steps: int
) -> None:
    plan = draw(n_labeled, n_unlabeled, sizes=sizes)
    assert len(plan) == n_steps
    assert set(plan.labeled.ravel()) == set(range(n_labeled))
    assert set(plan.unlabeled.ravel()) == set(range(n_unlabeled))


@pytest.mark.parametrize("part", ["labeled", "unlabeled"])
def test_no_row_comes_twice_before_all_have_come_once(part: str) -> None:
    rows = getattr(draw(7, 7, sizes=(3, 2)), part).ravel()
    for start in range(0, len(rows) - 6, 7):
        assert sorted(rows[start : start + 7]) == list(range(7))


def test_partners_within_parts_stay_in_their_part() -> None:
    plan = draw()
    assert (np.sort(plan.place, axis=1) == np.arange(19)).all()
    assert (plan.place[:, :3] < 3).all()
    assert (plan.lam < 0.5).any()


def test_partners_across_parts_keep_a_row_nearer_to_itself() -> None:
    plan = draw(across=True)
    assert (np.sort(plan.place, axis=1) == np.arange(19)).all()
    assert (plan.place[:, :3] >= 3).any()
    assert (plan.lam >= 0.5).all()


def test_no_mixing_gives_lam_one() -> None:
    assert (draw(alpha=0).lam == 1).all()


def test_infinite_alpha_gives_the_average() -> None:
    assert (draw(alpha=float("inf")).lam == 0.5).all()


def test_lam_per_batch_is_one_lam_a_step() -> None:
    lam = draw(lam_per="batch").lam
    assert (lam == lam[:, :1]).all()
    assert len(np.unique(lam)) == len(lam)


def test_order_does_not_depend_on_how_rows_are_mixed() -> None:
    plans = [draw(), draw(alpha=0), draw(across=True), draw(n_views=1), draw(lam_per="batch")]
    for plan in plans[1:]:
        np.testing.assert_array_equal(plan.unlabeled, plans[0].unlabeled)
        np.testing.assert_array_equal(plan.labeled, plans[0].labeled)


def make_batches(noise_std: float = 0.0, *, weighted: bool = False, n_views: int = 2) -> JointBatches:
    x = torch.arange(56, dtype=torch.float64).reshape(28, 2)
    weight = torch.linspace(1, 2, 28, dtype=torch.float64) if weighted else None
    rows = Rows(x, torch.arange(28), weight)
    labeled, unlabeled = rows.subset(np.arange(5)), rows.subset(np.arange(5, 28))
    plan, shares = draw(n_views=n_views), np.array([0.0, 0.5, 1.0])
    generator = np.random.default_rng(1)
    return JointBatches(labeled, unlabeled, plan, shares, generator, noise_std, torch.float64)


def test_batch_unpacks_as_its_labelled_rows() -> None:
    batches = make_batches()
    for step, batch in enumerate(batches):
        x, y = batch
        np.testing.assert_array_equal(y, batches.plan.labeled[step])
        np.testing.assert_array_equal(x[:, 0], 2 * y)
        assert batch.joint_lam.shape == (2, 19)
        assert torch.equal(batch.lam, batch.joint_lam[:, :3])


def test_batch_holds_each_view_of_the_unlabelled_rows() -> None:
    batches = make_batches(n_views=3)
    for step, batch in enumerate(batches):
        first, *others = batch.unlabeled.chunk(3)
        np.testing.assert_array_equal(first[:, 0], 2 * (5 + batches.plan.unlabeled[step]))
        assert all(torch.equal(first, other) for other in others)


def test_weights_of_a_batch_are_those_of_its_rows() -> None:
    for batch in make_batches(weighted=True):
        torch.testing.assert_close(batch.joint_weight, 1 + batch.inputs[:, 0] / 54)


def test_unlabelled_weight_of_each_step_is_handed_on() -> None:
    assert [batch.unlabeled_weight for batch in make_batches()] == [0.0, 0.5, 1.0]


def test_noise_has_its_scale_and_differs_between_views() -> None:
    first, second = (list(make_batches(scale)) for scale in (1.0, 3.0))
    for batch, other in zip(first, second, strict=True):
        assert batch.noise.shape == batch.inputs.shape
        assert not torch.equal(batch.noise[3:11], batch.noise[11:])
        torch.testing.assert_close(other.noise, 3 * batch.noise)
    assert all(batch.noise is None for batch in make_batches(0.0))
