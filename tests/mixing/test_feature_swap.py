"""FeatureSwap and TableMixup: their plans drawn row by row, and what they find out about columns."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, OneHotEncoder, StandardScaler
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup.mixing import FeatureSwap, Mixup, RowFacts, SwapFeatures, TableMixup, swap_features
from tests.helpers.architectures import assert_same_nets
from tests.helpers.datasets import Pairs, Stream, make_tensor_dataset
from tests.helpers.nets import QUICK, Sum
from tests.helpers.reference import swap_row
from tests.helpers.sampling import each_pair
from tests.helpers.vicinities import INF, Noted

N = 30
OWNERS = [FeatureSwap, TableMixup]
# Columns 0 and 4 are one category, column 2 is another; the others are numbers.
NAMED = ((0, 4), 2)
FEATURES = [[0, 4], [2], [1], [3], [5]]


def make_table(seed: int = 0, n: int = N) -> np.ndarray:
    """Return a table whose columns 0 and 4 are one-hot, column 2 holds codes from 0 to 3."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(n, 6)).astype(np.float32)
    X[:, 0] = generator.integers(2, size=n)
    X[:, 2], X[:, 4] = generator.integers(4, size=n), 1 - X[:, 0]
    return X


def draw(policy: Any, n: int = 11, batch_size: int = 4, seed: int = 4, **facts: Any) -> Any:
    facts = {"shape": (6,)} | facts
    return policy(np.random.default_rng(seed), n, batch_size, facts=RowFacts(**facts))


# -- the plan, row by row ----------------------------------------------------------------


def draw_slowly(policy: Any, bounds: Any, generator: np.random.Generator, weights: Any) -> Any:
    """Return marks, target weights and input weights, drawn one number at a time."""
    n, per_batch = int(bounds[-1]), policy.lam_per == "batch"
    n_draws = len(bounds) - 1 if per_batch else n
    lams = [
        0.5 if policy.alpha == INF else generator.beta(policy.alpha, policy.alpha) for _ in range(n_draws)
    ]
    n_swapped = 5 if isinstance(policy, FeatureSwap) else 2
    drawn = []
    for lam in lams:
        taken = [generator.random() >= lam for _ in range(n_swapped)]
        marks, own = [0] * 6, 0.0
        for k, columns in enumerate(FEATURES):
            own += weights[k] * (lam if k >= n_swapped else not taken[k])
            for column in columns:
                marks[column] = 0 if k >= n_swapped else 1 + taken[k]
        drawn.append((marks, own / sum(weights), 1.0 if n_swapped == 5 else lam))
    repeats = np.diff(bounds) if per_batch else np.ones(n, dtype=int)
    return [row for row, repeat in zip(drawn, repeats, strict=True) for _ in range(repeat)]


