"""Laws of the partners that are looked up: nearest neighbours and the kernel on the targets."""

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest
from scipy import sparse, stats

from sk_mixup.mixing import (
    BatchPartners,
    ClassPartners,
    DatasetPartners,
    KernelPartners,
    Mixup,
    NeighborPartners,
    RowFacts,
    as_partners,
    draw_kernel_partners,
)
from sk_mixup.mixing import kernel_partners as kernel
from sk_mixup.mixing import row_facts as facts
from tests.helpers.reference import kernel_row, neighbor_distances_row

# Few places for many rows: most distances occur several times, some rows are equal.
CROWDED = hnp.arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 2)), elements=st.integers(0, 2))


def measure(inputs, row, others):
    return [float(np.linalg.norm(np.ravel(inputs[row]) - np.ravel(inputs[other]))) for other in others]


def assert_nearest(inputs, neighbors, row, others, n_neighbors):
    """Assert that the neighbours of a row are the nearest of the others, in turn if they are too few."""
    expected = neighbor_distances_row(inputs, row, others)[:n_neighbors]
    found = list(dict.fromkeys(neighbors[row].tolist()))
    if not expected:
        assert found == [row]
        return
    assert set(found) <= set(others) - {row}
    np.testing.assert_allclose(measure(inputs, row, found), expected, rtol=1e-6, atol=1e-6)


# -- neighbours --------------------------------------------------------------------------


@settings(max_examples=25)
@given(CROWDED, st.integers(1, 12))
def test_neighbors_are_the_nearest_others(inputs, n_neighbors):
    n = len(inputs)
    neighbors = RowFacts(inputs=inputs).find_neighbors(n_neighbors)
    assert neighbors.shape == (n, min(n_neighbors, max(1, n - 1)))
    [assert_nearest(inputs, neighbors, row, range(n), n_neighbors) for row in range(n)]


@settings(max_examples=25)
@given(CROWDED, st.integers(1, 12), st.data())
def test_neighbors_of_the_class_are_the_nearest_others_of_it(inputs, n_neighbors, data):
    n = len(inputs)
    labels = np.array(data.draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n)))
    neighbors = RowFacts(inputs=inputs, labels=labels).find_neighbors(n_neighbors, same_class=True)
    own = [np.flatnonzero(labels == label) for label in labels]
    [assert_nearest(inputs, neighbors, row, own[row].tolist(), n_neighbors) for row in range(n)]


