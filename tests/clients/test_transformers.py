"""transformers: tiny models of a configuration, of tokens and of images."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from sk_mixup.mixing import ManifoldMixup
from tests.clients.conftest import Rows

pytestmark = pytest.mark.slow  # its import takes seconds

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


class Logits(nn.Module):
    """The logits alone of a model that returns more."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


@pytest.mark.parametrize(
    "options",
    [{"alpha": 0.0}, {"vicinity": ManifoldMixup(0.2, layers=("model.classifier",))}],
    ids=["plain", "hidden"],
)
def test_tokens_stay_integers(classifier: MixupClassifier, options: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=12, max_position_embeddings=6, num_labels=2, **TINY)
    model = Logits(transformers.BertForSequenceClassification(config))
    tokens = np.random.default_rng(0).integers(3, 12, size=(300, 6))
    y = (tokens == 5).any(axis=1).astype(int)
    net = classifier.set_params(module=model, max_epochs=30, **options).fit(tokens[:200], y[:200])
    with torch.no_grad():
        expected = torch.softmax(net.module_.eval()(torch.tensor(tokens[200:])), 1)
    np.testing.assert_allclose(net.predict_proba(tokens[200:]), expected, atol=1e-6)
    assert np.mean(net.predict(tokens[200:]) == y[200:]) > 0.9


def test_images_are_mixed(digits: Rows, classifier: MixupClassifier) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=3, **TINY)
    model = Logits(transformers.ViTForImageClassification(config))
    net = classifier.set_params(module=model, max_epochs=20)
    net.fit(*digits.train)
    with torch.no_grad():
        expected = torch.softmax(net.module_.eval()(torch.tensor(digits.test[0])), 1)
    np.testing.assert_allclose(net.predict_proba(digits.test[0]), expected, atol=1e-6)
    assert np.mean(net.predict(digits.test[0]) == digits.test[1]) > 0.5  # chance is a third
