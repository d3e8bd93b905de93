"""
Where does an ensemble not know?
================================

``predict_uncertainty`` splits the uncertainty of an ensemble in two. It is *aleatoric* where the classes
overlap, and *epistemic* where the members disagree, as they do where there are no data.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from sk_mixup import MixupEnsembleClassifier

X, y = make_moons(300, noise=0.25, random_state=0)
model = MixupEnsembleClassifier(
    n_members=8, estimator__lr=5e-3, random_state=0
).fit(X, y)
side = np.linspace(-4, 5, 80)
plane = np.stack(np.meshgrid(side, side), axis=-1)
found = model.predict_uncertainty(plane.reshape(-1, 2))

figure, axes = plt.subplots(1, 2, figsize=(9.4, 4), sharey=True)
for ax, name in zip(axes, ("aleatoric", "epistemic"), strict=True):
    values = getattr(found, name).reshape(80, 80)
    image = ax.contourf(side, side, values, levels=12, cmap="Blues")
    for label, marker in enumerate("o^"):
        ax.plot(*X[y == label].T, marker, color=("C3", "C4")[label], markersize=3)
    ax.set(title=f"{name} uncertainty, nats", aspect="equal")
    figure.colorbar(image, ax=ax)
    print(f"{name}: at most {values.max():.2f} nats")
plt.show()
