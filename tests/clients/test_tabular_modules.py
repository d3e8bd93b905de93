"""Modules of papers on tables: TabM, FT-Transformer, embeddings of numbers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from tests.clients.conftest import Rows


def make_tabm() -> nn.Module:
    tabm = pytest.importorskip("tabm")
    return tabm.TabM.make(n_num_features=4, d_out=3, k=4, d_block=16, n_blocks=1)


def make_transformer() -> nn.Module:
    rtdl = pytest.importorskip("rtdl_revisiting_models")
    options = rtdl.FTTransformer.get_default_kwargs(n_blocks=1)

    class OfNumbers(rtdl.FTTransformer):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x, None)

    return OfNumbers(n_cont_features=4, cat_cardinalities=[], d_out=3, **options)


def make_resnet() -> nn.Module:
    rtdl = pytest.importorskip("rtdl_revisiting_models")
    return rtdl.ResNet(
        d_in=4,
        d_out=3,
        n_blocks=1,
        d_block=16,
        d_hidden=None,
        d_hidden_multiplier=2.0,
        dropout1=0.1,
        dropout2=0.0,
    )


def make_embeddings() -> nn.Module:
    rtdl = pytest.importorskip("rtdl_num_embeddings")
    embed = rtdl.PeriodicEmbeddings(4, 8, lite=False)
    return nn.Sequential(embed, nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.mark.parametrize("make", [make_tabm, make_transformer, make_resnet, make_embeddings])
def test_probabilities_are_those_of_the_module(
    iris: Rows, classifier: MixupClassifier, make: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(0)
    net = classifier.set_params(module=make(), max_epochs=40).fit(*iris.train)
    with torch.no_grad():
        logits = net.module_.eval()(torch.tensor(iris.test[0]))
    expected = torch.softmax(logits, dim=-1).reshape(len(logits), -1, 3).mean(1)  # the mean of TabM's members
    np.testing.assert_allclose(net.predict_proba(iris.test[0]), expected, atol=1e-6)
    assert np.mean(net.predict(iris.test[0]) == iris.test[1]) > 0.5  # chance is a third
