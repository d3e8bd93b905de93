"""Laws of the plans that every vicinity draws, and each drawn slowly, row by row."""

import copy
from dataclasses import replace
from itertools import pairwise
import pickle

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from sk_mixup.mixing import (
    ERM,
    AddNoise,
    CutMix,
    Extrapolation,
    FeatureExtrapolation,
    FeatureInterpolation,
    FeatureSwap,
    GaussianNoise,
    ManifoldMixup,
    Mixture,
    Mixup,
    NeighborPartners,
    PasteBoxes,
    Plan,
    RowFacts,
    TableMixup,
    Vicinity,
    draw_boxes,
)
from sk_mixup.mixing.noise_source import NoiseSource
from tests.helpers.reference import box_row
from tests.helpers.sampling import each_pair
from tests.helpers.vicinities import (
    BY_INFORMATION,
    FILLED_UP,
    INF,
    NEAR,
    OF_TARGETS,
    VICINITIES,
    get_shape,
    make_facts,
)

IMAGE = (2, 5, 6)
SIZES = [(1, 4), (4, 1), (9, 4), (7, 100)]
PARTS = ("place", "lam", "lam_x", "layers")


def draw(name_or_policy, n_samples, batch_size, seed=0, **options):
    policy = VICINITIES.get(name_or_policy, name_or_policy) if isinstance(name_or_policy, str) else None
    policy = name_or_policy if policy is None else policy
    facts = make_facts(n_samples, get_shape(name_or_policy) if isinstance(name_or_policy, str) else IMAGE)
    return policy(np.random.default_rng(seed), n_samples, batch_size, facts=facts, **options)


def draw_noises(plan):
    """Return the noise of each operation that has one."""
    return [o.noise.draw(0, plan.bounds[-1], (2,)) for o in plan.operations if isinstance(o, AddNoise)]


def find_values(plan, owner):
    """Return the values of the one operation of a class."""
    [operation] = [operation for operation in plan.operations if isinstance(operation, owner)]
    return operation.values


def assert_same_plan(plan, other, parts=PARTS):
    assert np.array_equal(plan.bounds, other.bounds)
    assert np.array_equal(plan.order, other.order)
    assert [part for part in parts if not np.array_equal(getattr(plan, part), getattr(other, part))] == []
    assert_same_operations(plan, other)
    np.testing.assert_equal(draw_noises(plan), draw_noises(other))


def assert_same_operations(plan, other):
    kinds = [[(type(o), o.values.tolist()) for o in each.operations] for each in (plan, other)]
    assert kinds[0] == kinds[1]


# -- laws of all -------------------------------------------------------------------------


@pytest.mark.parametrize(("n_samples", "batch_size"), SIZES)
@pytest.mark.parametrize("name", VICINITIES)
def test_parts_of_a_plan_fit_each_other(name, n_samples, batch_size):
    plan = draw(name, n_samples, batch_size, drop_last=n_samples == 9)
    n = plan.bounds[-1]
    assert sorted(plan.order) == list(range(n_samples))
    assert (plan.place is None) == (plan.lam is None)
    if plan.lam is not None:
        assert plan.place.shape == (len(plan.lam) - 1, n)
        assert plan.lam.shape == (len(plan.lam), n)
        assert 0 <= plan.place.min() <= plan.place.max() < n_samples
    assert plan.lam_x is None or plan.lam_x.shape == plan.lam.shape
    assert {operation.values.shape[-1] for operation in plan.operations} <= {n}
    assert plan.layers is None or len(plan.layers) == len(plan)


@pytest.mark.parametrize("n_samples", [1, 40])
@pytest.mark.parametrize("name", VICINITIES)
def test_weights_of_inputs_and_targets_add_up_to_one(name, n_samples):
    plan = draw(name, n_samples, 7)
    sums = [weights.sum(axis=0) for weights in (plan.lam, plan.lam_x) if weights is not None]
    np.testing.assert_allclose(sums, 1.0, rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"drop_last": True}], ids=str)
@pytest.mark.parametrize("name", VICINITIES)
def test_order_is_that_of_plain_training(name, options):
    plan, plain = (draw(key, 19, 8, 3, **options) for key in (name, "erm"))
    assert np.array_equal(plan.order, plain.order)
    assert np.array_equal(plan.bounds, plain.bounds)


