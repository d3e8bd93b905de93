"""The decision boundary of plain training and of mixup, side by side: the paper's Figure 1b.

scikit-learn draws it: ``DecisionBoundaryDisplay`` takes a ``MixupClassifier`` as it takes any other
classifier. Run ``pip install matplotlib`` and ``python examples/decision_boundary.py picture.png``.
"""

from __future__ import annotations

from pathlib import Path
import sys

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_circles
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.model_selection import train_test_split

from sk_mixup import MixupClassifier

CLASS_STYLES = ({"color": "#009E73", "marker": "o"}, {"color": "#D55E00", "marker": "^"})
ALPHAS = {"ERM": 0.0, "mixup, alpha = 1": 1.0}


def fit_nets(
    X: NDArray[np.float64], y: NDArray[np.int64], max_epochs: int = 200
) -> dict[str, MixupClassifier]:
    """Return a net for each value of alpha, all trained on the same rows for as many epochs."""
    options = {"lr": 5e-3, "max_epochs": max_epochs, "early_stopping": False, "random_state": 0}
    return {name: MixupClassifier(alpha=alpha, **options).fit(X, y) for name, alpha in ALPHAS.items()}


def draw_boundaries(
    nets: dict[str, MixupClassifier], X: NDArray[np.float64], y: NDArray[np.int64], path: Path
) -> dict[str, DecisionBoundaryDisplay]:
    """Draw the probability of class 1 and the points, a panel for each net, and save the picture.

    Parameters
    ----------
    nets : dict of str to MixupClassifier
        Fitted nets by the titles of their panels.
    X : ndarray of shape (n_samples, 2)
        The points.
    y : ndarray of shape (n_samples,)
        Their classes, 0 and 1.
    path : Path
        The PNG to write.

    Returns
    -------
    displays : dict of str to DecisionBoundaryDisplay
        What was drawn, by the same titles.
    """
    figure, axes = plt.subplots(1, len(nets), figsize=(8.4, 3.8), layout="constrained", sharey=True)
    displays = {}
    for ax, (name, net) in zip(axes, nets.items(), strict=True):
        displays[name] = DecisionBoundaryDisplay.from_estimator(
            net,
            X,
            response_method="predict_proba",
            plot_method="contourf",
            levels=np.linspace(0, 1, 11),
            cmap="Blues",
            grid_resolution=200,
            eps=0.3,
            ax=ax,
        )
        for label, style in enumerate(CLASS_STYLES):
            points = X[y == label]
            ax.scatter(*points.T, s=14, edgecolor="white", linewidth=0.4, label=f"class {label}", **style)
        ax.set(title=name, xlabel="first feature", aspect="equal")
    axes[0].set_ylabel("second feature")
    figure.colorbar(displays[name].surface_, ax=axes, label="probability of class 1", ticks=[0, 0.5, 1])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return displays


def main(path: str = "decision_boundary.png") -> None:
    """Train on two noisy rings, draw the boundaries and print the scores on other points.

    Parameters
    ----------
    path : str, default="decision_boundary.png"
        The PNG to write.
    """
    X, y = make_circles(1000, factor=0.5, noise=0.15, random_state=0)
    X, X_test, y, y_test = train_test_split(X, y, train_size=300, stratify=y, random_state=0)
    nets = fit_nets(X, y)
    draw_boundaries(nets, X, y, Path(path))
    for name, net in nets.items():
        print(f"{name}: test accuracy {net.score(X_test, y_test):.3f}")
    print(f"Picture: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
