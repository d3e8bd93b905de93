"""braindecode: its modules and its windows of recordings."""

from types import ModuleType

import numpy as np
import pytest
from sklearn.base import clone
import torch
from torch.utils.data import default_collate

from sk_mixup import MixupClassifier

pytestmark = pytest.mark.slow  # its import takes seconds


@pytest.fixture
def braindecode() -> ModuleType:
    """Import it."""
    return pytest.importorskip("braindecode")


def make_recordings(n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return signals of 3 channels, whose first has a stronger rhythm in class 1."""
    generator = np.random.default_rng(0)
    y = np.arange(n_samples) % 2
    rhythm = np.sin(np.arange(200) * 0.6)
    X = generator.normal(size=(n_samples, 3, 200))
    X[:, 0] += 1.5 * y[:, None] * rhythm
    return X.astype(np.float32), y


@pytest.mark.parametrize("name", ["ShallowFBCSPNet", "EEGNet"])
def test_probabilities_are_those_of_the_module(
    braindecode: ModuleType, classifier: MixupClassifier, name: str
) -> None:
    from braindecode import models

    X, y = make_recordings(120)
    torch.manual_seed(0)
    module = getattr(models, name)(n_chans=3, n_outputs=2, n_times=200)
    net = classifier.set_params(module=module).fit(X[:80], y[:80])
    with torch.no_grad():
        expected = torch.softmax(net.module_.eval()(torch.tensor(X[80:])), 1)
    np.testing.assert_allclose(net.predict_proba(X[80:]), expected, atol=1e-5)
    assert np.mean(net.predict(X[80:]) == y[80:]) > 0.8


def test_windows_train_the_net_of_their_arrays(braindecode: ModuleType, classifier: MixupClassifier) -> None:
    from braindecode.datasets import create_from_X_y
    from braindecode.models import ShallowFBCSPNet

    X, y = make_recordings(80)

    def take_pairs(items: list[tuple[object, ...]]) -> object:
        return default_collate([item[:2] for item in items])  # a window also tells where it lies

    windows = create_from_X_y(X, y, drop_last_window=False, sfreq=100, window_size_samples=200)
    torch.manual_seed(0)
    net = classifier.set_params(module=ShallowFBCSPNet(n_chans=3, n_outputs=2, n_times=200), max_epochs=2)
    alone = clone(net).fit(X, y)
    net.set_params(iterator_train__collate_fn=take_pairs, iterator_valid__collate_fn=take_pairs)
    np.testing.assert_array_equal(net.fit(windows).predict_proba(windows), alone.predict_proba(X))