@pytest.mark.parametrize("name", VICINITIES)
def test_partners_stay_in_the_batch_where_the_plan_says_so(name):
    plan = draw(name, 33, 8)
    batch_of = np.searchsorted(plan.bounds, np.arange(33), side="right")
    stays = plan.place is None or np.array_equal(
        batch_of[plan.place], np.broadcast_to(batch_of, plan.place.shape)
    )
    assert stays or not plan.within_batch


@pytest.mark.parametrize("name", VICINITIES)
def test_batches_hold_what_the_plan_says(name):
    plan = draw(name, 22, 7)
    batches = list(plan)
    assert len(batches) == len(plan)
    for number, (batch, (start, stop)) in enumerate(zip(batches, pairwise(plan.bounds), strict=True)):
        assert np.array_equal(batch.rows[: stop - start], plan.order[start:stop])
        assert batch.layer == ("input" if plan.layers is None else plan.layers[number])
        for operation, own in zip(plan.operations, batch.operations, strict=True):
            assert type(operation) is type(own)
            assert np.array_equal(operation.values[..., start:stop], own.values)
        for part in ("lam", "lam_x"):
            whole, own = getattr(plan, part), getattr(batch, part)
            assert (own is None) == (whole is None)
            assert own is None or np.array_equal(own, whole[:, start:stop])
        if batch.position is not None:
            assert np.array_equal(batch.rows[batch.position], plan.index[1:, start:stop])


@pytest.mark.parametrize("name", VICINITIES)
def test_plan_depends_on_the_seed_alone(name):
    assert_same_plan(draw(name, 33, 8, 1), draw(name, 33, 8, 1))
    assert not np.array_equal(draw(name, 33, 8, 1).order, draw(name, 33, 8, 2).order)


@pytest.mark.parametrize("name", VICINITIES)
def test_copy_of_a_policy_is_equal_and_draws_the_same(name):
    policy = pickle.loads(pickle.dumps(copy.deepcopy(copy.copy(VICINITIES[name]))))
    assert policy == VICINITIES[name]
    assert hash(policy) == hash(VICINITIES[name])
    facts = make_facts(9, get_shape(name))
    assert_same_plan(policy(np.random.default_rng(0), 9, 4, facts=facts), draw(name, 9, 4))


@pytest.mark.parametrize("name", VICINITIES)
def test_repr_of_a_policy_builds_it(name):
    names = {**vars(__import__("sk_mixup.mixing", fromlist=["Mixup"])), "inf": INF}
    assert eval(repr(VICINITIES[name]), names) == VICINITIES[name]  # the law is about eval


@pytest.mark.parametrize("name", VICINITIES)
def test_policy_leaves_numpy_and_its_facts_alone(name):
    inputs, targets, labels = np.arange(54.0).reshape(9, 6), np.arange(9.0), np.arange(9) % 3
    shape = get_shape(name)
    facts = RowFacts(labels=labels, targets=targets, inputs=inputs, shape=shape, layers=("0", "1"))
    before = np.random.get_state()[1].copy()  # noqa: NPY002  (the global state is what is looked at)
    VICINITIES[name](np.random.default_rng(0), 9, 4, facts=facts)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert np.array_equal(inputs.ravel(), np.arange(54))
    assert np.array_equal(targets, np.arange(9))
    assert np.array_equal(labels, np.arange(9) % 3)


# The kernel's sampler sorts the rows, and so draws others for other names; information is rounded otherwise.
RENAMED = sorted(VICINITIES.keys() - {*OF_TARGETS, *BY_INFORMATION})


