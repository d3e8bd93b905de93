"""
How large are sets that hold the truth nine times of ten?
=========================================================

:term:`Conformal prediction <conformal prediction>` gives each row a set of labels that contains the true
one at a rate chosen beforehand, whatever the model. Better probabilities do not make the promise truer,
they make the sets smaller.
"""

from mapie.classification import SplitConformalClassifier
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier, MixupEnsembleClassifier

X, y = load_digits(return_X_y=True)
X = StandardScaler().fit_transform(X)
X_train, X_rest, y_train, y_rest = train_test_split(
    X, y, train_size=40, stratify=y, random_state=0
)
X_held, X_test, y_held, y_test = train_test_split(
    X_rest, y_rest, train_size=400, random_state=0
)
models = {
    "plain training": MixupClassifier(alpha=0, random_state=0),
    "mixup": MixupClassifier(random_state=0),
    "ensemble of mixup": MixupEnsembleClassifier(random_state=0),
}
levels = (0.9, 0.95, 0.98)
figure, ax = plt.subplots(figsize=(7, 3.8))
for number, (name, model) in enumerate(models.items()):
    model.fit(X_train, y_train)
    conformal = SplitConformalClassifier(
        model, confidence_level=levels, prefit=True
    )
    sets = conformal.conformalize(X_held, y_held).predict_set(X_test)[1]
    sizes = sets.sum(axis=1).mean(axis=0)
    covered = sets[np.arange(len(sets)), y_test].mean(axis=0)
    ax.plot(
        [100 * level for level in levels],
        sizes,
        "o-",
        color=f"C{number}",
        label=name,
    )
    print(
        f"{name}: sets of {sizes[0]:.2f} labels hold the truth in {covered[0]:.0%} at 90 %"
    )
ax.set(
    xlabel="promised rate, %",
    ylabel="labels in a set, mean",
    xticks=[90, 95, 98],
    ylim=(0, None),
)
ax.legend()
plt.show()
