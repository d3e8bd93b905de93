"""Where torchvision works it is left alone, where its operators are missing they are declared."""

from pathlib import Path
import subprocess
import sys

import pytest

CONFTEST = Path(__file__).parents[3] / "conftest.py"
# What the package does on import: its library defines the operators, then they are described.
DEFINES = """
import torch
library = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
DESCRIBES = """
import torch
for name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, name):
        raise RuntimeError(f"operator torchvision::{name} does not exist")
"""
PACKAGES = {
    "works": DEFINES + DESCRIBES,
    "lacks its operators": DESCRIBES,
    "is not there": "raise ModuleNotFoundError('No module named torchvision')",
}
CHILD = """
import runpy, sys
runpy.run_path(sys.argv[1])
import torchvision
"""


@pytest.mark.slow  # starts processes that import torch
@pytest.mark.parametrize("kind", PACKAGES)
def test_conftest_lets_torchvision_be_imported(kind: str, tmp_path: Path) -> None:
    tmp_path.joinpath("torchvision.py").write_text(PACKAGES[kind])
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})" + CHILD
    child = [sys.executable, "-W", "error", "-c", code, str(CONFTEST)]
    done = subprocess.run(child, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1:]
    expected = ["ModuleNotFoundError: No module named torchvision"] if kind == "is not there" else []
    assert last == expected
