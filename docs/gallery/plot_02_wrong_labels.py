"""
Does mixup help when labels are wrong?
======================================

Yes, clearly, if the net is trained until it has memorised what it was given. A share of the labels of 600
digits is replaced by others; the nets are trained for 60 epochs without early stopping and tested on digits
with true labels. How large the gain is depends on the data: with standardised pixels it is smaller.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sk_mixup import MixupClassifier, fit_stacked

X, y = load_digits(return_X_y=True)
X = X[:, X.std(axis=0) > 1] / 16  # without the pixels that are nearly always blank
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=600, stratify=y, random_state=0
)
shares = (0.0, 0.2, 0.4, 0.6)
alphas = {"plain training": 0, "mixup, α = 8": 8}
n_seeds = 2


def replace_labels(share, seed):
    """Return the training labels, a share of them replaced by another class."""
    generator = np.random.default_rng(seed)
    is_wrong = generator.random(len(y_train)) < share
    return np.where(
        is_wrong, (y_train + generator.integers(1, 10, len(y_train))) % 10, y_train
    )


# %%
# All nets are trained as one stack.

settings = [
    (alpha, share, seed)
    for alpha in alphas.values()
    for share in shares
    for seed in range(n_seeds)
]
nets = fit_stacked(
    (
        MixupClassifier(
            alpha=alpha,
            max_epochs=60,
            lr=3e-3,
            early_stopping=False,
            random_state=seed,
        ),
        X_train,
        replace_labels(share, seed),
    )
    for alpha, share, seed in settings
)
errors = np.array([100 - 100 * net.score(X_test, y_test) for net in nets])
errors = errors.reshape(len(alphas), len(shares), n_seeds)

# %%
# The mean of two seeds, with each seed as a dot.

figure, ax = plt.subplots()
for number, name in enumerate(alphas):
    color = f"C{number}"
    ax.plot(
        100 * np.array(shares),
        errors[number].mean(axis=1),
        "o-",
        color=color,
        label=name,
    )
    ax.plot(100 * np.array(shares), errors[number], ".", color=color, alpha=0.5)
    print(
        f"{name}: {', '.join(f'{error:.1f} %' for error in errors[number].mean(axis=1))}"
    )
ax.set(xlabel="wrong training labels, %", ylabel="test error, %", ylim=(0, None))
ax.legend()
plt.show()
