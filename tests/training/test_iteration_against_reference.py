"""The training iteration: ERM to the bit, mixing against a slow reference."""

import numpy as np
import pytest
import skorch
import torch
from torch import nn
import torch.nn.functional as F  # noqa: N812
from torch.utils.data import DataLoader, TensorDataset, default_collate

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup.mixing import ERM, RowFacts
from sk_mixup.modules import MLP
from tests.helpers import reference
from tests.helpers.sampling import each_pair

N, D, C, EPOCHS, BATCH = 27, 3, 3, 3, 8


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(N, D)).astype(np.float32)
    return X, generator.integers(C, size=N)


def make_classifier(**options):
    options = {"alpha": 0, "max_epochs": EPOCHS, "batch_size": BATCH, "random_state": 3} | options
    return MixupClassifier(**{"early_stopping": False} | options)


def draw_streams(random_state):
    """Follow the estimator's one generator: seeds of weights, split and training, then epochs."""
    generator = np.random.default_rng(random_state)
    seeds = [int(generator.integers(2**31 - 1)) for _ in range(3)]
    return generator, seeds


def train_plainly(X, y, criterion, n_outputs, optimizer, **options):
    """Train as a PyTorch user would write it, on the same weights and the same order."""
    generator, (init_seed, _, train_seed) = draw_streams(3)
    torch.manual_seed(init_seed)
    module = MLP(D, n_outputs)
    torch.manual_seed(train_seed)
    fused = optimizer is not torch.optim.SGD or None
    descent = optimizer(module.parameters(), fused=fused, **options)
    x, y = torch.as_tensor(X, dtype=torch.get_default_dtype()), torch.as_tensor(y)
    for _ in range(EPOCHS):
        for batch in ERM()(generator.spawn(1)[0], N, BATCH):
            rows = torch.as_tensor(batch.rows)
            descent.zero_grad()
            criterion(module(x[rows]), y[rows]).backward()
            descent.step()
    return module


def assert_same_weights(module, other):
    pairs = zip(module.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.Adam, {"lr": 1e-3}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (torch.optim.AdamW, {"lr": 1e-2}),
    ],
)
def test_alpha_zero_is_a_plain_loop_to_the_bit(data, optimizer, options):
    named = {f"optimizer__{key}": value for key, value in options.items()}
    net = make_classifier(optimizer=optimizer, **named).fit(*data)
    assert_same_weights(net.module_, train_plainly(*data, F.cross_entropy, C, optimizer, **options))


def test_alpha_zero_regression_is_a_plain_loop_to_the_bit(data):
    X, y = data[0], data[0].sum(axis=1)
    options = {"alpha": 0, "max_epochs": EPOCHS, "batch_size": BATCH, "random_state": 3}
    net = MixupRegressor(**options, early_stopping=False, standardize_targets=False).fit(X, y)
    assert_same_weights(net.module_, train_plainly(X, y[:, None], F.mse_loss, 1, torch.optim.Adam))


def test_alpha_zero_multilabel_is_a_plain_loop_to_the_bit(data):
    X, labels = data[0], (data[0] > 0).astype(np.float32)
    net = make_classifier().fit(X, labels.astype(int))
    loss = F.binary_cross_entropy_with_logits
    assert_same_weights(net.module_, train_plainly(X, labels, loss, D, torch.optim.Adam))


def test_alpha_zero_in_float64_is_a_plain_loop_to_the_bit(data, float64):
    net = make_classifier().fit(*data)
    assert net.module_.layers[1].weight.dtype == torch.float64
    assert_same_weights(net.module_, train_plainly(*data, F.cross_entropy, C, torch.optim.Adam))


@pytest.mark.parametrize("option", [{"lam_per": "batch"}, {"n_mixed": 3}, {"partners": "dataset"}])
def test_alpha_zero_ignores_the_other_mixing_options(data, option):
    assert_same_weights(make_classifier(**option).fit(*data).module_, make_classifier().fit(*data).module_)


MIXING = [
    {"alpha": 0.4},
    {"alpha": 1, "lam_per": "batch"},
    {"alpha": 1.0, "n_mixed": 3},
    {"alpha": 2.0, "partners": "dataset"},
    {"alpha": 2.0, "partners": "dataset", "n_mixed": 4, "lam_per": "batch"},
    {"alpha": 1.0, "partners": "same_class"},
    {"alpha": float("inf")},
    {"alpha": 0},
]


