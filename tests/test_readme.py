"""The README's Python blocks run, in order, as one session."""

from pathlib import Path
import re

README = Path(__file__).parent.parent / "README.md"


def read_blocks():
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_readme_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = read_blocks()
    assert len(blocks) >= 3
    exec(compile("\n".join(blocks), str(README), "exec"), {})


def test_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


def test_readme_shows_the_rows_of_the_generated_tables():
    report = (README.parent / "benchmarks" / "README.md").read_text(encoding="utf-8")
    measured = README.read_text(encoding="utf-8").split("## Measured")[1].split("##")[0]
    rows = re.findall(r"^\|.*\|$", measured, re.MULTILINE)
    assert len(rows) == (2 + 7) + (2 + 7)
    assert set(rows) <= set(report.splitlines())
    peers, ratio = "MLPClassifier|NeuralNetClassifier|loop by hand", r"(0\.\d+)"
    ratios = re.findall(rf"({peers}) {ratio}, {ratio}, {ratio}", measured)
    assert len(ratios) == 3
    for peer, *numbers in ratios:
        columns = r" +\| ".join([peer, *map(re.escape, numbers)])
        assert re.search(rf"^\| abalone +\| .*{columns} ", report, re.MULTILINE)
