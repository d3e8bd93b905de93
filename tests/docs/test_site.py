"""The site's sources: each public name has a page, and figures in pages are those of the recorded results."""

import importlib
from pathlib import Path
import pkgutil
import re
import runpy

import sk_mixup

DOCS = Path(__file__).parents[2] / "docs"
OPTION = re.compile(r"^   :(\w+): (.*)$", re.MULTILINE)


def list_public_names() -> dict[str, object]:
    """Return what the package and its public modules export, by path."""
    names = [f"sk_mixup.{found.name}" for found in pkgutil.iter_modules(sk_mixup.__path__)]
    public = ["sk_mixup", *(name for name in names if "._" not in name)]
    modules = [importlib.import_module(name) for name in public]
    return {
        f"{module.__name__}.{name}": getattr(module, name) for module in modules for name in module.__all__
    }


def list_documented() -> list[str]:
    """Return what api.rst lists, by path: each has a page."""
    found, module = [], ""
    for line in (DOCS / "api.rst").read_text(encoding="utf-8").splitlines():
        if opened := re.match(r"\.\. automodule:: (\S+)", line):
            module = opened[1]
        elif name := re.fullmatch(r"   (\w[\w.]*)", line):
            found.append(f"{module}.{name[1]}")
    return found


def test_each_public_object_has_one_page() -> None:
    public = list_public_names()
    pages = [id(public[path]) for path in list_documented()]
    assert len(pages) == len(set(pages))
    assert {id(value) for value in public.values()} == set(pages)


def list_recorded() -> list[tuple[str, dict[str, str]]]:
    """Return the tables of results that pages show: of which experiment, and with which options."""
    pages = [
        path.read_text(encoding="utf-8") for path in DOCS.rglob("*.rst") if "generated" not in path.parts
    ]
    found = re.findall(r"^\.\. recorded:: (\S+)\n((?:   :.*\n)+)", "\n".join(pages), re.MULTILINE)
    return [(experiment, dict(OPTION.findall(options))) for experiment, options in found]


def test_each_table_of_a_page_is_a_recorded_one() -> None:
    report = runpy.run_path(str(DOCS / "_ext" / "report_tables.py"))
    recorded = list_recorded()
    assert recorded
    for experiment, options in recorded:
        columns = [name.strip() for name in options.get("columns", "").split(";") if name.strip()]
        table = report["find_table"](experiment, options["title"])
        assert len(report["choose"](table, columns, options.get("rows", ""))) > 1
