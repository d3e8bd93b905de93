"""
What does a net say between two examples?
=========================================

On the line from one digit to another a net should say one of the two. A *miss* is any third digit. mixup is
trained on these lines and misses much less, as in Figure 2 of the mixup paper.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier, fit_stacked
from sk_mixup.inspection import between_curves

X, y = load_digits(return_X_y=True)
X = StandardScaler().fit_transform(X)
alphas = {"plain training": 0, "mixup, α = 0.2": 0.2}
options = {"max_epochs": 30, "early_stopping": False, "random_state": 0}
nets = fit_stacked(
    (MixupClassifier(alpha=alpha, **options), X, y) for alpha in alphas.values()
)

figure, ax = plt.subplots()
for number, (name, net) in enumerate(zip(alphas, nets, strict=True)):
    curves = between_curves(
        net, X, y, n_pairs=1_000, gradients=False, random_state=0
    )
    misses = curves.miss_rate
    ax.plot(curves.lam, 100 * misses, color=f"C{number}", linewidth=2, label=name)
    print(f"{name}: {100 * misses[len(misses) // 2]:.1f} % misses halfway")
ax.set(xlabel="λ, the share of the first digit", ylabel="misses, %", ylim=(0, None))
ax.legend()
plt.show()
