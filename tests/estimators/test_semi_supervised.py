"""The semi-supervised classifier: what it learns, its average, its labels, its contract."""

from __future__ import annotations

import copy
import inspect
import io
from itertools import product
from pathlib import Path
import pickle
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch.callbacks import Callback, EpochScoring
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, SemiSupervisedMixupClassifier
from sk_mixup.estimators._semi_supervised_options import REFUSED
from sk_mixup.estimators._semi_supervised_step import AveragedWeights
from sk_mixup.modules import MLP
from tests.helpers.datasets import make_tensor_dataset
from tests.helpers.nets import get_weights, is_equal
from tests.helpers.stacking import fit_stacked, stacked
from tests.helpers.versions import since_sklearn

METHODS = ["ict", "mixmatch"]
QUICK: dict[str, Any] = {"max_epochs": 2, "batch_size": 8, "unlabeled_batch_size": 16, "random_state": 0}


def make_net(method: str = "mixmatch", **options: Any) -> SemiSupervisedMixupClassifier:
    return SemiSupervisedMixupClassifier(**{**QUICK, "method": method, **options})


@pytest.fixture
def partly(blobs: Any) -> tuple[Any, Any]:
    """The blobs, with four labels a class."""
    return blobs.X, hide(blobs.y)


def hide(y: Any, n_labeled: int = 4) -> Any:
    """Return labels of which but a few a class are -1."""
    kept = np.concatenate([np.flatnonzero(y == label)[:n_labeled] for label in np.unique(y)])
    return np.where(np.isin(np.arange(len(y)), kept), y, -1)


# -- scikit-learn's own checks -----------------------------------------------------------

EXEMPT = {
    f"check_sample_weight_equivalence_on_{kind}_data": "no mini-batch fit equals one on repeated rows to 1e-7"
    for kind in ("dense", "sparse")
} | {
    "check_classifiers_classes": "-1 is a class there; here, as in sklearn.semi_supervised, an unknown label"
}
# One step an epoch, and few of them.
STEPS = {"lr": 0.05, "max_epochs": 20, "batch_size": -1, "unlabeled_batch_size": -1, "ema_decay": 0.5}


@pytest.mark.slow  # together
@parametrize_with_checks([SemiSupervisedMixupClassifier(**STEPS)], expected_failed_checks=lambda _: EXEMPT)
def test_estimator_passes_check(estimator: Any, check: Any) -> None:
    check(estimator)


# -- options -----------------------------------------------------------------------------


