"""What is said of the package beside its code: its version, how to cite it, what a report of a bug holds."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
import re
import sys
import tomllib

import pytest
import torch

import sk_mixup

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def list_names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}


def test_citation_and_changelog_are_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    released = re.search(r"^date-released: (\S+)$", citation, re.MULTILINE)[1]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {sk_mixup.__version__}\n" in citation
    assert f"\n## [{sk_mixup.__version__}] - {released}\n" in changelog


def test_citation_names_the_authors_and_the_licence_of_the_project() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'authors:\n  - name: "{PROJECT["authors"][0]["name"]}"\n' in citation
    assert f"\nlicense: {PROJECT['license']}\n" in citation


def test_show_versions_tells_all_that_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    sk_mixup.show_versions()
    shown = dict(re.findall(r"^ +([\w-]+): (.+)$", capsys.readouterr().out, re.MULTILINE))
    needed = list_names(PROJECT["dependencies"])
    assert {name: shown[name] for name in needed} == {name: version(name) for name in needed}
    assert shown["sk_mixup"] == sk_mixup.__version__
    assert shown["threads"] == str(torch.get_num_threads())
    assert shown["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")


def test_show_versions_tells_the_extras_of_users_where_they_are_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sk_mixup.show_versions()
    shown = set(re.findall(r"^ +([\w-]+): ", capsys.readouterr().out, re.MULTILINE))
    extras = PROJECT["optional-dependencies"]
    of_users = [extras[name] for name in ("compare", "inspection", "onnx", "parallel", "safetensors")]
    names = set().union(*map(list_names, of_users)) - {"sk-mixup"}
    assert shown & names == {name for name in names if find_spec(name)}