def expected_gradients(net, rows, targets, row_loss, weight):
    """Gradients of the first step, each virtual example built and scored on its own."""
    generator, (_, _, _) = draw_streams(3)
    labels = np.unique(targets, axis=0, return_inverse=True)[1].ravel()
    plan = net.get_policy()(generator.spawn(1)[0], N, N, facts=RowFacts(labels=labels))
    lam = np.ones((1, N)) if plan.lam is None else plan.lam
    mixed = [reference.mix_row(rows[plan.index[:, i]], lam[:, i]) for i in range(N)]
    outputs = [net.module_(torch.as_tensor(row)[None])[0] for row in np.array(mixed)]
    total, divisor = 0.0, 0.0
    for i, output in enumerate(outputs):
        product = 1.0 if weight is None else np.prod(weight[plan.index[:, i]])
        for k, row in enumerate(plan.index[:, i]):
            total = total + product * lam[k, i] * row_loss(output, targets[row])
        divisor += product
    loss = total / divisor
    return loss.item(), torch.autograd.grad(loss, list(net.module_.parameters()))


def check_first_step(net, X, y, targets, row_loss, weight):
    """Compare one step at learning rate 1, plain SGD, with the slow gradients."""
    before = net.set_params(lr=1e-30).fit(X, y, sample_weight=weight)
    loss, gradients = expected_gradients(before, X, targets, row_loss, weight)
    start = [p.detach().clone() for p in before.module_.parameters()]
    after = net.set_params(lr=1.0).fit(X, y, sample_weight=weight)
    steps = [a - p.detach() for a, p in zip(start, after.module_.parameters(), strict=True)]
    for step, gradient in zip(steps, gradients, strict=True):
        torch.testing.assert_close(step, gradient, rtol=1e-9, atol=1e-12)
    return loss, after


def one_step(**options):
    fixed = {"max_epochs": 1, "batch_size": -1, "optimizer": torch.optim.SGD, "early_stopping": False}
    return options | fixed | {"random_state": 3}


@each_pair({"mixing": MIXING, "weighted": [False, True], "label_smoothing": [0.0, 0.1]})
def test_classifier_step_equals_reference(data, float64, mixing, weighted, label_smoothing):
    X, y = data[0].astype(float), data[1]
    weight = np.random.default_rng(1).uniform(0.5, 2, N) if weighted else None

    def row_loss(output, label):
        return F.cross_entropy(output, torch.tensor(label), label_smoothing=label_smoothing)

    net = MixupClassifier(label_smoothing=label_smoothing, **one_step(**mixing))
    loss, after = check_first_step(net, X, y, y, row_loss, weight)
    assert after.loss_curve_ == pytest.approx([loss], rel=1e-9)


@each_pair({"mixing": MIXING, "weighted": [False, True], "label_smoothing": [0.0, 0.1]})
def test_multilabel_step_equals_reference(data, float64, mixing, weighted, label_smoothing):
    X = data[0].astype(float)
    y = (X > 0).astype(int)
    weight = np.random.default_rng(1).uniform(0.5, 2, N) if weighted else None

    def row_loss(output, labels):
        target = torch.as_tensor(labels) * (1 - label_smoothing) + label_smoothing / 2
        return F.binary_cross_entropy_with_logits(output, target)

    net = MixupClassifier(label_smoothing=label_smoothing, **one_step(**mixing))
    check_first_step(net, X, y, y, row_loss, weight)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mixing", [m for m in MIXING if m.get("partners") != "same_class"], ids=str)
def test_regressor_step_equals_reference(data, float64, mixing, weighted):
    X = data[0].astype(float)
    y = np.stack([X.sum(axis=1), X[:, 0] ** 2], axis=1)
    weight = np.random.default_rng(1).uniform(0.5, 2, N) if weighted else None

    def row_loss(output, target):
        return F.mse_loss(output, torch.as_tensor(target))

    net = MixupRegressor(**one_step(**mixing), standardize_targets=False)
    check_first_step(net, X, y, y, row_loss, weight)


@pytest.mark.parametrize("mixing", MIXING, ids=str)
def test_step_with_another_criterion_equals_reference(data, float64, mixing):
    X, y = data[0].astype(float), data[1]

    def row_loss(output, label):
        return F.multi_margin_loss(output, torch.tensor(label))

    net = MixupClassifier(criterion=nn.MultiMarginLoss, **one_step(**mixing))
    check_first_step(net, X, y, y, row_loss, None)