@settings(max_examples=30)
@given(st.permutations(range(9)), st.sampled_from(RENAMED))
def test_renaming_the_rows_renames_the_rows_of_the_plan(renamed, name):
    # Row i of the one training set is row renamed[i] of the other.
    renamed = np.array(renamed)
    labels, inputs = np.arange(9) % 3, np.random.default_rng(5).normal(size=(9, 6))
    other_labels, other_inputs = np.empty_like(labels), np.empty_like(inputs)
    other_labels[renamed], other_inputs[renamed] = labels, inputs
    bounds, order, plans = np.array([0, 4, 9]), np.random.default_rng(1).permutation(9), []
    for own, by, at in ((labels, inputs, order), (other_labels, other_inputs, renamed[order])):
        facts = RowFacts(labels=own, inputs=by, shape=get_shape(name), layers=("0", "1"))
        plans.append(VICINITIES[name].draw(np.random.default_rng(2), bounds, at, facts))
    assert np.array_equal(plans[1].index, renamed[plans[0].index])
    assert [part for part in PARTS if not np.array_equal(*(getattr(p, part) for p in plans))] == []
    assert_same_operations(*plans)


def test_noise_of_a_batch_does_not_depend_on_what_was_drawn_before():
    [operation] = draw("noise", 9, 4).operations
    whole = operation.noise.draw(0, 9, (2,))
    assert np.array_equal(operation.noise.draw(4, 9, (2,)), whole[4:])
    assert np.array_equal(operation.noise.draw(0, 4, (2,)), whole[:4])
    assert not np.isin(operation.noise.draw(0, 9, (2,), stream=1), whole).any()


def test_noise_differs_from_epoch_to_epoch():
    generator = np.random.default_rng(0)
    plans = [GaussianNoise()(generator, 9, 4) for _ in range(2)]
    (first,), (second,) = map(draw_noises, plans)
    assert not np.isin(first, second).any()


# -- each, row by row --------------------------------------------------------------------


def begin(n_samples, seed=4):
    """Return a generator that has drawn the order."""
    generator = np.random.default_rng(seed)
    generator.permutation(n_samples)
    return generator


