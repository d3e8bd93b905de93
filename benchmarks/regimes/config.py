"""The options of ``regimes`` and its presets."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import numpy as np

from benchmarks.data.cifar_images import DIGITS, IMAGE_SET_TITLES
from benchmarks.data.tables import TableNames, needs_files
from benchmarks.harness.rules import (
    NOT_EMPTY,
    Alpha,
    Count,
    Known,
    Layers,
    NotNegative,
    Positive,
    Several,
    Share,
    Within,
    check_range,
)
from benchmarks.image_training.config import ImageConfig, TrainingConfig
from benchmarks.regimes.design import BASELINE, CHOICES, MIXUP, Plan, Setting, Settings, name_alpha

__all__ = ["PRESETS", "Config"]

SettingNames = Annotated[tuple[str, ...], Settings()]


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Options of the map of regimes."""

    dataset: Annotated[str, Known(IMAGE_SET_TITLES)] = "cifar10"
    """Images to learn: cifar10, cifar100, or scikit-learn's digits (digit_images)."""

    first: Annotated[SettingNames, NOT_EMPTY] = (
        *("1000/8/25", "1000/16/25", "1000/8/100", "1000/16/100", "500/16/100"),
        *("2500/8/25", "2500/16/25", "2500/8/100", "2500/16/100"),
    )
    """Settings, images/width/epochs, at which ERM and mixup are trained before anything else."""

    further: SettingNames = ("500/16/25", "5000/16/25", "10000/16/25", "1000/16/200", "1000/32/25")
    """Settings at which they are trained last."""

    anchors: SettingNames = ("1000/16/100",)
    """Settings at which other values of alpha are tried, and another weight decay."""

    alphas: tuple[Alpha, ...] = (8.0, float("inf"), 0.2)
    """Values of alpha beside the paper's 1 at the anchors; inf is the plain average."""

    choices: Annotated[tuple[str, ...], Known(CHOICES)] = tuple(CHOICES)
    """Choices of section 2 that are changed one at a time, at the first anchor."""

    weight_decay: NotNegative = 1e-4
    """Of ERM and mixup alike; the paper's."""

    other_decays: tuple[NotNegative, ...] = (5e-4,)
    """Weight decays of both that are tried at the first anchor; the authors' repository has 5e-4."""

    last_epochs: Count = 10
    """The training error of a run is the median over so many last epochs."""

    n_watched: Count = 20
    """Epochs, uniformly spaced, after which the test error is measured for the curves."""

    watched_rows: Count = 1000
    """Test images of the curves, the first ones; the last epoch is tested on all."""

    tables: TableNames = ("iris", "wine", "breast_cancer", "digits", "phishing", "arrhythmia")
    """Tables to learn."""

    noise: Annotated[tuple[float, ...], Within(0.0, 1.0)] = (0.0, 0.2, 0.4)
    """Shares of the tables' training labels that are replaced by draws from all classes."""

    table_alphas: Annotated[tuple[Alpha, ...], NOT_EMPTY] = (1.0, 0.2, 8.0)
    """Mixup's values of alpha on tables; the first is that of the figure."""

    table_epochs: Annotated[tuple[Count, ...], NOT_EMPTY] = (3, 10, 30, 100)
    """Epochs after which the nets on tables are looked at."""

    hidden_layer_sizes: Layers = (128, 128)
    """Units of the hidden layers on tables."""

    table_lr: Positive = 1e-3
    """Learning rate of Adam on tables, the same in every epoch."""

    table_batch_size: Count = 32
    """Rows in a mini-batch on tables."""

    test_size: Share = 0.2
    """Share of a table's rows for testing."""

    n_joined: Count = 5
    """Repeats on tables whose nets are trained as one."""

    seeds_tables: Several = 50
    """Repeats on each table, unless --seeds is given."""

    n_resamples: Count = 2000
    """Resamples of the bootstrap."""

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        least = min(Setting.parse(text).epochs for text in (*self.first, *self.further))
        check_range("--last-epochs", self.last_epochs, 1, least)

    def reads_files(self) -> bool:
        """Return whether images or tables come from files."""
        return self.dataset != DIGITS or needs_files(self.tables)

    def count_table_repeats(self) -> int:
        """Return how many splits of each table there are."""
        return self.n_seeds or self.seeds_tables

    def forget_plan(self) -> "Config":
        """Return the options that a record depends on: what is planned beside it does not change it."""
        nothing: dict[str, Any] = dict.fromkeys(
            ("further", "anchors", "alphas", "choices", "other_decays"), ()
        )
        least = Setting(1, 1, self.last_epochs)
        return replace(self, first=(str(least),), tables=(), noise=(), n_resamples=1, **nothing)

    def at(self, setting: Setting) -> ImageConfig:
        """Return the options of one training."""
        shared = {item.name: getattr(self, item.name) for item in fields(TrainingConfig)}
        return ImageConfig(**shared, width=setting.width, epochs=setting.epochs)

    def list_watched(self, epochs: int) -> tuple[int, ...]:
        """Return the epochs of the curves, uniformly spaced; the last one is among them."""
        places = np.linspace(0, epochs, min(self.n_watched, epochs) + 1)[1:]
        return tuple(np.unique(places.round().astype(int)).tolist())

    def make_first_plan(self) -> Plan:
        """Return what is trained on images before the tables."""
        both, first = (BASELINE, MIXUP), [Setting.parse(text) for text in self.first]
        return Plan(self.count_repeats(), self.weight_decay).add(first, both)

    def make_plan(self) -> Plan:
        """Return all that is trained on images, in order of importance."""
        both = (BASELINE, MIXUP)
        further, anchors = ([Setting.parse(text) for text in names] for names in (self.further, self.anchors))
        plan = self.make_first_plan()
        plan.add(anchors, [*both, *map(name_alpha, self.alphas)]).add(anchors[:1], self.choices)
        for decay in self.other_decays:
            plan.add(anchors[:1], both, weight_decay=decay)
        return plan.add(further, both)

    def get_mixing(self, method: str) -> dict[str, Any]:
        """Return the classifier's options of a method; one λ for each batch, as in the paper."""
        alphas = {name_alpha(alpha): alpha for alpha in self.alphas} | {BASELINE: 0.0}
        return {"alpha": alphas.get(method, 1.0), "lam_per": "batch"} | CHOICES.get(method, {})