class Watch(skorch.callbacks.Callback):
    """Makes an epoch go step by step."""

    def on_batch_end(self, net, **_):
        pass


@pytest.mark.parametrize("mixing", MIXING, ids=str)
def test_class_weight_of_an_estimator_equals_sample_weight(data, mixing):
    weight = np.array([1.0, 2.0, 5.0])
    by_row = make_classifier(**mixing, lr=1e-2).fit(*data, sample_weight=weight[data[1]])
    by_class = make_classifier(**mixing, lr=1e-2, class_weight={0: 1, 1: 2, 2: 5}).fit(*data)
    assert_same_weights(by_row.module_, by_class.module_)


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("mixing", MIXING, ids=str)
def test_class_weight_of_a_criterion_weighs_each_target(data, float64, mixing, stepwise):
    X, y = data[0].astype(float), data[1]
    weight, rows = torch.tensor([1.0, 2.0, 5.0]), torch.tensor(y)
    options = one_step(
        **mixing, criterion__weight=weight, lr=1e-30, callbacks=[Watch()] if stepwise else None
    )
    net = MixupClassifier(**options).fit(X, y)
    plan = net.get_policy()(draw_streams(3)[0].spawn(1)[0], N, N, facts=RowFacts(labels=y))
    lam = torch.as_tensor(np.ones((1, N)) if plan.lam is None else plan.lam)
    logits = net.forward(np.einsum("kn,knd->nd", lam.numpy(), X[plan.index]))
    total, divisor = 0.0, 0.0
    for share, index in zip(lam, plan.index, strict=True):
        total += (share * F.cross_entropy(logits, rows[index], weight, reduction="none")).sum().item()
        divisor += (share * weight[rows[index]]).sum().item()
    assert net.loss_curve_ == pytest.approx([total / divisor], rel=1e-9)


def test_mixed_regression_with_any_criterion_mixes_the_targets(data, float64):
    X = data[0].astype(float)
    y = X.sum(axis=1)
    net = MixupRegressor(criterion=nn.L1Loss, lr=1e-30, **one_step(alpha=1.0)).fit(X, y)
    plan = net.get_policy()(draw_streams(3)[0].spawn(1)[0], N, N)
    x_mixed = np.einsum("kn,knd->nd", plan.lam, X[plan.index])
    y_mixed = (plan.lam * y[plan.index]).sum(axis=0)
    expected = np.abs(net.predict(x_mixed) - y_mixed).mean()
    assert net.loss_curve_ == pytest.approx([expected], rel=1e-9)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("mixing", MIXING, ids=str)
def test_data_set_gives_the_net_of_the_arrays(data, mixing, early_stopping):
    net = make_classifier(**mixing, early_stopping=early_stopping, validation_fraction=0.2)
    pairs = TensorDataset(torch.as_tensor(data[0]), torch.as_tensor(data[1]))
    from_arrays = net.fit(*data).module_
    assert_same_weights(net.fit(pairs).module_, from_arrays)


