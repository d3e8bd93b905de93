"""Claim: mixup makes the decision boundary of a net in the plane softer than plain training does.

In the paper: Figure 1b, a picture of two classes in the plane, ERM beside mixup with alpha 1.

    python -m benchmarks toy               circles and moons, true labels and a fifth of them wrong

The picture shows the first repeat. Beside it stand what a picture does not show: test error and test
NLL, the share of the plane in which the net hesitates, and how steeply its probability rises where it
changes its mind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
import sklearn
from sklearn.datasets import make_circles, make_moons

from benchmarks.data.tables import Table
from benchmarks.harness.claims import Claim
from benchmarks.harness.command import BaseConfig, Command
from benchmarks.harness.experiment import run_experiment
from benchmarks.harness.fitting import CLIP, compute_scores, derive_seed, measure_time
from benchmarks.harness.rules import NOT_EMPTY, Alpha, Count, Known, Layers, Positive, Several, Within
from benchmarks.toy.summary import (
    BASELINE,
    MIXED,
    compare_slopes,
    draw_boundaries,
    summarise,
    tabulate,
)
from sk_mixup import MixupClassifier, fit_stacked

__all__ = ["COMMAND", "Config", "run"]

Array = NDArray[Any]
Corners = tuple[tuple[float, float], tuple[float, float]]
DRAWN_SIZE = 61  # Points on each side of the grid that is drawn


@dataclass(frozen=True)
class Toy:
    """Two classes in the plane."""

    # Gives points and labels for ``make(n_samples, noise=..., random_state=...)``
    make: Callable[..., tuple[Array, Array]]
    noise: float  # Standard deviation of the points around their curve
    # Lower left and upper right of the part of the plane that is drawn and measured
    corners: Corners


# The corners lie at three and a half standard deviations from the curves.
TOYS = {
    "circles": Toy(partial(make_circles, factor=0.5), 0.15, ((-1.525, -1.525), (1.525, 1.525))),
    "moons": Toy(make_moons, 0.2, ((-1.7, -1.2), (2.7, 1.7))),
}


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the toy problems."""

    datasets: Annotated[tuple[str, ...], Known(TOYS), NOT_EMPTY] = tuple(TOYS)
    """Problems to use."""

    wrong_shares: Annotated[tuple[float, ...], Within(0, 0.49), NOT_EMPTY] = (0.0, 0.2)
    """Shares of the training labels that are wrong."""

    alpha: Alpha = 1.0
    """Mixup's alpha; the paper's in Figure 1b."""

    n_train: Annotated[int, Within(4)] = 300
    """Training points, others in each repeat."""

    n_test: Annotated[int, Within(4)] = 2000
    """Test points, others in each repeat; their labels are true."""

    hidden_layer_sizes: Layers = (128, 128)
    """Units of the hidden layers."""

    lr: Positive = 5e-3
    """Learning rate of Adam."""

    max_epochs: Count = 200
    """Epochs; the last one is scored."""

    batch_size: Count = 32
    """Batch size."""

    grid_size: Annotated[int, Within(5)] = 201
    """Points on each side of the grid on which the plane is measured."""

    seeds_each: Several = 20
    """Repeats, unless --seeds is given."""

    def reads_files(self) -> bool:
        """Return False: the data are made up."""
        return False

    def count_seeds(self) -> int:
        """Return the repeats of every problem."""
        return self.n_seeds or self.seeds_each


PRESETS = {
    "cpu": Config(),
    "paper": Config(seeds_each=100),
    "gpu": Config(device="cuda", n_jobs=4),
    "smoke": Config(
        n_seeds=2,
        n_jobs=1,
        n_train=40,
        n_test=50,
        hidden_layer_sizes=(16,),
        max_epochs=5,
        grid_size=21,
    ),
}


def run(config: Config) -> int:
    """Measure, print tables and claims, and write the results."""
    return run_experiment(
        COMMAND,
        config,
        names=config.datasets,
        worker=fit_pair,
        make_tasks=partial(make_tasks, config),
        summarise=summarise,
        draw_from=partial(make_pictures, config),
        protocol=describe_protocol(config),
        load=partial(make_points, config),
    )


def make_points(config: Config, names: Sequence[str], **_: Any) -> list[Table]:
    """Return the points of ``seeds_each`` repeats of each problem: made up, so that no repeat shares one."""
    return [_draw_points(config, name, 0) for name in names]


