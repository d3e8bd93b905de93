"""
Which α and learning rate? A search in one program
==================================================

Inside :func:`~sk_mixup.stacked` the 48 nets of this search train as one batched program. Nothing else
changes.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_mixup import MixupClassifier, stacked

X, y = load_breast_cancer(return_X_y=True)
model = make_pipeline(
    StandardScaler(),
    MixupClassifier(max_epochs=25, early_stopping=False, random_state=0),
)
alphas, rates = [0, 0.1, 0.4, 1], [1e-4, 3e-4, 1e-3, 3e-3]
grid = {"mixupclassifier__alpha": alphas, "mixupclassifier__lr": rates}
search = GridSearchCV(model, grid, scoring="neg_log_loss", cv=3, refit=False)
with stacked():
    search.fit(X, y)

losses = -search.cv_results_["mean_test_score"].reshape(len(alphas), len(rates))
figure, ax = plt.subplots(figsize=(6, 4))
image = ax.imshow(losses, cmap="Blues_r")
for row, column in np.ndindex(losses.shape):
    dark = losses[row, column] < np.median(losses)
    text = f"{losses[row, column]:.3f}"
    ax.text(
        column,
        row,
        text,
        ha="center",
        va="center",
        color="white" if dark else "black",
    )
ax.set(
    xlabel="learning rate",
    ylabel="α",
    xticks=range(4),
    yticks=range(4),
    title="NLL of held-out folds",
)
ax.set_xticklabels([f"{rate:g}" for rate in rates])
ax.set_yticklabels([f"{alpha:g}" for alpha in alphas])
print(f"lowest NLL {-search.best_score_:.3f} with {search.best_params_}")
plt.show()
