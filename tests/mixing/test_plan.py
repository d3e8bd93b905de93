"""Laws of the plans that ERM and mixup draw."""

from itertools import pairwise, product

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import stats

from sk_mixup.mixing import ERM, Mixup, RowFacts, batch_bounds, draw_class_partners, draw_lam

SIZES = [(1, 4), (2, 1), (5, 2), (9, 4), (33, 16), (40, 8), (40, -1), (7, 100)]
POLICIES = [Mixup(partners=p, n_mixed=k) for p in ("batch", "dataset", "same_class") for k in (2, 3)]
# Every third of all combinations holds every value of each.
SAMPLED = list(product([ERM(), *POLICIES], [False, True], SIZES))[::3]


def draw(policy, n_samples, batch_size, seed=0, **options):
    labels = np.arange(n_samples) % 3
    return policy(
        np.random.default_rng(seed), n_samples, batch_size, facts=RowFacts(labels=labels), **options
    )


@pytest.mark.parametrize(("n_samples", "batch_size"), SIZES)
@pytest.mark.parametrize("policy", [ERM(), *POLICIES], ids=str)
def test_plan_visits_every_row_once(policy, n_samples, batch_size):
    plan = draw(policy, n_samples, batch_size)
    assert sorted(plan.index[0]) == list(range(n_samples))
    own = [batch.rows[:size] for batch, size in zip(plan, np.diff(plan.bounds), strict=True)]
    assert np.array_equal(np.concatenate(own), plan.index[0])


@given(st.integers(1, 300), st.integers(1, 50))
def test_batch_bounds_fill_every_batch(n_samples, batch_size):
    sizes = np.diff(batch_bounds(n_samples, batch_size))
    assert sizes.sum() == n_samples
    assert set(sizes[:-1]) <= {batch_size}
    assert sizes[-1] <= batch_size + (batch_size > 1)
    assert sizes[-1] > 1 or n_samples == 1 or batch_size == 1


@given(st.integers(1, 300), st.integers(1, 50))
def test_batch_bounds_drop_last_leaves_full_batches(n_samples, batch_size):
    sizes = np.diff(batch_bounds(n_samples, batch_size, drop_last=True))
    assert set(sizes) == {min(batch_size, n_samples)}


@pytest.mark.parametrize(("n_samples", "batch_size"), SIZES)
@pytest.mark.parametrize("n_mixed", [2, 3])
def test_batch_partners_permute_the_batch(n_samples, batch_size, n_mixed):
    plan = draw(Mixup(n_mixed=n_mixed), n_samples, batch_size)
    for batch in plan:
        places = [sorted(places) for places in batch.position]
        assert places == [list(range(len(batch.rows)))] * (n_mixed - 1)


@pytest.mark.parametrize("partners", ["dataset", "same_class"])
def test_other_partners_permute_the_training_set(partners):
    plan = draw(Mixup(partners=partners, n_mixed=3), 31, 8)
    assert [sorted(row) for row in plan.index] == [list(range(31))] * 3


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 5))
def test_class_partners_have_the_class_of_the_row(labels, seed):
    labels = np.array(labels)
    partner = draw_class_partners(np.random.default_rng(seed), labels)
    assert np.array_equal(labels[partner], labels)
    assert sorted(partner) == list(range(len(labels)))


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_batches_say_what_the_plan_says(policy):
    plan = draw(policy, 33, 8)
    own = [batch.rows[: batch.lam.shape[1]] for batch in plan]
    partners = [batch.rows[batch.position] for batch in plan]
    assert np.array_equal(np.concatenate(own), plan.index[0])
    assert np.array_equal(np.concatenate(partners, axis=1), plan.index[1:])
    assert np.array_equal(np.concatenate([batch.lam for batch in plan], axis=1), plan.lam)


@pytest.mark.parametrize(("policy", "drop_last", "size"), SAMPLED, ids=str)
def test_index_is_the_rows_at_the_places_of_the_order(policy, drop_last, size):
    plan = draw(policy, *size, drop_last=drop_last)
    n_planned = plan.bounds[-1]
    assert np.array_equal(plan.index[0], plan.order[:n_planned])
    assert len(plan.index) == getattr(policy, "n_mixed", 1)
    for k, partner in enumerate(() if plan.place is None else plan.place, start=1):
        assert plan.index[k].tolist() == [plan.order[place] for place in partner]


