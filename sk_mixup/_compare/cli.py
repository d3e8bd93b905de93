"""The command ``python -m sk_mixup compare FILE --target COLUMN``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
import re
import sys
import textwrap
import warnings

from sklearn.base import BaseEstimator
from sklearn.model_selection import (
    RepeatedKFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedShuffleSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

import sk_mixup
from sk_mixup._compare.errors import UserError, require
from sk_mixup._compare.output import check_folder, draw_png, format_table, list_rows, write_csv, write_file
from sk_mixup._compare.preparing import Kept, PreparedOnce
from sk_mixup._compare.problem import FEWEST_ROWS, Problem, make_problem
from sk_mixup._compare.reading import name_table, read_frame
from sk_mixup.estimators import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    MixupRegressor,
)
from sk_mixup.inspection import AlphaDisplay, compare_alphas
from sk_mixup.stacking import stacked

__all__ = ["main"]

PROG = "python -m sk_mixup"
PACKAGES = ("pandas", "skrub", "matplotlib")
INTERRUPTED = 130
RANDOM = re.compile(r"(^|__)random_state$")
# Up to so many rows the folds are drawn twice, and alpha is chosen by inner folds, not by one held-out part.
FEW_ROWS, VERY_FEW_ROWS = 1500, 1000
N_INNER, HELD_OUT = 3, 0.25
MOST_WARNINGS = 3
MOST_SEED = 2**32 - 1  # of numpy's
# By whether it is classification, and whether ensembles are compared.
MODELS: dict[tuple[bool, bool], type[BaseEstimator]] = {
    (True, False): MixupClassifier,
    (True, True): MixupEnsembleClassifier,
    (False, False): MixupRegressor,
    (False, True): MixupEnsembleRegressor,
}


def main(args: Sequence[str]) -> int:
    """Run the command and return its exit status: 0, 2 for a mistake of the user, 130 for an interrupt.

    Raises
    ------
    SystemExit
        By argparse, for an unknown option (status 2), ``--help`` or ``--version``.
    """
    options = _make_parser().parse_args(args)
    try:
        _check_options(options)
        return _compare(options)
    except UserError as error:
        print(f"{PROG} compare: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return INTERRUPTED


def _make_parser() -> ArgumentParser:
    parser = ArgumentParser(PROG, description="mixup for scikit-learn, from the command line.")
    parser.add_argument("--version", action="version", version=f"sk_mixup {sk_mixup.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    compare = commands.add_parser(
        "compare",
        help="does mixup help on my table?",
        description="Does mixup help on my table? Trains networks without mixup (alpha = 0) and with it, in "
        "cross-validation, and says where it helps, where it loses and where that is unclear. Saves a plot "
        "and a table. That takes a minute or two on two cores.",
    )
    add = compare.add_argument
    add("file", metavar="FILE", type=Path, help="CSV or TSV, maybe in gzip, bz2, xz or zip; or Parquet")
    words = "in a column of text NA and None are classes"
    add("--target", required=True, metavar="COLUMN", help=f"name of the column to predict; {words}")
    add("--task", choices=("classification", "regression"), help="what to learn; guessed by default")
    add("--alphas", default="0.2,1", help="strengths of mixing to compare with 0 (%(default)s)")
    add("--folds", type=int, default=5, help="folds of the cross-validation (%(default)s)")
    add("--repeats", type=int, help=f"how often the folds are drawn (2 up to {FEW_ROWS} rows, else 1)")
    add("--ensemble", action="store_true", help="compare ensembles of 8 networks, which takes longer")
    add("--rows", type=int, default=3000, help="rows at most; of more, so many are drawn (%(default)s)")
    add("--seed", type=int, default=0, help="of the folds and of the networks (%(default)s)")
    add(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where the plot and the table are saved (here)",
    )
    add("--encoding", default="utf-8-sig", help="of a text file (%(default)s)")
    return parser


def _check_options(options: Namespace) -> None:
    words = str(options.alphas).replace(",", " ").split()
    try:
        options.alphas = [float(word) for word in words]
    except ValueError:
        options.alphas = []
    if not all(alpha >= 0 for alpha in options.alphas) or not any(alpha > 0 for alpha in options.alphas):
        seen = " ".join(words)
        raise UserError(
            f"--alphas must be numbers of at least 0, one above it; got {seen!r}. Use --alphas 0.2,1."
        )
    for name, low in {"folds": 2, "repeats": 1, "rows": FEWEST_ROWS, "seed": 0}.items():
        value = getattr(options, name)
        if value is not None and value < low:
            raise UserError(f"--{name} must be at least {low}; got {value}. Give a larger number.")
    if options.seed > MOST_SEED:
        raise UserError(f"--seed must be at most {MOST_SEED}; got {options.seed}. Give a smaller number.")


def _compare(options: Namespace) -> int:
    for name in PACKAGES:
        require(name)
    frame, doubts = read_frame(options.file, options.encoding, options.target)
    chosen = {"task": options.task, "most_rows": options.rows, "n_folds": options.folds, "seed": options.seed}
    try:
        problem = make_problem(frame, options.target, **chosen)
    except UserError:  # which a doubt may explain
        print("".join(f"- {doubt}\n" for doubt in doubts), end="")
        raise
    check_folder(options.out)
    other = "regression" if problem.is_classification else "classification"
    print(
        f"{options.file.name}: {problem.describe()}" + ("" if options.task else f" (--task {other} if not)")
    )
    for note in (*doubts, *problem.notes):
        print(f"- {note}")
    found = _run(problem, options)
    try:
        saved = _save(found, options)
    finally:  # found at length, and shown even where it cannot be saved
        _show(found)
    print(f"Saved: {saved}")
    return 0


def _show(found: Bunch) -> None:
    print(f"\n{format_table(found)}")
    print(
        "In brackets: mean difference from alpha = 0 ± half its 95 % interval; * clear of 0. Less is better."
    )
    print("chosen: the alpha that did best within the training rows, tested on the others.")
    print(f"\n{found.verdict}\n")


def _run(problem: Problem, options: Namespace) -> Bunch:
    """Compare, with progress; what was warned of is said once, in a line each."""
    n_rows, stratify = len(problem.y), problem.is_classification
    repeats = options.repeats or (2 if n_rows <= FEW_ROWS else 1)
    folds = RepeatedStratifiedKFold if stratify else RepeatedKFold
    cv = folds(n_splits=options.folds, n_repeats=repeats, random_state=options.seed)
    inner_cv: object = N_INNER
    if n_rows > VERY_FEW_ROWS:
        held_out = StratifiedShuffleSplit if stratify else ShuffleSplit
        inner_cv = held_out(1, test_size=HELD_OUT, random_state=options.seed)
    n_alphas, n_splits = len({0.0, *options.alphas}), options.folds * repeats
    n_inner = N_INNER if inner_cv == N_INNER else 1
    what = "ensembles" if options.ensemble else "networks"
    n_fits = n_alphas * n_splits * (1 + n_inner)
    print(f"- {n_fits} {what}: {n_alphas} alphas in {n_splits} splits, {n_inner} within each to choose alpha")
    model = _make_model(problem, options.seed, options.ensemble)
    with warnings.catch_warnings(record=True) as caught, stacked(verbose=1):
        warnings.simplefilter("default")
        try:
            found = compare_alphas(
                model,
                problem.X,
                problem.y,
                alphas=options.alphas,
                cv=cv,
                inner_cv=inner_cv,
                random_state=options.seed,
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"FILE must be a table to learn from; got '{_take_line(str(error))}'.") from error
    # Many fits warn of the same, each with other numbers.
    messages = {str(each.message).partition("; got")[0]: _take_line(str(each.message)) for each in caught}
    for message in list(messages.values())[:MOST_WARNINGS]:
        print(f"- {message}")
    return found


def _make_model(problem: Problem, seed: int, is_ensemble: bool) -> BaseEstimator:
    model = MODELS[problem.is_classification, is_ensemble](random_state=seed)
    pipeline = require("skrub").tabular_pipeline(model)
    steps = pipeline[:-1]
    steps.set_params(**dict.fromkeys(filter(RANDOM.search, steps.get_params()), seed))
    return make_pipeline(PreparedOnce(steps, Kept()), pipeline[-1])


def _take_line(text: str) -> str:
    line = text.strip().splitlines()[0]
    return line if len(line) <= 300 else line[:297] + "..."


def _save(found: Bunch, options: Namespace) -> str:
    """Save plot and table, and name both files."""
    from matplotlib.figure import Figure

    name = name_table(options.file)
    table, plot = options.out / f"{name}-alphas.csv", options.out / f"{name}-alphas.png"
    n_scores = len(found.scores)
    figure = Figure(figsize=(4.8 * n_scores, 4.2), layout="constrained")
    AlphaDisplay(comparison=found).plot(figure.subplots(1, n_scores))
    figure.suptitle(textwrap.fill(found.verdict, 58 * n_scores), fontsize="medium", x=0.01, ha="left")
    try:
        write_file(table, write_csv(list_rows(found)))
        write_file(plot, draw_png(figure))
    except OSError as error:
        raise UserError(
            f"--out must be a folder that can be written to; got {error}. Name another."
        ) from error
    return f"{plot} and {table}"
