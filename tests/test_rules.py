"""Rules that all files keep, read from the files themselves."""

import ast
from collections.abc import Iterator
from functools import cache

from tests.house import HERE


@cache
def _parse(folder: str) -> list[tuple[str, ast.Module]]:
    paths = sorted((HERE / folder).rglob("*.py"))
    return [(str(path.relative_to(HERE)), ast.parse(path.read_text())) for path in paths]


@cache
def _find_calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    """Return the calls of a module's attributes, and what is called as it is written."""
    return [
        (f"{node.func.value.id}.{node.func.attr}", node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
    ]


# -- benchmarks --------------------------------------------------------------------------


def _find_imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_private(name: str) -> bool:
    """Whether a name of the package has a part with a leading underscore."""
    owner, *parts = name.split(".")
    return owner == "sk_mixup" and any(part.startswith("_") and part != "__version__" for part in parts)


def test_benchmarks_use_the_public_api_only() -> None:
    files = [*_parse("benchmarks"), *_parse("examples")]
    private = [(path, name) for path, tree in files for name in _find_imports(tree) if _is_private(name)]
    assert files
    assert not private


# -- tests -------------------------------------------------------------------------------

RAISES = {"pytest.raises", "pytest.warns"}
CLOCKS = {"time.sleep", "time.time", "time.monotonic", "time.perf_counter", "time.process_time"}

# Files that are not yet as they should be. The lists only shrink: a file that is comes off its list.
WITHOUT_MATCH = {
    "tests/stacking/test_errors_and_deadlocks.py",
    "tests/stacking/test_searches.py",
}
WITH_A_WINDOW = {  # of the stack's scheduler, which is what is tested
    "tests/helpers/stacking.py",
    "tests/stacking/test_errors_and_deadlocks.py",
}
WITH_A_CLOCK = {
    "tests/benchmarks/cifar/test_run.py",
    "tests/stacking/test_errors_and_deadlocks.py",
}


def _find_in_tests(names: set[str]) -> Iterator[tuple[str, ast.Call]]:
    for path, tree in _parse("tests"):
        yield from ((path, call) for name, call in _find_calls(tree) if name in names)


def _says_what_is_raised(call: ast.Call, own: set[str]) -> bool:
    """Whether a message is given, or the exception is one that only a test raises."""
    return "match" in {keyword.arg for keyword in call.keywords} or ast.unparse(call.args[0]) in own


def test_every_raises_and_warns_says_what_the_message_is() -> None:
    classes = (
        node for _, tree in _parse("tests") for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    own = {node.name for node in classes}
    calls = _find_in_tests(RAISES)
    assert {path for path, call in calls if not _says_what_is_raised(call, own)} == WITHOUT_MATCH


def test_no_test_sleeps_or_looks_at_a_clock() -> None:
    assert {path for path, _ in _find_in_tests(CLOCKS)} == WITH_A_CLOCK


def _takes_own_stacks(tree: ast.Module) -> bool:
    """Whether `stacked` or `fit_stacked` of the package is imported, or taken from it."""
    taken = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = [*_find_imports(tree), *taken]
    return any(name.startswith("sk_mixup") and name.endswith((".stacked", ".fit_stacked")) for name in names)


def test_stacks_of_tests_wait_for_every_net() -> None:
    assert {path for path, tree in _parse("tests") if _takes_own_stacks(tree)} == WITH_A_WINDOW