@pytest.mark.parametrize(("policy", "drop_last", "size"), SAMPLED, ids=str)
def test_order_keeps_the_rows_that_are_left_out(policy, drop_last, size):
    n_samples, batch_size = size
    plan = draw(policy, n_samples, batch_size, drop_last=drop_last)
    assert sorted(plan.order) == list(range(n_samples))
    assert np.array_equal(plan.order, draw(policy, n_samples, batch_size).order)
    size = n_samples if batch_size == -1 else min(batch_size, n_samples)
    assert plan.bounds[-1] == (n_samples - n_samples % size if drop_last else n_samples)


@pytest.mark.parametrize(("policy", "drop_last", "size"), [c for c in SAMPLED if c[0] != ERM()], ids=str)
def test_place_stays_within_the_epoch_and_within_the_batch_if_said_so(policy, drop_last, size):
    n_samples, batch_size = size
    plan = draw(policy, n_samples, batch_size, drop_last=drop_last)
    assert plan.within_batch == (policy.partners == "batch")
    assert plan.place.min() >= 0
    assert plan.place.max() < n_samples
    batch_of = np.searchsorted(plan.bounds, np.arange(n_samples), side="right")
    if plan.within_batch:
        assert np.array_equal(
            batch_of[plan.place], np.broadcast_to(batch_of[: plan.bounds[-1]], plan.place.shape)
        )


CHUNKED = [*POLICIES, Mixup(lam_per="batch"), Mixup(alpha=0.1), Mixup(alpha=np.inf)]


@pytest.mark.parametrize(("policy", "size", "chunk"), list(product(CHUNKED, SIZES, [1, 3, 32]))[::5], ids=str)
def test_plan_does_not_depend_on_the_chunks_it_is_drawn_in(monkeypatch, policy, size, chunk):
    plan = draw(policy, *size)
    monkeypatch.setattr("sk_mixup.mixing.permutation_partners.CHUNK", chunk)
    monkeypatch.setattr("sk_mixup.mixing.mixup.CHUNK", chunk)
    same = draw(policy, *size)
    assert np.array_equal(same.index, plan.index)
    assert np.array_equal(same.lam, plan.lam)


@settings(max_examples=50)
@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 64), st.booleans())
def test_batch_partners_of_any_chunks_permute_each_batch(n_samples, batch_size, chunk, drop_last):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sk_mixup.mixing.permutation_partners.CHUNK", chunk)
        plan = draw(Mixup(), n_samples, batch_size, drop_last=drop_last)
    for start, stop in pairwise(plan.bounds):
        assert sorted(plan.place[0, start:stop]) == list(range(start, stop))


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_order_does_not_depend_on_the_policy(policy):
    assert np.array_equal(draw(policy, 40, 8).index[0], draw(ERM(), 40, 8).index[0])


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_plan_depends_on_the_seed_alone(policy):
    first, again, other = draw(policy, 40, 8, 1), draw(policy, 40, 8, 1), draw(policy, 40, 8, 2)
    assert np.array_equal(first.index, again.index)
    assert np.array_equal(first.lam, again.lam)
    assert not np.array_equal(first.index, other.index)


def test_unshuffled_plan_keeps_the_order():
    plan = draw(Mixup(), 10, 4, shuffle=False)
    assert plan.index[0].tolist() == list(range(10))
    assert plan.index[1].tolist() != list(range(10))


@pytest.mark.parametrize("n_mixed", [2, 3, 7])
@pytest.mark.parametrize("alpha", [0.001, 0.1, 1.0, 32.0, np.inf])
def test_weights_add_up_to_one(alpha, n_mixed):
    lam = draw_lam(np.random.default_rng(0), alpha, 500, n_mixed)
    assert lam.shape == (n_mixed, 500)
    assert np.all((lam >= 0) & (lam <= 1))
    np.testing.assert_allclose(lam.sum(axis=0), 1.0, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 1, 2.0, 8.0, 32.0])
