"""Claim: mixup steadies the training of GANs.

In the paper: section 3.7 and Figure 5, pictures of toy densities as training goes on, without figures.

    python -m benchmarks gan                       4,000 generator steps, five seeds; 75 minutes of CPU time
    python -m benchmarks gan --preset paper        the paper's 20,000, pairs of batches of 128

Generator and discriminator have the paper's three hidden layers of 512 ReLU units and train with Adam,
five discriminator steps before each step of the generator. Plain and mixup GANs have the same seeds,
training rows and code; alpha=0 is the plain one. Samples are scored against fresh points of the
density. The claim of robustness is a grid over learning rate, width and alpha.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
import itertools
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.gan.densities import DENSITIES
from benchmarks.gan.scores import MODE_SHARE, N_STD, compute_sample_scores
from benchmarks.gan.speed import time_gans
from benchmarks.gan.summary import compare_last, draw_samples, summarise, tabulate
from benchmarks.harness.claims import Claim
from benchmarks.harness.command import BaseConfig, Command, UserError
from benchmarks.harness.experiment import conclude, list_records, make_stem, open_journal
from benchmarks.harness.fitting import derive_seed, measure_time
from benchmarks.harness.rules import FINITE, NOT_EMPTY, Alpha, Count, Known, Several, Within, name_option
from benchmarks.harness.runner import run_tasks
from sk_mixup import MixupGAN, fit_stacked
from sk_mixup.callbacks import Snapshots

__all__ = ["COMMAND", "Config", "Setting", "run"]

GeneratorLoss = Literal["non-saturating", "minimax"]
LOSSES: tuple[GeneratorLoss, ...] = ("non-saturating", "minimax")
N_LAYERS = 3
STEPS_PER_EPOCH = 100
N_SHOWN = 500  # Samples of a snapshot that are drawn
SPEED_ALPHA, SPEED_SEEDS = 0.2, 5


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the comparison of plain GANs with mixup."""

    densities: Annotated[tuple[str, ...], Known(DENSITIES), NOT_EMPTY] = tuple(DENSITIES)
    """Densities to learn."""

    alphas: Annotated[tuple[Alpha, ...], NOT_EMPTY] = (0.2,)
    """Values of alpha beside the plain GAN, whose alpha is 0."""

    generator_losses: Annotated[tuple[GeneratorLoss, ...], Known(LOSSES), NOT_EMPTY] = LOSSES[:1]
    """Losses of the generator: non-saturating, or minimax as in the paper; the first is drawn."""

    iterations: Count = 4000
    """Generator steps; a multiple of 100, or fewer."""

    snapshots: tuple[Count, ...] = (10, 100, 1000, 10_000, 20_000)
    """Generator steps after which samples are drawn, as far as training goes, and after the last."""

    lr: Annotated[float, Within(1e-8), FINITE] = 1e-3
    """Learning rate of both nets; Adam's default."""

    width: Count = 512
    """Units of each of the three hidden layers."""

    batch_size: Several = 32
    """Real rows, and generated rows, of a step."""

    n_rows: Several = 10_000
    """Training rows, others for each seed."""

    n_samples: Several = 2500
    """Samples that are scored, and fresh points they are scored against."""

    seeds_each: Several = 5
    """Seeds, unless --seeds is given."""

    grid_densities: Annotated[tuple[str, ...], Known(DENSITIES)] = ("ring",)
    """Densities of the grid."""

    grid_losses: Annotated[tuple[GeneratorLoss, ...], Known(LOSSES)] = LOSSES
    """Losses of the generator in the grid."""

    grid_lrs: Annotated[tuple[float, ...], Within(1e-8), FINITE] = (2e-4, 1e-3, 5e-3)
    """Learning rates of the grid."""

    grid_widths: tuple[Count, ...] = (64, 128, 256)
    """Widths of the grid."""

    grid_alphas: tuple[Alpha, ...] = (0.1, 0.2, 0.5)
    """Values of alpha of the grid, beside the plain GAN."""

    grid_iterations: Count = 1000
    """Generator steps of each fit of the grid; a multiple of 100, or fewer."""

    seeds_grid: Several = 3
    """Seeds of each setting of the grid, unless --seeds is given."""

    speed_widths: tuple[Count, ...] = (128, 512)
    """Widths at which times are taken."""

    speed_iterations: Count = 20
    """Generator steps of each fit that is timed."""

    speed_rounds: Several = 9
    """Rounds of each comparison of times."""

    def reads_files(self) -> bool:
        """Return False: the data are made up."""
        return False

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        for name in ("iterations", "grid_iterations", "speed_iterations"):
            count = getattr(self, name)
            if count > STEPS_PER_EPOCH and count % STEPS_PER_EPOCH:
                rule = f"a multiple of {STEPS_PER_EPOCH}, or fewer; got {count}."
                raise UserError(f"{name_option(name)} must be {rule}")

    def count_seeds(self, setting: "Setting") -> int:
        """Return the seeds of a setting."""
        return self.n_seeds or (self.seeds_each if setting.part == "picture" else self.seeds_grid)

    def list_snapshots(self) -> tuple[int, ...]:
        """Return the iterations after which the samples of the picture are drawn; the last is one."""
        return (*sorted({step for step in self.snapshots if step < self.iterations}), self.iterations)


