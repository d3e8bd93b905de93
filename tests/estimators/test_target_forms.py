"""Targets in every form that pandas, numpy and torch give them, and those that are missing."""

from datetime import date, timedelta
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier
from tests.helpers.nets import QUICK

ONCE = {**QUICK, "max_epochs": 1}
OWNERS = [MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier]
CODES = np.arange(24) % 3
X = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
DAYS = np.datetime64("2020-01-30") + CODES.astype("m8[D]")
MISSING = [3, 7, 11]

# -- missing -----------------------------------------------------------------------------


def spoil(values: Any, missing: Any, dtype: Any = object) -> pd.Series:
    objects = np.array(list(values), dtype=object)
    objects[MISSING] = missing
    return pd.Series(objects, dtype=dtype)


STRINGS = np.array(["cat", "dog", "emu"])[CODES]
SPOILT = {
    **{f"object-{name}": spoil(STRINGS, name) for name in (None, np.nan, pd.NA, pd.NaT)},
    "string": spoil(STRINGS, pd.NA, "string"),
    "category": spoil(STRINGS, None, "category"),
    "category-of-numbers": spoil(CODES, None, "category"),
    "boolean": spoil(CODES > 0, pd.NA, "boolean"),
    "Int64": spoil(CODES, pd.NA, "Int64"),
    "Float64": spoil(CODES, pd.NA, "Float64"),
    "float": spoil(CODES, np.nan, float),
    "datetime": spoil(DAYS, pd.NaT, "datetime64[ns]"),
    "timedelta": spoil(CODES.astype("m8[s]"), pd.NaT, "timedelta64[ns]"),
    "timezone": spoil(DAYS, pd.NaT, "datetime64[ns]").dt.tz_localize("UTC"),
    "period": spoil(DAYS, pd.NaT, "datetime64[ns]").dt.to_period("D"),
}
SPOILT |= {f"array-of-{name}": SPOILT[name].to_numpy() for name in ("string", "datetime", "float")}
SPOILT |= {f"list-of-{name}": SPOILT[name].tolist() for name in ("object-None", "object-nan", "Int64")}
SPOILT["bfloat16"] = torch.tensor(SPOILT["float"].tolist()).bfloat16()


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("form", SPOILT)
def test_missing_targets_are_refused_with_their_number(owner: type, form: str) -> None:
    with pytest.raises(
        ValueError, match=r"y contains missing values; got 3 of 24, the first (None|nan|<NA>|NaT)"
    ):
        owner(**ONCE).fit(X, SPOILT[form])


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "Float64"])
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_a_missing_cell_of_several_columns_is_refused(owner: type, dtype: str) -> None:
    y = pd.DataFrame({"a": pd.Series(CODES > 0), "b": pd.Series(CODES > 1)}).astype(dtype)
    y.loc[4, "b"] = pd.NA
    with pytest.raises(ValueError, match="y contains missing values; got 1 of 48, the first <NA>"):
        owner(**ONCE).fit(X, y)


def test_missing_targets_are_refused_in_score_and_in_classes() -> None:
    net = MixupClassifier(**ONCE).fit(X, STRINGS)
    with pytest.raises(ValueError, match="y contains missing values; got 3 of 24"):
        net.score(X, SPOILT["string"])
    with pytest.raises(ValueError, match="classes contains missing values; got 1 of 3"):
        MixupClassifier(**ONCE, classes=["cat", "dog", None]).fit(X, STRINGS)


# -- known -------------------------------------------------------------------------------

PLAIN = {
    "Int64": (pd.Series(CODES, dtype="Int64"), CODES),
    "boolean": (pd.Series(CODES > 0, dtype="boolean"), CODES > 0),
    "Float64": (pd.Series(CODES, dtype="Float64"), CODES.astype(float)),
    "integers-as-objects": (CODES.astype(object), CODES),
    "numbers-of-two-types": (np.array([0, 1.5, 2], dtype=object)[CODES], np.array([0, 1.5, 2])[CODES]),
    "bools-and-integers": (np.array([True, 0, 2], dtype=object)[CODES], np.array([1, 0, 2])[CODES]),
    "list-of-numpy-bools": ([np.bool_(code > 0) for code in CODES], CODES > 0),
    "bfloat16": (torch.as_tensor(CODES).bfloat16(), CODES.astype(np.float32)),
    "longdouble": (CODES.astype(np.longdouble), CODES.astype(float)),
}


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("form", PLAIN)
def test_numbers_in_every_form_train_the_same_net(owner: type, form: str) -> None:
    given, plain = PLAIN[form]
    if owner is not MixupRegressor and form == "numbers-of-two-types":
        given, plain = (np.array([0, 2.0, 5], dtype=object)[CODES], np.array([0, 2.0, 5])[CODES])
    net, expected = owner(**ONCE).fit(X, given), owner(**ONCE).fit(X, plain)
    np.testing.assert_array_equal(net.predict(X), expected.predict(X))
    assert net.score(X, given) == expected.score(X, plain)


