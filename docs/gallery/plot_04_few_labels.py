"""
What can be learned from ten labels a class?
============================================

Of 1,347 digits only a hundred have a label; the others are marked by -1. Plain training and mixup must
leave these out. MixMatch guesses their labels and mixes them in.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier, SemiSupervisedMixupClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, stratify=y, random_state=0
)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

errors = {"plain training": [], "mixup": [], "MixMatch": []}
for seed in range(2):
    generator = np.random.default_rng(seed)
    chosen = np.concatenate(
        [
            generator.choice(np.flatnonzero(y_train == k), 10, False)
            for k in range(10)
        ]
    )
    y_partial = np.full(len(y_train), -1)
    y_partial[chosen] = y_train[chosen]
    options = {"max_epochs": 100, "early_stopping": False, "random_state": seed}
    plain = MixupClassifier(alpha=0, **options).fit(
        X_train[chosen], y_train[chosen]
    )
    mixed = MixupClassifier(alpha=0.2, **options).fit(
        X_train[chosen], y_train[chosen]
    )
    both = SemiSupervisedMixupClassifier(
        max_epochs=30, unlabeled_weight=30, random_state=seed
    )
    both.fit(X_train, y_partial)
    for name, net in zip(errors, (plain, mixed, both), strict=True):
        errors[name].append(100 - 100 * net.score(X_test, y_test))

# %%
# Two draws of the hundred labels; bars are means, dots the draws.

figure, ax = plt.subplots(figsize=(6, 3.6))
for number, (name, values) in enumerate(errors.items()):
    ax.bar(name, np.mean(values), color=f"C{number}", width=0.6)
    ax.plot([number] * len(values), values, "o", color="black", markersize=4)
    print(f"{name}: {np.mean(values):.1f} % test error")
ax.set(ylabel="test error, %")
plt.show()