@dataclass(frozen=True)
class Setting:
    """What the nets of one stack have in common."""

    part: str  # 'picture' or 'grid': what the stack is trained for
    dataset: str  # Key of ``DENSITIES``
    generator_loss: GeneratorLoss
    alpha: float
    lr: float
    width: int  # Units of a hidden layer

    def describe(self) -> dict[str, Any]:
        """Return the columns that every record of the stack has."""
        return asdict(self)


PAPER: dict[str, Any] = {
    **{"iterations": 20_000, "batch_size": 128, "generator_losses": LOSSES, "n_rows": 100_000},
    **{"grid_widths": (128, 256, 512), "grid_iterations": 4000, "seeds_grid": 5},
}
PRESETS = {
    "cpu": Config(),
    "paper": Config(**PAPER, grid_densities=("ring", "grid")),
    "gpu": Config(**PAPER, device="cuda", n_jobs=1, speed_iterations=300),
    "smoke": Config(
        n_seeds=2,
        n_jobs=1,
        densities=("ring", "swiss_roll"),
        grid_losses=LOSSES[:1],
        iterations=12,
        snapshots=(5,),
        width=16,
        n_rows=200,
        n_samples=200,
        grid_lrs=(1e-3,),
        grid_widths=(8,),
        grid_alphas=(0.2,),
        grid_iterations=5,
        speed_widths=(8,),
        speed_iterations=3,
        speed_rounds=2,
    ),
}


def run(config: Config) -> int:
    """Measure, print tables and claims, and write the results."""
    stem = make_stem("gan", config, embedded=False)
    journal = open_journal(stem, config)
    join = max(config.list_seeds())
    fitted = run_tasks(
        fit_stack,
        make_tasks(config),
        journal,
        n_jobs=config.n_jobs,
        label="gan",
        until=config.end,
        join=lambda *_: join,
    )
    # Times alone: no other fit runs beside them.
    timed = run_tasks(
        time_width, list_widths(config), journal, n_jobs=1, label="gan, times", until=config.end
    )
    records = list_records([*fitted, *timed])
    pictures = [picture for group in fitted for picture in group["pictures"]]
    return conclude(
        COMMAND,
        config,
        stem,
        journal,
        records,
        protocol=describe_protocol(config),
        summarise=summarise,
        draw_from=pictures,
    )


def list_widths(config: Config) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`time_width` for each width."""
    return {f"speed/{width}": (config, width) for width in config.speed_widths}


def make_tasks(config: Config) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of :func:`fit_stack` for each setting and repeat, the largest nets first."""
    losses = config.generator_losses
    options = [
        *itertools.product(
            ["picture"], config.densities, losses, (0.0, *config.alphas), [config.lr], [config.width]
        ),
        *itertools.product(
            ["grid"],
            config.grid_densities,
            config.grid_losses,
            (0.0, *config.grid_alphas),
            config.grid_lrs,
            config.grid_widths,
        ),
    ]
    settings = [Setting(*values) for values in options]
    settings.sort(key=lambda setting: (setting.part != "picture", -setting.width))
    return {
        "/".join(map(str, (*setting.describe().values(), repeat))): (config, setting, repeat)
        for setting in settings
        for repeat in range(config.count_seeds(setting))
    }