FORMS = {
    "lists": lambda X: X.tolist(),
    "float32": lambda X: X.astype(np.float32),
    "integers": lambda X: X.astype(np.int16),
    "fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2],
    "images": lambda X: X.reshape(len(X), 2, 1, 2),
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "coo": sparse.coo_array,
    "dok": sparse.dok_matrix,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("same_class", [False, True])
def test_neighbors_do_not_depend_on_the_form_of_the_inputs(form, same_class):
    X = np.random.default_rng(0).integers(-50, 50, size=(25, 4)).astype(float)
    X[X < 0] = 0
    labels = np.arange(25) % 2
    own = RowFacts(inputs=FORMS[form](X), labels=labels).find_neighbors(3, same_class=same_class)
    expected = RowFacts(inputs=X, labels=labels).find_neighbors(3, same_class=same_class)
    distances = [[measure(X, row, near) for row, near in enumerate(found)] for found in (own, expected)]
    np.testing.assert_allclose(*distances)


def test_neighbors_of_a_mapped_file_leave_it_alone(tmp_path):
    X = np.memmap(tmp_path / "X", dtype=np.float32, mode="w+", shape=(12, 2))
    X[:] = np.random.default_rng(0).normal(size=X.shape)
    kept = np.memmap(tmp_path / "X", dtype=np.float32, mode="r", shape=(12, 2))
    neighbors = RowFacts(inputs=kept).find_neighbors(2)
    [assert_nearest(np.array(X), neighbors, row, range(12), 2) for row in range(12)]


@pytest.mark.parametrize("chunk", [3, 7])
def test_neighbors_do_not_depend_on_the_chunks(monkeypatch, chunk):
    inputs, labels = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 3
    expected = RowFacts(inputs=inputs, labels=labels).find_neighbors(9, same_class=True)
    monkeypatch.setattr(facts, "CHUNK", chunk)
    found = RowFacts(inputs=inputs, labels=labels).find_neighbors(9, same_class=True)
    assert np.array_equal(found, expected)


def test_neighbors_among_equal_rows_are_others():
    neighbors = RowFacts(inputs=np.zeros((40, 3))).find_neighbors(5)
    assert not np.any(neighbors == np.arange(40)[:, None])
    assert [len(set(row)) for row in neighbors.tolist()] == [5] * 40


def test_neighbors_are_searched_once(monkeypatch):
    calls = []
    find = facts._find_neighbors
    monkeypatch.setattr(facts, "_find_neighbors", lambda *args: calls.append(1) or find(*args))
    policy, known = Mixup(partners=NeighborPartners(2)), RowFacts(inputs=np.arange(9.0)[:, None])
    [policy(np.random.default_rng(seed), 9, 4, facts=known) for seed in range(3)]
    assert len(calls) == 1


@pytest.mark.parametrize("same_class", [False, True])
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"drop_last": True}], ids=str)
def test_partners_are_among_the_neighbors_of_the_row(same_class, options):
    generator = np.random.default_rng(1)
    known = RowFacts(inputs=generator.normal(size=(23, 3)), labels=generator.integers(3, size=23))
    policy = Mixup(partners=NeighborPartners(3, same_class=same_class), n_mixed=4)
    plan = policy(generator, 23, 8, facts=known, **options)
    near = known.find_neighbors(3, same_class=same_class)
    own, *partners = plan.index
    assert np.all([[other in near[row] for row, other in zip(own, p, strict=True)] for p in partners])


@pytest.mark.parametrize("n_neighbors", [4, 6, 9])
@pytest.mark.parametrize("same_class", [False, True])
def test_each_neighbor_is_drawn_as_often(n_neighbors, same_class):
    # Row 0 has 4 others of its class, and 12 in all; of too few others each is as likely.
    inputs, labels = np.arange(13.0)[:, None], np.array([0] * 5 + [1] * 8)
    known = RowFacts(inputs=inputs, labels=labels)
    partners = NeighborPartners(n_neighbors, same_class=same_class)
    generator, order = np.random.default_rng(0), np.arange(13)
    drawn = [partners.draw(generator, np.array([0, 13]), order, known)[0] for _ in range(3000)]
    counts = np.bincount(drawn, minlength=13)
    expected = min(n_neighbors, 4) if same_class else n_neighbors
    assert np.flatnonzero(counts).tolist() == list(range(1, expected + 1))
    assert stats.chisquare(counts[1 : expected + 1]).pvalue > 1e-3


def test_lone_row_of_a_class_is_its_own_neighbor():
    known = RowFacts(inputs=np.arange(4.0)[:, None], labels=["a", "b", "a", "a"])
    assert known.find_neighbors(2, same_class=True).tolist() == [[2, 3], [1, 1], [3, 0], [2, 0]]


# -- the kernel --------------------------------------------------------------------------


def count_pairs(targets, bandwidth, n_copies, seed=0):
    """Draw partners among copies of the targets; return how often each target met each."""
    k = len(targets)
    tiled = np.tile(targets, (n_copies, *(1,) * (np.ndim(targets) - 1)))
    partner = draw_kernel_partners(np.random.default_rng(seed), tiled, bandwidth)
    counts = np.zeros((k, k))
    np.add.at(counts, (np.arange(len(tiled)) % k, partner % k), 1)
    return counts


def assert_follows_the_kernel(counts, targets, bandwidth):
    """Assert that no row of counts is unlikely under the full weights; rare pairs are joined."""
    pvalues = []
    for row, seen in enumerate(counts):
        expected = np.array(kernel_row(targets, row, bandwidth)) * seen.sum()
        common = expected >= 5
        assert not np.any(seen[expected < 1e-9])
        joined = np.append(seen[common], seen[~common].sum()), np.append(expected[common], 1e-9)
        joined[1][-1] += expected[~common].sum()
        if joined[1][-1] < 5:  # too few to ask about; they go with the likeliest
            joined = joined[0][:-1], joined[1][:-1] * seen[common].sum() / expected[common].sum()
        pvalues.append(stats.chisquare(*joined).pvalue if len(joined[0]) > 1 else 1.0)
    assert min(pvalues) > 1e-3 / len(pvalues)


