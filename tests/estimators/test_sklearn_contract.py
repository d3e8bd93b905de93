"""What scikit-learn expects of every estimator."""

from collections.abc import Iterator
import inspect
import re
from typing import Any
from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
import torch

from sk_mixup import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    MixupGAN,
    MixupNetMixin,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
)
from sk_mixup.mixing import (
    ERM,
    Extrapolation,
    FeatureInterpolation,
    GaussianNoise,
    ManifoldMixup,
    Mixture,
    Mixup,
)
from tests.helpers.sampling import share_checks
from tests.helpers.stacking import fit_stacked

ESTIMATORS = [MixupClassifier, MixupRegressor]
DOCUMENTED = [
    *ESTIMATORS,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    SemiSupervisedMixupClassifier,
    MixupGAN,
    MixupNetMixin,
]

# No stochastic mini-batch fit equals a fit on repeated rows to 1e-7: other rows meet in its
# batches. scikit-learn exempts its own SGDClassifier (its meta-issue #16298). What holds
# instead is tested under "weights" below.
EXEMPT = {
    f"check_sample_weight_equivalence_on_{kind}_data": "no mini-batch fit equals one on repeated rows to 1e-7"
    for kind in ("dense", "sparse")
}
# What scikit-learn's own MLPs are not asked either.
UNASKED = {"check_array_api_input", "check_classifiers_multilabel_output_format_decision_function"}
# scikit-learn's checks fit some 150 nets; these learn as well in a tenth of the epochs.
QUICK = {"max_epochs": 8, "lr": 0.03}


# -- scikit-learn's own checks -----------------------------------------------------------


@parametrize_with_checks(
    [estimator(**QUICK) for estimator in ESTIMATORS],
    expected_failed_checks=lambda _: EXEMPT,
)
def test_estimator_passes_check(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow  # many fits of up to 200 epochs
@parametrize_with_checks([estimator() for estimator in ESTIMATORS], expected_failed_checks=lambda _: EXEMPT)
def test_estimator_with_its_defaults_passes_check(estimator: Any, check: Any) -> None:
    try:
        check(estimator)
    except SkipTest:
        assert check.func.__name__ in UNASKED
        raise


# Sums, noise, hidden layers, neighbours, classes: what a vicinity can be made of, in three.
HIDDEN = ManifoldMixup(partners="dataset")
OTHERS = {
    MixupClassifier(
        vicinity=Mixture((ERM(), GaussianNoise(), Mixup(1.0, partners="same_class")), per="example")
    ): EXEMPT,
    MixupClassifier(vicinity=FeatureInterpolation()): EXEMPT,
    MixupRegressor(vicinity=Mixture((Extrapolation(), GaussianNoise(), HIDDEN))): EXEMPT,
    SemiSupervisedMixupClassifier(method="ict", batch_size=-1, unlabeled_batch_size=-1, ema_decay=0.5): {
        **EXEMPT,
        "check_classifiers_classes": "-1 is a class there; here it is an unknown label",
    },
}


@pytest.mark.slow
# Some checks set alpha wherever there is one.
@pytest.mark.filterwarnings("ignore:alpha is not used where vicinity is given")
@share_checks({net.set_params(lr=0.03, max_epochs=20): exempt for net, exempt in OTHERS.items()})
def test_one_of_the_others_passes_check(estimator: Any, check: Any) -> None:
    check(estimator)


ENSEMBLES = [
    owner(n_members=2, **{f"estimator__{name}": value for name, value in QUICK.items()})
    for owner in (MixupEnsembleClassifier, MixupEnsembleRegressor)
]


@pytest.mark.slow  # many fits of two nets each
@parametrize_with_checks(ENSEMBLES, expected_failed_checks=lambda _: EXEMPT)
def test_ensemble_passes_check(estimator: Any, check: Any) -> None:
    check(estimator)


# -- options -----------------------------------------------------------------------------


def _get_documented_options(doc: str) -> dict[str, str]:
    """Return what the numpydoc section Parameters says of each option's default."""
    section = inspect.cleandoc(doc).partition("Parameters\n----------\n")[2]
    section = re.split(r"\n\S+\n-{3,}\n", section)[0]
    entries = re.findall(r"^(\w+(?:, \w+)*)(?: : (.*))?$", section, flags=re.MULTILINE)
    return {name: (re.search(r"default=(.+)$", kind) or [None, ""])[1] for name, kind in entries}


def _get_signature_options(owner: type) -> dict[str, Any]:
    parameters = inspect.signature(owner.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in ("self", "args", "kwargs")}


def _spell(default: Any) -> str:
    return default.__name__ if inspect.isclass(default) else repr(default)


@pytest.mark.parametrize("owner", DOCUMENTED)
def test_options_are_documented_in_the_order_of_the_signature(owner: type) -> None:
    assert list(_get_documented_options(owner.__doc__)) == list(_get_signature_options(owner))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        pytest.param(owner, name, id=f"{owner.__name__}-{name}")
        for owner in DOCUMENTED
        for name in _get_signature_options(owner)
    ],
)
def test_documented_default_is_the_default(owner: type, name: str) -> None:
    documented = _get_documented_options(owner.__doc__).get(name, "").rpartition(".")
    stated = documented[2] if documented[0].isidentifier() else "".join(documented)
    assert stated == _spell(_get_signature_options(owner)[name])


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_repr_of_defaults_is_the_bare_call(owner: type) -> None:
    assert repr(owner()) == f"{owner.__name__}()"


