"""Laws of the functions that build virtual examples."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest
import torch

from sk_mixup.mixing import mix, mix_pair
from tests.reference import mix_row

SHAPES = [(1, 1), (4, 3), (5, 2, 3), (2, 3, 4, 4)]
FINITE = st.floats(-1e3, 1e3, allow_nan=False)
UNIT = st.floats(0, 1)


def draw(shape, seed=0, dtype=torch.float64):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape), dtype=dtype)


def draw_weights(n_mixed, n, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).dirichlet(np.ones(n_mixed), n).T)


@pytest.mark.parametrize("shape", SHAPES)
def test_mix_pair_equals_reference(shape):
    x, partner, lam = draw(shape, 1), draw(shape, 2), draw_weights(2, shape[0])[0]
    expected = [mix_row([a, b], [w, 1 - w]) for a, b, w in zip(x, partner, lam.tolist(), strict=True)]
    np.testing.assert_allclose(mix_pair(x, partner, lam), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_mixed", [2, 3, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_mix_equals_reference(shape, n_mixed):
    rows, lam = draw((n_mixed, *shape)), draw_weights(n_mixed, shape[0])
    expected = [mix_row(rows[:, i], lam[:, i].tolist()) for i in range(shape[0])]
    np.testing.assert_allclose(mix(rows, lam), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_mix_pair_ends_are_exact(end, dtype):
    x, partner = draw((6, 3), 1, dtype), draw((6, 3), 2, dtype)
    expected = x if end == 1.0 else partner
    assert torch.equal(mix_pair(x, partner, torch.tensor(end, dtype=dtype)), expected)
    assert torch.equal(mix_pair(x, partner, torch.full((6,), end, dtype=dtype)), expected)


@given(hnp.arrays(np.float64, (3, 2), elements=FINITE), hnp.arrays(np.float64, (3, 2), elements=FINITE), UNIT)
def test_mix_pair_is_symmetric_and_convex(x, partner, lam):
    x, partner = torch.as_tensor(x), torch.as_tensor(partner)
    mixed = mix_pair(x, partner, torch.tensor(lam, dtype=torch.float64))
    swapped = mix_pair(partner, x, torch.tensor(1 - lam, dtype=torch.float64))
    torch.testing.assert_close(mixed, swapped, rtol=1e-9, atol=1e-9)
    assert torch.all(mixed <= torch.maximum(x, partner) + 1e-9)
    assert torch.all(mixed >= torch.minimum(x, partner) - 1e-9)


@settings(max_examples=25)
@given(st.permutations(range(5)))
def test_mix_pair_commutes_with_permutations(order):
    x, partner, lam = draw((5, 2), 1), draw((5, 2), 2), draw_weights(2, 5)[0]
    torch.testing.assert_close(
        mix_pair(x, partner, lam)[order], mix_pair(x[order], partner[order], lam[order]), rtol=0, atol=0
    )


def test_mix_pair_writes_to_no_input():
    x, partner, lam = draw((4, 2), 1), draw((4, 2), 2), draw_weights(2, 4)[0]
    copies = [t.clone() for t in (x, partner, lam)]
    mix_pair(x, partner, lam)
    assert all(map(torch.equal, (x, partner, lam), copies))


def test_mix_pair_under_vmap_equals_loop():
    x, partner, lam = draw((3, 4, 2), 1), draw((3, 4, 2), 2), draw_weights(2, 12)[0].view(3, 4)
    loop = torch.stack([mix_pair(*args) for args in zip(x, partner, lam, strict=True)])
    assert torch.equal(torch.func.vmap(mix_pair)(x, partner, lam), loop)


@pytest.mark.parametrize("n_mixed", [2, 3])
def test_mix_gradients_are_right(n_mixed):
    rows = draw((n_mixed, 3, 2)).requires_grad_()
    lam = draw_weights(n_mixed, 3).requires_grad_()
    assert torch.autograd.gradcheck(mix, (rows, lam))


def test_mix_of_one_row_repeated_is_that_row():
    row = draw((4, 3))
    torch.testing.assert_close(mix(row.expand(3, 4, 3), draw_weights(3, 4)), row)


def test_mix_pair_rejects_wrong_lam():
    message = r"lam must be a scalar or hold one value per row of x; got lam of shape \(4,\)"
    with pytest.raises(ValueError, match=message):
        mix_pair(torch.zeros(5, 3), torch.zeros(5, 3), torch.zeros(4))


def test_mix_pair_rejects_partner_of_other_shape():
    with pytest.raises(ValueError, match=r"x_partner must have the shape of x; got shape \(5, 1\)"):
        mix_pair(torch.zeros(5, 3), torch.zeros(5, 1), torch.zeros(5))


def test_mix_rejects_wrong_lam():
    with pytest.raises(
        ValueError, match=r"lam must hold one weight per example; .*Give lam the shape \(3, 5\)"
    ):
        mix(torch.zeros(3, 5, 2), torch.zeros(2, 5))