@pytest.mark.parametrize("lam_per", ["example", "batch"])
@pytest.mark.parametrize("alpha", [0.3, 2.0, INF])
@pytest.mark.parametrize("owner", OWNERS)
def test_features_are_drawn_row_by_row(owner: Any, alpha: float, lam_per: str) -> None:
    policy = owner(alpha, lam_per, NAMED)
    plan, generator = draw(policy), np.random.default_rng(4)
    generator.permutation(11)
    rows = draw_slowly(policy, plan.bounds, generator, [1.0] * 5)
    [operation] = plan.operations
    assert operation.values.T.tolist() == [marks for marks, _, _ in rows]
    np.testing.assert_allclose(plan.lam[0], [own for _, own, _ in rows], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(plan.lam_x[0], [lam for _, _, lam in rows], rtol=1e-12)
    np.testing.assert_allclose([plan.lam.sum(axis=0), plan.lam_x.sum(axis=0)], 1.0, rtol=1e-12)


def test_long_tables_are_drawn_row_by_row_too() -> None:
    policy = FeatureSwap(0.5, categorical_features=NAMED)
    plan, generator = draw(policy, 10_000, 100), np.random.default_rng(4)
    generator.permutation(10_000)
    rows = draw_slowly(policy, plan.bounds, generator, [1.0] * 5)
    assert plan.operations[0].values.T.tolist() == [marks for marks, _, _ in rows]


@pytest.mark.parametrize("is_class", [True, False], ids=["classes", "values"])
@pytest.mark.parametrize("owner", OWNERS)
def test_information_weighs_features(owner: Any, is_class: bool) -> None:
    X, generator = make_table(), np.random.default_rng(1)
    y = X[:, 2] * X[:, 0] + X[:, 1] + 0.1 * generator.normal(size=N)
    y = np.digitize(y, [0.0, 1.0]) if is_class else y
    measure = mutual_info_classif if is_class else mutual_info_regression
    values = [X[:, [0]], X[:, [2]], X[:, [1]], X[:, [3]], X[:, [5]]]  # column 4 says what column 0 says
    weights = [
        measure(value, y, discrete_features=k < 2, random_state=0)[0] for k, value in enumerate(values)
    ]
    assert min(weights[:3]) > 0
    policy = owner(0.7, categorical_features=NAMED, weights="mutual_info")
    plan, again = (
        draw(policy, N, inputs=X, **{"labels" if is_class else "targets": y}),
        np.random.default_rng(4),
    )
    again.permutation(N)
    rows = draw_slowly(policy, plan.bounds, again, weights)
    np.testing.assert_allclose(plan.lam[0], [own for _, own, _ in rows], rtol=1e-9, atol=1e-12)


def test_information_on_several_targets_is_their_mean() -> None:
    X, y = make_table(), make_table(1)[:, [1, 3]]
    own = [
        [mutual_info_regression(X[:, [j]], column, random_state=0)[0] for j in range(6)]
        for column in (y + X[:, [3, 5]]).T
    ]
    facts = RowFacts(inputs=X, targets=y + X[:, [3, 5]])
    np.testing.assert_allclose(facts.measure_information(()), np.mean(own, axis=0))


@pytest.mark.parametrize(
    ("X", "y"),
    [
        (make_table(n=3), np.arange(3)),
        (make_table(), np.arange(N)),
        (np.ones((N, 2)), np.arange(N) % 2),
    ],
    ids=["few", "each a class of its own", "constant"],
)
def test_features_weigh_alike_where_nothing_can_be_said(X: Any, y: Any) -> None:
    n_columns = X.shape[1]
    information = RowFacts(inputs=X, labels=y).measure_information(())
    assert information.tolist() == [1.0] * n_columns


def test_categories_that_never_recur_say_nothing_of_real_targets() -> None:
    X = np.column_stack([np.arange(N), np.linspace(0, 1, N)])
    information = RowFacts(inputs=X, targets=np.linspace(0, 1, N)).measure_information((0,))
    assert information[0] == 0
    assert information[1] > 1


def test_information_of_many_rows_is_that_of_a_part() -> None:
    X, y = make_table(n=20_000), np.arange(20_000) % 3
    X[:, 1] = y
    part = np.linspace(0, 19_999, 5000).astype(int)
    found, expected = (
        RowFacts(inputs=X[rows], labels=y[rows]).measure_information(()) for rows in (slice(None), part)
    )
    assert found.tolist() == expected.tolist()


# -- laws --------------------------------------------------------------------------------


@pytest.mark.parametrize("lam_per", ["example", "batch"])
@pytest.mark.parametrize("partners", ["batch", "dataset"])
@pytest.mark.parametrize("alpha", [0.2, 1.0, INF])
def test_table_mixup_of_numbers_is_mixup(alpha: float, lam_per: Any, partners: Any) -> None:
    plan = draw(TableMixup(alpha, lam_per, (), partners=partners))
    expected = draw(Mixup(alpha, lam_per, partners=partners))
    assert np.array_equal(plan.index, expected.index)
    assert np.array_equal(plan.lam, expected.lam)
    assert plan.lam_x is None
    assert plan.operations == ()


@pytest.mark.parametrize("weights", ["equal", "mutual_info"])
def test_table_mixup_of_categories_is_a_swap(weights: Any) -> None:
    facts = {"inputs": make_table(n=11), "labels": np.arange(11) % 2}
    plans = [
        draw(owner(0.5, "example", (0, 1, 2, (3, 4), 5), weights), **facts)
        for owner in (TableMixup, FeatureSwap)
    ]
    assert np.array_equal(*(plan.operations[0].values for plan in plans))
    assert np.array_equal(*(plan.lam for plan in plans))
    assert np.array_equal(*(plan.index for plan in plans))


@pytest.mark.parametrize("weights", ["equal", "mutual_info"])
@pytest.mark.parametrize("owner", OWNERS)
def test_ends_are_exact(owner: Any, weights: Any) -> None:
    # Draws of Beta(1e-4, 1e-4) are 0 or 1, up to one in a thousand.
    X = make_table(n=200)
    plan = draw(owner(1e-4, "example", NAMED, weights), 200, inputs=X, labels=np.arange(200) % 3)
    [operation] = plan.operations
    is_own = (operation.values != 2).all(axis=0) & (
        (plan.lam_x[0] == 1) | (operation.values == 1).all(axis=0)
    )
    is_partner = (operation.values != 1).all(axis=0) & (
        (plan.lam_x[0] == 0) | (operation.values == 2).all(axis=0)
    )
    assert min(is_own.sum(), is_partner.sum()) > 50
    assert set(plan.lam[0, is_own]) == {1.0}
    assert set(plan.lam[0, is_partner]) == {0.0}
    assert (is_own | is_partner).mean() > 0.95


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5), unique=True), st.integers(0, 99), st.sampled_from(OWNERS))
def test_categories_stay_categories(columns: list[int], seed: int, owner: Any) -> None:
    rows = np.random.default_rng(seed).integers(-9, 9, size=(8, 6)) + np.float32(0.1)
    policy = owner(1.0, categorical_features=tuple(columns))
    plan = draw(policy, 8, 8, seed)
    index = plan.index
    mixed = torch.as_tensor(rows)[index[0]].lerp(torch.as_tensor(rows)[index[1]], 0.5)
    for i in range(8):
        marks = plan.operations[0].values[:, i] if plan.operations else np.zeros(6)
        made = swap_row(mixed[i].tolist(), rows[index[0, i]], rows[index[1, i]], marks)
        assert all(made[j] in rows[:, j] for j in columns)
        assert set(marks[columns]) <= {1, 2}