_generator = np.random.default_rng(7)
TARGETS = {
    "evenly": (np.linspace(0, 10, 11), 1.0),
    "normal": (_generator.normal(size=12), 0.3),
    "wide": (_generator.normal(size=12), 5.0),
    "at the edges of cells": (np.arange(8) * 0.5, 1.0),
    "beside the edges of cells": (np.arange(8) * 0.5 - 1e-12, 1.0),
    "in one cell": (np.array([0.0, 0.1, 0.2, 0.45]), 1.0),
    "far": (1e6 + np.linspace(0, 3, 7), 1.0),
    "two clusters": (np.array([0.0, 0.5, 1.0, 50.0, 50.5]), 1.0),
    "lone": (np.array([0.0, 0.1, 8.0, 1e9]), 1.0),
    "integers": (np.array([3, 1, 4, 1, 5, 9]), 2.0),
    "equal": (np.full(4, 3.0), 1.0),
    "column": (_generator.normal(size=(7, 1)), 0.5),
    "two outputs": (_generator.normal(size=(9, 2)), 0.7),
    "unequal outputs": (_generator.normal(size=(9, 2)) * [1, 20], 2.0),
    "four outputs": (_generator.normal(size=(8, 4)), 1.0),
    "one output of two is constant": (np.stack([np.zeros(6), np.arange(6)], axis=1), 1.0),
    "equal rows of outputs": (np.ones((3, 2)), 1.0),
    "tiny": (np.array([0.0, 1.0, 1.0, 2.0]), 1e-150),
    "huge": (np.arange(6.0), 1e300),
    "huge, two outputs": (np.arange(6.0).reshape(3, 2), 1e300),
}


@pytest.mark.parametrize("name", TARGETS)
def test_kernel_partners_follow_the_full_weights(name):
    targets, bandwidth = TARGETS[name]
    assert_follows_the_kernel(count_pairs(targets, bandwidth, 600), targets, bandwidth)


@pytest.fixture
def directly(monkeypatch):
    """Draw all partners from the full weights."""
    sampler = kernel._Sampler
    monkeypatch.setattr(sampler, "draw", lambda self, *args: sampler._draw_directly(self, *args))


@pytest.mark.parametrize("name", ["normal", "two clusters", "four outputs", "equal"])
def test_kernel_partners_drawn_directly_follow_the_full_weights(directly, name):
    targets, bandwidth = TARGETS[name]
    assert_follows_the_kernel(count_pairs(targets, bandwidth, 100), targets, bandwidth)


def test_kernel_partners_drawn_in_both_ways_follow_the_full_weights(monkeypatch):
    n_direct, draw = [], kernel._Sampler._draw_directly

    def draw_noted(self, generator, rows):
        n_direct.append(len(rows))
        return draw(self, generator, rows)

    monkeypatch.setattr(kernel._Sampler, "_draw_directly", draw_noted)
    monkeypatch.setattr(kernel, "CHUNK", 30)  # one proposal at once, as long as all rows are left
    monkeypatch.setattr(kernel, "N_PROPOSALS", 2)
    targets = np.random.default_rng(3).normal(size=(5, 3))
    counts = sum(count_pairs(targets, 1.0, 6, seed) for seed in range(100))
    assert_follows_the_kernel(counts, targets, 1.0)
    assert 100 < sum(n_direct) < 2900


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_kernel_partners_of_any_chunks_follow_the_full_weights(monkeypatch, chunk):
    monkeypatch.setattr(kernel, "CHUNK", chunk)
    targets, bandwidth = TARGETS["normal"]
    assert_follows_the_kernel(count_pairs(targets, bandwidth, 40), targets, bandwidth)


