"""Robustness: attacks against closed forms, slow loops of autograd and the Adversarial Robustness Toolbox."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
import logging.config
from types import ModuleType
from typing import Any
import warnings

from matplotlib.figure import Figure
import numpy as np
from numpy.typing import NDArray
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetClassifier
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup.inspection import (
    RobustnessDisplay,
    adversarial_examples,
    between_curves,
    robustness_curve,
)
from sk_mixup.inspection._attacks import Attacker, Source, predict_logits
from tests.helpers.nets import QUICK, USER, Net

ATTACKS = ["fgsm", "i-fgsm", "pgd"]


def make_linear(n_features: int = 5, n_classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(n_features, n_classes)


def make_mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


@pytest.fixture(scope="module")
def net(blobs: Any) -> MixupClassifier:
    return MixupClassifier(**{**QUICK, "max_epochs": 10}).fit(blobs.X, blobs.y)


@contextmanager
def unchanged_generators() -> Iterator[None]:
    """Check that the global generators are left as they were."""
    numpy_before, torch_before = get_states()
    yield
    numpy_after, torch_after = get_states()
    np.testing.assert_equal(numpy_after, numpy_before)
    assert torch.equal(torch_after, torch_before)


def get_states() -> tuple[Any, Any]:
    return np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the global state is what is looked at


def attack(name: str, module: Any, X: Any, y: Any, eps: float, seed: int = 0, **options: Any) -> NDArray[Any]:
    """Return the adversarial examples of a module."""
    options = {"n_steps": 5, "step_size": None, "clip": None, "batch_size": 16, **options}
    return Attacker(name, seed=seed, **options).attack(Source("model", module, X, y, None), X, eps)


def find_direction(module: nn.Module, X: Any, y: Any) -> NDArray[Any]:
    """Return the sign of the gradient of the loss by autograd."""
    x = torch.tensor(X, requires_grad=True)
    cross_entropy(module.eval()(x), torch.as_tensor(y), reduction="sum").backward()
    return np.sign(x.grad.numpy())


def step(module: nn.Module, X: Any, y: Any, eps: float, n_steps: int, step_size: float, start: Any) -> Any:
    """Take steps along the sign of the gradient, within the ball: the slow form."""
    x = start
    for _ in range(n_steps):
        x = x + np.float32(step_size) * find_direction(module, x, y)
        x = X + np.clip(x - X, -np.float32(eps), np.float32(eps))
    return x


# -- the examples ------------------------------------------------------------------------


def test_fgsm_of_a_linear_model_is_the_closed_form(blobs: Any) -> None:
    module = make_linear()
    weight, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
    scores = blobs.X @ weight.T + bias
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    gradient = (p - np.eye(3)[blobs.y]) @ weight
    expected = blobs.X + np.float32(0.3) * np.sign(gradient)
    np.testing.assert_allclose(attack("fgsm", module, blobs.X, blobs.y, 0.3), expected, atol=1e-6)


def test_fgsm_is_a_step_along_the_sign_of_the_gradient(blobs: Any) -> None:
    module = make_mlp()
    expected = blobs.X + np.float32(0.3) * find_direction(module, blobs.X, blobs.y)
    np.testing.assert_allclose(attack("fgsm", module, blobs.X, blobs.y, 0.3), expected, atol=1e-6)


@pytest.mark.parametrize("step_size", [None, 0.1, 5.0])
def test_iterated_fgsm_takes_equal_steps(blobs: Any, step_size: float | None) -> None:
    module = make_mlp()
    length = 0.3 / 5 if step_size is None else min(step_size, 0.3)
    expected = step(module, blobs.X, blobs.y, 0.3, 5, length, blobs.X)
    examples = attack("i-fgsm", module, blobs.X, blobs.y, 0.3, step_size=step_size)
    np.testing.assert_allclose(examples, expected, atol=1e-5)


@pytest.mark.parametrize("step_size", [None, 0.1])
def test_pgd_starts_at_random_in_the_ball(blobs: Any, step_size: float | None) -> None:
    module = make_mlp()
    generator = np.random.RandomState(3)
    start = blobs.X + generator.uniform(-0.3, 0.3, blobs.X.shape).astype(np.float32)
    length = 2.5 * 0.3 / 5 if step_size is None else step_size
    expected = step(module, blobs.X, blobs.y, 0.3, 5, length, start)
    examples = attack("pgd", module, blobs.X, blobs.y, 0.3, seed=3, step_size=step_size)
    np.testing.assert_allclose(examples, expected, atol=1e-5)


@pytest.mark.parametrize("name", ATTACKS)
def test_examples_stay_in_the_ball_and_in_range(blobs: Any, name: str) -> None:
    clip = float(blobs.X.min()), float(blobs.X.max())
    examples = attack(name, make_mlp(), blobs.X, blobs.y, 0.5, clip=clip)
    assert np.abs(examples - blobs.X).max() <= 0.5 + 1e-6
    assert clip[0] <= examples.min() <= examples.max() <= clip[1]
    assert attack(name, make_mlp(), blobs.X, blobs.y, 0.5).max() > clip[1]


@pytest.fixture(scope="module")
def toolbox(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModuleType, ModuleType]:
    """Import the reference; on import it sets up loggers and makes a folder in the home directory."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(logging.config, "dictConfig", lambda config: None)
        return import_module("art.estimators.classification"), import_module("art.attacks.evasion")