@pytest.mark.parametrize("owner", OWNERS)
def test_net_is_trained_on_existing_codes(owner: Any) -> None:
    seen: list[np.ndarray] = []

    class Looking(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.detach().numpy().copy())
            return super().forward(x)

    X = make_table()
    X[:, 2] = X[:, 2] * 0.37 + 0.1  # no sum of two is exact
    sizes = {"module__in_features": 6, "module__out_features": 3}
    policy = owner(1.0, categorical_features=NAMED)
    MixupClassifier(Looking, vicinity=policy, **sizes, **QUICK).fit(X, np.arange(N) % 3)
    rows = np.concatenate(seen)
    assert set(rows[:, 2]) == set(X[:, 2])
    assert {tuple(row) for row in rows[:, [0, 4]]} == {(0.0, 1.0), (1.0, 0.0)}
    assert len({tuple(row) for row in rows}) > 2 * N


# -- columns that are found --------------------------------------------------------------


def list_features(X: Any, categorical: Any = "auto", **facts: Any) -> tuple[list[list[int]], int]:
    columns = RowFacts(inputs=X, **facts).find_columns(categorical)
    groups = [np.flatnonzero(columns.feature == k).tolist() for k in range(columns.n_features)]
    assert sorted(j for group in groups for j in group) == list(range(X.shape[1]))
    return groups, columns.n_categories


