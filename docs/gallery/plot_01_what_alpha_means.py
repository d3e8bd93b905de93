"""
What does alpha mean?
=====================

mixup draws the weight λ of the first of two examples from the distribution Beta(α, α). Small α leaves
nearly all virtual examples close to one of the two; α = 1 draws λ uniformly; large α puts them near the
middle.
"""

import matplotlib.pyplot as plt
import numpy as np

from sk_mixup.mixing import draw_lam

generator = np.random.default_rng(0)
alphas = (0.1, 0.2, 1.0, 8.0)
figure, axes = plt.subplots(1, len(alphas), figsize=(9, 2.6), sharey=True)
for ax, alpha in zip(axes, alphas, strict=True):
    lam = draw_lam(generator, alpha, size=20_000)[0]
    ax.hist(
        lam,
        bins=25,
        range=(0, 1),
        weights=np.full(len(lam), 100 / len(lam)),
        color="C1",
    )
    ax.set(title=f"α = {alpha:g}", xlabel="λ", xticks=[0, 0.5, 1])
    near = np.mean(np.minimum(lam, 1 - lam) < 0.05)
    print(
        f"alpha {alpha:g}: {near:.0%} of the virtual examples are at least 95 % one example"
    )
axes[0].set_ylabel("share of draws, %")
plt.show()
