"""How all pictures of the gallery are drawn: plain training in grey, mixup in blue, others in orange."""

import matplotlib as mpl
import torch

COLORS = {"C0": "#6f7680", "C1": "#1f6fb4", "C2": "#d9731a", "C3": "#4a9c6d", "C4": "#8c5fa8"}


def set_style(*_: object) -> None:
    """Set what matplotlib draws with, and train on one thread."""
    torch.set_num_threads(1)
    mpl.rcParams.update(
        {
            "axes.prop_cycle": mpl.cycler(color=COLORS.values()),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "figure.figsize": (7.2, 4.0),
            "font.size": 11,
            "legend.frameon": False,
            "savefig.facecolor": "white",
        }
    )