def encode(options: dict[str, Any], scaled: bool, **kwargs: Any) -> tuple[Any, list[list[int]]]:
    """Return one-hot columns between numbers, and which belong together."""
    generator = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "a": generator.choice(list("xyz"), 80),
            "b": generator.choice(list("uvwt"), 80),
            "c": generator.choice(list("no"), 80),
            "n": generator.normal(size=80),
            "d": generator.choice(list("pqr"), 80),
        }
    )
    encoder = OneHotEncoder(sparse_output=False, **options)
    made = make_column_transformer((encoder, list("abc")), ("passthrough", ["n"]), (encoder, ["d"]))
    X = made.fit_transform(frame)
    names = [name.split("__")[1].split("_")[0] for name in made.get_feature_names_out()]
    groups = [[j for j, name in enumerate(names) if name == letter] for letter in "abcd"]
    return (StandardScaler().fit_transform(X) if scaled else X), groups


@each_pair(
    {
        "drop": [None, "if_binary", "first"],
        "scaled": [True, False],
        "form": [np.asarray, sparse.csr_matrix, sparse.csc_array],
    }
)
def test_one_hot_columns_are_found(drop: Any, scaled: bool, form: Any) -> None:
    X, groups = encode({"drop": drop}, scaled)
    (number,) = set(range(X.shape[1])) - {j for group in groups for j in group}
    assert list_features(form(X)) == ([*groups, [number]], 4)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_columns_of_two_values_are_found_by_each_form(form: Any) -> None:
    X = np.array(
        [[0, -1, 2, 0, 5, 1, 0.5], [1, 0, 3, 0, 5, -1, 0], [0, -1, 2, 0, 5, 0, 0], [1, 0, 3, 0, 5, 1, 0]]
    )
    # 0 and 1 are high together; 2 is as 1; constants and the last are in no row's way; 5 has three values.
    assert list_features(form(X)) == ([[0], [1], [2, 3, 4], [6], [5]], 4)


def test_complete_category_ends_where_the_next_begins() -> None:
    codes = np.array([[0, 0], [1, 0], [2, 1], [0, 1], [1, 0]])
    X = OneHotEncoder(sparse_output=False).fit_transform(codes)
    assert list_features(X) == ([[0, 1, 2], [3, 4]], 2)


def test_dtype_of_a_frame_names_categories() -> None:
    X = make_table()
    is_category = np.array([False, False, True, False, False, False])
    groups, n_categories = list_features(X, is_category=is_category)
    assert (groups, n_categories) == ([[2], [0], [4], [1], [3], [5]], 3)


NAMES = ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize(
    "given",
    [
        NAMED,
        [[0, 4], 2],
        [np.array([0, 4]), np.int64(2)],
        (("a", "e"), "c"),
        [("a", 4), "c"],
        (range(0, 5, 4), 2),
    ],
    ids=str,
)
def test_categories_are_named_in_any_way(given: Any) -> None:
    policy = FeatureSwap(categorical_features=given)
    assert list_features(make_table(), policy.categorical_features, column_names=NAMES) == (FEATURES, 2)
    assert isinstance(hash(policy), int)


@pytest.mark.parametrize(
    "given",
    [
        (1, 2),
        [1, 2],
        range(1, 3),
        np.array([1, 2]),
        ("b", "c"),
        pd.Index(["b", "c"]),
        (False, True, True, *[False] * 3),
    ],
    ids=str,
)
def test_single_columns_are_named_in_any_way(given: Any) -> None:
    categorical = TableMixup(categorical_features=given).categorical_features
    expected = [[1], [2], [0], [3], [4], [5]], 2
    assert list_features(make_table(), categorical, column_names=NAMES) == expected
    if isinstance(given, tuple) and isinstance(given[0], bool):
        again = TableMixup(categorical_features=np.array(given)).categorical_features
        assert again == categorical