def _draw_points(config: Config, name: str, number: int) -> Table:
    """Return the points of so many repeats; those of further repeats have another number."""
    toy, n_samples = TOYS[name], config.seeds_each * (config.n_train + config.n_test)
    X, y = toy.make(n_samples, noise=toy.noise, random_state=derive_seed(name, number))
    return Table(name, X, y, f"scikit-learn {sklearn.__version__}, {toy.noise:g} noise")


def take_points(config: Config, table: Table, repeat: int) -> tuple[Table, Table]:
    """Return the points of one repeat, for training and for testing."""
    number, place = divmod(repeat, config.seeds_each)
    if number:
        table = _draw_points(config, table.name, number)
    n_rows = config.n_train + config.n_test
    rows = np.arange(place * n_rows, (place + 1) * n_rows)
    parts = (rows[: config.n_train], rows[config.n_train :])
    train, test = (Table(table.name, table.X[part], table.y[part], table.source) for part in parts)
    return train, test


def flip_labels(y: Array, share: float, seed: int) -> Array:
    """Return labels of which a share, chosen at random, is the other one of 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from benchmarks.toy.run import flip_labels
    >>> int(flip_labels(np.zeros(10, dtype=int), 0.3, seed=0).sum())
    3
    """
    rows = np.random.default_rng(seed).permutation(len(y))[: round(share * len(y))]
    wrong = y.copy()
    wrong[rows] = 1 - wrong[rows]
    return wrong


