"""What the README says is what is recorded. `tests/front_door.py` runs its blocks, from the wheel."""

from pathlib import Path
import re

README = Path(__file__).parents[2] / "README.md"


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 160


def test_readme_shows_the_recorded_comparison_on_tables():
    text = README.read_text(encoding="utf-8").split("## On tables")[1].split("\n## ")[0]
    report = (README.parent / "benchmarks" / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## tabular\n(.*?)(?=^## )", report, re.DOTALL | re.MULTILINE)[1]
    lines = [[cell.strip() for cell in line.split("|")] for line in section.splitlines()]
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)
    ]
    assert len(rows) >= 10
    for name, *figures in rows[2:]:
        assert any(name in line and set(figures) <= set(line) for line in lines), name


def test_readme_shows_what_the_generated_report_says():
    report = (README.parent / "benchmarks" / "README.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", report, re.DOTALL | re.MULTILINE))
    lines = [line for line in README.read_text(encoding="utf-8").splitlines() if "README.md#" in line]
    assert len(lines) >= 15
    for line in lines:
        said = "".join(sections[name] for name in re.findall(r"README\.md#([\w-]+)\)", line))
        for number in re.findall(r"\d+\.\d+", line):
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", said), (line, number)