def fit_noted(policy: Any, X: Any, y: Any = None, owner: Any = MixupClassifier, **options: Any) -> Any:
    """Return the first plan of a fit."""
    noted = Noted(policy)
    net = owner(vicinity=noted, **QUICK | {"max_epochs": 1} | options)
    net.fit(X, np.arange(len(X)) % 3 if y is None else y)
    return noted.plans[0]


@pytest.mark.filterwarnings("ignore:X must hold quantities")
@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_net_reads_the_dtypes_of_a_frame(frame: str) -> None:
    X = make_table()
    X[:, 2] = np.arange(N) % 4
    table = pd.DataFrame(X, columns=NAMES)
    if frame == "pandas":
        table["c"] = table["c"].astype(int).astype("category")
        given: Any = table
    else:
        pl = pytest.importorskip("polars")
        given = pl.from_pandas(table).with_columns(
            pl.col("c").cast(pl.Int64).cast(pl.String).cast(pl.Enum(list("0123")))
        )
    plan = fit_noted(TableMixup(), given)
    assert plan.operations[0].values.min(axis=1).tolist() == [1, 0, 1, 0, 1, 0]
    named = fit_noted(TableMixup(categorical_features=("c", "a", "e")), table.astype(np.float32))
    assert np.array_equal(plan.operations[0].values, named.operations[0].values)
    # An array has no dtypes: nothing is left of those of an earlier frame.
    net = MixupClassifier(vicinity=Noted(TableMixup()), warm_start=True, **QUICK | {"max_epochs": 1})
    net.fit(given, np.arange(N) % 3)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        net.partial_fit(X, np.arange(N) % 3)
    assert [plan.operations[0].values[2].max() for plan in net.vicinity.plans] == [2, 0]


@pytest.mark.parametrize("scaled", [True, False])
def test_pipeline_hands_on_one_hot_columns(scaled: bool) -> None:
    frame = pd.DataFrame({"kind": list("abcab" * 6), "size": np.linspace(0, 1, N)})
    encoder = make_column_transformer((OneHotEncoder(), ["kind"]), remainder=StandardScaler())
    noted = Noted(TableMixup(1.0))
    steps = [encoder, StandardScaler()] if scaled else [encoder]
    make_pipeline(*steps, MixupClassifier(vicinity=noted, **QUICK)).fit(frame, np.arange(N) % 3)
    values = noted.plans[0].operations[0].values
    assert np.array_equal(values[0], values[1])
    assert np.array_equal(values[0], values[2])
    assert set(values[0]) == {1, 2}
    assert not values[3].any()


def test_held_out_rows_are_not_looked_at() -> None:
    X, y = make_table(n=60), np.arange(60) % 3
    X[:, 1] = np.arange(60) % 2
    noted = Noted(TableMixup())
    net = MixupClassifier(vicinity=noted, **QUICK | {"early_stopping": True, "validation_fraction": 0.5})
    seen = []

    class Net(type(net)):  # type: ignore[misc]
        def get_facts(self, dataset: Any, *labels: Any) -> Any:
            seen.append(len(dataset))
            return super().get_facts(dataset, *labels)

    Net(**net.get_params(deep=False)).fit(X, y)
    assert seen == [30]
    assert len(noted.plans[0].order) == 30


# -- other targets and forms of the data -------------------------------------------------

TARGETS: dict[str, Any] = {
    "values": (MixupRegressor, np.linspace(0, 1, N)),
    "several values": (MixupRegressor, make_table(3)[:, [1, 3]]),
    "labels": (MixupClassifier, MultiLabelBinarizer().fit_transform([{k % 2, k % 3} for k in range(N)])),
    "strings": (MixupClassifier, np.array(list("abc" * 10))),
    "shares": (MixupClassifier, np.full((N, 3), 1 / 3)),
}


@each_pair(
    {
        "kind": TARGETS,
        "owner": OWNERS,
        "weights": ["equal", "mutual_info"],
    }
)
def test_all_targets_are_taken(kind: str, owner: Any, weights: Any) -> None:
    estimator, y = TARGETS[kind]
    weights = "equal" if kind == "shares" else weights  # they have no class
    policy = owner(categorical_features=NAMED, weights=weights)
    nets = [estimator(vicinity=policy, **QUICK).fit(make_table(), y) for _ in range(2)]
    assert_same_nets(*nets)
    assert np.isfinite(nets[0].history[-1]["train_loss"])