def attack_by_toolbox(
    toolbox: tuple[ModuleType, ModuleType],
    name: str,
    module: nn.Module,
    X: Any,
    y: Any,
    *,
    eps: float,
    step_size: float,
    n_steps: int,
    batch_size: int,
    clip: tuple[float, float] | None,
) -> NDArray[Any]:
    """Return the examples of the reference, whose start of PGD comes from numpy's global generator."""
    estimators, evasion = toolbox
    classifier = estimators.PyTorchClassifier(
        model=module.eval(),
        loss=nn.CrossEntropyLoss(reduction="sum"),
        input_shape=X.shape[1:],
        nb_classes=3,
        clip_values=None if clip is None else tuple(map(np.float32, clip)),
        device_type="cpu",
    )
    options = {"estimator": classifier, "eps": eps, "batch_size": batch_size}
    if name == "fgsm":
        return evasion.FastGradientMethod(**options, eps_step=eps).generate(X, np.eye(3)[y])
    options |= {"eps_step": step_size, "max_iter": n_steps, "verbose": False}
    if name == "i-fgsm":
        return evasion.BasicIterativeMethod(**options).generate(X, np.eye(3)[y])
    return evasion.ProjectedGradientDescent(**options, num_random_init=1).generate(X, np.eye(3)[y])


@pytest.fixture
def seeded_numpy() -> Iterator[None]:
    """Seed numpy's global generator, and put it back."""
    before = np.random.get_state()  # noqa: NPY002 - the toolbox draws on it
    np.random.seed(3)  # noqa: NPY002
    yield
    np.random.set_state(before)  # noqa: NPY002


CASES: list[dict[str, Any]] = [
    {"eps": 0.05, "step_size": 0.01, "n_steps": 5, "batch_size": 16, "clip": None},
    {"eps": 0.3, "step_size": 0.3, "n_steps": 1, "batch_size": 60, "clip": None},
    {"eps": 0.3, "step_size": 0.1, "n_steps": 10, "batch_size": 7, "clip": (-2.0, 2.0)},
    {"eps": 1.0, "step_size": 0.25, "n_steps": 10, "batch_size": 1, "clip": None},
    {"eps": 4.0, "step_size": 1.5, "n_steps": 3, "batch_size": 256, "clip": (-2.0, 2.0)},
]


@pytest.mark.usefixtures("seeded_numpy")
@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("name", ATTACKS)
def test_examples_are_those_of_the_toolbox(blobs: Any, toolbox: Any, name: str, options: Any) -> None:
    X = blobs.X.clip(-2, 2)
    expected = attack_by_toolbox(toolbox, name, make_mlp(), X, blobs.y, **options)
    examples = attack(name, make_mlp(), X, blobs.y, seed=3, **options)
    assert examples.dtype == np.float32
    np.testing.assert_allclose(examples, expected, rtol=0, atol=2e-6)