def test_lam_passes_kolmogorov_smirnov(alpha):
    lam = draw_lam(np.random.default_rng(1), alpha, 20_000)[0]
    assert stats.kstest(lam, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.1, 0.2, 0.5, 1.0, 4.0, 32.0])
def test_lam_follows_beta_down_to_tiny_alpha(alpha):
    # Below 0.5 many draws round to 0 or 1 exactly, as the true law says they must, so the
    # distance is taken between the ends, where both distribution functions are continuous.
    # The bound is that of Dvoretzky, Kiefer and Wolfowitz (Massart 1990) at level 1e-3.
    n = 50_000
    lam = np.sort(draw_lam(np.random.default_rng(2), alpha, n)[0])
    points = np.concatenate([np.logspace(-290, -0.31, 400), 1 - np.logspace(-0.31, -14, 200)])
    empirical = np.searchsorted(lam, points, side="right") / n
    distance = np.abs(empirical - stats.beta(alpha, alpha).cdf(points)).max()
    assert distance < np.sqrt(np.log(2 / 1e-3) / (2 * n))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("n_mixed", [3, 4])
def test_weights_follow_dirichlet(alpha, n_mixed):
    lam = draw_lam(np.random.default_rng(3), alpha, 20_000, n_mixed)
    marginal = stats.beta(alpha, (n_mixed - 1) * alpha).cdf
    assert min(stats.kstest(row, marginal).pvalue for row in lam) > 1e-3


@pytest.mark.parametrize("n_mixed", [2, 3, 7])
@pytest.mark.parametrize("alpha", [1e10, 1e307, np.finfo(float).max])
def test_huge_alpha_is_almost_the_plain_average(alpha, n_mixed):
    lam = draw_lam(np.random.default_rng(0), alpha, 500, n_mixed)
    np.testing.assert_allclose(lam, 1 / n_mixed, rtol=1e-3)


def test_infinite_alpha_is_the_plain_average():
    assert np.all(draw(Mixup(alpha=np.inf, n_mixed=4), 12, 5).lam == 0.25)


def test_lam_per_batch_is_one_weight_a_batch():
    plan = draw(Mixup(lam_per="batch"), 35, 8)
    per_batch = [np.unique(batch.lam[0]) for batch in plan]
    assert [len(values) for values in per_batch] == [1] * len(plan)
    assert len(np.unique(per_batch)) == len(plan)


def test_lam_per_example_differs_within_a_batch():
    assert len(np.unique(draw(Mixup(), 35, 35).lam[0])) == 35


@settings(max_examples=20)
@given(st.integers(2, 60), st.integers(1, 20))
def test_weights_and_partners_fit_any_size(n_samples, batch_size):
    plan = draw(Mixup(n_mixed=3), n_samples, batch_size)
    assert plan.index.shape == plan.lam.shape == (3, n_samples)
    assert plan.place.shape == (2, n_samples)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": 0}, ValueError, r"alpha must be greater than 0; got 0\. For no mixing use the policy ERM"),
        ({"alpha": float("nan")}, ValueError, r"alpha must be greater than 0; got nan"),
        ({"alpha": "1"}, TypeError, r"alpha must be a real number; got '1'"),
        ({"alpha": True}, TypeError, r"alpha must be a real number; got True"),
        ({"lam_per": "exmaple"}, ValueError, r"lam_per must be one of .*Did you mean 'example'\?"),
        ({"n_mixed": 1}, ValueError, r"n_mixed must be at least 2; got 1"),
        ({"n_mixed": 2.5}, TypeError, r"n_mixed must be an integer; got 2\.5"),
        ({"partners": "class"}, ValueError, r"partners must be one of 'batch', 'dataset', 'same_class'"),
    ],
)
def test_mixup_rejects_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        Mixup(**options)


def test_same_class_needs_labels():
    with pytest.raises(ValueError, match="labels must be given for partners='same_class'"):
        Mixup(partners="same_class")(np.random.default_rng(0), 4, 2)