def test_every_option_of_the_classifier_is_taken_or_refused_with_a_reason() -> None:
    theirs, ours = (
        set(inspect.signature(owner).parameters) for owner in (MixupClassifier, SemiSupervisedMixupClassifier)
    )
    assert theirs - ours == set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_option_that_would_be_ignored_is_refused(partly: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must not be given .*: .*; got 'x'. Leave it out"):
        make_net(**{name: "x"}).fit(*partly)


@pytest.mark.parametrize("name", ["criterion__reduction", "iterator_train__shuffle", "dataset__length"])
def test_option_of_a_part_that_is_not_used_is_refused(partly: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must not be given"):
        make_net(**{name: 1}).fit(*partly)


BAD_OPTIONS = [
    (
        {"method": "fixmatch"},
        ValueError,
        "method must be one of 'ict', 'mixmatch'; got 'fixmatch'. .*mixmatch",
    ),
    ({"method": None}, ValueError, "method must be one of"),
    ({"alpha": -1}, ValueError, "alpha must be at least 0; got -1"),
    ({"lam_per": "row"}, ValueError, "lam_per must be one of 'example', 'batch'; got 'row'"),
    ({"unlabeled_weight": -1}, ValueError, "unlabeled_weight must be .* at least 0; got -1. .* 0 to learn"),
    ({"unlabeled_weight": float("inf")}, ValueError, "unlabeled_weight must be finite"),
    ({"unlabeled_weight": float("nan")}, ValueError, "unlabeled_weight must be finite"),
    ({"unlabeled_weight": "1"}, TypeError, "unlabeled_weight must be a real number; got '1'"),
    ({"rampup_epochs": -1}, ValueError, "rampup_epochs must be at least 0; got -1. .*half of max_epochs"),
    ({"rampup_epochs": 0.5}, TypeError, "rampup_epochs must be an integer; got 0.5"),
    ({"ema_decay": 1.0}, ValueError, r"ema_decay must be in \[0, 1\); got 1.0. Use 0 for the last weights"),
    ({"ema_decay": -0.1}, ValueError, "ema_decay must be in"),
    ({"temperature": 0}, ValueError, "temperature must be finite and greater than 0; got 0"),
    ({"n_augmentations": 0}, ValueError, "n_augmentations must be at least 1; got 0"),
    ({"n_augmentations": 1.5}, TypeError, "n_augmentations must be an integer; got 1.5"),
    ({"noise_std": -0.1}, ValueError, "noise_std must be .* at least 0; got -0.1. Use 0 for no noise"),
    ({"unlabeled_batch_size": 0}, ValueError, "unlabeled_batch_size must be at least 1; got 0. Use -1"),
    ({"unlabeled_wieght": 1}, ValueError, "unlabeled_wieght must be an option .* mean 'unlabeled_weight'"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
def test_bad_option_is_refused(partly: Any, options: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make_net(**options).fit(*partly)


def test_repr_names_what_was_changed() -> None:
    assert repr(SemiSupervisedMixupClassifier()) == "SemiSupervisedMixupClassifier()"
    assert repr(SemiSupervisedMixupClassifier(method="ict")) == "SemiSupervisedMixupClassifier(method='ict')"


def test_classifier_takes_no_multilabel_targets() -> None:
    tags = get_tags(SemiSupervisedMixupClassifier())
    assert not tags.classifier_tags.multi_label
    assert tags.classifier_tags.multi_class
    assert tags.input_tags.sparse


# -- labels ------------------------------------------------------------------------------


def test_classes_are_the_labels_without_the_marker(partly: Any) -> None:
    net = make_net().fit(*partly)
    assert net.classes_.tolist() == [0, 1, 2]
    assert net.predict_proba(partly[0]).shape == (60, 3)


NAMES = np.array(["ant", "bee", "cat"], dtype=object)


@pytest.mark.parametrize(
    "spell",
    [
        lambda y: np.where(y < 0, -1, 3 * y + 4),
        lambda y: np.where(y < 0, -1.0, y + 0.0),
        lambda y: y.tolist(),
        lambda y: np.array([-1 if code < 0 else NAMES[code] for code in y], dtype=object),
        lambda y: pd.Series([-1 if code < 0 else NAMES[code] for code in y]),
        lambda y: np.array([-1 if code < 0 else int(code) for code in y], dtype=object),
        lambda y: torch.from_numpy(y),
        lambda y: y.astype(np.int8),
    ],
    ids=["ints", "floats", "list", "strings", "series", "objects", "tensor", "int8"],
)
def test_net_does_not_depend_on_how_labels_are_spelled(partly: Any, spell: Any) -> None:
    X, y = partly
    net, expected = make_net().fit(X, spell(y)), make_net().fit(X, y)
    np.testing.assert_array_equal(net.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(net.predict(X), net.classes_[expected.predict(X)])
    assert len(net.classes_) == 3


def test_without_unlabelled_rows_all_serve_as_such(blobs: Any, partly: Any) -> None:
    net = make_net().fit(blobs.X, blobs.y)
    trained = net.get_split_datasets(blobs.X, blobs.y)[0]
    assert len(trained) == len(trained.unlabeled) == 60
    trained = net.get_split_datasets(*partly)[0]
    assert (len(trained), len(trained.unlabeled)) == (12, 48)


BAD_TARGETS = [
    (lambda y: np.full(60, -1), "y must hold labelled rows; got only -1"),
    (lambda y: np.where(y == 1, 1, -1), "at least two classes beside -1, .* got one class, 1, and .* recode"),
    (
        lambda y: np.where(y == 1, "a", "-1"),
        "y must mark unlabelled rows by the number -1; got the string '-1'",
    ),
    (lambda y: np.where(y == 1, -1, 0).reshape(30, 2), "y must be 1-dimensional.*got shape"),
    (lambda y: y[:50], r"inconsistent numbers of samples: \[60, 50\]"),
    (lambda y: np.where(y == 1, np.nan, y), "y contains missing values; got 20 of 60"),
    (lambda y: y + 0.5, "Unknown label type"),
    (lambda y: None, "requires y to be passed"),
]


@pytest.mark.parametrize(("change", "message"), BAD_TARGETS)
def test_bad_targets_are_refused(blobs: Any, change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_net().fit(blobs.X, change(blobs.y))


def test_marker_among_the_classes_is_refused(partly: Any) -> None:
    with pytest.raises(ValueError, match=r"classes must not name -1, .* got \[-1, 0, 1, 2\]"):
        make_net(classes=[-1, 0, 1, 2]).fit(*partly)


def test_classes_may_be_more_than_the_labels(partly: Any) -> None:
    net = make_net(classes=[0, 1, 2, 7]).fit(*partly)
    assert net.predict_proba(partly[0]).shape == (60, 4)


def test_dataset_is_refused_with_the_reason(blobs: Any) -> None:
    with pytest.raises(
        TypeError, match=r"X must be an array .* must know beforehand which rows are labelled"
    ):
        make_net().fit(make_tensor_dataset(blobs.X, blobs.y))


def test_mapping_is_refused_with_the_reason(partly: Any) -> None:
    X, y = partly
    with pytest.raises(TypeError, match=r"X must be an array or a sparse matrix .* got a mapping"):
        make_net().fit({"a": X, "b": X}, y)


def test_refused_targets_leave_an_earlier_fit_as_it_was(partly: Any) -> None:
    X, y = partly
    net = make_net().fit(X, y)
    before = net.predict_proba(X)
    with pytest.raises(ValueError, match="only -1"):
        net.fit(X[:, :3], np.full(60, -1))
    np.testing.assert_array_equal(net.predict_proba(X), before)


def test_transduction_holds_the_predicted_label_of_each_row(partly: Any) -> None:
    net = make_net().fit(*partly)
    np.testing.assert_array_equal(net.transduction_, net.predict(partly[0]))


def test_score_leaves_out_unlabelled_rows(partly: Any) -> None:
    X, y = partly
    net, known = make_net(max_epochs=4).fit(X, y), y >= 0
    assert net.score(X, y) == np.mean(net.predict(X[known]) == y[known])
    weight = np.arange(60.0)
    expected = np.average(net.predict(X[known]) == y[known], weights=weight[known])
    assert net.score(X, y, sample_weight=weight) == expected
    with pytest.raises(ValueError, match="y must hold labelled rows to score; got only -1"):
        net.score(X, np.full(60, -1))


NAMES = np.array(["a", "b", "c"], dtype=object)


@pytest.mark.parametrize("names", [False, True], ids=["numbers", "names"])
@pytest.mark.parametrize("form", ["int", "float", "object", "column"])
def test_score_is_the_accuracy_of_labels_in_any_form(partly: Any, names: bool, form: str) -> None:
    X, y = partly
    labels = np.where(y == -1, -1, NAMES[y]) if names else y
    net, known = make_net().fit(X, labels), y != -1
    given = {"float": y.astype(float), "object": y.astype(object), "column": y[:, None]}.get(form, y)
    if names:
        given = labels[:, None] if form == "column" else labels
    weight = np.arange(60) % 5
    for weights in (None, weight):
        own = accuracy_score(
            labels[known].tolist(),
            net.predict(X[known]).tolist(),
            sample_weight=None if weights is None else weights[known],
        )
        assert net.score(X, given, weights) == pytest.approx(own)


@since_sklearn(1, 9)  # before, names are scored against numbers
@pytest.mark.parametrize("names", [False, True], ids=["numbers", "names"])
def test_score_refuses_labels_of_another_kind_as_the_classifier_does(
    partly: Any, blobs: Any, names: bool
) -> None:
    X, y = partly
    own, others = (NAMES[blobs.y], blobs.y) if names else (blobs.y, NAMES[blobs.y])
    refused = others, blobs.y + 0.5
    nets = make_net().fit(X, np.where(y == -1, -1, own)), MixupClassifier(max_epochs=1).fit(X, own)
    for net, labels in product(nets, refused):
        with pytest.raises(ValueError, match=r"Mix of label input types|can't handle a mix"):
            net.score(X, labels)


def test_score_refuses_lengths_and_weights_that_do_not_fit(partly: Any) -> None:
    X, y = partly
    net = make_net().fit(X, y)
    for rows in (5, 59):
        with pytest.raises(ValueError, match=rf"inconsistent numbers of samples: \[60, {rows}\]"):
            net.score(X, y[:rows])
    with pytest.raises(ValueError, match="sample_weight must hold a weight above 0 for a labelled row"):
        net.score(X, y, (y == -1).astype(float))


# -- what is learned ---------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_unlabelled_rows_help_where_classes_are_apart(method: str) -> None:
    generator = np.random.default_rng(0)
    angle, y = generator.uniform(0, np.pi, 200), np.arange(200) % 2
    side = 1 - 2 * y
    moons = np.stack([np.cos(angle) * side + y, np.sin(angle) * side + 0.4 * y], axis=1)
    X = (2 * (moons + generator.normal(scale=0.06, size=(200, 2)))).astype(np.float32)
    labels = hide(y, 3)
    options = {"lr": 0.005, "max_epochs": 60, "random_state": 0}
    net = SemiSupervisedMixupClassifier(method=method, noise_std=0.1, batch_size=6, **options).fit(X, labels)
    known = labels >= 0
    plain = MixupClassifier(alpha=0, early_stopping=False, **options).fit(X[known], y[known])
    assert np.mean(net.transduction_ == y) > plain.score(X, y) + 0.05


FULL = {"batch_size": -1, "unlabeled_batch_size": -1, "max_epochs": 6, "lr": 0.05, "random_state": 0}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weight": {0: 1, 1: 2, 2: 5}}])
def test_without_unlabelled_loss_and_mixing_it_is_plain_training(
    partly: Any, method: str, options: dict[str, Any]
) -> None:
    X, y = partly
    off = {"alpha": 0, "unlabeled_weight": 0, "noise_std": 0, "ema_decay": 0}
    net = SemiSupervisedMixupClassifier(method=method, **off, **FULL, **options).fit(X, y)
    plain = {key: value for key, value in FULL.items() if key != "unlabeled_batch_size"}
    known = y >= 0
    expected = MixupClassifier(alpha=0, early_stopping=False, **plain, **options).fit(X[known], y[known])
    np.testing.assert_allclose(net.predict_proba(X), expected.predict_proba(X), rtol=0, atol=1e-11)
    np.testing.assert_allclose(net.loss_curve_, expected.loss_curve_, rtol=1e-9)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("method", METHODS)
def test_weight_zero_equals_a_removed_row(partly: Any, method: str) -> None:
    X, y = partly
    weight = np.arange(60) % 3 + np.arange(60) % 2  # also 0
    kept = weight > 0
    nets = [make_net(method).fit(X, y, sample_weight=weight)]
    nets.append(make_net(method).fit(X[kept], y[kept], sample_weight=weight[kept]))
    probabilities = [net.predict_proba(X) for net in nets]
    np.testing.assert_allclose(*probabilities, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("method", METHODS)
def test_integer_weights_without_mixing_equal_repeated_rows(partly: Any, method: str) -> None:
    X, y = partly
    weight = np.arange(60) % 3 + 1
    rows = np.repeat(np.arange(60), weight)
    options = {**FULL, "alpha": 0, "noise_std": 0}
    weighted = SemiSupervisedMixupClassifier(method=method, **options).fit(X, y, sample_weight=weight)
    repeated = SemiSupervisedMixupClassifier(method=method, **options).fit(X[rows], y[rows])
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=0, atol=1e-11)


def test_weights_of_unlabelled_rows_alone_are_refused(partly: Any) -> None:
    X, y = partly
    with pytest.raises(ValueError, match="sample_weight must hold a weight above 0 for a labelled row"):
        make_net().fit(X, y, sample_weight=(y < 0).astype(float))


def test_class_weight_may_leave_unlabelled_rows_as_they_are(partly: Any) -> None:
    X, y = partly
    by_class = make_net(class_weight={0: 1, 1: 2, 2: 4}).fit(X, y)
    by_row = make_net().fit(X, y, sample_weight=np.where(y < 0, 1, 2.0**y))
    np.testing.assert_array_equal(by_class.predict_proba(X), by_row.predict_proba(X))


class Normed(nn.Module):
    """A net with running statistics and dropout."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.first = nn.Linear(in_features, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(8, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


def step_slowly(net: Any, batch: Any, average: dict[str, Tensor]) -> Tensor:
    """Return the loss of one step, computed row by row as the papers write it."""
    trained = {name: value.clone() for name, value in net.module_.state_dict().items()}
    x = batch.inputs if batch.noise is None else batch.inputs + batch.noise
    n, k = len(batch[1]), batch.n_views
    module = copy.deepcopy(net.module_).eval()
    module.load_state_dict(average if net.method == "ict" else trained)
    views = torch.softmax(module(x[n:]), dim=1).chunk(k)
    guesses = sum(views) / k
    if net.method == "mixmatch":
        guesses = guesses**2 / (guesses**2).sum(dim=1, keepdim=True)
    targets = torch.cat([nn.functional.one_hot(batch[1], 3), *[guesses] * k]).detach()
    rows = []
    for i, j in enumerate(batch.place.tolist()):
        own = batch.joint_lam[0, i]
        rows.append((own * x[i] + (1 - own) * x[j], own * targets[i] + (1 - own) * targets[j]))
    module.load_state_dict(trained)
    logits = module.train()(torch.stack([row for row, _ in rows]))
    entropy = -sum((q * z.log_softmax(0)).sum() for z, (_, q) in zip(logits[:n], rows[:n], strict=True)) / n
    distance = sum(
        ((z.softmax(0) - q) ** 2).mean() for z, (_, q) in zip(logits[n:], rows[n:], strict=True)
    ) / (len(rows) - n)
    return entropy + batch.unlabeled_weight * distance


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noise_std", [0.0, 0.2])
def test_step_equals_the_papers_row_by_row(partly: Any, method: str, noise_std: float) -> None:
    losses: list[tuple[Tensor, Tensor]] = []

    class Noted(SemiSupervisedMixupClassifier):
        def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
            names = self.module_.state_dict()
            average = dict(zip(names, self._weights.others, strict=True))
            expected = step_slowly(self, batch, {name: value.clone() for name, value in average.items()})
            step = super().train_step_single(batch, **fit_params)
            losses.append((step["loss"].detach(), expected.detach()))
            return step

    Noted(method=method, noise_std=noise_std, **QUICK).fit(*partly)
    assert len(losses) == 6
    torch.testing.assert_close(*map(torch.stack, zip(*losses, strict=True)))


@pytest.mark.parametrize("method", METHODS)
def test_guesses_leave_running_statistics_alone(partly: Any, method: str) -> None:
    counts: list[int] = []

    class Noted(SemiSupervisedMixupClassifier):
        def train_step(self, batch: Any, **fit_params: Any) -> Any:
            step = super().train_step(batch, **fit_params)
            counts.append(int(self.module_.norm.num_batches_tracked))
            return step

    Noted(Normed, method=method, **QUICK).fit(*partly)
    assert counts == list(range(1, 7))


def test_augment_takes_the_place_of_noise(partly: Any) -> None:
    seen: list[tuple[int, ...]] = []

    def augment(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        return x + 0.1

    X, y = partly
    nets = [make_net(augment=augment, noise_std=std).fit(X, y) for std in (0.0, 5.0)]
    np.testing.assert_array_equal(*[net.predict_proba(X) for net in nets])
    assert set(seen) == {(8 + 2 * 16, 5)}
    with pytest.raises(ValueError, match="augment must return as many rows"):
        make_net(augment=lambda x: x[:-1]).fit(X, y)


@pytest.mark.parametrize("method", METHODS)
def test_ramp_up_is_counted_over_fits(partly: Any, method: str) -> None:
    shares: list[float] = []

    class Noted(SemiSupervisedMixupClassifier):
        def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
            shares.append(batch.unlabeled_weight)
            return super().train_step_single(batch, **fit_params)

    net = Noted(method=method, unlabeled_weight=8.0, rampup_epochs=4, **QUICK).fit(*partly)
    net.partial_fit(*partly).partial_fit(*partly)
    assert shares == sorted(shares)
    assert shares[11] < 8.0
    assert shares[12:] == [8.0] * 6


# -- forms of the data -------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_sparse_rows_give_the_net_of_dense_ones(partly: Any, method: str) -> None:
    X, y = partly
    X = np.where(X > 0, X, 0)
    dense, thin = make_net(method).fit(X, y), make_net(method).fit(sparse.csr_matrix(X), y)
    np.testing.assert_array_equal(dense.predict_proba(X), thin.predict_proba(X))


@pytest.mark.parametrize("options", [{}, {"storage": "host"}, {"channels_last": True}])
@pytest.mark.parametrize("method", METHODS)
def test_images_are_taken(method: str, options: dict[str, Any], blobs: Any) -> None:
    X = np.random.default_rng(0).normal(size=(60, 2, 4, 4)).astype(np.float32)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
    net = make_net(method, module=module, **options).fit(X, hide(blobs.y))
    assert net.predict_proba(X).shape == (60, 3)


def test_rows_on_the_host_give_the_net_of_rows_on_the_device(partly: Any) -> None:
    X, y = partly
    nets = [make_net(storage=storage).fit(X, y) for storage in ("host", "device")]
    np.testing.assert_array_equal(*[net.predict_proba(X) for net in nets])


def test_lower_precision_is_close(partly: Any) -> None:
    X, y = partly
    nets = [make_net(autocast=name).fit(X, y) for name in (None, "bfloat16")]
    np.testing.assert_allclose(*[net.predict_proba(X) for net in nets], atol=0.05)


class Pair(MLP):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


def test_output_that_is_no_tensor_of_logits_is_refused(partly: Any) -> None:
    with pytest.raises(TypeError, match=r"module must return a tensor .* got tuple"):
        make_net(module=Pair).fit(*partly)


# -- the average -------------------------------------------------------------------------


class Watch(Callback):
    """Keeps the trained weights after each step, and the module's after each epoch."""

    def __init__(self) -> None:
        self.trained: list[Tensor] = []
        self.seen: list[Tensor] = []

    def on_grad_computed(self, net: Any, **_: Any) -> None:
        self.trained.append(torch.cat([p.detach().flatten() for p in net.module_.parameters()]))

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        self.seen.append(torch.cat([p.detach().flatten() for p in net.module_.parameters()]))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("method", METHODS)
def test_module_holds_the_average_between_epochs(partly: Any, method: str) -> None:
    watch = Watch()
    net = make_net(method, ema_decay=0.7, callbacks=[watch]).fit(*partly)
    last = torch.cat([tensor.flatten() for tensor in net._weights.others])
    trained = [*watch.trained[1:], last]  # before each step the weights of the one before
    average = trained[0]
    expected = []
    for step, weights in enumerate(trained, start=1):
        decay = min(0.7, 1 - 1 / step)
        average = decay * average + (1 - decay) * weights
        expected.append(average)
    torch.testing.assert_close(watch.seen, [expected[2], expected[5]])


def test_without_decay_the_last_weights_predict(partly: Any) -> None:
    net = make_net(ema_decay=0.0, module=Normed).fit(*partly)
    weights = [*net.module_.parameters(), *net.module_.buffers()]
    assert all(torch.equal(value, other) for value, other in zip(weights, net._weights.others, strict=True))


def test_buffers_are_averaged_with_the_weights(partly: Any) -> None:
    net = make_net(module=Normed, ema_decay=0.99).fit(*partly)
    assert net.module_.norm.num_batches_tracked == 6
    trained = copy.deepcopy(net._weights)
    trained.swap(net.module_)
    mean = net.module_.norm.running_mean.clone()
    trained.swap(net.module_)
    assert not torch.equal(net.module_.norm.running_mean, mean)


def test_swapping_twice_changes_nothing() -> None:
    module = Normed(5, 3)
    weights = AveragedWeights(module)
    for tensor in module.parameters():
        tensor.data += 1
    before = {name: value.clone() for name, value in module.state_dict().items()}
    parameters = list(module.parameters())
    with weights.swapped(module):
        assert not torch.equal(module.first.weight, before["first.weight"])
    assert is_equal(module.state_dict(), before)
    assert all(p is q for p, q in zip(module.parameters(), parameters, strict=True))


def test_interrupted_epoch_leaves_the_average_in_the_module(partly: Any) -> None:
    class Interrupted(SemiSupervisedMixupClassifier):
        def train_step(self, batch: Any, **fit_params: Any) -> Any:
            if len(self.history) == 2:
                raise KeyboardInterrupt
            return super().train_step(batch, **fit_params)

    net = Interrupted(**QUICK).fit(*partly)
    once = make_net(max_epochs=1, rampup_epochs=1).fit(*partly)
    assert net._weights.n_steps == once._weights.n_steps == 3
    assert np.isfinite(net.predict_proba(partly[0])).all()


# -- going on, saving --------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("copy_net", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copy_predicts_and_goes_on_as_the_net(partly: Any, method: str, copy_net: Any) -> None:
    net = make_net(method, module=Normed).fit(*partly)
    other = copy_net(net)
    np.testing.assert_array_equal(other.predict_proba(partly[0]), net.predict_proba(partly[0]))
    net.partial_fit(*partly)
    other.partial_fit(*partly)
    np.testing.assert_array_equal(other.predict_proba(partly[0]), net.predict_proba(partly[0]))


def test_warm_start_goes_on(partly: Any) -> None:
    net = make_net(warm_start=True).fit(*partly).fit(*partly)
    assert net.n_iter_ == 4
    assert net._weights.n_steps == 12


def test_refit_starts_anew(partly: Any) -> None:
    net = make_net().fit(*partly)
    before = net.predict_proba(partly[0])
    assert net.fit(*partly).n_iter_ == 2
    assert net._weights.n_steps == 6
    np.testing.assert_array_equal(net.predict_proba(partly[0]), before)


@pytest.mark.parametrize("early_stopping", [True, "auto"])
@pytest.mark.parametrize("method", METHODS)
def test_early_stopping_is_nothing_to_partial_fit(partly: Any, method: str, early_stopping: Any) -> None:
    nets = [
        make_net(method, early_stopping=option, max_epochs=9, epochs_per_partial_fit=1, lr=0.05)
        for option in (False, early_stopping)
    ]
    for net in nets:
        for _ in range(4):
            net.partial_fit(*partly)
    assert is_equal(*map(get_weights, nets))
    np.testing.assert_array_equal(nets[0].predict_proba(partly[0]), nets[1].predict_proba(partly[0]))


def test_partial_fit_takes_chunks(partly: Any) -> None:
    X, y = partly
    net = make_net(max_epochs=1).partial_fit(X[:30], y[:30], classes=[0, 1, 2])
    assert net.partial_fit(X[20:], np.r_[y[:3], np.full(37, -1)]).n_iter_ == 2
    with pytest.raises(ValueError, match="y must hold labelled rows"):
        net.partial_fit(X, np.full(60, -1))


@pytest.mark.parametrize("use_safetensors", [False, True])
def test_saved_weights_are_those_that_predict(partly: Any, use_safetensors: bool) -> None:
    net, file = make_net().fit(*partly), io.BytesIO()
    net.save_params(f_params=file, use_safetensors=use_safetensors)
    file.seek(0)
    other = make_net(random_state=1)
    if not use_safetensors:
        other.fit(*partly)
    other.load_params(f_params=file, use_safetensors=use_safetensors)
    np.testing.assert_array_equal(other.predict_proba(partly[0]), net.predict_proba(partly[0]))
    np.testing.assert_array_equal(other.predict(partly[0]), net.predict(partly[0]))
    assert is_equal(get_weights(other), get_weights(net))


def test_training_goes_on_from_weights_that_were_loaded(partly: Any, tmp_path: Path) -> None:
    net = make_net().fit(*partly)
    net.save_params(f_params=tmp_path / "net.pt")
    other = make_net(random_state=1).fit(*partly)
    other.load_params(f_params=tmp_path / "net.pt")
    other.set_params(lr=1e-30).partial_fit(*partly)
    np.testing.assert_allclose(other.predict_proba(partly[0]), net.predict_proba(partly[0]), atol=1e-6)


# -- held-out rows -----------------------------------------------------------------------


def test_only_labelled_rows_are_held_out(partly: Any) -> None:
    X, y = partly
    net = make_net(early_stopping=True, validation_fraction=0.25).fit(X, y)
    train, valid = net.get_split_datasets(X, y)
    assert (len(train), len(valid), len(train.unlabeled)) == (9, 3, 48)
    assert sorted(valid.get_targets().tolist()) == [0, 1, 2]
    assert "valid_loss" in net.history[-1]
    beside = net.get_split_datasets(X, np.maximum(y, 0))[0].unlabeled
    assert len(beside) == 45  # without -1, all but those held out


def test_early_stopping_keeps_the_best_average(partly: Any) -> None:
    X, y = partly
    options = {"early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 3, "max_epochs": 60}
    net = make_net(lr=0.05, **options).fit(X, y)
    assert net.n_iter_ < 60
    valid = net.get_split_datasets(X, y)[1]
    losses = net.history[:, "valid_loss"]
    x, codes = valid.slice(0, len(valid))[:2]
    loss = nn.functional.cross_entropy(net.module_.eval()(x), codes).item()
    assert loss == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_scores_in_training_are_those_of_clean_labelled_rows(partly: Any, method: str) -> None:
    X, y = partly
    scores = [("train_acc", EpochScoring("accuracy", on_train=True, name="train_acc", use_caching=False))]
    scores.append(("cached", EpochScoring("accuracy", on_train=True, name="cached", use_caching=True)))
    net = make_net(method, callbacks=scores).fit(X, y)
    assert net.history[-1, "train_acc"] == net.score(X, y)
    assert 0 <= net.history[-1, "cached"] <= 1


@pytest.mark.parametrize("split", [ValidSplit(3, stratified=True), ValidSplit(0.25)])
def test_split_of_the_user_holds_out_labelled_rows(partly: Any, split: Any) -> None:
    train, valid = make_net(train_split=split).fit(*partly).get_split_datasets(*partly)
    assert (valid.get_targets() >= 0).all()
    assert len(train) + len(valid) == 12


def test_validation_set_of_the_user_must_be_labelled(partly: Any) -> None:
    X, y = partly
    known = y >= 0
    net = make_net(train_split=predefined_split(Dataset(X[known], y[known]))).fit(X, y)
    assert "valid_loss" in net.history[-1]
    with pytest.raises(ValueError, match=r"train_split must hold out labelled rows; got .* -1"):
        make_net(train_split=predefined_split(Dataset(X, y))).fit(X, y)


def test_too_few_labelled_rows_to_hold_out_are_refused(partly: Any) -> None:
    with pytest.raises(
        ValueError, match=r"validation_fraction must leave rows to train on; got 0.99 for 12 rows"
    ):
        make_net(early_stopping=True, validation_fraction=0.99).fit(*partly)


# -- randomness, searches, stacks --------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_gives_the_same_net_and_leaves_global_generators_alone(partly: Any, method: str) -> None:
    X, y = partly
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    first = make_net(method, module=Normed).fit(X, y).predict_proba(X)
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    torch.manual_seed(7)
    np.testing.assert_array_equal(make_net(method, module=Normed).fit(X, y).predict_proba(X), first)
    other = make_net(method, module=Normed, random_state=1).fit(X, y).predict_proba(X)
    assert not np.array_equal(other, first)


@pytest.mark.parametrize("name", ["alpha", "noise_std", "unlabeled_weight", "temperature", "n_augmentations"])
@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_the_method_has_an_effect(partly: Any, method: str, name: str) -> None:
    X, y = partly
    changed = {"alpha": 0, "noise_std": 0.5, "unlabeled_weight": 1, "temperature": 0.7, "n_augmentations": 3}
    net = make_net(method, **{name: changed[name]}).fit(X, y)
    assert not np.array_equal(net.predict_proba(X), make_net(method).fit(X, y).predict_proba(X))


def test_clone_is_unfitted_with_equal_options(partly: Any) -> None:
    net = make_net("ict", module__hidden_layer_sizes=(7,)).fit(*partly)
    other = clone(net)
    assert other.get_params(deep=False) == net.get_params(deep=False)
    assert not hasattr(other, "transduction_")
    np.testing.assert_array_equal(other.fit(*partly).transduction_, net.transduction_)


def test_search_scores_labelled_rows_only(partly: Any) -> None:
    X, y = partly
    search = GridSearchCV(make_net(), {"method": METHODS, "alpha": [0.2, 1.0]}, cv=2).fit(X, y)
    assert search.best_estimator_.classes_.tolist() == [0, 1, 2]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("module", [MLP, Normed])
@pytest.mark.parametrize("method", METHODS)
def test_net_among_others_is_trained_alone_with_a_warning(partly: Any, method: str, module: Any) -> None:
    X, y = partly
    nets = [make_net(method, module=module, random_state=seed) for seed in range(3)]
    message = (
        "stacked: nets are trained one by one .* SemiSupervisedMixupClassifier takes labelled and unlabelled"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        together = fit_stacked((clone(net), X, y) for net in nets)
    assert len(caught) == 1
    for net, other in zip(nets, together, strict=True):
        alone = net.fit(X, y)
        assert is_equal(get_weights(alone), get_weights(other))
        np.testing.assert_array_equal(alone.transduction_, other.transduction_)


def test_search_in_a_stack_scores_as_without(partly: Any) -> None:
    X, y = partly
    grid = {"alpha": [0.2, 1.0]}
    expected = GridSearchCV(make_net(), grid, cv=2).fit(X, y)
    with pytest.warns(UserWarning, match="trained one by one"), stacked():
        search = GridSearchCV(make_net(), grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize("mark", [None, np.nan, pd.NA, pd.NaT], ids=str)
def test_missing_labels_are_refused_with_the_mark_to_write(mark: object) -> None:
    y = np.array([0, 1, mark, 1], dtype=object)
    with pytest.raises(ValueError, match="SemiSupervisedMixupClassifier learns from rows that are marked -1"):
        SemiSupervisedMixupClassifier(**QUICK).fit(np.eye(4), y)


def test_dates_are_labels_beside_the_mark() -> None:
    X, days = np.random.default_rng(0).normal(size=(30, 3)), np.array(["2024-01-05", "2024-02-06"], "M8[D]")
    codes = np.arange(30) % 3 - 1
    y = np.array([-1 if code < 0 else days[code].item() for code in codes], dtype=object)
    net = SemiSupervisedMixupClassifier(**QUICK).fit(X, y)
    by_codes = SemiSupervisedMixupClassifier(**QUICK).fit(X, codes)
    np.testing.assert_array_equal(net.classes_, days)
    np.testing.assert_array_equal(net.predict_proba(X), by_codes.predict_proba(X))
    np.testing.assert_array_equal(net.predict(X), days[by_codes.predict(X)])