def test_repr_names_what_was_changed() -> None:
    net = MixupClassifier(alpha=0.25, module__hidden_layer_sizes=(8,))
    text = repr(net)
    assert text.startswith("MixupClassifier(")
    assert "alpha=0.25" in text
    assert "module__hidden_layer_sizes=(8,)" in text
    assert "lr=" not in text


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_html_repr_shows_the_options(owner: type) -> None:
    html = owner(alpha=0.25)._repr_html_()
    assert owner.__name__ in html
    assert "alpha" in html
    assert "0.25" in html


def test_html_repr_shows_a_fitted_net_as_fitted(blobs: Any) -> None:
    net = MixupClassifier(max_epochs=1)
    before, after = net._repr_html_(), net.fit(blobs.X, blobs.y)._repr_html_()
    assert "Not fitted" in before
    assert "Not fitted" not in after


OPTIONS = {
    "alpha": 0.3,
    "lam_per": "batch",
    "module__hidden_layer_sizes": (8,),
    "optimizer__weight_decay": 1e-4,
    "iterator_train__drop_last": True,
    "callbacks__print_log": None,
    "max_epochs": 1,
    "random_state": 3,
}


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize(("name", "value"), OPTIONS.items())
def test_options_of_constructor_and_set_params_agree(owner: type, name: str, value: Any) -> None:
    given, put = owner(**{name: value}), owner().set_params(**{name: value})
    assert given.get_params(deep=False)[name] == put.get_params(deep=False)[name] == value


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_get_params_set_params_round_trip(owner: type) -> None:
    params = owner(**OPTIONS).get_params(deep=False)
    assert owner().set_params(**params).get_params(deep=False) == params


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_clone_of_a_fitted_net_is_unfitted_with_equal_options(owner: type, blobs: Any) -> None:
    net = owner(**OPTIONS).fit(blobs.X, blobs.y)
    copy = clone(net)
    assert copy.get_params(deep=False) == net.get_params(deep=False)
    assert not hasattr(copy, "n_features_in_")


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_clone_fits_the_same_net(owner: type, blobs: Any) -> None:
    net = owner(**OPTIONS).fit(blobs.X, blobs.y)
    again = clone(net).fit(blobs.X, blobs.y)
    np.testing.assert_array_equal(again.predict(blobs.X), net.predict(blobs.X))


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_fit_changes_no_option(owner: type, blobs: Any) -> None:
    net = owner(**OPTIONS)
    before = dict(net.get_params(deep=False))
    net.fit(blobs.X, blobs.y)
    assert net.get_params(deep=False) == before


