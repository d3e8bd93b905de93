"""What mypy says of a user's script: the package is typed for those who use it."""

from pathlib import Path

from mypy import api
import pytest

ROOT = Path(__file__).parents[1]

RIGHT = """
import numpy as np

from sk_mixup import MixupClassifier, MixupGAN, MixupRegressor, SemiSupervisedMixupClassifier
from sk_mixup.mixing import CutMix, FeatureSwap, ManifoldMixup, Mixture, Mixup, NeighborPartners, TableMixup

X, y = np.eye(6, 2), np.arange(6) % 2
net = MixupClassifier(alpha=0.4, lam_per="batch", partners="dataset", storage="host", class_weight="balanced")
p = net.fit(X, y).predict_proba(X)
reveal_type(net.fit(X, y))
reveal_type(net.partial_fit(X, y).initialize().set_params(alpha=1.0))
MixupClassifier(partners=NeighborPartners(10), class_weight={0: 1.0, 1: 2.0}, callbacks="disable").fit(X, y)
MixupClassifier(vicinity=Mixture((Mixup(lam_per="batch"), CutMix(partners="same_class")), per="example"))
MixupClassifier(vicinity=FeatureSwap(weights="mutual_info", categorical_features=(0, "a", (1, 2))))
MixupClassifier(vicinity=TableMixup(categorical_features=(True, False)))
MixupClassifier(vicinity=ManifoldMixup(layers="auto"), autocast="bfloat16", train_split=None, callbacks=[])
MixupClassifier(module__hidden_layer_sizes=(8,), use_caching=False, criterion="auto").fit(X, y).score(X, y)
reveal_type(MixupRegressor(partners="kernel").fit(X, X[:, 0]))
reveal_type(SemiSupervisedMixupClassifier(method="ict").fit(X, y))
reveal_type(MixupGAN(generator_loss="minimax").fit(X))
"""
REVEALED = [
    "MixupClassifier",
    "MixupClassifier",
    "MixupRegressor",
    "SemiSupervisedMixupClassifier",
    "MixupGAN",
]

WRONG = {
    "MixupClassifier(lam_per='exampel')": "lam_per",
    "MixupClassifier(partners='neighbours')": "partners",
    "MixupClassifier(storage='disk')": "storage",
    "MixupClassifier(autocast='float8')": "autocast",
    "MixupClassifier(class_weight='balance')": "class_weight",
    "MixupClassifier(criterion='mse')": "criterion",
    "MixupClassifier(train_split='none')": "train_split",
    "MixupClassifier(callbacks='off')": "callbacks",
    "MixupClassifier(predict_nonlinearity='softmax')": "predict_nonlinearity",
    "MixupClassifier(use_caching='no')": "use_caching",
    "MixupRegressor(lam_per='row')": "lam_per",
    "SemiSupervisedMixupClassifier(method='fixmatch')": "method",
    "MixupGAN(generator_loss='hinge')": "generator_loss",
    "Mixup(lam_per='row')": "lam_per",
    "Mixup(partners='class')": "partners",
    "ManifoldMixup(layers='all')": "layers",
    "Mixture((Mixup(),), per='row')": "per",
}


@pytest.mark.slow
def test_scripts_of_a_user_are_checked_by_mypy(tmp_path: Path) -> None:
    names = "MixupClassifier, MixupGAN, MixupRegressor, SemiSupervisedMixupClassifier"
    head = f"from sk_mixup import {names}\nfrom sk_mixup.mixing import ManifoldMixup, Mixture, Mixup\n"
    scripts = {"right.py": RIGHT, "wrong.py": head + "\n".join(WRONG)}
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
    # With the options of `make types`, what that has found of torch is read from its cache.
    config = f"--config-file={ROOT / 'pyproject.toml'}"
    lines = api.run([config, *(str(tmp_path / name) for name in scripts)])[0].splitlines()
    notes = [line for line in lines if "right.py" in line]
    assert [line.split(".")[-1] for line in notes] == [f'{name}"' for name in REVEALED]
    errors = [line for line in lines if "wrong.py" in line]
    assert len(errors) == len(WRONG)
    for line, name in zip(errors, WRONG.values(), strict=True):
        assert ": error: " in line
        assert f'"{name}"' in line
