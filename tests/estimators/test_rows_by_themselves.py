"""A row's probabilities have the same bits whatever rows are predicted beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupEnsembleClassifier
from sk_mixup.estimators._links import squash

N_ROWS = 150
X = np.random.default_rng(0).normal(size=(N_ROWS, 5)).astype(np.float32)
BINARY = (X[:, 0] > 0).astype(int)
LABELS = np.c_[X[:, 0] > 0, X[:, 1] > 0.5, X[:, 2] > 0].astype(int)
SOFT = np.c_[expit(X[:, 0]), expit(-X[:, 0])]
QUICK = {"max_epochs": 2, "random_state": 0}

ONE_LOGIT = {"module": nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))}
BCE = {"criterion": nn.BCEWithLogitsLoss}

CASES: dict[str, Callable[[], MixupClassifier | MixupEnsembleClassifier]] = {
    "classes": lambda: MixupClassifier(**QUICK).fit(X, BINARY + LABELS[:, 1]),
    "one logit": lambda: MixupClassifier(**ONE_LOGIT, **BCE, **QUICK).fit(X, BINARY),
    "several labels": lambda: MixupClassifier(**QUICK).fit(X, LABELS),
    "weighted": lambda: MixupClassifier(**QUICK).fit(X, LABELS, sample_weight=1 + X[:, 3] ** 2),
    "soft labels": lambda: MixupClassifier(**BCE, **QUICK).fit(X, SOFT),
    "ensemble": lambda: MixupEnsembleClassifier(
        MixupClassifier(max_epochs=2), n_members=2, random_state=0
    ).fit(X, LABELS),
}


@pytest.mark.parametrize("case", CASES)
def test_probabilities_of_a_row_are_those_among_others(case: str) -> None:
    net = CASES[case]()
    for predict in (net.predict_proba, net.predict_log_proba):
        together = predict(X)
        for n_rows in (1, 7, 64):
            parts = np.concatenate([predict(X[k : k + n_rows]) for k in range(0, N_ROWS, n_rows)])
            np.testing.assert_array_equal(parts, together)


def test_squash_is_the_sigmoid_at_its_ends_too() -> None:
    logit = np.r_[np.linspace(-700, 700, 5001), 0.0, 1e-300, -1e300, 1e300, -np.inf, np.inf]
    found = squash(torch.from_numpy(logit)).numpy()
    np.testing.assert_allclose(found, expit(logit), rtol=1e-15)
    assert np.isnan(squash(torch.tensor([np.nan])).numpy()).all()


@pytest.mark.parametrize("n_rows", [1, 5, 22, 300])
@pytest.mark.parametrize("predict_by", [None, 7])
def test_no_row_is_padding_where_the_module_looks_at_the_batch(n_rows: int, predict_by: int | None) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 4)).astype(np.float32), np.arange(300) % 2
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(8, track_running_stats=False)
    module = nn.Sequential(nn.Linear(4, 8), norm, nn.ReLU(), nn.Linear(8, 2))
    options = {} if predict_by is None else {"iterator_valid__batch_size": predict_by}
    net = MixupClassifier(
        module, max_epochs=1, early_stopping=False, random_state=0, batch_size=30, **options
    )
    net.fit(X, y)
    if n_rows % (predict_by or 30) == 1:
        return  # torch takes no single row
    parts = torch.tensor(X[:n_rows]).split(predict_by or 30)
    with torch.no_grad():
        expected = torch.cat([net.module_.eval()(part) for part in parts]).double().softmax(dim=1)
    np.testing.assert_allclose(net.predict_proba(X[:n_rows]), expected.numpy(), atol=1e-6)
