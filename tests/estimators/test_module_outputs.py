"""What a module may return: logits, members of an implicit ensemble, wider heads; and what it may not."""

from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
from scipy import stats
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import TensorDataset

from sk_mixup import MixupClassifier, MixupRegressor
from tests.helpers.nets import QUICK
from tests.helpers.sampling import each_pair
from tests.helpers.stacking import fit_stacked

N_MEMBERS = 4
X = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)
LABELS = np.arange(24) % 3
INDICATORS = (X[:, :3] > 0).astype(int)
VALUES = X[:, :2].copy()
OPTIONS = QUICK | {"max_epochs": 2, "batch_size": 8}
EVERY_ROW = {"iterator_train__shuffle": False, "optimizer": torch.optim.SGD, "lr": 0.1}


class Members(nn.Module):
    """Several linear models of the same inputs, as in TabM."""

    def __init__(self, n_outputs: int = 3, n_members: int = N_MEMBERS) -> None:
        super().__init__()
        self.line = nn.Linear(5, n_members * n_outputs)
        self.shape = (n_members, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x).unflatten(1, self.shape)


CASES: dict[str, tuple[type, Any, int, Any]] = {
    "labels": (MixupClassifier, LABELS, 3, nn.CrossEntropyLoss),
    "weighted labels": (MixupClassifier, LABELS, 3, nn.CrossEntropyLoss),
    "margins": (MixupClassifier, LABELS, 3, nn.MultiMarginLoss),
    "one logit": (MixupClassifier, LABELS % 2, 1, nn.BCEWithLogitsLoss),
    "indicators": (MixupClassifier, INDICATORS, 3, nn.BCEWithLogitsLoss),
    "value": (MixupRegressor, VALUES[:, 0], 1, nn.MSELoss),
    "values": (MixupRegressor, VALUES, 2, nn.L1Loss),
}


def make_net(case: str, **options: Any) -> Any:
    owner, _, n_outputs, criterion = CASES[case]
    weights = {"criterion__weight": torch.tensor([1.0, 2.0, 5.0])} if case == "weighted labels" else {}
    as_given = {"standardize_targets": False} if owner is MixupRegressor else {}
    given = {"module__n_outputs": n_outputs, "criterion": criterion, **weights, **OPTIONS, **EVERY_ROW}
    given |= as_given
    return owner(Members, alpha=0, **given | options)


def compute_member_loss(case: str, output: Tensor, y: np.ndarray) -> Tensor:
    """Return the loss of one member by torch's functions."""
    target = torch.as_tensor(y)
    if case.endswith("labels"):
        weight = torch.tensor([1.0, 2.0, 5.0]) if case == "weighted labels" else None
        return F.cross_entropy(output, target, weight)
    if case == "margins":
        return F.multi_margin_loss(output, target)
    if case in ("one logit", "indicators"):
        return F.binary_cross_entropy_with_logits(output, target.float().reshape(output.shape))
    return (F.mse_loss if case == "value" else F.l1_loss)(output, target.reshape(output.shape))


