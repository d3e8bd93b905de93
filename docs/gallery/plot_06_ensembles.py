"""
Are an ensemble's probabilities better?
=======================================

Yes. Eight nets are trained as one program and their probabilities averaged; the :term:`NLL` falls, for
plain nets and for mixed ones.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupEnsembleClassifier

X, y = load_digits(return_X_y=True)
X = StandardScaler().fit_transform(X)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=500, stratify=y, random_state=0
)

losses = {}
for name, alpha in {"plain training": 0.0, "mixup": 0.2}.items():
    model = MixupEnsembleClassifier(
        n_members=8, estimator__alpha=alpha, random_state=0
    )
    model.fit(X_train, y_train)
    members = [
        log_loss(y_test, member.predict_proba(X_test))
        for member in model.estimators_
    ]
    losses[name] = members, log_loss(y_test, model.predict_proba(X_test))

# %%
# Dots are the members, the bar is the ensemble.

figure, ax = plt.subplots(figsize=(6.4, 3))
for number, (name, (members, ensemble)) in enumerate(losses.items()):
    ax.plot(members, [number] * len(members), "o", color=f"C{number}", alpha=0.6)
    ax.plot(
        [ensemble] * 2,
        [number - 0.25, number + 0.25],
        color=f"C{number}",
        linewidth=4,
    )
    print(
        f"{name}: members {np.mean(members):.3f} on average, ensemble {ensemble:.3f}"
    )
ax.set(
    yticks=[0, 1],
    yticklabels=list(losses),
    ylim=(-0.5, 1.5),
    xlabel="test NLL, nats (smaller is better)",
)
ax.invert_yaxis()
plt.show()
