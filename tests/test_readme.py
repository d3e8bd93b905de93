"""The README's Python blocks run, in order, as one session."""

from pathlib import Path
import re

README = Path(__file__).parent.parent / "README.md"


def read_blocks():
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_readme_blocks_run():
    blocks = read_blocks()
    assert len(blocks) >= 3
    exec(compile("\n".join(blocks), str(README), "exec"), {})


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


def test_readme_shows_the_generated_uci_table():
    results = README.parent / "benchmarks" / "README.md"
    rows = re.findall(r"^\| [a-z].*\|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert results.exists()
    assert rows