@pytest.mark.parametrize("n", [17, 25])
def test_last_batch_of_one_row_joins_the_batch_before(data, n):
    net = make_classifier(alpha=1.0, max_epochs=1).fit(data[0][:n], data[1][:n])
    assert net.history[-1, "batches", :, "train_batch_size"] == [8] * (n // 8 - 1) + [9]


class Noting:
    """An `augment` that notes what it is given and adds one."""

    def __init__(self):
        self.seen = []

    def __call__(self, x):
        self.seen.append(x.clone())
        return x + 1


@pytest.mark.parametrize("mixing", [m for m in MIXING if m["alpha"]], ids=str)
def test_augment_sees_each_batch_before_mixing(data, mixing):
    X, y = data
    noting = Noting()
    make_classifier(**mixing, augment=noting, max_epochs=1).fit(X, y)
    shifted = make_classifier(**mixing, max_epochs=1).fit(X + 1, y)
    augmented = make_classifier(**mixing, augment=lambda x: x + 1, max_epochs=1).fit(X, y)
    known = {row.tobytes() for row in X}
    assert all(row.numpy().tobytes() in known for batch in noting.seen for row in batch)
    for a, b in zip(augmented.module_.parameters(), shifted.module_.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_augment_sees_a_batch_once_where_partners_are_in_it(data):
    noting = Noting()
    make_classifier(alpha=1.0, augment=noting, max_epochs=1).fit(*data)
    assert sum(map(len, noting.seen)) == N


def test_warmup_is_plain_training(data):
    warm = make_classifier(alpha=1.0, warmup_epochs=EPOCHS).fit(*data)
    assert_same_weights(warm.module_, make_classifier().fit(*data).module_)


def test_warmup_comes_before_mixing_and_cooldown_after(data):
    options = {"alpha": float("inf"), "lr": 1e-30, "max_epochs": 6, "batch_size": -1}
    clean = make_classifier(**options | {"alpha": 0}).fit(*data).loss_curve_[0]
    curve = make_classifier(**options, warmup_epochs=2, cooldown_epochs=1).fit(*data).loss_curve_
    plain = [loss == pytest.approx(clean, rel=1e-5) for loss in curve]
    assert plain == [True, True, False, False, False, True]


def test_warmup_counts_over_calls_of_partial_fit(data):
    net = make_classifier(alpha=float("inf"), lr=1e-30, max_epochs=1, warmup_epochs=2, batch_size=-1)
    for _ in range(3):
        net.partial_fit(*data)
    clean, again, mixed = net.loss_curve_
    assert clean == pytest.approx(again, rel=1e-5)
    assert mixed != pytest.approx(clean, rel=1e-5)


@pytest.mark.parametrize("alpha", [0, 1.0])
def test_validation_loss_is_never_mixed(data, alpha):
    net = make_classifier(alpha=alpha, early_stopping=True, lr=1e-30, validation_fraction=0.2).fit(*data)
    assert len(set(net.history[:, "valid_loss"])) == 1
    plain = make_classifier(early_stopping=True, lr=1e-30, validation_fraction=0.2).fit(*data)
    assert net.history[:, "valid_loss"] == plain.history[:, "valid_loss"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_autocast_trains_near_full_precision(data, dtype):
    options = {"alpha": 1.0, "max_epochs": 20, "lr": 1e-2}
    full = make_classifier(**options).fit(*data).predict_proba(data[0])
    net = make_classifier(**options, autocast=dtype).fit(*data)
    half = net.predict_proba(data[0])
    assert net.module_.layers[1].weight.dtype == torch.float32
    assert half.dtype == np.float64
    assert np.abs(half - full).mean() < 0.05
    assert not np.array_equal(half, full)


def test_lam_per_batch_serves_a_criterion_without_reduction(data, float64):
    class Criterion(nn.Module):
        def forward(self, logits, y):
            return F.cross_entropy(logits, y)

    X, y = data[0].astype(float), data[1]
    mixing = one_step(alpha=1.0, lam_per="batch")
    ours = MixupClassifier(criterion=Criterion, **mixing).fit(X, y)
    usual = MixupClassifier(**mixing).fit(X, y)
    assert ours.loss_curve_ == pytest.approx(usual.loss_curve_, rel=1e-12)
    with pytest.raises(ValueError, match=r"criterion must offer reduction='none' .* Use lam_per='batch'"):
        MixupClassifier(criterion=Criterion, **one_step(alpha=1.0)).fit(X, y)


class RowDataset(skorch.dataset.Dataset):
    """A data set of the user's own."""


class RowLoader(DataLoader):
    """A loader of the user's own."""


@pytest.mark.parametrize(
    "options",
    [{"dataset": RowDataset}, {"iterator_train": RowLoader}, {"iterator_train__collate_fn": default_collate}],
    ids=["dataset", "iterator", "collate_fn"],
)
def test_weights_are_refused_where_they_would_be_lost(data, options):
    net = make_classifier(**options)
    net.fit(*data)
    with pytest.raises(ValueError, match="must be left at its default for sample_weight or class_weight"):
        net.fit(*data, sample_weight=np.arange(N))


@pytest.mark.parametrize("factor", [2.0**-100, 2.0**100])
@pytest.mark.parametrize("mixing", MIXING, ids=str)
def test_scale_of_the_weights_changes_nothing(data, mixing, factor):
    weight = np.random.default_rng(1).integers(1, 9, N) / 4
    net = make_classifier(**mixing)
    expected = net.fit(*data, sample_weight=weight).module_
    assert_same_weights(net.fit(*data, sample_weight=weight * factor).module_, expected)
