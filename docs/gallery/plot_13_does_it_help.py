"""
Does mixup help on my table?
============================

:class:`~sk_mixup.inspection.AlphaDisplay` answers by paired cross-validation: each α is compared with plain
training on the same folds, with intervals that take into account that folds overlap. Where an interval
contains 0, there is no clear difference. On this table of wines there is none.
"""

import textwrap

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier
from sk_mixup.inspection import AlphaDisplay

X, y = load_wine(return_X_y=True)
model = make_pipeline(
    StandardScaler(), MixupClassifier(max_epochs=40, lr=3e-3, random_state=0)
)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
display = AlphaDisplay.from_estimator(
    model, X, y, alphas=(0, 0.2, 1), cv=3, ax=axes
)
print(textwrap.fill(display.verdict, 90))
plt.show()
