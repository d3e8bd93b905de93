"""
What does mixup do to the decision boundary?
============================================

It makes the transition from class to class wide and nearly linear, as in Figure 1b of the mixup paper. That
is what it is for, and also what can go wrong: see :doc:`plot_08_harm_on_circles`.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.inspection import DecisionBoundaryDisplay

from sk_mixup import MixupClassifier

X, y = make_moons(300, noise=0.2, random_state=0)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True)
for ax, alpha in zip(axes, (0, 0.2, 2), strict=True):
    net = MixupClassifier(
        alpha=alpha, lr=5e-3, max_epochs=100, early_stopping=False, random_state=0
    )
    net.fit(X, y)
    display = DecisionBoundaryDisplay.from_estimator(
        net,
        X,
        response_method="predict_proba",
        levels=np.linspace(0, 1, 11),
        cmap="Blues",
        ax=ax,
    )
    for label, marker in enumerate("o^"):
        ax.plot(*X[y == label].T, marker, color=("C3", "C4")[label], markersize=3)
    ax.set(
        title="plain training" if alpha == 0 else f"mixup, α = {alpha:g}",
        xlabel="first feature",
    )
    proba = display.response
    print(
        f"alpha {alpha:g}: {np.mean((proba > 0.05) & (proba < 0.95)):.0%} of the plane is undecided"
    )
axes[0].set_ylabel("second feature")
figure.colorbar(
    display.surface_, ax=axes, label="probability of class 1", ticks=[0, 0.5, 1]
)
plt.show()
