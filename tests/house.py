"""Measure how the package is built: ``python tests/house.py [tree ...]`` prints a column for each tree.

What is read from the files is read with `ast`; what a fit does is measured in a child process that imports
the package of that tree. ``make house`` measures this one.
"""

import ast
from collections.abc import Iterator
import inspect
from itertools import pairwise
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import tokenize
import tomllib
from types import FrameType

import numpy as np
from sklearn.base import clone

import sk_mixup

HERE = Path(__file__).resolve().parents[1]
ESTIMATORS = ("MixupClassifier", "MixupRegressor", "SemiSupervisedMixupClassifier", "MixupGAN")
MOVES = "moves between files in a fit"
CHILD = "--running"
# Of an earlier version's 869 `Any` in signatures, a third.
LIMITS = {
    "import layers": 10,
    **{f"our classes in {name}": 4 for name in ESTIMATORS},
    MOVES: 80,
    "Any in signatures": 289,
    "lines of the package": 14_500,
    "lines of the benchmarks": 15_000,
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _list_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def count_lines(folder: Path) -> int:
    """Count all lines of all files, docstrings and blank lines too."""
    return sum(len(path.read_text().splitlines()) for path in _list_files(folder))


def count_top(folder: Path) -> int:
    """Count the files beside a folder's ``__init__.py``."""
    return len(list(folder.glob("*.py"))) - 1


def count_word(folder: Path, word: str) -> int:
    """Count how often a word stands in the files."""
    return sum(len(re.findall(rf"\b{word}\b", path.read_text())) for path in _list_files(folder))


def count_layers(tree: Path) -> int:
    """Count the layers of the import contract."""
    settings = tomllib.loads((tree / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    return sum(len(contract["layers"]) for contract in contracts if contract["type"] == "layers")


def _find_functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def _find_annotations(function: Function) -> Iterator[ast.expr]:
    arguments = function.args
    given = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    yield from (argument.annotation for argument in given if argument and argument.annotation)
    if function.returns:
        yield function.returns


def count_in_signatures(folder: Path, name: str) -> int:
    """Count how often a type is named in signatures."""
    functions = (function for path in _list_files(folder) for function in _find_functions(path))
    names = (
        node for function in functions for hint in _find_annotations(function) for node in ast.walk(hint)
    )
    return sum(isinstance(node, ast.Name) and node.id == name for node in names)


def _find_code_lines(path: Path) -> set[int]:
    """Return the numbers of the lines with code: neither blank nor a comment nor a docstring."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type not in {*skipped, tokenize.ENCODING, tokenize.ENDMARKER}:
                lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def measure_functions(folder: Path) -> list[int]:
    """Return the numbers of code lines of all functions' bodies, in order of size."""
    sizes = []
    for path in _list_files(folder):
        code = _find_code_lines(path)
        for function in _find_functions(path):
            body = range(function.body[0].lineno, (function.end_lineno or 0) + 1)
            sizes.append(len(code.intersection(body)))
    return sorted(sizes)


def count_moves(package: Path) -> int:
    """Count how often a fit of one epoch on 64 rows goes on in another file of the package.

    Calls of functions are counted, those of comprehensions and generators are not.
    """
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(64, 5)).astype(np.float32), np.arange(64) % 3
    net = sk_mixup.MixupClassifier(max_epochs=1, early_stopping=False, random_state=0)
    clone(net).fit(X, y)  # what is cached at the first fit is cached
    files: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        inner = code.co_name.startswith("<") or code.co_flags & inspect.CO_GENERATOR
        if event == "call" and code.co_filename.startswith(f"{package}{os.sep}") and not inner:
            files.append(code.co_filename)

    sys.setprofile(note)
    net.fit(X, y)
    sys.setprofile(None)
    return sum(before != after for before, after in pairwise(files))


def count_classes(estimator: type) -> int:
    """Count the package's classes among an estimator and its ancestors."""
    return sum(owner.__module__.startswith("sk_mixup") for owner in estimator.__mro__)


def count_methods(estimator: type) -> int:
    """Count the methods of an estimator, inherited ones too, without those of two underscores."""
    names = (name for name in dir(estimator) if not name.startswith("__"))
    return sum(callable(getattr(estimator, name, None)) for name in names)


def measure_here() -> dict[str, int]:
    """Measure what can only be seen at run time, of the package that is imported."""
    classes = {f"our classes in {name}": count_classes(getattr(sk_mixup, name)) for name in ESTIMATORS}
    methods = {"methods of MixupClassifier": count_methods(sk_mixup.MixupClassifier)}
    return {**classes, **methods, MOVES: count_moves(Path(sk_mixup.__file__).parent)}


def _measure_in_child(tree: Path) -> dict[str, int]:
    """Measure a tree's package at run time, in a process that imports that one."""
    command = [sys.executable, str(Path(__file__).resolve()), CHILD]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def measure(tree: Path) -> dict[str, int]:
    """Measure a tree; the names are those of the table."""
    package, benchmarks = tree / "sk_mixup", tree / "benchmarks"
    sizes = measure_functions(package)
    return {
        "files at the top of the package": count_top(package),
        "files at the top of the benchmarks": count_top(benchmarks),
        "import layers": count_layers(tree),
        **_measure_in_child(tree),
        "Any in signatures": count_in_signatures(package, "Any"),
        "Tensor in signatures": count_in_signatures(package, "Tensor"),
        "Any, the word": count_word(package, "Any"),
        "Tensor, the word": count_word(package, "Tensor"),
        "functions": len(sizes),
        "code lines of a function: median": sizes[len(sizes) // 2],
        "code lines of a function: 90th percentile": sizes[len(sizes) * 9 // 10],
        "code lines of a function: longest": sizes[-1],
        "lines of the package": count_lines(package),
        "lines of the benchmarks": count_lines(benchmarks),
    }


def _print_table(trees: list[Path]) -> None:
    columns = [measure(tree) for tree in trees]
    print(f"{'':45}", *(f"{tree.name:>9}" for tree in trees), f"{'limit':>9}")
    for name in columns[0]:
        print(f"{name:45}", *(f"{column[name]:9}" for column in columns), f"{LIMITS.get(name, ''):>9}")


if __name__ == "__main__":
    if sys.argv[1:] == [CHILD]:
        print(json.dumps(measure_here()))
    else:
        _print_table([Path(name).resolve() for name in sys.argv[1:]] or [HERE])
