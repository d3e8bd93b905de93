"""What a benchmark command is: its facts, its configuration, its presets, its run."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

__all__ = ["PRESET_NAMES", "BaseConfig", "Command", "UserError", "check_folder", "check_known", "check_range"]

PRESET_NAMES = ("paper", "gpu", "cpu", "smoke")
RESULTS_DIR = Path(__file__).parents[1] / "results"

# Where a run is made and stored, not what it computes: two runs that differ only in these share
# their records, and none of them is written into a result.
EXECUTION_FIELDS = frozenset({"preset", "data_dir", "download", "out", "n_jobs", "models"})


class UserError(ValueError):
    """A mistake of the user, printed by the command line without a traceback."""


def check_known(name: str, value: str, known: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``known``, naming the closest one.

    Parameters
    ----------
    name : str
        The option as the user types it.
    value : str
        What the user typed.
    known : iterable of str
        The values that are allowed.

    Raises
    ------
    UserError
        If ``value`` is none of ``known``.
    """
    known = tuple(known)
    if value in known:
        return
    close = difflib.get_close_matches(value, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UserError(f"{name} must be one of {', '.join(known)}; got {value!r}.{hint}")


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise unless ``low <= value <= high``; NaN fails.

    Parameters
    ----------
    name : str
        The option as the user types it.
    value : float
        What the user typed.
    low, high : float
        The ends of the allowed range, both included.

    Raises
    ------
    UserError
        If ``value`` lies outside the range.
    """
    if not low <= value <= high:
        rule = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
        raise UserError(f"{name} must be {rule}; got {value!r}.")


def check_folder(name: str, folder: Path) -> None:
    """Raise unless files can be written to a folder, which need not be there yet.

    Parameters
    ----------
    name : str
        The option as the user types it.
    folder : Path
        What the user typed.

    Raises
    ------
    UserError
        If the nearest of its parents that is there is no folder, or is not to be written to.
    """
    path = folder.absolute()
    nearest = next(place for place in (path, *path.parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        rule = "is no folder" if not nearest.is_dir() else "cannot be written to"
        raise UserError(f"{name} must be a folder to write to; got '{folder}', but '{nearest}' {rule}.")


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """Options that every benchmark has.

    Raises
    ------
    UserError
        If an option is outside its range, or the device is not there.
    """

    preset: Literal["paper", "gpu", "cpu", "smoke"] = "cpu"
    """Values the other options start from."""

    data_dir: Path | None = None
    """Folder with the data in the archives' own files (they may lie in DIR/uci)."""

    download: bool = False
    """Fetch what data_dir lacks (cached in scikit-learn's data home)."""

    out: Path = RESULTS_DIR
    """Folder for the results."""

    n_seeds: Annotated[int | None, tyro.conf.arg(name="seeds")] = None
    """Repeats of every measurement, at least 2; None takes the preset's."""

    n_jobs: int = -1
    """Processes; -1 uses every core. Results do not depend on it."""

    device: str = "cpu"
    """Torch device of the nets, such as cpu, cuda or mps."""

    def __post_init__(self) -> None:
        """Check the values that every benchmark shares."""
        if self.n_seeds is not None:
            check_range("--seeds", self.n_seeds, 2)
        check_folder("--out", self.out)
        if self.n_jobs == 0 or self.n_jobs < -1:
            raise UserError(f"--n-jobs must be -1 or at least 1; got {self.n_jobs}.")

    def check_device(self) -> None:
        """Raise :class:`UserError` unless torch can use ``device`` on this machine."""
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"--device must be one that torch finds here; got {self.device!r} ({reason}). "
                "Use --device cpu."
            ) from None


@dataclass(frozen=True)
class Command:
    """One benchmark, as the command line and the report see it.

    Parameters
    ----------
    name : str
        What is typed after ``python -m benchmarks``.
    paper : str
        Where the claim stands in the paper, such as "Table 4".
    claim : str
        The claim in one sentence.
    presets : mapping of str to BaseConfig
        Frozen configurations by preset; a command without presets has one, named "".
    run : callable
        ``run(config)`` does the work and returns the exit status.
    tabulate : callable, optional
        ``tabulate(document)`` turns a result into tables: heading to rows, title to text.
    note : str, default=""
        What a reader of the results should know beside the claim; for the report.
    order : int, default=100
        Place in the list of commands and in the report; commands of one place are sorted by name.
    """

    name: str
    paper: str
    claim: str
    presets: Mapping[str, Any]
    run: Callable[[Any], int]
    tabulate: Callable[[Mapping[str, Any]], dict[str, list[dict[str, str]]]] | None = None
    note: str = ""
    order: int = 100
