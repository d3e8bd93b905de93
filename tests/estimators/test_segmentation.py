"""A label per pixel: segmentation by mixing losses."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
import torch
from torch import nn
from torch.utils.data import TensorDataset

from sk_mixup import MixupClassifier
from sk_mixup._training.averages import mix_losses
from sk_mixup.mixing import CutMix, GaussianNoise, ManifoldMixup, Mixup
from tests.helpers.stacking import stacked

IGNORED = 7


class Pixels(nn.Module):
    """A tiny net that keeps the size of its images."""

    def __init__(self, n_classes=3):
        super().__init__()
        self.hidden = nn.Conv2d(1, 8, 3, padding=1)
        self.last = nn.Conv2d(8, n_classes, 1)

    def forward(self, x):
        return self.last(torch.relu(self.hidden(x)))


@pytest.fixture(scope="module")
def maps():
    """Digits, and for each pixel whether it is dark, grey (no label at the right edge) or bright."""
    x = load_digits().data[:120].reshape(-1, 1, 8, 8).astype(np.float32) / 16
    y = np.digitize(x[:, 0], [0.1, 0.7]) * 10  # labels 0, 10, 20
    y[:, :, 7] = IGNORED
    return x, y


def make_net(**options):
    options = {"criterion__ignore_index": IGNORED, "max_epochs": 4, "lr": 0.02, "random_state": 0} | options
    return MixupClassifier(Pixels, early_stopping=False, **options)


def compute_row_by_row(logits, y, lam, weight, ignored):
    """Add up the losses pixel by pixel."""
    total = share = 0.0
    for k in range(len(y)):
        for i in range(y.shape[1]):
            for place in np.ndindex(*y.shape[2:]):
                label = y[(k, i, *place)]
                if label != ignored:
                    log_p = torch.log_softmax(logits[(i, slice(None), *place)], 0)
                    total -= weight[i] * lam[k, i] * log_p[label]
                    share += weight[i] * lam[k, i]
    return total / share


@pytest.mark.parametrize("weighted", [False, True])
def test_mixed_loss_equals_a_sum_over_pixels(maps, weighted):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 2, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (2, 4, 2, 3), generator=generator)
    y[torch.rand(y.shape, generator=generator) < 0.3] = -100
    lam = torch.rand(4, generator=generator, dtype=torch.float64)
    lam = torch.stack([lam, 1 - lam])
    weight = torch.rand(4, generator=generator, dtype=torch.float64) if weighted else None
    net = make_net().fit(*maps)
    loss = net.get_mixed_loss(logits, y, lam, weight)
    expected = compute_row_by_row(logits, y, lam, torch.ones(4) if weight is None else weight, -100)
    torch.testing.assert_close(loss, expected)


def test_loss_without_any_label_is_zero():
    losses = torch.tensor([[[float("nan")]]])
    assert mix_losses(losses, torch.ones(1, 1), counts=torch.zeros(1, 1, 1, dtype=torch.bool)) == 0


def test_plain_training_is_that_of_torch_with_its_own_ignore_index(maps):
    x, y = maps
    net = make_net(alpha=0.0, max_epochs=1, batch_size=-1, optimizer=torch.optim.SGD).fit(x, y)
    net.initialize()
    before = pickle.loads(pickle.dumps(net.module_))
    codes = torch.as_tensor(np.where(y == IGNORED, -100, y // 10))
    loss = nn.functional.cross_entropy(before(torch.as_tensor(x)), codes)
    loss.backward()
    expected = [p - 0.02 * p.grad for p in before.parameters()]
    net.partial_fit(x, y)
    for p, q in zip(net.module_.parameters(), expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert net.history[-1, "train_loss"] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("vicinity", [None, GaussianNoise(0.05), ManifoldMixup(layers=("hidden",))], ids=str)
def test_fit_learns_labels_not_codes(maps, vicinity):
    x, y = maps
    net = make_net(vicinity=vicinity, max_epochs=30).fit(x, y)
    assert net.classes_.tolist() == [0, 10, 20]
    assert net.predict(x).shape == y.shape
    assert set(np.unique(net.predict(x))) <= {0, 10, 20}
    np.testing.assert_allclose(net.predict_proba(x).sum(axis=1), 1, rtol=1e-5)
    assert net.score(x, y) > 0.85
    labelled = y != IGNORED
    assert net.score(x, y) == pytest.approx(np.mean(net.predict(x)[labelled] == y[labelled]))


def test_early_stopping_scores_labelled_pixels(maps):
    x, y = maps
    net = make_net(max_epochs=3).set_params(early_stopping=True).fit(x, y)
    assert 0 < net.history[-1, "valid_acc"] <= 1


def test_scored_maps_have_the_shape_of_predictions(maps):
    x, y = maps
    net = make_net(max_epochs=1).fit(x, y)
    assert net.score(x, y[:, None]) == net.score(x, y[..., None]) == net.score(x, y)
    for other in (y.reshape(len(y), 4, -1), y.reshape(len(y), -1), y.reshape(len(y) // 2, 2, *y.shape[1:])):
        with pytest.raises(ValueError, match="y must hold a label for each prediction; got shape"):
            net.score(x, other)


def test_score_weighs_examples(maps):
    x, y = maps
    net = make_net().fit(x, y)
    weight = np.zeros(len(y))
    weight[:10] = 2
    assert net.score(x, y, sample_weight=weight) == pytest.approx(net.score(x[:10], y[:10]))


def test_dataset_with_codes(maps):
    x, y = maps
    codes = torch.as_tensor(np.where(y == IGNORED, IGNORED, y // 10))
    net = make_net().fit(TensorDataset(torch.as_tensor(x), codes))
    arrays = make_net().fit(x, np.where(y == IGNORED, IGNORED, y // 10))
    assert net.classes_.tolist() == [0, 1, 2]
    np.testing.assert_allclose(net.predict_proba(x), arrays.predict_proba(x), atol=1e-5)


def test_searches_clones_and_pickles(maps):
    x, y = maps
    search = GridSearchCV(clone(make_net(max_epochs=2)), {"alpha": [0, 0.2]}, cv=2)
    with pytest.warns(UserWarning, match="closed form"), stacked():
        search.fit(x, y)
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict(x), search.predict(x))


def test_saved_net_predicts_labels(maps, tmp_path):
    x, y = maps
    net = make_net().fit(x, y)
    net.save_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
    loaded = make_net()
    loaded.load_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
    np.testing.assert_array_equal(loaded.predict(x), net.predict(x))
    assert loaded.score(x, y) == net.score(x, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vicinity": CutMix()}, "must be given one label per image; got one per pixel"),
        ({"partners": "same_class"}, "partners must not be drawn by class for a label per pixel"),
        ({"class_weight": "balanced"}, "class_weight must be None for a label per pixel;.*criterion__w"),
        ({"confidence_penalty": 0.1}, "confidence_penalty must be 0 for a label per pixel"),
        (
            {"module": nn.Sequential(nn.Flatten(), nn.Linear(64, 3))},
            "module must return logits of shape .n_samples, 3, height, width.",
        ),
    ],
)
def test_what_does_not_fit_is_refused(maps, options, message):
    with pytest.raises(ValueError, match=message):
        make_net().set_params(**options).fit(*maps)


def test_labels_must_be_integers(maps):
    with pytest.raises(ValueError, match="y must hold integer labels where it has one per pixel"):
        make_net().fit(maps[0], maps[1] + 0.5)


def test_maps_must_be_as_many_as_images(maps):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make_net().fit(maps[0], maps[1][:-1])


def test_mixup_policy_draws_within_the_whole_set(maps):
    net = make_net(vicinity=Mixup(0.4, partners="dataset")).fit(*maps)
    assert np.isfinite(net.history[-1, "train_loss"])


@pytest.mark.parametrize("weighted", [False, True])
def test_score_without_a_pixel_that_counts_is_refused(maps, weighted):
    x, y = maps
    net = make_net(max_epochs=1).fit(x, y)
    empty = np.full_like(y, IGNORED)
    empty[0] = y[0] if weighted else IGNORED
    given = (empty, (np.arange(len(y)) > 0).astype(float)) if weighted else (empty,)
    with pytest.raises(
        ValueError, match=r"y must hold the label of a pixel that counts; got .* alone, 7, or rows"
    ):
        net.score(x, *given)