@each_pair(
    {
        "batch_size": [4, 5],
        "alpha": [0.3, 2.0, INF],
        "owner": [Mixup, ManifoldMixup, CutMix, Extrapolation],
    }
)
def test_weights_are_drawn_row_by_row(owner, alpha, batch_size):
    plan, generator = draw(owner(alpha), 11, batch_size, 4), begin(11)
    lam = [0.5 if alpha == INF else generator.beta(alpha, alpha) for _ in range(11)]
    if owner is Extrapolation:
        lam = [1 + min(value, 1 - value) for value in lam]
    if owner is CutMix:
        rows = [generator.integers(5) for _ in lam]
        columns = [generator.integers(6) for _ in lam]
        boxes = [box_row(*args, 5, 6) for args in zip(lam, zip(rows, columns, strict=True), strict=True)]
        assert find_values(plan, PasteBoxes).T.tolist() == boxes
        lam = [1 - (bottom - top) * (right - left) / 30 for top, bottom, left, right in boxes]
        assert plan.lam_x.tolist() == [[1.0] * 11, [0.0] * 11]
    np.testing.assert_allclose(plan.lam, [lam, [1 - value for value in lam]], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("owner", [Mixup, ManifoldMixup, CutMix, Extrapolation])
@pytest.mark.parametrize("options", [{}, {"drop_last": True}], ids=str)
def test_lam_per_batch_is_drawn_batch_by_batch(owner, options):
    plan, generator = draw(owner(0.7, lam_per="batch"), 11, 4, 4, **options), begin(11)
    lam = [generator.beta(0.7, 0.7) for _ in range(len(plan))]
    for (start, stop), value in zip(pairwise(plan.bounds), lam, strict=True):
        if owner is CutMix:
            assert len(np.unique(find_values(plan, PasteBoxes)[:, start:stop], axis=1).T) == 1
            continue
        value = 1 + min(value, 1 - value) if owner is Extrapolation else value
        np.testing.assert_allclose(plan.lam[0, start:stop], value, rtol=1e-12)
    assert len(np.unique(lam)) == len(plan)


@pytest.mark.parametrize(("owner", "weights"), [(FeatureInterpolation, 0.7), (FeatureExtrapolation, 1.3)])
def test_feature_steps_keep_the_label(owner, weights):
    plan = draw(owner(0.3), 11, 4)
    np.testing.assert_allclose(plan.lam_x, [[weights] * 11, [1 - weights] * 11], rtol=1e-12)
    assert plan.lam.tolist() == [[1.0] * 11, [0.0] * 11]


@pytest.mark.parametrize("name", ["manifold", "feature_extrapolation_inside"])
def test_layers_are_drawn_evenly_for_each_batch(name):
    names = VICINITIES[name].layers
    drawn = draw(name, 3000, 2).layers
    counts = [drawn.count(layer) for layer in names]
    assert sum(counts) == 1500
    assert min(counts) > 1500 / len(names) * 0.85


@pytest.mark.parametrize("layers", ["auto", ["0", "input"], ("0",)], ids=str)
def test_layers_are_those_that_are_asked_for(layers):
    wanted = {"input", "0", "1"} if layers == "auto" else set(layers)
    assert set(draw(ManifoldMixup(layers=layers), 200, 2).layers) == wanted


@pytest.mark.parametrize("layers", [("input",), ["input"]], ids=str)
def test_manifold_mixup_at_the_input_is_mixup(layers):
    assert_same_plan(draw(ManifoldMixup(0.4, layers=layers), 21, 8), draw("mixup", 21, 8))


@given(st.floats(0, 1), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_boxes_lie_in_the_image_and_are_no_larger_than_asked_for(lam, height, width, seed):
    top, bottom, left, right = draw_boxes(np.random.default_rng(seed), np.array([lam]), height, width)[:, 0]
    assert 0 <= top <= bottom <= height
    assert 0 <= left <= right <= width
    assert (bottom - top) * (right - left) <= height * width * (1 - lam) + 1e-9


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_boxes_at_the_ends_are_empty_or_half_clipped(lam):
    generator = np.random.default_rng(0)
    boxes = draw_boxes(generator, np.full(500, lam), 8, 8)
    heights = boxes[1] - boxes[0]
    assert heights.max() == (0 if lam == 1.0 else 8)
    assert heights.min() == (0 if lam == 1.0 else 4)


def test_boxes_are_clipped_at_every_edge():
    top, bottom, left, right = draw_boxes(np.random.default_rng(0), np.full(999, 0.5), 8, 8)
    ends = {top.min(), left.min(), 8 - bottom.max(), 8 - right.max()}
    assert ends == {0}


@pytest.mark.parametrize(("length", "mean"), [(8, 0.280), (32, 0.310)])
def test_a_uniform_share_pastes_as_much_as_documented(length, mean):
    """The mean over the sides that are cut, each by its share of [0, 1], and over all centres."""
    expected = 0.0
    for cut in range(length):
        within = [
            min(centre - cut // 2 + cut, length) - max(centre - cut // 2, 0) for centre in range(length)
        ]
        expected += ((cut + 1) ** 2 - cut**2) / length**2 * (np.mean(within) / length) ** 2
    generator = np.random.default_rng(0)
    top, bottom, left, right = draw_boxes(generator, generator.uniform(size=200_000), length, length)
    assert np.mean((bottom - top) * (right - left)) / length**2 == pytest.approx(expected, abs=3e-3)
    assert round(expected, 3) == mean


def test_share_of_pixels_is_the_weight_of_the_partner():
    plan = draw("cutmix", 50, 8)
    top, bottom, left, right = find_values(plan, PasteBoxes)
    assert plan.lam[1].tolist() == ((bottom - top) * (right - left) / 30).tolist()


def test_noise_has_one_std_and_no_partners():
    plan = draw(GaussianNoise(np.float32(0.5)), 11, 4)
    std = find_values(plan, AddNoise)
    assert std.tolist() == [0.5] * 11
    assert std.dtype == np.float64
    assert plan.place is plan.lam is plan.lam_x is None


# -- mixtures ----------------------------------------------------------------------------

ALONE = sorted(name for name in VICINITIES if "mixture" not in name)


def draw_mixture(name, parts, **options):
    """Draw a mixture that fits the same data as one of its parts."""
    return Mixture(parts, **options)(np.random.default_rng(0), 21, 8, facts=make_facts(21, get_shape(name)))


@pytest.mark.parametrize("weights", [(1, 0), (np.float64(1e-9), 0.0)], ids=str)
@pytest.mark.parametrize("name", ALONE)
def test_mixture_with_all_weight_on_one_is_that_one(name, weights):
    own = draw(name, 21, 8)
    per = "batch" if own.mixes_hidden else "example"
    plan = draw_mixture(name, (VICINITIES[name], Mixup(2.0)), weights=weights, per=per)
    n_mixed = 1 if own.lam is None else len(own.lam)
    lam_x = own.lam if own.lam_x is None else own.lam_x
    assert np.array_equal(plan.order, own.order)
    if own.lam is None:
        assert np.all(plan.lam[0] == 1)
        assert not plan.lam[1:].any()
    else:
        assert np.array_equal(plan.place[: n_mixed - 1], own.place)
        assert np.array_equal(plan.lam[:n_mixed], own.lam)
        assert not plan.lam[n_mixed:].any()
        assert np.array_equal((plan.lam if plan.lam_x is None else plan.lam_x)[:n_mixed], lam_x)
    assert_same_operations(plan, own)
    assert not own.mixes_hidden or plan.layers == own.layers


@pytest.mark.parametrize("name", ALONE)
def test_mixture_after_plain_training_draws_as_alone(name):
    # ERM draws nothing but the order, so what comes second finds the generator as if it were alone.
    plan, own = draw_mixture(name, (ERM(), VICINITIES[name]), weights=(0, 1)), draw(name, 21, 8)
    assert np.array_equal(plan.index, own.index)
    assert own.lam is None or np.array_equal(plan.lam, own.lam)
    np.testing.assert_equal(draw_noises(plan), draw_noises(own))


@pytest.mark.parametrize("per", ["batch", "example"])
def test_mixture_draws_by_its_weights(per):
    policy = Mixture((ERM(), Mixup(INF)), weights=(1, 3), per=per)
    plan = draw(policy, 4000, 2 if per == "batch" else 100)
    assert abs(np.mean(plan.lam[0] == 0.5) - 0.75) < 0.03
    sizes = {len(np.unique(batch.lam[0])) for batch in plan}
    assert sizes == ({1} if per == "batch" else {2})


@pytest.mark.parametrize("size", [1, 2, 3, 40])
def test_mixture_of_many_is_drawn_evenly(size):
    parts = tuple(GaussianNoise(k + 1) for k in range(size))
    stds = [operation.values for operation in draw(Mixture(parts, per="example"), 4000, 100).operations]
    assert np.all(np.count_nonzero(stds, axis=0) == 1)
    assert np.count_nonzero(stds, axis=1).min() > 4000 / size * 0.6


@pytest.mark.parametrize("name", FILLED_UP)
def test_partners_that_a_part_lacks_have_no_weight(name):
    plan = draw(name, 200, 20)
    plain = plan.lam[0] == 1
    assert 0 < plain.sum() < 200
    assert not plan.lam[1:, plain].any()


class OnePartner(Vicinity):
    """Every other example has a partner."""

    def draw(self, generator, bounds, order, facts):
        n_rows = int(bounds[-1])
        has = np.arange(n_rows) % 2 == 0
        lam = np.where(has, 0.7, 1.0)
        place = np.arange(n_rows)[None, ::-1]
        return Plan(bounds, order, place, np.stack([lam, 1 - lam]), False, absent=~has[None])


@pytest.mark.parametrize("per", ["batch", "example"])
@pytest.mark.parametrize(
    "parts",
    [
        (ERM(), Mixup(1.0)),
        (ERM(), Mixup(1.0, n_mixed=3), Mixup(1.0)),
        (OnePartner(),),
        (OnePartner(), Mixup(1.0), ERM()),
        (Mixture((ERM(), Mixup(1.0)), weights=(1, 0)),),
        (Mixture((ERM(), Mixup(1.0))), Mixup(1.0)),
        (Mixture((Mixture((ERM(), OnePartner())), Mixup(1.0, n_mixed=3))), ERM()),
    ],
)
def test_mixture_says_which_partners_are_none(parts, per):
    facts, bounds, order = make_facts(40), np.array([0, 16, 32, 40]), np.arange(40)
    plan = Mixture(parts, per=per).draw_checked(np.random.default_rng(0), bounds, order, facts)
    none = np.zeros_like(plan.lam[1:], bool) if plan.absent is None else plan.absent
    # A partner of weight 0 by chance has probability 0.
    np.testing.assert_array_equal(none, plan.lam[1:] == 0)


def test_mixture_keeps_the_noise_of_others_off_plain_examples():
    plan = draw("mixture_of_noises", 300, 30)
    stds = [operation.values for operation in plan.operations]
    assert [set(values) for values in stds] == [{0.0, 0.3}, {0.0, 1.0}]
    assert set(np.count_nonzero(stds, axis=0)) == {0, 1}


def redraw(plan):
    """Draw a plan from a vicinity that always has the same one."""

    class Fixed(Vicinity):
        def draw(self, *_):
            return plan

    return Fixed().draw_checked(np.random.default_rng(0), plan.bounds, plan.order, make_facts(9))


def test_operations_on_a_batch_that_is_mixed_inside_are_refused():
    plan = draw(ManifoldMixup(layers=("0",)), 9, 4)
    noise = AddNoise(np.ones(9), NoiseSource(0, plan.bounds))
    with pytest.raises(
        ValueError, match=r"operations of Fixed must leave batches .*; got AddNoise with values"
    ):
        redraw(replace(plan, operations=(noise,)))
    assert redraw(replace(plan, operations=(noise.keep(np.zeros(9)),))).mixes_hidden


@pytest.mark.parametrize("seed", range(4))
def test_mixture_of_rows_refuses_hidden_layers_whatever_it_draws(seed):
    policy = Mixture((ManifoldMixup(layers=("input", "0", "1")), Mixup()), per="example")
    with pytest.raises(ValueError, match=r"per must be 'batch' where hidden layers are mixed; got 'example'"):
        draw(policy, 9, -1, seed)


def test_mixture_of_rows_that_would_mix_hidden_layers_does_not_pass_the_check():
    with pytest.raises(ValueError, match=r"per must be 'batch' where hidden layers are mixed; got 'example'"):
        Mixture((ManifoldMixup(layers=("0",)), Mixup()), per="example").check(make_facts(9))


def test_mixture_of_rows_takes_layers_that_are_the_input():
    policy = Mixture((ManifoldMixup(layers=("input",)), Mixup()), per="example")
    assert not draw(policy, 9, 4).mixes_hidden


# -- what does not fit -------------------------------------------------------------------

NO_LAYERS = r"layers must be named for ManifoldMixup\(.* without a network; got 'auto'. Name them"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (CutMix(), r"vicinity CutMix\(.*\) must be given images .*; got inputs of no known shape. Use Mixup"),
        (ManifoldMixup(), NO_LAYERS),
        (Mixup(partners="kernel"), r"targets must be given for partners='kernel'; got None. Pass the target"),
        (Mixup(partners="same_class"), r"labels must be given for partners='same_class'; got None"),
        (
            Mixup(partners="neighbors"),
            r"inputs must be given for partners='neighbors'; got None",
        ),
        (
            FeatureInterpolation(),
            r"must be given for partners=NeighborPartners\(n_neighbors=10",
        ),
        (
            FeatureExtrapolation(),
            r"must be given for partners=NeighborPartners\(n_neighbors=10",
        ),
        (Mixture((Mixup(), CutMix())), r"vicinity CutMix\(.*\) must be given images"),
        (Mixture((Mixture((ERM(), ManifoldMixup())),)), NO_LAYERS),
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["check", "draw"])
def test_policy_without_what_it_needs_is_refused(policy, message, way):
    with pytest.raises(ValueError, match=message):
        policy.check(RowFacts()) if way == "check" else policy(np.random.default_rng(0), 4, 2)


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (1, 2, 3, 4)], ids=str)
def test_cutmix_refuses_what_is_no_image(shape):
    with pytest.raises(ValueError, match=r"must be given images .*; got inputs of shape \(-1.*Use Mixup"):
        CutMix().check(RowFacts(shape=shape))