def test_options_of_a_fitted_net_take_effect_at_the_next_fit(blobs: Any) -> None:
    net = MixupClassifier(max_epochs=1, random_state=0).fit(blobs.X, blobs.y)
    net.set_params(max_epochs=3, module__hidden_layer_sizes=(7,)).fit(blobs.X, blobs.y)
    assert net.n_iter_ == 3
    assert net.module_.layers[1].out_features == 7


# -- tags, attributes --------------------------------------------------------------------


def test_classifier_tags() -> None:
    tags = get_tags(MixupClassifier())
    assert is_classifier(MixupClassifier())
    assert tags.classifier_tags.multi_class
    assert tags.classifier_tags.multi_label
    assert tags.input_tags.sparse
    assert tags.input_tags.three_d_array
    assert not tags.input_tags.allow_nan
    assert tags.target_tags.required


def test_regressor_tags() -> None:
    tags = get_tags(MixupRegressor())
    assert is_regressor(MixupRegressor())
    assert tags.target_tags.multi_output
    assert tags.input_tags.sparse
    assert tags.target_tags.required


@pytest.mark.parametrize("method", ["predict_proba", "decision_function", "classes_"])
def test_regressor_has_nothing_of_a_classifier(method: str) -> None:
    assert not hasattr(MixupRegressor(), method)


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize("name", ["n_features_in_", "n_iter_", "loss_curve_"])
def test_unfitted_net_has_no_fitted_attribute(owner: type, name: str) -> None:
    assert not hasattr(owner(), name)


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_epochs_are_counted_and_their_losses_kept(owner: type, blobs: Any) -> None:
    net = owner(max_epochs=4, random_state=0).fit(blobs.X, blobs.y)
    assert net.n_iter_ == 4
    assert net.loss_curve_ == net.history[:, "train_loss"]
    assert all(isinstance(loss, float) for loss in net.loss_curve_)


def test_refit_starts_anew(blobs: Any) -> None:
    net = MixupClassifier(max_epochs=3, random_state=0)
    first = net.fit(blobs.X, blobs.y).predict_proba(blobs.X)
    again = net.fit(blobs.X, blobs.y).predict_proba(blobs.X)
    assert net.n_iter_ == 3
    np.testing.assert_array_equal(again, first)


# -- feature names -----------------------------------------------------------------------


@pytest.fixture
def frame(blobs: Any) -> pd.DataFrame:
    return pd.DataFrame(blobs.X, columns=list("abcde"))


def test_feature_names_are_remembered(frame: pd.DataFrame, blobs: Any) -> None:
    net = MixupClassifier(max_epochs=1).fit(frame, blobs.y)
    assert net.feature_names_in_.tolist() == list("abcde")
    assert net.n_features_in_ == 5


@pytest.mark.parametrize("method", ["predict", "predict_proba", "forward"])
def test_feature_names_in_another_order_are_refused(frame: pd.DataFrame, blobs: Any, method: str) -> None:
    net = MixupClassifier(max_epochs=1).fit(frame, blobs.y)
    with pytest.raises(ValueError, match="same order"):
        getattr(net, method)(frame[list("edcba")])


def test_feature_names_are_checked_by_partial_fit(frame: pd.DataFrame, blobs: Any) -> None:
    net = MixupClassifier(max_epochs=1).fit(frame, blobs.y)
    with pytest.raises(ValueError, match="same order"):
        net.partial_fit(frame[list("edcba")], blobs.y)