PRESETS = {
    # On a processor without AVX-512, float32 with channels last does twelve times as many images a second
    # as bfloat16, and a fifth to a third more than without.
    "cpu": Config(bfloat16=False),
    "paper": Config(
        device="cuda",
        n_jobs=1,
        first=("50000/64/200",),
        further=("50000/64/50", "5000/64/200", "5000/64/50", "50000/16/200", "5000/16/200"),
        anchors=("50000/64/200",),
        bfloat16=False,
        channels_last=False,
    ),
    "gpu": Config(
        device="cuda",
        n_jobs=1,
        first=("50000/64/200", "50000/16/200", "5000/64/200", "5000/16/200"),
        further=("50000/64/50", "50000/16/50", "5000/64/50", "5000/16/50", "1000/64/200", "1000/16/200"),
        anchors=("50000/64/200", "5000/64/200"),
        compile=True,
    ),
    "smoke": Config(
        n_seeds=2,
        n_jobs=1,
        dataset=DIGITS,
        first=("100/4/2", "100/4/4"),
        further=("200/4/2", "100/8/2"),
        anchors=("100/4/2",),
        alphas=(float("inf"),),
        choices=("two loaders", "three examples"),
        batch_size=64,
        padding=1,
        test_rows=100,
        watched_rows=50,
        last_epochs=2,
        n_watched=2,
        checkpoint_every=2,
        tables=("iris",),
        noise=(0.4,),
        table_alphas=(1.0,),
        table_epochs=(1, 3),
        hidden_layer_sizes=(16,),
        n_resamples=50,
    ),
}
