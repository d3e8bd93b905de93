"""
Can I write a vicinity of my own?
=================================

In some 15 lines. This one mixes the upper half of one image with the lower half of another, at a height
drawn uniformly, and takes the share of the rows as λ. On these digits it does harm, which a picture soon
tells. :doc:`/guide/own_vicinities` explains it line by line.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
import torch
from torch import nn

from sk_mixup import MixupClassifier, stacked
from sk_mixup.mixing import Operation, Plan, Sources, Vicinity, draw_partners


@dataclass(frozen=True)
class TakeLower(Operation):
    """Takes the lower rows of each image, of which `values` says how many, from its partner."""

    def apply(self, x, values, sources):
        row = torch.arange(x.shape[-2])[:, None]
        is_lower = row >= x.shape[-2] - values[:, None, None, None]
        return torch.where(is_lower, sources.gather(1), x)


@dataclass(frozen=True)
class Halves(Vicinity):
    """The upper part of one image over the lower part of another."""

    height: int = 8

    def draw(self, generator, bounds, order, facts):
        place, within_batch = draw_partners(
            generator, bounds, order, facts, partners="batch"
        )
        taken = generator.integers(0, self.height, bounds[-1])
        lam = np.stack([1 - taken / self.height, taken / self.height])
        own = np.stack([np.ones(len(taken)), np.zeros(len(taken))])
        return Plan(
            bounds,
            order,
            place,
            lam,
            within_batch,
            lam_x=own,
            operations=(TakeLower(taken),),
        )


# %%
# Does it help? Five-fold cross-validation of a small convolutional net on 500 digits; see also what the
# net is shown.

X, y = load_digits(return_X_y=True)
X, y = (X[:500] / 16).reshape(-1, 1, 8, 8).astype(np.float32), y[:500]
conv = nn.Sequential(
    nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10)
)
vicinities = {"plain training": None, "mixup": None, "halves": Halves()}
errors = {}
for name, vicinity in vicinities.items():
    alpha = 0 if name == "plain training" else 0.2
    net = MixupClassifier(
        conv,
        alpha=alpha,
        vicinity=vicinity,
        max_epochs=20,
        lr=3e-3,
        early_stopping=False,
        random_state=0,
    )
    with stacked():
        errors[name] = 100 - 100 * cross_val_score(net, X, y, cv=5)
    print(f"{name}: {errors[name].mean():.1f} % error")

figure, axes = plt.subplots(1, 5, figsize=(10, 3), width_ratios=[3, 1, 1, 1, 1])
for number, (name, error) in enumerate(errors.items()):
    axes[0].bar(name, error.mean(), color=f"C{number}", width=0.6)
    axes[0].plot([number] * 5, error, "o", color="black", markersize=3)
axes[0].set(ylabel="error, %")
plan = Halves()(np.random.default_rng(1), n_samples=4, batch_size=4)
sources = Sources(torch.tensor(X), torch.tensor(plan.index))
shown = plan.operations[0].apply(
    sources.gather(0), torch.tensor(plan.operations[0].values), sources
)
for ax, image, (lam, _), (own, partner) in zip(
    axes[1:], shown, plan.lam.T, plan.index.T, strict=True
):
    ax.imshow(image[0], cmap="gray_r")
    ax.set_title(f"{y[own]} {lam:.0%}, {y[partner]} {1 - lam:.0%}", fontsize=9)
    ax.set_axis_off()
plt.show()
