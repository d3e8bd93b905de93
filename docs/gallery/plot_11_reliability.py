"""
Are the probabilities to be believed?
=====================================

A reliability diagram compares how sure a net is with how often it is right; on the diagonal it is honest. A
net that is trained long on few rows is too sure of itself. mixup makes it less sure, sometimes not
sure enough. Temperature scaling on held-out rows mends both faults, so the picture shows both nets with it
and without.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier
from sk_mixup.inspection import ReliabilityDisplay

X, y = load_digits(return_X_y=True)
X = StandardScaler().fit_transform(X)
X_train, X_rest, y_train, y_rest = train_test_split(
    X, y, train_size=200, stratify=y, random_state=0
)
X_held, X_test, y_held, y_test = train_test_split(
    X_rest, y_rest, train_size=300, random_state=0
)

figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True)
for number, (name, alpha) in enumerate(
    {"plain training": 0, "mixup, α = 1": 1}.items()
):
    net = MixupClassifier(
        alpha=alpha, max_epochs=100, early_stopping=False, random_state=0
    )
    net.fit(X_train, y_train)
    display = ReliabilityDisplay.from_estimator(
        net,
        X_test,
        y_test,
        X_calibration=X_held,
        y_calibration=y_held,
        n_bins=6,
        strategy="quantile",
        name=name,
        ax=axes[number],
        color=f"C{number}",
    )
    before, after = display.curve.ece, display.scaled.ece
    print(
        f"{name}: calibration error {before:.3f}, after temperature scaling {after:.3f}"
    )
plt.show()
