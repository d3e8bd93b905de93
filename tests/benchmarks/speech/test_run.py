import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.harness import checkpoints
from benchmarks.harness.command import PRESET_NAMES, UserError
from benchmarks.harness.results import read_result
from benchmarks.image_training.augment_and_schedule import HeldOutScores
from benchmarks.peers.hand_written_loop import make_loop, make_random_inputs
from benchmarks.speech.config import PRESETS, Config
from benchmarks.speech.data import MADE_UP_COUNTS, make_up_clips, open_speech
from benchmarks.speech.networks import SpeechNet
from benchmarks.speech.run import (
    COMMAND,
    Run,
    describe_protocol,
    list_runs,
    make_net,
    run,
    time_network,
)
from tests.benchmarks.helpers import killed_after

pytest.importorskip("soundfile")

TINY = dataclasses.replace(
    PRESETS["smoke"], preset="smoke", epochs=2, checkpoint_every=1, decay_every=1, speed_clips=2
)
STEM = "speech-embedded-smoke-cpu"


@pytest.fixture
def few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the made-up words have few clips."""
    for part in MADE_UP_COUNTS:
        monkeypatch.setitem(MADE_UP_COUNTS, part, 2)


def read_runs(out: Path) -> list[Any]:
    """Return what a run found, without its times."""
    document = read_result(out / f"{STEM}.json")
    columns = document["records"]["columns"]
    kept = [columns.index(name) for name in ("alpha", "repeat", "valid_curve", "test_curve", "loss_curve")]
    return [[row[place] for place in kept] for row in document["records"]["rows"] if row[0] == "run"]


@pytest.mark.slow
@pytest.mark.usefixtures("few_clips")
def test_run_writes_its_results_and_leaves_nothing_else(tmp_path: Path) -> None:
    assert COMMAND.run(dataclasses.replace(TINY, out=tmp_path, epochs=1)) == 0
    assert {path.name for path in tmp_path.glob("*.*")} == {
        f"{STEM}.{end}" for end in ("json", "csv", "png", "svg")
    }
    document = read_result(tmp_path / f"{STEM}.json")
    assert len(read_runs(tmp_path)) == 2 * 2
    assert len(COMMAND.tabulate(document)) == 3
    (data,) = document["data"]
    assert (data["n_train"], data["n_valid"], data["n_test"], data["n_classes"]) == (6, 6, 6, 3)
    assert "made-up tones" in document["protocol"]


@pytest.mark.slow
@pytest.mark.usefixtures("few_clips")
@pytest.mark.parametrize("level", ["spectrogram", "waveform"])
def test_a_broken_command_goes_on_where_it_was(tmp_path: Path, level: Any) -> None:
    options = {"level": level, "epochs": 3, "warmup_epochs": 2}  # a warm-up of two pieces
    whole, broken = (dataclasses.replace(TINY, out=tmp_path / name, **options) for name in ("a", "b"))
    run(whole)
    with killed_after(checkpoints, 4):  # in the midst of the second run
        run(broken)
    folder, journal = sorted(broken.out.iterdir())
    assert [path.name for path in folder.iterdir()] == ["vgg11-0.2-0.pt"]
    assert journal.suffix == ".jsonl"
    run(broken)
    assert read_runs(whole.out) == read_runs(broken.out)


@pytest.mark.slow
def test_a_network_learns_the_made_up_words(tmp_path: Path) -> None:
    options = {
        "width": 4,
        "epochs": 10,
        "checkpoint_every": 10,
        "decay_every": 8,
        "lr": 3e-3,
        "batch_size": 6,
        "bfloat16": False,
    }
    run(dataclasses.replace(TINY, out=tmp_path, **options))
    assert all(curve[-1] < 40 for _, _, _, curve, _ in read_runs(tmp_path))  # chance is 67 %


@pytest.mark.usefixtures("few_clips")
def test_parts_come_from_a_folder_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))
    make_up_clips(tmp_path / "data" / "speech_commands_v0.01")
    config = dataclasses.replace(TINY, made_up=False, data_dir=tmp_path / "data")
    with open_speech(config) as speech:
        described = speech.describe()
        parts = speech.parts
    assert described["source"] == "the archive's own files and lists"
    assert {name: len(y) for name, (_, y) in parts.items()} == {"train": 6, "valid": 6, "test": 6}
    assert all(y.tolist() == [0, 0, 1, 1, 2, 2] for _, y in parts.values())
    assert len(list((tmp_path / "home" / "sk_mixup").iterdir())) == 1
    for path in (tmp_path / "data").rglob("*_test.wav"):
        path.unlink()
    with open_speech(dataclasses.replace(config, subset=True)) as speech:
        described = speech.describe()
        np.testing.assert_array_equal(speech.parts["test"][0], parts["valid"][0])
        assert "valid" not in speech.parts
    assert "validation clips are the test set" in described["source"]
    assert "0 for validation" not in describe_protocol(config, described)


def test_run_without_data_writes_nothing(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, made_up=False, out=tmp_path / "out")
    with pytest.raises(UserError, match=r"--data-dir must hold Google's speech .*; got none\. .*--download"):
        run(config)
    with pytest.raises(UserError, match=r"'.*' lacks its lists"):
        run(dataclasses.replace(config, data_dir=tmp_path))
    assert not config.out.exists()


def test_part_errors_are_scores_and_change_nothing() -> None:
    X, y = make_random_inputs(8, (1, 160, 101), 3)
    item = Run("vgg11", 0.2, 0)
    parts = {"valid": (X[:5], y[:5]), "test": (X[5:], y[5:])}
    options = {"max_epochs": 1, "batch_size": 4, "warmup_epochs": 0, "iterator_valid__batch_size": 2}
    watched = make_net(TINY, item, 3, callbacks=[HeldOutScores(parts)], **options).fit(X, y)
    plain = make_net(TINY, item, 3, **options).fit(X, y)
    for name, (X_part, y_part) in parts.items():
        assert watched.history[-1, f"{name}_error"] == pytest.approx(1 - plain.score(X_part, y_part))
    for one, other in zip(watched.module_.parameters(), plain.module_.parameters(), strict=True):
        assert torch.equal(one, other)


def test_loop_by_hand_is_the_estimator_on_whole_batches() -> None:
    torch.manual_seed(0)
    X, y = make_random_inputs(6, (1, 160, 101), 3)
    net = make_net(TINY, Run("vgg11", 0.0, 0), 3, autocast=None, batch_size=6, lr=1e-3).initialize()
    module = SpeechNet(3, "vgg11", TINY.width)
    module.load_state_dict(net.module_.state_dict())
    adam = partial(torch.optim.Adam, lr=1e-3, fused=True)
    options = {"make_optimizer": adam, "batch_size": 6, "channels_last": True}
    losses = make_loop(X, y, module=module, alpha=0.0, n_epochs=3, **options)()
    net.set_params(max_epochs=3).partial_fit(X, y)
    assert losses == pytest.approx(net.history[:, "train_loss"], rel=1e-3)


@pytest.mark.parametrize("level", ["spectrogram", "waveform"])
def test_times_are_taken_of_estimators_and_loops(level: Any) -> None:
    config = dataclasses.replace(TINY, batch_size=2, level=level)
    records = time_network(config, "vgg11", 3)["records"]
    contenders = {f"{kind}, {method}" for kind in ("estimator", "loop") for method in ("ERM", "mixup")}
    assert {record["contender"] for record in records} == contenders
    assert len(records) == 4 * TINY.speed_rounds
    assert all(record["value"] > 0 for record in records)


def test_runs_of_a_repeat_share_their_seed() -> None:
    runs = list_runs(dataclasses.replace(TINY, networks=("lenet", "vgg11"), alphas=(0.1, 0.2)))
    assert len({item.key for item in runs}) == len(runs) == 2 * 3 * 2
    assert [len({item.seed for item in runs if item.repeat == repeat}) for repeat in range(2)] == [1, 1]
    assert len({item.seed for item in runs}) == 2


def test_only_mixup_has_a_warm_up() -> None:
    assert make_net(TINY, Run("vgg11", 0.2, 0), 3).warmup_epochs == TINY.warmup_epochs == 1
    assert make_net(TINY, Run("vgg11", 0.0, 0), 3).warmup_epochs == 0


def test_presets_have_the_papers_protocol() -> None:
    assert set(PRESETS) == set(PRESET_NAMES)
    for name in ("paper", "gpu"):
        config = PRESETS[name]
        assert (config.epochs, config.batch_size, config.lr, config.width) == (30, 100, 3e-3, 64)
        assert (config.alphas, config.warmup_epochs, config.list_milestones()) == ((0.1, 0.2), 5, [10, 20])
        assert (config.level, config.subset, config.networks) == ("spectrogram", False, ("lenet", "vgg11"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"networks": ("vgg",)}, "--networks must be one of .* Did you mean 'vgg11'"),
        ({"networks": ()}, "--networks must name at least one; got none"),
        ({"alphas": ()}, "--alphas must name at least one; got none"),
        ({"alphas": (0.0,)}, "--alphas must be at least 1e-06; got 0.0"),
        ({"lr": float("nan")}, "--lr must be at least 1e-09; got nan"),
        ({"batch_size": 1}, "--batch-size must be at least 2"),
        ({"speed_clips": 0}, "--speed-clips must be at least 1"),
    ],
)
def test_config_names_the_option_that_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)