def fit_stack(config: Config, setting: Setting, repeats: Sequence[int]) -> dict[str, Any]:
    """Train some seeds of one setting as a stack and score their samples.

    ``records``: the scores of each seed after each snapshot, seconds a net. ``pictures``: what is drawn of
    the first seed, if anything is.
    """
    is_picture = setting.part == "picture"
    seeds = [derive_seed(setting.dataset, repeat) for repeat in repeats]
    n_iterations = config.iterations if is_picture else config.grid_iterations
    steps = config.list_snapshots() if is_picture else (n_iterations,)
    snapshots = [Snapshots(iterations=steps, n_samples=config.n_samples, random_state=seed) for seed in seeds]
    jobs = [
        (make_gan(config, setting, seed, n_iterations, [taken]), draw_rows(config, setting, seed))
        for seed, taken in zip(seeds, snapshots, strict=True)
    ]
    with measure_time() as watch:
        fit_until_divergence(jobs)
    seconds = round(watch.seconds / len(repeats), 3)
    found: dict[str, Any] = {"records": [], "pictures": []}
    for repeat, seed, taken in zip(repeats, seeds, snapshots, strict=True):
        samples = fill_samples(taken.samples_, steps, config.n_samples)
        shared = {**setting.describe(), "repeat": repeat, "seed": seed, "seconds": seconds}
        scores = score_snapshots(config, setting, seed, samples)
        found["records"] += [{**shared, "iteration": step, **scores[step]} for step in steps]
        if repeat == 0 and is_picture and setting.generator_loss == config.generator_losses[0]:
            found["pictures"].append(make_picture(setting, samples))
    return found


def make_gan(
    config: Config, setting: Setting, seed: int, n_iterations: int, callbacks: Sequence[Any] | None = None
) -> MixupGAN:
    """Return an unfitted GAN of one setting."""
    steps = min(n_iterations, STEPS_PER_EPOCH)
    layers = (setting.width,) * N_LAYERS
    return MixupGAN(
        alpha=setting.alpha,
        generator_loss=setting.generator_loss,
        generator__hidden_layer_sizes=layers,
        discriminator__hidden_layer_sizes=layers,
        lr=setting.lr,
        batch_size=config.batch_size,
        steps_per_epoch=steps,
        max_epochs=n_iterations // steps,
        callbacks=None if callbacks is None else list(callbacks),
        device=config.device,
        random_state=seed,
    )


def fit_until_divergence(jobs: Sequence[tuple[MixupGAN, NDArray[np.float32]]]) -> None:
    """Fit GANs as a stack; one whose loss is no longer finite ends there, and its samples tell."""
    try:
        fit_stacked(jobs)
    except ValueError as error:
        if "must stay finite" not in str(error):
            raise


def fill_samples(
    samples: Mapping[int, NDArray[Any]], steps: Sequence[int], n_samples: int
) -> dict[int, NDArray[Any]]:
    """Return the samples after each of some steps; NaN for those that a net did not come to."""
    missing = np.full((n_samples, 2), np.nan)
    return {step: samples.get(step, missing) for step in steps}


def draw_rows(config: Config, setting: Setting, seed: int) -> NDArray[np.float32]:
    """Return the training rows of one seed, of shape (n_rows, 2)."""
    generator = np.random.default_rng([seed, 0])
    return DENSITIES[setting.dataset].draw(config.n_rows, generator).astype(np.float32)


def score_snapshots(
    config: Config, setting: Setting, seed: int, samples: Mapping[int, NDArray[Any]]
) -> dict[int, dict[str, Any]]:
    """Return the scores of the samples after each snapshot, against fresh points."""
    density = DENSITIES[setting.dataset]
    fresh = density.draw(config.n_samples, np.random.default_rng([seed, 1]))
    return {step: compute_sample_scores(points, fresh, density) for step, points in samples.items()}