@pytest.mark.parametrize("dtypes", [("Int64", "Int64"), ("boolean", "Float64"), ("Float64", "bool")])
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_nullable_columns_train_the_same_net(owner: type, dtypes: tuple[str, str]) -> None:
    plain = np.stack([CODES > 0, CODES > 1], axis=1).astype(int)
    frame = pd.DataFrame({"a": plain[:, 0] > 0, "b": plain[:, 1] > 0}).astype(
        dict(zip("ab", dtypes, strict=True))
    )
    net, expected = owner(**ONCE).fit(X, frame), owner(**ONCE).fit(X, plain)
    np.testing.assert_array_equal(net.predict(X), expected.predict(X))
    assert net.score(X, frame) == pytest.approx(expected.score(X, plain), rel=1e-5)


@pytest.mark.parametrize("dtype", ["datetime64[s]", "timedelta64[s]"])
def test_a_regression_of_dates_is_refused(dtype: str) -> None:
    with pytest.raises(TypeError, match=r"y must hold real numbers; got values of dtype .*64"):
        MixupRegressor(**ONCE).fit(X, CODES.astype(dtype))


def test_strings_beside_numbers_in_a_list_are_no_strings() -> None:
    with pytest.raises(ValueError, match="y must hold labels of one type"):
        MixupClassifier(**ONCE).fit(X, [[1, "a", 2][code] for code in CODES])


# -- in a file ---------------------------------------------------------------------------

first = date(2020, 1, 30)
LABELS = {
    "str": STRINGS,
    "numpy-strings": np.array([np.str_(label) for label in STRINGS], dtype=object),
    "unicode": np.array(["é", "日本", "\U0001f600"])[CODES],
    "bool": CODES > 0,
    "uint64": np.array([2**63, 2**63 + 1, 2**64 - 1], dtype=np.uint64)[CODES],
    "float16": CODES.astype(np.float16),
    "days": DAYS,
    "nanoseconds": DAYS.astype("M8[ns]") + np.timedelta64(1, "ns"),
    "timedelta": CODES.astype("m8[ms]"),
    "dates": np.array([first + timedelta(days=int(code)) for code in CODES], dtype=object),
    "timestamps": pd.Series(DAYS).astype(object),
    "mixed-numbers": np.array([False, 2.0, 3], dtype=object)[CODES],
}


@pytest.mark.parametrize("owner", [MixupClassifier, SemiSupervisedMixupClassifier])
@pytest.mark.parametrize("form", LABELS)
def test_labels_come_back_from_safetensors(owner: type, form: str) -> None:
    net, file = owner(**ONCE).fit(X, LABELS[form]), io.BytesIO()
    net.save_params(file, use_safetensors=True)
    file.seek(0)
    loaded = owner(**ONCE)
    loaded.load_params(file, use_safetensors=True)
    assert loaded.classes_.dtype == net.classes_.dtype
    np.testing.assert_array_equal(loaded.classes_, np.unique(np.asarray(LABELS[form])))
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
    assert set(loaded.predict(X).tolist()) <= set(net.classes_.tolist())