def test_feature_names_missing_at_predict_warn(frame: pd.DataFrame, blobs: Any) -> None:
    net = MixupClassifier(max_epochs=1).fit(frame, blobs.y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        net.predict(blobs.X)


def test_feature_names_are_forgotten_by_a_fit_on_an_array(frame: pd.DataFrame, blobs: Any) -> None:
    net = MixupClassifier(max_epochs=1).fit(frame, blobs.y).fit(blobs.X, blobs.y)
    assert not hasattr(net, "feature_names_in_")


# -- weights -----------------------------------------------------------------------------

# One full batch and a plain optimizer: what is left between the two fits is the order in
# which sums are taken.
EXACT = {
    "alpha": 0,
    "early_stopping": False,
    "batch_size": -1,
    "optimizer": torch.optim.SGD,
    "optimizer__momentum": 0.9,
    "lr": 0.1,
    "max_epochs": 25,
    "random_state": 0,
    "module__hidden_layer_sizes": (16,),
}
WEIGHTED = [
    pytest.param(MixupClassifier, "blobs", {}, id="multiclass"),
    pytest.param(MixupClassifier, "binary", {}, id="binary"),
    pytest.param(MixupClassifier, "multilabel", {}, id="multilabel"),
    pytest.param(MixupClassifier, "blobs", {"label_smoothing": 0.1}, id="smoothed"),
    pytest.param(MixupRegressor, "line", {}, id="regression"),
    pytest.param(MixupRegressor, "plane", {}, id="two-targets"),
]


def _draw_weights(n_samples: int, low: int) -> np.ndarray:
    return np.random.default_rng(0).integers(low, 4, size=n_samples)


def _get_scores(net: Any, X: Any) -> np.ndarray:
    return net.predict_proba(X) if is_classifier(net) else net.predict(X)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("owner", "data", "options"), WEIGHTED)
@pytest.mark.parametrize("low", [0, 1])
def test_integer_weights_equal_repeated_rows(
    owner: type, data: str, options: dict, low: int, request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    weight = _draw_weights(len(table.X), low)
    rows = np.repeat(np.arange(len(table.X)), weight)
    weighted = owner(**EXACT, **options).fit(table.X, table.y, sample_weight=weight)
    repeated = owner(**EXACT, **options).fit(table.X[rows], table.y[rows])
    expected = _get_scores(repeated, table.X)
    np.testing.assert_allclose(_get_scores(weighted, table.X), expected, rtol=0, atol=1e-11)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("owner", "data", "options"), WEIGHTED)
