"""captum: integrated gradients of the module are complete."""

import numpy as np
import pytest
import torch

from sk_mixup import MixupClassifier
from tests.clients.conftest import Rows


def test_integrated_gradients_sum_to_the_difference_of_logits(
    iris: Rows, classifier: MixupClassifier
) -> None:
    attr = pytest.importorskip("captum.attr")
    module = classifier.fit(*iris.train).module_
    x = torch.tensor(iris.test[0][:8])
    values = attr.IntegratedGradients(module).attribute(x, target=1, n_steps=300)
    with torch.no_grad():
        difference = module(x)[:, 1] - module(torch.zeros_like(x))[:, 1]
    np.testing.assert_allclose(values.sum(1).detach(), difference, atol=2e-2)
