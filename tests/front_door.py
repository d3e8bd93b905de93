"""What a new user does first, in an environment that holds the wheel and what the README says to install.

``python front_door.py README.md`` imports the package with nothing but what it needs, runs the README's
blocks and the package's doctests. No test library is there, and no conftest.py.
"""

import doctest
import importlib
from importlib.metadata import packages_distributions, requires
from pathlib import Path
import pkgutil
import re
import sys

# What `import sk_mixup` needs; what these need themselves comes with them.
NEEDED = ("joblib", "numpy", "scikit-learn", "skorch", "torch", "tqdm")


def normalize(name: str) -> str:
    """Return the name of a distribution as indices write it."""
    return name.lower().replace("_", "-")


def find_needed() -> set[str]:
    """Return the names of the distributions that are needed, directly or not."""
    needed, todo = {"sk-mixup"}, list(NEEDED)
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            lines = [line for line in requires(name) or () if not re.search("extra ==|platform", line)]
            todo += [normalize(re.match(r"[\w.-]+", line)[0]) for line in lines]
    return needed


class OnlyNeeded:
    """A finder that refuses the modules of all other distributions."""

    def __init__(self) -> None:
        needed, owners = find_needed(), packages_distributions().items()
        self.refused = {module for module, names in owners if needed.isdisjoint(map(normalize, names))}

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in self.refused:
            raise ModuleNotFoundError(f"No module named {name!r}: it is refused", name=name)


def import_with_what_is_needed() -> None:
    """Import each module of the package while nothing else can be."""
    finder = OnlyNeeded()
    assert "matplotlib" in finder.refused
    sys.meta_path.insert(0, finder)
    package = importlib.import_module("sk_mixup")
    assert "site-packages" in package.__file__, f"the wheel is not what is imported: {package.__file__}"
    for module in pkgutil.walk_packages(package.__path__, "sk_mixup."):
        importlib.import_module(module.name)
    sys.meta_path.remove(finder)


def run_blocks(readme: Path) -> int:
    """Run the README's Python blocks as one session; return their number."""
    text = readme.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    exec(compile("\n".join(blocks), str(readme), "exec"), {})
    return len(blocks)


def run_doctests() -> int:
    """Run the doctests of all modules but those of accelerate, an extra of its own; return their number."""
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "sk_mixup"]
    found = {test.name: test for module in modules for test in doctest.DocTestFinder().find(module)}
    runner = doctest.DocTestRunner()
    for test in found.values():
        if "from accelerate" not in (test.docstring or ""):
            runner.run(test)
    results = runner.summarize()
    if results.failed:
        sys.exit(f"{results.failed} doctest examples failed")
    return results.attempted


if __name__ == "__main__":
    import_with_what_is_needed()
    n_blocks = run_blocks(Path(sys.argv[1]))
    n_examples = run_doctests()
    assert n_blocks >= 3 <= n_examples
    print(f"{n_blocks} blocks of the README and {n_examples} doctest examples ran")
