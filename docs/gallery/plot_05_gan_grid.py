"""
Does mixup keep a GAN from collapsing?
======================================

On a grid of 25 clusters a plain GAN leaves most of them out. Shown mixtures of real and generated points,
its discriminator becomes smoother, and the generator spreads over most of the grid. The price is that it also
spreads between the clusters.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import cdist

from sk_mixup import MixupGAN, fit_stacked

generator = np.random.default_rng(0)
side = np.linspace(-1.5, 1.5, 5)
modes = np.array([(a, b) for a in side for b in side])
X = modes[generator.integers(25, size=5_000)] + 0.03 * generator.standard_normal(
    (5_000, 2)
)

options = {
    "generator__hidden_layer_sizes": (128, 128, 128),
    "discriminator__hidden_layer_sizes": (128, 128, 128),
    "max_epochs": 8,
}
alphas = {"plain GAN": 0, "mixup, α = 0.2": 0.2}
gans = fit_stacked(
    (MixupGAN(alpha=alpha, random_state=0, **options), X)
    for alpha in alphas.values()
)

# %%
# The energy distance between samples and data is 0 where both have one distribution.


def measure_distance(a, b):
    """Return the energy distance of two samples."""
    return 2 * cdist(a, b).mean() - cdist(a, a).mean() - cdist(b, b).mean()


figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True)
for number, (ax, name, gan) in enumerate(zip(axes, alphas, gans, strict=True)):
    samples = gan.sample(1_000, random_state=0)
    distance = measure_distance(samples, X[:1_000])
    print(f"{name}: energy distance {distance:.3f}")
    ax.plot(*X[:1_000].T, ".", color="#c9ced6", markersize=3)
    ax.plot(*samples.T, ".", color=f"C{number}", markersize=3)
    ax.set(
        title=f"{name}: energy distance {distance:.2f}",
        aspect="equal",
        xlim=(-2.2, 2.2),
        ylim=(-2.2, 2.2),
    )
plt.show()
