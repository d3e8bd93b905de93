"""A criterion may be a class with options, a partial of it, or an instance: all train and predict alike."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from skorch.dataset import Dataset
from skorch.helper import predefined_split
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 4)).astype(np.float32)
CODES = (X[:, 0] > 0).astype(int)
OPTIONS: dict[str, Any] = {
    "alpha": 0,
    "max_epochs": 12,
    "lr": 0.02,
    "random_state": 0,
    "early_stopping": False,
}


class Pixels(nn.Module):
    def __init__(self, out_features: int = 2) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, out_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


IMAGES = RNG.normal(size=(30, 1, 6, 6)).astype(np.float32)
MAPS = (IMAGES[:, 0] > 0).astype(np.int64)
VOID = MAPS.copy()
VOID[:, :3] = 255
SHARES = RNG.dirichlet(np.ones(2), size=80)
TARGET = 5 + 3 * X[:, 0]

CASES: dict[str, tuple[Any, Any, Any, Any, dict[str, Any], dict[str, Any]]] = {
    "plain": (MixupClassifier, X, CODES, nn.CrossEntropyLoss, {}, {}),
    "smoothed": (MixupClassifier, X, CODES, nn.CrossEntropyLoss, {}, {"label_smoothing": 0.5}),
    "smoothed by itself": (MixupClassifier, X, CODES, nn.CrossEntropyLoss, {"label_smoothing": 0.5}, {}),
    "soft and smoothed": (MixupClassifier, X, SHARES, nn.CrossEntropyLoss, {}, {"label_smoothing": 0.5}),
    "sum": (MixupClassifier, X, CODES, nn.CrossEntropyLoss, {"reduction": "sum"}, {"lr": 0.001}),
    "binary": (MixupClassifier, X, CODES, nn.BCEWithLogitsLoss, {}, {}),
    "pixels": (MixupClassifier, IMAGES, VOID, nn.CrossEntropyLoss, {"ignore_index": 255}, {"module": Pixels}),
    "pixels, smoothed": (
        MixupClassifier,
        IMAGES,
        VOID,
        nn.CrossEntropyLoss,
        {"ignore_index": 255},
        {"module": Pixels, "label_smoothing": 0.2},
    ),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["partial", "instance"])
@pytest.mark.parametrize("name", CASES)
def test_each_form_of_a_criterion_is_the_same(name: str, form: str, weighted: bool) -> None:
    owner, rows, y, criterion, options, others = CASES[name]
    given = {f"criterion__{option}": value for option, value in options.items()}
    expected = owner(criterion=criterion, **given, **{**OPTIONS, **others})
    made = criterion(**options)
    other = owner(
        criterion=partial(criterion, **options) if form == "partial" else made, **{**OPTIONS, **others}
    )
    weight = np.full(len(rows), 3.0) if weighted else None
    for net in (expected, other):
        net.fit(rows, y, sample_weight=weight)
    assert other.loss_curve_ == pytest.approx(expected.loss_curve_)
    assert other.classes_.tolist() == expected.classes_.tolist()
    np.testing.assert_array_equal(other.predict_proba(rows), expected.predict_proba(rows))
    for option, value in options.items():  # the user's own is left as it was
        assert getattr(made, option) == value


@pytest.mark.parametrize("criterion", [nn.MSELoss, nn.HuberLoss])
def test_a_partial_for_a_regressor_is_its_class(criterion: Any) -> None:
    options = {"delta": 0.7} if criterion is nn.HuberLoss else {}
    given = {f"criterion__{option}": value for option, value in options.items()}
    expected = MixupRegressor(criterion=criterion, **given, **OPTIONS).fit(X, TARGET)
    found = MixupRegressor(criterion=partial(criterion, **options), **OPTIONS).fit(X, TARGET)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))


def test_options_beat_those_of_a_partial_and_two_smoothings_are_refused() -> None:
    made = partial(nn.CrossEntropyLoss, label_smoothing=0.1)
    net = MixupClassifier(criterion=made, criterion__label_smoothing=0.3, **OPTIONS).fit(X, CODES)
    assert net.criterion_.label_smoothing == 0.3
    for criterion in (made, made()):
        with pytest.raises(
            ValueError, match="criterion__label_smoothing must not differ from label_smoothing"
        ):
            MixupClassifier(criterion=criterion, label_smoothing=0.5, **OPTIONS).fit(X, CODES)


@pytest.mark.parametrize("y", [CODES, np.array(["no", "yes"])[CODES], MAPS], ids=["codes", "names", "pixels"])
def test_a_link_of_one_output_is_of_the_second_class(y: np.ndarray) -> None:
    is_map = y.ndim == 3
    rows = IMAGES if is_map else X
    options = OPTIONS | {"criterion": nn.BCEWithLogitsLoss, "lr": 0.1}
    if is_map:
        options |= {"module": partial(Pixels, out_features=1)}
    auto = MixupClassifier(**options).fit(rows, y)
    own = MixupClassifier(predict_nonlinearity=torch.sigmoid, **options).fit(rows, y)
    np.testing.assert_allclose(own.predict_proba(rows), auto.predict_proba(rows), atol=1e-7)
    np.testing.assert_array_equal(own.predict(rows), auto.predict(rows))
    assert own.score(rows, y) > 0.9
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(own.predict_log_proba(rows), np.log(own.predict_proba(rows)))


def test_a_module_that_ends_in_probabilities_is_read_without_a_link() -> None:
    module = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid(), nn.Flatten(0))
    options = OPTIONS | {"criterion": nn.BCELoss, "lr": 0.1}
    auto, own = (
        MixupClassifier(module, predict_nonlinearity=link, **options).fit(X, CODES) for link in ("auto", None)
    )
    np.testing.assert_allclose(own.predict_proba(X), auto.predict_proba(X), atol=1e-7)


@pytest.mark.parametrize("partly", [False, True])
def test_classes_of_weight_0_alone_are_refused(partly: bool) -> None:
    net = MixupClassifier(class_weight={0: 1.0, 1: 0.0}, classes=[0, 1], **OPTIONS)
    train = net.partial_fit if partly else net.fit
    rows = X[CODES == 1]
    with pytest.raises(ValueError, match="class_weight must leave a row that counts"):
        train(rows, CODES[CODES == 1])
    with pytest.raises(ValueError, match="class_weight must leave a row that counts"):
        net.fit(X, CODES, sample_weight=(CODES == 1).astype(float))


def test_temperature_of_several_labels_by_a_softmax() -> None:
    labels = RNG.integers(2, size=(200, 3))
    labels[:, 0] = 1
    rows = RNG.normal(size=(200, 4)).astype(np.float32)
    options = OPTIONS | {"early_stopping": True, "max_epochs": 30, "n_iter_no_change": 30}
    split = predefined_split(Dataset(rows[:80], labels[:80]))
    net = MixupClassifier(criterion=nn.CrossEntropyLoss, train_split=split, **options)
    net.fit(rows[80:], labels[80:])
    with torch.no_grad():
        logits = net.module_(torch.as_tensor(rows[:80])).double().numpy()

    def loss(log: float) -> float:
        return -float((labels[:80] * log_softmax(logits / np.exp(log), axis=1)).sum()) + log**2 / 0.18

    expected = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    assert net.temperature_ == pytest.approx(expected, rel=1e-3)


class Named(nn.Module):
    def __init__(self, in_features: int = 3, out_features: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(in_features, out_features)

    def forward(self, a: Tensor) -> Tensor:
        return self.layer(a)


def test_masked_values_in_a_mapping_are_refused() -> None:
    masked = np.ma.masked_array(X[:, :3].copy(), mask=False)
    masked[:, 0] = np.ma.masked
    net = MixupClassifier(Named, **OPTIONS).fit({"a": X[:, :3]}, CODES)
    for call in (net.predict, lambda rows: net.fit(rows, CODES)):
        with pytest.raises(
            ValueError, match=r"X\['a'\] must be known everywhere; got an array that masks 80"
        ):
            call({"a": masked})


def test_a_fit_of_a_mapping_forgets_the_table_before() -> None:
    net = MixupClassifier(Named, **OPTIONS).fit(X, CODES)
    again = net.fit({"a": X[:, :3]}, CODES)
    np.testing.assert_array_equal(
        again.predict_proba({"a": X[:, :3]}),
        MixupClassifier(Named, **OPTIONS).fit({"a": X[:, :3]}, CODES).predict_proba({"a": X[:, :3]}),
    )
    assert not hasattr(again, "n_features_in_")


def test_labels_of_another_kind_are_refused_by_name() -> None:
    net = MixupClassifier(**OPTIONS).fit(X, np.array(["a", "b"])[CODES])
    with pytest.raises(ValueError, match=r"y must hold labels among the classes \['a', 'b'\]; got"):
        net.partial_fit(X, CODES)


class Power(nn.Module):
    def __init__(self, in_features: int, power: int, out_features: int = 1) -> None:
        super().__init__()
        self.layer, self.power = nn.Linear(in_features, out_features), power

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) ** self.power


@pytest.mark.parametrize("power", [2, 3])
def test_odd_powers_take_any_value(power: int) -> None:
    net = MixupRegressor(Power, module__power=power, **OPTIONS)
    if power == 2:
        with pytest.raises(ValueError, match="the output of Pow, whose range is bounded"):
            net.fit(X, TARGET)
    else:
        assert np.isfinite(net.fit(X, TARGET).predict(X)).all()