# -- classes -----------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{0, 1, 2, 5}, range(6), {0: "a", 1: "b", 2: "c"}.keys(), torch.arange(4)])
@pytest.mark.parametrize("owner", [MixupClassifier, SemiSupervisedMixupClassifier])
def test_classes_may_be_any_collection(owner: type, given: Any) -> None:
    expected = sorted(int(label) for label in given)
    assert owner(**ONCE, classes=given).fit(X, CODES).classes_.tolist() == expected
    assert owner(**ONCE).partial_fit(X, CODES, classes=given).classes_.tolist() == expected


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (3, TypeError, "classes must be a sequence of labels or None; got 3"),
        ("abc", TypeError, "classes must be a sequence of labels or None; got 'abc'"),
        ((label for label in range(3)), TypeError, "classes must be a sequence of labels or None; got <gen"),
        ([0, "a", 1, 2], ValueError, "classes must hold labels of one type"),
        ([0, 1, np.nan], ValueError, "classes contains missing values; got 1 of 3"),
        ([0], ValueError, "classes must hold at least two classes; got one class, 0"),
        ([0, 1], ValueError, r"y must hold labels among the classes \[0, 1\]; got 2"),
    ],
)
@pytest.mark.parametrize("owner", [MixupClassifier, SemiSupervisedMixupClassifier])
def test_what_names_no_classes_is_refused(owner: type, given: Any, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        owner(**ONCE, classes=given).fit(X, CODES)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 2.0, 5: 9.0}, {5: 3.0}])
@pytest.mark.parametrize("kept", [slice(None), CODES == 0], ids=["all", "one-class"])
def test_classes_wider_than_y_are_weighed(class_weight: Any, kept: Any) -> None:
    net = MixupClassifier(**ONCE, classes=[0, 1, 2, 5], class_weight=class_weight).fit(X[kept], CODES[kept])
    assert net.predict_proba(X).shape == (24, 4)
    weight = None if class_weight == "balanced" else [class_weight.get(code, 1.0) for code in CODES[kept]]
    plain = MixupClassifier(**ONCE, classes=[0, 1, 2, 5]).fit(X[kept], CODES[kept], sample_weight=weight)
    if class_weight != "balanced":
        np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize("form", [CODES % 2, np.array(["a", "b"])[CODES % 2], CODES % 2 == 1], ids=str)
@pytest.mark.parametrize("owner", [MixupClassifier, SemiSupervisedMixupClassifier])
def test_weights_may_name_a_class_that_y_lacks_if_all_others_have_one(owner: type, form: Any) -> None:
    first, second = np.unique(form).tolist()
    options = ONCE if owner is MixupClassifier else {**ONCE, "classes": [first, second]}
    nets = [
        owner(**options, class_weight={first: 2.0, second: 3.0, **more}).fit(X, form)
        for more in ({}, {"absent": 9.0})
    ]
    np.testing.assert_array_equal(*(net.predict_proba(X) for net in nets))
    with pytest.raises(ValueError, match=r"class_weight must name classes among .*; got 'absent'"):
        owner(**options, class_weight={first: 2.0, "absent": 9.0}).fit(X, form)


@pytest.mark.parametrize("n", [2, 4])
def test_classes_of_indicators_name_each_column(n: int) -> None:
    with pytest.raises(ValueError, match=rf"classes must name one label for each column of y; got {n} for 3"):
        MixupClassifier(**ONCE, classes=list("abcd")[:n]).fit(X, np.eye(3, dtype=int)[CODES])


# -- one row at first --------------------------------------------------------------------

MIXES: list[dict[str, Any]] = [
    {},
    {"alpha": 0.0},
    {"early_stopping": True},
    {"partners": "dataset"},
    {"partners": "neighbors"},
    {"lam_per": "batch", "n_mixed": 3},
    {"batch_size": -1, "storage": "host"},
    {"augment": nn.Identity()},
]


@pytest.mark.parametrize("options", MIXES, ids=str)
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_a_first_chunk_of_one_row_trains_as_it_does_later(owner: type, options: dict[str, Any]) -> None:
    y = CODES if owner is MixupClassifier else X[:, 0]
    classes = {"classes": [0, 1, 2]} if owner is MixupClassifier else {}
    net = owner(**{**ONCE, **options}).partial_fit(X[:1], y[:1], **classes)
    # A single row is mixed with itself: its step is that of plain training.
    plain = owner(**{**ONCE, "alpha": 0.0}).partial_fit(X[:1], y[:1], **classes)
    for key, weight in net.module_.state_dict().items():
        torch.testing.assert_close(weight, plain.module_.state_dict()[key])
    assert len(net.partial_fit(X[1:], y[1:]).predict(X)) == 24


