"""
When does mixup do harm? A wavy target
======================================

In regression the target between two examples is taken to lie on a straight line between their targets.
Where the true curve bends in between, that is wrong. Partners with similar targets (:term:`C-Mixup`) do not
help on a wave, on which the same value returns many times.
"""

import matplotlib.pyplot as plt
import numpy as np

from sk_mixup import MixupRegressor, fit_stacked

generator = np.random.default_rng(0)
X = generator.uniform(-3, 3, (200, 1))
y = np.sin(2 * X[:, 0]) + 0.1 * generator.standard_normal(200)
grid = np.linspace(-3, 3, 300)[:, None]
truth = np.sin(2 * grid[:, 0])

options = {
    "lr": 5e-3,
    "max_epochs": 150,
    "early_stopping": False,
    "random_state": 0,
}
models = {
    "plain training": MixupRegressor(alpha=0, **options),
    "mixup, α = 1": MixupRegressor(alpha=1, **options),
    "C-Mixup, α = 1": MixupRegressor(alpha=1, partners="kernel", **options),
}
fit_stacked((model, X, y) for model in models.values())

figure, ax = plt.subplots(figsize=(8, 4))
ax.plot(X, y, ".", color="#c9ced6", label="training rows")
for number, (name, model) in enumerate(models.items()):
    predicted = model.predict(grid)
    rmse = np.sqrt(np.mean((predicted - truth) ** 2))
    ax.plot(
        grid,
        predicted,
        color=f"C{number}",
        linewidth=2,
        label=f"{name}: RMSE {rmse:.2f}",
    )
    print(f"{name}: RMSE {rmse:.2f}")
ax.set(xlabel="x", ylabel="y")
figure.legend(loc="outside right upper")
plt.show()
