from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
import torch
from torch import Tensor

from sk_mixup.mixing import draw_gan_plan, mix_real_and_fake

SHAPES = st.tuples(st.integers(1, 4), st.integers(2, 4), st.integers(1, 7))


def draw(seed: int, n_samples: int, shape: tuple[int, int, int], alpha: float, lam_per: str = "example"):
    return draw_gan_plan(np.random.default_rng(seed), n_samples, shape, alpha, lam_per)


@given(st.integers(0, 99), st.integers(1, 20), SHAPES, st.sampled_from([0.0, 0.2, 1.0, np.inf]))
def test_rows_are_drawn_equally_often_and_weights_are_shares(seed, n_samples, shape, alpha) -> None:
    plan = draw(seed, n_samples, shape, alpha)
    counts = np.bincount(plan.rows.ravel(), minlength=n_samples)
    assert plan.rows.shape == plan.lam.shape == shape
    assert counts.max() - counts.min() <= 1
    assert ((plan.lam >= 0) & (plan.lam <= 1)).all()


@pytest.mark.parametrize(("alpha", "value"), [(0.0, 1.0), (np.inf, 0.5)])
def test_ends_of_alpha_are_exact(alpha: float, value: float) -> None:
    assert (draw(0, 5, (2, 3, 4), alpha).lam == value).all()


def test_lam_per_batch_is_one_number_a_batch() -> None:
    lam = draw(0, 5, (20, 3, 4), 1.0, "batch").lam
    assert (lam == lam[..., :1]).all()
    assert len(np.unique(lam)) == 60


def test_weights_follow_beta() -> None:
    lam = draw(0, 5, (100, 5, 20), 0.2).lam
    assert lam.mean() == pytest.approx(0.5, abs=0.02)
    assert lam.var() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.01)


@given(st.integers(0, 99), SHAPES, st.data())
def test_a_slice_of_a_plan_has_its_draws(seed, shape, data) -> None:
    plan = draw(seed, 6, shape, 1.0)
    start = data.draw(st.integers(0, shape[0] - 1))
    stop = data.draw(st.integers(start + 1, shape[0]))
    inner = data.draw(st.integers(0, stop - start - 1))
    part = plan.slice(start, stop).slice(inner, stop - start)
    places = slice(start + inner, stop)
    assert (part.rows == plan.rows[places]).all()
    assert (part.lam == plan.lam[places]).all()
    noise = plan.draw_noise(3, np.float32)
    assert noise.shape == (*shape, 3)
    assert (part.draw_noise(3, np.float32) == noise[places]).all()


def test_noise_is_standard_normal_and_differs_by_batch() -> None:
    noise = draw(0, 5, (50, 3, 20), 1.0).draw_noise(2, np.float64).reshape(-1, 40)
    assert noise.mean() == pytest.approx(0, abs=0.05)
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert len(np.unique(noise.round(12))) == noise.size


def mix_slowly(real: Tensor, fake: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    ours = [lam[i] * real[i] + (1 - lam[i]) * fake[i] for i in range(len(lam))]
    theirs = [(1 - lam[i]) * real[i] + lam[i] * fake[i] for i in range(len(lam))]
    return torch.stack(ours + theirs), torch.cat([lam, 1 - lam])


@pytest.mark.parametrize("shape", [(5, 2), (3, 1, 4, 4)])
def test_both_mixtures_equal_a_slow_reference(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    lam = torch.rand(shape[0], generator=generator, dtype=torch.float64)
    for found, wanted in zip(mix_real_and_fake(real, fake, lam), mix_slowly(real, fake, lam), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-15)


def test_weight_one_gives_the_real_batch_and_the_fake_batch_exactly() -> None:
    real, fake = torch.randn(2, 7, 3)
    virtual, target = mix_real_and_fake(real, fake, torch.ones(7))
    assert torch.equal(virtual, torch.cat([real, fake]))
    assert target.tolist() == [1.0] * 7 + [0.0] * 7


def test_a_stack_is_mixed_net_by_net() -> None:
    real, fake = torch.randn(2, 3, 5, 2)
    lam = torch.rand(3, 5)
    virtual, target = mix_real_and_fake(real, fake, lam)
    for k in range(3):
        own = mix_real_and_fake(real[k], fake[k], lam[k])
        assert torch.equal(virtual[k], own[0])
        assert torch.equal(target[k], own[1])