@pytest.mark.parametrize("method", ["mixmatch", "ict"])
def test_a_first_chunk_of_one_row_trains_a_semi_supervised_net(method: str) -> None:
    net = SemiSupervisedMixupClassifier(**ONCE, method=method)
    net.partial_fit(X[:1], STRINGS[:1], classes=np.unique(STRINGS)).partial_fit(X[1:], STRINGS[1:])
    assert net.classes_.tolist() == ["cat", "dog", "emu"]
    assert len(net.history_) == 2


@pytest.mark.parametrize("owner", OWNERS)
def test_fit_wants_two_rows_still(owner: type) -> None:
    with pytest.raises(ValueError, match=r"1 sample\(s\).*minimum of 2"):
        owner(**ONCE).fit(X[:1], CODES[:1])


# -- weights -----------------------------------------------------------------------------

BASE = 1.0 + np.arange(24)


@pytest.mark.parametrize(
    "given",
    [
        BASE * 7e306,
        BASE * 1e-310,
        BASE.astype(np.float16),
        BASE.astype(int),
        pd.Series(BASE, index=np.arange(24)[::-1]),
        pd.Series(BASE, dtype="Int64"),
        torch.as_tensor(BASE).bfloat16(),
        BASE.tolist(),
    ],
    ids=["huge", "tiny", "float16", "int", "another-index", "nullable", "bfloat16", "list"],
)
@pytest.mark.parametrize("owner", OWNERS)
def test_weights_in_every_form_train_the_same_net(owner: type, given: Any) -> None:
    net = owner(**ONCE).fit(X, CODES, sample_weight=given)
    plain = owner(**ONCE).fit(X, CODES, sample_weight=BASE)
    for key, weight in net.module_.state_dict().items():
        torch.testing.assert_close(weight, plain.module_.state_dict()[key])
    assert net.score(X, CODES, given) == pytest.approx(plain.score(X, CODES, BASE))


@pytest.mark.parametrize("owner", [MixupClassifier, SemiSupervisedMixupClassifier])
def test_weights_whose_products_overflow_are_refused_by_name(owner: type) -> None:
    with pytest.raises(ValueError, match="sample_weight, times class_weight, must be finite; got inf"):
        owner(**ONCE, class_weight={0: 1e200}).fit(X, CODES, sample_weight=np.where(CODES == 0, 1e200, 1.0))


SPREADS = {
    "decay": 0.5 ** (20.0 * np.arange(24)),
    "growth": 10.0 ** (12 * np.arange(24)),
    "two": np.where(CODES == 0, 1e300, 1e-300),
    "largest": np.where(CODES == 0, 1e308, 1.0),
    "beside 0": np.where(CODES == 0, 1.0, np.where(CODES == 1, 0.0, 1e-30)),
}


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_weights_of_any_spread_count_as_they_are(owner: type, spread: str) -> None:
    weight, y = SPREADS[spread], CODES.astype(int)
    options = {**ONCE, "alpha": 0, "lr": 1e-9, "batch_size": -1, "module": nn.Linear}
    if owner is MixupRegressor:
        options["standardize_targets"] = False
    net = owner(**options).fit(X, y, sample_weight=weight)
    output = net.module_(torch.tensor(X)).detach().double().numpy()
    if owner is MixupRegressor:
        losses = np.square(output[:, 0] - y)
    else:
        losses = np.log(np.exp(output).sum(axis=1)) - output[np.arange(24), y]
    share = weight / weight.max()
    assert net.loss_curve_[-1] == pytest.approx(np.average(losses, weights=share), rel=1e-5)


@pytest.mark.parametrize("spread", ["decay", "largest"])
@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("options", [{}, {"early_stopping": True, "batch_size": 2}], ids=str)
def test_weights_of_any_spread_are_mixed(owner: type, spread: str, options: dict[str, Any]) -> None:
    net = owner(**{**QUICK, **options}).fit(X, CODES, sample_weight=SPREADS[spread])
    losses = net.history[:, "train_loss"] + (net.history[:, "valid_loss"] if options else [])
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("weight", [CODES * 1j, DAYS, ["1"] * 24, [None, "a"] * 12])
def test_weights_that_are_no_numbers_are_refused(weight: Any) -> None:
    with pytest.raises(TypeError, match="sample_weight must hold real numbers; got values of dtype"):
        MixupClassifier(**ONCE).fit(X, CODES, sample_weight=weight)