@pytest.mark.parametrize("n_cells", [1, 300])
def test_direct_draws_do_not_depend_on_the_parts(monkeypatch, directly, n_cells):
    targets = np.random.default_rng(0).normal(size=(50, 2))
    expected = draw_kernel_partners(np.random.default_rng(1), targets, 0.5)
    monkeypatch.setattr(kernel, "DIRECT_CELLS", n_cells)
    assert np.array_equal(draw_kernel_partners(np.random.default_rng(1), targets, 0.5), expected)


@pytest.mark.parametrize("low", [-1e3, -1e17])
def test_kernel_partners_follow_the_full_weights_beside_a_row_far_below(low):
    targets = np.array([low, 0.0, 16.0, 32.0, 48.0])
    assert_follows_the_kernel(count_pairs(targets, 16.0, 600), targets, 16.0)


@pytest.mark.parametrize("bandwidth", [1e-150, 1e-200, 5e-324])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_partners_of_a_tiny_bandwidth_have_equal_targets(bandwidth, n_outputs):
    targets = np.repeat(np.random.default_rng(0).permutation(8) - 3.0, 2)[:, None].repeat(n_outputs, axis=1)
    partner = draw_kernel_partners(np.random.default_rng(1), targets, bandwidth)
    assert np.array_equal(targets[partner], targets)
    assert np.any(partner != np.arange(16))


@pytest.mark.parametrize("n_samples", [1, 2])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_kernel_takes_a_row_or_two(n_samples, n_outputs):
    partner = draw_kernel_partners(np.random.default_rng(0), np.zeros((n_samples, n_outputs)), 1.0)
    assert partner.dtype == np.int64
    assert set(partner) <= set(range(n_samples))


@settings(max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(1e-3, 1e3), st.integers(0, 9))
def test_kernel_partners_are_never_out_of_sight(targets, bandwidth, seed):
    targets = np.array(targets)
    partner = draw_kernel_partners(np.random.default_rng(seed), targets, bandwidth)
    assert np.all(np.abs(targets[partner] - targets) <= 10 * bandwidth)


def test_kernel_writes_to_no_target():
    targets = np.random.default_rng(0).normal(size=20)
    targets.setflags(write=False)
    draw_kernel_partners(np.random.default_rng(1), targets, 1.0)


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0), (1e4, 0), (1, 1e3), (-2, 5)])
def test_kernel_policy_does_not_depend_on_the_unit_of_the_targets(scale, shift):
    targets = np.random.default_rng(0).normal(size=200)
    plans = [
        Mixup(partners=KernelPartners(0.1))(np.random.default_rng(1), 200, 32, facts=RowFacts(targets=t))
        for t in (targets, scale * targets + shift)
    ]
    gaps = [np.abs(np.diff(targets[plan.index], axis=0)).mean() for plan in plans]
    assert gaps[1] == pytest.approx(gaps[0], rel=0.25)
    assert gaps[0] < 0.2


def test_kernel_policy_measures_the_bandwidth_in_deviations():
    targets = np.random.default_rng(0).normal(size=(400, 2)) * [3, 4]
    spread = float(np.sqrt(targets.var(axis=0).mean()))
    order = np.random.default_rng(5).permutation(400)
    drawn = KernelPartners(0.2).draw(
        np.random.default_rng(1), np.array([0, 400]), order, RowFacts(targets=targets)
    )
    expected = draw_kernel_partners(np.random.default_rng(1), targets[order], 0.2 * spread)
    assert np.array_equal(drawn, expected)


def test_kernel_policy_takes_equal_targets():
    plan = Mixup(partners="kernel")(np.random.default_rng(0), 9, 4, facts=RowFacts(targets=np.full(9, 7)))
    assert len(set(plan.index[1])) > 1


def measure_peak(n_samples, n_outputs):
    targets = np.random.default_rng(0).normal(size=(n_samples, n_outputs))
    tracemalloc.start()
    try:
        draw_kernel_partners(np.random.default_rng(1), targets, 0.5)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_memory_of_kernel_partners_grows_no_faster_than_the_rows(n_outputs):
    assert measure_peak(16_000, n_outputs) < 6 * measure_peak(4000, n_outputs)