def train_by_hand(module: nn.Module, case: str, penalty: float = 0.0) -> list[float]:
    """Train in order, by the mean of the members' losses; return the mean loss of each epoch."""
    optimizer, losses = torch.optim.SGD(module.parameters(), lr=0.1), []
    y = CASES[case][1]
    for _ in range(2 * 3):
        rows = slice(8 * (len(losses) % 3), 8 * (len(losses) % 3) + 8)
        output = module(torch.tensor(X[rows]))
        loss = sum(compute_member_loss(case, output[:, k], y[rows]) for k in range(N_MEMBERS)) / N_MEMBERS
        if penalty:
            log_p = torch.log_softmax(output, dim=2)
            loss = loss + penalty * (log_p.exp() * log_p).sum(dim=2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return [float(np.mean(losses[:3])), float(np.mean(losses[3:]))]


@pytest.mark.filterwarnings("ignore:stacked")
@pytest.mark.parametrize("form", ["arrays", "Dataset", "stacked"])
@pytest.mark.parametrize("case", CASES)
def test_members_are_trained_by_the_mean_of_their_losses(case: str, form: str) -> None:
    y, net = CASES[case][1], make_net(case)
    module = make_net(case).initialize().module_
    if form == "stacked":
        fit_stacked([(net, X, y), (make_net(case, random_state=1), X, y)])
    elif form == "Dataset" and case not in ("value", "values"):
        net.set_params(classes=np.unique(y) if y.ndim == 1 else None).fit(
            TensorDataset(*map(torch.tensor, (X, y)))
        )
    else:
        net.fit(X, y)
    assert net.loss_curve_ == pytest.approx(train_by_hand(module, case), rel=1e-4)
    for name, value in net.module_.state_dict().items():
        torch.testing.assert_close(value, module.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_predictions_of_members_are_averaged() -> None:
    net = make_net("labels").fit(X, LABELS)
    output = net.module_(torch.tensor(X)).detach().double()
    expected = torch.softmax(output, dim=2).mean(dim=1)
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-5)
    np.testing.assert_allclose(net.predict_log_proba(X), expected.log(), rtol=1e-5)
    np.testing.assert_array_equal(net.predict(X), expected.argmax(dim=1))
    net = make_net("one logit").fit(X, LABELS % 2)
    output = net.module_(torch.tensor(X)).detach().double()
    np.testing.assert_allclose(net.predict_proba(X)[:, 1], output.sigmoid().mean(dim=(1, 2)), rtol=1e-5)
    net = make_net("indicators").fit(X, INDICATORS)
    output = net.module_(torch.tensor(X)).detach().double()
    np.testing.assert_allclose(net.predict_proba(X), output.sigmoid().mean(dim=1), rtol=1e-5)
    net = make_net("values").fit(X, VALUES)
    np.testing.assert_allclose(net.predict(X), net.module_(torch.tensor(X)).detach().mean(dim=1), atol=1e-5)
    assert make_net("value").fit(X, VALUES[:, 0]).predict(X).shape == (24,)


def test_entropy_is_that_of_each_members_classes() -> None:
    net = make_net("labels", confidence_penalty=0.5)
    module = make_net("labels").initialize().module_
    losses = train_by_hand(module, "labels", penalty=0.5)
    assert net.fit(X, LABELS).loss_curve_ == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_mixed_losses_of_members_are_averaged(case: str, weighted: bool) -> None:
    y = CASES[case][1]
    net = make_net(case).fit(X, y)
    if case == "weighted labels":
        net.criterion_.weight = None
    output = torch.randn(24, N_MEMBERS, CASES[case][2], generator=torch.Generator().manual_seed(0))
    lam = torch.linspace(0, 1, 24)
    lam, pair = torch.stack([lam, 1 - lam]), np.stack([y, np.roll(y, 1, axis=0)])
    weight = torch.linspace(0.5, 2, 24) if weighted else torch.ones(24)
    name = "labels" if case == "weighted labels" else case
    expected = sum(
        weight[i] * lam[k, i] * compute_member_loss(name, output[i : i + 1, m], pair[k, i : i + 1])
        for k in range(2) for i in range(24) for m in range(N_MEMBERS)
    ) / (N_MEMBERS * weight.sum())  # fmt: skip
    codes = net._targets.encode(y)
    mixed = torch.stack([torch.as_tensor(codes), torch.as_tensor(codes).roll(1, 0)])
    if case.startswith("value"):  # targets are mixed, not losses
        target = (lam.unsqueeze(-1) * mixed).sum(dim=0)
        rows = [compute_member_loss(case, output[i], target[i].expand_as(output[i])) for i in range(24)]
        expected = (weight * torch.stack(rows)).sum() / weight.sum()
    loss = net.get_mixed_loss(output, mixed, lam, weight if weighted else None)
    torch.testing.assert_close(loss, expected.float(), rtol=1e-4, atol=1e-5)


def test_early_stopping_follows_the_mean_of_members() -> None:
    net = make_net("labels", early_stopping=True, max_epochs=1).fit(X, LABELS)
    assert np.isfinite(net.history_[-1]["valid_loss"])
    assert 0 <= net.history_[-1]["valid_acc"] <= 1


# -- wider heads -------------------------------------------------------------------------


class Pinball(nn.Module):
    """Pinball loss of three quantiles, as users write it."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        levels = torch.tensor([0.1, 0.5, 0.9])
        losses = torch.maximum(levels * (y - output), (levels - 1) * (y - output))
        return losses if self.reduction == "none" else losses.mean()


class Broadcast(nn.Module):
    """The same by columns, for y of one axis."""

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        errors = [y - output[:, k] for k in range(3)]
        return sum(
            torch.maximum(q * e, (q - 1) * e).mean() for q, e in zip((0.1, 0.5, 0.9), errors, strict=True)
        )


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": 0.4}, {"early_stopping": True}])
def test_quantiles_are_trained_by_a_criterion_of_the_users_own(options: dict[str, Any]) -> None:
    net = MixupRegressor(nn.Linear(5, 3), criterion=Pinball, **OPTIONS | EVERY_ROW | options)
    net.fit(X, VALUES[:, 0], sample_weight=np.linspace(1, 2, 24) if options == {"alpha": 0.4} else None)
    assert net.predict(X).shape == (24, 3)
    np.testing.assert_allclose(net.predict(X), net.module_(torch.tensor(X)).detach(), atol=1e-6)


def test_loss_of_quantiles_is_that_of_torch() -> None:
    net = MixupRegressor(
        nn.Linear(5, 3), criterion=Pinball, alpha=0, **OPTIONS | {"lr": 1e-9, "batch_size": -1}
    )
    net.fit(X, VALUES[:, 0])
    expected = Pinball()(net.module_(torch.tensor(X)), torch.tensor(VALUES[:, :1]))
    assert net.loss_curve_[-1] == pytest.approx(expected.item(), rel=1e-5)


def test_rows_that_are_broadcast_against_each_other_are_pointed_out() -> None:
    net = MixupRegressor(nn.Linear(5, 3), criterion=Broadcast, alpha=0, **OPTIONS)
    with pytest.warns(UserWarning, match="must compute the loss of each row by itself"):
        net.fit(X, VALUES[:, 0])


class Spread(nn.Module):
    """A mean, or a shape, and what is never below 0."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        mean, spread = self.line(x).split(1, dim=1)
        return torch.cat([mean, F.softplus(spread) + 0.1], dim=1)


def likelihood_of(a: Tensor, b: Tensor, y: Tensor, kind: str) -> Tensor:
    if kind == "variance":
        return F.gaussian_nll_loss(a, y, b, reduction="none")
    if kind == "logarithm":
        return ((y - a) ** 2 / b + b.log()) / 2
    if kind == "beta":
        return -torch.distributions.Beta(F.softplus(a), b).log_prob(y)
    return -torch.distributions.Normal(a, b**0.5).log_prob(y) - 0.5 * np.log(2 * np.pi)


class Likelihood(nn.Module):
    """Negative logarithm of a density whose parameters the module gives: defined for some numbers only."""

    def __init__(self, kind: str, reduction: str = "mean") -> None:
        super().__init__()
        self.kind, self.reduction = kind, reduction

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        losses = likelihood_of(output[:, :1], output[:, 1:], y, self.kind)
        return losses if self.reduction == "none" else losses.mean()


@pytest.mark.parametrize("kind", ["variance", "logarithm", "density", "beta"])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.4, "early_stopping": True}], ids=str)
def test_densities_of_which_the_module_gives_the_parameters_are_trained(
    kind: str, options: dict[str, Any]
) -> None:
    y = np.linspace(0.1, 0.9, 24)
    given = OPTIONS | {"alpha": 0, "lr": 1e-9, "batch_size": -1} | options
    net = MixupRegressor(Spread, criterion=Likelihood, criterion__kind=kind, **given).fit(X, y)
    if not options:
        a, b = (column.numpy() for column in net.module_(torch.tensor(X)).detach().double().split(1, dim=1))
        expected = (np.square(y[:, None] - a) / b + np.log(b)) / 2
        if kind == "beta":
            expected = -stats.beta(np.logaddexp(0, a), b).logpdf(y[:, None])
        assert net.loss_curve_[-1] == pytest.approx(expected.mean(), rel=1e-4)


