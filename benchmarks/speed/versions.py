"""Is this version as fast as another? ``python -m benchmarks.speed.versions TREE [ROUNDS]``.

TREE is a checkout of the other version, as ``git worktree add`` makes it. Each version is imported by a
process of its own, and the two are asked in turns for the same fits; a ratio is taken round by round.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
import os
from pathlib import Path
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import Any

from sklearn.base import clone

from benchmarks.harness.command import ROOT, UserError
from benchmarks.harness.interleaved_timing import compare_times, interleave, use_threads
from benchmarks.harness.results import format_table
from benchmarks.peers.contenders import ALPHA, SmallConvNet, make_images, make_net, make_table
from sk_mixup import MixupRegressor, fit_stacked

__all__ = ["CASES", "VersionProcess", "compare_versions"]

PACKAGE, SERVE, DONE = "sk_mixup", "--serve", "done"
N_ROUNDS = 9
# Rows, features and classes.
TABLE, WIDE, FEW = (4177, 8, 28), (20_000, 54, 7), (64, 5, 3)


# Made once: what is timed is a fit, or a prediction.
_make_data, _make_images = cache(make_table), cache(make_images)


@cache
def _make_fitted() -> Any:
    return make_net(None, ALPHA, max_epochs=1).fit(*_make_data(*WIDE))


def _fit(sizes: tuple[int, int, int], alpha: float, repeats: int = 1, **options: Any) -> None:
    for _ in range(repeats):
        make_net(None, alpha, **options).fit(*_make_data(*sizes))


def _fit_regressor() -> None:
    X, _ = _make_data(4177, 8, 28)
    net = MixupRegressor(alpha=ALPHA, early_stopping=False, max_epochs=4, batch_size=32, random_state=0)
    net.fit(X, X.sum(axis=1))


def _fit_images() -> None:
    make_net(SmallConvNet, ALPHA, max_epochs=2, batch_size=128).fit(*_make_images(1024))


def _fit_stack() -> None:
    net = make_net(None, ALPHA, max_epochs=3, batch_size=32)
    fit_stacked((clone(net), *_make_data(1000, 54, 7)) for _ in range(8))


def _predict(n_samples: int, n_calls: int) -> None:
    X, _ = _make_data(*WIDE)
    for _ in range(n_calls):
        _make_fitted().predict_proba(X[:n_samples])


CASES: dict[str, Callable[[], None]] = {
    "fit in batches of 16": partial(_fit, TABLE, ALPHA, batch_size=16, max_epochs=2),
    "fit in batches of 128": partial(_fit, TABLE, ALPHA, batch_size=128, max_epochs=10),
    "fit in batches of 128, alpha=0": partial(_fit, TABLE, 0, batch_size=128, max_epochs=10),
    "fit in batches of 1024": partial(_fit, WIDE, ALPHA, batch_size=1024, max_epochs=10),
    "twenty fits of 64 rows for an epoch": partial(_fit, FEW, ALPHA, 20, max_epochs=1),
    "fit of images": _fit_images,
    "fit of a regressor": _fit_regressor,
    "eight nets as one": _fit_stack,
    "predict_proba of one row": partial(_predict, 1, 1000),
    "predict_proba of 1,000 rows": partial(_predict, 1000, 100),
    "predict_proba of 20,000 rows": partial(_predict, 20_000, 5),
}


class VersionProcess:
    """A process that imports the package of a tree, and does what it is asked to."""

    def __init__(self, tree: Path, folder: Path) -> None:
        if not (tree / PACKAGE / "__init__.py").is_file():
            raise UserError(f"TREE must hold a folder {PACKAGE}; got {str(tree)!r}. Name a checkout.")
        # Nothing of that tree but its package is imported: the fits are those of this one.
        (folder / PACKAGE).symlink_to((tree / PACKAGE).resolve())
        path = os.pathsep.join(map(str, (folder, ROOT)))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.speed.versions", SERVE],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, case: str) -> str:
        """Let it do a case; return what it answers."""
        try:
            print(case, file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline().strip()  # type: ignore[union-attr]
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise UserError(f"TREE must hold a version that can do {case!r}; its process ended. See above.")
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


@contextmanager
def _opening(trees: Mapping[str, Path]) -> Iterator[dict[str, VersionProcess]]:
    versions: dict[str, VersionProcess] = {}
    with TemporaryDirectory() as folder:
        try:
            for name, tree in trees.items():
                (own := Path(folder, name)).mkdir()
                versions[name] = VersionProcess(tree, own)
            yield versions
        finally:
            for version in versions.values():
                version.close()


def compare_versions(tree: Path, n_rounds: int, cases: Iterable[str]) -> list[dict[str, Any]]:
    """Return a row for each case: the time of this version ÷ that of the other, with quartiles.

    Parameters
    ----------
    tree : Path
        A checkout of the other version.
    n_rounds : int
        Rounds after a warm-up; a round times each version once.
    cases : iterable of str
        Names of ``CASES``.

    Raises
    ------
    UserError
        If there is no package in the tree, or it cannot do a case.
    """
    rows = []
    with _opening({"other": tree, "this": ROOT}) as versions:
        for case in cases:
            turns = {name: partial(version.run, case) for name, version in versions.items()}
            seconds = interleave(turns, n_rounds)
            rows.append({"case": case, **compare_times(seconds["this"], seconds["other"])})
    return rows


def _serve() -> None:
    """Do what is asked for, line by line."""
    with use_threads(1):
        for line in sys.stdin:
            CASES[line.strip()]()
            print(DONE, flush=True)


def main(arguments: list[str]) -> int:
    """Compare, print a table and return the exit status."""
    tree, rounds = (*arguments, str(N_ROUNDS))[:2] if arguments else ("", "")
    if not tree or tree.startswith("-") or not rounds.isdecimal() or int(rounds) == 0:
        print(__doc__)
        return 0 if tree in ("-h", "--help") else 2
    try:
        rows = compare_versions(Path(tree), int(rounds), CASES)
    except UserError as error:
        print(f"benchmarks.speed.versions: error: {error}", file=sys.stderr)
        return 2
    shown = [
        {
            "time of this version ÷ of the other": row["case"],
            "median": f"{row['ratio']:.3f}",
            "quartiles": f"{row['low']:.3f} to {row['high']:.3f}",
        }
        for row in rows
    ]
    print(f"{rounds} rounds in turns after a warm-up, each version in a process of one thread:\n")
    print(format_table(shown))
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == [SERVE]:
        _serve()
    else:
        sys.exit(main(sys.argv[1:]))
