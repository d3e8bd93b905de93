"""
What does a net memorise?
=========================

A small convolutional net is trained on 600 digits of which 30 % carry a wrong label. The callback
:class:`~sk_mixup.callbacks.MemorizationErrors` records in each epoch how many of the wrong labels the net
has learned by heart. Plain training learns most of them, and forgets what the true digits look like; mixup
learns few.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sk_mixup import MixupClassifier
from sk_mixup.callbacks import MemorizationErrors

X, y = load_digits(return_X_y=True)
X = (X / 16).reshape(-1, 1, 8, 8).astype(np.float32)
X_train, X_test, y_true, y_test = train_test_split(
    X, y, train_size=600, stratify=y, random_state=0
)
generator = np.random.default_rng(0)
is_wrong = generator.random(len(y_true)) < 0.3
y_train = np.where(
    is_wrong, (y_true + generator.integers(1, 10, len(y_true))) % 10, y_true
)

conv = nn.Sequential(
    nn.Conv2d(1, 16, 3),
    nn.ReLU(),
    nn.Conv2d(16, 32, 3),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(32 * 16, 64),
    nn.ReLU(),
    nn.Linear(64, 10),
)
nets = {}
for name, alpha in {"plain training": 0, "mixup, α = 8": 8}.items():
    watch = MemorizationErrors(
        X_train, y_train, y_true, X_test=X_test, y_test=y_test
    )
    net = MixupClassifier(
        conv,
        alpha=alpha,
        max_epochs=35,
        lr=3e-3,
        early_stopping=False,
        callbacks=[watch],
        random_state=0,
    )
    nets[name] = net.fit(X_train, y_train)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True)
for number, (name, net) in enumerate(nets.items()):
    memorised = 100 - 100 * np.array(net.history[:, "train_error_corrupted"])
    error = 100 * np.array(net.history[:, "test_error"])
    axes[0].plot(memorised, color=f"C{number}", label=name)
    axes[1].plot(error, color=f"C{number}", label=name)
    print(
        f"{name}: {memorised[-1]:.0f} % of the wrong labels memorised, test error {error[-1]:.1f} %"
    )
axes[0].set(xlabel="epoch", ylabel="wrong labels memorised, %", ylim=(0, 105))
axes[1].set(xlabel="epoch", ylabel="test error on true labels, %", ylim=(0, None))
axes[0].legend()
plt.show()
