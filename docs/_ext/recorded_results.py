"""The pages of results, and the directive ``recorded``: what the committed result files say.

benchmarks/README.md is generated from benchmarks/results and held to it by ``make report``; here its
sections become pages, and its tables can be shown in other pages.
"""

from __future__ import annotations

from pathlib import Path
import re
import shutil
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList
from report_tables import BENCHMARKS, Row, choose, find_table, read_sections, read_table, read_verdict


def to_rst(text: str) -> str:
    """Return a paragraph of the report in reStructuredText."""
    text = re.sub(r"\[([^\]]+)\]\((https?:[^)]+)\)", r"`\1 <\2>`__", text)
    text = re.sub(r"\[`([\w-]+)`\]\(#\1\)", r":doc:`\1 </generated/results/\1>`", text)
    text = re.sub(r"`([^`<]+)`(?!_)", r"``\1``", text)
    return re.sub(r"(?<![*\w])(\w+)_(?!\w)", r"\1\\_", text).replace("|", r"\|")


def write_table(table: list[Row], css: str = "recorded") -> str:
    """Return a table in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :class: {css}", ""]
    for row in table:
        cells = (to_rst(cell).replace("*", r"\*") for cell in row)
        lines += [
            f"   {'* -' if number == 0 else '  -'} {cell}".rstrip() for number, cell in enumerate(cells)
        ]
    return "\n".join(lines) + "\n"


def write_page(name: str, text: str) -> str:
    """Return the page of an experiment."""
    blocks = []
    for block in re.split(r"\n{2,}", text.strip()):
        picture = re.match(r"!\[([^\]]*)\]\(results/([^)]+)\)", block)
        if picture:
            blocks.append(f".. image:: {picture[2]}\n   :alt: {picture[1]}\n")
        elif block.startswith("|"):
            blocks.append(write_table(read_table(block)))
        elif block.startswith(("<details>", "</details>")):
            continue  # A page shows what the report folds.
        elif block.startswith("### "):
            title = block[4:]
            blocks.append(f"{title}\n{'-' * len(title)}\n")
        else:
            blocks.append(to_rst(block) + "\n")
    command = f"``python -m benchmarks {name}``"
    return "\n".join([name, "=" * len(name), "", f"Run by {command}.", "", *blocks])


def write_verdict(text: str) -> str:
    """Return the table of the paper's claims, with links to the pages of experiments."""
    blocks = []
    for block in re.split(r"\n{2,}", text.strip()):
        if block.startswith("|"):
            blocks.append(write_table(read_table(block), "recorded verdict"))
        elif block.startswith("!["):
            blocks.append(
                ".. image:: /generated/results/verdict.svg\n   :alt: The paper's differences and ours\n"
            )
        else:
            blocks.append(to_rst(block) + "\n")
    return "\n".join(blocks)


def write_pages(app: Any) -> None:
    """Write the pages of the verdict and of each experiment, and bring their pictures beside them."""
    folder = Path(app.srcdir) / "generated" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in read_sections().items():
        write_changed(folder / f"{name}.rst", write_page(name, text))
    write_changed(folder / "verdict.inc", write_verdict(read_verdict()))
    for picture in (BENCHMARKS / "results").glob("*.[ps][nv]g"):
        shutil.copy2(picture, folder)


def write_changed(path: Path, text: str) -> None:
    """Write a file unless it says so already: Sphinx builds what is newer."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


class Recorded(Directive):
    """Show a table of the results: ``.. recorded:: EXPERIMENT`` with the beginning of its title."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "title": directives.unchanged_required,
        "columns": directives.unchanged,
        "rows": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Return the table and where it comes from."""
        experiment = self.arguments[0]
        self.state.document.settings.env.note_dependency(str(BENCHMARKS / "README.md"))
        columns = [name.strip() for name in self.options.get("columns", "").split(";") if name.strip()]
        try:
            table = choose(
                find_table(experiment, self.options["title"]), columns, self.options.get("rows", "")
            )
        except (KeyError, ValueError) as error:
            raise self.error(f"recorded: {error}") from None
        source = f"Recorded result of :doc:`{experiment} </generated/results/{experiment}>`."
        lines = [*write_table(table).splitlines(), "", source, ""]
        parent = nodes.container()
        self.state.nested_parse(StringList(lines, experiment), self.content_offset, parent)
        return parent.children


def setup(app: Any) -> dict[str, bool]:
    """Add the directive and the pages."""
    app.add_directive("recorded", Recorded)
    app.connect("builder-inited", write_pages, priority=100)
    return {"parallel_read_safe": True}