def test_wider_heads_are_refused_for_criteria_of_torch() -> None:
    with pytest.raises(
        ValueError, match=r"module must return 1 outputs per row; got an output of shape \(2, 3\)"
    ):
        MixupRegressor(nn.Linear(5, 3), **OPTIONS).fit(X, VALUES[:, 0])


# -- losses and links of the user's own --------------------------------------------------


class Ordered(nn.Module):
    """Binary cross-entropies of being beyond each class but the last: a logit fewer than classes."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        beyond = (y[:, None] > torch.arange(output.shape[1])).to(output)
        losses = F.binary_cross_entropy_with_logits(output, beyond, reduction="none").sum(dim=1)
        return losses if self.reduction == "none" else losses.mean()


def link_ordered(output: Tensor) -> Tensor:
    beyond = F.pad(output.sigmoid(), (1, 0), value=1.0)
    return beyond - F.pad(beyond[:, 1:], (0, 1))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.4, "early_stopping": True}], ids=str)
def test_a_link_of_the_users_own_may_take_fewer_outputs_than_classes(
    n_classes: int, options: dict[str, Any]
) -> None:
    y, module = LABELS % n_classes, nn.Linear(5, n_classes - 1)
    given = {**OPTIONS, "alpha": 0, "lr": 1e-9, "batch_size": -1, "criterion": Ordered, **options}
    net = MixupClassifier(module, predict_nonlinearity=link_ordered, **given).fit(X, y)
    logits = net.module_(torch.tensor(X)).detach().double().numpy()
    beyond = np.pad(1 / (1 + np.exp(-logits)), [(0, 0), (1, 1)])
    beyond[:, 0] = 1
    np.testing.assert_allclose(net.predict_proba(X), beyond[:, :-1] - beyond[:, 1:], atol=1e-6)
    if not options:
        signs = np.where(y[:, None] > np.arange(n_classes - 1), 1, -1)
        expected = np.logaddexp(0, -signs * logits).sum(axis=1).mean()
        assert net.loss_curve_[-1] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match=f"module must return {n_classes} logits per row"):
        MixupClassifier(module, **given).fit(X, y)
    if n_classes == 2:  # the probability of the second class
        other = MixupClassifier(module, predict_nonlinearity=torch.sigmoid, **given).fit(X, y)
        np.testing.assert_allclose(other.predict_proba(X), net.predict_proba(X), atol=1e-6)
        return
    with pytest.raises(ValueError, match=f"module must return {n_classes} logits per row"):
        MixupClassifier(module, predict_nonlinearity=torch.sigmoid, **given).fit(X, y)


# -- what is built by the data -----------------------------------------------------------


class OfWidth(nn.Linear):
    """A module that is told one of its sizes by the data, and knows the other."""

    def __init__(self, in_features: int, n_classes: int = 3) -> None:
        super().__init__(in_features, n_classes)


def test_a_class_may_take_the_width_of_its_inputs_alone() -> None:
    net = MixupClassifier(OfWidth, **OPTIONS).fit(X, LABELS)
    plain = MixupClassifier(nn.Linear, **OPTIONS).fit(X, LABELS)
    np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))
    with pytest.raises(ValueError, match="module__in_features must be given to initialize without data"):
        MixupClassifier(OfWidth, **OPTIONS).initialize()
    with pytest.raises(ValueError, match="module__in_features and module__out_features must be given"):
        MixupClassifier(nn.Linear, **OPTIONS).initialize()


def test_a_lazy_module_takes_its_width_from_the_data() -> None:
    module = nn.Sequential(nn.LazyLinear(3))
    net = MixupClassifier(module, **OPTIONS).fit(X, LABELS)
    assert net.module_[0].weight.shape == (3, 5)
    assert isinstance(module[0], nn.LazyLinear)  # a copy was trained


# -- what is no tensor -------------------------------------------------------------------

Several = namedtuple("Several", ["logits", "hidden"])


class Output(OrderedDict):
    """Like what a model of Hugging Face returns."""


WRAPS = {
    "tuple": lambda logits: (logits, logits),
    "namedtuple": lambda logits: Several(logits, logits),
    "dict": lambda logits: {"logits": logits},
    "Output": lambda logits: Output(logits=logits),
    "list": lambda logits: [logits],
}


class Wrapping(nn.Module):
    def __init__(self, form: str = "tuple", n_outputs: int = 3, only_training: bool = False) -> None:
        super().__init__()
        self.line, self.form, self.only_training = nn.Linear(5, n_outputs), form, only_training

    def forward(self, x: Tensor) -> Any:
        logits = self.line(x)
        return logits if self.only_training and not self.training else WRAPS[self.form](logits)


@each_pair(
    {
        "alpha": [0.0, 0.4],
        "form": WRAPS,
        "only_training": [False, True],
        "autocast": [None, "bfloat16"],
    }
)
def test_what_is_no_tensor_is_refused_in_one_way(
    form: str, alpha: float, only_training: bool, autocast: str | None
) -> None:
    options = {"module__form": form, "module__only_training": only_training, "alpha": alpha, **OPTIONS}
    for net, y in (
        (MixupClassifier(Wrapping, autocast=autocast, **options), LABELS),
        (MixupRegressor(Wrapping, module__n_outputs=1, autocast=autocast, **options), VALUES[:, 0]),
    ):
        with pytest.raises(TypeError, match=r"module must return a tensor .* Return the logits alone"):
            net.fit(X, y)


class OfFirst(nn.CrossEntropyLoss):
    """A loss of the user's own, of a tuple."""

    def forward(self, output: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        return super().forward(output[0], y) + 0 * output[1].sum()


def test_tuples_are_for_a_criterion_of_the_users_own() -> None:
    net = MixupClassifier(Wrapping, criterion=OfFirst, **OPTIONS | {"batch_size": 25}).fit(X, LABELS)
    expected = torch.softmax(net.module_(torch.tensor(X))[0].detach().double(), dim=1)
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-5)


