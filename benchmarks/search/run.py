"""Claim: every scikit-learn search trains its nets as one.

Not in the paper: what it takes to choose alpha by a search.

    python -m benchmarks search                   two threads of the CPU, 8 to 25 minutes
    python -m benchmarks search --preset gpu      the lines of a CUDA device

Every ratio is of times taken in turns, in one run, as in ``speed``. All contenders train nets
with hidden layers of 128 and 128 units with Adam on the same data, with nothing held out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from benchmarks.harness.command import BaseConfig, Command, UserError
from benchmarks.harness.experiment import conclude, list_records, make_stem, open_journal
from benchmarks.harness.fitting import count_batches
from benchmarks.harness.interleaved_timing import list_times, use_threads
from benchmarks.harness.rules import NOT_EMPTY, Count, Several, Within
from benchmarks.harness.runner import run_tasks
from benchmarks.peers.contenders import make_table
from benchmarks.search.fits import N_WORKERS, Work, make_searches, time_works
from benchmarks.search.floor import time_floor
from benchmarks.search.growth import time_gpu, time_growth, time_single
from benchmarks.search.memory import measure_memory
from benchmarks.search.summary import draw, summarise, tabulate

__all__ = ["COMMAND", "Config", "run"]

ABALONE = (8, 28)
WIDE = (54, 7)
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the measurement of searches."""

    n_rounds: Count = 4
    """Rounds of each comparison, unless --seeds is given."""

    # Fewer rows than these leave a class out of a fold.
    abalone_rows: Annotated[int, Within(280)] = 4177
    """Rows of the table of Abalone's shape: 8 features, 28 classes."""

    wide_rows: Annotated[int, Within(70)] = 50_000
    """Rows of the table of 54 features and 7 classes."""

    n_candidates: Several = 8
    """Values of the parameter that is searched."""

    n_folds: Several = 5
    """Folds of every search."""

    batch_size: Several = 16
    """Rows of a batch on Abalone's shape."""

    epochs: Count = 10
    """Epochs of a fit on Abalone's shape."""

    wide_batch_size: Several = 32
    """Rows of a batch of the searches on the wide table."""

    wide_epochs: Count = 1
    """Epochs of a fit of the searches on the wide table."""

    floor_nets: Count = 50
    """Nets of the stack that is compared with a bare loop."""

    floor_epochs: Annotated[tuple[Count, Count], NOT_EMPTY] = (2, 6)
    """Epochs of the shorter and of the longer fit whose difference is compared with the loop."""

    growth_nets: Annotated[tuple[Count, ...], NOT_EMPTY] = (1, 2, 5, 10, 20, 50, 100, 200)
    """Numbers of nets whose time per net is measured."""

    growth_epochs: Count = 2
    """Epochs of those fits."""

    memory_candidates: Several = 40
    """Values of the parameter in the search whose memory is measured."""

    memory_batch_size: Several = 1024
    """Rows of a batch in that search."""

    memory_mib: Count = 1024
    """Budget of that search in MiB."""

    gpu_nets: Count = 200
    """Nets of the stack on a GPU."""

    def reads_files(self) -> bool:
        """Return False: the data are made up."""
        return False

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        if not 1 <= self.floor_epochs[0] < self.floor_epochs[1]:
            raise UserError(f"--floor-epochs must be a smaller and a larger number; got {self.floor_epochs}.")
        if self.n_jobs not in (-1, 1):
            raise UserError(f"--n-jobs must be 1: times are taken one by one; got {self.n_jobs}.")

    @property
    def rounds(self) -> int:
        """Rounds of each comparison."""
        return self.n_seeds or self.n_rounds

    @property
    def n_nets(self) -> int:
        """Nets of every search whose time is measured."""
        return self.n_candidates * self.n_folds


PRESETS = {
    "cpu": Config(),
    "gpu": Config(device="cuda"),
    "paper": Config(n_rounds=15),
    "smoke": Config(
        n_rounds=1,
        abalone_rows=300,
        wide_rows=300,
        n_candidates=2,
        n_folds=2,
        epochs=2,
        floor_nets=3,
        floor_epochs=(1, 3),
        growth_nets=(1, 3),
        growth_epochs=1,
        memory_candidates=2,
        gpu_nets=3,
    ),
}