# -- policies ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("batch", BatchPartners()),
        ("dataset", DatasetPartners()),
        ("same_class", ClassPartners()),
        ("neighbors", NeighborPartners()),
        ("kernel", KernelPartners()),
    ],
)
def test_name_stands_for_its_policy(name, policy):
    assert as_partners(name) == as_partners(policy) == policy
    assert str(policy) == repr(name)
    known = RowFacts(labels=np.arange(9) % 2, targets=np.arange(9), inputs=np.arange(9.0)[:, None])
    plans = [Mixup(partners=p)(np.random.default_rng(0), 9, 4, facts=known) for p in (name, policy)]
    assert np.array_equal(plans[0].index, plans[1].index)


@pytest.mark.parametrize("policy", [NeighborPartners(3), KernelPartners(0.5)], ids=str)
def test_str_of_other_options_is_the_call(policy):
    assert str(policy) == repr(policy)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("owner", "options", "error", "message"),
    [
        (
            NeighborPartners,
            {"n_neighbors": 0},
            ValueError,
            r"n_neighbors must be at least 1; got 0\. Use",
        ),
        (NeighborPartners, {"n_neighbors": -3}, ValueError, r"n_neighbors must be at least 1; got -3\."),
        (NeighborPartners, {"n_neighbors": 2.0}, TypeError, r"n_neighbors must be an integer; got 2\.0\."),
        (NeighborPartners, {"n_neighbors": NAN}, TypeError, r"n_neighbors must be an integer; got nan\."),
        (NeighborPartners, {"n_neighbors": "5"}, TypeError, r"n_neighbors must be an integer; got '5'\."),
        (NeighborPartners, {"n_neighbors": True}, TypeError, r"n_neighbors must be an integer; got True\."),
        (
            NeighborPartners,
            {"same_class": 1},
            TypeError,
            r"same_class must be True or False; got 1\. Use",
        ),
        (NeighborPartners, {"same_class": None}, TypeError, r"same_class must be True or False; got None\."),
        (
            KernelPartners,
            {"bandwidth": 0},
            ValueError,
            r"bandwidth must be finite and gr.*; got 0\.",
        ),
        (
            KernelPartners,
            {"bandwidth": -1},
            ValueError,
            r"bandwidth must be finite and .*; got -1\. Give",
        ),
        (KernelPartners, {"bandwidth": NAN}, ValueError, r"bandwidth must be finite and .*; got nan\."),
        (KernelPartners, {"bandwidth": INF}, ValueError, r"bandwidth must be finite and .*; got inf\."),
        (KernelPartners, {"bandwidth": "1"}, TypeError, r"bandwidth must be a real number; got '1'\."),
        (KernelPartners, {"bandwidth": None}, TypeError, r"bandwidth must be a real number; got None\."),
        (KernelPartners, {"bandwidth": 1j}, TypeError, r"bandwidth must be a real number; got 1j\."),
    ],
)
def test_partners_reject_bad_options(owner, options, error, message):
    with pytest.raises(error, match=message):
        owner(**options)


@pytest.mark.parametrize("n_neighbors", [np.int64(3), np.uint8(3)])
def test_numbers_of_numpy_are_taken(n_neighbors):
    assert RowFacts(inputs=np.arange(9.0)[:, None]).find_neighbors(n_neighbors).shape == (9, 3)
    assert NeighborPartners(n_neighbors) == NeighborPartners(3)


def test_reason_for_missing_targets_is_that_of_the_source():
    def refuse():
        raise ValueError("no such targets here")

    with pytest.raises(ValueError, match="no such targets here"):
        KernelPartners().check(RowFacts(targets=refuse))


def test_source_is_asked_once_and_only_if_needed():
    calls = []
    known = RowFacts(labels=lambda: calls.append("labels") or [0, 1, 0, 1], targets=lambda: calls.append("y"))
    policy = Mixup(partners="same_class")
    policy.check(known)
    [policy(np.random.default_rng(seed), 4, 2, facts=known) for seed in range(2)]
    assert calls == ["labels"]