@pytest.mark.parametrize(
    "make_set", [Pairs, make_tensor_dataset, lambda X, y: Stream(make_tensor_dataset(X, y))]
)
@pytest.mark.parametrize("owner", OWNERS)
def test_data_sets_are_taken_where_columns_are_named(owner: Any, make_set: Any) -> None:
    X, y = make_table(), np.arange(N) % 3

    def fit(rows: Any) -> Any:
        noted = Noted(owner(categorical_features=NAMED))
        net = MixupClassifier(
            nn.Linear,
            module__in_features=6,
            module__out_features=3,
            vicinity=noted,
            classes=[0, 1, 2],
            **QUICK,
        )
        net.fit(rows)
        return net

    net, again = fit(make_set(X, y)), fit(make_set(X, y))
    assert_same_nets(net, again)
    assert all(np.all(plan.operations[0].values[0] > 0) for plan in net.vicinity.plans)


# -- what does not fit -------------------------------------------------------------------

TABLE, CODES = make_table(), np.arange(N) % 3
NO_TABLE = r"vicinity {}\(.*\) must be given a table of shape \(n_samples, n_features\); got {}\. Use Mixup"
NO_CLASSES = r"weights must be 'equal' where targets are neither classes nor real values; got 'mutual_info'\."
NO_ROWS = r"categorical_features must name the categories where X is not one array; got 'auto'\. Give their"
NO_WEIGHTS = r"weights must be 'equal' where X is not one array; got 'mutual_info'\. Pass an array, or use"


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3)])
def test_images_are_refused(owner: Any, shape: tuple[int, ...]) -> None:
    message = NO_TABLE.format(owner.__name__, rf"inputs of shape \(-1, {str(shape)[1:-1]}\)")
    net = MixupClassifier(vicinity=owner(), **QUICK)
    with pytest.raises(ValueError, match=message):
        net.fit(TABLE.reshape(-1, *shape), CODES)


@pytest.mark.parametrize("owner", OWNERS)
def test_several_inputs_are_refused(owner: Any) -> None:
    X = {"a": TABLE[:, :5], "b": TABLE[:, 1:]}
    with pytest.raises(ValueError, match=NO_TABLE.format(owner.__name__, "inputs of no known shape")):
        MixupClassifier(Sum, vicinity=owner(), **QUICK).fit(X, CODES)


@pytest.mark.parametrize("make_set", [Pairs, lambda X, y: Stream(make_tensor_dataset(X, y))])
@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (FeatureSwap(), NO_ROWS),
        (TableMixup(), NO_ROWS),
        (FeatureSwap(categorical_features=NAMED, weights="mutual_info"), NO_WEIGHTS),
        (TableMixup(categorical_features=(), weights="mutual_info"), NO_WEIGHTS),
    ],
    ids=str,
)
def test_rows_that_cannot_be_looked_at_are_refused(policy: Any, message: str, make_set: Any) -> None:
    net = MixupClassifier(vicinity=policy, classes=[0, 1, 2], **QUICK)
    with pytest.raises(ValueError, match=message):
        net.fit(make_set(TABLE, CODES))


def test_facts_without_targets_are_refused_information() -> None:
    with pytest.raises(ValueError, match=NO_CLASSES):
        draw(FeatureSwap(categorical_features=(), weights="mutual_info"), inputs=TABLE[:11])


def test_shares_of_labels_are_refused_information() -> None:
    net = MixupClassifier(vicinity=FeatureSwap(weights="mutual_info"), **QUICK)
    with pytest.raises(ValueError, match=NO_CLASSES):
        net.fit(TABLE, TARGETS["shares"][1])


START = "categorical_features must "