# -- bfloat16 and read-only --------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"early_stopping": True}, {"storage": "host"}, {"alpha": 0.0}], ids=str
)
@pytest.mark.parametrize("owner", OWNERS)
def test_inputs_in_bfloat16_train_as_their_values_do(owner: type, options: dict[str, Any]) -> None:
    rows = torch.as_tensor(X).bfloat16()
    net = owner(**{**ONCE, **options}).fit(rows, CODES)
    plain = owner(**{**ONCE, **options}).fit(rows.float().numpy(), CODES)
    np.testing.assert_array_equal(net.predict(rows), plain.predict(rows.float().numpy()))
    expected = plain.score(rows.float().numpy(), CODES)  # in double precision, as codes are integers
    assert net.score(rows, torch.as_tensor(CODES).bfloat16()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "options", [{}, {"early_stopping": True}, {"storage": "host"}, {"alpha": 0.0}], ids=str
)
@pytest.mark.parametrize("owner", OWNERS)
def test_a_module_in_bfloat16_predicts(owner: type, options: dict[str, Any]) -> None:
    module = torch.nn.Linear(4, 1 if owner is MixupRegressor else 3).bfloat16()
    as_given = {"standardize_targets": False} if owner is MixupRegressor else {}
    net = owner(module, **{**ONCE, "max_epochs": 2, **options, **as_given}).fit(X, CODES)
    assert net.module_.weight.dtype == torch.bfloat16
    with torch.no_grad():
        output = net.module_(torch.as_tensor(X).bfloat16()).float().numpy()
    expected = output.ravel() if owner is MixupRegressor else output.argmax(axis=1)
    np.testing.assert_allclose(net.predict(X), expected, rtol=0.02)


def make_readonly(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flags.writeable = False
    return values


@pytest.mark.parametrize("storage", ["auto", "device", "host"])
@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.usefixtures("warn_always")
def test_readonly_arrays_do_not_warn(owner: type, storage: str) -> None:
    rows, y, weight = map(make_readonly, (X, CODES, BASE))
    net = owner(**ONCE, storage=storage).fit(rows, y, sample_weight=weight)
    plain = owner(**ONCE, storage=storage).fit(X, CODES, sample_weight=BASE)
    np.testing.assert_array_equal(net.predict(rows), plain.predict(X))


@pytest.mark.parametrize("storage", ["device", "host"])
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_code_that_writes_to_a_batch_changes_no_input(owner: type, storage: str) -> None:
    rows, kept = X.copy(), X.copy()
    n_outputs = 1 if owner is MixupRegressor else 3
    module = torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Linear(4, n_outputs))
    net = owner(module, **ONCE, alpha=0.0, storage=storage, augment=lambda x: x.mul_(2)).fit(rows, CODES)
    net.predict(rows)
    np.testing.assert_array_equal(rows, kept)


@pytest.mark.parametrize("y", [np.array(["a", 1] * 12, dtype=object), ["a", 1] * 12])
def test_labels_of_two_types_are_refused(y: Any) -> None:
    with pytest.raises(ValueError, match="y must hold labels of one type; got int and str"):
        MixupClassifier(**ONCE).fit(X, y)


@pytest.mark.parametrize("owner", OWNERS)
def test_sequences_of_varying_length_are_no_targets(owner: type) -> None:
    with pytest.raises(
        (TypeError, ValueError), match=r"y must hold as many real|Sequence of sequences|one type|y should be"
    ):
        owner(**ONCE).fit(X, [[1], [1, 2]] * 12)


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("layout", ["to_sparse", "clone"])
def test_sparse_tensors_are_dense_rows(owner: type, layout: str) -> None:
    rows = getattr(torch.as_tensor(X), layout)()
    assert np.array_equal(*(owner(**ONCE).fit(x, CODES).predict(X) for x in (X, rows)))


@pytest.mark.parametrize("owner", OWNERS)
def test_tensors_without_values_are_refused(owner: type) -> None:
    with pytest.raises(TypeError, match="must hold values; got a tensor on device meta"):
        owner(**ONCE).fit(torch.as_tensor(X, device="meta"), CODES)