def run(config: Config) -> int:
    """Measure, print the table of targets, and write the results."""
    stem = make_stem("search", config, embedded=False)
    journal = open_journal(stem, config, by_repeat=False)
    tasks = {"/".join(group): (config, *group) for group in list_groups(config)}
    measured = run_tasks(measure_group, tasks, journal, n_jobs=1, label="search", until=config.end)
    records = list_records(measured)
    return conclude(
        COMMAND,
        config,
        stem,
        journal,
        records,
        protocol=describe_protocol(config),
        summarise=summarise,
    )


def list_groups(config: Config) -> list[tuple[str, str]]:
    """Return part and case of everything that is measured."""
    if config.device != "cpu":
        return [("gpu", "abalone"), ("growth", "abalone")]
    return [
        ("search", "abalone"),
        ("search", "wide"),
        ("floor", "abalone"),
        ("single", "abalone"),
        ("growth", "abalone"),
        ("memory", "wide"),
    ]


def measure_group(config: Config, part: str, case: str) -> dict[str, Any]:
    """Measure the contenders of one comparison in turns."""
    with use_threads(1 if part == "floor" else N_WORKERS):
        return {"records": list(MEASURES[part](config, part, case))}


def _measure_search(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    X, y = _make_table(config, case)
    wide = case == "wide"
    size = config.wide_batch_size if wide else config.batch_size
    epochs = config.wide_epochs if wide else config.epochs
    folds = {"n_candidates": config.n_candidates, "n_folds": config.n_folds}
    searches = make_searches(X, y, **folds, batch_size=size, epochs=epochs)
    n_steps = config.n_nets * epochs * count_batches(_count_training_rows(config, len(X)), size)
    works = {name: Work(search, n_steps) for name, search in searches.items()}
    return _make_records(part, case, time_works(works, config.rounds))


def _measure_floor(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    X, y = _make_training_set(config)
    times = time_floor(
        config.rounds,
        X,
        y,
        n_nets=config.floor_nets,
        batch_size=config.batch_size,
        epochs=config.floor_epochs,
    )
    return _make_records(part, case, times)


def _measure_single(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    X, y = _make_training_set(config)
    options = {"batch_size": config.batch_size, "max_epochs": config.epochs}
    return _make_records(part, case, time_single(3 * config.rounds, X, y, **options))  # it is short


def _measure_growth(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    X, y = _make_training_set(config)
    options = {"batch_size": config.batch_size, "max_epochs": config.growth_epochs, "device": config.device}
    times = time_growth(config.rounds, X, y, numbers=config.growth_nets, **options)
    return _make_records(part, case, times)


def _measure_memory(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    budget = config.memory_mib * MIB
    measured = measure_memory(
        config.wide_rows,
        n_candidates=config.memory_candidates,
        n_folds=config.n_folds,
        batch_size=config.memory_batch_size,
        budget=budget,
    )
    shares = {name: [record["peak"] / budget] for name, record in measured.items()}
    seconds = {name: [record["seconds"]] for name, record in measured.items()}
    yield from _make_records(part, case, shares, "budget")
    yield from _make_records("memory-time", case, seconds, "search")


def _measure_gpu(config: Config, part: str, case: str) -> Iterable[dict[str, Any]]:
    X, y = _make_training_set(config)
    options = {"batch_size": config.batch_size, "max_epochs": config.epochs, "device": config.device}
    return _make_records(part, case, time_gpu(config.rounds, X, y, n_nets=config.gpu_nets, **options))


MEASURES = {
    "search": _measure_search,
    "floor": _measure_floor,
    "single": _measure_single,
    "growth": _measure_growth,
    "memory": _measure_memory,
    "gpu": _measure_gpu,
}


def _make_table(config: Config, case: str) -> tuple[np.ndarray, np.ndarray]:
    sizes = {"abalone": (config.abalone_rows, *ABALONE), "wide": (config.wide_rows, *WIDE)}
    return make_table(*sizes[case])


def _make_training_set(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Return as many rows of Abalone's shape as a fit of the search has."""
    return make_table(_count_training_rows(config, config.abalone_rows), *ABALONE)


def _count_training_rows(config: Config, n_samples: int) -> int:
    return n_samples * (config.n_folds - 1) // config.n_folds


def _make_records(
    part: str, case: str, times: Mapping[str, list[float]], unit: str = "net and step"
) -> Iterable[dict[str, Any]]:
    return list_times(times, part=part, case=case, unit=unit)


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    head = (
        f"Times taken in turns in one run: {config.rounds} rounds after a warm-up, each of which times every "
        "contender once. A ratio is taken round by round; its median and quartiles are shown. A time is wall "
        "time over the number of nets, epochs and steps: microseconds per net and step. All nets have hidden "
        "layers of 128 and 128 units and are trained with Adam on random float32 data, nothing held out: "
        f"{config.abalone_rows} rows of 8 features and 28 classes (abalone, batches of {config.batch_size}), "
        f"{config.wide_rows} rows of 54 features and 7 classes (wide). "
    )
    if config.device != "cpu":
        return head + _describe_gpu(config)
    return head + _describe_searches(config) + _describe_parts(config)


def _describe_gpu(config: Config) -> str:
    return (
        f"Device {config.device}; gpu: {config.gpu_nets} nets of {config.epochs} epochs in fit_stacked, and "
        "four of them fitted one after another on the same device; lone-graph is the latter with "
        f"cuda_graph=True. Growth: fits of {config.growth_epochs} epochs in fit_stacked; lone is a plain fit "
        f"of one. Both on {_count_training_rows(config, config.abalone_rows)} rows of abalone."
    )


def _describe_searches(config: Config) -> str:
    return (
        f"Search: GridSearchCV with {config.n_candidates} candidates and {config.n_folds} folds, "
        f"{config.n_nets} nets, over a pipeline of StandardScaler and net, with scoring and the refit of the "
        f"best (not counted as a net); fits of {config.epochs} epochs on abalone, {config.wide_epochs} in "
        f"batches of {config.wide_batch_size} on wide. stacked is a search over alpha of MixupClassifier "
        f"within stacked(), in one process on {N_WORKERS} threads; lone is the same call without it, skorch "
        "a search over lr of NeuralNetClassifier without mixing, shuffled, train_split=None, and sklearn one "
        f"over alpha of MLPClassifier, these with n_jobs={N_WORKERS}: processes of one thread each, started "
        "in the warm-up. "
    )


def _describe_parts(config: Config) -> str:
    short, long = config.floor_epochs
    n_rows = _count_training_rows(config, config.abalone_rows)
    return (
        f"The parts that follow, but memory, train on {n_rows} rows of abalone. Floor, on one thread: stack "
        f"is fit_stacked of {config.floor_nets} nets, the time of {long} epochs less that of {short}; floor "
        "is a loop written by hand over the same number of nets and steps, batched matrix products "
        "with autograd, cross-entropy with soft targets and fused Adam, on batches that are there already "
        "and not mixed (floor-tens: stacks of ten nets, one after another); lone is a plain fit of a net, "
        f"timed as stack is. Single: fit_stacked of one net beside its plain fit, {config.epochs} epochs, "
        f"{N_WORKERS} threads, {3 * config.rounds} rounds. Growth: fits of {config.growth_epochs} epochs in "
        f"fit_stacked, {N_WORKERS} threads; lone is a plain fit of one net. Memory: peak resident size "
        "beyond what was held before a search over "
        f"{config.memory_candidates * config.n_folds} nets on wide, one epoch, batches of "
        f"{config.memory_batch_size}, as a share of {config.memory_mib} MiB: budget is "
        "stacked(memory=...) of so much, default has no budget; each is measured once, in a process of its "
        "own, and memory-time is the seconds of these searches."
    )


COMMAND = Command(
    name="search",
    order=15,
    paper="none; what it takes to choose alpha by a search",
    claim="every scikit-learn search trains its nets as one: time and memory against fits one by one",
    presets=PRESETS,
    times={"cpu": "8 to 25 minutes on two cores", "smoke": "seconds"},
    more_seeds="More --seeds than a finished run has begin anew: only times of one run can be compared.",
    run=run,
    tabulate=tabulate,
    draw=draw,
)