@pytest.mark.parametrize(
    ("given", "X", "message"),
    [
        ((6,), TABLE, r"lie in \[0, 6\); got 6\. Give positions in X\."),
        ((-1,), TABLE, r"lie in \[0, 6\); got -1\."),
        (((0, 7),), TABLE, r"lie in \[0, 6\); got 7\."),
        ((0, 0), TABLE, r"name each column once; got \(0, 0\)\. Leave out what is there twice\."),
        ((0, (1, 0)), TABLE, r"name each column once; got \(0, \(1, 0\)\)\."),
        ((True, False), TABLE, r"be a mask of all columns of X; got 2 booleans for 6 columns\. Give one"),
        (("a",), TABLE, r"be positions where X has no names of columns; got 'a'\. Give positions, or X as"),
        (("size2",), pd.DataFrame(TABLE, columns=[f"size{j}" for j in range(5)] + ["kind"]), None),
        (
            ("colour",),
            pd.DataFrame(TABLE, columns=["color", *"bcdef"]),
            r"name .*; got 'colour'\. Did you mean 'color'",
        ),
        (
            ("zzz",),
            pd.DataFrame(TABLE, columns=list("abcdef")),
            r"name columns of X; got 'zzz'\. Give names as",
        ),
    ],
)
def test_columns_that_are_not_there_are_refused(given: Any, X: Any, message: str | None) -> None:
    net = MixupClassifier(vicinity=FeatureSwap(categorical_features=given), **QUICK | {"max_epochs": 1})
    if message is None:
        assert net.fit(X, CODES).n_iter_ == 1
        return
    with pytest.raises(ValueError, match=START + message):
        net.fit(X, CODES)
    assert len(net.history or ()) == 0


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("all", ValueError),
        ("from_dtype", ValueError),
        (None, TypeError),
        (3, TypeError),
        (True, TypeError),
        ({0, 1}, TypeError),
        ((0, 1.5), TypeError),
        ((0, None), TypeError),
        ((0, True), TypeError),
        (((0, (1, 2)),), TypeError),
        (((),), TypeError),
        (((True, False),), TypeError),
    ],
    ids=repr,
)
@pytest.mark.parametrize("owner", OWNERS)
def test_what_names_no_columns_is_refused(owner: Any, given: Any, error: type[Exception]) -> None:
    message = START + r"be 'auto', a mask of booleans, or a sequence of columns; got .* or \(\) for none"
    with pytest.raises(error, match=message):
        owner(categorical_features=given)


# -- the operation -----------------------------------------------------------------------


def test_swap_features_takes_values_bit_for_bit() -> None:
    x, x_partner = torch.randn(5, 3), torch.randn(5, 3)
    swapped = torch.rand(3, 5) < 0.5
    made = swap_features(x, x_partner, swapped)
    for i in range(5):
        expected = swap_row([], x[i].tolist(), x_partner[i].tolist(), 1 + swapped[:, i].int())
        assert made[i].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("x", "x_partner", "swapped"),
    [((5, 3), (5, 3), (5, 3)), ((5, 3), (5, 2), (3, 5)), ((5, 3, 1), (5, 3, 1), (3, 5))],
)
def test_swap_features_refuses_shapes_that_do_not_agree(x: Any, x_partner: Any, swapped: Any) -> None:
    message = r"x must be a table of shape \(n, n_features\).*; got shapes .*\. Give swapped the shape"
    with pytest.raises(ValueError, match=message):
        swap_features(torch.zeros(x), torch.zeros(x_partner), torch.zeros(swapped, dtype=torch.bool))


def test_operation_keeps_off_the_examples_of_others() -> None:
    operation = SwapFeatures(np.array([[1, 2], [2, 0]], dtype=np.int8))
    kept = operation.keep(np.array([True, False]))
    assert kept.values.tolist() == [[1, 0], [2, 0]]
    assert kept.values.dtype == np.int8
    assert operation.cut(slice(1, 2)).values.tolist() == [[2], [0]]
