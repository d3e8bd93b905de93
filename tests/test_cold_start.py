"""What a process pays once: for the import of the package, and for its first fit."""

import json
import os
import subprocess
import sys

import pytest

# Prints what `import sk_mixup` loads, and what first fits load or look for that a loop by hand does not.
PROGRAM = """
import importlib.metadata, json, sys, warnings
import numpy as np, sklearn, skorch, torch

before = set(sys.modules)
import sk_mixup
imported = set(sys.modules) - before

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
y = np.arange(60) % 3
module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
optimizer = torch.optim.Adam(module.parameters(), fused=True)
torch.nn.functional.cross_entropy(module(torch.from_numpy(X)), torch.from_numpy(y)).backward()
optimizer.step()

before, searches, entry_points = set(sys.modules), [], importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **group: searches.append(group) or entry_points(**group)
warnings.simplefilter("ignore")
sk_mixup.MixupClassifier(max_epochs=1, early_stopping=False).fit(X, y).predict_proba(X)
sk_mixup.MixupRegressor(max_epochs=1, early_stopping=False).fit(X, X[:, 0]).predict(X)
n_searches = len(searches)
sk_mixup.MixupClassifier(max_epochs=1, early_stopping=True).fit(X, y).predict(X)
print(json.dumps([sorted(imported), sorted(set(sys.modules) - before), n_searches]))
"""


@pytest.fixture(scope="module")
def loaded() -> tuple[list[str], list[str], int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    imported, fitted, n_searches = json.loads(done.stdout)
    return imported, fitted, n_searches


@pytest.mark.slow  # starts processes
def test_import_takes_little_beyond_what_it_needs(loaded: tuple[list[str], list[str], int]) -> None:
    roots = {name.partition(".")[0] for name in loaded[0]}
    assert "sk_mixup" in roots
    assert roots <= {"sk_mixup", "sklearn", "skorch", "torch", "tqdm"}
    large = {"sklearn.decomposition", "sklearn.linear_model", "sklearn.neighbors", "torch._dynamo"}
    assert large.isdisjoint(loaded[0])


@pytest.mark.slow  # starts processes
def test_first_fit_loads_nothing_that_a_loop_by_hand_does_not(
    loaded: tuple[list[str], list[str], int],
) -> None:
    assert loaded[1] == []


@pytest.mark.slow  # starts processes
def test_first_fit_of_plain_arrays_does_not_look_for_what_is_installed(
    loaded: tuple[list[str], list[str], int],
) -> None:
    assert loaded[2] == 0
