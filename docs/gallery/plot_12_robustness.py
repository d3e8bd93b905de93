"""
Does mixup make a net robust against attacks?
=============================================

Not on these digits. Against a single step (FGSM) it does about as well as plain training; against ten steps
(PGD) it gives way sooner as the attack grows.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier, fit_stacked
from sk_mixup.inspection import robustness_curve

X, y = load_digits(return_X_y=True)
X = StandardScaler().fit_transform(X)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, stratify=y, random_state=0
)
alphas = {"plain training": 0, "mixup, α = 1": 1}
options = {"max_epochs": 40, "early_stopping": False, "random_state": 0}
nets = fit_stacked(
    (MixupClassifier(alpha=alpha, **options), X_train, y_train)
    for alpha in alphas.values()
)

# %%
# The size of the attack is in standard deviations of the pixels.

eps = np.array([0, 0.1, 0.2, 0.3, 0.4])
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.6), sharey=True)
for ax, attack in zip(axes, ("fgsm", "pgd"), strict=True):
    for number, (name, net) in enumerate(zip(alphas, nets, strict=True)):
        curve = robustness_curve(
            net, X_test, y_test, attack=attack, eps=eps, random_state=0
        )
        error = 100 * curve.error
        ax.plot(eps, error, "o-", color=f"C{number}", label=name)
        print(f"{attack}, {name}: {error[2]:.0f} % error at 0.2")
    ax.set(title=attack.upper(), xlabel="size of the attack")
axes[0].set(ylabel="test error, %", ylim=(0, 100))
axes[0].legend()
plt.show()
