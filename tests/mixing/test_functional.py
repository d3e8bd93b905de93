"""Laws of the functions that build virtual examples."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest
import torch

from sk_mixup.mixing import (
    add_noise,
    draw_boxes,
    mix,
    mix_pair,
    mix_rows,
    paste_boxes,
    soft_targets,
    swap_features,
)
from tests.helpers.reference import mix_row, noisy_row, paste_row

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


# -- rectangles and noise ----------------------------------------------------------------

IMAGES = [(1, 1, 1, 1), (4, 3, 5, 6), (3, 1, 7, 2)]


def draw_box(n, height, width, seed=0):
    lam = np.random.default_rng(seed).random(n)
    return torch.as_tensor(draw_boxes(np.random.default_rng(seed), lam, height, width))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("shape", IMAGES)
def test_paste_boxes_equals_reference(shape, dtype):
    x, partner = ((10 * draw(shape, seed)).to(dtype) for seed in (1, 2))
    box = draw_box(shape[0], *shape[2:])
    rows = zip(x.double().numpy(), partner.double().numpy(), box.T, strict=True)
    expected = [paste_row(*row) for row in rows]
    pasted = paste_boxes(x, partner, box)
    assert pasted.dtype == dtype
    assert torch.equal(pasted.double(), torch.as_tensor(np.array(expected)))


@pytest.mark.parametrize(("box", "is_partner"), [((0, 5, 0, 6), True), ((2, 2, 1, 4), False)])
def test_paste_boxes_ends_are_exact(box, is_partner):
    x, partner = draw((4, 3, 5, 6), 1), draw((4, 3, 5, 6), 2)
    boxes = torch.tensor(box)[:, None].expand(4, 4)
    assert torch.equal(paste_boxes(x, partner, boxes), partner if is_partner else x)


def test_paste_boxes_keeps_what_is_not_finite_out():
    x = torch.full((1, 1, 2, 2), 3.0)
    pasted = paste_boxes(x, torch.full_like(x, float("nan")), torch.tensor([[0], [1], [0], [1]]))
    assert pasted.isnan().sum() == 1
    assert pasted.nansum() == 9


@settings(max_examples=25)
@given(st.permutations(range(5)))
def test_paste_boxes_commutes_with_permutations(order):
    x, partner, box = draw((5, 2, 4, 4), 1), draw((5, 2, 4, 4), 2), draw_box(5, 4, 4)
    expected = paste_boxes(x, partner, box)[order]
    assert torch.equal(paste_boxes(x[order], partner[order], box[:, order]), expected)


def test_paste_boxes_shares_out_the_pixels():
    x, box = torch.zeros(50, 2, 6, 7), draw_box(50, 6, 7)
    top, bottom, left, right = box
    counts = paste_boxes(x, torch.ones_like(x), box).sum(dim=(1, 2, 3))
    assert torch.equal(counts, (2.0 * (bottom - top) * (right - left)))


def test_paste_boxes_under_vmap_equals_loop():
    x, partner = draw((3, 4, 2, 5, 5), 1), draw((3, 4, 2, 5, 5), 2)
    box = torch.stack([draw_box(4, 5, 5, seed) for seed in range(3)])
    loop = torch.stack([paste_boxes(*args) for args in zip(x, partner, box, strict=True)])
    assert torch.equal(torch.func.vmap(paste_boxes)(x, partner, box), loop)


@pytest.mark.parametrize("cut", [slice(0, 4), slice(2, 9), slice(5, 5)], ids=str)
def test_paste_boxes_takes_a_part_of_the_boxes(cut):
    x, partner, box = draw((9, 1, 4, 4), 1), draw((9, 1, 4, 4), 2), draw_box(9, 4, 4)
    expected = paste_boxes(x, partner, box)[cut]
    assert torch.equal(paste_boxes(x[cut], partner[cut], box[:, cut]), expected)
    assert torch.equal(paste_boxes(x[cut], partner[cut], box.T.contiguous().T[:, cut]), expected)


def test_paste_boxes_keeps_channels_last():
    x, partner = (draw((4, 3, 5, 6), seed) for seed in (1, 2))
    box, last = draw_box(4, 5, 6), {"memory_format": torch.channels_last}
    pasted = paste_boxes(x.contiguous(**last), partner.contiguous(**last), box)
    assert torch.equal(pasted, paste_boxes(x, partner, box))
    assert pasted.is_contiguous(**last)


def test_paste_boxes_gradients_are_right():
    x, partner = draw((2, 1, 3, 3), 1).requires_grad_(), draw((2, 1, 3, 3), 2).requires_grad_()
    box = draw_box(2, 3, 3)
    assert torch.autograd.gradcheck(lambda a, b: paste_boxes(a, b, box), (x, partner))


@pytest.mark.parametrize("shape", SHAPES)
def test_add_noise_equals_reference(shape):
    x, noise, std = draw(shape, 1), draw(shape, 2), draw(shape[:1], 3).abs()
    expected = [noisy_row(*row) for row in zip(x, noise, std, strict=True)]
    np.testing.assert_allclose(add_noise(x, noise, std), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_add_noise_of_no_deviation_is_exact(dtype):
    x, noise = draw((6, 3), 1, dtype), draw((6, 3), 2, dtype)
    assert torch.equal(add_noise(x, noise, torch.zeros(6, dtype=dtype)), x)
    assert torch.equal(add_noise(x, noise, torch.tensor(0, dtype=dtype)), x)
    assert add_noise(x, noise, torch.ones(6, dtype=dtype)).dtype == dtype


def test_add_noise_takes_noise_of_a_floating_dtype():
    with pytest.raises(TypeError, match=r"noise must be of a floating dtype; got torch\.int64"):
        add_noise(torch.zeros(2, 1), torch.ones(2, 1, dtype=torch.int64), 1.0)


def test_add_noise_of_one_deviation_serves_all():
    x, noise = draw((4, 2, 3), 1), draw((4, 2, 3), 2)
    one, each = torch.tensor(0.5, dtype=torch.float64), torch.full((4,), 0.5, dtype=torch.float64)
    assert torch.equal(add_noise(x, noise, one), add_noise(x, noise, each))


@settings(max_examples=25)
@given(st.permutations(range(5)))
def test_add_noise_commutes_with_permutations(order):
    x, noise, std = draw((5, 2), 1), draw((5, 2), 2), draw((5,), 3)
    assert torch.equal(add_noise(x, noise, std)[order], add_noise(x[order], noise[order], std[order]))


def test_add_noise_under_vmap_equals_loop():
    x, noise, std = draw((3, 4, 2), 1), draw((3, 4, 2), 2), draw((3, 4), 3)
    loop = torch.stack([add_noise(*args) for args in zip(x, noise, std, strict=True)])
    assert torch.equal(torch.func.vmap(add_noise)(x, noise, std), loop)


def test_add_noise_gradients_are_right():
    tensors = [draw((3, 2), 1), draw((3, 2), 2), draw((3,), 3)]
    assert torch.autograd.gradcheck(add_noise, [t.requires_grad_() for t in tensors])


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (paste_boxes, (draw((4, 1, 3, 3), 1), draw((4, 1, 3, 3), 2), draw_box(4, 3, 3))),
        (add_noise, (draw((4, 2), 1), draw((4, 2), 2), draw((4,), 3))),
        (mix, (draw((2, 4, 2), 1), draw_weights(2, 4))),
        (mix, (draw((3, 4, 2), 1), draw_weights(3, 4))),
        (mix_rows, (draw((4, 2), 1), torch.tensor([[0, 1, 2], [3, 3, 2]]), draw_weights(2, 3))),
    ],
    ids=["paste_boxes", "add_noise", "mix", "mix of three", "mix_rows"],
)
def test_functions_write_to_no_input(function, arguments):
    copies = [t.clone() for t in arguments]
    result = function(*arguments)
    result.fill_(7)  # a new tensor, not a view
    assert all(map(torch.equal, arguments, copies))


IMAGE = torch.zeros(4, 1, 3, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        (IMAGE[0], IMAGE[0], torch.zeros(4, 1)),
        (IMAGE, IMAGE[:3], torch.zeros(4, 4)),
        (IMAGE, IMAGE, torch.zeros(4, 3)),
        (IMAGE[:3], IMAGE[:3], torch.zeros(3, 4)),
        (IMAGE, IMAGE, torch.zeros(4)),
    ],
    ids=lambda arguments: str([tuple(part.shape) for part in arguments]),
)
def test_paste_boxes_rejects_shapes_that_do_not_agree(arguments):
    shapes = " and ".join(
        (", ".join(str(tuple(part.shape)) for part in arguments[:2]), str(tuple(arguments[2].shape)))
    )
    message = f"x must hold images .* got shapes {re.escape(shapes)}. Give box the shape"
    with pytest.raises(ValueError, match=message):
        paste_boxes(*arguments)


def test_add_noise_rejects_noise_of_other_shape():
    with pytest.raises(ValueError, match=r"noise must have the shape of x; got shape \(5, 1\) for x of sh"):
        add_noise(torch.zeros(5, 3), torch.zeros(5, 1), torch.zeros(5))


def test_add_noise_rejects_wrong_std():
    with pytest.raises(ValueError, match=r"std must be a scalar or hold one value per row .* shape \(3,\)"):
        add_noise(torch.zeros(5, 3), torch.zeros(5, 3), torch.zeros(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("share", [0, 1, 0.25, np.float64(0.25)], ids=repr)
@pytest.mark.parametrize("function", [mix_pair, add_noise])
def test_number_serves_all_rows_as_a_tensor_does(function, share, dtype):
    x, other = draw((4, 2, 3), 1, dtype), draw((4, 2, 3), 2, dtype)
    expected = function(x, other, torch.tensor(share, dtype=dtype))
    assert torch.equal(function(x, other, share), expected)
    assert torch.equal(torch.func.vmap(lambda a, b: function(a, b, share))(x, other), expected)


TENSORS = {
    mix_pair: {"x": torch.zeros(4, 2), "x_partner": torch.zeros(4, 2)},
    mix: {"rows": torch.zeros(2, 4, 2), "lam": torch.full((2, 4), 0.5)},
    mix_rows: {
        "x": torch.zeros(4, 2),
        "index": torch.zeros(2, 3, dtype=torch.int64),
        "lam": torch.full((2, 3), 0.5),
    },
    paste_boxes: {"x": IMAGE, "x_partner": IMAGE, "box": torch.zeros(4, 4, dtype=torch.int64)},
    swap_features: {
        "x": torch.zeros(4, 2),
        "x_partner": torch.zeros(4, 2),
        "swapped": torch.zeros(2, 4, dtype=torch.bool),
    },
    add_noise: {"x": torch.zeros(4, 2), "noise": torch.zeros(4, 2)},
    soft_targets: {"labels": torch.zeros(2, 4, dtype=torch.int64), "share": torch.full((2, 4), 0.5)},
}
LAST = {mix_pair: {"lam": 0.5}, add_noise: {"std": 0.5}, soft_targets: {"n_classes": 3}}
PAIRS = [(function, name) for function, tensors in TENSORS.items() for name in tensors]


@pytest.mark.parametrize("form", [lambda t: t.numpy(), lambda t: t.tolist()], ids=["array", "list"])
@pytest.mark.parametrize(("function", "name"), PAIRS)
def test_functions_name_what_is_no_tensor(function, name, form):
    given = TENSORS[function] | LAST.get(function, {})
    function(**given)
    with pytest.raises(TypeError, match=rf"{name} must be a torch\.Tensor; got (ndarray|list)\. Convert"):
        function(**given | {name: form(given[name])})


@pytest.mark.parametrize("function", [mix_pair, add_noise])
def test_integers_are_neither_mixed_nor_noisy(function):
    x = torch.ones(4, 2, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"x must be of a floating dtype; got torch\.int64\."):
        function(x, x, 0.5)


@pytest.mark.parametrize("shape", [(1, 2), (2, 3), (3, 2), (2,), (2, 2, 1)])
def test_soft_targets_refuses_shares_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="share must have the shape"):
        soft_targets(torch.zeros(2, 2, dtype=torch.int64), torch.full(shape, 0.5), 3)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_mix_pair_refuses_a_partner_that_is_not_floating(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="x_partner must be of a floating dtype"):
        mix_pair(torch.ones(2, 3), torch.ones(2, 3).to(dtype), 0.5)
