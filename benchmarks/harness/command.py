"""What a benchmark command is: its facts, its configuration, its presets, its run, its tables and figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
import math
from pathlib import Path
import tempfile
import time
from typing import Annotated, Any, Literal

import torch
import tyro

from benchmarks.harness.claims import Claim
from benchmarks.harness.figures import Draw
from benchmarks.harness.rules import UserError, Within, check_rules

__all__ = ["PRESET_NAMES", "BaseConfig", "Command", "UserError", "check_folder", "is_seeds"]

PRESET_NAMES = ("paper", "gpu", "cpu", "smoke")
# The checkout, and the recorded results in it.
ROOT = Path(__file__).parents[2]
RESULTS_DIR = ROOT / "benchmarks" / "results"
# Of the current folder.
OUT = Path("build/results")

# Where a run is made and stored, not what it computes: two runs that differ only in these share
# their records, and none of them is written into a result.
EXECUTION_FIELDS = frozenset(
    {
        *("preset", "data_dir", "download", "out", "record", "work", "n_jobs", "models", "measured_only"),
        *("minutes", "only"),
    }
)
SEEDS_PREFIX = "seeds_"


def check_folder(name: str, folder: Path) -> None:
    """Raise :class:`UserError` unless files can be written to a folder, which need not be there yet."""
    path = folder.absolute()
    nearest = next(place for place in (path, *path.parents) if place.exists())
    if not nearest.is_dir():
        reason = "is not a folder"
    else:
        try:
            with tempfile.TemporaryFile(dir=nearest):
                return
        except OSError as error:
            reason = f"cannot be written to ({error.strerror})"
    raise UserError(f"{name} must be a folder to write to; got '{folder}', but '{nearest}' {reason}.")


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """Options that every benchmark has.

    Fields of a subclass that begin with ``seeds_`` are numbers of seeds; ``--seeds`` stands for all of them.
    Rules of a field's value are annotations; a value that breaks one is a :class:`UserError`.
    """

    preset: Literal["paper", "gpu", "cpu", "smoke"] = "cpu"
    """Values the other options start from."""

    data_dir: Path | None = None
    """Folder with the data in the archives' own files (they may lie in DIR/uci)."""

    download: bool = False
    """Fetch what data_dir lacks (cached in scikit-learn's data home)."""

    out: Path = OUT
    """Folder for the results."""

    record: bool = False
    """Write to benchmarks/results; for a preset's own values, from a tree without changes."""

    work: Annotated[Path | None, tyro.conf.Suppress] = None
    """Folder of what is kept until the run ends; None for that of the results."""

    n_seeds: Annotated[int | None, Within(2), tyro.conf.arg(name="seeds")] = None
    """Repeats of every measurement, at least 2; None takes the preset's. More go on from a finished run."""

    n_jobs: int = -1
    """Processes; -1 uses every core. Results do not depend on it."""

    minutes: Annotated[float | None, Within(0)] = None
    """Begin nothing after so many minutes; the same command goes on. None goes on to the end."""

    device: str = "cpu"
    """Torch device of the nets, such as cpu, cuda or mps."""

    def __post_init__(self) -> None:
        """Check every option by the rules of its annotation."""
        check_rules(self)
        if self.out != OUT:
            check_folder("--out", self.out)
        if self.n_jobs == 0 or self.n_jobs < -1:
            raise UserError(f"--n-jobs must be -1 or at least 1; got {self.n_jobs}.")

    def reads_files(self) -> bool:
        """Return whether ``data_dir`` and ``download`` are used."""
        return True

    @cached_property
    def end(self) -> float:
        """When the monotonic clock has gone on by ``minutes``, from the first question on."""
        return math.inf if self.minutes is None else time.monotonic() + 60 * self.minutes

    def list_seeds(self) -> tuple[int, ...]:
        """Return every number of seeds."""
        names = [item.name for item in fields(self) if item.name.startswith(SEEDS_PREFIX)]
        return tuple(self.n_seeds or getattr(self, name) for name in names) or (self.n_seeds or 0,)

    def check_device(self) -> None:
        """Raise :class:`UserError` unless torch can compute on ``device`` here, and hand back what it has."""
        try:
            torch.ones(1, device=self.device).item()
        except (RuntimeError, AssertionError, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"--device must be one that torch finds here; got {self.device!r} ({reason}). "
                "Use --device cpu."
            ) from None


def is_seeds(name: str) -> bool:
    """Return whether a field of a configuration is a number of seeds."""
    return name == "n_seeds" or name.startswith(SEEDS_PREFIX)


@dataclass(frozen=True)
class Command:
    """One benchmark, as the command line and the report see it."""

    name: str  # What is typed after ``python -m benchmarks``
    paper: str  # Where the claim stands in the paper, such as "Table 4"
    claim: str  # The claim in one sentence
    presets: Mapping[str, Any]  # Frozen configurations by preset; a command without presets has one, named ""
    run: Callable[[Any], int]  # ``run(config)`` does the work and returns the exit status
    # ``tabulate(document)`` turns a result into tables: heading to rows, title to text
    tabulate: Callable[[Mapping[str, Any]], dict[str, list[dict[str, str]]]] | None = None
    draw: Draw | None = None  # ``draw(document)`` returns the figure of a result
    claims: Sequence[Claim] = ()  # What the paper says that a result is set beside
    note: str = ""  # What a reader of the results should know beside the claim; for the report
    # Place in the list of commands and in the report; commands of one place are sorted by name
    order: int = 100
    # What becomes of a finished run with more seeds
    more_seeds: str = "A finished one goes on with the same command and more --seeds."
    # By preset, how long it takes on which machine; a preset that is not named was not timed
    times: Mapping[str, str] = field(default_factory=dict)