def test_weight_zero_equals_a_removed_row(
    owner: type, data: str, options: dict, request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    kept = _draw_weights(len(table.X), 0) > 0
    weighted = owner(**EXACT, **options).fit(table.X, table.y, sample_weight=kept)
    removed = owner(**EXACT, **options).fit(table.X[kept], table.y[kept])
    expected = _get_scores(removed, table.X)
    np.testing.assert_allclose(_get_scores(weighted, table.X), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("owner", "data", "options"), WEIGHTED)
@pytest.mark.parametrize("alpha", [0, 1])
def test_constant_weight_equals_no_weight(
    owner: type, data: str, options: dict, alpha: float, request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    options = {**options, "alpha": alpha, "max_epochs": 3, "random_state": 0}
    weighted = owner(**options).fit(table.X, table.y, sample_weight=np.full(len(table.X), 7.0))
    plain = owner(**options).fit(table.X, table.y)
    np.testing.assert_array_equal(_get_scores(weighted, table.X), _get_scores(plain, table.X))


@pytest.mark.usefixtures("float64")
def test_weights_count_relative_to_each_other(blobs: Any) -> None:
    weight = _draw_weights(len(blobs.X), 1)
    net = MixupClassifier(**EXACT).set_params(alpha=1.0)
    small = clone(net).fit(blobs.X, blobs.y, sample_weight=weight)
    large = clone(net).fit(blobs.X, blobs.y, sample_weight=8 * weight)
    expected = small.predict_proba(blobs.X)
    np.testing.assert_allclose(large.predict_proba(blobs.X), expected, rtol=0, atol=1e-11)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize(
    ("class_weight", "expected"),
    [({0: 1.0, 1: 2.0, 2: 5.0}, [1.0, 2.0, 5.0]), ("balanced", [60 / 3 / n for n in (30, 20, 10)])],
    ids=["dict", "balanced"],
)
def test_class_weight_equals_a_sample_weight_by_class(
    blobs: Any, alpha: float, class_weight: Any, expected: list[float]
) -> None:
    y = np.repeat([0, 1, 2], [30, 20, 10])
    options = {**EXACT, "alpha": alpha}
    by_class = MixupClassifier(**options, class_weight=class_weight).fit(blobs.X, y)
    by_row = MixupClassifier(**options).fit(blobs.X, y, sample_weight=np.take(expected, y))
    expected_proba = by_row.predict_proba(blobs.X)
    np.testing.assert_allclose(by_class.predict_proba(blobs.X), expected_proba, rtol=0, atol=1e-11)


UNLIKE = np.repeat([0, 1, 2], [30, 20, 10])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("weight", [1.0, 0.5 + np.arange(60) % 3], ids=["0-1", "other"])
@pytest.mark.parametrize("names", [np.arange(3), np.array(["a", "b", "c"])], ids=["numbers", "names"])
@pytest.mark.parametrize("dropped", [np.s_[::4], np.s_[:20], np.s_[30:50]], ids=str)
def test_balanced_classes_are_counted_without_rows_of_weight_zero(
    blobs: Any, dropped: slice, names: np.ndarray, weight: Any
) -> None:
    weight, y = weight * np.ones(60), names[UNLIKE]
    weight[dropped] = 0
    kept, options = weight > 0, {**EXACT, "classes": names, "class_weight": "balanced"}
    weighted = MixupClassifier(**options).fit(blobs.X, y, sample_weight=weight)
    removed = MixupClassifier(**options).fit(blobs.X[kept], y[kept], sample_weight=weight[kept])
    np.testing.assert_allclose(
        weighted.predict_proba(blobs.X), removed.predict_proba(blobs.X), rtol=0, atol=1e-11
    )
    counts = np.bincount(UNLIKE[kept], minlength=3)
    own = np.where(counts, kept.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)), 1.0)
    by_hand = MixupClassifier(**options | {"class_weight": None}).fit(
        blobs.X, y, sample_weight=weight * own[UNLIKE]
    )
    np.testing.assert_allclose(
        weighted.predict_proba(blobs.X), by_hand.predict_proba(blobs.X), rtol=0, atol=1e-11
    )


@pytest.mark.usefixtures("float64")
def test_balanced_classes_are_counted_among_labelled_rows_that_have_a_weight(blobs: Any) -> None:
    y, weight = np.where(np.arange(60) % 2, UNLIKE, -1), np.ones(60)
    weight[:20] = 0
    options = {"max_epochs": 3, "random_state": 0, "early_stopping": False, "class_weight": "balanced"}
    weighted = SemiSupervisedMixupClassifier(**options).fit(blobs.X, y, sample_weight=weight)
    removed = SemiSupervisedMixupClassifier(**options).fit(blobs.X[20:], y[20:])
    np.testing.assert_allclose(
        weighted.predict_proba(blobs.X), removed.predict_proba(blobs.X), rtol=0, atol=1e-11
    )


def test_class_weight_and_sample_weight_multiply(blobs: Any) -> None:
    weight = _draw_weights(len(blobs.X), 1)
    options = {"max_epochs": 3, "random_state": 0}
    both = MixupClassifier(**options, class_weight={0: 1, 1: 2, 2: 4})
    both.fit(blobs.X, blobs.y, sample_weight=weight)
    product = MixupClassifier(**options).fit(blobs.X, blobs.y, sample_weight=weight * 2.0**blobs.y)
    np.testing.assert_array_equal(both.predict_proba(blobs.X), product.predict_proba(blobs.X))


def test_class_weight_takes_labels_as_keys(blobs: Any) -> None:
    options = {"max_epochs": 3, "random_state": 0}
    names = np.array(["a", "b", "c"])[blobs.y]
    named = MixupClassifier(**options, class_weight={"a": 1, "b": 2, "c": 4}).fit(blobs.X, names)
    coded = MixupClassifier(**options, class_weight={0: 1, 1: 2, 2: 4}).fit(blobs.X, blobs.y)
    np.testing.assert_array_equal(named.predict_proba(blobs.X), coded.predict_proba(blobs.X))


