"""
When does mixup do harm? Clean labels and a curved class
========================================================

One class is a ring round the other. Halfway between two points of the ring lies the other class, but mixup
says that the ring goes on there. With true labels the error rises with α; with 20 % wrong labels, where
plain training memorises, a little mixing wins in spite of this.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_circles

from sk_mixup import MixupClassifier, fit_stacked

alphas = (0, 0.2, 1.0)
n_seeds = 3


def make_points(n, seed, share=0.0):
    """Return points of two rings, and their labels, a share of which is flipped."""
    X, y = make_circles(n, factor=0.5, noise=0.15, random_state=seed)
    return X, np.where(np.random.default_rng(seed).random(n) < share, 1 - y, y)


X_test, y_test = make_points(2_000, 1_000)
errors = {}
for share in (0.0, 0.2):
    nets = fit_stacked(
        (
            MixupClassifier(
                alpha=alpha,
                lr=5e-3,
                max_epochs=200,
                early_stopping=False,
                random_state=seed,
            ),
            *make_points(300, seed, share),
        )
        for alpha in alphas
        for seed in range(n_seeds)
    )
    errors[share] = 100 - 100 * np.array(
        [net.score(X_test, y_test) for net in nets]
    ).reshape(len(alphas), -1)

# %%
# Grey is plain training, blue is mixup; dots are seeds.

figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.6), sharey=True)
places = np.arange(len(alphas))
for ax, (share, error) in zip(axes, errors.items(), strict=True):
    ax.bar(places, error.mean(axis=1), color=["C0", "C1", "C1"], width=0.6)
    ax.plot(places, error, "o", color="black", markersize=3)
    ax.set(title=f"{share:.0%} wrong labels", xticks=places, xlabel="α")
    ax.set_xticklabels([f"{alpha:g}" for alpha in alphas])
    print(
        f"{share:.0%} wrong: "
        + ", ".join(f"{mean:.1f} %" for mean in error.mean(axis=1))
    )
axes[0].set_ylabel("test error, %")
plt.show()