class Broken(nn.Module):
    """A module whose gradient towards the first feature is NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = make_linear()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + 0 * (x[:, :1] * 0).sqrt()


def test_features_without_a_slope_stay_as_they_are(blobs: Any) -> None:
    moved = attack("fgsm", Broken(), blobs.X, blobs.y, 0.3) - blobs.X
    assert not moved[:, 0].any()
    np.testing.assert_allclose(np.abs(moved[:, 1:]), 0.3, atol=1e-6)


def test_one_logit_is_that_of_the_second_class(binary: Any) -> None:
    torch.manual_seed(0)
    one, two = nn.Linear(5, 1), nn.Linear(5, 2)
    with torch.no_grad():
        two.weight.copy_(torch.cat([torch.zeros_like(one.weight), one.weight]))
        two.bias.copy_(torch.cat([torch.zeros(1), one.bias]))
    flat = nn.Sequential(one, nn.Flatten(0))
    examples = [attack("fgsm", module, binary.X, binary.y, 0.3) for module in (one, two, flat)]
    np.testing.assert_array_equal(examples[0], examples[1])
    np.testing.assert_array_equal(examples[0], examples[2])


# -- the curve ---------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 2])
def test_error_is_that_of_the_examples(blobs: Any, top_k: int) -> None:
    module = make_mlp()
    curve = robustness_curve(module, blobs.X, blobs.y, eps=(0, 0.5, 1), top_k=top_k)
    expected = []
    for eps in (0, 0.5, 1):
        moved = blobs.X + np.float32(eps) * find_direction(module, blobs.X, blobs.y)
        logits = module(torch.as_tensor(moved))
        best = logits.topk(top_k, dim=1).indices.tolist()
        expected.append(np.mean([label not in row for label, row in zip(blobs.y, best, strict=True)]))
    assert curve.error.tolist() == expected
    assert curve.eps.tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("name", ATTACKS)
def test_the_curve_scores_these_examples(blobs: Any, net: Any, name: str) -> None:
    options: dict[str, Any] = {"attack": name, "n_steps": 3, "random_state": 4}
    examples = adversarial_examples(net, blobs.X, blobs.y, eps=0.4, **options)
    assert (examples.shape, examples.dtype) == (blobs.X.shape, np.float32)
    assert 0 < np.abs(examples - blobs.X).max() <= 0.4 + 1e-6
    curve = robustness_curve(net, blobs.X, blobs.y, eps=[0.4], **options)
    assert curve.error.tolist() == [np.mean(net.predict(examples) != blobs.y)]


def test_examples_of_no_strength_are_a_copy(blobs: Any) -> None:
    before = blobs.X.copy()
    examples = adversarial_examples(make_linear(), blobs.X, blobs.y, eps=0)
    assert np.array_equal(examples, blobs.X)
    examples[:] = 0
    assert np.array_equal(before, blobs.X)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"eps": -1.0}, ValueError, "eps must be .*got -1.0. Give strengths in the units of X"),
        ({"eps": float("nan")}, ValueError, "eps must be .*got nan"),
        ({"eps": (0.1, 0.2)}, TypeError, "eps must be a real number"),
        ({"attack": "cw"}, ValueError, "attack must be one of"),
        ({"clip": (0, 0.1)}, ValueError, "X must lie within clip"),
    ],
)
def test_examples_check_their_options(
    blobs: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        adversarial_examples(make_linear(), blobs.X, blobs.y, **options)


def test_models_without_gradients_have_no_examples(blobs: Any) -> None:
    tree = DecisionTreeClassifier().fit(blobs.X, blobs.y)
    with pytest.raises(TypeError, match="which is not differentiable"):
        adversarial_examples(tree, blobs.X, blobs.y)


@pytest.mark.parametrize("name", ATTACKS)
def test_stronger_attacks_do_more_to_a_linear_model(blobs: Any, name: str) -> None:
    error = robustness_curve(
        make_linear(n_classes=3), blobs.X, blobs.y, attack=name, eps=(0, 0.2, 0.5, 1, 3), random_state=0
    ).error
    assert (np.diff(error) >= 0).all()
    assert error[-1] > error[0]


@pytest.mark.parametrize("name", ATTACKS)
def test_no_strength_is_the_clean_error(blobs: Any, net: Any, name: str) -> None:
    error = robustness_curve(net, blobs.X, blobs.y, attack=name, eps=0.0, random_state=0).error
    assert error.tolist() == [np.mean(net.predict(blobs.X) != blobs.y)]


def test_same_seed_gives_the_same_curve(blobs: Any, net: Any) -> None:
    options = {"attack": "pgd", "eps": (0.5, 1.0), "n_steps": 2, "step_size": 0.05}
    first, again, other = (
        robustness_curve(net, blobs.X, blobs.y, **options, random_state=seed).error for seed in (0, 0, 1)
    )
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


@pytest.mark.parametrize("random_state", [None, 0])
def test_global_generators_are_left_alone(blobs: Any, net: Any, random_state: Any) -> None:
    net_of_skorch = NeuralNetClassifier(Net, **USER).fit(blobs.X, blobs.y)
    for model in (net, net_of_skorch):
        with unchanged_generators():
            robustness_curve(
                model, blobs.X, blobs.y, attack="pgd", eps=(0, 0.5), top_k=2, random_state=random_state
            )


def test_a_random_state_moves_on(blobs: Any) -> None:
    state = np.random.RandomState(0)
    options = {"attack": "pgd", "eps": (0.5, 1.0), "n_steps": 1, "step_size": 0.01, "random_state": state}
    curves = [robustness_curve(make_linear(), blobs.X, blobs.y, **options).error.tolist() for _ in range(6)]
    assert len({tuple(curve) for curve in curves}) > 1


def test_size_of_the_batches_has_no_effect(blobs: Any) -> None:
    curves = [
        robustness_curve(make_mlp(), blobs.X, blobs.y, attack="i-fgsm", batch_size=size).error.tolist()
        for size in (7, 256)
    ]
    assert curves[0] == curves[1]


def test_model_is_left_as_it_was(blobs: Any) -> None:
    module = make_mlp().train()
    module[1].eval()
    module(torch.as_tensor(blobs.X)).sum().backward()
    gradients = [p.grad.clone() for p in module.parameters()]
    robustness_curve(module, blobs.X, blobs.y, attack="pgd", random_state=0)
    assert [part.training for part in module] == [True, False, True, True]
    assert all(torch.equal(p.grad, g) for p, g in zip(module.parameters(), gradients, strict=True))
    assert all(p.requires_grad for p in module.parameters())


def test_nets_keep_their_mode(blobs: Any) -> None:
    net = NeuralNetClassifier(Net, **{**USER, "train_split": None}).fit(blobs.X, blobs.y)
    assert net.module_.training
    robustness_curve(net, blobs.X, blobs.y, eps=(0, 0.5))
    assert net.module_.training


@pytest.mark.parametrize(
    "options",
    [{}, {"criterion": nn.BCEWithLogitsLoss, "module__out_features": 1}, {"alpha": 0.0, "module": nn.Module}],
    ids=["two logits", "one logit", "probabilities"],
)
def test_labels_of_a_net_are_its_own(binary: Any, options: Any) -> None:
    if options.get("module"):
        module = nn.Sequential(nn.Linear(5, 2), nn.Softmax(dim=1))
        options = {**options, "module": module, "criterion": nn.NLLLoss}
    y = np.array(["yes", "no"])[binary.y]
    net = MixupClassifier(**{**QUICK, "max_epochs": 20}, **options).fit(binary.X, y)
    curve = robustness_curve(net, binary.X, y, eps=(0, 5.0))
    assert curve.error[0] == np.mean(net.predict(binary.X) != y)
    assert curve.error[1] > 0.9


def test_nets_of_skorch_predict_codes(blobs: Any) -> None:
    y = blobs.y * 2  # codes 0, 2, 4 of five columns
    module = make_linear(n_classes=5)
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, max_epochs=10, lr=0.5, train_split=None, verbose=0
    ).fit(blobs.X, y)
    of_net, of_module = (
        robustness_curve(model, blobs.X, y, eps=(0, 0.5), top_k=2).error.tolist()
        for model in (net, net.module_)
    )
    assert of_net == of_module
    assert robustness_curve(net, blobs.X, y, eps=0).error[0] == np.mean(net.predict(blobs.X) != y)


@pytest.mark.parametrize("last", [nn.Identity(), nn.Softmax(dim=1)], ids=["logits", "probabilities"])
def test_logits_are_those_of_the_probabilities(blobs: Any, last: nn.Module) -> None:
    criterion = nn.NLLLoss if isinstance(last, nn.Softmax) else nn.CrossEntropyLoss
    net = NeuralNetClassifier(nn.Sequential(make_linear(), last), **{**USER, "criterion": criterion})
    net.fit(blobs.X, blobs.y)
    logits = predict_logits(Source("model", net, blobs.X, blobs.y, None).logits, blobs.X, 16)
    np.testing.assert_allclose(softmax(logits, axis=1), net.predict_proba(blobs.X), atol=1e-6)


def test_module_of_double_precision_is_attacked(blobs: Any) -> None:
    of_single, of_double = (
        robustness_curve(module, blobs.X, blobs.y, eps=(0, 0.5)).error.tolist()
        for module in (make_linear(), make_linear().double())
    )
    assert of_single == of_double


def test_clean_error_of_a_module_of_double_precision_is_that_of_its_rows() -> None:
    module = nn.Linear(1, 2).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        module.bias.copy_(torch.tensor([1e8 + 0.5, -1e8 - 0.5], dtype=torch.float64))
    far = np.array([[1e8], [1e8 + 1]])  # alike in float32
    assert robustness_curve(module, far, [0, 1], eps=0).error.tolist() == [0]


# -- black box ---------------------------------------------------------------------------


def test_black_box_scores_the_examples_of_the_source(blobs: Any) -> None:
    source, names = make_linear(), np.array(["a", "b", "c"])
    tree = DecisionTreeClassifier(random_state=0).fit(blobs.X, names[blobs.y])
    curve = robustness_curve(tree, blobs.X, names[blobs.y], source=source, eps=(0, 0.5))
    moved = attack("fgsm", source, blobs.X, blobs.y, 0.5)
    expected = [1 - tree.score(rows, names[blobs.y]) for rows in (blobs.X, moved)]
    assert curve.error.tolist() == pytest.approx(expected)


NAMES = np.array(["a", "b", "c"])
# Ways to write the codes 0, 1, 2 that are equal to them, and others.
NUMBERS = [np.arange(3), np.arange(3.0), np.arange(3, dtype=np.uint8), np.arange(3).astype(object)]
WORDS = [NAMES, NAMES.astype(object), np.array(["0", "1", "2"]), np.array([b"0", b"1", b"2"])]
DAYS = np.datetime64("2026-01-01") + np.arange(3)


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("given", NUMBERS, ids=lambda labels: str(labels.dtype))
@pytest.mark.parametrize("fitted", NUMBERS, ids=lambda labels: str(labels.dtype))
def test_equal_numbers_are_equal_labels(blobs: Any, net: Any, fitted: Any, given: Any, top_k: int) -> None:
    tree = DecisionTreeClassifier(random_state=0).fit(blobs.X, fitted.astype(float)[blobs.y])
    curve = robustness_curve(tree, blobs.X, given[blobs.y], source=net, eps=0.5, top_k=top_k)
    scores = tree.predict_proba(attack("fgsm", net, blobs.X, blobs.y, 0.5))
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    assert curve.error.tolist() == [np.mean((best != blobs.y[:, None]).all(axis=1))]


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("fitted", [*WORDS, DAYS], ids=lambda labels: str(labels.dtype))
def test_labels_that_a_measured_model_does_not_know_are_refused(
    blobs: Any, net: Any, fitted: Any, top_k: int
) -> None:
    tree = DecisionTreeClassifier(random_state=0).fit(blobs.X, fitted[blobs.y])
    message = "y must hold labels (of the kind that predict of the model holds|that the model knows)"
    with pytest.raises(ValueError, match=message):
        robustness_curve(tree, blobs.X, blobs.y, source=net, top_k=top_k)
    of_two = DecisionTreeClassifier(random_state=0).fit(blobs.X, blobs.y > 0)
    with pytest.raises(
        ValueError, match=r"y must hold labels that the model knows, \[False, True\]; got \[2\]"
    ):
        robustness_curve(of_two, blobs.X, blobs.y, source=net)


def _fit_multilabel(owner: Any, n_labels: int, blobs: Any) -> Any:
    y = np.stack([blobs.y == k for k in range(n_labels)], axis=1).astype(int)
    return owner().fit(blobs.X, y)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("n_labels", [2, 3])
@pytest.mark.parametrize(
    "owner",
    [partial(MixupClassifier, **QUICK), partial(MLPClassifier, max_iter=2)],
    ids=["ours", "sklearn's"],
)
def test_models_of_several_labels_are_refused(blobs: Any, owner: Any, n_labels: int, top_k: int) -> None:
    model, y = _fit_multilabel(owner, n_labels, blobs), blobs.y % n_labels
    match = rf"model must predict one label per row; got a \w+ that predicts .* shape \(1, {n_labels}\)"
    source = make_linear(n_classes=n_labels)
    with pytest.raises(ValueError, match=match):
        robustness_curve(model, blobs.X, y, source=source, top_k=top_k)
    with pytest.raises(ValueError, match=match):
        between_curves(model, blobs.X, y, n_pairs=2)
    if hasattr(model, "module_"):
        for measure in (robustness_curve, adversarial_examples):
            with pytest.raises(ValueError, match=match):
                measure(model, blobs.X, y, eps=0.1)
        with pytest.raises(ValueError, match=match.replace("model", "source")):
            robustness_curve(source, blobs.X, y, source=model)


def test_black_box_differs_from_white_box(blobs: Any, net: Any) -> None:
    white = robustness_curve(net, blobs.X, blobs.y, eps=0.7).error
    black = robustness_curve(net, blobs.X, blobs.y, eps=0.7, source=make_mlp()).error
    assert black < white
    assert robustness_curve(net, blobs.X, blobs.y, eps=0.7, source=net).error == white


@pytest.mark.parametrize("top_k", [1, 2])
def test_frames_stay_frames(blobs: Any, top_k: int) -> None:
    frame = pd.DataFrame(blobs.X, columns=list("abcde"))
    model = LogisticRegression().fit(frame, blobs.y)
    curves = [
        robustness_curve(m, X, blobs.y, source=make_linear(), top_k=top_k).error.tolist()
        for m, X in ((model, frame), (LogisticRegression().fit(blobs.X, blobs.y), blobs.X))
    ]
    assert curves[0] == curves[1]


# -- the display -------------------------------------------------------------------------


@pytest.mark.parametrize("source", [None, make_linear()])
def test_display_draws_the_curves_of_all_models(blobs: Any, net: Any, source: Any) -> None:
    models, eps = {"net": net, "module": make_mlp()}, (0.0, 0.5)
    axes = Figure().subplots(1, 2)
    display = RobustnessDisplay.from_estimators(
        models, blobs.X, blobs.y, attacks=("fgsm", "pgd"), eps=eps, source=source, random_state=0, ax=axes
    )
    for k, name in enumerate(("fgsm", "pgd")):
        options = {"attack": name, "eps": eps, "source": source, "random_state": 0}
        for m, model in enumerate(models.values()):
            expected = robustness_curve(model, blobs.X, blobs.y, **options).error
            assert display.errors[m, k].tolist() == expected.tolist()
            np.testing.assert_allclose(display.lines_[k][m].get_ydata(), 100 * expected)
    box = "white box" if source is None else "black box"
    assert [own.get_title() for own in axes] == [f"FGSM, {box}", f"PGD, {box}"]
    legend = [text.get_text() for text in axes[-1].get_legend().get_texts()]
    assert legend == ["net", "module"]


def test_display_of_one_model(blobs: Any) -> None:
    axes = Figure().subplots()
    display = RobustnessDisplay.from_estimator(
        make_linear(), blobs.X, blobs.y, attack="i-fgsm", eps=(0, 1), top_k=2, ax=axes
    )
    assert display.names == ["Linear"]
    assert display.errors.shape == (1, 1, 2)
    assert axes.get_ylabel() == "Top-2 error (%)"
    plain = RobustnessDisplay(eps=display.eps, errors=display.errors).plot(ax=Figure().subplots())
    assert plain.axes_[0].get_legend() is None
    with pytest.raises(ValueError, match=r"ax must hold 1 axes for RobustnessDisplay.plot; got 2"):
        plain.plot(ax=Figure().subplots(2))


@pytest.mark.parametrize("attacks", ["pgd", ["pgd"], np.array(["pgd"])], ids=repr)
def test_attacks_may_be_given_in_any_form(blobs: Any, attacks: Any) -> None:
    net, axes = make_linear(), Figure().subplots()
    drawn = RobustnessDisplay.from_estimators(
        [net], blobs.X, blobs.y, attacks=attacks, random_state=0, ax=axes
    )
    expected = robustness_curve(net, blobs.X, blobs.y, attack="pgd", random_state=0).error
    assert drawn.attacks == ("pgd",)
    assert drawn.errors.tolist() == [[expected.tolist()]]


def test_empty_displays_raise(blobs: Any) -> None:
    with pytest.raises(ValueError, match=r"models must hold at least 1 model; got \{\}"):
        RobustnessDisplay.from_estimators({}, blobs.X, blobs.y)
    with pytest.raises(ValueError, match=r"attacks must not be empty; got \(\)"):
        RobustnessDisplay.from_estimators({"a": make_linear()}, blobs.X, blobs.y, attacks=())


# -- errors ------------------------------------------------------------------------------

VALUE_ERRORS = [
    ({"attack": "fgms"}, "attack must be one of 'fgsm', 'i-fgsm', 'pgd'; got 'fgms'. Did you mean 'fgsm'"),
    ({"eps": (0, -0.1)}, "eps must be finite and at least 0; got -0.1. Give strengths in the units of X"),
    ({"eps": np.nan}, "eps must be finite and at least 0; got nan"),
    ({"eps": np.inf}, "eps must be finite and at least 0; got inf"),
    ({"eps": ()}, r"eps must hold at least one strength; got shape \(0,\)"),
    ({"eps": [[0.1]]}, r"eps must hold at least one strength; got shape \(1, 1\)"),
    ({"n_steps": 0}, "n_steps must be at least 1; got 0"),
    ({"step_size": 0.0}, "step_size must be finite and greater than 0; got 0.0"),
    ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
    ({"top_k": 0}, "top_k must be at least 1; got 0"),
    ({"top_k": 3}, "top_k must be less than the number of classes; got 3 for 3"),
    ({"clip": (1, 0)}, r"clip must be finite, low below high; got \(1, 0\)"),
    ({"clip": (np.nan, 1)}, r"clip must be finite, low below high; got \(nan, 1\)"),
    ({"clip": (-1, 1)}, r"X must lie within clip; got values from .* for clip=\(-1, 1\)"),
    ({"y": [0, 1]}, r"y must hold one label per row of X; got shape \(2,\) for 60 rows"),
    ({"y": [0, 3] * 30}, r"y must hold labels that the model knows, \[0, 1, 2\]; got \[3\]"),
    ({"y": ["a", "b"] * 30}, r"y must hold labels that the model knows, \[0, 1, 2\]; got \['a', 'b'\]"),
    ({"X": np.full((60, 5), np.nan)}, "Input X contains NaN"),
    ({"model": nn.Unflatten(1, (5, 1))}, r"model must return logits .*; got an output of shape \(1, 5, 1\)"),
]


@pytest.mark.parametrize(("options", "message"), VALUE_ERRORS)
def test_bad_values_raise(blobs: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        robustness_curve(**{"model": make_linear(), "X": blobs.X, "y": blobs.y, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 1}, r"clip must be a pair of numbers \(low, high\) or None; got 1"),
        ({"clip": ("a", 1)}, "clip must be a pair of numbers"),
        ({"n_steps": 2.5}, "n_steps must be an integer; got 2.5"),
        ({"model": abs}, "model must have predict for top_k=1; got builtin_function_or_method"),
        ({"source": abs}, "source must be a torch module .* not differentiable. Give a torch module."),
    ],
)
def test_bad_types_raise(blobs: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        robustness_curve(**{"model": make_linear(), "X": blobs.X, "y": blobs.y, **options})


def test_models_without_gradients_raise(blobs: Any) -> None:
    message = (
        "model must be a torch module .*; got DecisionTreeClassifier, .* Give .* a differentiable `source`"
    )
    tree = DecisionTreeClassifier().fit(blobs.X, blobs.y)
    with pytest.raises(TypeError, match=message):
        robustness_curve(tree, blobs.X, blobs.y)
    regressor = MixupRegressor(**QUICK).fit(blobs.X, blobs.X[:, 0])
    with pytest.raises(TypeError, match=r"model must be a torch module .*; got MixupRegressor"):
        robustness_curve(regressor, blobs.X, blobs.y)


@pytest.mark.parametrize(
    "model",
    [MixupClassifier(), NeuralNetClassifier(Net), DecisionTreeClassifier()],
    ids=lambda m: type(m).__name__,
)
@pytest.mark.parametrize("source", [None, make_linear()])
def test_unfitted_models_raise(blobs: Any, model: Any, source: Any) -> None:
    with pytest.raises(NotFittedError, match="fitted"):
        robustness_curve(model, blobs.X, blobs.y, source=source)


class Detached(nn.Module):
    """Its output has no gradient towards its input."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).detach()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Detached(), "model must be differentiable with respect to its input; got an output without"),
        (nn.Sequential(nn.Embedding(3, 3), nn.Flatten()), "model must take rows of X as floats; got rows"),
        (nn.Linear(4, 3), r"model must take rows of X as floats; got rows of shape \(5,\)"),
    ],
)
def test_modules_that_cannot_be_attacked_are_explained(blobs: Any, module: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        robustness_curve(module, blobs.X, blobs.y)
    with pytest.raises(ValueError, match=message):
        between_curves(module, blobs.X, blobs.y)
