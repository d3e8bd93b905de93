"""shap: attributions of the module and of the estimator add up to what is explained."""

import numpy as np
import pytest
import torch

from sk_mixup import MixupClassifier
from tests.clients.conftest import Rows


def test_deep_explainer_adds_up_to_the_logits(iris: Rows, classifier: MixupClassifier) -> None:
    shap = pytest.importorskip("shap")
    module = classifier.fit(*iris.train).module_
    background, x = torch.tensor(iris.train[0]), torch.tensor(iris.test[0][:5])
    values = shap.DeepExplainer(module, background).shap_values(x)
    difference = (module(x) - module(background).mean(0)).detach().numpy()
    np.testing.assert_allclose(np.asarray(values).sum(1), difference, atol=1e-4)


def test_gradient_explainer_adds_up_to_the_logits(iris: Rows, classifier: MixupClassifier) -> None:
    shap = pytest.importorskip("shap")
    module = classifier.fit(*iris.train).module_
    background, x = torch.tensor(iris.train[0]), torch.tensor(iris.test[0][:2])
    explainer = shap.GradientExplainer(module, background, batch_size=50)
    values = explainer.shap_values(x, nsamples=2000, rseed=0)
    difference = (module(x) - module(background).mean(0)).detach().numpy()
    np.testing.assert_allclose(np.asarray(values).sum(1), difference, atol=0.15 * np.abs(difference).max())


def test_kernel_explainer_adds_up_to_the_probabilities(iris: Rows, classifier: MixupClassifier) -> None:
    shap = pytest.importorskip("shap")
    net = classifier.fit(*iris.train)
    background, x = iris.train[0][:20], iris.test[0][:5]
    values = shap.KernelExplainer(net.predict_proba, background).shap_values(x, silent=True)
    with torch.no_grad():
        proba = [torch.softmax(net.module_(torch.tensor(rows)), 1).numpy() for rows in (x, background)]
    np.testing.assert_allclose(np.asarray(values).sum(1), proba[0] - proba[1].mean(0), atol=1e-5)
