"""
Where does mixup put its virtual examples?
==========================================

Two classes in the plane, grey, and what one epoch trains on, coloured by the target from green to purple.
Partners from the neighbourhood, or from the same class, stay nearer to the data.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
import torch

from sk_mixup.mixing import Mixup, NeighborPartners, RowFacts, mix_rows

X, y = make_moons(200, noise=0.1, random_state=0)
vicinities = {
    "Mixup(0.2), the default": Mixup(0.2),
    "Mixup(1)": Mixup(1),
    "Mixup(1, n_mixed=3)": Mixup(1, n_mixed=3),
    "λ = ½ always: Mixup(inf)": Mixup(float("inf")),
    "ten nearest neighbours": Mixup(1, partners=NeighborPartners(10)),
    "same class": Mixup(1, partners="same_class"),
}
facts = RowFacts(inputs=X, labels=y)
figure, axes = plt.subplots(2, 3, figsize=(9.6, 5.4), sharex=True, sharey=True)
for ax, (name, vicinity) in zip(axes.flat, vicinities.items(), strict=True):
    plan = vicinity(
        np.random.default_rng(0), n_samples=len(X), batch_size=50, facts=facts
    )
    index, lam = torch.tensor(plan.index), torch.tensor(plan.lam)
    virtual = mix_rows(torch.tensor(X), index, lam)
    target = (lam * torch.tensor(y)[index]).sum(0)
    far = torch.cdist(virtual, torch.tensor(X)).min(dim=1).values.mean()
    print(f"{name}: on average {far:.2f} from the nearest example")
    ax.plot(*X.T, ".", color="#c9ced6", markersize=3)
    ax.scatter(*virtual.T, c=target, cmap="PRGn_r", s=10)
    ax.set(title=name)
plt.show()