def make_picture(setting: Setting, samples: Mapping[int, NDArray[Any]]) -> dict[str, Any]:
    """Return what is drawn of the first seed: its density, its alpha and some samples of each snapshot."""
    points = {str(step): np.round(drawn[:N_SHOWN], 2).tolist() for step, drawn in samples.items()}
    return {"repeat": 0, "dataset": setting.dataset, "alpha": setting.alpha, "samples": points}


def time_width(config: Config, width: int) -> dict[str, Any]:
    """Time the estimator beside the loop, and a stack beside single fits, for nets of one width."""
    setting = Setting(
        part="speed", dataset="ring", generator_loss=LOSSES[0], alpha=SPEED_ALPHA, lr=config.lr, width=width
    )
    times = time_gans(
        partial(make_gan, config, setting, n_iterations=config.speed_iterations),
        draw_rows(config, setting, seed=0),
        n_seeds=SPEED_SEEDS,
        n_rounds=config.speed_rounds,
        n_iterations=config.speed_iterations,
        alpha=setting.alpha,
        hidden_layer_sizes=(width,) * N_LAYERS,
        batch_size=config.batch_size,
        lr=config.lr,
        device=config.device,
    )
    case = f"width {width} on {config.device}"
    return {"records": [{**setting.describe(), "case": case, **time} for time in times]}


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    return f"{_describe_training(config)} {_describe_scores(config)} {_describe_times(config)}"


def _describe_training(config: Config) -> str:
    n_seeds, seeds_grid = (config.n_seeds or n for n in (config.seeds_each, config.seeds_grid))
    return (
        f"Nets with {N_LAYERS} hidden layers of {config.width} ReLU units, noise of two Gaussian features, "
        f"Adam with learning rate {config.lr:g}, five discriminator steps before each step of the generator, "
        f"batches of {config.batch_size} real and {config.batch_size} generated rows. Plain is alpha=0 in "
        f"the same code. Each of {n_seeds} seeds has {config.n_rows} training rows, weights and fresh points "
        "of its own, the same for plain and mixup. The grid has other learning rates, widths and alphas, "
        f"{config.grid_iterations} generator steps, {seeds_grid} seeds; generator loss: "
        f"{' and '.join(config.grid_losses)}. Densities have a standard deviation of about 1 an axis: eight "
        "Gaussians of standard deviation 0.014 on a ring of radius 1.41; 25 of 0.018 on a grid of spacing "
        "0.71; scikit-learn's swiss roll."
    )


def _describe_scores(config: Config) -> str:
    return (
        f"{config.n_samples} samples are scored against as many fresh points. Energy distance: 2 E|X - Y| - "
        "E|X - X'| - E|Y - Y'|, over all pairs of different points, on average 0 for equal densities. "
        f"A sample is near a mode within {N_STD:g} standard deviations; of the density's own "
        f"points 98.9 % are. A mode is covered if at least {100 * MODE_SHARE:g} % of its fair share of the "
        "samples is near it; much of the literature is content with one sample. Means with Student's 95 % "
        "intervals over seeds, differences paired by seed."
    )


def _describe_times(config: Config) -> str:
    where = "one thread" if config.device == "cpu" else config.device
    return (
        f"Times are of whole fits of {config.speed_iterations} generator steps with alpha={SPEED_ALPHA:g} on "
        f"{where}, in turns, {config.speed_rounds} rounds after a warm-up; a ratio is taken round by round, "
        "its median and quartiles are shown. The loop is written by hand: whole tensors, fused Adam, lerp."
    )


COMMAND = Command(
    name="gan",
    order=10,
    paper="section 3.7, Figure 5",
    claim="GANs on toy densities, plain and with mixup: pictures, distance to the density, modes",
    presets=PRESETS,
    times={"cpu": "75 minutes of CPU time", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    draw=draw_samples,
    claims=(
        Claim(
            "Mixup stabilises the training of GANs",
            "section 3.7, Figure 5",
            "pictures",
            compare_last,
        ),
    ),
    note=(
        "The paper shows pictures without figures. The prototype's are of one seed after 4,000 generator "
        "steps; the scale of its densities is not known, so they are not to be subtracted from ours. The "
        "paper's objective is the minimax loss; the non-saturating one is the default of `MixupGAN`."
    ),
)