def _fit_many(owner: type, X: Any, y: Any, weight: Any = None, *, at: Any) -> np.ndarray:
    """Return the predictions of nets that differ in their seeds, one net a row."""
    options = {**EXACT, "alpha": 1.0, "max_epochs": 40}
    nets = [owner(**{**options, "random_state": seed}) for seed in range(100)]
    fitted = fit_stacked((net, X, y, {"sample_weight": weight}) for net in nets)
    scores = [_get_scores(net, at) for net in fitted]
    return np.stack(scores).reshape(len(nets), len(at), -1)[:, :, -1]


@pytest.mark.slow  # trains 200 nets of 40 epochs
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("owner", "data"), [(MixupClassifier, "binary"), (MixupRegressor, "line")])
def test_weights_with_mixing_equal_repeated_rows_on_average(
    owner: type, data: str, request: pytest.FixtureRequest
) -> None:
    table = request.getfixturevalue(data)
    weight = _draw_weights(len(table.X), 0)
    rows = np.repeat(np.arange(len(table.X)), weight)
    weighted = _fit_many(owner, table.X, table.y, weight, at=table.X)
    repeated = _fit_many(owner, table.X[rows], table.y[rows], at=table.X)
    error = np.sqrt((weighted.var(axis=0) + repeated.var(axis=0)) / len(weighted))
    # 0.5 and 0.6; where each target weighs by its own example 1.7 and 1.9.
    assert np.mean(np.abs(weighted.mean(axis=0) - repeated.mean(axis=0)) / error) < 1.2


# -- metadata routing --------------------------------------------------------------------


@pytest.fixture
def _routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture
def mislabelled(binary: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, labels of which half are wrong, and weights that are 0 for the wrong ones."""
    right = np.arange(len(binary.y)) % 2 == 0
    return binary.X, np.where(right, binary.y, 1 - binary.y), right.astype(float)


@pytest.mark.usefixtures("_routing")
def test_weights_are_routed_through_a_pipeline(mislabelled: Any) -> None:
    X, y, weight = mislabelled
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    net = MixupClassifier(max_epochs=3, random_state=0).set_fit_request(sample_weight=True)
    routed = make_pipeline(scaler, net).fit(X, y, sample_weight=weight)
    expected = clone(net).fit(scaler.fit_transform(X), y, sample_weight=weight)
    expected_proba = expected.predict_proba(scaler.transform(X))
    np.testing.assert_array_equal(routed.predict_proba(X), expected_proba)


@pytest.mark.usefixtures("_routing")
def test_weights_are_routed_through_a_search(mislabelled: Any) -> None:
    X, y, weight = mislabelled
    net = MixupClassifier(max_epochs=3, random_state=0)
    net.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    search = GridSearchCV(net, {"alpha": [0.5]}, cv=2).fit(X, y, sample_weight=weight)
    expected = clone(net).set_params(alpha=0.5).fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(X))


@pytest.mark.usefixtures("_routing")
def test_weights_without_a_request_are_refused(mislabelled: Any) -> None:
    X, y, weight = mislabelled
    with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
        GridSearchCV(MixupClassifier(max_epochs=1), {"alpha": [0.5]}, cv=2).fit(X, y, sample_weight=weight)


@pytest.mark.usefixtures("_routing")
@pytest.mark.parametrize("owner", ESTIMATORS)
def test_clone_keeps_the_requests(owner: type) -> None:
    net = clone(owner().set_fit_request(sample_weight=True))
    assert net.get_metadata_routing()._self_request.fit.requests["sample_weight"] is True


@pytest.mark.usefixtures("_routing")
@pytest.mark.parametrize("owner", ESTIMATORS)
def test_net_fits_weights_with_routing_enabled(owner: type, binary: Any) -> None:
    weight = _draw_weights(len(binary.y), 1)
    net = owner(max_epochs=2).fit(binary.X, binary.y, sample_weight=weight)
    assert net.partial_fit(binary.X, binary.y, sample_weight=weight).n_iter_ == 4