def make_tasks(config: Config, tables: list[Table]) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`fit_pair` for each problem, share of wrong labels and repeat."""
    return {
        f"{table.name}/{share:g}/{repeat}": (config, *take_points(config, table, repeat), share, repeat)
        for table in tables
        for share in config.wrong_shares
        for repeat in range(config.count_seeds())
    }


def fit_nets(config: Config, train: Table, share: float, repeat: int) -> dict[str, MixupClassifier]:
    """Return ERM and mixup, fitted to the same points in the same order."""
    seed = derive_seed(train.name, repeat)
    options: Mapping[str, Any] = {
        "module__hidden_layer_sizes": config.hidden_layer_sizes,
        "lr": config.lr,
        "max_epochs": config.max_epochs,
        "batch_size": config.batch_size,
        "early_stopping": False,
        "device": config.device,
        "random_state": seed,
    }
    alphas = {BASELINE: 0.0, MIXED: config.alpha}
    nets = {method: MixupClassifier(alpha=alpha, **options) for method, alpha in alphas.items()}
    labels = flip_labels(train.y, share, seed)
    fit_stacked([(net, train.X, labels) for net in nets.values()])
    return nets


def fit_pair(config: Config, train: Table, test: Table, share: float, repeat: int) -> dict[str, Any]:
    """Fit ERM and mixup to the points of one repeat and measure them.

    ``records``: error in [0, 1], NLL in nats, what :func:`measure_plane` gives, an equal share of the
    seconds.
    """
    with measure_time() as watch:
        nets = fit_nets(config, train, share, repeat)
    records = []
    for method, net in nets.items():
        scores = compute_scores(net, test.X, test.y)
        record = {
            "dataset": train.name,
            "wrong_share": share,
            "method": method,
            "repeat": repeat,
            "error": round(scores.error, 5),
            "nll": round(scores.nll, 5),
            **measure_plane(net, TOYS[train.name], config.grid_size),
            "seconds": round(watch.seconds / len(nets), 3),
        }
        records.append(record)
    return {"records": records}


def measure_plane(net: Any, toy: Toy, grid_size: int) -> dict[str, float]:
    """Return how soft the boundary of a net is.

    ``band``: share of the grid in which the probability of class 1 lies in [0.05, 0.95]. ``slope``: mean
    norm of that probability's gradient at the boundary, per unit of length; 0 where there is no boundary.

    The mean of the gradient's norm over the whole plane would not do: by the coarea formula it is
    the mean length of the level lines, whether they lie close together or far apart.

    A steep probability may rise from 0 to 1 between two points of the grid. The slope is therefore
    that of the logit z, whose differences are near its gradient: at p = 1/2 a quarter of it, as
    dp/dz = p (1 - p).
    """
    axes = _list_axes(toy.corners, grid_size)
    proba = net.predict_proba(_list_grid(toy.corners, grid_size)).astype(np.float64)
    band = (proba[:, 1] >= 0.05) & (proba[:, 1] <= 0.95)
    logit = np.diff(np.log(np.clip(proba, CLIP, None)), axis=1).reshape(grid_size, grid_size)
    at_boundary = _find_boundary(logit > 0)
    slopes = np.hypot(*np.gradient(logit, axes[1], axes[0]))[at_boundary] / 4
    return {
        "band": round(float(band.mean()), 6),
        "slope": round(float(slopes.mean()), 5) if slopes.size else 0.0,
    }


def _list_axes(corners: Corners, size: int) -> list[Array]:
    """Return `size` places along each side of the plane between two corners."""
    return [np.linspace(*ends, size) for ends in zip(*corners, strict=True)]


def _list_grid(corners: Corners, size: int) -> Array:
    """Return the points of a grid over the plane, row by row, of shape (size * size, 2)."""
    return np.column_stack([values.ravel() for values in np.meshgrid(*_list_axes(corners, size))])


def _find_boundary(is_second: Array) -> Array:
    """Return which points of a grid have a neighbour on the other side."""
    found = np.zeros_like(is_second)
    for axis in (0, 1):
        changes = np.diff(is_second, axis=axis)
        lower, upper = (np.moveaxis(found, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        lower |= np.moveaxis(changes, axis, 0)
        upper |= np.moveaxis(changes, axis, 0)
    return found


def make_pictures(config: Config) -> list[dict[str, Any]]:
    """Return what is drawn of the first repeat, whose nets are fitted again: an entry a problem and share.

    ``proba``: by method, the probability of class 1 in per cent on a grid over the plane between
    ``corners``, row by row; ``X`` and ``y``, the training points and the labels they were trained with.
    """
    pictures = []
    for table in make_points(config, config.datasets):
        train, _ = take_points(config, table, 0)
        corners = TOYS[table.name].corners
        for share in config.wrong_shares:
            nets = fit_nets(config, train, share, 0)
            maps = {
                name: 100 * net.predict_proba(_list_grid(corners, DRAWN_SIZE))[:, 1]
                for name, net in nets.items()
            }
            picture = {
                "dataset": table.name,
                "wrong_share": share,
                "corners": corners,
                "size": DRAWN_SIZE,
                "proba": {name: np.rint(values).astype(int).tolist() for name, values in maps.items()},
                "X": train.X.round(2).tolist(),
                "y": flip_labels(train.y, share, derive_seed(train.name, 0)).tolist(),
            }
            pictures.append(picture)
    return pictures


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    layers = "x".join(map(str, config.hidden_layer_sizes))
    noises = ", ".join(f"{name} {TOYS[name].noise:g}" for name in config.datasets)
    return (
        "scikit-learn's problems of two classes in the plane, the inner of two circles half as large as the "
        f"outer; standard deviation of the points: {noises}. In each repeat {config.n_train} training and "
        f"{config.n_test} test points that no other repeat has; of the training labels a share is wrong, the "
        f"test labels are true. Hidden layers {layers}, Adam with learning rate {config.lr:g}, batch "
        f"{config.batch_size}, {config.max_epochs} epochs, the last one scored. ERM is alpha 0, mixup alpha "
        f"{config.alpha:g}, both from the same initial weights on the same points in the same order. "
        "Hesitation is the share of the plane drawn in which p(y = 1 | x) lies in [0.05, 0.95]; the slope "
        "is the mean norm of p's gradient along the boundary p = 1/2. NLL in nats, probabilities clipped at "
        "1e-12. Means with 95 % t-intervals, differences paired by repeat. The picture shows the "
        "first repeat."
    )


COMMAND = Command(
    name="toy",
    order=1,
    paper="Figure 1b",
    claim="the decision boundary of ERM and of mixup in the plane, drawn and measured",
    presets=PRESETS,
    times={"cpu": "100 seconds of CPU time", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    draw=draw_boundaries,
    claims=(
        Claim(
            "With mixup the decision boundary becomes a gradual transition",
            "section 2, Figure 1b",
            "a picture",
            compare_slopes,
            is_full=True,
        ),
    ),
    note=(
        "The paper gives neither the points nor the net of its picture; it says that the transition from "
        "class to class becomes linear."
    ),
)
