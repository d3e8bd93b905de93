"""The search of examples/optuna_search.py: trials that are fitted together give what each gives singly."""

from pathlib import Path
import runpy
from typing import Any

import pytest

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "optuna_search.py"))


def test_without_optuna_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(SystemExit, match=r"^This example needs optuna: pip install optuna$"):
        EXAMPLE["main"]()


@pytest.mark.parametrize("sampler", ["RandomSampler", "TPESampler"])
def test_losses_are_those_of_single_fits(sampler: str, stacks: list[int], float64: None) -> None:
    optuna: Any = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=0))
    EXAMPLE["search"](study, n_batches=2, batch_size=4)
    assert len(study.trials) == 8
    assert sum(stacks) == 8 * 10  # each epoch of each net
    for trial in study.trials:
        model = EXAMPLE["make_model"](optuna.trial.FixedTrial(trial.params))
        model.fit(EXAMPLE["X_TRAIN"], EXAMPLE["Y_TRAIN"])
        assert trial.value == pytest.approx(EXAMPLE["compute_loss"](model), rel=0, abs=2.5e-9)
