"""What a new user does first, in an environment that holds the wheel and what it needs, and nothing else.

``python front_door.py README.md docs/start.rst`` imports each module of the package, and runs the README's
blocks, the quick start and the package's doctests. No test library is there, no extra, and no conftest.py.
"""

import doctest
import importlib
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
import pkgutil
import re
import sys

# A docstring with one of these words in its examples shows what an extra is needed for.
NEEDS_AN_EXTRA = re.compile(r">>>.*(accelerate|Display)")


def import_all() -> None:
    """Import each module of the installed package."""
    assert not any(map(find_spec, ("accelerate", "matplotlib", "pandas"))), "an extra is installed"
    package = importlib.import_module("sk_mixup")
    assert "site-packages" in package.__file__, f"the wheel is not what is imported: {package.__file__}"
    assert package.__version__ == version("sk-mixup")
    assert (files(package) / "py.typed").is_file()
    for module in pkgutil.walk_packages(package.__path__, "sk_mixup."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def run_blocks(readme: Path) -> int:
    """Run the README's Python blocks as one session; return their number."""
    text = readme.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    exec(compile("\n".join(blocks), str(readme), "exec"), {})
    return len(blocks)


def run_page(page: Path) -> int:
    """Run a page's blocks; return their number."""
    failed, attempted = doctest.testfile(str(page.resolve()), module_relative=False, encoding="utf-8")
    if failed:
        sys.exit(f"{failed} blocks of {page} failed")
    return attempted


def run_doctests() -> int:
    """Run the doctests of all modules but those that need an extra; return their number."""
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "sk_mixup"]
    found = {test.name: test for module in modules for test in doctest.DocTestFinder().find(module)}
    runner = doctest.DocTestRunner()
    for test in found.values():
        if not NEEDS_AN_EXTRA.search(test.docstring or ""):
            runner.run(test)
    failed, attempted = runner.summarize()
    if failed:
        sys.exit(f"{failed} doctest examples failed")
    return attempted


if __name__ == "__main__":
    import_all()
    readme, start = map(Path, sys.argv[1:])
    counts = run_blocks(readme), run_page(start), run_doctests()
    assert min(counts) >= 3
    print("{} blocks of the README, {} of the quick start and {} doctest examples ran".format(*counts))