@pytest.mark.parametrize("partners", ["dataset", "same_class", "neighbors", "kernel", NEAR], ids=str)
@pytest.mark.parametrize("owner", [Mixup, CutMix, ManifoldMixup, FeatureInterpolation, Extrapolation])
def test_partners_from_outside_the_batch_are_refused_in_a_stream(owner, partners):
    message = r"partners must be 'batch' for a data set or iterator .*; got .*Pass arrays or a map-style"
    with pytest.raises(ValueError, match=message):
        owner(partners=partners).check(RowFacts(is_stream=True, shape=(1, 2, 2), layers=("0",)))


def test_unknown_layer_is_refused():
    with pytest.raises(ValueError, match=r"layers must be among \['0', '1', 'input'\]; got '7'. Use one"):
        ManifoldMixup(layers=("0", "7")).check(RowFacts(layers=("0", "1")))


@pytest.mark.parametrize("name", VICINITIES)
def test_facts_that_hold_everything_pass_every_check(name):
    VICINITIES[name].check(make_facts(9, get_shape(name)))


NAN = float("nan")
ALPHA = [
    ({"alpha": 0}, ValueError, r"alpha must be greater than 0; got 0\. For no mixing"),
    ({"alpha": -1}, ValueError, r"alpha must be greater than 0; got -1\."),
    ({"alpha": NAN}, ValueError, r"alpha must be greater than 0; got nan\."),
    ({"alpha": -INF}, ValueError, r"alpha must be greater than 0; got -inf\."),
    ({"alpha": "1"}, TypeError, r"alpha must be a real number; got '1'\."),
    ({"alpha": None}, TypeError, r"alpha must be a real number; got None\."),
    ({"alpha": True}, TypeError, r"alpha must be a real number; got True\."),
    ({"alpha": [1.0]}, TypeError, r"alpha must be a real number; got \[1\.0\]\."),
    (
        {"lam_per": "batches"},
        ValueError,
        r"lam_per must be one of .*; got 'batches'\. Did you mean",
    ),
    ({"lam_per": 1}, ValueError, r"lam_per must be one of 'example', 'batch'; got 1\."),
]
N_MIXED = [
    ({"n_mixed": 1}, ValueError, r"n_mixed must be at least 2; got 1\."),
    ({"n_mixed": 2.0}, TypeError, r"n_mixed must be an integer; got 2\.0\."),
    ({"n_mixed": True}, TypeError, r"n_mixed must be an integer; got True\."),
]
PARTNERS = [
    ({"partners": "neighbours"}, ValueError, r"partners must be one of .*; got 'neighbours'.*'neighbors'\?"),
    ({"partners": None}, ValueError, r"partners must be one of 'batch', .*; got None\."),
    ({"partners": NeighborPartners}, ValueError, r"partners must be one of .*; got <class"),
    ({"partners": Mixup()}, ValueError, r"partners must be one of .*; got Mixup\("),
]
LAYERS = [
    ({"layers": "conv1"}, ValueError, r"layers must be 'auto' or a tuple of names .*; got 'conv1'\. Name"),
    ({"layers": ()}, ValueError, r"layers must be 'auto' or a tuple of names .*; got \(\)\."),
    ({"layers": ("0", 1)}, ValueError, r"layers must be 'auto' or a tuple of names .*; got \('0', 1\)\."),
    ({"layers": None}, TypeError, r"layers must be 'auto' or a tuple of names .*; got None\."),
    ({"layers": 2}, TypeError, r"layers must be 'auto' or a tuple of names .*; got 2\."),
    ({"layers": {"0"}}, TypeError, r"layers must be 'auto' or a tuple of names .*; got \{'0'\}\."),
]
STEP = [
    ({"lam": 0}, ValueError, r"lam must be .*; got 0\. Use 0\.5"),
    ({"lam": -0.5}, ValueError, r"lam must be .*; got -0\.5\."),
    ({"lam": NAN}, ValueError, r"lam must be .*; got nan\."),
    ({"lam": INF}, ValueError, r"lam must be .*; got inf\."),
    ({"lam": "0.5"}, TypeError, r"lam must be a real number; got '0\.5'\."),
    ({"lam": None}, TypeError, r"lam must be a real number; got None\."),
]
STD = [
    (
        {"std": 0},
        ValueError,
        r"std must be finite and greater than 0; got 0\. For no noise",
    ),
    ({"std": -0.1}, ValueError, r"std must be finite and greater than 0; got -0\.1\."),
    ({"std": NAN}, ValueError, r"std must be finite and greater than 0; got nan\."),
    ({"std": INF}, ValueError, r"std must be finite and greater than 0; got inf\."),
    ({"std": "a"}, TypeError, r"std must be a real number; got 'a'\."),
    ({"std": False}, TypeError, r"std must be a real number; got False\."),
    ({"std": (0.1, 0.2)}, TypeError, r"std must be a real number; got \(0\.1, 0\.2\)\."),
]
TWO = (ERM(), Mixup())
MIXTURE = [
    ({"vicinities": Mixup()}, TypeError, r"vicinities must be a tuple of policies; got Mixup\(.*Give pol"),
    ({"vicinities": (Mixup,)}, TypeError, r"vicinities must be a tuple of policies; got \(<class"),
    ({"vicinities": ("mixup",)}, TypeError, r"vicinities must be a tuple of policies; got \('mixup',\)"),
    ({"vicinities": None}, TypeError, r"vicinities must be a tuple of policies; got None"),
    ({"vicinities": ()}, ValueError, r"vicinities must hold at least one policy; got \(\)"),
    ({"vicinities": TWO, "per": "row"}, ValueError, r"per must be one of 'batch', 'example'; got 'row'"),
    ({"vicinities": TWO, "weights": (1,)}, ValueError, r"weights must hold one .*; got \(1,\) for 2\. Give"),
    ({"vicinities": TWO, "weights": 0.5}, ValueError, r"weights must hold one number per .*; got 0\.5 for 2"),
    ({"vicinities": TWO, "weights": (0, 0)}, ValueError, r"weights must hold a number above 0; got \(0, 0\)"),
    ({"vicinities": TWO, "weights": (-1, 2)}, ValueError, r"weights must be in \[0, 1e\+100\]; got -1\."),
    ({"vicinities": TWO, "weights": (NAN, 1)}, ValueError, r"weights must be in .*; got nan\."),
    ({"vicinities": TWO, "weights": (INF, 1)}, ValueError, r"weights must be in .*; got inf\."),
    ({"vicinities": TWO, "weights": ("1", 1)}, TypeError, r"weights must be a real number; got '1'\."),
]
WEIGHTS = [
    ({"weights": "mutual"}, ValueError, r"weights must be one of 'equal', 'mutual_info'; got 'mutual'"),
    ({"weights": (1, 2)}, ValueError, r"weights must be one of 'equal', 'mutual_info'; got \(1, 2\)"),
    ({"weights": None}, ValueError, r"weights must be one of 'equal', 'mutual_info'; got None"),
]
BAD = [
    *((Mixup, *case) for case in (*ALPHA, *N_MIXED, *PARTNERS)),
    *((CutMix, *case) for case in (*ALPHA, *PARTNERS)),
    *((ManifoldMixup, *case) for case in (*ALPHA, *N_MIXED, *PARTNERS, *LAYERS)),
    *((Extrapolation, *case) for case in (*ALPHA, *PARTNERS)),
    *((FeatureSwap, *case) for case in (*ALPHA, *PARTNERS, *WEIGHTS)),
    *((TableMixup, *case) for case in (*ALPHA, *PARTNERS, *WEIGHTS)),
    *((FeatureInterpolation, *case) for case in (*STEP, *LAYERS, *PARTNERS)),
    *((FeatureExtrapolation, *case) for case in (*STEP, *LAYERS, *PARTNERS)),
    (FeatureInterpolation, {"lam": 1.5}, ValueError, r"lam must be in \(0, 1\]; got 1\.5\."),
    *((GaussianNoise, *case) for case in STD),
    *((Mixture, *case) for case in MIXTURE),
]


@pytest.mark.parametrize(("owner", "options", "error", "message"), BAD)
def test_policy_rejects_bad_options(owner, options, error, message):
    with pytest.raises(error, match=message):
        owner(**options)


@pytest.mark.parametrize("name", VICINITIES)
def test_policy_is_frozen(name):
    with pytest.raises(AttributeError, match="cannot assign to field"):
        VICINITIES[name].alpha = 3