BESIDE = {
    "number": lambda logits: logits.square().mean(),
    "none": lambda logits: None,
    "states": lambda logits: (logits[None], logits[None] + 1),
    "weights": lambda logits: logits[:1],
}


class Beside(nn.Module):
    """Returns something beside the logits that is no row for each example."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.line, self.kind = nn.Linear(5, 3), kind

    def forward(self, x: Tensor) -> Any:
        logits = self.line(x)
        return logits, BESIDE[self.kind](logits)


class OfLogits(nn.CrossEntropyLoss):
    """A loss of the user's own, of the first entry alone."""

    def forward(self, output: Any, y: Tensor) -> Tensor:
        return super().forward(output[0], y)


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("options", [{}, {"autocast": "bfloat16"}], ids=str)
def test_what_stands_beside_the_logits_need_not_be_rows(kind: str, options: dict[str, Any]) -> None:
    net = MixupClassifier(Beside, module__kind=kind, criterion=OfLogits, calibrate=False, **OPTIONS | options)
    net.fit(X, LABELS)
    expected = torch.softmax(net.module_.line(torch.tensor(X)).detach().double(), dim=1)
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=2e-2 if options else 1e-5)


@pytest.mark.parametrize("shape", [(3, 1), (1, 1, 3), (2, 2)])
@pytest.mark.parametrize("y", [LABELS, INDICATORS], ids=["labels", "indicators"])
def test_other_shapes_are_refused_with_the_width_that_is_wanted(
    y: np.ndarray, shape: tuple[int, ...]
) -> None:
    module = nn.Sequential(nn.Linear(5, int(np.prod(shape))), nn.Unflatten(1, shape))
    with pytest.raises(ValueError, match="module must return 3 logits per row"):
        MixupClassifier(module, **OPTIONS).fit(X, y)
